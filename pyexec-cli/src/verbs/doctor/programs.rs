//! The other programs of ours, and the settings, which only one of them can read.

use std::path::{Path, PathBuf};

use pyexec_client::start::is_executable;
use pyexec_proto::fence::FenceCheck;

use super::check::{Check, OUR_VERSION};
use crate::ask::{self, Silence, ask, version_in};
use crate::verbs::mcp;

/// Also: the uv that the settings name.
pub(super) async fn checks() -> (Vec<Check>, Option<PathBuf>) {
    let (adapter, (daemon, uv)) = tokio::join!(adapter(), daemon());
    (daemon.into_iter().chain([adapter]).collect(), uv)
}

async fn daemon() -> (Vec<Check>, Option<PathBuf>) {
    const NAME: &str = "pyexecd";
    let Some(program) = pyexec_client::start::find_program() else {
        let hint = "install it beside this program or on PATH, or set PYEXEC_DAEMON to its path";
        return (vec![Check::problem(NAME, "not found", hint)], None);
    };
    if !is_executable(&program) {
        let detail = format!("{} is not executable", program.display());
        return (vec![Check::problem(NAME, detail, "install it there, or unset PYEXEC_DAEMON")], None);
    }
    let mut checks = vec![compare(NAME, &program).await];
    let (settings, uv) = settings(&program).await;
    checks.extend(settings);
    checks.extend(fences(&program).await);
    (checks, uv)
}

async fn adapter() -> Check {
    match mcp::find_program() {
        Some(program) => compare(mcp::PROGRAM, &program).await,
        None => {
            let hint = "only editors and agents need it: install it beside this program or on PATH";
            Check::warning(mcp::PROGRAM, "not found", hint)
        }
    }
}

async fn compare(name: &str, program: &Path) -> Check {
    let hint = "install all programs of pyexec from the same version";
    let at = program.display();
    match ask(program, &["--version"], ask::SHORT).await {
        Ok(said) => match version_in(&said) {
            Some((version, _)) if version == OUR_VERSION => Check::ok(name, format!("{version}, {at}")),
            Some((version, _)) => Check::warning(name, format!("{version}, {at}; this program is {OUR_VERSION}"), hint),
            None => Check::warning(name, format!("{at} does not say its version"), hint),
        },
        Err(silence) => Check::problem(name, format!("{at} {silence}"), format!("{hint}; try `{at} --version`")),
    }
}

/// As it finds by trying: what a job can be kept from on this machine. Not everybody needs it.
async fn fences(daemon: &Path) -> Vec<Check> {
    let said = match ask(daemon, &["--check-fences"], ask::SHORT).await {
        Ok(said) => said,
        // Of another version, or broken, which has been said.
        Err(Silence::Failed(_) | Silence::NotRun(_) | Silence::Late(_)) => return vec![],
    };
    let found: Vec<FenceCheck> = serde_json::from_str(&said).unwrap_or_default();
    let check = |FenceCheck { fence, detail, hint }: FenceCheck| match hint {
        None => Check::ok(format!("{fence} fence"), detail),
        Some(hint) => Check::warning(format!("{fence} fence"), detail, hint),
    };
    found.into_iter().map(check).collect()
}

/// As the daemon itself reads them.
async fn settings(daemon: &Path) -> (Option<Check>, Option<PathBuf>) {
    const NAME: &str = "settings";
    match ask(daemon, &["--check-config"], ask::SHORT).await {
        Ok(said) => {
            let uv = said.lines().find_map(|line| line.strip_prefix("uv = ")).map(PathBuf::from);
            let file = said.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("understood");
            (Some(Check::ok(NAME, file)), uv)
        }
        // One that does not know the question is of another version, which has been said.
        Err(Silence::Failed(said)) if said.contains("no such arguments") => (None, None),
        Err(Silence::Failed(said)) => {
            let said = said.strip_prefix("error: ").unwrap_or(&said).trim_end().to_owned();
            (Some(Check::problem(NAME, said, "no daemon starts with these: correct the value")), None)
        }
        Err(Silence::NotRun(_) | Silence::Late(_)) => (None, None),
    }
}
