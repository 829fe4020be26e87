//! Files, directories and programs that a client names: the only place of the daemon that touches them.
//!
//! Such a path can be a pipe, a device or a file without an end, and it can lie on a file system that never answers. The
//! daemon therefore asks processes of its own ([`looker`]), which open regular files only, and read them up to a bound. One
//! that is held up is ended as soon as nobody waits for its answer. There are a bounded number of them for each path,
//! however many requests name that path: later ones wait without one.
//!
//! Called by whoever needs to know something of a client's path before or while a job is prepared. What the daemon keeps
//! for itself is not read here: `blocking` and `regular_file` are for that.

mod looker;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyexec_proto::error::Named;
use pyexec_proto::variables::SERVICE_MARK;
use pyexec_proto::{Error, OsText};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::blocking::blocking;
use looker::{Answer, Found, Question, is_not_found};
pub(crate) use looker::{Entry, Kind, VERB, look};
use pyexec_run_directory::control::{decode, encode};

/// How long a client waits for what has to be known before it is answered, all of it together.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A file system that has not answered for so long is not asked for the same path by another looker.
const OVERDUE: Duration = Duration::from_millis(500);

/// How many lookers may be at work at or below one path.
const MOST_OF_A_PATH: usize = 2;

/// How many lookers there may be at all, those included that cannot be ended.
const MOST: usize = 64;

/// How long a question waits for a looker that is at work to have done, before another one is started.
const BUSY: Duration = Duration::from_millis(20);

/// Looks at what clients name.
#[derive(Clone, Debug)]
pub struct ClientFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    permits: Arc<Semaphore>,
    start: Start,
    state: Mutex<State>,
    /// A looker has become idle.
    returned: Notify,
}

#[derive(Debug, Default)]
struct State {
    idle: Option<Looker>,
    /// Lookers that are at work, and expected to have done in a moment.
    busy: usize,
    at_work: Vec<AtWork>,
    numbers: u64,
}

/// What one looker looks at.
#[derive(Debug)]
struct AtWork {
    number: u64,
    path: PathBuf,
    since: Instant,
    /// Closed when it is over.
    over: watch::Receiver<()>,
}

/// Why nothing could be found out about a path, or read from it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("it is a {0}, not a regular file")]
    NotAFile(Kind),
    #[error("it has more than {most} bytes")]
    TooLarge { most: usize },
    #[error("its file system has not answered for {} s", PATIENCE.as_secs_f64())]
    NoAnswer,
    #[error("the process that looks at files cannot be asked: {0}")]
    NoLooker(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Problem {
    /// Why a request is refused that names such a path.
    pub(crate) fn refusal(&self, what: Named, path: &Path) -> Error {
        match self {
            Problem::Io(error) if is_not_found(error) => Error::NotFound { what, path: OsText::from(path) },
            Problem::NoAnswer => Error::Environment {
                problem: format!("cannot read the {what} {}: {self}", path.display()),
                hint: self.hint().to_owned(),
            },
            Problem::NoLooker(_) => {
                Error::Storage { doing: format!("read the {what} {}", path.display()), problem: self.to_string() }
            }
            Problem::NotAFile(_) | Problem::TooLarge { .. } | Problem::Io(_) => Error::InvalidArgument {
                what: what.to_string(),
                given: path.display().to_string(),
                problem: self.to_string(),
                hint: self.hint().to_owned(),
            },
        }
    }

    /// What a user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Problem::NotAFile(_) => "name a regular file; the content of anything else can be copied into one",
            Problem::TooLarge { .. } => "name a smaller file",
            Problem::NoAnswer => "check that the file system it lies on is mounted and answers, then try again",
            Problem::NoLooker(_) => "check how many processes and open files this user may have, then try again",
            Problem::Io(_) => "check the path and its permissions",
        }
    }
}

impl From<Problem> for io::Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Io(error) => error,
            Problem::NotAFile(_) | Problem::TooLarge { .. } | Problem::NoAnswer | Problem::NoLooker(_) => {
                io::Error::other(problem)
            }
        }
    }
}

/// Until when a client is to be answered that has just asked.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(tokio::time::Instant);

impl Deadline {
    pub(crate) fn of_now() -> Self {
        Self(tokio::time::Instant::now() + PATIENCE)
    }

    /// What comes of looking, or [`Problem::NoAnswer`] when it takes too long for a client that waits.
    pub(crate) async fn bounds<T>(self, looking: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        tokio::time::timeout_at(self.0, looking).await.unwrap_or(Err(Problem::NoAnswer))
    }
}

impl ClientFiles {
    /// Of the daemon with this state directory.
    pub fn new(state: &Path) -> Self {
        Self::with(Start::Process { state: state.to_owned() })
    }

    /// For tests of modules, whose program is none of ours.
    #[cfg(test)]
    pub(crate) fn in_threads() -> Self {
        Self::with(Start::Thread(|daemon| drop(looker::serve(daemon))))
    }

    fn with(start: Start) -> Self {
        let permits = Arc::new(Semaphore::new(MOST));
        Self(Arc::new(Shared { permits, start, state: Mutex::default(), returned: Notify::new() }))
    }

    /// Waits for as long as the file system takes; dropping what is asked of it ends the asking.
    pub(crate) fn open(&self) -> Files {
        let Self(shared) = self;
        let (at_work, over) = watch::channel(());
        let mut state = shared.state();
        let number = state.numbers;
        state.numbers += 1;
        state.at_work.push(AtWork { number, path: PathBuf::new(), since: Instant::now(), over });
        drop(state);
        let place = Place { shared: shared.clone(), number, permit: None, _at_work: at_work };
        Files { looker: None, is_asked: false, place: Some(place) }
    }

    /// With links followed; `None` where there is nothing.
    pub(crate) async fn kind(&self, path: &Path) -> Result<Option<Kind>, Problem> {
        self.open().kind(path).await
    }

    /// The whole of a regular file that may have at most so many bytes.
    pub(crate) async fn read(&self, path: &Path, most: usize) -> Result<Vec<u8>, Problem> {
        self.open().read(path, most).await
    }

    /// Starts a program of a client's, after a look at it and at the directory it starts in: starting waits for both.
    /// Dropping this ends a program that is started all the same.
    pub(crate) async fn spawn(&self, program: &Path, directory: &Path, mut command: Command) -> Result<Child, Problem> {
        let mut files = self.open();
        files.kind(directory).await?;
        files.kind(program).await?;
        drop(files);
        Ok(blocking(move || command.spawn()).await?)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that panics leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is idle; or a new one, when none is and none is about to be.
    async fn looker(&self) -> io::Result<Looker> {
        let until = tokio::time::Instant::now() + BUSY;
        loop {
            let returned = self.returned.notified();
            {
                let mut state = self.state();
                if let Some(mut idle) = state.idle.take()
                    && idle.is_alive()
                {
                    idle.go_on();
                    state.busy += 1;
                    return Ok(idle);
                }
                if state.busy == 0 {
                    let started = self.start.looker()?;
                    state.busy += 1;
                    return Ok(started);
                }
            }
            if tokio::time::timeout_at(until, returned).await.is_err() {
                let started = self.start.looker()?;
                self.state().busy += 1;
                return Ok(started);
            }
        }
    }
}

/// A process that answers questions.
#[derive(Debug)]
struct Looker {
    child: Option<Child>,
    stream: UnixStream,
    received: Vec<u8>,
}

impl Looker {
    fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Any program of the same user may have stopped it.
    fn go_on(&self) {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It is a child that nobody has waited for, so that the number is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        }
    }
}

/// How a looker is started.
#[derive(Debug)]
enum Start {
    /// As this very program.
    Process {
        /// For people: whose looker it is.
        state: PathBuf,
    },
    #[cfg(test)]
    Thread(fn(std::os::unix::net::UnixStream)),
}

impl Start {
    /// To be called on the thread that lasts as long as the daemon: a looker ends with the thread that started it.
    fn looker(&self) -> io::Result<Looker> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = match self {
            Start::Process { state } => Some(start_process(state, theirs.into())?),
            #[cfg(test)]
            Start::Thread(serve) => {
                let serve = *serve;
                std::thread::spawn(move || serve(theirs));
                None
            }
        };
        Ok(Looker { child, stream: UnixStream::from_std(ours)?, received: Vec::new() })
    }
}

/// `/proc/self/exe` is this very program, also when the file has been replaced by an upgrade.
fn start_process(state: &Path, stdin: OwnedFd) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("pyexecd")
        .arg(VERB)
        .env_clear()
        .env(SERVICE_MARK, "looker")
        .env("PYEXEC_STATE", state)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .kill_on_drop(true)
        .spawn()
}

/// Among those who are at work, until this is dropped.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    number: u64,
    permit: Option<OwnedSemaphorePermit>,
    _at_work: watch::Sender<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state().at_work.retain(|other| other.number != self.number);
    }
}

/// Questions about files of a client's, one after the other.
#[derive(Debug)]
pub(crate) struct Files {
    looker: Option<Looker>,
    /// It has not answered yet.
    is_asked: bool,
    /// There until this is dropped.
    place: Option<Place>,
}

impl Files {
    fn place(&self) -> &Place {
        self.place.as_ref().expect("is there until this is dropped")
    }

    /// Waits until not too many are at work at this path, or have been for too long.
    async fn at(&self, path: &Path) {
        let Place { shared, number, .. } = self.place();
        loop {
            let held_up = shared.state().held_up(*number, path);
            match held_up {
                Some(mut over) => drop(over.changed().await),
                None => return shared.state().look_at(*number, path),
            }
        }
    }

    /// `paths` are those that the question is about, the first of which can be looked at.
    async fn ask(&mut self, question: &Question, paths: &[PathBuf]) -> Result<(Answer, Vec<u8>), Problem> {
        if let Some(first) = paths.first() {
            self.at(first).await;
        }
        if self.looker.is_none() {
            let shared = self.place().shared.clone();
            let permit = shared.permits.clone().acquire_owned().await.expect("is never closed");
            self.looker = Some(shared.looker().await.map_err(Problem::NoLooker)?);
            self.place.as_mut().expect("is there until this is dropped").permit = Some(permit);
        }
        self.is_asked = true;
        let answered = self.converse(question, paths).await;
        self.is_asked = answered.is_err();
        let (answer, bytes) = answered.map_err(Problem::NoLooker)?;
        // Nothing is looked at between two questions.
        self.place().shared.state().look_at(self.place().number, Path::new(""));
        match (answer, bytes) {
            (Answer::NotAFile(kind), _) => Err(Problem::NotAFile(kind)),
            (Answer::Failed { code: Some(code), .. }, _) => Err(io::Error::from_raw_os_error(code).into()),
            (Answer::Failed { code: None, problem }, _) => Err(io::Error::other(problem).into()),
            answered => Ok(answered),
        }
    }

    async fn converse(&mut self, question: &Question, paths: &[PathBuf]) -> io::Result<(Answer, Vec<u8>)> {
        let place = self.place.as_ref().expect("is there until this is dropped");
        let looker = self.looker.as_mut().expect("was just taken");
        looker.stream.write_all(&encode(question, &[])).await?;
        loop {
            match decode::<Answer>(&mut looker.received)? {
                Some((Answer::Looking { index }, _)) => {
                    place
                        .shared
                        .state()
                        .look_at(place.number, paths.get(index).map_or(Path::new(""), PathBuf::as_path));
                }
                Some(answer) => return Ok(answer),
                None => match tokio::time::timeout(OVERDUE, looker.stream.read_buf(&mut looker.received)).await {
                    Ok(Ok(0)) => return Err(io::Error::other("it has ended")),
                    Ok(read) => drop(read?),
                    // It may be the file system that does not answer, or itself.
                    Err(_) => looker.go_on(),
                },
            }
        }
    }

    /// With links followed; `None` where there is nothing.
    pub(crate) async fn kind(&mut self, path: &Path) -> Result<Option<Kind>, Problem> {
        match self.ask(&Question::Kind { path: path.into() }, &[path.to_owned()]).await? {
            (Answer::Kind(kind), _) => Ok(kind),
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// What each of them is, with links followed; `None` also for what cannot be looked at. They should lie in one directory
    /// and those above it: where its file system does not answer, all of it counts as the first of them.
    pub(crate) async fn kinds(&mut self, paths: &[PathBuf]) -> Result<Vec<Option<Kind>>, Problem> {
        let question = Question::Kinds { paths: paths.iter().map(|path| path.as_path().into()).collect() };
        match self.ask(&question, paths).await? {
            (Answer::Kinds(kinds), _) if kinds.len() == paths.len() => Ok(kinds),
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// The first of them that is a file which this user may execute.
    pub(crate) async fn first_executable(&mut self, paths: Vec<PathBuf>) -> Result<Option<PathBuf>, Problem> {
        let mut left = paths.as_slice();
        while !left.is_empty() {
            // Up to one that others wait for already: what is sought may come before it.
            let number = self.place().number;
            let held_up = |path: &PathBuf| self.place().shared.state().held_up(number, path).is_some();
            let (here, later) = left.split_at(left.iter().skip(1).position(held_up).map_or(left.len(), |at| at + 1));
            let question = Question::FirstExecutable { paths: here.iter().map(|path| path.as_path().into()).collect() };
            match self.ask(&question, here).await? {
                (Answer::FirstExecutable(Some(index)), _) => return Ok(here.get(index).cloned()),
                (Answer::FirstExecutable(None), _) => left = later,
                (other, _) => return Err(nonsense(&other)),
            }
        }
        Ok(None)
    }

    /// Path, inode, and time of the last change in nanoseconds since 1970: of a file that has not been replaced they are
    /// the same. `None` where there is nothing, or nothing that can be looked at.
    pub(crate) async fn identity(&mut self, path: &Path) -> Result<Option<(PathBuf, u64, i64)>, Problem> {
        match self.ask(&Question::Identity { path: path.into() }, &[path.to_owned()]).await {
            Ok((Answer::Identity(found), _)) => Ok(found.map(|(inode, modified)| (path.to_owned(), inode, modified))),
            Ok((other, _)) => Err(nonsense(&other)),
            Err(Problem::Io(_)) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Without links and dots.
    pub(crate) async fn canonical(&mut self, path: &Path) -> Result<PathBuf, Problem> {
        match self.ask(&Question::Canonical { path: path.into() }, &[path.to_owned()]).await? {
            (Answer::Canonical(path), _) => Ok(path.as_path().to_owned()),
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// The names in a directory; none where there is no directory.
    pub(crate) async fn names(&mut self, path: &Path) -> Result<Vec<OsString>, Problem> {
        match self.ask(&Question::Names { path: path.into() }, &[path.to_owned()]).await {
            Ok((Answer::Names(names), _)) => {
                Ok(names.into_iter().map(|name| OsString::from_vec(name.as_bytes().to_vec())).collect())
            }
            Ok((other, _)) => Err(nonsense(&other)),
            Err(Problem::Io(error)) if is_not_found(&error) => Ok(Vec::new()),
            Err(problem) => Err(problem),
        }
    }

    /// What is in a directory, in the order of the names.
    pub(crate) async fn entries(&mut self, path: &Path) -> Result<Vec<Entry>, Problem> {
        match self.ask(&Question::Entries { path: path.into() }, &[path.to_owned()]).await? {
            (Answer::Entries(mut entries), _) => {
                entries.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
                Ok(entries)
            }
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// Several regular files, each of which may have at most so many bytes, in one question; `None` for each that is not
    /// there.
    pub(crate) async fn contents(
        &mut self,
        paths: &[PathBuf],
        most: usize,
    ) -> Result<Vec<Result<Option<Vec<u8>>, Problem>>, Problem> {
        let named: Vec<OsText> = paths.iter().map(|path| path.as_path().into()).collect();
        for (index, path) in paths.iter().enumerate() {
            if looker::begins_tree(&named, index) {
                self.at(path).await;
            }
        }
        let (found, bytes) = match self.ask(&Question::Contents { paths: named, most: most as u64 }, paths).await? {
            (Answer::Contents(found), bytes) => (found, bytes),
            (other, _) => return Err(nonsense(&other)),
        };
        let mut rest = bytes.as_slice();
        let mut contents = Vec::with_capacity(found.len());
        for found in found {
            contents.push(match found {
                Found::Nothing => Ok(None),
                Found::Bytes(length) => {
                    let whole = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
                    let Some((content, others)) = whole else {
                        return Err(Problem::NoLooker(io::Error::other("it said less than it announced")));
                    };
                    rest = others;
                    Ok(Some(content.to_vec()))
                }
                Found::NotAFile(kind) => Err(Problem::NotAFile(kind)),
                Found::TooLarge => Err(Problem::TooLarge { most }),
                Found::Failed { code: Some(code), .. } => Err(io::Error::from_raw_os_error(code).into()),
                Found::Failed { code: None, problem } => Err(io::Error::other(problem).into()),
            });
        }
        Ok(contents)
    }

    /// The whole of a regular file that may have at most so many bytes.
    pub(crate) async fn read(&mut self, path: &Path, most: usize) -> Result<Vec<u8>, Problem> {
        let bytes = self.beginning(path, most.saturating_add(1)).await?;
        if bytes.len() > most { Err(Problem::TooLarge { most }) } else { Ok(bytes) }
    }

    /// A regular file up to so many bytes.
    pub(crate) async fn beginning(&mut self, path: &Path, most: usize) -> Result<Vec<u8>, Problem> {
        let question = Question::Beginning { path: path.into(), most: most as u64 };
        match self.ask(&question, &[path.to_owned()]).await? {
            (Answer::Bytes, bytes) => Ok(bytes),
            (other, _) => Err(nonsense(&other)),
        }
    }
}

impl State {
    /// Somebody whom it takes to have done before this path can be looked at.
    fn held_up(&self, number: u64, path: &Path) -> Option<watch::Receiver<()>> {
        // Every path begins with the root, which answers, and with no path at all.
        let others = || {
            let others = self.at_work.iter().filter(|other| other.number != number && other.path.parent().is_some());
            others.filter(|other| path.starts_with(&other.path))
        };
        let overdue = others().find(|other| other.since.elapsed() >= OVERDUE);
        overdue.or(others().nth(MOST_OF_A_PATH - 1)).map(|other| other.over.clone())
    }

    fn look_at(&mut self, number: u64, path: &Path) {
        if let Some(own) = self.at_work.iter_mut().find(|other| other.number == number) {
            own.since = Instant::now();
            path.clone_into(&mut own.path);
        }
    }
}

fn nonsense(answer: &Answer) -> Problem {
    Problem::NoLooker(io::Error::other(format!("it said {answer:?}")))
}

impl Drop for Files {
    fn drop(&mut self) {
        let (Some(place), Some(looker)) = (self.place.take(), self.looker.take()) else { return };
        {
            let mut state = place.shared.state();
            state.busy = state.busy.saturating_sub(1);
            if !self.is_asked {
                state.idle = Some(looker);
                drop(state);
                place.shared.returned.notify_one();
                return;
            }
        }
        // It waits for an answer that nobody waits for. Where it cannot be ended, it keeps its place.
        if let (Some(mut child), Ok(runtime)) = (looker.child, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = child.kill().await;
                drop(place);
            });
        }
    }
}
