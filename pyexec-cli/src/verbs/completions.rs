//! `pyexec completions SHELL`.

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::terminal;

pub(crate) fn perform(completions: &Completions) -> Result<Code, Failure> {
    terminal::print(&script(completions.shell))?;
    Ok(SUCCESS)
}

fn script(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pyexec", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_completes_the_verbs() {
        for shell in clap_complete::Shell::value_variants() {
            let script = script(*shell);
            for verb in ["run", "jobs", "prune", "daemon"] {
                assert!(script.contains(verb), "{shell} does not know `{verb}`");
            }
        }
    }
}
