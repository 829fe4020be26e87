//! Whether a row is a bar or a counter, and what it says.
//!
//! Only what can not be anything else: two numbers that agree with each other, or words that nobody uses for anything
//! else. What could be a date, a recipe or a ratio is nothing, unless it was seen to go forward; and a bar whose filled
//! part agrees with its number may be how full a disk is, unless it is drawn again.

use super::drawn::{Drawn, Kind, Proof, is_spinner, said};
use super::numbers::{Share, ShareKind, intervals, rate, shares};
use super::tqdm;

/// `over`: it was drawn over an earlier drawing, as bars are.
pub(super) fn read(text: &str, over: bool) -> Option<Drawn> {
    let text = text.trim_end();
    // Most lines of most logs end here.
    if !text.contains(|letter: char| letter.is_ascii_digit() || letter == '━') {
        return None;
    }
    tqdm::read(text).or_else(|| bar(text, over)).or_else(|| counter(text)).or_else(|| unproven(text, over))
}

/// A bar within a row, by byte offsets.
struct Found {
    at: usize,
    end: usize,
    /// How much of it is filled; `None` where that is shown by colour alone.
    filled: Option<f64>,
    cells: usize,
    /// Made of what rich, pip and uv draw with.
    is_drawn_by_few: bool,
}

fn bar(text: &str, over: bool) -> Option<Drawn> {
    let found = heavy_bar(text).or_else(|| block_bar(text)).or_else(|| framed_bar(text)).or_else(|| dashes(text))?;
    let (before, behind) = (&text[..found.at], &text[found.end..]);
    let mut all = shares(before);
    let number_before = all.len();
    // tqdm goes on with a count, and this is not all of it: `45%|████▌     | 45/1`.
    let is_unfinished = before.ends_with('%') && text[found.at..].starts_with('|');
    if !is_unfinished {
        all.extend(shares(behind));
    }
    let mut candidates: Vec<&Share> = all.iter().collect();
    if let Some(filled) = found.filled {
        // A cell of rounding at either end.
        let tolerance = (1.5 / found.cells as f64).max(0.02);
        candidates.retain(|share| share.fraction().is_some_and(|fraction| (fraction - filled).abs() <= tolerance));
    }
    let percent = candidates.iter().rev().find(|share| share.kind == ShareKind::Percent).copied();
    let counts = candidates.iter().rev().filter(|share| share.kind != ShareKind::Percent).copied();
    let mut agreeing = counts.filter(|share| match (percent, share.fraction()) {
        (Some(percent), Some(fraction)) => (percent.current - 100.0 * fraction).abs() <= 1.5,
        (Some(_), None) => false,
        (None, _) => true,
    });
    let share = agreeing.next().or(percent);
    let Some(share) = share else {
        let is_silent = found.filled.is_none() && all.is_empty() && !text.contains('…');
        return if is_silent { pulse(before, behind, found.cells, over) } else { None };
    };
    let description = match all[..number_before].iter().find(|other| *other == share) {
        // `45/100 [===>   ]`: what is before the number.
        Some(share) => &before[..share.at],
        None => before,
    };
    let mut drawn = Drawn::of(Kind::Bar, share, said(description));
    let (rate, times) = (rate(behind), intervals(behind));
    // Of how full something is nobody says how long it takes.
    let is_timed = rate.is_some() || !times.is_empty() || behind.contains("-:--") || share.kind == ShareKind::Size;
    drawn.proof = if found.is_drawn_by_few && is_timed { Proof::Evident } else { Proof::Redrawn };
    drawn.display = drawn.message.clone().unwrap_or_default();
    drawn.rate = rate.and_then(|rate| rate.of(share.kind));
    let eta = ["eta ", "ETA: ", "ETA "].iter().find_map(|word| behind.split_once(word));
    if let Some((_, eta)) = eta {
        drawn.eta_seconds = intervals(eta).first().copied();
    } else if let [time] = times[..] {
        drawn.counts_down = Some(time);
    }
    Some(drawn)
}

/// rich, for a total that nobody knows: no number but a rate and the time that has passed. With neither it is a line under
/// a title, unless it is drawn again and again.
fn pulse(before: &str, behind: &str, cells: usize, over: bool) -> Option<Drawn> {
    const LEAST: usize = 5;
    let rate = rate(behind);
    let others = behind.split_whitespace().filter(|word| word.chars().any(|letter| letter.is_ascii_digit()));
    let unexplained = others.filter(|word| intervals(word).is_empty()).count();
    let is_pulse = cells >= LEAST && unexplained == usize::from(rate.is_some()) && (over || !behind.trim().is_empty());
    let message = said(before);
    is_pulse.then(|| Drawn {
        kind: Kind::Bar,
        proof: Proof::Evident,
        display: message.clone().unwrap_or_default(),
        current: None,
        total: None,
        message,
        rate: rate.map(|rate| rate.per_second),
        eta_seconds: None,
        counts_down: None,
    })
}

/// The one run of characters that `belongs`; `None` when there are several.
fn one_run(text: &str, least: usize, belongs: impl Fn(char) -> bool) -> Option<(usize, usize, usize)> {
    let at = text.find(&belongs)?;
    let length: usize = text[at..].chars().take_while(|letter| belongs(*letter)).map(char::len_utf8).sum();
    let cells = text[at..at + length].chars().count();
    let is_only = !text[at + length..].contains(&belongs);
    (is_only && cells >= least).then_some((at, at + length, cells))
}

/// rich and pip: filled and not, told apart by colour.
fn heavy_bar(text: &str) -> Option<Found> {
    let (at, end, cells) = one_run(text, 2, |letter| matches!(letter, '━' | '╸' | '╺'))?;
    // The frame of a table is drawn with the same.
    let is_framed =
        text.contains(|letter: char| ('\u{2500}'..='\u{257f}').contains(&letter) && !matches!(letter, '━' | '╸' | '╺'));
    (!is_framed).then_some(Found { at, end, filled: None, cells, is_drawn_by_few: true })
}

/// Blocks without a frame: `██████░░░░ 60%`.
fn block_bar(text: &str) -> Option<Found> {
    let is_block = |letter: char| matches!(letter, '█' | '▓' | '▒' | '░' | '■' | '□' | '▰' | '▱');
    let (at, end, cells) = one_run(text, 5, is_block)?;
    if text[end..].starts_with(['|', ']']) || text[..at].ends_with(['|', '[']) {
        return None;
    }
    filled(&text[at..end], cells).map(|filled| Found { at, end, filled: Some(filled), cells, is_drawn_by_few: false })
}

/// Between brackets or bars: `[####----]`, `|███   |`, `[=====>....]`.
fn framed_bar(text: &str) -> Option<Found> {
    const LEAST: usize = 4;
    for (at, open) in text.char_indices().filter(|(_, letter)| matches!(letter, '[' | '|' | '(' | '▕')) {
        let close = match open {
            '[' => ']',
            '(' => ')',
            '▕' => '▏',
            other => other,
        };
        let start = at + open.len_utf8();
        let Some(length) = text[start..].find(close) else { continue };
        let inside = &text[start..start + length];
        let cells = inside.chars().count();
        if cells < LEAST {
            continue;
        }
        if let Some(filled) = filled(inside, cells) {
            let end = start + length + close.len_utf8();
            return Some(Found { at, end, filled: Some(filled), cells, is_drawn_by_few: false });
        }
    }
    None
}

/// How much of it is filled, if it is a run of one filling, at most one tip, and a run of one emptiness.
fn filled(inside: &str, cells: usize) -> Option<f64> {
    let is_empty = |letter: char| matches!(letter, ' ' | '.' | '-' | '_' | '░' | '·' | '□' | '▱' | '▒');
    let is_filling = |letter: char| matches!(letter, '#' | '=' | '*' | '█' | '▓' | '■' | '▰' | '-' | '+' | '▒');
    let is_tip = |letter: char| matches!(letter, '>' | '▏' | '▎' | '▍' | '▌' | '▋' | '▊' | '▉' | '1'..='9' | '▒' | '▓');
    let letters: Vec<char> = inside.chars().collect();
    let first = letters[0];
    let mut full = 0;
    if is_filling(first) && letters.last() != Some(&first) || matches!(first, '#' | '=' | '█' | '■' | '▰' | '*') {
        full = letters.iter().take_while(|letter| **letter == first).count();
    }
    let mut rest = &letters[full..];
    let mut tip = 0.0;
    if let [letter, more @ ..] = rest
        && is_tip(*letter)
        && (full > 0 || *letter == '>' || !letter.is_ascii_digit())
    {
        tip = 0.5;
        rest = more;
    }
    let is_emptiness = rest.first().is_none_or(|letter| is_empty(*letter) && rest.iter().all(|other| other == letter));
    is_emptiness.then(|| (full as f64 + tip) / cells as f64)
}

/// uv: `numpy  ------------------------------ 112.00 KiB/14.99 MiB`, coloured.
fn dashes(text: &str) -> Option<Found> {
    let at = text.find("----------")?;
    let cells = text[at..].bytes().take_while(|byte| *byte == b'-').count();
    let behind = text[at + cells..].trim();
    let sizes = shares(behind);
    let is_uv =
        matches!(&sizes[..], [size] if size.kind == ShareKind::Size && size.at == 0 && size.end == behind.len());
    is_uv.then_some(Found { at, end: at + cells, filled: None, cells, is_drawn_by_few: true })
}

fn counter(text: &str) -> Option<Drawn> {
    let text = text.trim_start();
    keyword(text)
        .or_else(|| keyword(behind_log_prefix(text)?))
        .or_else(|| bracketed_with_percentage(text))
        .or_else(|| git(text))
        .or_else(|| test_run(text))
        .or_else(|| test_worker(text))
        .or_else(|| numbered_test(text))
        .or_else(|| build(text))
        .or_else(|| spinner(text))
        .or_else(|| docker(text))
        .or_else(|| one_of_many(text))
}

/// `Epoch 3/10`, `Step [100/1000]`, `[Epoch 3/10]`, `Progress: 45%` at the start of a row.
fn keyword(text: &str) -> Option<Drawn> {
    const WORDS: [(&str, Kind); 6] = [
        ("epoch", Kind::Epoch),
        ("iteration", Kind::Counter),
        ("iter", Kind::Counter),
        ("step", Kind::Counter),
        ("batch", Kind::Counter),
        ("progress", Kind::Counter),
    ];
    let framed = text.strip_prefix('[');
    let text = framed.unwrap_or(text);
    let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, kind) = WORDS.into_iter().find(|(word, _)| text[..length].eq_ignore_ascii_case(word))?;
    let rest = text[length..].trim_start_matches([' ', ':', '[', '(', '#']);
    // `Epoch3/10` is a name.
    if rest.len() == text[length..].len() {
        return None;
    }
    let share = shares(rest).into_iter().next().filter(|share| share.at == 0)?;
    let fits = share.kind == ShareKind::Count || (word == "progress" && share.kind == ShareKind::Percent);
    let behind = &rest[share.end..];
    let (message, is_evident) = if framed.is_some() {
        let number = &text[..text.len() - behind.len()];
        let behind = behind.strip_prefix(']')?;
        // What is in brackets belongs to nothing that follows; but recipes have steps too.
        (format!("{number} {}", behind.trim_start()), kind == Kind::Epoch || is_about_itself(behind))
    } else {
        (text.to_owned(), is_about_itself(behind))
    };
    fits.then(|| Drawn {
        proof: if is_evident { Proof::Evident } else { Proof::Forward },
        display: word.to_owned(),
        ..Drawn::of(kind, &share, if word == "progress" { None } else { said(&message) })
    })
}

/// What is said behind the time and the level: `2026-01-01 12:00:00,123 - train - INFO - Epoch 1/10`,
/// `INFO:root:Epoch 2/10`.
fn behind_log_prefix(text: &str) -> Option<&str> {
    /// A date, a time, a level, a name, and no more than that.
    const MOST: usize = 6;
    const LEVELS: [&str; 8] = ["DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "TRACE", "NOTICE"];
    let is_level = |word: &str| LEVELS.contains(&word);
    let is_time = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_digit())
            && word.chars().all(|letter| letter.is_ascii_digit() || "-:.,/TZ+".contains(letter))
            && word.chars().filter(|letter| matches!(letter, ':' | '-')).count() > 1
    };
    let mut rest = text;
    let mut is_logged = false;
    for _ in 0..MOST {
        let word = rest.trim_start_matches([']', ' ', ':', '-', '|']);
        let word = word.strip_prefix('[').unwrap_or(word);
        let end = word.find([' ', ']', '|']).unwrap_or(word.len());
        let (token, behind) = word.split_at(end);
        if is_level(token.trim_end_matches(':')) || is_time(token) {
            rest = behind;
        } else if let Some((_, named)) = token.split_once(':').filter(|(first, _)| is_level(first)) {
            // `INFO:root:Epoch`.
            let name = named.find(':')?;
            rest = &word[word.len() - behind.len() - named.len() + name..];
        } else if is_logged && (behind.starts_with(" - ") || behind.starts_with(" | ")) {
            // The name of who says it.
            rest = behind;
        } else {
            break;
        }
        is_logged = true;
    }
    is_logged.then(|| rest.trim_start_matches([']', ' ', ':', '-', '|']))
}

/// Nothing, punctuation or `loss=0.3` behind a number: in `step 1/2 cup of sugar` it belongs to what follows.
fn is_about_itself(behind: &str) -> bool {
    let behind = behind.trim_start_matches([']', ')', ' ']);
    let word = behind.split(' ').next().unwrap_or_default();
    behind.is_empty()
        || behind.starts_with([':', '-', '|', '[', ',', '('])
        || word.contains('=')
        || word.ends_with(':')
        || word.trim_matches(['.', '…']).is_empty()
}

/// `[640/60000 (1%)]`.
fn bracketed_with_percentage(text: &str) -> Option<Drawn> {
    let open = text.find('[')?;
    let inside = &text[open + 1..open + text[open..].find(']')?];
    let [count, percent] = shares(inside)[..] else { return None };
    let agree = count.kind == ShareKind::Count
        && count.at == 0
        && percent.kind == ShareKind::Percent
        && (100.0 * count.fraction()? - percent.current).abs() <= 1.0;
    agree.then(|| Drawn::of(Kind::Counter, &count, said(&text[..open])))
}

/// `Receiving objects:  45% (450/1000), 1.2 MiB | 3.4 MiB/s`.
fn git(text: &str) -> Option<Drawn> {
    const DOING: [&str; 9] = [
        "Counting objects:",
        "Compressing objects:",
        "Receiving objects:",
        "Resolving deltas:",
        "Writing objects:",
        "Unpacking objects:",
        "Updating files:",
        "Checking out files:",
        "Filtering content:",
    ];
    let text = text.strip_prefix("remote: ").unwrap_or(text);
    let doing = DOING.into_iter().find(|doing| text.starts_with(doing))?;
    let found = shares(&text[doing.len()..]);
    let [percent, count] = found.get(..2)? else { return None };
    let agree = percent.kind == ShareKind::Percent
        && count.kind == ShareKind::Count
        && (100.0 * count.fraction()? - percent.current).abs() <= 1.0;
    let rate = rate(text).and_then(|rate| rate.of(count.kind));
    agree.then(|| Drawn { rate, ..Drawn::of(Kind::Counter, count, said(doing)) })
}

/// Those of pytest.
const VERDICTS: [&str; 6] = ["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"];

/// pytest, which says at the end of a line how much of the whole run is done: `....F.  [ 45%]`.
fn test_run(text: &str) -> Option<Drawn> {
    let before = text.strip_suffix("%]")?;
    let at = before.rfind('[')?;
    let percent = padded_percent(&before[at + 1..])?;
    let tests = before[..at].trim_end();
    let marks = tests.rsplit(' ').next().unwrap_or_default();
    let is_marks = !marks.is_empty() && marks.chars().all(|mark| ".FEsxX".contains(mark));
    let is_verdict = VERDICTS.iter().any(|verdict| tests.ends_with(verdict)) || tests.ends_with(')');
    let is_test = before[..at].ends_with(' ') && (is_marks || (is_verdict && tests.contains("::")));
    is_test.then(|| Drawn::of(Kind::Counter, &percent_share(percent), None))
}

/// pytest-xdist: `[gw0] [ 33%] PASSED test_a.py::test_b`.
fn test_worker(text: &str) -> Option<Drawn> {
    let (worker, run) = text.strip_prefix("[gw")?.split_once("] [")?;
    let (percent, test) = run.split_once("%] ")?;
    let is_test = !worker.is_empty()
        && worker.bytes().all(|byte| byte.is_ascii_digit())
        && VERDICTS.iter().any(|verdict| test.starts_with(verdict))
        && test.contains("::");
    let percent = padded_percent(percent).filter(|_| is_test)?;
    Some(Drawn::of(Kind::Counter, &percent_share(percent), None))
}

/// ctest: `1/3 Test #1: name ....   Passed`.
fn numbered_test(text: &str) -> Option<Drawn> {
    let (count, test) = text.split_once(" Test ")?;
    let [share] = shares(count)[..] else { return None };
    let (number, name) = test.trim_start().strip_prefix('#')?.split_once(": ")?;
    let is_test = share.kind == ShareKind::Count
        && share.at == 0
        && share.end == count.len()
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit());
    is_test.then(|| Drawn::of(Kind::Counter, &share, said(name.split(" .").next().unwrap_or(name))))
}

/// Padded to three: `  5`.
fn padded_percent(digits: &str) -> Option<f64> {
    let percent = digits.trim_start();
    let is_number = !percent.is_empty() && percent.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() != 3 || !is_number {
        return None;
    }
    percent.parse().ok().filter(|percent| *percent <= 100.0)
}

fn percent_share(percent: f64) -> Share {
    Share { at: 0, end: 0, current: percent, total: Some(100.0), kind: ShareKind::Percent }
}

/// CMake: `[ 45%] Building CXX object …`.
fn build(text: &str) -> Option<Drawn> {
    const DOING: [&str; 8] =
        ["Building ", "Linking ", "Built ", "Generating ", "Scanning ", "Copying ", "Creating ", "Running "];
    let inside = text.strip_prefix('[')?;
    let (percent, doing) = inside.split_once("%] ")?;
    if percent.len() != 3 || !DOING.iter().any(|known| doing.starts_with(known)) {
        return None;
    }
    let percent: f64 = percent.trim_start().parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
    Some(Drawn::of(Kind::Counter, &percent_share(percent), said(doing)))
}

/// uv: `⠙ Preparing packages... (3/12)`.
fn spinner(text: &str) -> Option<Drawn> {
    let text = text.strip_prefix(is_spinner)?.strip_prefix(' ')?;
    let open = text.find('(')?;
    let inside = &text[open + 1..open + text[open..].find(')')?];
    let [share] = shares(inside)[..] else { return None };
    let is_all = share.kind == ShareKind::Count && share.end == inside.len() && share.at == 0;
    is_all.then(|| Drawn::of(Kind::Counter, &share, said(&text[..open])))
}

/// BuildKit: `#5 [2/4] RUN …`, `#7 [build 3/4] COPY …`.
fn docker(text: &str) -> Option<Drawn> {
    const DOING: [&str; 6] = ["FROM ", "RUN ", "COPY ", "ADD ", "WORKDIR ", "ONBUILD "];
    let (number, rest) = text.strip_prefix('#')?.split_once(" [")?;
    let (step, doing) = rest.split_once("] ")?;
    let [share] = shares(step)[..] else { return None };
    let is_step = !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && share.kind == ShareKind::Count
        && share.end == step.len()
        && DOING.iter().any(|known| doing.starts_with(known));
    is_step.then(|| Drawn::of(Kind::Counter, &share, said(doing)))
}

/// `Processing file 1 of 10`, `Copying 3/10: a.txt`.
fn one_of_many(text: &str) -> Option<Drawn> {
    const DOING: [&str; 11] = [
        "processing",
        "downloading",
        "uploading",
        "copying",
        "loading",
        "converting",
        "extracting",
        "installing",
        "importing",
        "exporting",
        "compiling",
    ];
    let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    if !DOING.iter().any(|doing| text[..length].eq_ignore_ascii_case(doing)) {
        return None;
    }
    let [share] = shares(text)[..] else { return None };
    let before = &text[..share.at];
    let words = &before[length..];
    // What is counted has a name, or none; a sentence may count something else.
    let fits = share.kind == ShareKind::Count
        && words.starts_with([' ', ':'])
        && words.split_whitespace().count() <= 2
        && words.chars().all(|letter| letter.is_ascii_alphabetic() || " :#[(".contains(letter))
        && is_about_itself(&text[share.end..]);
    fits.then(|| Drawn {
        proof: Proof::Forward,
        display: before.to_owned(),
        ..Drawn::of(Kind::Counter, &share, said(before.trim_end_matches([' ', '#', '['])))
    })
}

/// `[3/10] …` at the start of a row, and any single number of a row that is drawn again and again.
fn unproven(text: &str, over: bool) -> Option<Drawn> {
    let found = shares(text);
    let [share] = found[..] else { return None };
    let is_bracketed = share.at == 1
        && share.kind == ShareKind::Count
        && text.starts_with('[')
        && (text[share.end..].starts_with("] ") || &text[share.end..] == "]");
    if is_bracketed {
        let steps = Drawn::of(Kind::Counter, &share, said(&text[share.end..]));
        return Some(Drawn { proof: Proof::Steps, display: "[".to_owned(), ..steps });
    }
    over.then(|| {
        // curl draws its bar without a frame: `####    27.3%`.
        let message = said(text[..share.at].trim_matches(['#', ' ']));
        let display = message.clone().unwrap_or_default();
        Drawn { proof: Proof::Forward, display, ..Drawn::of(Kind::Counter, &share, message) }
    })
}
