//! What files may hold: how long they are, and who may open, start or do what nobody checks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use super::{members, read, rust_files, workspace};

/// Longer ones hold two things.
const MOST_LINES: usize = 600;

#[test]
fn no_file_is_longer_than_600_lines() {
    let files: Vec<PathBuf> =
        members().iter().map(|member| workspace().join(member)).flat_map(|path| rust_files(&path)).collect();
    assert!(files.len() > 100, "only {} files were found", files.len());
    let length = |path: &Path| read(path).lines().count();
    let name = |path: &Path| path.strip_prefix(workspace()).expect("lies there").to_string_lossy().into_owned();
    let longer: Vec<String> = files.iter().filter(|path| length(path) > MOST_LINES).map(|path| name(path)).collect();
    assert!(longer.is_empty(), "split these: {longer:?}");
}

/// Where `unsafe` is allowed. `sys` is small enough to be read in one go.
const MAY_BE_UNSAFE: [&str; 2] = ["supervisor/src/", "sys/src/"];
const MOST_LINES_OF_SYS: usize = 150;

fn is_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "unsafe",
        TokenTree::Group(group) => is_unsafe(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[test]
fn only_the_supervisor_and_one_small_crate_have_unsafe_code() {
    let mut found = BTreeSet::new();
    for file in members().iter().flat_map(|member| rust_files(&workspace().join(member))) {
        let name = file.strip_prefix(workspace()).expect("lies there").to_string_lossy().into_owned();
        let tokens: TokenStream = read(&file).parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        if is_unsafe(tokens) && !MAY_BE_UNSAFE.iter().any(|allowed| name.starts_with(allowed)) {
            found.insert(name);
        }
    }
    assert!(found.is_empty(), "`unsafe` belongs into {MAY_BE_UNSAFE:?}: {found:?}");
    let lines: usize = rust_files(&workspace().join("sys/src")).iter().map(|file| read(file).lines().count()).sum();
    assert!(lines <= MOST_LINES_OF_SYS, "sys has {lines} lines");
}

/// The daemon's modules that open, look at or list files themselves, and whose files those are. What a client names is left
/// to `client_files`. A module that is not listed does neither.
const MAY_OPEN: [(&str, &str); 25] = [
    ("artifacts", "what a job has left in its run directory, opened beneath it and through no link"),
    ("client_files::looker", "what a client names: bounded, and in a process of its own"),
    ("config", "the settings of the daemon's user, read at its start"),
    ("daemon", "lock, state and runtime directory"),
    ("engine::local", "control sockets and run directories"),
    ("engine::local::link::out_of_reach", "what a supervisor has left in a run directory"),
    ("environment::cache", "the daemon's own cache"),
    ("environment::contents", "the daemon's own cache"),
    ("environment::inline", "a file in a run directory"),
    ("environment::locks", "locks in the daemon's own cache"),
    ("environment::log", "the stderr in a run directory"),
    ("environment::named", "the daemon's own data directory"),
    ("environment::sent_files", "a file in the daemon's own cache"),
    ("environment::startup", "the daemon's own cache"),
    ("succession", "the daemon's own state directory"),
    ("lib", "whether the settings are there, for --check-config"),
    ("listener", "the daemon's own socket"),
    ("logging", "the daemon's own log"),
    ("progress::reported", "the report in a run directory, through no link"),
    ("scripts", "a lock on the directory of scripts"),
    ("scripts::autosaved", "the directory of autosaved scripts"),
    ("scripts::files", "the directories of scripts, through no link"),
    ("service::admin", "the kernel's"),
    ("store::schema", "the index"),
    ("fuzzing", "not part of the daemon"),
];

/// Starting a program waits for its file and its directory: the same holds for who may do that.
const MAY_SPAWN: [(&str, &str); 2] = [
    ("client_files", "programs that a client names, off the thread that serves everybody"),
    ("engine::local::spare", "this very program"),
];

#[test]
fn only_one_module_of_the_daemon_touches_what_a_client_names() {
    const OPENS: [&str; 18] = [
        "std::fs",
        "tokio::fs",
        "rustix::fs::open",
        "rustix::fs::stat",
        "rustix::fs::access",
        "openat",
        "statat",
        "File::open",
        "File::create",
        "File::options",
        "OpenOptions",
        ".exists()",
        ".is_file()",
        ".is_dir()",
        "metadata()",
        ".canonicalize()",
        ".read_dir()",
        ".read_link()",
    ];
    const SPAWNS: [&str; 2] = [".spawn()", ".output()"];
    let source = workspace().join("pyexecd/src");
    let (mut violations, mut idle) = (Vec::new(), BTreeSet::from_iter(MAY_OPEN.map(|(module, _)| module)));
    for file in rust_files(&source) {
        let module = module_of(&source, &file);
        // Tests stand last in a file, or in one of their own.
        let text = read(&file);
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        if module.ends_with("tests") || module.ends_with("oracle") {
            continue;
        }
        for (tokens, allowed) in [(&OPENS[..], &MAY_OPEN[..]), (&SPAWNS[..], &MAY_SPAWN[..])] {
            let found = code.iter().find(|line| tokens.iter().any(|token| line.contains(token)));
            let rule = allowed
                .iter()
                .find(|(listed, _)| module == *listed || *listed == "fuzzing" && module.starts_with("fuzzing::"));
            match (found, rule) {
                (Some(line), None) => violations.push(format!("{module}: {}", line.trim())),
                (Some(_), Some((listed, _))) => drop(idle.remove(listed)),
                (None, _) => {}
            }
        }
    }
    assert!(violations.is_empty(), "open this through `client_files`:\n{}", violations.join("\n"));
    assert!(idle.is_empty(), "these open nothing, and need not be listed: {idle:?}");
}

/// As `crate::` would name it.
fn module_of(source: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(source).expect("lies there").with_extension("");
    let module = relative.to_string_lossy().replace('/', "::");
    module.strip_suffix("::mod").unwrap_or(&module).to_owned()
}

/// tokio's threads, and `std::thread::spawn`, panic where the system gives no thread.
#[test]
fn threads_are_only_made_in_ways_that_can_fail() {
    let mut violations = Vec::new();
    for krate in super::manifests::crates() {
        for file in rust_files(&workspace().join(krate).join("src")) {
            // Tests come last in a file, and may panic.
            let text = read(&file);
            let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
            for panics in ["thread::spawn(", "spawn_blocking(", "thread::scope("] {
                if code.contains(panics) {
                    violations.push(format!("{}: {panics}", file.display()));
                }
            }
        }
    }
    assert!(violations.is_empty(), "can panic:\n{}", violations.join("\n"));
}

/// What can be done about an error is said by the face that says the error: with the names of its own commands or tools.
#[test]
fn no_crate_below_the_faces_names_a_command_or_a_tool() {
    let mut named = Vec::new();
    for krate in ["proto", "run-directory", "client", "view"] {
        for file in rust_files(&workspace().join(krate).join("src")) {
            // Tests come last in a file.
            let text = read(&file);
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let is_named = |line: &&str| line.contains("`pyexec ") || line.contains("\"py_") || line.contains("`py_");
            named.extend(code.filter(is_named).map(|line| format!("{}: {}", file.display(), line.trim())));
        }
    }
    assert!(named.is_empty(), "these name what only one face has:\n{}", named.join("\n"));
}
