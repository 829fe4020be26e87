//! The pages of `docs/` that this program knows the content of: `pyexec --reference commands` and `exit-codes` print them.
//!
//! They are for `scripts/docs.sh`, not for users: no help or completion names them.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use crate::args::Cli;
use crate::exit_code::MEANINGS;

/// In columns: that of the terminal must not matter.
const WIDTH: usize = 100;

/// The page that the command line asks for, if it asks for one.
pub(crate) fn page(line: impl IntoIterator<Item = OsString>) -> Option<String> {
    let words: Vec<OsString> = line.into_iter().skip(1).collect();
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["--reference", "commands"] => Some(commands()),
        ["--reference", "exit-codes"] => Some(exit_codes()),
        _ => None,
    }
}

fn commands() -> String {
    let mut page =
        "# Commands\n\n<!-- Made by scripts/docs.sh from pyexec-cli/src/args.rs: do not edit. -->\n".to_owned();
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    describe(&mut command, &mut page);
    page
}

/// A command with its help, then those below it.
fn describe(command: &mut Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(page, "\n## {name}\n\n```text\n");
    for line in command.render_long_help().to_string().trim_end().lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page.push_str("```\n");
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        describe(below, page);
    }
}

fn exit_codes() -> String {
    let mut page = "# Exit codes of pyexec

<!-- Made by scripts/docs.sh from pyexec-cli/src/exit_code.rs: do not edit. -->

`pyexec run`, `pyexec scripts run` and `pyexec wait` exit with the exit code of the script, or with 128+N if signal N ended it;
`pyexec bench` with that of the first script that failed. All commands exit with 0 if they did what they were asked to do.
All other codes:

| code | meaning |
|---|---|
"
    .to_owned();
    for (codes, meaning) in MEANINGS {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        let _ = writeln!(page, "| {} | {meaning} |", codes.join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_that_there_is_can_be_asked_for() {
        let asked = |words: &[&str]| page(words.iter().map(Into::into));
        assert!(
            asked(&["pyexec", "--reference", "commands"])
                .is_some_and(|page| page.contains("\n## pyexec mcp install\n"))
        );
        for words in [&["pyexec"][..], &["pyexec", "--reference"], &["pyexec", "run", "--reference", "commands"]] {
            assert_eq!(asked(words), None, "{words:?}");
        }
    }
}
