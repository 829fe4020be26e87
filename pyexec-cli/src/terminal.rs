//! Our own stdout and stderr: what they are, and how lines get there.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use pyexec_proto::sanitize;

/// Where something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal, `columns` wide.
    Terminal { columns: u16, colour: bool },
    /// A file or a pipe: nothing is cut, nothing is coloured.
    File,
}

/// What may be used to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pen {
    /// Eighths of a block; otherwise what every terminal has.
    pub(crate) unicode: bool,
    pub(crate) colour: bool,
}

/// Why what was asked for could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("cannot write the output")]
    Stdout(#[source] io::Error),
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// What stdout is connected to.
pub(crate) fn screen() -> Screen {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Screen::File;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    // Terminals that do not know their size say 0.
    Screen::Terminal { columns: if columns == 0 { 80 } else { columns }, colour: colour_wanted() }
}

/// <https://no-color.org>: set, and not empty.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What may be drawn with there.
pub(crate) fn pen(screen: Screen) -> Pen {
    Pen { unicode: is_unicode(), colour: matches!(screen, Screen::Terminal { colour: true, .. }) }
}

/// Whether the locale is one of UTF-8. As in the C library, the first of these variables that is set decides.
pub(crate) fn is_unicode() -> bool {
    let named = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let locale = named.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    print_bytes(text.as_bytes())
}

/// Writes to stdout what need not be text.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutputError::Stdout)
}

/// Writes what was asked for into a file of the user's.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<(), OutputError> {
    std::fs::write(path, contents).map_err(|source| OutputError::File { path: path.to_owned(), source })
}

/// Writes one JSON document to stdout.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), OutputError> {
    let document = sanitize::json(document).map_err(|error| OutputError::Stdout(error.into()))?;
    print(&(document + "\n"))
}

/// `error: …`, with all its causes, and `hint: …`.
pub(crate) fn error(error: &dyn Error, hint: Option<&str>) {
    problem(&pyexec_view::with_causes(error), hint);
}

/// The same, of a problem that is a sentence already.
pub(crate) fn problem(problem: &str, hint: Option<&str>) {
    say("error", "31", problem);
    if let Some(hint) = hint {
        say("hint", "36", hint);
    }
}

/// Something the reader should know, that is no failure.
pub(crate) fn note(text: &str) {
    say("note", "33", text);
}

/// Lines beside the output of a job, for people.
pub(crate) fn report(text: &str) {
    // Where stderr itself is broken there is nobody left to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether there is somebody at stderr.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// How wide the terminal at stderr is, if it is one that knows.
pub(crate) fn stderr_columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

fn say(kind: &str, colour: &str, text: &str) {
    // Only what we say begins a line: a name with a newline in it must not look like a hint of ours.
    let text = sanitize::lines(text.trim_end()).replace('\n', "\n  ");
    let mut stderr = io::stderr().lock();
    let line = if stderr.is_terminal() && colour_wanted() {
        format!("\x1b[1;{colour}m{kind}\x1b[0m: {text}\n")
    } else {
        format!("{kind}: {text}\n")
    };
    // Where stderr itself is broken there is nobody left to tell.
    let _ = stderr.write_all(line.as_bytes());
}
