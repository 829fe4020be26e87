//! `pyexec daemon`: starts, stops and describes the daemon. Jobs are never affected.

mod by_signal;
pub(crate) mod units;

use pyexec_run_directory::directories;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_client::start::process::DaemonProcess;
use pyexec_client::{Client, ClientError, Daemon};
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::error::Error;
use pyexec_proto::paths::Paths;
use pyexec_proto::variables::INSTANCE_VARIABLE;
use pyexec_proto::{OsText, world};
use pyexec_run_directory::lock_file::forget_ended;
use pyexec_run_directory::private::open_lock;
use pyexec_view::DaemonView;
use rustix::fs::FlockOperation;

use crate::args::DaemonVerb;
use crate::exit_code::{self, Code, Failure, SUCCESS};
use crate::machine::Memory;
use crate::{render, terminal};

/// How long a daemon may take to leave: it only has to finish what it is writing.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);
/// How often the socket is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) async fn perform(verb: DaemonVerb) -> Result<Code, Failure> {
    let paths = Paths::from_environment()?;
    match verb {
        DaemonVerb::Start => {
            let already = running(&paths).await?;
            let status = match &already {
                Some(status) => status.clone(),
                None => start(&paths).await?,
            };
            let what = if already.is_some() { "already running" } else { "started" };
            terminal::print(&format!("{what}, pid {}\n", status.pid))?;
        }
        DaemonVerb::Stop => {
            let stopped = stop(&paths).await?;
            // No supervisor is to start the next one for a daemon that did not leave by itself.
            forget_ended(&paths);
            terminal::print(&stopped.map_or_else(|| "not running\n".to_owned(), stop_message))?;
        }
        DaemonVerb::Restart => {
            stop(&paths).await?;
            let status = start(&paths).await?;
            terminal::print(&format!("restarted, pid {}\n", status.pid))?;
        }
        DaemonVerb::Status { json } => return describe(&paths, json).await,
        DaemonVerb::Logs { lines } => print_log(&paths.logs(), lines)?,
        DaemonVerb::Install { linger } => {
            if let Some(instance) = &paths.instance {
                return Err(Failure::Usage {
                    problem: format!(
                        "systemd's units are the default instance's, and {INSTANCE_VARIABLE} is `{instance}`"
                    ),
                    hint: format!(
                        "unset {INSTANCE_VARIABLE}; a daemon of another instance is started when it is needed"
                    ),
                });
            }
            units::place()?;
            // The socket is the manager's from here on; jobs go on.
            stop(&paths).await?;
            units::enable(linger).await?;
        }
        DaemonVerb::Uninstall => units::uninstall().await?,
    }
    Ok(SUCCESS)
}

async fn running(paths: &Paths) -> Result<Option<DaemonStatus>, Failure> {
    let status = match Client::connect(paths.clone(), Daemon::MustRun).await {
        Ok(client) => client.status().await,
        Err(error) => Err(error),
    };
    match status {
        Ok(status) => Ok(Some(status)),
        Err(ClientError::NotRunning) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn start(paths: &Paths) -> Result<DaemonStatus, Failure> {
    Ok(Client::connect(paths.clone(), Daemon::StartIfNone).await?.status().await?)
}

/// A daemon that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    pid: u32,
    /// As it said itself, if it could be asked.
    jobs_running: Option<u64>,
    /// It did not leave by itself.
    by_force: bool,
}

/// Returns when the daemon has gone; `None` when there was none.
async fn stop(paths: &Paths) -> Result<Option<Stopped>, Failure> {
    let (stopped, process) = match ask_to_leave(paths).await {
        Ok(stopped) => (stopped, DaemonProcess::find(stopped.pid)),
        Err(ClientError::NotRunning) => return Ok(None),
        Err(error) if cannot_be_called(&error) => match by_signal::find(paths, &error) {
            Ok(Some(process)) if by_signal::terminate(&process).is_ok() => {
                (Stopped { pid: process.pid(), jobs_running: None, by_force: false }, Some(process))
            }
            // What is wrong with it is of more use than why it could not be ended either.
            Ok(Some(_) | None) | Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if let Ok(gone) = tokio::time::timeout(LEAVE_LIMIT, gone(paths, stopped.pid)).await {
        return gone.map(|()| Some(stopped));
    }
    // Jobs have their own supervisors, and go on.
    match process {
        Some(process) if by_signal::kill(&process).is_ok() => {
            let stopped = Stopped { by_force: true, ..stopped };
            match tokio::time::timeout(LEAVE_LIMIT, gone(paths, stopped.pid)).await {
                Ok(gone) => gone.map(|()| Some(stopped)),
                Err(_) => Err(Failure::DaemonStays { pid: stopped.pid, limit: LEAVE_LIMIT }),
            }
        }
        Some(_) | None => Err(Failure::DaemonStays { pid: stopped.pid, limit: LEAVE_LIMIT }),
    }
}

/// Returns when the daemon that had this pid does not run any more.
async fn gone(paths: &Paths, pid: u32) -> Result<(), Failure> {
    tokio::select! {
        free = wait_for_lock(paths.daemon_lock()) => free?,
        // A client that missed it has started the next one, which has the lock before we could.
        () = wait_for_successor(paths, pid) => {}
    }
    wait_until_unreachable(paths, pid).await;
    Ok(())
}

async fn ask_to_leave(paths: &Paths) -> Result<Stopped, ClientError> {
    let client = Client::connect(paths.clone(), Daemon::MustRun).await?;
    let status = client.status().await?;
    match client.shutdown().await {
        // It may have gone before its answer came through.
        Ok(()) | Err(ClientError::NotRunning | ClientError::Refused(Error::ShuttingDown)) => {}
        Err(error) => return Err(error),
    }
    Ok(Stopped { pid: status.pid, jobs_running: Some(status.jobs_running), by_force: false })
}

/// Whether something listens that can not be asked anything, but may well be a daemon.
fn cannot_be_called(error: &ClientError) -> bool {
    match error {
        ClientError::Preamble { .. }
        | ClientError::Version { .. }
        | ClientError::Unresponsive { .. }
        | ClientError::Late { .. }
        | ClientError::Unanswered { .. }
        | ClientError::Broken { .. } => true,
        ClientError::Refused(_)
        | ClientError::NotRunning
        | ClientError::TooLarge
        | ClientError::Start(_)
        | ClientError::Connect { .. }
        | ClientError::ForeignDaemon { .. }
        | ClientError::OtherState { .. }
        | ClientError::Elsewhere(_)
        | ClientError::NoProc
        | ClientError::ForeignDirectory(_) => false,
    }
}

/// The daemon holds this lock for its whole life: once it can be had, the next one can start.
async fn wait_for_lock(path: PathBuf) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let lock = open_lock(&path).map_err(|source| Failure::DaemonFile { path: path.clone(), source })?;
    // flock has no time limit, and a thread to wait in may not be had. The lock is let go of at once.
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return Err(Failure::DaemonFile { path, source: error.into() }),
        }
    }
}

/// Returns when another daemon answers.
async fn wait_for_successor(paths: &Paths, pid: u32) {
    loop {
        if let Ok(Some(status)) = running(paths).await
            && status.pid != pid
        {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Nothing answers on the socket, or another daemon already does, as under socket activation.
async fn wait_until_unreachable(paths: &Paths, pid: u32) {
    while let Ok(Some(status)) = running(paths).await {
        if status.pid != pid {
            return;
        }
        // The lock is free already, so that only the last instants of a process are left to wait for.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn stop_message(stopped: Stopped) -> String {
    let pid = stopped.pid;
    if stopped.by_force {
        return format!("killed, pid {pid}: it did not exit within {} s; running jobs go on\n", LEAVE_LIMIT.as_secs());
    }
    match stopped.jobs_running {
        Some(0) | None => format!("stopped, pid {pid}\n"),
        Some(1) => format!("stopped, pid {pid}; 1 running job goes on\n"),
        Some(jobs) => format!("stopped, pid {pid}; {jobs} running jobs go on\n"),
    }
}

async fn describe(paths: &Paths, json: bool) -> Result<Code, Failure> {
    let status = running(paths).await?;
    let code = exit_code::of_daemon(status.is_some());
    if json {
        let socket = || OsText::from(paths.socket.as_path()).to_text();
        let view = status.as_ref().map_or_else(|| DaemonView::not_running(socket()), DaemonView::of);
        let memory = Memory::now();
        terminal::print_json(&DaemonView {
            memory_total_bytes: memory.map(|memory| memory.total),
            memory_available_bytes: memory.map(|memory| memory.available),
            ..view
        })?;
    } else {
        terminal::print(&status.as_ref().map_or_else(|| "not running\n".to_owned(), |status| text(status, paths)))?;
    }
    Ok(code)
}

fn text(status: &DaemonStatus, paths: &Paths) -> String {
    let mut lines = vec![
        ("running", "yes".to_owned()),
        ("pid", status.pid.to_string()),
        ("version", render::one_line(&status.version).into_owned()),
        ("socket", render::one_line(&status.socket.to_text()).into_owned()),
        ("up for", render::duration(Duration::from_secs(status.uptime_seconds))),
        ("jobs running", status.jobs_running.to_string()),
        ("jobs pending", status.jobs_pending.to_string()),
        ("memory", render::size(status.rss_bytes)),
    ];
    if let Some(Memory { total, available }) = Memory::now() {
        lines.push(("machine", format!("{} of {} memory available", render::size(available), render::size(total))));
    }
    if let Some(instance) = &status.instance {
        lines.insert(1, ("instance", render::one_line(instance).into_owned()));
    }
    let world = &status.world;
    let namespaces = [&world.network_namespace, &world.mount_namespace, &world.pid_namespace, &world.user_namespace];
    let namespaces: Vec<&str> = namespaces.into_iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    lines.push(("namespaces", render::one_line(&namespaces.join(" ")).into_owned()));
    lines.push(("root", render::one_line(&world.root_directory).into_owned()));
    lines.push(("group", world.group.to_string()));
    lines.push(("other groups", world::listed(&world.groups)));
    if let Some(refused) = &status.for_you.refused {
        lines.push(("from here", format!("jobs are refused: {}", render::one_line(&refused.to_string()))));
    }
    if let Some(problem) = &status.index_problem {
        lines.push(("index", format!("held in memory until the file can be used: {}", render::one_line(problem))));
    }
    lines.extend(status.directories.differences(&directories::of(paths)).map(|(name, _, theirs, ours)| {
        (
            name,
            format!(
                "{}; yours is {}",
                render::one_line(&theirs.path.to_text()),
                render::one_line(&ours.path.to_text())
            ),
        )
    }));
    render::aligned(&lines)
}

fn print_log(directory: &Path, lines: usize) -> Result<(), Failure> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::DaemonFile { path, source }
    };
    let newest = match newest_log(directory) {
        Ok(Some(newest)) => newest,
        Ok(None) => return Err(Failure::NoDaemonLog { directory: directory.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::NoDaemonLog { directory: directory.to_owned() });
        }
        Err(source) => return Err(Failure::DaemonFile { path: directory.to_owned(), source }),
    };
    let mut file = File::open(&newest).map_err(unreadable(&newest))?;
    let start = last_lines(&mut file, lines).map_err(unreadable(&newest))?;
    file.seek(SeekFrom::Start(start)).map_err(unreadable(&newest))?;
    let mut stdout = io::stdout().lock();
    io::copy(&mut file, &mut stdout).and_then(|_| stdout.flush()).map_err(Failure::Output)
}

/// By name, which carries the day.
fn newest_log(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let is_log = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"pyexecd"));
        if is_log && newest.as_ref().is_none_or(|newest| path > *newest) {
            newest = Some(path);
        }
    }
    Ok(newest)
}

/// The offset at which the last `lines` lines begin. Reads backwards: a log may be large.
fn last_lines(file: &mut (impl Read + Seek), lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let next_line = start + at as u64 + 1;
            // The newline that ends the file begins no line.
            if next_line == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(next_line);
            }
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let cases = [
            ("", 3, ""),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\n\n\n", 2, "\n\n"),
            ("a\nb\n", 0, ""),
        ];
        for (text, lines, expected) in cases {
            let start = last_lines(&mut Cursor::new(text), lines).expect("memory can be read");
            let start = usize::try_from(start).expect("is small");
            assert_eq!(&text[start..], expected, "the last {lines} of {text:?}");
        }
    }

    #[test]
    fn the_last_lines_may_be_longer_than_a_block() {
        let text = format!("first\n{}\n{}\n", "x".repeat(100_000), "y".repeat(100_000));
        let start = last_lines(&mut Cursor::new(&text), 2).expect("memory can be read");
        assert_eq!(start, 6);
    }

    #[test]
    fn the_log_of_the_latest_day_is_the_newest() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(newest_log(directory.path()).expect("can be read"), None);
        for name in ["pyexecd.2026-07-28.log", "pyexecd.2026-08-01.log", "zzz.log"] {
            File::create(directory.path().join(name)).expect("can be made");
        }
        let newest = newest_log(directory.path()).expect("can be read");
        assert_eq!(newest, Some(directory.path().join("pyexecd.2026-08-01.log")));
    }

    #[test]
    fn stopping_says_that_jobs_go_on() {
        let with = |jobs_running| stop_message(Stopped { pid: 7, jobs_running, by_force: false });
        assert_eq!(with(Some(2)), "stopped, pid 7; 2 running jobs go on\n");
        assert_eq!(with(Some(0)), "stopped, pid 7\n");
        assert_eq!(with(None), "stopped, pid 7\n");
        let killed = stop_message(Stopped { pid: 7, jobs_running: None, by_force: true });
        assert!(killed.starts_with("killed, pid 7: ") && killed.ends_with("go on\n"), "{killed}");
    }

    #[tokio::test]
    async fn a_lock_that_nobody_holds_or_that_is_not_there_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("daemon.lock");
        wait_for_lock(path.clone()).await.expect("nothing to wait for");
        File::create(&path).expect("can be made");
        wait_for_lock(path).await.expect("nobody holds it");
    }
}
