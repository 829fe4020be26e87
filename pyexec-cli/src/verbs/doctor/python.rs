//! uv, and what Python there is with it and without it.

use std::path::{Path, PathBuf};

use pyexec_client::start::is_executable;
use serde_json::Value;

use super::check::Check;
use crate::ask::{self, ask, find_on_path, version_in};

/// The oldest that was found to know all that it is asked: 0.5.16 cannot list Pythons as JSON.
const OLDEST_UV: [u32; 3] = [0, 5, 20];
/// The oldest that the daemon's `sitecustomize` is tested with.
const OLDEST_PYTHON: [u32; 2] = [3, 8];

const GET_UV: &str = "install it with one of `curl -LsSf https://astral.sh/uv/install.sh | sh`, `pipx install uv`, \
    `cargo install --locked uv`; `pyexec run --no-uv` does without";

pub(super) async fn checks(uv_by_settings: Option<PathBuf>) -> Vec<Check> {
    let (uv, python) = tokio::join!(uv(uv_by_settings), system());
    uv.into_iter().chain([python]).collect()
}

async fn uv(by_settings: Option<PathBuf>) -> Vec<Check> {
    let uv = match find_uv(by_settings) {
        Ok(uv) => uv,
        Err(check) => return vec![check],
    };
    let at = uv.display();
    let version = match ask(&uv, &["--version"], ask::SHORT).await {
        Ok(said) => version_in(&said),
        Err(silence) => {
            let hint = format!("try `{at} --version`, and reinstall it; PYEXEC_UV can name another uv");
            return vec![Check::problem("uv", format!("{at} {silence}"), hint)];
        }
    };
    let uv_check = match version {
        Some((version, numbers)) if numbers.as_slice() < &OLDEST_UV[..] => {
            let oldest = OLDEST_UV.map(|number| number.to_string()).join(".");
            let detail = format!("{version}, {at}; older than {oldest}");
            Check::warning("uv", detail, "`uv self update`, or install it anew")
        }
        Some((version, _)) => Check::ok("uv", format!("{version}, {at}")),
        None => Check::warning("uv", format!("{at} does not say its version"), GET_UV),
    };
    vec![uv_check, pythons(&uv).await]
}

/// Where the daemon looks, in that order.
fn find_uv(by_settings: Option<PathBuf>) -> Result<PathBuf, Check> {
    let callers = std::env::var_os("PYEXEC_UV").filter(|name| !name.is_empty()).map(PathBuf::from);
    if let Some(named) = callers.or(by_settings) {
        return if is_executable(&named) {
            Ok(named)
        } else {
            let detail = format!("{} (from the settings or PYEXEC_UV) is not executable", named.display());
            Err(Check::problem("uv", detail, "correct the path, or remove it so that uv is searched for"))
        };
    }
    let home = std::env::home_dir();
    let usual = [".local/bin/uv", ".cargo/bin/uv"].into_iter().filter_map(|place| Some(home.as_deref()?.join(place)));
    let found = find_on_path("uv").into_iter().chain(usual).find(|file| is_executable(file));
    found.ok_or_else(|| Check::problem("uv", "not found", GET_UV))
}

async fn pythons(uv: &Path) -> Check {
    const NAME: &str = "pythons";
    // Newer ones first; more than these are in nobody's way.
    const SHOWN: usize = 8;
    let arguments = ["python", "list", "--only-installed", "--output-format", "json"];
    let listed = match ask(uv, &arguments, ask::LONG).await {
        Ok(listed) => listed,
        Err(silence) => return Check::warning(NAME, format!("uv {silence}"), "try `uv python list`"),
    };
    let versions = versions(&listed);
    if versions.is_empty() {
        let hint = "`uv python install` downloads one; so does the first job, if it has network access";
        return Check::warning(NAME, "uv finds no Python", hint);
    }
    let more = versions.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Check::ok(NAME, format!("{}{more}", versions[..versions.len().min(SHOWN)].join(", ")))
}

/// Each once, in the order uv has them: newest first.
fn versions(listed: &str) -> Vec<String> {
    let listed: Vec<Value> = serde_json::from_str(listed).unwrap_or_default();
    let mut versions: Vec<String> = Vec::new();
    for entry in &listed {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let Some(version) = text("version") else { continue };
        let version = match text("implementation") {
            Some("cpython") | None => version.to_owned(),
            Some(other) => format!("{other} {version}"),
        };
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

/// What `--no-uv` runs with.
async fn system() -> Check {
    const NAME: &str = "python3";
    let Some(python) = find_on_path(NAME) else {
        return Check::warning(NAME, "none on PATH", "only `--no-uv` needs it: install Python, or leave it to uv");
    };
    let at = python.display();
    match ask(&python, &["--version"], ask::SHORT).await {
        Ok(said) => match version_in(&said) {
            Some((version, numbers)) if numbers.as_slice() < &OLDEST_PYTHON[..] => {
                let oldest = OLDEST_PYTHON.map(|number| number.to_string()).join(".");
                Check::warning(NAME, format!("{version}, {at}; older than {oldest}"), "install a newer one")
            }
            Some((version, _)) => Check::ok(NAME, format!("{version}, {at}")),
            None => Check::warning(NAME, format!("{at} does not say its version"), format!("try `{at} --version`")),
        },
        Err(silence) => Check::warning(NAME, format!("{at} {silence}"), format!("try `{at} --version`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_named_once() {
        let listed = r#"[{"version": "3.13.0", "implementation": "cpython"}, {"version": "3.13.0"},
            {"version": "3.10.1", "implementation": "pypy"}, {"path": "x"}]"#;
        assert_eq!(versions(listed), ["3.13.0", "pypy 3.10.1"]);
        assert!(versions("no JSON").is_empty());
    }
}
