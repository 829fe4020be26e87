//! The clients: where each keeps the settings of its user, and in what form it wants a server of standard input and
//! output to be written there.

use std::path::{Path, PathBuf};

use pyexec_proto::paths::NoHome;

use super::edit::Form;
use crate::args::McpClient;

/// The directories that settings lie below.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    home: PathBuf,
    /// `XDG_CONFIG_HOME`, or `~/.config`.
    config: PathBuf,
    /// `CLAUDE_CONFIG_DIR`, if it is set.
    claude: Option<PathBuf>,
    /// `CODEX_HOME`, if it is set.
    codex: Option<PathBuf>,
}

impl Places {
    pub(crate) fn from_environment() -> Result<Self, NoHome> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or(NoHome::NotSet)?;
        Ok(Self {
            // A relative one means nothing, says its specification.
            config: named("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(".config")),
            claude: named("CLAUDE_CONFIG_DIR").map(absolute),
            codex: named("CODEX_HOME").map(absolute),
            home,
        })
    }
}

/// Where and how a client is told of a server.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) file: PathBuf,
    pub(crate) form: Form,
    /// A directory that is there where the client is.
    trace: PathBuf,
}

impl Settings {
    /// Of the user, not of a project.
    pub(crate) fn of(client: McpClient, places: &Places) -> Self {
        let Places { home, config, claude, codex } = places;
        match client {
            // <https://code.claude.com/docs/en/mcp>, "user scope": `mcpServers` at the top of `~/.claude.json`, each with
            // `type`, `command` and `args`. With CLAUDE_CONFIG_DIR the file is in that directory.
            McpClient::ClaudeCode => Self {
                file: claude.as_deref().unwrap_or(home).join(".claude.json"),
                form: Form::Json { section: "mcpServers", typed: true },
                trace: claude.clone().unwrap_or_else(|| home.join(".claude")),
            },
            // <https://modelcontextprotocol.io/docs/develop/connect-local-servers>: `mcpServers`, each with `command` and
            // `args`. There are only unofficial builds for Linux; they keep to the XDG directories.
            McpClient::ClaudeDesktop => Self {
                file: config.join("Claude/claude_desktop_config.json"),
                form: Form::Json { section: "mcpServers", typed: false },
                trace: config.join("Claude"),
            },
            // <https://cursor.com/docs/mcp>: `mcpServers` in `~/.cursor/mcp.json`; that it has a `command` says what it is.
            McpClient::Cursor => Self {
                file: home.join(".cursor/mcp.json"),
                form: Form::Json { section: "mcpServers", typed: false },
                trace: home.join(".cursor"),
            },
            // <https://code.visualstudio.com/docs/copilot/reference/mcp-configuration>: `servers` in the `mcp.json` of the
            // user's profile, each with a `type`. The default profile is the directory `User`.
            McpClient::VsCode => Self {
                file: config.join("Code/User/mcp.json"),
                form: Form::Json { section: "servers", typed: true },
                trace: config.join("Code"),
            },
            // <https://zed.dev/docs/ai/mcp>: `context_servers`, `command` being a string. Zed of 2025 also had `source`,
            // which it removes itself when it finds one.
            McpClient::Zed => Self {
                file: config.join("zed/settings.json"),
                form: Form::Json { section: "context_servers", typed: false },
                trace: config.join("zed"),
            },
            // <https://developers.openai.com/codex/mcp>: a table `[mcp_servers.NAME]` with `command` and `args`.
            McpClient::Codex => {
                let directory = codex.clone().unwrap_or_else(|| home.join(".codex"));
                Self { file: directory.join("config.toml"), form: Form::Toml, trace: directory }
            }
        }
    }

    /// Whether the client seems to be there at all.
    pub(crate) fn seems_installed(&self) -> bool {
        self.file.exists() || self.trace.is_dir()
    }

    pub(crate) fn trace(&self) -> &Path {
        &self.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(named: Option<&str>) -> Places {
        let named = named.map(PathBuf::from);
        Places { home: "/home/u".into(), config: "/home/u/.config".into(), claude: named.clone(), codex: named }
    }

    #[test]
    fn every_client_has_its_file() {
        for (client, file, elsewhere) in [
            (McpClient::ClaudeCode, "/home/u/.claude.json", "/else/.claude.json"),
            (
                McpClient::ClaudeDesktop,
                "/home/u/.config/Claude/claude_desktop_config.json",
                "/home/u/.config/Claude/claude_desktop_config.json",
            ),
            (McpClient::Cursor, "/home/u/.cursor/mcp.json", "/home/u/.cursor/mcp.json"),
            (McpClient::VsCode, "/home/u/.config/Code/User/mcp.json", "/home/u/.config/Code/User/mcp.json"),
            (McpClient::Zed, "/home/u/.config/zed/settings.json", "/home/u/.config/zed/settings.json"),
            (McpClient::Codex, "/home/u/.codex/config.toml", "/else/config.toml"),
        ] {
            assert_eq!(Settings::of(client, &places(None)).file, Path::new(file));
            assert_eq!(Settings::of(client, &places(Some("/else"))).file, Path::new(elsewhere));
        }
    }
}
