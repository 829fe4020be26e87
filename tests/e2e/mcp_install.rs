//! `pyexec mcp`: the settings of editors and agents, which are not ours, are changed in one place only, and never lost.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::sandbox::{PYEXEC, Ran, Sandbox, file_names, path_variable};

/// Each client, and its file in the directories of a sandbox.
pub(crate) const CLIENTS: [(&str, &str); 6] = [
    ("claude-code", "home/.claude.json"),
    ("claude-desktop", "config/Claude/claude_desktop_config.json"),
    ("cursor", "home/.cursor/mcp.json"),
    ("vscode", "config/Code/User/mcp.json"),
    ("zed", "config/zed/settings.json"),
    ("codex", "home/.codex/config.toml"),
];

/// A home with a `pyexec-mcp` on `PATH`.
struct Home {
    sandbox: Sandbox,
    program: PathBuf,
}

impl Home {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.set_pyexec_apart();
        let bin = sandbox.root().join("bin");
        let program = put_program(&bin);
        sandbox.set("PATH", path_variable(&bin));
        Self { sandbox, program }
    }

    fn file(&self, client: &str) -> PathBuf {
        let (_, file) = CLIENTS.iter().find(|(name, _)| *name == client).expect("is one of them");
        self.sandbox.root().join(file)
    }

    /// Writes the settings of a client.
    fn write(&self, client: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(client);
        std::fs::create_dir_all(path.parent().expect("lies in a directory")).expect("can be made");
        std::fs::write(&path, text).expect("can be written");
        path
    }

    fn install(&self, client: &str) -> Ran {
        self.sandbox.pyexec(["mcp", "install", "--client", client])
    }

    fn json(&self, client: &str) -> Value {
        serde_json::from_str(&read(&self.file(client))).expect("is JSON")
    }
}

pub(crate) fn put_program(directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).expect("can be made");
    let program = directory.join("pyexec-mcp");
    std::fs::write(&program, "#!/bin/sh\necho pyexec-mcp 0.1.0\n").expect("can be written");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("can be set");
    program
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_client_gets_the_form_it_documents() {
    let home = Home::new();
    let arguments = CLIENTS.iter().flat_map(|(client, _)| ["--client", client]);
    let ran = home.sandbox.pyexec(["mcp", "install"].into_iter().chain(arguments)).expect_code(0);
    for (client, file) in CLIENTS {
        assert!(
            ran.text().contains(&format!("{client}: added to {}", home.sandbox.root().join(file).display())),
            "{ran}"
        );
        assert!(ran.stderr.contains(&format!("note: {client} does not seem to be installed")), "{ran}");
    }
    let command = home.program.to_str().expect("is UTF-8");
    let typed = json!({"type": "stdio", "command": command, "args": []});
    let plain = json!({"command": command, "args": []});
    for (client, section, entry) in [
        ("claude-code", "mcpServers", &typed),
        ("claude-desktop", "mcpServers", &plain),
        ("cursor", "mcpServers", &plain),
        ("vscode", "servers", &typed),
        ("zed", "context_servers", &plain),
    ] {
        assert_eq!(home.json(client), json!({section: {"pyexec": entry}}), "{client}");
    }
    let codex: toml::Table = read(&home.file("codex")).parse().expect("is TOML");
    assert_eq!(codex["mcp_servers"]["pyexec"]["command"].as_str(), Some(command));
    assert!(home.sandbox.daemons().is_empty(), "a daemon was started");
}

#[test]
fn a_second_time_changes_nothing_and_makes_no_backup() {
    let home = Home::new();
    for (client, _) in CLIENTS {
        home.install(client).expect_code(0);
        let path = home.file(client);
        let (before, was) = (read(&path), path.metadata().expect("is there"));
        let again = home.install(client).expect_code(0);
        assert_eq!(again.text(), format!("{client}: already in {}\n", path.display()));
        assert_eq!(read(&path), before);
        assert_eq!(path.metadata().expect("is there").ino(), was.ino(), "{client}: written anew");
        assert!(!file_names(path.parent().expect("has one")).iter().any(|name| name.contains(".bak")), "{client}");
    }
}

#[test]
fn a_file_is_kept_beside_its_new_form_and_comes_back_when_the_entry_goes() {
    let home = Home::new();
    let text = "// mine\n{\n\t\"theme\": \"One Dark\", // dark\n\t\"context_servers\": {\n\t\t\"other\": {\"command\": \"x\",},\n\t},\n}\n";
    let path = home.write("zed", text);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("can be set");
    let ran = home.install("zed").expect_code(0);
    let backup = path.with_file_name("settings.json.bak");
    assert!(ran.stderr.contains(&format!("is in {}", backup.display())), "{ran}");
    assert_eq!(read(&backup), text);
    for file in [&path, &backup] {
        assert_eq!(file.metadata().expect("is there").mode() & 0o777, 0o600, "{}", file.display());
    }
    let installed = read(&path);
    for line in ["// mine", "\t\"theme\": \"One Dark\", // dark", "\t\t\"other\": {\"command\": \"x\",},"] {
        assert!(installed.lines().any(|found| found == line), "{line:?} is not in\n{installed}");
    }
    let gone = home.sandbox.pyexec(["mcp", "uninstall", "--client", "zed"]).expect_code(0);
    assert_eq!(gone.text(), format!("zed: removed from {}\n", path.display()));
    assert_eq!(read(&path), text);
    assert_eq!(read(&path.with_file_name("settings.json.bak.1")), installed);
    let gone = home.sandbox.pyexec(["mcp", "uninstall", "--client", "zed"]).expect_code(0);
    assert_eq!(gone.text(), format!("zed: not in {}\n", path.display()));
}

#[test]
fn what_an_owner_has_added_to_the_entry_stays() {
    let home = Home::new();
    let entry = json!({"command": "/old/pyexec-mcp", "args": ["x"], "env": {"A": "1"}, "disabled": true});
    home.write("cursor", json!({"mcpServers": {"pyexec": entry, "b": {"url": "u"}}, "z": 1}).to_string());
    let ran = home.install("cursor").expect_code(0);
    assert!(ran.text().starts_with("cursor: updated in "), "{ran}");
    let entry = json!({"command": home.program.to_str(), "args": [], "env": {"A": "1"}, "disabled": true});
    assert_eq!(home.json("cursor"), json!({"mcpServers": {"pyexec": entry, "b": {"url": "u"}}, "z": 1}));
    let with = ["mcp", "install", "--client", "cursor", "--", "--toolset", "core"];
    home.sandbox.pyexec(with).expect_code(0);
    assert_eq!(home.json("cursor")["mcpServers"]["pyexec"]["args"], json!(["--toolset", "core"]));
}

#[test]
fn a_dry_run_shows_the_change_and_makes_none() {
    let home = Home::new();
    let path = home.write("codex", "model = \"x\"\n");
    let before = home.sandbox.files();
    let ran = home.sandbox.pyexec(["mcp", "install", "--client", "codex", "--client", "vscode", "--dry-run"]);
    let ran = ran.expect_code(0);
    for line in [
        &*format!("+++ {}", path.display()),
        "@@ -1,1 +1,5 @@",
        " model = \"x\"",
        "+[mcp_servers.pyexec]",
        "--- /dev/null",
        "+      \"type\": \"stdio\",",
    ] {
        assert!(ran.text().lines().any(|found| found == line), "{line:?} is not in\n{ran}");
    }
    assert_eq!(home.sandbox.files(), before);
    assert_eq!(read(&path), "model = \"x\"\n");
    assert!(!home.file("vscode").parent().expect("has one").exists(), "a directory was made");
}

#[test]
fn a_file_that_can_not_be_understood_is_left_alone_and_the_snippet_is_shown() {
    let home = Home::new();
    let broken = "{\n  \"mcpServers\": {\n    \"a\" 1\n  }\n}\n";
    let path = home.write("cursor", broken);
    home.write("codex", "a = \n");
    // The other one is done all the same.
    let arguments = ["mcp", "install", "--client", "cursor", "--client", "codex", "--client", "zed"];
    let ran = home.sandbox.pyexec(arguments).expect_code(125);
    assert!(ran.stderr.contains("mcp.json: line 3, column 9: "), "{ran}");
    assert!(ran.stderr.contains("config.toml: line 1, column "), "{ran}");
    assert!(ran.stderr.contains("hint: nothing was changed; ") && ran.stderr.contains("    \"pyexec\": {\n"), "{ran}");
    assert_eq!(read(&path), broken);
    assert_eq!(file_names(path.parent().expect("has one")), ["mcp.json"]);
    assert_eq!(home.json("zed")["context_servers"]["pyexec"]["args"], json!([]));
}

#[test]
fn a_link_to_the_settings_stays_a_link() {
    let home = Home::new();
    let kept = home.sandbox.write("dotfiles.json", "{\"mcpServers\": {}}\n");
    let path = home.file("claude-code");
    symlink(&kept, &path).expect("can be made");
    home.install("claude-code").expect_code(0);
    assert!(path.is_symlink());
    assert_eq!(home.json("claude-code")["mcpServers"]["pyexec"]["type"], "stdio");
    assert_eq!(read(&home.sandbox.root().join("home/.claude.json.bak")), "{\"mcpServers\": {}}\n");
    // One that leads nowhere yet.
    std::fs::remove_file(&kept).expect("is there");
    home.install("claude-code").expect_code(0);
    assert!(path.is_symlink() && kept.is_file());
}

#[test]
fn settings_of_many_megabytes_are_no_other_than_small_ones() {
    let home = Home::new();
    let projects: serde_json::Map<String, Value> = (0..20_000)
        .map(|n| (format!("/home/u/{n}"), json!({"history": ["x".repeat(600)], "mcpServers": {}, "n": n})))
        .collect();
    let mut settings = json!({"numStartups": 7, "projects": projects});
    let text = serde_json::to_string_pretty(&settings).expect("is JSON");
    assert!(text.len() > 10 << 20);
    home.write("claude-code", &text);
    home.install("claude-code").expect_code(0);
    settings["mcpServers"] = json!({"pyexec": {"type": "stdio", "command": home.program.to_str(), "args": []}});
    assert_eq!(home.json("claude-code"), settings);
}

#[test]
fn a_program_beside_pyexec_is_taken_before_one_on_path() {
    let home = Home::new();
    let beside = home.sandbox.root().join("beside");
    let program = put_program(&beside);
    std::fs::copy(PYEXEC, beside.join("pyexec")).expect("can be copied");
    let mut command = home.sandbox.command(beside.join("pyexec"));
    command.args(["mcp", "install", "--client", "cursor"]);
    home.sandbox.attend(command).end().expect_code(0);
    assert_eq!(home.json("cursor")["mcpServers"]["pyexec"]["command"].as_str(), program.to_str());
    std::fs::set_permissions(&home.program, PermissionsExt::from_mode(0o644)).expect("can be set");
    let ran = home.install("zed").expect_code(125);
    assert!(ran.stderr.starts_with("error: cannot find `pyexec-mcp`\nhint: "), "{ran}");
    assert!(!home.file("zed").exists());
}

#[test]
fn a_client_is_found_where_its_own_variable_says() {
    let mut home = Home::new();
    let elsewhere = home.sandbox.root().join("elsewhere");
    home.sandbox.set("CLAUDE_CONFIG_DIR", &elsewhere);
    home.sandbox.set("CODEX_HOME", &elsewhere);
    home.install("claude-code").expect_code(0);
    home.install("codex").expect_code(0);
    assert_eq!(file_names(&elsewhere), [".claude.json", "config.toml"]);
}

#[test]
fn the_list_says_who_is_connected() {
    let home = Home::new();
    home.install("zed").expect_code(0);
    home.write("cursor", "{}");
    home.write("codex", "= 1");
    home.write("vscode", "{\"servers\": {\"pyexec\": {\"command\": \"/nowhere/pyexec-mcp\"}}}");
    let listed = home.sandbox.pyexec(["mcp", "list"]).expect_code(0).text();
    for (client, state) in [
        ("zed", "yes"),
        ("cursor", "no"),
        ("codex", "unclear"),
        ("vscode", "broken"),
        ("claude-desktop", "not installed"),
    ] {
        let line = listed.lines().find(|line| line.starts_with(client)).expect("is listed");
        assert!(line[client.len()..].trim_start().starts_with(state), "{client} is not {state}:\n{listed}");
    }
}
