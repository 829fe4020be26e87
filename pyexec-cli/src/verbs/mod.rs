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

use pyexec_proto::client::Daemon;
use pyexec_proto::paths::Paths;
use pyexec_proto::{Client, JobId};

use crate::args::Verb;
use crate::exit_code::{Code, Failure};
use crate::terminal;

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

/// A daemon, started if there is none: even a listing needs one, because the index is the daemon's.
async fn connect() -> Result<Client, Failure> {
    Ok(Client::connect(Paths::from_environment()?, Daemon::StartIfNone).await?)
}

/// A daemon, and the jobs that were named to it. Where there is none to ask, what is said names them.
async fn connect_about(given: &[String]) -> Result<(Client, Vec<JobId>), Failure> {
    let found = async {
        let client = connect().await?;
        let ids = resolve(&client, given).await?;
        Ok((client, ids))
    };
    let mut found = found.await;
    for named in given {
        found = of_job(named, found);
    }
    found
}

/// The same for a verb that is about one job.
async fn connect_about_one(given: &String) -> Result<(Client, JobId), Failure> {
    let (client, ids) = connect_about(std::slice::from_ref(given)).await?;
    Ok((client, ids[0]))
}

/// What came of asking about job `id`. That the daemon cannot be asked is no news of the job, and said to be none.
fn of_job<T>(id: impl std::fmt::Display, asked: Result<T, Failure>) -> Result<T, Failure> {
    if let Err(Failure::Client(error)) = &asked
        && !error.is_answer()
    {
        terminal::note(&format!("job {id} is not affected; `pyexec wait {id}` waits for it"));
    }
    asked
}

/// All of them, or nothing: a slip in one id must not have half of the others acted upon.
async fn resolve(client: &Client, given: &[String]) -> Result<Vec<JobId>, Failure> {
    let mut ids = Vec::with_capacity(given.len());
    for given in given {
        ids.push(client.resolve(given).await?);
    }
    Ok(ids)
}
