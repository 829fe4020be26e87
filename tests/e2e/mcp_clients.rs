//! `pyexec-mcp` with real clients: both generations of the official Python SDK, and the MCP Inspector.
//!
//! What is expected lies in `tests/clients`, one function for each scenario, the same for every client; here is who plays
//! what. A test is named after its client and its scenario.

use std::path::PathBuf;

use crate::environment_sandbox::{EnvironmentSandbox, pythons};
use crate::mcp_session::PYEXEC_MCP;
use crate::sandbox::{PYEXEC, Sandbox, manifest_directory};

/// The official SDK, and how it speaks.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Of today, without a session.
    Current,
    /// Of today, made to begin with a handshake.
    Legacy,
    /// Of the generation before.
    Handshake,
}

/// Whether the server is told to declare schemas, which clients then check every result against.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Plain,
    Structured,
}

fn provided(variable: &str, what: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} names no {what}: scripts/test.sh provides one"));
    path.into()
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Client::Current => "current",
            Client::Legacy => "legacy",
            Client::Handshake => "handshake",
        }
    }

    fn python(self) -> PathBuf {
        match self {
            Client::Current | Client::Legacy => provided("PYEXEC_TEST_MCP_CURRENT", "Python with the current MCP SDK"),
            Client::Handshake => provided("PYEXEC_TEST_MCP_HANDSHAKE", "Python with a 1.x MCP SDK"),
        }
    }

    #[track_caller]
    fn plays(self, sandbox: &Sandbox, scenario: &str, server: Server) {
        let mut driver = sandbox.command(self.python());
        let script = manifest_directory().join("clients/drive.py");
        // -B: nothing is written into the checkout.
        driver.arg("-B").arg(script).args([self.name(), scenario]);
        if server == Server::Structured {
            driver.arg("--structured");
        }
        driver.arg(PYEXEC_MCP).env("PYEXEC_TEST_CLI", PYEXEC);
        let ran = sandbox.attend(driver).end().expect_code(0);
        assert_eq!(ran.text(), "", "{ran}");
    }
}

fn play(client: Client, scenario: &str, server: Server) {
    client.plays(&Sandbox::new(), scenario, server);
}

fn play_with_uv(client: Client, scenario: &str, server: Server) {
    let mut sandbox = EnvironmentSandbox::new();
    let versions: Vec<String> = pythons().into_keys().collect();
    sandbox.set("PYEXEC_TEST_PYTHONS", serde_json::json!(versions).to_string());
    client.plays(&sandbox, scenario, server);
}

macro_rules! play {
    ($client:ident, $server:ident: $($scenario:ident)*; with uv: $($with_uv:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                super::play(super::Client::$client, stringify!($scenario), super::Server::$server);
            }
        )*
        $(
            #[test]
            fn $with_uv() {
                super::play_with_uv(super::Client::$client, stringify!($with_uv), super::Server::$server);
            }
        )*
    };
}

/// What everybody plays: each tool, and each form of its result, at least once.
macro_rules! play_every_tool {
    ($client:ident, $server:ident) => {
        play! { $client, $server:
            a_script_runs_in_a_directory
            a_job_is_started_without_waiting
            a_job_over_the_budget_goes_on_and_its_result_is_what_inline_would_have_been
            what_is_new_is_told_once
            jobs_are_listed_by_status_and_label_page_by_page
            jobs_are_cancelled_and_killed
            finished_jobs_are_forgotten_when_asked
            output_is_put_together_again_from_its_cursors
            tools_say_what_they_are
            a_call_that_makes_no_sense_says_what_and_what_next;
        with uv:
            a_benchmark_says_what_it_took
            a_script_is_saved_and_found_again
            packages_that_are_asked_for_can_be_imported
            what_does_not_resolve_is_an_error_that_says_why
            an_environment_is_made_once_and_used_by_its_name
        }
    };
}

/// What does not depend on the form of results.
macro_rules! play_the_rest {
    ($client:ident) => {
        play! { $client, Plain:
            inline_code_gets_its_stdin_and_its_umask
            a_script_that_fails_is_a_result
            a_timeout_keeps_what_was_printed
            a_limit_reaches_the_job
            output_is_bounded_and_says_how_to_read_the_rest
            bytes_that_are_no_text_do_not_stand_in_the_way
            input_is_for_jobs_that_were_started_with_it
            a_script_is_replaced_only_when_asked
            inline_code_is_kept_without_its_secrets
            a_result_is_the_same_after_everything_was_killed
            the_resource_is_what_was_printed_so_far
            subscribers_hear_of_output_and_of_the_end
            prompts_are_filled_in_and_ids_completed
            progress_is_told_while_a_call_waits
            a_call_that_is_taken_back_cancels_its_job
            a_client_that_leaves_leaves_its_jobs;
        with uv:
            the_version_of_python_is_the_one_asked_for
        }
    };
}

mod current {
    play_every_tool! { Current, Plain }
    play_the_rest! { Current }
}

mod current_with_schemas {
    play_every_tool! { Current, Structured }
}

mod current_with_a_handshake {
    play! { Legacy, Plain:
        a_script_runs_in_a_directory
        tools_say_what_they_are
        subscribers_hear_of_output_and_of_the_end
        a_call_that_is_taken_back_cancels_its_job;
    with uv:
    }
}

mod handshake {
    play_every_tool! { Handshake, Plain }
    play_the_rest! { Handshake }
}

mod handshake_with_schemas {
    play_every_tool! { Handshake, Structured }
}

/// What npm has installed of `tests/clients/package.json`.
fn node_modules() -> PathBuf {
    let directory = std::env::var_os("PYEXEC_TEST_NODE_MODULES").expect(
        "PYEXEC_TEST_NODE_MODULES names no directory: install Node 20 or newer with npm, then scripts/test.sh provides it",
    );
    directory.into()
}

/// The Inspector's command line; with every variable of the sandbox, of which it would hand on but a few.
#[track_caller]
fn inspect(sandbox: &Sandbox, era: &str, server: &[&str], inspector: &[&str]) -> crate::sandbox::Ran {
    let mut command = sandbox.command(node_modules().join(".bin/mcp-inspector"));
    command.args(["--cli", "--protocol-era", era]);
    for (name, value) in sandbox.variables() {
        command.arg("-e").arg(format!("{}={}", name.display(), value.display()));
    }
    command.arg(PYEXEC_MCP).args(server).args(inspector);
    sandbox.attend(command).end()
}

mod inspector {
    use crate::sandbox::manifest_directory;
    use std::io::Write;
    use std::process::Stdio;

    use serde_json::json;

    use super::{inspect, node_modules};
    use crate::sandbox::Sandbox;

    /// Every session pays for it, whether it calls anything or not.
    #[test]
    fn lists_tools_that_cost_few_tokens() {
        let sandbox = Sandbox::new();
        for (toolset, most) in [("full", 3_500), ("core", 1_300)] {
            let tools = inspect(&sandbox, "modern", &["--toolset", toolset], &["--method", "tools/list"]).json();
            let listed = json!({"tools": tools["tools"]}).to_string();
            let mut counter = sandbox.command("node");
            counter.arg(manifest_directory().join("clients/tokens.cjs"));
            counter.env("NODE_PATH", node_modules()).stdin(Stdio::piped());
            let mut counting = sandbox.attend(counter);
            counting.stdin().write_all(listed.as_bytes()).expect("is read");
            let tokens: u32 = counting.end().expect_code(0).text().trim().parse().expect("is a number");
            assert!((100..=most).contains(&tokens), "{toolset}: {tokens} tokens in {} bytes", listed.len());
        }
    }

    /// Of every toolset, in both eras.
    #[test]
    fn finds_nothing_wrong_with_the_schemas() {
        let sandbox = Sandbox::new();
        for era in ["modern", "legacy"] {
            for (toolset, least) in [("full", 20), ("core", 6)] {
                for structured in [&[][..], &["--structured"][..]] {
                    let server = [&["--toolset", toolset], structured].concat();
                    let ran = inspect(&sandbox, era, &server, &["--method", "tools/list", "--strict"]).expect_code(0);
                    assert_eq!(ran.stderr, "", "{era} {server:?}: {ran}");
                    let tools = ran.json()["tools"].as_array().cloned().unwrap_or_default();
                    assert!(tools.len() >= least, "{era} {server:?}: {ran}");
                    let declared = tools.iter().all(|tool| tool["outputSchema"].is_object() != structured.is_empty());
                    assert!(declared, "{era} {server:?}: {ran}");
                }
            }
        }
    }

    #[test]
    fn runs_a_script() {
        let sandbox = Sandbox::new();
        for era in ["modern", "legacy"] {
            let ran = inspect(
                &sandbox,
                era,
                &["--structured"],
                &[
                    "--method",
                    "tools/call",
                    "--tool-name",
                    "py_run_script_in_dir",
                    "--tool-arg",
                    "directory=.",
                    "use_uv=false",
                    "script_content=import sys; print(6 * 7); sys.exit(3)",
                ],
            );
            let result = ran.clone().expect_code(0).json();
            let fields = &result["structuredContent"];
            assert_eq!((&fields["stdout"], &fields["exit_code"]), (&"42\n".into(), &3.into()), "{era}: {ran}");
        }
    }
}
