//! Plays the part of the user's bus and of the service manager on it: none runs on a machine that builds.
//!
//! It speaks to each client alone, and answers what a client of ours asks of either. Where a control group can be made, it
//! moves processes into scopes as the real one does; elsewhere it only says that it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use zbus::message::{Flags, Type};
use zbus::{Connection, Guid, Message, ObjectPath, OwnedVariant};

use crate::sandbox::Sandbox;

const OWN_NAME: &str = ":1.1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// How it takes what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Obliging,
    /// Makes no scopes, and says so.
    Refusing,
    /// Takes the request for a scope, and never answers.
    Silent,
    /// Makes scopes, and never answers to what is to be set.
    SilentLater,
    /// Makes scopes, which then fail.
    Failing,
}

/// What it was asked to do.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Start { unit: String, mode: String, pids: Vec<u32>, properties: BTreeMap<String, OwnedVariant> },
    Set { unit: String, runtime: bool, properties: BTreeMap<String, OwnedVariant> },
}

#[derive(Debug)]
pub(crate) struct UserManager {
    socket: PathBuf,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    asked: Mutex<Vec<Asked>>,
    matches: Mutex<Vec<String>>,
    /// What it was asked and could make nothing of.
    problems: Mutex<Vec<String>>,
    /// Written when a memory limit has been set and the job not been started, before that is answered.
    limited: PathBuf,
    groups: Option<PathBuf>,
}

impl UserManager {
    /// Together with a sandbox, in which it is the user's. The sandbox has to go first: no process may be left in a group.
    pub(crate) fn with_sandbox(mood: Mood) -> (Self, Sandbox) {
        let sandbox = Sandbox::new();
        let groups = unified_hierarchy().map(|mount| mount.join(sandbox.root().file_name().expect("has a name")));
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            asked: Mutex::default(),
            matches: Mutex::default(),
            problems: Mutex::default(),
            limited: sandbox.file("limited"),
            groups: groups.filter(|directory| std::fs::create_dir(directory).is_ok()),
        });
        let mut this = Self { socket: sandbox.root().join("run/bus"), shared, running: None };
        this.start();
        (this, sandbox)
    }

    pub(crate) fn start(&mut self) {
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).expect("can be bound");
        listener.set_nonblocking(true).expect("can be set");
        let (stop, stopped) = oneshot::channel();
        let shared = self.shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("can be made");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(UnixListener::from_std(listener).expect("can be watched"), shared) => {}
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }

    /// The bus is gone, with every connection to it, when this returns.
    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("has not panicked");
            // With the sandbox it has gone already.
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock().expect("nothing panics") = mood;
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("nothing panics").clone()
    }

    /// The units that were to be started.
    pub(crate) fn units(&self) -> Vec<String> {
        let unit = |asked| match asked {
            Asked::Start { unit, .. } => Some(unit),
            Asked::Set { .. } => None,
        };
        self.asked().into_iter().filter_map(unit).collect()
    }

    /// How a unit is described now.
    pub(crate) fn description(&self, wanted: &str) -> Option<String> {
        let described = |asked: &Asked| match asked {
            Asked::Start { unit, properties, .. } | Asked::Set { unit, properties, .. } => {
                (unit == wanted).then(|| text(properties.get("Description")?)).flatten()
            }
        };
        self.asked().iter().rev().find_map(described)
    }

    /// What clients want to hear of the bus.
    pub(crate) fn matches(&self) -> Vec<String> {
        self.shared.matches.lock().expect("nothing panics").clone()
    }

    /// Processes are really moved.
    pub(crate) fn has_groups(&self) -> bool {
        self.shared.groups.is_some()
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whatever has gone wrong there is not to hide what is being reported.
            drop(self.running.take());
        } else {
            self.stop();
            let problems = self.shared.problems.lock().expect("nothing panics");
            // A client that has gone is not there to be answered.
            let problems: Vec<&String> = problems.iter().filter(|problem| !problem.contains("I/O error")).collect();
            assert!(problems.is_empty(), "{problems:?}");
        }
        let Some(groups) = &self.shared.groups else { return };
        let deadline = Instant::now() + Duration::from_secs(30);
        let scopes = || std::fs::read_dir(groups).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        // A process that has ended leaves its group a moment later.
        while scopes().any(|scope| std::fs::remove_dir(scope.path()).is_err()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let removed = std::fs::remove_dir(groups);
        assert!(removed.is_ok() || std::thread::panicking(), "{} is not empty: {removed:?}", groups.display());
    }
}

pub(crate) fn text(value: &OwnedVariant) -> Option<String> {
    value.downcast_ref::<&str>().ok().map(str::to_owned)
}

fn unified_hierarchy() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    Some(Path::new(line.split(' ').nth(4)?).to_owned())
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream.into_std().expect("is a socket"), shared.clone()));
    }
}

async fn converse(stream: std::os::unix::net::UnixStream, shared: Arc<Shared>) {
    let builder = zbus::connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
    let mut messages = builder.build_message_stream().await.expect("the client knows how to begin");
    let connection: Connection = (&messages).into();
    while let Some(Ok(message)) = messages.next().await {
        if message.message_type() == Type::MethodCall
            && let Err(error) = answer(&connection, &message, &shared).await
        {
            shared.problems.lock().expect("nothing panics").push(format!("{message:?}: {error}"));
        }
    }
}

async fn answer(connection: &Connection, call: &Message, shared: &Shared) -> zbus::Result<()> {
    let header = call.header();
    let body = call.body();
    let mood = *shared.mood.lock().expect("nothing panics");
    match header.member().map(|member| member.as_str()) {
        Some("Hello") => connection.reply(&header, &":1.7").await,
        Some("GetNameOwner") => connection.reply(&header, &OWN_NAME).await,
        Some("AddMatch") => {
            let rule: String = body.deserialize()?;
            shared.matches.lock().expect("nothing panics").push(rule);
            connection.reply(&header, &()).await
        }
        Some("RemoveMatch") => {
            let rule: String = body.deserialize()?;
            shared.matches.lock().expect("nothing panics").retain(|known| *known != rule);
            connection.reply(&header, &()).await
        }
        Some("StartTransientUnit") => {
            type Properties = Vec<(String, OwnedVariant)>;
            let (unit, mode, properties, _): (String, String, Properties, Vec<(String, Properties)>) =
                body.deserialize()?;
            let mut properties: BTreeMap<String, OwnedVariant> = properties.into_iter().collect();
            let pids = properties.remove("PIDs").and_then(|pids| Vec::<u32>::try_from(pids).ok()).unwrap_or_default();
            shared.note(Asked::Start { unit: unit.clone(), mode, pids: pids.clone(), properties });
            let result = match mood {
                Mood::Silent => return Ok(()),
                Mood::Refusing => {
                    let name = "org.freedesktop.DBus.Error.AccessDenied";
                    return connection.reply_error(&header, name, &"no scopes here").await;
                }
                Mood::Failing => "failed",
                Mood::Obliging | Mood::SilentLater => {
                    shared.attach(&unit, &pids);
                    "done"
                }
            };
            let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7")?;
            connection.reply(&header, &job).await?;
            let removed = Message::signal(PATH, INTERFACE, "JobRemoved").sender(OWN_NAME);
            connection.send(&removed.build(&(7u32, job, unit.as_str(), result))?).await
        }
        Some("SetUnitProperties") => {
            let (unit, runtime, properties): (String, bool, Vec<(String, OwnedVariant)>) = body.deserialize()?;
            let properties: BTreeMap<String, OwnedVariant> = properties.into_iter().collect();
            if properties.contains_key("MemoryMax") && !has_been_launched(&unit).await {
                std::fs::write(&shared.limited, "").expect("can be written");
            }
            shared.note(Asked::Set { unit, runtime, properties });
            let wants_none = header.primary().flags().contains(Flags::NO_REPLY_EXPECTED);
            if wants_none || mood == Mood::SilentLater { Ok(()) } else { connection.reply(&header, &()).await }
        }
        other => Err(zbus::Error::Failure(format!("nobody of ours calls {other:?}"))),
    }
}

/// Whether the supervisor that the unit is named after takes a job before this is answered. One that does not wait is quick.
async fn has_been_launched(unit: &str) -> bool {
    const LOOKS: u32 = 10;
    let pid = unit.split('-').nth(1).expect("has a pid in its name");
    for _ in 0..LOOKS {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("pyexec-") && name != "pyexec-spare\n" {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

impl Shared {
    fn note(&self, asked: Asked) {
        self.asked.lock().expect("nothing panics").push(asked);
    }

    fn attach(&self, unit: &str, pids: &[u32]) {
        let Some(group) = self.groups.as_ref().map(|groups| groups.join(unit)) else { return };
        std::fs::create_dir(&group).expect("can be made");
        for pid in pids {
            std::fs::write(group.join("cgroup.procs"), pid.to_string()).expect("can be moved");
        }
    }
}
