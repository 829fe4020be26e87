//! `pyexec mcp`: writes `pyexec-mcp` into the settings of editors and agents, and takes it out again.
//!
//! It starts nothing and asks no daemon: what a client makes of its settings is the client's.

pub(crate) mod clients;
mod config_file;
mod difference;
pub(crate) mod edit;

use std::path::PathBuf;

use clap::ValueEnum;
use clients::{Places, Settings};
use config_file::{ConfigFile, ConfigFileError};
use difference::Difference;
use edit::{EditError, Entry};
use pyexec_client::start::{is_executable, program_candidates};

use crate::args::{McpClient, McpInstall, McpUninstall, McpVerb};
use crate::exit_code::{Code, Failure, SUCCESS, VerbError};
use crate::render;
use crate::terminal::{self, OutputError, Screen};

/// The program that clients start.
pub(crate) const PROGRAM: &str = "pyexec-mcp";

/// How often it is begun anew when the client writes its settings at the same time.
const ATTEMPTS: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum McpError {
    #[error("cannot find `{PROGRAM}`")]
    NoProgram,
    #[error("the path {} is not UTF-8 and cannot be written into settings", program.display())]
    ProgramName { program: PathBuf },
    #[error(transparent)]
    File(#[from] ConfigFileError),
    #[error("cannot edit {}", path.display())]
    Edit { path: PathBuf, source: EditError, remedy: String },
}

impl VerbError for McpError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            McpError::NoProgram => {
                format!("install it beside this program or on PATH, for example with `cargo install --path {PROGRAM}`")
            }
            McpError::ProgramName { .. } => "install it into a directory with another name".into(),
            McpError::Edit { remedy, .. } => format!("nothing was changed; {remedy}"),
            McpError::File(ConfigFileError::Changed { .. }) => {
                "nothing was changed; close the client that writes to it, and try again".into()
            }
            McpError::File(ConfigFileError::Write { .. }) => {
                "nothing was changed; check that you may write to the file and its directory".into()
            }
            McpError::File(ConfigFileError::NoText { .. }) => "nothing was changed; save it as UTF-8".into(),
            McpError::File(
                ConfigFileError::Read { .. } | ConfigFileError::NoFile { .. } | ConfigFileError::TooLarge { .. },
            ) => return None,
        })
    }
}

pub(crate) fn perform(verb: McpVerb) -> Result<Code, Failure> {
    let places = Places::from_environment()?;
    match verb {
        McpVerb::Install(install) => perform_install(install, &places),
        McpVerb::Uninstall(uninstall) => {
            let McpUninstall { clients, dry_run } = uninstall;
            for_each(&clients, |client| change(client, &places, &Change::Remove, dry_run))
        }
        McpVerb::List => list(&places),
    }
}

fn perform_install(install: McpInstall, places: &Places) -> Result<Code, Failure> {
    let McpInstall { clients, dry_run, args } = install;
    let program = find_program().ok_or(McpError::NoProgram)?;
    let command = program.to_str().map(str::to_owned).ok_or(McpError::ProgramName { program })?;
    let change_to = Change::Write(Entry { command, args });
    for_each(&clients, |client| {
        let settings = Settings::of(client, places);
        if !settings.seems_installed() {
            let (name, trace) = (client.name(), settings.trace().display());
            terminal::note(&format!("{name} does not seem to be installed: there is no {trace}"));
        }
        change(client, places, &change_to, dry_run)
    })
}

/// `pyexec-mcp`, by its absolute path.
pub(crate) fn find_program() -> Option<PathBuf> {
    let found = program_candidates(PROGRAM).find(|path| is_executable(path))?;
    std::path::absolute(found).ok()
}

/// Goes through all of them, also after one that could not be done; the last failure is the one to exit with.
fn for_each(clients: &[McpClient], act: impl Fn(McpClient) -> Result<(), Failure>) -> Result<Code, Failure> {
    let mut failed: Option<Failure> = None;
    for client in clients {
        if let Err(failure) = act(*client)
            && let Some(earlier) = failed.replace(failure)
        {
            terminal::error(&earlier, earlier.hint().as_deref());
        }
    }
    failed.map_or(Ok(SUCCESS), Err)
}

#[derive(Clone, Debug)]
enum Change {
    Write(Entry),
    Remove,
}

fn change(client: McpClient, places: &Places, change: &Change, dry_run: bool) -> Result<(), Failure> {
    let settings = Settings::of(client, places);
    let mut attempt = 1;
    loop {
        let file = ConfigFile::read(&settings.file).map_err(McpError::from)?;
        let edited = edited(&settings, file.text(), change)?;
        if edited == file.text() {
            return Ok(say(client, &settings, unchanged(change))?);
        }
        if dry_run {
            return Ok(show(client, &settings, &file, &edited, change)?);
        }
        let done = if settings.form.has_entry(file.text()) == Ok(true) { "updated in" } else { "added to" };
        match file.replace(&edited) {
            Ok(backup) => {
                say(client, &settings, if matches!(change, Change::Remove) { "removed from" } else { done })?;
                if let Some(backup) = backup {
                    terminal::note(&format!("the previous content is in {}", backup.display()));
                }
                return Ok(());
            }
            Err(ConfigFileError::Changed { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(McpError::from(error).into()),
        }
    }
}

fn edited(settings: &Settings, text: &str, change: &Change) -> Result<String, McpError> {
    let edited = match change {
        Change::Write(entry) => settings.form.with_entry(text, entry),
        Change::Remove => settings.form.without_entry(text),
    };
    edited.map_err(|source| {
        let remedy = match change {
            Change::Write(entry) => {
                format!("fix the file and try again, or add this yourself:\n{}", settings.form.snippet(entry))
            }
            Change::Remove => format!("fix the file and try again, or remove `{}` yourself", edit::NAME),
        };
        McpError::Edit { path: settings.file.clone(), source, remedy }
    })
}

fn unchanged(change: &Change) -> &'static str {
    match change {
        Change::Write(_) => "already in",
        Change::Remove => "not in",
    }
}

fn say(client: McpClient, settings: &Settings, what: &str) -> Result<(), OutputError> {
    let path = settings.file.to_string_lossy();
    terminal::print(&format!("{}: {what} {}\n", client.name(), render::one_line(&path)))
}

fn show(
    client: McpClient,
    settings: &Settings,
    file: &ConfigFile,
    edited: &str,
    change: &Change,
) -> Result<(), OutputError> {
    say(client, settings, "nothing is changed yet in")?;
    let path = settings.file.to_string_lossy();
    let path = render::one_line(&path);
    let old = if file.is_there() { &*path } else { "/dev/null" };
    let text = match (Difference::between(file.text(), edited).unified(file.text(), edited), change) {
        (Some(lines), _) => format!("--- {old}\n+++ {path}\n{lines}"),
        (None, Change::Write(entry)) => format!("it would contain:\n{}", settings.form.snippet(entry)),
        (None, Change::Remove) => format!("`{}` would be removed from it\n", edit::NAME),
    };
    terminal::print(&text)
}

/// What a client's settings say of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    NotInstalled,
    /// The client is there, and does not know of us.
    None,
    /// It starts this.
    Command(PathBuf),
    /// An entry of our name starts nothing.
    NoCommand,
    /// Its settings can not be read.
    Unclear(String),
}

impl Connection {
    pub(crate) fn of(settings: &Settings) -> Self {
        let file = match ConfigFile::read(&settings.file) {
            Ok(file) => file,
            Err(error) => return Self::Unclear(pyexec_view::with_causes(&error)),
        };
        let known = settings.form.has_entry(file.text());
        match (known, settings.form.entry(file.text())) {
            (Err(error), _) | (_, Err(error)) => Self::Unclear(format!("{}: {error}", settings.file.display())),
            (Ok(true), Ok(Some(entry))) => Self::Command(entry.command.into()),
            (Ok(true), Ok(None)) => Self::NoCommand,
            (Ok(false), Ok(_)) if settings.seems_installed() => Self::None,
            (Ok(false), Ok(_)) => Self::NotInstalled,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Connection::NotInstalled => "not installed",
            Connection::None => "no",
            Connection::Command(program) if program.exists() => "yes",
            Connection::Command(_) | Connection::NoCommand => "broken",
            Connection::Unclear(_) => "unclear",
        }
    }
}

fn list(places: &Places) -> Result<Code, Failure> {
    let rows: Vec<Vec<String>> = McpClient::value_variants()
        .iter()
        .map(|client| {
            let settings = Settings::of(*client, places);
            let path = render::one_line(&settings.file.to_string_lossy()).into_owned();
            vec![client.name().to_owned(), Connection::of(&settings).word().to_owned(), path]
        })
        .collect();
    // Whole paths, however narrow the terminal: they are what is asked for.
    terminal::print(&render::plain_table(&["CLIENT", "CONNECTED", "FILE"], &rows, &[], Screen::File))?;
    Ok(SUCCESS)
}
