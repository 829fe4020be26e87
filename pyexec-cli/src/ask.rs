//! Programs that are asked something, and given a time to answer.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pyexec_client::start::is_executable;
use pyexec_client::start::orphans::own_child;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// For a program that only has to say something about itself.
pub(crate) const SHORT: Duration = Duration::from_secs(5);
/// For one that has to look around.
pub(crate) const LONG: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    #[error("cannot be run: {0}")]
    NotRun(#[from] io::Error),
    #[error("did not answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("failed: {0}")]
    Failed(String),
}

/// What the program prints. It, and what it has started, is gone when this returns.
pub(crate) async fn ask(program: impl AsRef<OsStr>, arguments: &[&str], limit: Duration) -> Result<String, Silence> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").process_group(0).kill_on_drop(true);
    let _own_child = own_child();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let _group = child.id().map(Group);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = async {
        let (printed, said) = tokio::join!(read(stdout), read(stderr));
        Ok::<_, io::Error>((child.wait().await?, printed, said))
    };
    let (status, printed, said) = tokio::time::timeout(limit, answer).await.map_err(|_| Silence::Late(limit))??;
    if status.success() {
        return Ok(printed);
    }
    let said = said.trim();
    Err(Silence::Failed(if said.is_empty() { status.to_string() } else { said.to_owned() }))
}

/// As much of it as anybody would read.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    const MOST: u64 = 4 << 20;
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(MOST).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends a process group when dropped; after its leader has been reaped there may be none.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The first of this name on `PATH` that can be executed.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| is_executable(file))
}

/// The numbers of the first word that looks like a version: `uv 0.9.1 (abc)`, `Python 3.13.0rc1`.
pub(crate) fn version_in(text: &str) -> Option<(String, Vec<u32>)> {
    let word = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((word.to_owned(), word.split('.').map_while(digits).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, word, numbers) in [
            ("uv 0.9.1 (abc 2025-01-01)\n", "0.9.1", &[0, 9, 1][..]),
            ("Python 3.13.0rc1", "3.13.0rc1", &[3, 13, 0]),
            ("pyexecd 1.2", "1.2", &[1, 2]),
        ] {
            assert_eq!(version_in(text), Some((word.to_owned(), numbers.to_vec())));
        }
        assert_eq!(version_in("no idea"), None);
    }

    #[tokio::test]
    async fn a_program_that_does_not_answer_is_ended_with_what_it_has_started() {
        let limit = Duration::from_millis(50);
        let silence = ask("/bin/sh", &["-c", "sleep 600 & sleep 600"], limit).await.expect_err("sleeps");
        assert_eq!(silence.to_string(), "did not answer within 0 s");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let silence = ask("/bin/sh", &["-c", "echo no >&2; exit 3"], SHORT).await.expect_err("fails");
        assert_eq!(silence.to_string(), "failed: no");
        let silence = ask("/nowhere/at/all", &[], SHORT).await.expect_err("is not there");
        assert!(silence.to_string().starts_with("cannot be run: "), "{silence}");
        assert_eq!(ask("/bin/sh", &["-c", "echo yes"], SHORT).await.expect("answers"), "yes\n");
    }
}
