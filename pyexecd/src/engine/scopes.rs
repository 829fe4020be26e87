//! A control group of its own for each job: a transient scope, which the user's service manager makes when it is asked.
//!
//! In one, a job is out of reach of whatever is done to the unit, or to the login session, that the daemon runs in, and the
//! kernel can hold all its processes to a limit. It is asked for while the supervisor waits for its job, so that no job
//! waits. Where no manager answers, jobs stay where the daemon is.
//!
//! The connection to the bus is kept, and listens to nothing but the answers to what is asked: an idle daemon is not woken.
//! Nothing tries to get a lost one back before the next supervisor is to be put into a scope.

use std::num::NonZeroUsize;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use pyexec_proto::daemon::JobScopes;
use pyexec_proto::sanitize::one_line;
use pyexec_proto::{JobId, JobSpec};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::message::{Flags, Type};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, Variant};

use pyexec_run_directory::processes::Process;

/// How long the manager may take over one request: so long a job waits at most, and only if it comes that early. An answer
/// usually takes a few milliseconds.
const LIMIT: Duration = Duration::from_secs(1);

/// For how long a manager that has not answered in time is left alone.
const REST: Duration = Duration::from_secs(300);

/// All jobs together, so that whoever wants to can bound them (`systemctl --user set-property app-pyexec.slice …`).
const SLICE: &str = "app-pyexec.slice";

const BUS: &str = "org.freedesktop.DBus";
const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

#[derive(Debug)]
pub struct Scopes {
    wanted: bool,
    bus: Option<String>,
    manager: Mutex<Option<Manager>>,
    known: StdMutex<Known>,
}

#[derive(Debug)]
struct Known {
    standing: JobScopes,
    /// Nobody is asked before.
    rests_until: Option<Instant>,
}

/// The user's service manager, as it is reached over the bus.
#[derive(Clone, Debug)]
struct Manager {
    connection: Connection,
    /// Its unique name: no bus starts anything when that is called, and a successor of the manager has another.
    name: OwnedUniqueName,
}

/// The scope that a supervisor is in, alone.
#[derive(Clone, Debug)]
pub struct Scope {
    manager: Manager,
    unit: String,
}

/// A scope that has been asked for.
#[derive(Debug)]
pub struct Pending(watch::Receiver<Answer>);

#[derive(Clone, Debug)]
enum Answer {
    Open,
    Without,
    Given(Scope),
}

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
enum NoScope {
    #[error("no bus of the user is known (DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR)")]
    NoBus,
    #[error("`{address}` is no socket of a bus: {why}")]
    Address { address: String, why: String },
    #[error("the user's bus at {address} can not be reached: {source}")]
    Unreachable { address: String, source: std::io::Error },
    #[error("the user's bus is outside of this container")]
    Outside,
    #[error("the user's service manager does not answer on the bus: {0}")]
    Bus(zbus::Error),
    #[error("the user's service manager refused: {0}")]
    Refused(zbus::Error),
    #[error("the user's service manager could not make a scope: its job is `{result}`")]
    Failed { result: String },
    #[error("the user's service manager did not answer within {} ms", LIMIT.as_millis())]
    Late,
}

impl Pending {
    /// Once the request has been answered, or given up.
    pub async fn settled(mut self) -> Option<Scope> {
        match self.0.wait_for(|answer| !matches!(answer, Answer::Open)).await.as_deref() {
            Ok(Answer::Given(scope)) => Some(scope.clone()),
            Ok(Answer::Open | Answer::Without) | Err(_) => None,
        }
    }

    /// It has been answered, and there is none.
    pub fn is_without(&self) -> bool {
        matches!(*self.0.borrow(), Answer::Without)
    }
}

impl Scopes {
    pub fn new(wanted: bool, bus: Option<String>) -> Self {
        let standing = if wanted { JobScopes::Asked } else { JobScopes::SwitchedOff };
        let known = StdMutex::new(Known { standing, rests_until: None });
        Self { wanted, bus, manager: Mutex::default(), known }
    }

    pub fn standing(&self) -> JobScopes {
        self.known.lock().expect("nothing panics while it is held").standing.clone()
    }

    /// Asks, in the background, for a scope with this process in it, which has no children yet.
    pub fn ask(self: &Arc<Self>, pid: Option<u32>) -> Pending {
        let process = pid.filter(|_| self.wanted && !self.rests()).and_then(Process::find);
        let Some(process) = process else { return Pending(watch::channel(Answer::Without).1) };
        let (answer, pending) = watch::channel(Answer::Open);
        let this = self.clone();
        tokio::spawn(async move {
            let asked = timeout(LIMIT, this.request(&process)).await.unwrap_or(Err(NoScope::Late));
            answer.send_replace(match asked {
                Ok(scope) => {
                    this.note(JobScopes::Given);
                    Answer::Given(scope)
                }
                Err(error) => {
                    this.note_failure(&error);
                    Answer::Without
                }
            });
        });
        Pending(pending)
    }

    /// Makes a scope that of this job: it says so, and holds the job to its memory limit. Whether it does the latter.
    pub async fn dedicate(&self, scope: &Scope, spec: &JobSpec, id: JobId) -> bool {
        let description = describe(id, spec.label.as_deref());
        let mut properties: Properties<'_> = vec![("Description", description.as_str().into())];
        let done = match spec.limits.memory_bytes {
            Some(limit) => {
                properties.push(("MemoryMax", memory_max(limit).into()));
                // Pages beyond the limit are not to be had elsewhere either.
                properties.push(("MemorySwapMax", 0u64.into()));
                timeout(LIMIT, scope.set(properties)).await
            }
            // Nobody waits for what is said to people only.
            None => timeout(LIMIT, scope.tell(properties)).await,
        };
        match done {
            Ok(Ok(())) => return spec.limits.memory_bytes.is_some(),
            // A memory limit is watched, too.
            Ok(Err(error)) => tracing::info!(job = %id, %error, "its scope could not be told whose it is"),
            Err(_) => self.note_failure(&NoScope::Late),
        }
        false
    }

    async fn request(&self, process: &Process) -> Result<Scope, NoScope> {
        let kept = self.manager.lock().await.clone();
        if let Some(manager) = kept {
            match manager.make_scope(process).await {
                // The bus or the manager may be another by now.
                Err(NoScope::Bus(error)) => tracing::debug!(%error, "the connection to the user's bus is over"),
                answered => return answered,
            }
        }
        let manager = {
            let mut kept = self.manager.lock().await;
            // Dropped first: what is no good is not to be found here by the next one should this fail.
            *kept = None;
            kept.insert(Manager::find(self.bus.as_deref().ok_or(NoScope::NoBus)?).await?).clone()
        };
        manager.make_scope(process).await
    }

    fn rests(&self) -> bool {
        let until = self.known.lock().expect("nothing panics while it is held").rests_until;
        until.is_some_and(|until| Instant::now() < until)
    }

    fn note_failure(&self, error: &NoScope) {
        let late = matches!(error, NoScope::Late);
        self.known.lock().expect("nothing panics while it is held").rests_until = late.then(|| Instant::now() + REST);
        if late && let Ok(mut kept) = self.manager.try_lock() {
            // An answer that comes late belongs to nobody. Whoever is using the connection now will find out himself.
            *kept = None;
        }
        self.note(JobScopes::Without { why: error.to_string() });
    }

    /// Said once, until it changes.
    fn note(&self, standing: JobScopes) {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        if known.standing == standing {
            return;
        }
        match &standing {
            JobScopes::Without { why } if known.rests_until.is_some() => {
                tracing::warn!(%why, "jobs get no scope of their own; it is tried again in {} s", REST.as_secs());
            }
            JobScopes::Without { why } => tracing::info!(%why, "jobs get no scope of their own"),
            JobScopes::Given => {
                known.rests_until = None;
                tracing::info!("each job gets a scope of its own");
            }
            JobScopes::Asked | JobScopes::SwitchedOff => {}
        }
        known.standing = standing;
    }
}

impl Manager {
    async fn find(bus: &str) -> Result<Self, NoScope> {
        let stream = connect(bus).await?;
        // Pids are numbers, and mean other processes to somebody who sees others: the kernel has no number for such a peer.
        if !matches!(stream.peer_cred().map(|peer| peer.pid()), Ok(Some(1..))) {
            return Err(NoScope::Outside);
        }
        let stream = stream.into_std().map_err(|error| NoScope::Bus(error.into()))?;
        let connection = zbus::connection::Builder::unix_stream(stream).build().await.map_err(NoScope::Bus)?;
        let path = "/org/freedesktop/DBus";
        let owner = connection.call_method(Some(BUS), path, Some(BUS), "GetNameOwner", &MANAGER).await;
        let name = owner.and_then(|reply| reply.body().deserialize()).map_err(NoScope::Bus)?;
        Ok(Self { connection, name })
    }

    async fn make_scope(&self, process: &Process) -> Result<Scope, NoScope> {
        // Two processes that have the same pid, one after the other, are told apart.
        let unit = format!("pyexec-{}-{}.scope", process.pid, process.started);
        let properties: Properties<'_> = vec![
            ("Description", "pyexec: waits for the next job".into()),
            ("PIDs", vec![process.pid].into()),
            ("Slice", SLICE.into()),
            // A job may make control groups below its own, as rootless containers do. It also makes `continue` of the
            // scope's OOMPolicy: a process that the kernel ends is the job's to deal with.
            ("Delegate", true.into()),
            // Nothing to `reset-failed` is left of a job that had to be killed.
            ("CollectMode", "inactive-or-failed".into()),
        ];
        let none: Vec<(&str, Properties<'_>)> = Vec::new();
        // What has been put into the queue is done when the manager says so; of this unit only, or every start and stop of
        // anything would wake this daemon.
        let removed = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(&self.name)
            .path(MANAGER_PATH)
            .interface(MANAGER_INTERFACE)
            .member("JobRemoved")
            .arg(2, unit.as_str())
            .build()
            .map_err(NoScope::Bus)?;
        let some = NonZeroUsize::new(4);
        let mut removed = MessageStream::for_match_rule(removed, &self.connection, some).await.map_err(NoScope::of)?;
        let reply = self.call("StartTransientUnit", &(unit.as_str(), "fail", properties, none)).await?;
        let job: OwnedObjectPath = reply.body().deserialize().map_err(NoScope::Bus)?;
        while let Some(signal) = removed.next().await {
            let body = signal.map_err(NoScope::Bus)?.body();
            let (_, ended, _, result): (u32, OwnedObjectPath, &str, &str) = body.deserialize().map_err(NoScope::Bus)?;
            if ended == job {
                return match result {
                    "done" => Ok(Scope { manager: self.clone(), unit }),
                    result => Err(NoScope::Failed { result: result.to_owned() }),
                };
            }
        }
        Err(NoScope::Bus(zbus::Error::InvalidReply))
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<Message, NoScope>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let interface = Some(MANAGER_INTERFACE);
        let called = self.connection.call_method(Some(&self.name), MANAGER_PATH, interface, method, body).await;
        called.map_err(NoScope::of)
    }
}

impl NoScope {
    /// Whether it was the manager that said no, or nobody was there to.
    fn of(error: zbus::Error) -> Self {
        use zbus::fdo::Error as Said;
        let answered = matches!(&error, zbus::Error::MethodError(..) | zbus::Error::FDO(_));
        let by_the_bus = matches!(&error, zbus::Error::FDO(said)
            if matches!(**said, Said::ServiceUnknown(_) | Said::NameHasNoOwner(_) | Said::NoReply(_) | Said::Disconnected(_)));
        if answered && !by_the_bus { NoScope::Refused(error) } else { NoScope::Bus(error) }
    }
}

impl Scope {
    async fn set(&self, properties: Properties<'_>) -> Result<(), NoScope> {
        self.manager.call("SetUnitProperties", &(self.unit.as_str(), true, properties)).await.map(drop)
    }

    /// The same, and nobody hears whether it was done.
    async fn tell(&self, properties: Properties<'_>) -> Result<(), NoScope> {
        let call = Message::method_call(MANAGER_PATH, "SetUnitProperties")
            .destination(&self.manager.name)
            .interface(MANAGER_INTERFACE)
            .with_flags(Flags::NO_REPLY_EXPECTED)
            .build(&(self.unit.as_str(), true, properties))
            .map_err(NoScope::Bus)?;
        self.manager.connection.send(&call).await.map_err(NoScope::Bus)
    }
}

/// To the first address of the list that is a Unix socket: a bus elsewhere is not this machine's.
async fn connect(bus: &str) -> Result<UnixStream, NoScope> {
    let no_address = |why: &str| NoScope::Address { address: bus.to_owned(), why: why.to_owned() };
    let unix = bus.split(';').find(|address| address.starts_with("unix:"));
    let unix = unix.ok_or_else(|| no_address("a Unix socket is expected"))?;
    let address = zbus::Address::try_from(unix).map_err(|error| no_address(&error.to_string()))?;
    let Transport::Unix(socket) = address.transport() else { return Err(no_address("a Unix socket is expected")) };
    let unreachable = |source| NoScope::Unreachable { address: unix.to_owned(), source };
    if let UnixSocket::File(path) = socket.path() {
        return UnixStream::connect(path).await.map_err(unreachable);
    }
    let UnixSocket::Abstract(name) = socket.path() else {
        return Err(no_address("a path or an abstract name is expected"));
    };
    let stream = SocketAddr::from_abstract_name(name.as_bytes())
        .and_then(|address| StdStream::connect_addr(&address))
        .and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
    stream.and_then(UnixStream::from_std).map_err(unreachable)
}

/// For `systemctl --user status`. Made harmless: it becomes a line of a file that the manager reads.
fn describe(id: JobId, label: Option<&str>) -> String {
    match label {
        Some(label) => format!("pyexec job {id}: {}", one_line(label)),
        None => format!("pyexec job {id}"),
    }
}

/// The kernel's limit is behind the supervisor's, which looks: it is for what grows between two looks, and counts more, page
/// tables, pipes and files in a tmpfs, and the supervisor itself.
fn memory_max(limit: u64) -> u64 {
    const ROOM: u64 = 64 << 20;
    limit.saturating_add(limit / 8).saturating_add(ROOM)
}
