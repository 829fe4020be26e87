//! One file per verb.

pub(crate) mod artifacts;
mod bench;
mod completions;
pub(crate) mod daemon;
mod doctor;
mod env;
mod jobs;
mod kill;
mod logs;
pub(crate) mod mcp;
mod prune;
mod run;
mod scripts;
mod send;
mod show;
mod wait;

use crate::args::Verb;
use crate::exit_code::{Code, Failure};

/// Does what the command line says.
pub(crate) async fn perform(verb: Verb) -> Result<Code, Failure> {
    match verb {
        Verb::Run(run) => run::perform(*run).await,
        Verb::Bench(bench) => bench::perform(*bench).await,
        Verb::Jobs(jobs) => jobs::perform(jobs).await,
        Verb::Show(show) => show::perform(&show).await,
        Verb::Logs(logs) => logs::perform(&logs).await,
        Verb::Artifacts(artifacts) => artifacts::perform(&artifacts).await,
        Verb::Wait(wait) => wait::perform(&wait).await,
        Verb::Send(send) => send::perform(send).await,
        Verb::Kill(kill) => kill::perform(&kill).await,
        Verb::Prune(prune) => prune::perform(&prune).await,
        Verb::Scripts(verb) => scripts::perform(verb).await,
        Verb::Env(verb) => env::perform(verb).await,
        Verb::Daemon(verb) => daemon::perform(verb).await,
        Verb::Mcp(verb) => mcp::perform(verb),
        Verb::Doctor(doctor) => doctor::perform(&doctor).await,
        Verb::Completions(completions) => completions::perform(&completions),
    }
}
