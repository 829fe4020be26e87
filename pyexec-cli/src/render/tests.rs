use super::*;

#[test]
fn lengths_of_time_are_shown_in_at_most_two_units() {
    let cases = [
        (0, "0s"),
        (4, "0s"),
        (250, "0.25s"),
        (1_000, "1s"),
        (1_240, "1.24s"),
        (9_994, "9.99s"),
        (9_996, "10s"),
        (12_340, "12.3s"),
        (59_940, "59.9s"),
        (59_990, "1m"),
        (60_000, "1m"),
        (192_000, "3m 12s"),
        (3_600_000, "1h"),
        (18_420_000, "5h 07m"),
        (86_400_000, "1d"),
        (187_200_000, "2d 4h"),
    ];
    for (milliseconds, expected) in cases {
        assert_eq!(duration(Duration::from_millis(milliseconds)), expected, "{milliseconds} ms");
    }
}

#[test]
fn ages_are_rounded_down_to_one_unit() {
    let cases =
        [(0, "now"), (59, "59s ago"), (60, "1m ago"), (3_599, "59m ago"), (7_200, "2h ago"), (864_000, "10d ago")];
    for (seconds, expected) in cases {
        assert_eq!(age(Duration::from_secs(seconds)), expected, "{seconds} s");
    }
}

#[test]
fn sizes_are_shown_in_binary_units() {
    let cases = [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_536, "1.5 KiB"),
        (102_400, "100 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (241_172_480, "230 MiB"),
        (u64::MAX, "16384 PiB"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(size(bytes), expected, "{bytes}");
    }
}

#[test]
fn a_terminal_obeys_nothing_of_what_a_label_says() {
    let cases = [
        ("plain", "plain"),
        ("naïve 日本", "naïve 日本"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\u{9b}31m", "\\x9b31m"),
        ("exe\u{202e}gpj.py", "exe\\u{202e}gpj.py"),
    ];
    for (text, expected) in cases {
        assert_eq!(one_line(text), expected, "{text:?}");
    }
    assert_eq!(lines("two\nlines\x1b"), "two\nlines\\x1b");
}

#[test]
fn text_is_truncated_to_so_many_characters() {
    assert_eq!(truncated("four", 4), "four");
    assert_eq!(truncated("fünf!", 4), "fün…");
}

#[test]
fn values_are_aligned_below_each_other() {
    let pairs = [("id", "1".to_owned()), ("status", "running".to_owned())];
    assert_eq!(aligned(&pairs), "id:     1\nstatus: running\n");
}

#[test]
fn an_id_is_shown_as_short_as_it_is_unique_among_its_neighbours() {
    let ids = ["11111111-aaaa", "22222222-abaa", "22222222-abbb", "22222222-c000"].map(String::from);
    assert_eq!(short_ids(&ids), ["11111111", "22222222-aba", "22222222-abb", "22222222-c"]);
    assert_eq!(short_ids(&[]), Vec::<String>::new());
    assert_eq!(short_ids(&ids[..1]), ["11111111"]);
}

fn job(label: &str, status: Status, command: &str) -> JobLine {
    JobLine {
        id: "0a1b2c3d".to_owned(),
        label: label.to_owned(),
        status,
        exit: "0".to_owned(),
        started: "12m ago".to_owned(),
        took: "3m 12s".to_owned(),
        progress: String::new(),
        command: command.to_owned(),
    }
}

fn jobs() -> Vec<JobLine> {
    vec![
        job("nightly", Status::Completed, "train.py --epochs 300 --model large --seed 17 --data /srv/data/images"),
        job("", Status::Running, "-c \"print(1)\""),
    ]
}

#[test]
fn a_table_for_a_file_is_neither_cut_nor_coloured() {
    assert_eq!(
        job_table(&jobs(), Screen::File),
        "ID        LABEL    STATE      EXIT  STARTED  TOOK    COMMAND\n\
         0a1b2c3d  nightly  completed     0  12m ago  3m 12s  train.py --epochs 300 --model large --seed 17 --data /srv/data/images\n\
         0a1b2c3d           running       0  12m ago  3m 12s  -c \"print(1)\"\n"
    );
}

#[test]
fn a_table_fits_the_terminal_however_narrow() {
    for columns in 24..200 {
        let table = job_table(&jobs(), Screen::Terminal { columns, colour: false });
        assert_eq!(table.lines().count(), 3, "at {columns} columns:\n{table}");
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(columns)), "at {columns} columns:\n{table}");
    }
}

#[test]
fn forty_columns_still_tell_the_jobs_apart() {
    let table = job_table(&jobs(), Screen::Terminal { columns: 40, colour: false });
    assert_eq!(
        table,
        "ID        STATE      EXIT  COMMAND\n\
         0a1b2c3d  completed     0  train.py…\n\
         0a1b2c3d  running       0  -c \"print(1)\"\n"
    );
}

#[test]
fn states_are_coloured_only_where_colour_is_wanted() {
    let coloured = job_table(&jobs(), Screen::Terminal { columns: 100, colour: true });
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    let plain = job_table(&jobs(), Screen::Terminal { columns: 100, colour: false });
    assert!(!plain.contains('\x1b'), "{plain:?}");
}
