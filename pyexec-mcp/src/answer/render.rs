//! Markdown rendering of answers, with few tokens for models and readable for people.

use std::borrow::Cow;

use pyexec_proto::output::Stream;
use pyexec_proto::{Status, sanitize};
use pyexec_view::markdown::in_cell;
use pyexec_view::{JobRow, ProgressView};

/// Text in a code fence that the text itself cannot close.
pub(crate) fn fenced(text: &str) -> String {
    const SHORTEST: usize = 3;
    let text = as_shown(text);
    let mut longest = 0;
    let mut run = 0;
    for letter in text.chars() {
        run = if letter == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(SHORTEST.max(longest + 1));
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}\n{text}{newline}{fence}")
}

/// A stream of a job's output under its name; empty if the output is empty.
pub(crate) fn stream(which: Stream, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\n\n{which}:\n{}", fenced(text)) }
}

/// The text as a terminal would show it: without escape sequences, and with lines in their final state after carriage
/// returns. Other control characters become visible.
fn as_shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        // The final state of a line that was redrawn, such as a progress bar.
        let last = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or(line);
        without_escapes(last, &mut shown);
        if lines.peek().is_some() {
            shown.push('\n');
        }
    }
    shown
}

fn without_escapes(line: &str, shown: &mut String) {
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => skip_escape(&mut letters),
            '\t' => shown.push('\t'),
            // The Unicode block of control pictures.
            '\0'..='\u{1f}' => shown.push(char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}')),
            '\u{7f}' => shown.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => shown.push('\u{fffd}'),
            other if is_deceptive(other) => shown.extend(other.escape_unicode()),
            other => shown.push(other),
        }
    }
}

/// Whether a character reorders text, or carries text that only a model reads. Joiners and marks used by scripts and
/// emoji stay, because this is output, not a name.
fn is_deceptive(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e0fff}')
}

/// Skips the rest of an escape sequence after ESC. A control sequence ends with a letter or one of `@[\]^_{|}~` and a
/// backtick, a string with BEL or ESC \.
fn skip_escape(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match letters.next() {
        Some('[') => {
            while let Some(letter) = letters.next_if(|letter| (' '..='\u{7e}').contains(letter)) {
                if ('@'..='~').contains(&letter) {
                    return;
                }
            }
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(letter) = letters.next() {
                if letter == '\u{7}' {
                    return;
                }
                if letter == '\u{1b}' {
                    letters.next_if_eq(&'\\');
                    return;
                }
            }
        }
        Some(' '..='/') => {
            letters.next();
        }
        Some(_) | None => {}
    }
}

/// Untrusted text for a sentence or a table cell: one line, without Markdown or terminal syntax.
pub(crate) fn inline(text: &str) -> String {
    let line = sanitize::one_line(&shortened(text)).replace('`', "'").replace("](", "]\\(");
    let mut shown = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins_a_tag = |next: &char| next.is_alphabetic() || "/!?".contains(*next);
        if letter == '<' && letters.peek().is_some_and(begins_a_tag) {
            shown.push('\\');
        }
        shown.push(letter);
    }
    in_cell(&shown)
}

/// Untrusted text as inline code: a path, a command, a name.
pub(crate) fn code(text: &str) -> String {
    format!("`{}`", in_cell(&sanitize::one_line(&shortened(text)).replace('`', "'")))
}

fn shortened(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// An error message of one or more lines. All lines but the first are quoted, so that they are not mistaken for ours.
pub(crate) fn message(text: &str) -> String {
    sanitize::lines(text.trim_end()).replace("](", "]\\(").replace('\n', "\n> ")
}

/// A duration in seconds, for people.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
        if hours > 0 { format!("{hours} h {minutes:02} min") } else { format!("{minutes} min {rest:02} s") }
    }
}

/// The status at the beginning of a sentence.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "Pending",
        Status::Running => "Running",
        Status::Completed => "Completed",
        Status::Failed => "Failed",
        Status::Cancelled => "Cancelled",
    }
}

pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

pub(crate) fn progress(progress: &ProgressView) -> String {
    let left = progress.eta_seconds.map(|left| format!(", {} left", seconds(left))).unwrap_or_default();
    inline(&progress.sentence) + &left
}

pub(crate) fn jobs(rows: &[JobRow]) -> String {
    let cells = |row: &JobRow| {
        vec![
            format!("`{}`", row.id),
            row.label.as_deref().map(inline).unwrap_or_default(),
            match row.reason {
                Some(reason) if reason.name() != "exit" && reason.name() != row.status.name() => {
                    format!("{} ({})", row.status, reason)
                }
                Some(_) | None => row.status.to_string(),
            },
            row.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            row.created_at.clone(),
            row.elapsed_seconds.map(seconds).unwrap_or_default(),
            row.progress.as_ref().map(progress).unwrap_or_default(),
            code(&row.command),
        ]
    };
    table(&["job_id", "label", "status", "exit", "created", "took", "progress", "command"], rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_output_closes_its_fence() {
        let cases = [
            ("plain\n", "```\nplain\n```"),
            ("no newline", "```\nno newline\n```"),
            ("```\nescaped?\n```\n", "````\n```\nescaped?\n```\n````"),
            ("a `````` b", "```````\na `````` b\n```````"),
            ("", "```\n```"),
        ];
        for (text, expected) in cases {
            assert_eq!(fenced(text), expected, "{text:?}");
        }
    }

    #[test]
    fn output_is_shown_as_a_terminal_would_leave_it() {
        let cases = [
            ("\u{1b}[31mred\u{1b}[0m\n", "red\n"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bx", "x"),
            (" 10%\r 50%\r100%\n", "100%\n"),
            (" 10%\r 50%\r", " 50%"),
            ("dos\r\nlines\r\n", "dos\nlines\n"),
            ("a\0b\u{8}\u{7f}", "a\u{2400}b\u{2408}\u{2421}"),
            ("tab\there", "tab\there"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
            ("ünïcode ✓\n\n", "ünïcode ✓\n\n"),
            ("👩\u{200d}🚀 \u{202e}txt\u{e0041}", "👩\u{200d}🚀 \\u{202e}txt\\u{e0041}"),
        ];
        for (text, expected) in cases {
            assert_eq!(as_shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_stands_in_a_cell_stays_there() {
        assert_eq!(inline("a|b\nc`d`\u{1b}[1m"), r"a\|b\nc'd'\x1b[1m");
        assert_eq!(inline(r"a\|b"), r"a\|b");
        assert_eq!(inline("![x](http://y) <img src=z> 1 < 2"), r"![x]\(http://y) \<img src=z> 1 < 2");
        assert_eq!(inline("\u{202e}x\u{e0041}"), r"\u{202e}x\u{e0041}");
        assert_eq!(inline(&"x".repeat(200)).chars().count(), 121);
        assert_eq!(code("a|b`c`<d>"), r"`a\|b'c'<d>`");
    }

    #[test]
    fn a_message_of_several_lines_is_none_of_ours_but_for_the_first() {
        assert_eq!(message("no\n\n**Next:** obey\u{1b}[2J\n"), "no\n> \n> **Next:** obey\\x1b[2J");
    }

    #[test]
    fn a_length_of_time_has_the_units_it_needs() {
        let cases =
            [(0.004, "0.00 s"), (3.456, "3.46 s"), (45.67, "45.7 s"), (192.0, "3 min 12 s"), (18_420.0, "5 h 07 min")];
        for (given, expected) in cases {
            assert_eq!(seconds(given), expected);
        }
    }
}
