//! The user's service manager, where there is one: it keeps the daemon out of the editor's and the terminal's scope.

use std::path::{Path, PathBuf};

use pyexec_proto::daemon::JobScopes;

use super::check::Check;
use crate::ask::{self, ask};
use crate::verbs::daemon::units::{self, Installed};

const SERVICE: &str = "pyexecd.service";
const SOCKET: &str = "pyexecd.socket";

pub(super) async fn checks() -> Vec<Check> {
    if !is_here() {
        return vec![Check::ok("systemd", "no user manager here; the daemon starts without one")];
    }
    let (mut checks, lingering) = tokio::join!(units(), lingering());
    checks.extend(lingering);
    checks
}

/// As the client looks for it when it starts a daemon.
fn is_here() -> bool {
    runtime_directory().is_some_and(|directory| directory.join("systemd/private").exists())
}

fn runtime_directory() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()).map(PathBuf::from)
}

/// As the daemon says it.
pub(super) fn scopes(standing: &JobScopes) -> Check {
    const NAME: &str = "scopes";
    match standing {
        JobScopes::Given => Check::ok(NAME, "each job gets a scope, a control group of its own"),
        JobScopes::Asked => Check::ok(NAME, "the user manager is being asked for the first"),
        JobScopes::SwitchedOff => {
            Check::ok(NAME, "switched off by the settings; jobs share the daemon's control group")
        }
        JobScopes::Without { why } => {
            let detail = format!("jobs share the daemon's control group: {why}");
            if is_here() { Check::warning(NAME, detail, NO_BUS) } else { Check::ok(NAME, detail) }
        }
    }
}

const NO_BUS: &str =
    "a user manager runs, so it should: try `busctl --user status`; Debian has the bus in `dbus-user-session`";

/// ShowStatus no daemon runs. `None` where there is no manager, which has been said.
pub(super) fn scopes_to_be() -> Option<Check> {
    let named = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    let bus = runtime_directory().filter(|_| is_here())?.join("bus");
    Some(if named || bus.exists() {
        Check::ok("scopes", "there is a bus to ask the user manager over, for a control group for each job")
    } else {
        Check::warning("scopes", format!("jobs will share the daemon's control group: no {}", bus.display()), NO_BUS)
    })
}

async fn units() -> Vec<Check> {
    let properties =
        "--property=Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,KillMode,Delegate,OOMPolicy,DropInPaths";
    match ask("systemctl", &["--user", "show", properties, SOCKET, SERVICE], ask::SHORT).await {
        Ok(shown) => {
            let units = parse(&shown);
            let files = compare(&units::installed());
            [Check::ok("systemd", describe(&units))].into_iter().chain(files).chain(amiss(&units)).collect()
        }
        Err(silence) => {
            let hint =
                "without it the daemon still starts, but may end with your session; try `systemctl --user status`";
            vec![Check::warning("systemd", format!("systemctl {silence}"), hint)]
        }
    }
}

/// The files, as they would be placed now.
fn compare(installed: &Installed) -> Option<Check> {
    match installed {
        Installed::No => None,
        Installed::AsPlaced => Some(Check::ok("units", "as this version installs them")),
        Installed::Otherwise(files) => {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            let detail = format!("not as this version installs them: {}", files.join(", "));
            Some(Check::warning(
                "units",
                detail,
                "`pyexec daemon install` renews them; what you want to differ goes into drop-ins",
            ))
        }
    }
}

/// What `systemctl show` says of a unit that it knows.
struct Unit<'a>(&'a str);

impl<'a> Unit<'a> {
    fn value(&self, name: &str) -> Option<&'a str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.filter(|value| !value.is_empty())
    }

    fn id(&self) -> &'a str {
        self.value("Id").unwrap_or_default()
    }
}

/// From blocks of `Property=value`.
fn parse(shown: &str) -> Vec<Unit<'_>> {
    shown.split("\n\n").map(Unit).filter(|unit| unit.value("LoadState") == Some("loaded")).collect()
}

fn describe(units: &[Unit<'_>]) -> String {
    if units.is_empty() {
        return "a user manager answers; the units are not installed (`pyexec daemon install`), and the daemon starts as one of its own".to_owned();
    }
    let described = units.iter().map(|unit| {
        let known = [unit.value("UnitFileState"), unit.value("ActiveState")];
        format!("{} is {}", unit.id(), known.into_iter().flatten().collect::<Vec<_>>().join(", "))
    });
    described.collect::<Vec<_>>().join("; ")
}

/// What is not as jobs need it, whichever file says so.
fn amiss(units: &[Unit<'_>]) -> Vec<Check> {
    let mut checks = Vec::new();
    for unit in units {
        if unit.value("NeedDaemonReload") == Some("yes") {
            let detail = "has changed on disk, and the manager has not read it again";
            checks.push(Check::warning(unit.id(), detail, "`systemctl --user daemon-reload`"));
        }
        let is = |name: &str, wanted: &str| unit.value(name).is_none_or(|value| value == wanted);
        if unit.id() == SOCKET {
            let hint = "`pyexec daemon install` makes it listen and start the daemon on demand";
            if !is("UnitFileState", "enabled") {
                checks.push(Check::warning(SOCKET, "is not enabled: it will be inactive after the next login", hint));
            }
            if !is("ActiveState", "active") {
                checks.push(Check::warning(SOCKET, "is not active: no socket unit listens for the daemon", hint));
            }
        }
        if unit.id() != SERVICE {
            continue;
        }
        let drop_ins = unit.value("DropInPaths").map(|paths| format!(" (drop-ins: {paths})")).unwrap_or_default();
        let hint = |name: &str, wanted: &str| {
            format!(
                "{name}={wanted} is what `pyexec daemon install` sets; `systemctl --user cat {SERVICE}` shows who says otherwise{drop_ins}"
            )
        };
        let found = |name: &str| unit.value(name).unwrap_or_default();
        if !is("KillMode", "process") {
            let detail = format!(
                "KillMode={}: jobs without a scope of their own end when the daemon is restarted",
                found("KillMode")
            );
            checks.push(Check::problem(SERVICE, detail, hint("KillMode", "process")));
        }
        if !is("Delegate", "yes") {
            let detail =
                format!("Delegate={}: jobs that make control groups of their own may lose them", found("Delegate"));
            checks.push(Check::warning(SERVICE, detail, hint("Delegate", "yes")));
        }
        if !is("OOMPolicy", "continue") {
            let detail = format!("OOMPolicy={}: one job out of memory ends the daemon", found("OOMPolicy"));
            checks.push(Check::warning(SERVICE, detail, hint("OOMPolicy", "continue")));
        }
    }
    checks
}

/// `None` where nobody can say.
async fn lingering() -> Option<Check> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let said = ask("loginctl", &["show-user", &user, "--property=Linger", "--value"], ask::SHORT).await;
    let lingers = match said.as_deref().map(str::trim) {
        Ok("yes") => true,
        Ok("no") => false,
        // It knows nobody who is not logged in.
        Ok(_) | Err(_) => lingers_by_file(Path::new("/var/lib/systemd/linger"), std::env::var("USER").ok()?.as_str())?,
    };
    Some(if lingers {
        Check::ok("lingering", "on: jobs go on when you log out")
    } else {
        let detail = "off: the daemon and its jobs may end when you log out";
        Check::warning("lingering", detail, "`loginctl enable-linger` keeps them")
    })
}

/// Where logind keeps it; `None` where there is no such place.
fn lingers_by_file(directory: &Path, user: &str) -> Option<bool> {
    directory.is_dir().then(|| !user.is_empty() && directory.join(user).is_file())
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    const SOUND: &str = "Id=pyexecd.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
        Id=pyexecd.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n\
        KillMode=process\nDelegate=yes\nOOMPolicy=continue\nDropInPaths=\n";

    #[test]
    fn units_are_described_as_they_are() {
        let units = parse(SOUND);
        assert_eq!(describe(&units), "pyexecd.socket is enabled, active; pyexecd.service is inactive");
        assert_eq!(amiss(&units), []);
        let shown = "Id=pyexecd.socket\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n";
        assert!(describe(&parse(shown)).contains("not installed"));
        assert_eq!(amiss(&parse(shown)), []);
    }

    #[test]
    fn each_setting_that_jobs_need_is_missed() {
        for (sound, changed, unit, is_problem) in [
            ("=enabled", "=disabled", SOCKET, false),
            ("=active", "=failed", SOCKET, false),
            ("KillMode=process", "KillMode=control-group", SERVICE, true),
            ("Delegate=yes", "Delegate=no", SERVICE, false),
            ("OOMPolicy=continue", "OOMPolicy=stop", SERVICE, false),
            ("NeedDaemonReload=no", "NeedDaemonReload=yes", SERVICE, false),
        ] {
            let shown = SOUND.replace(sound, changed).replace("DropInPaths=", "DropInPaths=/x/override.conf");
            let found = amiss(&parse(&shown));
            assert_eq!(found.len(), 1, "{changed}: {found:?}");
            assert_eq!((found[0].name.as_str(), found[0].status == Status::Problem), (unit, is_problem));
            assert!(
                !found[0].detail.contains("KillMode")
                    || found[0].hint.as_ref().is_some_and(|hint| hint.contains("/x/override.conf"))
            );
        }
    }

    #[test]
    fn lingering_is_a_file_with_the_users_name() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ada"), "").expect("can be written");
        let of = |user| lingers_by_file(directory.path(), user);
        assert_eq!((of("ada"), of("eve"), of("")), (Some(true), Some(false), Some(false)));
        assert_eq!(lingers_by_file(&directory.path().join("ada"), "ada"), None);
    }
}
