//! The editors and agents that could start `pyexec-mcp`.

use clap::ValueEnum;
use pyexec_client::start::is_executable;

use super::check::{Check, within_limit};
use crate::args::McpClient;
use crate::verbs::mcp::Connection;
use crate::verbs::mcp::clients::{Places, Settings};

pub(super) async fn checks() -> Vec<Check> {
    let Ok(places) = Places::from_environment() else { return Vec::new() };
    let look = move || McpClient::value_variants().iter().filter_map(|client| look_at(*client, &places)).collect();
    let checks = within_limit("MCP clients", look).await;
    if checks.is_empty() { vec![Check::ok("MCP clients", "none of those that pyexec knows is here")] } else { checks }
}

/// `None` for one that is not there.
fn look_at(client: McpClient, places: &Places) -> Option<Check> {
    let settings = Settings::of(client, places);
    let client = client.name();
    let name = format!("MCP client {client}");
    let file = settings.file.display();
    let again = format!("`pyexec mcp install --client {client}` writes it anew");
    match Connection::of(&settings) {
        Connection::NotInstalled => None,
        Connection::None => {
            Some(Check::ok(name, format!("not connected; `pyexec mcp install --client {client}` connects it")))
        }
        Connection::Command(program) if program.is_absolute() && !is_executable(&program) => {
            Some(Check::warning(name, format!("{file} starts {}, which does not exist", program.display()), again))
        }
        Connection::Command(program) => Some(Check::ok(name, format!("connected: starts {}", program.display()))),
        Connection::NoCommand => Some(Check::warning(name, format!("the entry in {file} starts nothing"), again)),
        Connection::Unclear(problem) => {
            Some(Check::warning(name, problem, format!("the client cannot read it either: fix {file}")))
        }
    }
}
