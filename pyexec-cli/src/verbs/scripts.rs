//! `pyexec scripts`: scripts that are kept under a name.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use pyexec_client::Client;
use pyexec_proto::Timestamp;
use pyexec_proto::error::Named;
use pyexec_proto::script::{MAX_SOURCE_BYTES, SaveScript, ScriptInfo};
use pyexec_view::{ScriptRow, ScriptView};
use serde::Serialize;

use crate::args::{Requirements, Run, ScriptsRun, ScriptsSave, ScriptsShow, ScriptsVerb, Source};
use crate::connection::connect;
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::submission::own_files::{self, read_up_to};
use crate::terminal::Screen;
use crate::{render, terminal};

/// `pyexec scripts list --json`.
#[derive(Serialize)]
struct Listing {
    scripts: Vec<ScriptRow>,
}

pub(crate) async fn perform(verb: ScriptsVerb) -> Result<Code, Failure> {
    match verb {
        ScriptsVerb::List { autosaved, json } => list(autosaved, json).await,
        ScriptsVerb::Show(asked) => show(&asked).await,
        ScriptsVerb::Save(given) => save(given).await,
        ScriptsVerb::Run(asked) => run(*asked).await,
        ScriptsVerb::Rm { names } => remove(&names).await,
    }
}

async fn list(autosaved: bool, json: bool) -> Result<Code, Failure> {
    let scripts = connect().await?.list_scripts(autosaved).await?;
    if json {
        terminal::print_json(&Listing { scripts: scripts.iter().map(ScriptRow::of).collect() })?;
    } else if scripts.is_empty() {
        terminal::note("no scripts");
    } else {
        let (screen, now) = (terminal::screen(), Timestamp::now());
        let rows: Vec<Vec<String>> = scripts.iter().map(|script| row(script, now, screen)).collect();
        terminal::print(&render::plain_table(&HEADER, &rows, &LEAST_TELLING, screen))?;
    }
    Ok(SUCCESS)
}

async fn show(asked: &ScriptsShow) -> Result<Code, Failure> {
    let script = connect().await?.view_script(&asked.name, asked.autosaved).await?;
    if asked.json {
        terminal::print_json(&ScriptView::of(&script))?;
    } else {
        terminal::print_bytes(&script.source)?;
    }
    Ok(SUCCESS)
}

async fn save(given: ScriptsSave) -> Result<Code, Failure> {
    let dependencies = Requirements::of_all(given.with);
    let asks_for_header = !dependencies.is_empty() || given.requires_python.is_some();
    let script = SaveScript {
        name: given.name,
        source: source(&given.file)?,
        dependencies,
        requires_python: given.requires_python,
        overwrite: given.overwrite,
    };
    let saved = connect().await?.save_script(&script).await?;
    if asks_for_header && !saved.header_written {
        terminal::note("the script's own metadata header was kept: --with and --requires-python were not added to it");
    }
    let what = if saved.replaced { "replaced" } else { "saved" };
    terminal::print(&format!("{} {what}\n", render::one_line(&saved.name)))?;
    Ok(SUCCESS)
}

/// The daemon knows where the script is; from there on it is a file like any other.
async fn run(mut asked: ScriptsRun) -> Result<Code, Failure> {
    let client: Client = connect().await?;
    let script = client.view_script(&asked.name, false).await?;
    drop(client);
    let file = script.path.as_os_str().to_owned();
    asked.options.script.is_saved = true;
    super::run::perform(Run { source: Source::File(file), args: asked.args, options: asked.options }).await
}

async fn remove(names: &[String]) -> Result<Code, Failure> {
    let client = connect().await?;
    for name in names {
        client.remove_script(name).await?;
        terminal::print(&format!("{} removed\n", render::one_line(name)))?;
    }
    Ok(SUCCESS)
}

/// What is to be saved, read where the caller is.
fn source(given: &OsStr) -> Result<Vec<u8>, Failure> {
    if given == "-" {
        let bytes = read_up_to(io::stdin().lock(), MAX_SOURCE_BYTES).map_err(Failure::Stdin)?;
        return bytes.ok_or(Failure::StdinTooLarge { limit: MAX_SOURCE_BYTES });
    }
    own_files::read(Path::new(given), Named::Script)
}

/// Where there is no room: size, needs, python, changed.
const LEAST_TELLING: [usize; 4] = [3, 2, 1, 4];
const HEADER: [&str; 6] = ["NAME", "PYTHON", "NEEDS", "SIZE", "CHANGED", "ABOUT"];

fn row(script: &ScriptInfo, now: Timestamp, screen: Screen) -> Vec<String> {
    // What there is to know of any script has to fit beside its name.
    const ABOUT: u16 = 14;
    const NEEDS: usize = 24;
    let name = render::one_line(&script.name);
    let needs = script.dependencies.join(" ");
    let needs = render::one_line(&needs);
    let about = script.docstring.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
    let (name, needs) = match screen {
        Screen::Terminal { columns, .. } => {
            let room = usize::from(columns.saturating_sub(ABOUT).max(ABOUT));
            (render::truncated(&name, room).into_owned(), render::truncated(&needs, NEEDS).into_owned())
        }
        Screen::File => (name.into_owned(), needs.into_owned()),
    };
    vec![
        name,
        render::one_line(script.requires_python.as_deref().unwrap_or_default()).into_owned(),
        needs,
        render::size(script.bytes),
        render::age(script.modified_at.age_at(now)),
        render::one_line(about).into_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(name: &str) -> ScriptInfo {
        ScriptInfo {
            name: name.to_owned(),
            path: "/data/x.py".into(),
            docstring: Some("Trains\x1b[2J.\n\nAnd more.".into()),
            dependencies: vec!["numpy>=2".into(), "a-package-with-a-long-name".into()],
            requires_python: Some(">=3.11".into()),
            autosaved: false,
            bytes: 2_048,
            modified_at: Timestamp(0),
        }
    }

    #[test]
    fn a_script_is_shown_by_the_first_line_of_what_it_says_of_itself() {
        let shown = row(&script("train.py"), Timestamp(7_200_000_000), Screen::File);
        let needs = "numpy>=2 a-package-with-a-long-name";
        assert_eq!(shown, ["train.py", ">=3.11", needs, "2.0 KiB", "2h ago", "Trains\\x1b[2J."]);
    }

    #[test]
    fn a_listing_fits_into_forty_columns_whatever_scripts_are_called() {
        let screen = Screen::Terminal { columns: 40, colour: false };
        for name in ["a.py", "20260728-093000-0a1b2c3d.py", &"long".repeat(40)] {
            let row = row(&script(name), Timestamp(0), screen);
            let table = render::plain_table(&HEADER, &[row], &LEAST_TELLING, screen);
            assert!(table.lines().all(|line| line.chars().count() <= 40), "{table}");
            assert!(table.contains("Trains"), "{table}");
        }
    }
}
