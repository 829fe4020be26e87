//! `pyexec daemon install | uninstall`: the systemd units of the user, as they lie in `systemd/` of the repository.

use std::io;
use std::path::{Path, PathBuf};

use pyexec_client::start::find_program;

use crate::ask::{self, Silence, ask};
use crate::exit_code::{Failure, VerbError};
use crate::{render, terminal};

const SOCKET: (&str, &str) = ("pyexecd.socket", include_str!("../../../../systemd/pyexecd.socket"));
const SERVICE: (&str, &str) = ("pyexecd.service", include_str!("../../../../systemd/pyexecd.service"));
/// What the service of the repository starts; here it is the daemon that was found.
const PLACEHOLDER: &str = "%h/.cargo/bin/pyexecd";
/// Begins the description of units that are ours to change and to remove.
const OURS: &str = "Description=pyexec daemon";

/// Why units are not as they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitsError {
    #[error("cannot find `pyexecd` beside this program or on PATH")]
    NoDaemon,
    #[error("cannot install the units: no home directory is known")]
    NoPlace,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} already exists and was not written by pyexec", path.display())]
    Foreign { path: PathBuf },
    #[error("`{command}` {silence}")]
    Systemd { command: String, silence: Silence },
}

impl VerbError for UnitsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            UnitsError::NoDaemon => "install it, for example with `cargo install --path pyexecd`".into(),
            UnitsError::NoPlace => "set HOME, or XDG_CONFIG_HOME".into(),
            UnitsError::Write { .. } => "look at the directory's permissions, and at the room on its disk".into(),
            UnitsError::Foreign { .. } => "move it away first, if nobody needs it".into(),
            UnitsError::Systemd { .. } => {
                "the units are in their place; where no user manager answers, they take effect when one does".into()
            }
        })
    }
}

/// How the units that lie there compare with those that this version would place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    No,
    AsPlaced,
    /// These files differ, or are missing.
    Otherwise(Vec<PathBuf>),
}

/// Only looks.
pub(crate) fn installed() -> Installed {
    match (directory(), find_program()) {
        (Ok(directory), Some(program)) => compare(&directory, &program),
        (Ok(_) | Err(_), _) => Installed::No,
    }
}

fn compare(directory: &Path, program: &Path) -> Installed {
    let expected = [(directory.join(SOCKET.0), SOCKET.1.to_owned()), (directory.join(SERVICE.0), service(program))];
    if !expected.iter().any(|(path, _)| path.exists()) {
        return Installed::No;
    }
    let differs = |(path, text): &(PathBuf, String)| !std::fs::read_to_string(path).is_ok_and(|there| there == *text);
    let others: Vec<PathBuf> = expected.into_iter().filter(differs).map(|(path, _)| path).collect();
    if others.is_empty() { Installed::AsPlaced } else { Installed::Otherwise(others) }
}

/// Writes the units. Nothing knows of them yet.
pub(super) fn place() -> Result<(), Failure> {
    let program = find_program().ok_or(UnitsError::NoDaemon)?;
    let directory = directory()?;
    std::fs::create_dir_all(&directory).map_err(|source| UnitsError::Write { path: directory.clone(), source })?;
    for (name, text) in [(SOCKET.0, SOCKET.1.to_owned()), (SERVICE.0, service(&program))] {
        let path = directory.join(name);
        let what = if write(&path, &text)? { "wrote" } else { "unchanged:" };
        terminal::print(&format!("{what} {}\n", render::one_line(&path.to_string_lossy())))?;
    }
    Ok(())
}

/// Has the user's manager listen in the daemon's place; it starts the daemon when somebody calls.
pub(super) async fn enable(linger: bool) -> Result<(), Failure> {
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["enable", "--now", SOCKET.0]).await?;
    terminal::print("the user manager listens for the daemon, and starts it when it is called\n")?;
    if linger {
        run("loginctl", &["enable-linger"]).await?;
        terminal::print("lingering is on: jobs go on when you log out\n")?;
    }
    Ok(())
}

/// Takes the units out again; jobs go on.
pub(super) async fn uninstall() -> Result<(), Failure> {
    let directory = directory()?;
    let installed: Vec<PathBuf> =
        [SOCKET.0, SERVICE.0].map(|name| directory.join(name)).into_iter().filter(|path| path.exists()).collect();
    if installed.is_empty() {
        terminal::print("not installed\n")?;
        return Ok(());
    }
    installed.iter().try_for_each(|path| ours(path))?;
    // First the socket: a daemon that is gone must not be started again by whoever calls meanwhile.
    let disabled = systemctl(&["disable", "--now", SOCKET.0, SERVICE.0]).await;
    for path in &installed {
        std::fs::remove_file(path).map_err(|source| UnitsError::Write { path: path.clone(), source })?;
        terminal::print(&format!("removed {}\n", render::one_line(&path.to_string_lossy())))?;
    }
    disabled?;
    systemctl(&["daemon-reload"]).await?;
    Ok(())
}

/// Where a user's own units lie.
fn directory() -> Result<PathBuf, UnitsError> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    Ok(config.ok_or(UnitsError::NoPlace)?.join("systemd/user"))
}

fn service(program: &Path) -> String {
    SERVICE.1.replace(PLACEHOLDER, &quoted(&program.to_string_lossy()))
}

/// As a word of a unit's command: specifiers and variables mean nothing in it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@:,".contains(letter);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// `false` when it is there already.
fn write(path: &Path, text: &str) -> Result<bool, UnitsError> {
    let failed = |source| UnitsError::Write { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(false),
        Ok(_) => ours(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let temporary = path.with_extension("pyexec-tmp");
    std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path)).map_err(failed)?;
    Ok(true)
}

fn ours(path: &Path) -> Result<(), UnitsError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.lines().any(|line| line.starts_with(OURS)) => Ok(()),
        Ok(_) => Err(UnitsError::Foreign { path: path.to_owned() }),
        Err(source) => Err(UnitsError::Write { path: path.to_owned(), source }),
    }
}

async fn systemctl(arguments: &[&str]) -> Result<(), UnitsError> {
    run("systemctl", &[&["--user"], arguments].concat()).await
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), UnitsError> {
    let command = || format!("{program} {}", arguments.join(" "));
    let said = ask(program, arguments, ask::LONG).await;
    said.map(drop).map_err(|silence| UnitsError::Systemd { command: command(), silence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_that_was_found_is_what_the_service_starts() {
        for (program, expected) in [
            ("/home/a/.cargo/bin/pyexecd", "ExecStart=/home/a/.cargo/bin/pyexecd\n"),
            ("/home/a b/100%/$x/py\"execd", "ExecStart=\"/home/a b/100%%/$$x/py\\\"execd\"\n"),
        ] {
            let text = service(Path::new(program));
            assert!(text.contains(expected) && !text.contains(PLACEHOLDER), "{text}");
        }
        assert!(SOCKET.1.contains(OURS) && SERVICE.1.contains(OURS));
    }

    #[test]
    fn units_of_another_version_are_told_from_those_of_this_one() {
        let home = tempfile::tempdir().expect("a directory");
        let program = Path::new("/opt/pyexecd");
        assert_eq!(compare(home.path(), program), Installed::No);
        let [socket, unit] = [SOCKET.0, SERVICE.0].map(|name| home.path().join(name));
        std::fs::write(&socket, SOCKET.1).expect("can be written");
        assert_eq!(compare(home.path(), program), Installed::Otherwise(vec![unit.clone()]));
        std::fs::write(&unit, service(program)).expect("can be written");
        assert_eq!(compare(home.path(), program), Installed::AsPlaced);
        assert_eq!(compare(home.path(), Path::new("/usr/bin/pyexecd")), Installed::Otherwise(vec![unit]));
    }

    #[test]
    fn what_is_not_ours_is_neither_changed_nor_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("pyexecd.service");
        assert!(write(&path, SERVICE.1).expect("can be written"));
        assert!(!write(&path, SERVICE.1).expect("is there"));
        std::fs::write(&path, SERVICE.1.replace("always", "no")).expect("can be written");
        assert!(write(&path, SERVICE.1).expect("is ours"));
        std::fs::write(&path, "[Unit]\nDescription=mine\n").expect("can be written");
        assert!(matches!(write(&path, SERVICE.1), Err(UnitsError::Foreign { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "[Unit]\nDescription=mine\n");
    }
}
