//! The environment for jobs: that of the client, without the variables that `uvx` or a wrapping `uv run` set for this
//! server, and without the virtual environment that the server is installed in.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Set by `uv run` in its child: the nesting depth of `uv run`.
const DEPTH: &str = "UV_RUN_RECURSION_DEPTH";
/// Set by `uv run` and `uvx`: the path of uv.
const UV: &str = "UV";
const VIRTUAL_ENV: &str = "VIRTUAL_ENV";

/// The variables of this process, without those set for the server itself.
pub(super) fn variables_of_this_process() -> Vec<(OsString, OsString)> {
    let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let unwrapped = unwrapped(variables, has_python);
    let own = std::env::current_exe().ok().and_then(|program| environment_of(&program, is_environment));
    match own {
        Some(own) => without(&own, unwrapped, real),
        None => unwrapped,
    }
}

fn is_environment(directory: &Path) -> bool {
    directory.join("pyvenv.cfg").is_file()
}

/// The virtual environment that a program is installed in.
fn environment_of(program: &Path, is_environment: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    program.ancestors().skip(1).find(|above| is_environment(above)).map(Path::to_owned)
}

/// Resolves links if the path exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Removes the environment `own`: that it is active tells where this server is installed, not where jobs should run.
/// `real` resolves links.
fn without(
    own: &Path,
    variables: Vec<(OsString, OsString)>,
    real: impl Fn(&Path) -> PathBuf,
) -> Vec<(OsString, OsString)> {
    let (own, programs) = (real(own), real(&own.join("bin")));
    let kept = |(name, value): (OsString, OsString)| match name.to_str() {
        Some(VIRTUAL_ENV) if real(Path::new(&value)) == own => None,
        Some("PATH") => {
            let others = std::env::split_paths(&value).filter(|entry| real(entry) != programs);
            let path = std::env::join_paths(others).unwrap_or_else(|_| value.clone());
            Some((name, path))
        }
        Some(_) | None => Some((name, value)),
    };
    variables.into_iter().filter_map(kept).collect()
}

fn has_python(directory: &Path) -> bool {
    directory.join("python").exists() || directory.join("python3").exists()
}

/// Whether a directory belongs to an environment in `archive-v0` of uv's cache, which holds those for `--with`.
fn is_cached(directory: &Path) -> bool {
    let is_archive = |part: &str| {
        part.strip_prefix("archive-v").is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
    };
    directory.iter().any(|part| part.to_str().is_some_and(is_archive))
}

/// Removes the variables of a wrapper. `has_python` tells whether a directory of `PATH` contains an interpreter: uv
/// adds only such directories.
fn unwrapped(
    mut variables: Vec<(OsString, OsString)>,
    has_python: impl Fn(&Path) -> bool,
) -> Vec<(OsString, OsString)> {
    let value = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let depth: usize = match (value(DEPTH), value(UV)) {
        (Some(depth), _) => depth.to_str().and_then(|depth| depth.parse().ok()).unwrap_or(1),
        // `uvx` does not set the depth.
        (None, Some(_)) => 1,
        (None, None) => return variables,
    };
    let mut entries: Vec<PathBuf> =
        value("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut removed: Vec<PathBuf> = Vec::new();
    for _ in 0..depth {
        if entries.first().is_none_or(|first| !has_python(first)) {
            continue;
        }
        // `--with` puts an environment for this run alone, and the cached one that it extends, before the base
        // environment.
        let added = if entries.get(1).is_some_and(|second| is_cached(second)) { 3 } else { 1 };
        removed.extend(entries.drain(..added.min(entries.len())));
    }
    if let Ok(path) = std::env::join_paths(&entries) {
        variables.iter_mut().filter(|(name, _)| name == "PATH").for_each(|(_, value)| value.clone_from(&path));
    }
    // An environment that was activated before stays.
    let is_uvs = |environment: &OsStr| removed.iter().any(|entry| entry == &Path::new(environment).join("bin"));
    variables.retain(|(name, value)| name != DEPTH && !(name == VIRTUAL_ENV && is_uvs(value)));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped_text(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        let has_python = |directory: &Path| directory.to_str().is_some_and(|path| path.contains("py"));
        let mut kept: Vec<String> = unwrapped(variables, has_python)
            .into_iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        kept.sort();
        kept
    }

    #[test]
    fn what_uv_put_in_for_the_server_does_not_reach_a_job() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            // Not wrapped: an environment that somebody activated stays.
            (&[("PATH", "/py/bin:/bin"), ("VIRTUAL_ENV", "/py")], &["PATH=/py/bin:/bin", "VIRTUAL_ENV=/py"]),
            // `uv run` in a project.
            (
                &[("PATH", "/py/.venv/bin:/bin"), ("VIRTUAL_ENV", "/py/.venv"), ("UV", "/uv"), (DEPTH, "1")],
                &["PATH=/bin", "UV=/uv"],
            ),
            // `uv run --no-project` with an environment activated outside: that is the user's.
            (
                &[("PATH", "/py1/bin:/py2/bin:/bin"), ("VIRTUAL_ENV", "/py2"), ("UV", "/uv"), (DEPTH, "1")],
                &["PATH=/py2/bin:/bin", "UV=/uv", "VIRTUAL_ENV=/py2"],
            ),
            // `uv run --with`: three directories, of which the first is what `VIRTUAL_ENV` names.
            (
                &[
                    ("PATH", "/uv/builds-v0/py/bin:/uv/archive-v0/py/bin:/py/.venv/bin:/py2/bin:/bin"),
                    ("VIRTUAL_ENV", "/uv/builds-v0/py"),
                    ("UV", "/uv"),
                    (DEPTH, "1"),
                ],
                &["PATH=/py2/bin:/bin", "UV=/uv"],
            ),
            // `uv run --isolated`: one, though it lies in uv's cache.
            (
                &[
                    ("PATH", "/uv/builds-v0/py/bin:/py2/bin:/bin"),
                    ("VIRTUAL_ENV", "/uv/builds-v0/py"),
                    ("UV", "/uv"),
                    (DEPTH, "1"),
                ],
                &["PATH=/py2/bin:/bin", "UV=/uv"],
            ),
            // `uvx`.
            (&[("PATH", "/cache/py/bin:/bin"), ("UV", "/uv")], &["PATH=/bin", "UV=/uv"]),
            // Two of them.
            (&[("PATH", "/py1/bin:/py2/bin:/bin"), ("UV", "/uv"), (DEPTH, "2")], &["PATH=/bin", "UV=/uv"]),
            // An editor that was itself started so, and has put something in front.
            (&[("PATH", "/editor/bin:/py/bin"), ("UV", "/uv"), (DEPTH, "1")], &["PATH=/editor/bin:/py/bin", "UV=/uv"]),
        ];
        for (variables, kept) in cases {
            assert_eq!(unwrapped_text(variables), kept, "{variables:?}");
        }
    }

    #[test]
    fn the_environment_that_the_server_is_installed_in_does_not_reach_a_job() {
        let real = |path: &Path| Path::new("/").join(path.strip_prefix("/link").unwrap_or(path));
        let kept = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
            let kept = without(Path::new("/own"), variables, real).into_iter();
            kept.map(|(name, value)| format!("{}={}", name.display(), value.display())).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[("PATH", "/a:/own/bin:/b"), ("VIRTUAL_ENV", "/own")]), ["PATH=/a:/b"]);
        assert_eq!(kept(&[("PATH", "/link/own/bin:/b"), ("VIRTUAL_ENV", "/link/own")]), ["PATH=/b"]);
        // Another one that is active is the user's.
        assert_eq!(kept(&[("VIRTUAL_ENV", "/py"), ("PATH", "/py/bin:/own/bin")]), ["VIRTUAL_ENV=/py", "PATH=/py/bin"]);
    }

    #[test]
    fn a_program_is_in_the_environment_that_it_is_installed_in() {
        let is_environment = |directory: &Path| directory == Path::new("/env");
        let of = |program: &str| environment_of(Path::new(program), is_environment);
        assert_eq!(of("/env/bin/pyexec-mcp"), Some("/env".into()));
        assert_eq!(of("/usr/bin/pyexec-mcp"), None);
    }
}
