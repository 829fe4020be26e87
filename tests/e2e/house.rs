//! The house itself: what is declared, and who imports whom.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    crate::sandbox::manifest_directory().parent().expect("the crate lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn declared_module(line: &str) -> Option<String> {
    Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
}

#[test]
fn every_file_of_the_end_to_end_tests_is_a_module() {
    let directory = workspace().join("tests/e2e");
    let files = rust_files(&directory);
    let declared: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|file| {
            let below = if file.ends_with("main.rs") { directory.clone() } else { file.with_extension("") };
            let names: Vec<String> = read(file).lines().filter_map(declared_module).collect();
            names.into_iter().map(move |name| below.join(name).with_extension("rs"))
        })
        .collect();
    let files: BTreeSet<PathBuf> = files.into_iter().filter(|file| !file.ends_with("main.rs")).collect();
    assert_eq!(declared, files, "a test in a file that is no module is never run");
}

#[test]
fn every_scenario_for_clients_is_played() {
    let played = read(&workspace().join("tests/e2e/mcp_clients.rs"));
    let directory = workspace().join("tests/clients");
    let scenarios: Vec<String> = std::fs::read_dir(&directory)
        .expect("can be listed")
        .map(|entry| entry.expect("can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .flat_map(|path| read(&path).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| Some(line.strip_prefix("async def ")?.strip_suffix("(clients):")?.to_owned()))
        .collect();
    assert!(!scenarios.is_empty());
    let forgotten: Vec<&String> = scenarios
        .iter()
        .filter(|name| {
            !played.split(|letter: char| letter != '_' && !letter.is_alphanumeric()).any(|word| word == *name)
        })
        .collect();
    assert!(forgotten.is_empty(), "no client plays {forgotten:?}");
}

/// Which crates of ours a crate depends on.
#[test]
fn crates_depend_on_each_other_only_downwards() {
    let rules: [(&str, &[&str]); 10] = [
        ("proto", &[]),
        ("run-directory", &["pyexec-proto"]),
        ("sys", &[]),
        ("python", &[]),
        // Nothing that waits in an event loop, no database, no bus: a process of it stands beside each job.
        ("supervisor", &["pyexec-proto", "pyexec-run-directory", "pyexec-sys"]),
        ("client", &["pyexec-proto", "pyexec-run-directory"]),
        ("view", &["pyexec-proto"]),
        // What is shown of jobs is for tests and fuzzing: whatever a run directory says can be shown.
        (
            "pyexecd",
            &[
                "pyexec-client",
                "pyexec-proto",
                "pyexec-python",
                "pyexec-run-directory",
                "pyexec-supervisor",
                "pyexec-sys",
                "pyexec-view",
            ],
        ),
        ("pyexec-cli", &["pyexec-client", "pyexec-proto", "pyexec-run-directory", "pyexec-view"]),
        ("pyexec-mcp", &["pyexec-client", "pyexec-proto", "pyexec-run-directory", "pyexec-view"]),
    ];
    for (directory, allowed) in rules {
        let manifest: toml::Table = read(&workspace().join(directory).join("Cargo.toml")).parse().expect("is TOML");
        let ours: Vec<&str> = ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|table| manifest.get(table)?.as_table())
            .flat_map(|table| table.keys())
            .map(String::as_str)
            .filter(|name| name.starts_with("pyexec"))
            .collect();
        assert_eq!(ours, allowed, "dependencies of {directory} on crates of ours");
    }
}

/// `unsafe` is the supervisor's and that of `sys`; every other crate refuses to compile with it.
#[test]
fn every_crate_but_two_forbids_unsafe_code() {
    let root = workspace();
    let manifest: toml::Table = read(&root.join("Cargo.toml")).parse().expect("is TOML");
    let members = manifest["workspace"]["members"].as_array().expect("is a list");
    let members = members.iter().map(|member| member.as_str().expect("is a path"));
    let allowing: Vec<&str> = members
        .filter(|member| root.join(member).join("src/lib.rs").exists())
        .filter(|member| !read(&root.join(member).join("src/lib.rs")).contains("#![forbid(unsafe_code)]"))
        .collect();
    assert_eq!(allowing, ["supervisor", "sys"]);
}

/// Of the daemon's modules: who may name what. What is not listed may name nothing of the crate; `lib` declares them all.
///
/// Downwards only: daemon, service, jobs, then what jobs are made with. Where it is not, the entry says why.
const MAY_NAME: [(&str, &[&str]); 12] = [
    // Puts everything together.
    (
        "daemon",
        &[
            "blocking",
            "client_files",
            "config",
            "engine",
            "environment",
            "fault",
            "jobs",
            "listener",
            "logging",
            "scripts",
            "service",
            "store",
        ],
    ),
    // Upwards: bounds of the history are settings, and what they mean is decided in a pure file.
    ("config", &["jobs::retention"]),
    // Tests and fuzzing look at readers of all kinds.
    ("fuzzing", &["engine", "jobs::recovery", "progress"]),
    // Its process is another verb of this program.
    ("client_files", &["blocking"]),
    // Speaks to the link of a running job itself: input and news of output need no decision.
    ("service", &["artifacts", "blocking", "jobs", "engine", "scripts"]),
    ("jobs", &["blocking", "client_files", "config", "engine", "environment", "fault", "progress", "store"]),
    // An order carries the command that an environment came to.
    ("engine", &["environment"]),
    // Only it knows what a scope is made for.
    ("engine::scopes", &[]),
    ("engine::local", &["blocking", "fault"]),
    ("environment", &["blocking", "client_files", "config", "fault"]),
    // Upwards: the index is asked for what retention, which is pure, looks at.
    ("store", &["jobs::retention"]),
    // Which requirements are right is said in one place.
    ("scripts", &["blocking", "config", "environment::check_requirement"]),
];

#[test]
fn modules_of_the_daemon_name_only_what_lies_below_them() {
    let source = workspace().join("pyexecd/src");
    let mut violations = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(&source, &file);
        for named in named_in(&read(&file)) {
            let own = module.split("::").next().unwrap_or(&module);
            if named.split("::").next() == Some(own) {
                continue;
            }
            if !may_name(&module, &named) {
                violations.push(format!("{module} names crate::{named}"));
            }
        }
    }
    assert!(violations.is_empty(), "against the import rule:\n{}", violations.join("\n"));
}

/// By the most specific entry there is for `module`.
fn may_name(module: &str, named: &str) -> bool {
    let is_within = |outer: &str, inner: &str| inner == outer || inner.starts_with(&format!("{outer}::"));
    let rule = MAY_NAME.iter().filter(|(who, _)| is_within(who, module)).max_by_key(|(who, _)| who.len());
    rule.is_some_and(|(_, allowed)| allowed.iter().any(|allowed| is_within(allowed, named)))
}

/// Every path of the crate that is named in the text, each imported name on its own; comments and tests included.
fn named_in(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, prefix) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        let path = &rest[..rest.find(|letter| !is_path(letter)).unwrap_or(rest.len())];
        match (path.strip_suffix("::"), rest[path.len()..].strip_prefix('{')) {
            (Some(parent), Some(group)) => {
                let group = &group[..group.find('}').unwrap_or(group.len())];
                for name in group.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    let name = if name == "self" { parent.to_owned() } else { format!("{parent}::{name}") };
                    named.insert(name);
                }
            }
            _ => drop(named.insert(path.to_owned())),
        }
    }
    named
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

#[test]
fn imports_are_read_one_by_one() {
    let text = "use crate::store::{Store, rows::{self}};\nlet x = crate::jobs::blocking(1); // [`crate::output`]";
    let expected = ["jobs::blocking", "output", "store::Store", "store::rows::{self"];
    assert_eq!(named_in(text), expected.map(str::to_owned).into());
}

/// tokio's threads, and `std::thread::spawn`, panic where the system gives no thread.
#[test]
fn threads_are_only_made_in_ways_that_can_fail() {
    let mut violations = Vec::new();
    for krate in [
        "proto",
        "run-directory",
        "supervisor",
        "sys",
        "python",
        "client",
        "view",
        "pyexecd",
        "pyexec-cli",
        "pyexec-mcp",
    ] {
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
