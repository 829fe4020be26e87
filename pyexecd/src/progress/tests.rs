use proptest::prelude::*;

use super::*;

/// What is known of a job that has printed `text` on stderr and goes on.
fn seen(text: &str) -> Option<Progress> {
    in_output(&[(text, false)], false)
}

/// The same of a job that has ended.
fn seen_last(text: &str) -> Option<Progress> {
    in_output(&[(text, false)], true)
}

type Told = (Option<f64>, Option<f64>, String);

/// Current, total and message of it.
fn told_of(progress: Progress) -> Told {
    (progress.current, progress.total, progress.message.unwrap_or_default())
}

fn told(text: &str) -> Option<Told> {
    seen(text).map(told_of)
}

macro_rules! recording {
    ($name:literal) => {
        ($name, include_str!(concat!("recordings/", $name)))
    };
}

/// What the real programs have drawn, with what they had done when they were cut off: name.columns.
type Recording = ((&'static str, &'static str), Option<f64>, Option<f64>, &'static str);
const RECORDINGS: [Recording; 27] = [
    (recording!("tqdm-known.30"), Some(29.0), Some(40.0), ""),
    (recording!("tqdm-known.0"), Some(29.0), Some(40.0), ""),
    (recording!("tqdm-known.80"), Some(29.0), Some(40.0), ""),
    (recording!("tqdm-desc-postfix.60"), Some(21.0), Some(50.0), "Epoch 3"),
    (recording!("tqdm-desc-postfix.200"), Some(21.0), Some(50.0), "Epoch 3"),
    (recording!("tqdm-unknown.80"), Some(24.0), None, "reading"),
    (recording!("tqdm-bytes.80"), Some(3e6), Some(5e6), "model.bin"),
    (recording!("tqdm-slow.80"), Some(2.0), Some(10.0), ""),
    (recording!("tqdm-closed.80"), Some(30.0), Some(30.0), "done"),
    (recording!("tqdm-nested.30"), Some(3.0), Some(5.0), "outer"),
    (recording!("tqdm-nested.80"), Some(3.0), Some(5.0), "outer"),
    (recording!("tqdm-nested-left.60"), Some(2.0), Some(4.0), "outer"),
    (recording!("tqdm-nested-left.80"), Some(2.0), Some(4.0), "outer"),
    (recording!("tqdm-nested-3.80"), Some(1.0), Some(3.0), "a"),
    (recording!("rich-track.30"), Some(65.0), Some(100.0), "Training"),
    (recording!("rich-track.80"), Some(65.0), Some(100.0), "Training"),
    (recording!("rich-track-unknown.60"), None, None, "Polling"),
    (recording!("rich-tasks.30"), Some(50.0), Some(100.0), "Overall"),
    (recording!("rich-tasks.80"), Some(50.0), Some(100.0), "Overall"),
    (recording!("rich-tasks-colour.80"), Some(50.0), Some(100.0), "Overall"),
    (recording!("rich-custom.80"), Some(21.0), Some(30.0), "Copying"),
    (recording!("rich-download.80"), Some(3e6), Some(5e6), "big.iso"),
    (recording!("rich-download.200"), Some(3e6), Some(5e6), "big.iso"),
    (recording!("rich-done.80"), Some(100.0), Some(100.0), "Done"),
    (recording!("pip-pipe"), Some(15.7e6), Some(15.7e6), ""),
    (recording!("pip-raw"), Some(15_713_899.0), Some(15_713_899.0), ""),
    (recording!("uv-preparing"), Some(0.0), Some(1.0), "Preparing packages..."),
];

#[test]
fn what_tqdm_rich_pip_and_uv_have_drawn_is_read() {
    for ((name, text), current, total, message) in RECORDINGS {
        let expected = Some((current, total, message.to_owned()));
        assert_eq!(seen_last(text).map(told_of), expected, "{name}");
        // What is complete may have been left behind.
        let is_complete = current == total;
        assert!(told(text) == expected || (is_complete && told(text).is_none()), "{name}: {:?}", told(text));
    }
}

/// A line that is cut where there is no room for its numbers.
#[test]
fn what_is_cut_off_is_not_guessed() {
    for (name, text) in [recording!("rich-custom.30"), recording!("tqdm-unknown.30")] {
        let found = told(text);
        assert!(found.is_none() || found.as_ref().is_some_and(|found| found.2 == "reading"), "{name}: {found:?}");
    }
}

#[test]
fn rates_and_times_are_those_that_are_drawn() {
    let of = |text: &str| seen(text).map(|progress| (progress.rate, progress.eta_seconds));
    for (text, rate, eta) in [
        ("\r 45%|████▌     | 45/100 [00:04<00:05,  9.90it/s]", Some(9.9), Some(5.0)),
        ("\r 10%|█         | 1/10 [00:01<00:11,  1.25s/it]", Some(0.8), Some(11.0)),
        ("\r  0%|          | 0/10 [00:00<?, ?it/s]", None, None),
        ("\r 10%|█         | 10.0M/100M [01:00<1:09:00, 1.50MB/s, x=1]", Some(1.5e6), Some(4140.0)),
        ("\r 45%|████▌     | 45/100 [00:04<00:05,  9.9", None, Some(5.0)),
        ("17it [00:01, 15.20it/s]", Some(15.2), None),
        ("     ━━━━━━━━━━ 1.2/5.0 MB 3.4 MB/s eta 0:00:02", Some(3.4e6), Some(2.0)),
        // What has passed and what remains look alike.
        ("Working... ━━━━━━━━━━  45% 0:00:05", None, None),
        ("\rWorking... ━━━━━━━━━━  45% 0:00:05\rWorking... ━━━━━━━━━━  50% 0:00:06", None, None),
        ("\rWorking... ━━━━━━━━━━  45% 0:00:05\rWorking... ━━━━━━━━━━  50% 0:00:04", None, Some(4.0)),
    ] {
        assert_eq!(of(text), Some((rate, eta)), "{text:?}");
    }
}

#[test]
fn bars_and_counters_that_can_be_nothing_else_are_read() {
    for (text, current, total, message) in [
        ("[####------] 40/100", 40.0, 100.0, ""),
        ("[#########-----------] 45/100", 45.0, 100.0, ""),
        ("Loading [=====>    ] 55%", 55.0, 100.0, "Loading"),
        ("45% |████▌     |", 45.0, 100.0, ""),
        ("Progress: |█████-----| 50.0% Complete", 50.0, 100.0, "Progress"),
        ("████████░░░░░░░░ 50%", 50.0, 100.0, ""),
        ("██████████ [1/1] numpy==2.5.5", 1.0, 1.0, ""),
        ("[          ] 0%", 0.0, 100.0, ""),
        ("[##########] 100%", 100.0, 100.0, ""),
        ("    45% |██████████████▍                 | 1.2MB 3.4MB/s eta 0:00:01", 45.0, 100.0, ""),
        ("45/100 [============>.................] - ETA: 3s - loss: 0.3", 45.0, 100.0, ""),
        ("Copying part 1/4 ━━━━━━━━━━━━━━━ 65% 0:00:01", 65.0, 100.0, "Copying part 1/4"),
        ("numpy   ------------------------------ 512.00 KiB/1.00 MiB", 524_288.0, 1_048_576.0, "numpy"),
        ("Epoch 3/10", 3.0, 10.0, "Epoch 3/10"),
        ("Epoch 3/10 loss=0.25", 3.0, 10.0, "Epoch 3/10 loss=0.25"),
        ("Epoch 3/10 loss: 0.25\n", 3.0, 10.0, "Epoch 3/10 loss: 0.25"),
        ("Epoch 3/10 | loss 0.25\n", 3.0, 10.0, "Epoch 3/10 | loss 0.25"),
        ("Epoch 3/10 ...\n", 3.0, 10.0, "Epoch 3/10 ..."),
        ("Epoch 1/10 is over\nEpoch 2/10 is over\n", 2.0, 10.0, "Epoch 2/10 is over"),
        ("Epoch [3/10], loss 0.25", 3.0, 10.0, "Epoch [3/10], loss 0.25"),
        ("Step 3/10 : RUN pip install x", 3.0, 10.0, "Step 3/10 : RUN pip install x"),
        ("iteration 5 of 20", 5.0, 20.0, "iteration 5 of 20"),
        ("Progress: 45%", 45.0, 100.0, ""),
        ("Train Epoch: 3 [640/60000 (1%)]\tLoss: 0.25", 640.0, 60_000.0, "Train Epoch: 3"),
        ("Receiving objects:  45% (450/1000), 1.2 MiB | 3.4 MiB/s", 450.0, 1000.0, "Receiving objects"),
        ("tests/test_half.py ....F.s                    [ 45%]", 45.0, 100.0, ""),
        ("tests/test_3.py::test_1_of_4 PASSED           [  5%]", 5.0, 100.0, ""),
        ("[ 45%] Building CXX object a.o", 45.0, 100.0, "Building CXX object a.o"),
        ("Epoch 3/10\n45/100 [============>.................] - 1s", 3.0, 10.0, "Epoch 3/10"),
        ("[Epoch 1/10] loss 0.3\n", 1.0, 10.0, "Epoch 1/10 loss 0.3"),
        ("[Step 1/10]\n", 1.0, 10.0, "Step 1/10"),
        ("2026-01-01 12:00:00 INFO Epoch 1/10 loss=0.3\n", 1.0, 10.0, "Epoch 1/10 loss=0.3"),
        ("2026-01-01 12:00:00,123 - train - INFO - Epoch 1/10\n", 1.0, 10.0, "Epoch 1/10"),
        ("2026-01-01T12:00:00.123Z [INFO] Epoch [1/10], x\n", 1.0, 10.0, "Epoch [1/10], x"),
        ("[12:00:00] Step 5/10\n", 5.0, 10.0, "Step 5/10"),
        ("[2026-01-01 12:00:00][INFO] [Epoch 4/10]\n", 4.0, 10.0, "Epoch 4/10"),
        ("INFO:root:Epoch 2/10\n", 2.0, 10.0, "Epoch 2/10"),
        ("INFO: Epoch 2/10\n", 2.0, 10.0, "Epoch 2/10"),
        ("1/3 Test #1: first ................   Passed    0.01 sec\n", 1.0, 3.0, "first"),
        ("  1/30 Test  #1: first ................   Passed    0.01 sec\n", 1.0, 30.0, "first"),
        ("[gw0] [ 33%] PASSED tests/test_a.py::test_b \n", 33.0, 100.0, ""),
        ("#5 [2/4] RUN pip install x\n#5 0.312 Collecting x\n", 2.0, 4.0, "RUN pip install x"),
        ("#7 [build 3/4] COPY . .\n", 3.0, 4.0, "COPY . ."),
        // Seen to go forward.
        ("Processing file 1 of 10\nProcessing file 2 of 10\n", 2.0, 10.0, "Processing file"),
        ("Processing 3/10: a.txt\nProcessing 4/10: b.txt\n", 4.0, 10.0, "Processing"),
        ("Copying [3/10] \nCopying [4/10] \n", 4.0, 10.0, "Copying"),
        (
            "(Reading database ... \r(Reading database ... 5%\r(Reading database ... 50%",
            50.0,
            100.0,
            "Reading database ...",
        ),
        ("\r#                 3.1%\r##               8.0%\r####             27.3%", 27.3, 100.0, ""),
        ("[1/3] Compiling a\n[2/3] Compiling b\n", 2.0, 3.0, "Compiling b"),
        ("\r1/100 files\r2/100 files\r3/100 files", 3.0, 100.0, ""),
        ("Downloading 10%\rDownloading 11%\rDownloading 12.5%", 12.5, 100.0, "Downloading"),
        ("\r[1/3] Compiling a\r[2/3] Compiling b", 2.0, 3.0, "Compiling b"),
        ("Copying ━━━━━━━━━━ 45%\nCopying ━━━━━━━━━━ 50%\n", 50.0, 100.0, "Copying"),
        ("[0/1] Re-running CMake...\n[1/20] a\n[2/20] b\n[3/20] c\n[4/20] d\n", 4.0, 20.0, "d"),
        ("[10/30] rows\n[20/30] rows\n", 20.0, 30.0, "rows"),
        ("Mem [####      ] 40%\nMem [#####     ] 50%\n", 50.0, 100.0, "Mem"),
        ("\rLoading [===>      ] 35%\rLoading [====>     ] 45%\n", 45.0, 100.0, "Loading"),
        // The latest, not the first.
        ("[####------] 40/100\n[#####-----] 50/100\n[######----] 60/100\n", 60.0, 100.0, ""),
    ] {
        assert_eq!(told(text), Some((Some(current), Some(total), message.to_owned())), "{text:?}");
    }
}

#[test]
fn what_is_not_progress_is_none() {
    for text in [
        "add 3/4 cup of sugar\n1/2 teaspoon salt\n",
        "3/4 cup\n",
        "mix 1 of 2 eggs",
        "2024-03-10 12:00:00 INFO started\n10/12/2024 11/12/2024\n3/10\n4/10\n",
        "[12/24] standup\n",
        "[2024-01-01 00:00:00] 45/100 users\n[2024-01-01 00:00:01] 46/100 users\n",
        "accuracy: 0.91 (91/100)\nAccuracy: 9850/10000 (98%)\nTests passed: 75% (3/4)\nCoverage: 45%\n",
        "ratio 16/9, 50% off, 45% of people\n",
        "127.0.0.1 - - [10/Oct/2024:13:55:36] \"GET /a/1/2 HTTP/1.1\" 200 2326\n",
        "10.0.0.0/8 192.168.1.0/24\n",
        " src/a.rs | 10 ++++------\n 1 file changed, 5 insertions(+), 5 deletions(-)\n",
        "diff --git a/3/4 b/3/4\n@@ -1,3 +1,4 @@\n",
        "/usr/lib/3/4/x\nv1.2/3\n",
        "{\"current\": 3, \"total\": 10, \"progress\": \"3/10\"}\n",
        "===== 45 passed, 1 failed in 3.21s =====\n----- 50% -----\n",
        "test_3/4 PASSED\ntests/test_a.py::test_45_percent PASSED\nsome text [ 45%]\nvotes [45%]\n",
        "| a | b |\n|---|---|\n|      | 45% |\n| 3/4 | [x] |\n",
        "┏━━━━━━┳━━━━┓\n┃ 45%  ┃ x  ┃\n┡━━━━━━╇━━━━┩\n",
        "━━━━━━━━ 50% ━━━━━━━━\n",
        "[#####-----] 90%\n[          ] 45/100\n",
        "[1, 2, 3] 1/2\n[....] 50%\n",
        "Epoch3/10 x\nepochs 3/10\nsteps: 3/10\nStep 3/10/2024\n",
        "disk usage: 45%\ndisk usage: 46%\ncpu 10%\ncpu 11%\n",
        "error[E0308]: 1/2\n   --> src/main.rs:3:4\n",
        "10/100\n20/100\n30/100\n",
        "took [00:01, 2 tries]\n3 apples [00:01, 5 pears/s]\n",
        "50%|yes| 5/9 [00:01<00:02, 1it/s]\n",
        "\x1b]9;4;1;45\x07\x1b]9;4;0;0\x07",
        "--------------- 45%\n",
        "Results ━━━━━━━━━━━\n",
        "100%\n",
        // How full something is.
        "/dev/sda1 [####------] 40% used\n",
        "Battery: [########  ] 80%\n",
        "Battery: [########  ] 80%\r\n",
        "checking …\rBattery: [########  ] 80%\n",
        "Battery: [########  ] 80%\nBattery: [########  ] 80%\n",
        "Strength: [####------] 40%\n",
        "RAM: ████████░░ 80%\n",
        "Mem [####      ] 40%\n",
        "Battery ━━━━━━━━━━ 80%\n",
        "Mem [#####     ] 50%\nMem [####      ] 40%\nMem [#####     ] 50%\n",
        "Loading [====>     ] 45%\n",
        // How many have said so.
        "1 star [#####     ] 50%\n2 star [###       ] 30%\n3 star [##        ] 20%\n",
        "1 star [##        ] 20%\n2 star [###       ] 30%\n3 star [#####     ] 50%\n",
        "Yes ██████░░░░ 60%\nNo ████░░░░░░ 40%\n",
        "No ████░░░░░░ 40%\nYes ██████░░░░ 60%\n",
        "[3/5] ok movie\n[4/5] good\n[5/5] great\n",
        "[1/5] bad\n[3/5] ok movie\n[5/5] great\n",
        "[0/3] Groceries\n[1/2] Work\n[2/2] Home\n",
        "[1/3] once\n",
        "[1/2] a\n[2/3] b\n",
        "[3/10] x\n[2/10] y\n[3/10] z\n",
        // Words that are also used of something else.
        "Step 1/2 cup of sugar\n",
        "Epoch 1/2 of the story\n",
        "Iteration 1/2 ratio\n",
        "progress 3/4 of the way\n",
        "Progress: 3/4 of the way\nEpoch 2/4 of the story\n",
        "[Step 1/2] cup of sugar\n",
        "2026-01-01 12:00:00 INFO Step 1/2 cup of sugar\n",
        "2026-01-01 12:00:00 INFO 1/10 loss=0.3\n2026-01-01 12:00:00 INFO 2/10 loss=0.3\n",
        "the INFO Epoch 1/10\n",
        "INFO:root:the ratio is 1/2\n",
        "Processing 3/10\n",
        "Processing file 1 of 10\n",
        "Processing 1/4 cup of sugar\nProcessing 3/4 cup of sugar\n",
        "Rating 3/5\nRating 4/5\n",
        "1/3 Test of patience\n1/3 Test #x: y\n",
        "[gw0] [ 33%] of them\n[gwx] [ 33%] PASSED a.py::b\n",
        "#5 [2/4] runs\n#5 [2/4]\n#a [2/4] RUN x\n",
        "#  3%\n##  8%\n",
        "(Reading database ... 50%\n",
        // Up and down.
        "\rcpu 10%\rcpu 11%\rcpu 10%\rcpu 12%",
        "\rcpu 50%\rcpu 90%\rcpu 100%\rcpu 97%\rcpu 99%",
        "\rcpu 5%\rcpu 0%\rcpu 3%\rcpu 0%\rcpu 2%",
        "\rcpu 50%\rcpu 70%\rcpu 80%\rcpu 60%\rcpu 0%\rcpu 5%",
    ] {
        assert_eq!(seen(text), None, "{text:?}");
        assert!(seen_last(text).is_none_or(|last| last.seen == Seen::Osc), "{text:?} has ended");
    }
}

/// With how far each is while it runs, and what is kept of it once it has ended.
#[test]
fn what_begins_again_is_told_of_once_it_has_gone_forward_and_until_then_the_last_that_has() {
    const COUNT: &str = "\r18/20\r19/20\r20/20";
    const STEPS: &str = "[1/3] build\n[2/3] pack\n[3/3] link\n";
    const BAR: &str = "[##        ] 20%\n[#####     ] 50%\n";
    const DOWNLOAD: &str = "\rDownloading 1%\rDownloading 60%\rDownloading 100%";
    for (text, current) in [
        (COUNT.to_owned(), 20.0),
        (format!("{COUNT}\r1/20"), 20.0),
        (format!("{COUNT}\r1/20\r2/20"), 2.0),
        (format!("{COUNT}\r5/20\r9/20"), 9.0),
        (format!("{COUNT}\r1/20\r2/20{COUNT}"), 20.0),
        (format!("{COUNT}\r1/20\r2/20{COUNT}\r0/20"), 20.0),
        // It was left early.
        ("\r0/20\r1/20\r2/20\r7/20\r1/20".to_owned(), 7.0),
        ("\r0/20\r1/20\r2/20\r7/20\r1/20\r2/20".to_owned(), 2.0),
        ("\r0/20\r5/20\r10/20\r15/20\r5/20\r10/20".to_owned(), 10.0),
        (STEPS.to_owned(), 3.0),
        (format!("{STEPS}[1/3] test"), 3.0),
        (format!("{STEPS}[1/3] test\n"), 3.0),
        (format!("{STEPS}[1/3] test\n[2/3] install\n"), 2.0),
        // Another number of them.
        (format!("{STEPS}[1/2] test\n[2/2] install\n"), 2.0),
        ("[1/9] a\n[2/9] b\n[3/12] c\n".to_owned(), 3.0),
        ("[1/9] a\n[2/9] b\n[3/12] c\n[4/12] d\n".to_owned(), 4.0),
        (DOWNLOAD.to_owned(), 100.0),
        (format!("{DOWNLOAD}\rDownloading 0%"), 100.0),
        (format!("{DOWNLOAD}{DOWNLOAD}"), 100.0),
        (format!("{DOWNLOAD}\rDownloading 1%\rDownloading 7%"), 7.0),
        (BAR.to_owned(), 50.0),
        (format!("{BAR}[##########] 100%\n[##        ] 20%\n"), 100.0),
        (format!("{BAR}[##########] 100%\n{BAR}"), 50.0),
        ("Step 1/2 cup\nStep 2/2 cup\nStep 1/2 cup\n".to_owned(), 2.0),
    ] {
        assert_eq!(seen(&text).and_then(|progress| progress.current), Some(current), "{text:?}");
        assert_eq!(seen_last(&text).and_then(|progress| progress.current), Some(current), "{text:?} has ended");
    }
}

#[test]
fn what_is_complete_and_left_behind_is_not_what_a_job_does_but_is_the_last_that_it_did() {
    let current = |progress: Option<Progress>| progress.and_then(|progress| progress.current);
    for (text, running, ended) in [
        ("\r[#####-----] 50%\r[##########] 100%\n", Some(100.0), Some(100.0)),
        ("\r[#####-----] 50%\r[##########] 100%\nnow the rest\n", None, Some(100.0)),
        ("\r[#####-----] 50%\r[##########] 100%\n\n\n", Some(100.0), Some(100.0)),
        ("\r[###-------] 30%\r[#####-----] 50%\na warning\n", Some(50.0), Some(50.0)),
        ("[1/2] a\n[2/2] b\nall is built\n", None, Some(2.0)),
        ("[1/3] a\n[2/3] b\n[3/3] c\n[1/3] d\nd is made\n", None, Some(3.0)),
        ("Epoch 3/3: loss=0.3\nsaving\n", None, Some(3.0)),
        ("Epoch 2/3: loss=0.3\nsaving\n", Some(2.0), Some(2.0)),
        ("100%|████| 4/4 [00:01<00:00,  4.00it/s]\nsaving\n", None, Some(4.0)),
        // The lower belongs to the same block.
        ("a [#####-----] 50%\nb 1\n\x1b[2Aa [##########] 100%\nb 2\n", Some(100.0), Some(100.0)),
        // What comes next is seen at once.
        ("100%|████| 4/4 [00:01<00:00,  4.00it/s]\nsaving\n\rnext 1/9\rnext 2/9\rnext 3/9", Some(3.0), Some(3.0)),
    ] {
        assert_eq!(current(seen(text)), running, "{text:?}");
        assert_eq!(current(seen_last(text)), ended, "{text:?} has ended");
    }
}

#[test]
fn a_rate_of_something_else_is_not_the_rate_of_what_is_counted() {
    for (text, rate) in [
        ("a.iso 45%[===>   ] 4.50M 1.20MB/s eta 5s", None),
        ("a.iso 45%[===>   ] 4.50M/10.0M 1.20MB/s eta 5s", None),
        ("Training ━━━━━━━━━━ 65% 24.8 it/s", None),
        ("Training ━━━━━━━━━━ 65/100 24.8 it/s", Some(24.8)),
        ("Copying ━━━━━━━━━━ 65/100 1.2 MB/s", None),
        ("Copying ━━━━━━━━━━ 60% 3.0/5.0 MB 1.2 MB/s", Some(1.2e6)),
        ("Receiving objects:  45% (450/1000), 1.2 MiB | 3.4 MiB/s", None),
    ] {
        let found = seen(text).expect(text);
        assert_eq!(found.rate, rate, "{text:?}");
    }
}

#[test]
fn the_terminal_sequence_counts_before_what_is_drawn_until_it_is_taken_back() {
    let bar = "[####------] 40/100";
    let current = |text: &str| seen(text).and_then(|progress| progress.current);
    assert_eq!(current(&format!("\x1b]9;4;1;7\x07{bar}")), Some(7.0));
    assert_eq!(current(&format!("\x1b]9;4;1;7\x07{bar}\x1b]9;4;0\x07")), Some(40.0));
    assert_eq!(in_output(&[("\x1b]9;4;1;100\x07\x1b]9;4;0\x07", false)], true).and_then(|p| p.current), Some(100.0));
    let paused = seen("\x1b]9;4;1;7\x1b\\\x1b]9;4;4\x1b\\").expect("is said");
    assert_eq!((paused.current, paused.message.as_deref()), (Some(7.0), Some("paused")));
    let unknown = seen("\x1b]9;4;3;0\x07").expect("is said");
    assert_eq!((unknown.current, unknown.total), (None, None));
}

#[test]
fn a_tail_that_begins_in_the_middle_of_a_line_tells_nothing_of_that_line() {
    assert_eq!(in_output(&[("Step 3/10", true)], false), None);
    assert_eq!(in_output(&[("Step 1/10\rStep 3/10", true)], false).and_then(|seen| seen.current), Some(3.0));
}

#[test]
fn every_beginning_of_a_recording_tells_nothing_wrong() {
    for ((name, text), _, total, _) in RECORDINGS.into_iter().filter(|((name, _), ..)| name.starts_with("tqdm-")) {
        // Every third, which meets every kind of place often enough.
        for (end, _) in text.char_indices().step_by(3) {
            let Some(progress) = seen(&text[..end]) else { continue };
            // Before the count is there, no more than the percentage is known, and that is right.
            let is_percentage = progress.total == Some(100.0);
            // Until the cursor has gone back up, nobody can tell an inner bar from the next.
            let is_below =
                name.contains("nested") && !text[text[..end].rfind('\n').unwrap_or(0)..end].contains("\x1b[A");
            // An inner bar that stays is drawn in the place of the outer, which then is drawn again one row lower.
            let is_left = name.contains("left") && progress.current == progress.total;
            let fits = is_percentage || is_below || is_left || progress.total == total;
            assert!(fits, "{name}: {progress:?} of {:?}", &text[..end]);
        }
    }
}

/// What bars are made of, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\r",
        "\n",
        "\x1b[A",
        "\x1b[2K",
        "\x1b[999999C",
        "\x1b]9;4;1;",
        "\x07",
        "%|",
        "|",
        "[",
        "]",
        "45",
        "100",
        "/",
        "%",
        "█",
        "━",
        "░",
        "#",
        "-",
        " ",
        "00:01",
        "<",
        ", ",
        "it/s",
        "s/it",
        "k",
        "M",
        "Epoch ",
        ".",
        ":",
        "ü",
        "⠙",
        "\t",
        "\u{8}",
    ]);
    prop::collection::vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = seen(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_is_too_strange_and_what_is_said_makes_sense(text in fragments()) {
        if let Some(progress) = seen(&text) {
            let numbers = [progress.current, progress.total, progress.rate, progress.eta_seconds];
            prop_assert!(numbers.into_iter().flatten().all(|number| number.is_finite() && number >= 0.0));
            if let (Some(current), Some(total)) = (progress.current, progress.total) {
                prop_assert!(current <= total);
            }
        }
    }
}

#[test]
fn the_last_that_a_job_has_drawn_is_found_behind_much_that_it_has_said() {
    let bar = "\r[#####-----] 50/100\r[######----] 60/100\n";
    let lines = |line: &str, bytes: usize| line.repeat(bytes / line.len());
    for behind in [
        lines("warning: number 3 of some that nobody reads\n", 400 * 44),
        lines("a\n", 70 << 10),
        lines("a line that says as much as lines do, at 10:11:12\n", 200 << 10),
        // One line without an end.
        "x".repeat(200 << 10),
    ] {
        let text = format!("{bar}{behind}");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(pyexec_run_directory::segment::name(Stream::Stderr, 0));
        std::fs::write(&file, &text).expect("can be written");
        let found = of_job(directory.path(), true).map(told_of);
        assert_eq!(found, Some((Some(60.0), Some(100.0), String::new())), "{} bytes behind it", behind.len());
    }
    // Several that were drawn together are told apart wherever they are.
    let block = "Epoch 2/3\n1/9 [=>       ]\r9/9 [=========]\n";
    let found = seen_last(&format!("{block}{}", lines("and so on\n", 10_000))).map(told_of);
    assert_eq!(found, Some((Some(2.0), Some(3.0), "Epoch 2/3".to_owned())));
}

/// The worst there can be takes a bounded number of steps: it ends, and quickly enough for a test.
#[test]
fn a_tail_that_is_made_to_be_slow_is_read() {
    for piece in ["a\r", "\x1b[9999Cx\n", "1/2 ", "\x1b[A", "[", "━ ", "\x1b]", "[00:00<", "1/2\r[", " [1:00<1 "] {
        let long = format!("{}\r", "x1/2 ".repeat(80));
        let most = if piece.len() > 2 { Reach::ENDED.tail } else { Reach::RUNNING.tail };
        let text = long + &piece.repeat(most as usize / piece.len());
        let _ = in_output(&[(&text, false)], most == Reach::ENDED.tail);
    }
}
