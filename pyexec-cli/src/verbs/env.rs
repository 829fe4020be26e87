//! `pyexec env`: environments that are kept.

use std::path::Path;

use pyexec_proto::environment::{EnvironmentInfo, EnvironmentSpec, Interpreter};
use pyexec_proto::error::Named;
use pyexec_proto::job::Variables;
use pyexec_proto::request::{CreateEnvironment, EnvironmentsRemoved};
use pyexec_proto::{JobId, OsText, Timestamp};
use pyexec_view::EnvironmentView;
use serde::Serialize;

use crate::args::{EnvCreate, EnvVerb, Requirements};
use crate::connection::connect;
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::not_removed::report_not_removed;
use crate::submission::own_files::{self, OwnFiles};
use crate::{render, terminal};

/// `pyexec env list --json`.
#[derive(Serialize)]
struct Listing {
    environments: Vec<EnvironmentView>,
}

pub(crate) async fn perform(verb: EnvVerb) -> Result<Code, Failure> {
    let client = connect().await?;
    match verb {
        EnvVerb::List { json } => {
            let environments = client.list_environments().await?;
            if json {
                let environments = environments.iter().map(EnvironmentView::of).collect();
                terminal::print_json(&Listing { environments })?;
            } else if environments.is_empty() {
                terminal::note("no environments");
            } else {
                let rows: Vec<Vec<String>> = environments.iter().map(|info| row(info, Timestamp::now())).collect();
                terminal::print(&render::plain_table(&HEADER, &rows, &LEAST_TELLING, terminal::screen()))?;
            }
        }
        EnvVerb::Create(create) => {
            let json = create.json;
            let info = client.create_environment(&request(create)?).await?;
            if json {
                terminal::print_json(&EnvironmentView::of(&info))?;
            } else {
                let name = info.name.as_deref().unwrap_or_default();
                let packages = info.packages.len();
                let size = render::size(info.bytes);
                let said = format!("{name}: Python {}, {packages} packages, {size}", info.python_version);
                terminal::print(&format!("{}\n", render::one_line(&said)))?;
            }
        }
        EnvVerb::Rm { environments } => {
            for given in environments {
                let removed = client.remove_environment(&given).await?;
                terminal::print(&format!("{} removed{}\n", render::one_line(&given), kept(&removed)))?;
                report_not_removed(&removed.not_removed, "environment", "environments")?;
            }
        }
        EnvVerb::Prune => {
            let EnvironmentsRemoved { removed, bytes_freed, not_removed } = client.prune_environments().await?;
            let environments = if removed == 1 { "environment" } else { "environments" };
            terminal::print(&format!("removed {removed} {environments}, freed {}\n", render::size(bytes_freed)))?;
            report_not_removed(&not_removed, "environment", "environments")?;
        }
    }
    Ok(SUCCESS)
}

/// A name can go while what it stood for is still wanted.
fn kept(removed: &EnvironmentsRemoved) -> String {
    if !removed.not_removed.is_empty() {
        ", but for some of its files".to_owned()
    } else if removed.removed == 0 {
        " (its content is kept: a job or another name has it, or it was not built)".to_owned()
    } else {
        format!(", freed {}", render::size(removed.bytes_freed))
    }
}

fn request(create: EnvCreate) -> Result<CreateEnvironment, Failure> {
    let directory = std::env::current_dir().map_err(Failure::NoCurrentDirectory)?;
    let interpreter = Interpreter::Uv { version: create.python };
    let file = create.with_requirements.as_deref().map(Path::new);
    let content = file.map(|file| OwnFiles::default().content(file, Named::RequirementsFile)).transpose()?.flatten();
    Ok(CreateEnvironment {
        name: create.name,
        spec: EnvironmentSpec {
            requirements: Requirements::of_all(create.with),
            requirements_file: create.with_requirements.map(OsText::from),
            requirements_content: content.map(own_files::requirements).transpose()?,
            refresh: create.refresh,
            ..EnvironmentSpec::bare(interpreter)
        },
        directory: directory.into(),
        environment: std::env::vars_os().collect::<Variables>(),
    })
}

/// Where there is no room: used by, last used, size, python.
const LEAST_TELLING: [usize; 4] = [5, 4, 3, 2];
const HEADER: [&str; 7] = ["NAME", "ID", "PYTHON", "SIZE", "LAST USED", "USED BY", "PACKAGES"];

fn row(info: &EnvironmentInfo, now: Timestamp) -> Vec<String> {
    const ID_SHOWN: usize = 8;
    let short = |text: &str| text.chars().take(ID_SHOWN).collect::<String>();
    vec![
        render::one_line(info.name.as_deref().unwrap_or_default()).into_owned(),
        info.id.as_deref().map(short).unwrap_or_default(),
        info.python_version.clone(),
        info.id.as_ref().map(|_| render::size(info.bytes)).unwrap_or_default(),
        info.last_used.map(|at| render::age(at.age_at(now))).unwrap_or_default(),
        info.used_by.iter().map(JobId::to_string).map(|id| short(&id)).collect::<Vec<_>>().join(" "),
        info.packages.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_that_is_not_built_says_so_by_having_no_id_and_no_size() {
        let info = EnvironmentInfo {
            name: Some("ml".into()),
            id: None,
            python_version: "3.12.1".into(),
            packages: vec!["numpy==2.0".into(), "six==1.17.0".into()],
            bytes: 0,
            last_used: None,
            used_by: vec![],
        };
        assert_eq!(row(&info, Timestamp(0)), ["ml", "", "3.12.1", "", "", "", "numpy==2.0 six==1.17.0"]);
    }
}
