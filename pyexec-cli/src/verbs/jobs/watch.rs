//! `pyexec jobs --watch`: the table of jobs, kept up to date.
//!
//! A frame is put together in full and written in one go, and only when it differs from the one before: nothing flickers,
//! and a table in which nothing happens is not drawn. The daemon says when a job has changed; nobody asks it meanwhile, but for
//! the progress of jobs that run, which is looked for only when it is asked for. Times are ours to count.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    BeginSynchronizedUpdate, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use pyexec_client::Client;
use pyexec_proto::job::JobSummary;
use pyexec_proto::request::{JobQuery, MAX_WAIT_MS, StopRequest};
use pyexec_proto::{JobId, Status, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Jobs;
use crate::connection::connect;
use crate::exit_code::{Code, Failure, Interruption, SUCCESS, of_interruption};
use crate::listing::{newest, table_lines};
use crate::render;
use crate::terminal::{self, Screen};

const REFRESH: Duration = Duration::from_secs(1);

/// Lines of the screen that are not rows: a title, an empty line, the header of the table, an empty line, the keys.
const AROUND: u16 = 5;
/// The marker of the selected row stands in front of the table.
const MARGIN: u16 = 2;

pub(super) async fn perform(jobs: Jobs) -> Result<Code, Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage {
            problem: "--watch needs a terminal to draw on".to_owned(),
            hint: "`pyexec jobs --json` is for programs; leave out --watch for the table as it is now".to_owned(),
        });
    }
    let client = connect().await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::Runtime)?;
    let mut watch = Watch { query: (jobs.status, jobs.label), rows: room(), ..Watch::default() };
    // Before the terminal is taken: what goes wrong is told on it. What changes while the jobs are listed is news.
    let mut since = client.changes(None, 0).await?.revision;
    watch.refresh(&client).await?;
    let mut changes = pin!(client.changes(Some(since), MAX_WAIT_MS));
    let canvas = Canvas::take().map_err(Failure::Output)?;
    let mut keys = canvas.keys().map_err(Failure::Thread)?;
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = String::new();
    loop {
        watch.rows = room();
        watch.scroll();
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| columns);
        let frame = watch.frame(columns, Timestamp::now(), terminal::colour_wanted());
        if frame != drawn {
            canvas.draw(&frame).map_err(Failure::Output)?;
            drawn = frame;
        }
        tokio::select! {
            changed = &mut changes => {
                let changed = changed?;
                since = changed.revision;
                changes.set(client.changes(Some(since), MAX_WAIT_MS));
                if changed.is_news() {
                    watch.refresh(&client).await?;
                }
            }
            _ = ticks.tick() => watch.look_at_running(&client).await?,
            _ = terminate.recv() => return Ok(of_interruption(Interruption::Terminate)),
            _ = hang_up.recv() => return Ok(of_interruption(Interruption::HangUp)),
            event = keys.recv() => match event {
                // What was drawn has been moved about by the terminal.
                Some(Event::Resize(_, _)) => {
                    drawn.clear();
                    watch.rows = room();
                    watch.fill(&client).await?;
                }
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match watch.press(key) {
                    Pressed::Nothing => watch.fill(&client).await?,
                    Pressed::Leave => return Ok(SUCCESS),
                    Pressed::Cancel(id) => {
                        // Gone or finished meanwhile: the next look shows it.
                        let _ = client.stop(id, StopRequest { now: false, grace_ms: None }).await;
                        watch.refresh(&client).await?;
                    }
                },
                Some(_) => {}
                None => return Ok(SUCCESS),
            }
        }
    }
}

/// How many rows the terminal has room for.
fn room() -> u16 {
    let rows = crossterm::terminal::size().map_or(24, |(_, rows)| rows);
    rows.saturating_sub(AROUND).max(1)
}

/// The terminal, for as long as we draw on it; dropped, it is as it was.
struct Canvas;

impl Canvas {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let canvas = Self;
        // On a very narrow terminal a line is cut, rather than becoming two.
        execute!(io::stdout(), EnterAlternateScreen, DisableLineWrap, cursor::Hide)?;
        Ok(canvas)
    }

    /// Reading blocks, so it happens on a thread that nobody waits for: it ends with the process.
    #[expect(clippy::unused_self, reason = "keys come one by one only while the terminal is ours")]
    fn keys(&self) -> io::Result<mpsc::Receiver<Event>> {
        let (events, received) = mpsc::channel(16);
        let read = move || {
            while let Ok(event) = event::read() {
                if events.blocking_send(event).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().spawn(read)?;
        Ok(received)
    }

    #[expect(clippy::unused_self, reason = "only a terminal that is ours is drawn on")]
    fn draw(&self, frame: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        execute!(stdout, BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        let mut lines = frame.lines().peekable();
        while let Some(line) = lines.next() {
            stdout.write_all(line.as_bytes())?;
            stdout.write_all(if lines.peek().is_some() { b"\x1b[K\r\n" } else { b"\x1b[K" })?;
        }
        stdout.write_all(b"\x1b[J")?;
        execute!(stdout, EndSynchronizedUpdate)
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, EnableLineWrap, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// What is shown, and what has been chosen of it.
#[derive(Debug, Default)]
struct Watch {
    /// Statuses and label that are asked for.
    query: (Vec<Status>, Option<String>),
    /// How many jobs there is room for.
    rows: u16,
    /// More than there is room for, so that the selection can be moved on.
    jobs: Vec<JobSummary>,
    /// Which of them is the first on the screen.
    first: usize,
    running: u64,
    pending: u64,
    total: u64,
    selected: Option<JobId>,
    /// Waits for a yes.
    asked: Option<JobId>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    Leave,
    Cancel(JobId),
}

impl Watch {
    /// Jobs that go on first, then the newest of the others.
    async fn refresh(&mut self, client: &Client) -> Result<(), Failure> {
        let (statuses, label) = self.query.clone();
        let room = self.wanted();
        let wanted = |status: Status| statuses.is_empty() || statuses.contains(&status);
        let mut jobs = Vec::new();
        let mut counts = [0; 2];
        for (count, status) in counts.iter_mut().zip([Status::Running, Status::Pending]) {
            if wanted(status) {
                let query = JobQuery { statuses: vec![status], label: label.clone(), ..JobQuery::default() };
                let (found, total) = newest(client, query, room).await?;
                *count = total;
                jobs.extend(found);
            }
        }
        let ended = [Status::Completed, Status::Failed, Status::Cancelled];
        let ended: Vec<Status> = ended.into_iter().filter(|status| wanted(*status)).collect();
        let mut finished = 0;
        if !ended.is_empty() {
            let query = JobQuery { statuses: ended, label, ..JobQuery::default() };
            let (found, total) = newest(client, query, room).await?;
            finished = total;
            jobs.extend(found);
        }
        [self.running, self.pending] = counts;
        self.total = self.running + self.pending + finished;
        jobs.truncate(room);
        self.jobs = jobs;
        let is_there = |id: &JobId| self.jobs.iter().any(|job| job.id == *id);
        self.selected = self.selected.filter(is_there).or_else(|| self.jobs.first().map(|job| job.id));
        let goes_on = |id: &JobId| self.jobs.iter().any(|job| job.id == *id && is_under_way(job));
        self.asked = self.asked.filter(goes_on);
        self.scroll();
        Ok(())
    }

    /// Lists more where there is room for more than was listed.
    async fn fill(&mut self, client: &Client) -> Result<(), Failure> {
        self.scroll();
        if self.jobs.len() < self.wanted() && (self.jobs.len() as u64) < self.total {
            self.refresh(client).await?;
        }
        Ok(())
    }

    /// How far those are that run: no change of a job tells of that.
    async fn look_at_running(&mut self, client: &Client) -> Result<(), Failure> {
        if !self.jobs.iter().any(|job| job.status == Status::Running) {
            return Ok(());
        }
        let (statuses, label) = (vec![Status::Running], self.query.1.clone());
        let query = JobQuery { statuses, label, ..JobQuery::default() };
        let (found, _) = super::newest(client, query, self.wanted()).await?;
        for job in found {
            if let Some(shown) = self.jobs.iter_mut().find(|shown| shown.id == job.id) {
                *shown = job;
            }
        }
        Ok(())
    }

    /// A screen more than is shown: the next one is there when it is moved on to.
    fn wanted(&self) -> usize {
        self.first + 2 * usize::from(self.rows.max(1))
    }

    /// So that the selected job is on the screen, and no row of it is left empty that there is a job for.
    fn scroll(&mut self) {
        let rows = usize::from(self.rows.max(1));
        let at = self.selected.and_then(|id| self.jobs.iter().position(|job| job.id == id)).unwrap_or(0);
        let last = self.jobs.len().saturating_sub(rows);
        self.first = self.first.clamp(at.saturating_sub(rows - 1), at).min(last);
    }

    fn press(&mut self, key: KeyEvent) -> Pressed {
        let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        if is_interrupt {
            return Pressed::Leave;
        }
        if let Some(id) = self.asked.take() {
            let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            return if is_yes { Pressed::Cancel(id) } else { Pressed::Nothing };
        }
        let rows = usize::from(self.rows.max(1));
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other key means nothing")]
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Leave,
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| (at + 1).min(last)),
            KeyCode::PageUp => self.select(|at, _| at.saturating_sub(rows)),
            KeyCode::PageDown => self.select(|at, last| (at + rows).min(last)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            KeyCode::Char('c') => {
                let goes_on = |id: &JobId| self.jobs.iter().any(|job| job.id == *id && is_under_way(job));
                self.asked = self.selected.filter(goes_on);
            }
            _ => {}
        }
        Pressed::Nothing
    }

    fn select(&mut self, move_from: impl Fn(usize, usize) -> usize) {
        let at = self.selected.and_then(|id| self.jobs.iter().position(|job| job.id == id)).unwrap_or(0);
        let to = move_from(at, self.jobs.len().saturating_sub(1));
        self.selected = self.jobs.get(to).map(|job| job.id);
        self.scroll();
    }

    /// The whole screen, as lines.
    fn frame(&self, columns: u16, now: Timestamp, colour: bool) -> String {
        let width = usize::from(columns);
        let mut frame = String::new();
        let mut counts = format!("{} running, {} pending, {} in all", self.running, self.pending, self.total);
        let shown = &self.jobs[self.first..self.jobs.len().min(self.first + usize::from(self.rows))];
        if self.total > shown.len() as u64 {
            counts.push_str(&format!(" ({}-{})", self.first + 1, self.first + shown.len()));
        }
        frame.push_str(&render::truncated(&counts, width));
        frame.push_str("\n\n");
        if shown.is_empty() {
            frame.push_str(&render::truncated("no jobs", width));
            frame.push('\n');
        } else {
            let screen = Screen::Terminal { columns: columns.saturating_sub(MARGIN).max(1), colour };
            let table = render::job_table(&table_lines(shown, now), screen);
            let selected = self.selected.and_then(|id| shown.iter().position(|job| job.id == id));
            for (at, line) in table.lines().enumerate() {
                // The header is the first of them.
                let is_selected = selected.is_some_and(|selected| selected + 1 == at);
                frame.push_str(if is_selected { "> " } else { "  " });
                frame.push_str(line);
                frame.push('\n');
            }
        }
        frame.push('\n');
        frame.push_str(&render::truncated(&self.footer(), width));
        frame
    }

    fn footer(&self) -> String {
        match self.asked.and_then(|id| self.jobs.iter().find(|job| job.id == id)) {
            Some(job) => {
                let id: String = job.id.to_string().chars().take(8).collect();
                format!("cancel {id}? y: yes, any other key: no · {}", render::one_line(&job.command))
            }
            None => "q: leave · up, down: select · c: cancel the selected job".to_owned(),
        }
    }
}

fn is_under_way(job: &JobSummary) -> bool {
    match job.status {
        Status::Pending | Status::Running => true,
        Status::Completed | Status::Failed | Status::Cancelled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: Status, command: &str) -> JobSummary {
        crate::listing::summary(command, status)
    }

    fn watch() -> Watch {
        let jobs = vec![job(Status::Running, "a.py"), job(Status::Pending, "b.py"), job(Status::Completed, "c.py")];
        Watch { rows: 10, selected: Some(jobs[0].id), running: 1, pending: 1, total: 3, jobs, ..Watch::default() }
    }

    fn press(watch: &mut Watch, code: KeyCode) -> Pressed {
        watch.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn a_job_is_cancelled_only_after_a_yes() {
        let mut watch = watch();
        let first = watch.jobs[0].id;
        assert_eq!(press(&mut watch, KeyCode::Char('y')), Pressed::Nothing);
        assert_eq!(press(&mut watch, KeyCode::Char('c')), Pressed::Nothing);
        assert!(watch.frame(80, Timestamp(0), false).contains("cancel "));
        assert_eq!(press(&mut watch, KeyCode::Char('n')), Pressed::Nothing);
        assert_eq!(press(&mut watch, KeyCode::Char('y')), Pressed::Nothing);
        press(&mut watch, KeyCode::Char('c'));
        assert_eq!(press(&mut watch, KeyCode::Char('y')), Pressed::Cancel(first));
        // One that has finished has nothing to cancel.
        press(&mut watch, KeyCode::End);
        press(&mut watch, KeyCode::Char('c'));
        assert_eq!(press(&mut watch, KeyCode::Char('y')), Pressed::Nothing);
    }

    #[test]
    fn the_selection_stays_within_the_table() {
        let mut watch = watch();
        let selected = |watch: &Watch| watch.jobs.iter().position(|job| Some(job.id) == watch.selected);
        for (code, at) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::Down, 2),
            (KeyCode::Down, 2),
            (KeyCode::Home, 0),
            (KeyCode::End, 2),
        ] {
            press(&mut watch, code);
            assert_eq!(selected(&watch), Some(at), "{code:?}");
        }
        assert!(
            watch.frame(80, Timestamp(0), false).lines().any(|line| line.starts_with("> ") && line.contains("c.py"))
        );
        let mut empty = Watch::default();
        press(&mut empty, KeyCode::Down);
        assert_eq!(empty.selected, None);
    }

    #[test]
    fn what_there_is_no_room_for_can_be_moved_on_to() {
        let mut watch = watch();
        (watch.rows, watch.total) = (2, 9);
        let shown = |watch: &Watch| {
            let frame = watch.frame(80, Timestamp(0), false);
            let marked = frame.lines().find(|line| line.starts_with("> ")).expect("one is selected").to_owned();
            (frame.lines().next().expect("has a title").to_owned(), marked.contains("c.py"))
        };
        let title = |range: &str| format!("1 running, 1 pending, 9 in all ({range})");
        assert_eq!(shown(&watch), (title("1-2"), false));
        press(&mut watch, KeyCode::PageDown);
        assert_eq!(shown(&watch), (title("2-3"), true));
        press(&mut watch, KeyCode::Up);
        assert_eq!(shown(&watch), (title("2-3"), false));
        press(&mut watch, KeyCode::Home);
        assert_eq!(shown(&watch), (title("1-2"), false));
        // There is room for all of them again.
        press(&mut watch, KeyCode::End);
        (watch.rows, watch.total) = (5, 3);
        watch.scroll();
        assert_eq!(shown(&watch), ("1 running, 1 pending, 3 in all".to_owned(), true));
    }

    #[test]
    fn a_frame_fits_its_terminal() {
        let mut watch = watch();
        watch.jobs[0].command = "x".repeat(500);
        for columns in [30, 40, 80, 200] {
            watch.rows = 2;
            let frame = watch.frame(columns, Timestamp(0), false);
            assert!(frame.lines().count() <= 2 + usize::from(AROUND), "{frame}");
            for line in frame.lines() {
                assert!(line.chars().count() <= usize::from(columns), "{columns}: {line:?}");
            }
        }
    }

    #[test]
    fn leaving_is_a_key_or_an_interrupt() {
        let mut watch = watch();
        assert_eq!(press(&mut watch, KeyCode::Char('q')), Pressed::Leave);
        assert_eq!(press(&mut watch, KeyCode::Esc), Pressed::Leave);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(watch.press(interrupt), Pressed::Leave);
    }
}
