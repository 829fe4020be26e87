//! The user's service manager, where there is one: it keeps the daemon out of the editor's and the terminal's scope.

use std::path::Path;

use super::Check;
use crate::ask::{self, ask};

pub(super) async fn checks() -> Vec<Check> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    // As the client looks for it when it starts a daemon.
    if !directory.is_some_and(|directory| Path::new(&directory).join("systemd/private").exists()) {
        return vec![Check::ok("systemd", "no user manager here; the daemon starts without one")];
    }
    let (units, lingering) = tokio::join!(units(), lingering());
    [Some(units), lingering].into_iter().flatten().collect()
}

async fn units() -> Check {
    let arguments =
        ["--user", "show", "--property=Id,LoadState,ActiveState,UnitFileState", "pyexecd.socket", "pyexecd.service"];
    match ask("systemctl", &arguments, ask::SHORT).await {
        Ok(shown) => Check::ok("systemd", describe(&shown)),
        Err(silence) => {
            let hint = "the daemon starts without it, and may end with your session; try `systemctl --user status`";
            Check::warning("systemd", format!("systemctl {silence}"), hint)
        }
    }
}

/// From blocks of `Property=value`.
fn describe(shown: &str) -> String {
    let mut units = Vec::new();
    for block in shown.split("\n\n") {
        let value = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
        };
        if let (Some(id), Some("loaded")) = (value("Id"), value("LoadState")) {
            let known = [value("UnitFileState"), value("ActiveState")];
            units.push(format!("{id} is {}", known.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        }
    }
    if units.is_empty() {
        "a user manager answers; the units are not installed (`pyexec daemon install`), and the daemon starts as one of its own".to_owned()
    } else {
        units.join("; ")
    }
}

/// `None` where nobody can say.
async fn lingering() -> Option<Check> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let said = ask("loginctl", &["show-user", &user, "--property=Linger", "--value"], ask::SHORT).await.ok()?;
    match said.trim() {
        "yes" => Some(Check::ok("lingering", "on: jobs go on when you log out")),
        "no" => {
            let detail = "off: the daemon and its jobs may end when you log out";
            Some(Check::warning("lingering", detail, "`loginctl enable-linger` keeps them"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_described_as_they_are() {
        let shown = "Id=pyexecd.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
            Id=pyexecd.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=\n";
        assert_eq!(describe(shown), "pyexecd.socket is enabled, active; pyexecd.service is inactive");
        let shown = "Id=pyexecd.socket\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n";
        assert!(describe(shown).contains("not installed"));
    }
}
