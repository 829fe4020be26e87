//! The environment file, `pyexec.env`: which variables it has, and what is wrong with it.

use pyexec_client::environment_file::EnvironmentFile;
use pyexec_proto::paths::Paths;

use super::check::{Check, within_limit};

const NAME: &str = "environment file";

pub(super) async fn checks(paths: &Paths) -> Vec<Check> {
    let path = paths.environment_file();
    within_limit(NAME, move || {
        let file = EnvironmentFile::read(&path);
        let found = if !file.exists {
            format!("{}, not there", path.display())
        } else if file.variables.is_empty() {
            format!("{}, no variables", path.display())
        } else {
            let names: Vec<&str> = file.variables.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}: {}", path.display(), names.join(", "))
        };
        vec![check(&file, found)]
    })
    .await
}

fn check(file: &EnvironmentFile, found: String) -> Check {
    if !file.problems.is_empty() {
        let hint = "write each line as NAME=value; the valid lines are in effect";
        return Check::problem(NAME, file.problems.join("; "), hint);
    }
    match &file.warning {
        Some(warning) => Check::warning(NAME, warning, "`chmod 600` keeps other users out"),
        None => Check::ok(NAME, found),
    }
}
