//! What is known of uv's settings: which of them `uv run` and `uv pip` understand alike, and which name something else to
//! be read.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Where a settings file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The user's `uv.toml`, or the system's.
    Shared,
    /// A directory's.
    UvToml,
    /// A table of it.
    Pyproject,
}

/// A settings file that holds.
#[derive(Debug)]
pub(super) struct SettingsFile<'a> {
    pub(super) path: &'a Path,
    pub(super) content: &'a [u8],
    pub(super) source: Source,
}

/// To these, `uv run` and `uv pip` give the same meaning, or neither gives any.
const UNDERSTOOD: [&str; 56] = [
    "add-bounds",
    "allow-insecure-host",
    "audit",
    "build-backend",
    "cache-dir",
    "cache-keys",
    "check-url",
    "compile-bytecode",
    "concurrent-builds",
    "concurrent-downloads",
    "concurrent-installs",
    "config-settings",
    "config-settings-package",
    "conflicts",
    "default-groups",
    "dependency-groups",
    "dependency-metadata",
    "dev-dependencies",
    "exclude-newer",
    "exclude-newer-package",
    "extra-index-url",
    "find-links",
    "fork-strategy",
    "http-proxy",
    "https-proxy",
    "index",
    "index-strategy",
    "index-url",
    "keyring-provider",
    "link-mode",
    "managed",
    "native-tls",
    "no-binary",
    "no-binary-package",
    "no-build",
    "no-build-package",
    "no-cache",
    "no-index",
    "no-proxy",
    "no-sources",
    "no-sources-package",
    "offline",
    "package",
    "prerelease",
    "prerelease-package",
    "publish-url",
    "pypy-install-mirror",
    "python-downloads",
    "python-downloads-json-url",
    "python-install-mirror",
    "python-preference",
    "required-version",
    "resolution",
    "sources",
    "system-certs",
    "trusted-publishing",
];

/// These change what is installed for one and the same resolution.
const BUILDING: [&str; 6] =
    ["config-settings", "config-settings-package", "no-binary", "no-binary-package", "no-build", "no-build-package"];

/// The settings in one file.
#[derive(Debug)]
pub(super) struct Options<'a> {
    path: &'a Path,
    table: Table,
}

impl<'a> Options<'a> {
    /// The error says why it cannot be known what they are.
    pub(super) fn read(file: &SettingsFile<'a>) -> Result<Self, String> {
        let whole = table(file.path, file.content)?;
        let table = match file.source {
            Source::Shared | Source::UvToml => whole,
            Source::Pyproject => tool_uv(&whole).cloned().unwrap_or_default(),
        };
        Ok(Self { path: file.path, table })
    }

    /// What of them is part of a key; nothing where nothing is set. The user's and the system's are told apart by their order:
    /// where one of them is missing, the other has the same effect in either place.
    pub(super) fn key(&self, file: &SettingsFile<'_>) -> Option<Vec<u8>> {
        if self.table.is_empty() {
            return None;
        }
        Some(match file.source {
            Source::Shared => file.content.to_vec(),
            Source::UvToml | Source::Pyproject => format!("directory\0{:?}", self.table).into_bytes(),
        })
    }

    /// Why these are left to `uv run` itself.
    pub(super) fn uncertain(&self) -> Option<String> {
        let path = self.path.display();
        if let Some(other) = self.table.keys().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
            return Some(format!("`{other}` is set in {path}"));
        }
        let local = self.addresses().find(|address| address.is_none_or(|address| !is_remote(address)));
        let link = || self.found_links().find(|link| link.is_none_or(|link| link.contains('$')));
        match (local, link()) {
            (None, None) => None,
            (Some(_), _) => Some(format!("{path} names an index that is not on the web")),
            (None, Some(_)) => Some(format!("what `find-links` in {path} names is not known")),
        }
    }

    pub(super) fn is_offline(&self) -> bool {
        self.table.get("offline").and_then(Value::as_bool).unwrap_or(false)
    }

    /// What of them changes how packages are built.
    pub(super) fn building(&self) -> Vec<Vec<u8>> {
        let set = BUILDING.iter().filter_map(|name| Some((*name, self.table.get(*name)?)));
        set.map(|(name, value)| format!("{name}={value:?}").into_bytes()).collect()
    }

    /// The directories of packages that they name.
    pub(super) fn links(&self) -> Vec<PathBuf> {
        let directory = self.path.parent().unwrap_or(self.path);
        let local = self.found_links().flatten().filter(|link| !is_remote(link) && !link.contains('$'));
        local.map(|link| directory.join(link)).collect()
    }

    /// `None` for one that is no text.
    fn found_links(&self) -> impl Iterator<Item = Option<&str>> {
        self.table.get("find-links").and_then(Value::as_array).into_iter().flatten().map(Value::as_str)
    }

    /// Of all indexes; `None` for one that has none.
    fn addresses(&self) -> impl Iterator<Item = Option<&str>> {
        let list = |name| self.table.get(name).and_then(Value::as_array).into_iter().flatten();
        let indexes = list("index").map(|index| index.get("url").and_then(Value::as_str));
        let extra = list("extra-index-url").map(Value::as_str);
        indexes.chain(extra).chain(self.table.get("index-url").map(Value::as_str))
    }
}

/// What a `pyproject.toml` is to the search for settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pyproject {
    pub(super) is_workspace: bool,
    /// Of a project that uv looks after.
    pub(super) is_project: bool,
    pub(super) has_settings: bool,
}

impl Pyproject {
    pub(super) fn read(path: &Path, content: &[u8]) -> Result<Self, String> {
        let whole = table(path, content)?;
        let uv = tool_uv(&whole);
        let is_managed = uv.and_then(|uv| uv.get("managed")).and_then(Value::as_bool).unwrap_or(true);
        Ok(Self {
            is_workspace: uv.is_some_and(|uv| uv.contains_key("workspace")),
            is_project: whole.contains_key("project") && is_managed,
            has_settings: uv.is_some(),
        })
    }
}

/// An address on the web.
pub(super) fn is_remote(address: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme))
}

fn tool_uv(whole: &Table) -> Option<&Table> {
    whole.get("tool")?.get("uv")?.as_table()
}

fn table(path: &Path, content: &[u8]) -> Result<Table, String> {
    let text = std::str::from_utf8(content).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    text.parse().map_err(|_| format!("{} is not TOML", path.display()))
}
