//! Connecting to the daemon for a verb, and finding the jobs that the command line names.

use pyexec_client::{Client, Daemon};
use pyexec_proto::JobId;
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;

use crate::exit_code::Failure;
use crate::terminal;

/// A daemon, started if there is none: even a listing needs one, because the index is the daemon's.
pub(crate) async fn connect() -> Result<Client, Failure> {
    let client = Client::connect(Paths::from_environment()?, Daemon::StartIfNone).await?;
    if let Some(old) = client.take_replaced().filter(|_| terminal::stderr_is_terminal()) {
        let ours = Preamble::ours();
        terminal::note(&format!(
            "replaced the daemon of version {} (protocol {}) by version {} (protocol {}); running jobs continue",
            old.version, old.highest, ours.version, ours.highest
        ));
    }
    Ok(client)
}

/// A daemon, and the jobs that were named to it. Where there is none to ask, what is said names them.
pub(crate) async fn connect_and_resolve(given: &[String]) -> Result<(Client, Vec<JobId>), Failure> {
    let found = async {
        let client = connect().await?;
        let ids = resolve(&client, given).await?;
        Ok((client, ids))
    };
    let mut found = found.await;
    for named in given {
        found = note_unaffected(named, found);
    }
    found
}

/// The same for a verb that is about one job.
pub(crate) async fn connect_and_resolve_one(given: &String) -> Result<(Client, JobId), Failure> {
    let (client, ids) = connect_and_resolve(std::slice::from_ref(given)).await?;
    Ok((client, ids[0]))
}

/// What came of asking about job `id`. That the daemon cannot be asked is no news of the job, and said to be none.
pub(crate) fn note_unaffected<T>(id: impl std::fmt::Display, asked: Result<T, Failure>) -> Result<T, Failure> {
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
