//! `docs/tools.md`, made from the declarations of the tools: `pyexec-mcp --reference` prints it, for `scripts/docs.sh`.

use std::fmt::Write as _;

use pyexec_view::markdown::in_cell;

use crate::arguments::{Kind, Parameter};
use crate::options::Toolset;
use crate::tools::{self, Tool};

/// What parameters mean whose names tell an agent enough: its list of tools, which it pays for, says nothing of them.
const MEANINGS: [(&str, &str); 38] = [
    ("args", "arguments of the script"),
    ("autosaved", "look among inline code that was run"),
    ("close", "close stdin after the text"),
    ("dependencies", "packages to install (PEP 508)"),
    ("directory", "the working directory"),
    ("dry_run", "only say what would be removed"),
    ("env_file", "a file of variables for the job"),
    ("env_vars", "variables for the job"),
    ("grace_seconds", "how long the job may take to end after TERM"),
    ("include_autosaved", "list inline code that was run as well"),
    ("incremental", "return the output since the last call too"),
    ("job_id", "the id of the job, or a unique beginning of it"),
    ("job_label", "a label for the job"),
    ("keep_completed", "keep jobs that completed"),
    ("keep_failed", "keep jobs that failed"),
    ("label_filter", "only jobs with exactly this label"),
    ("limit", "how many jobs to list"),
    ("markdown_output", "true: answer in markdown; false: answer with structured content"),
    ("max_age_hours", "remove only jobs that ended longer ago than this"),
    ("max_output_bytes", "how much of each stream to return; 16 KiB unless it is given"),
    ("module", "a module to run, as `python -m` does"),
    ("name", "the name of the environment"),
    ("overwrite", "replace a script of this name"),
    ("python_version", "the Python version, such as 3.12"),
    ("runs", "how many runs to measure"),
    ("script_content", "code to run"),
    ("script_name", "the name of the script"),
    ("script_path", "a file to run"),
    ("source", "the code of the script"),
    ("status_filter", "only jobs in this state"),
    ("stderr_cursor", "read stderr from this byte on"),
    ("stdin", "text for the stdin of the job"),
    ("stdout_cursor", "read stdout from this byte on"),
    ("stream", "accepted for compatibility; output can always be followed"),
    ("text", "what to write"),
    ("top", "how many functions to list"),
    ("until", "wait for the end of the job, or also for new output"),
    ("warmup_runs", "how many runs come first, unmeasured"),
];

pub(crate) fn page() -> String {
    let mut page = "# Tools of the MCP server

<!-- Made by scripts/docs.sh from pyexec-mcp/src/tools: do not edit. -->

[Agents and editors](agents.md) explains how the server is connected and how its tools work together. A call may leave out the
`py_` of a name.
"
    .to_owned();
    let core: Vec<&str> = tools::of(Toolset::Core).iter().map(|tool| tool.name).collect();
    for tool in tools::of(Toolset::Full) {
        describe(&tool, core.contains(&tool.name), &mut page);
    }
    page
}

fn describe(tool: &Tool, is_core: bool, page: &mut String) {
    let core = if is_core { " Offered by `--toolset core` too." } else { "" };
    let _ = write!(
        page,
        "\n## {}\n\n{}. {} This tool {}.{core}\n\n| parameter | value | default | meaning |\n|---|---|---|---|\n",
        tool.name,
        tool.title,
        tool.about,
        tool.hints.described()
    );
    for Parameter { name, kind, about, required, default, .. } in &tool.parameters {
        let default = match default {
            Some(default) => format!("`{default}`"),
            None if *required => "required".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} |",
            in_cell(&value(kind)),
            in_cell(&default),
            in_cell(meaning(name, about))
        );
    }
}

/// What the declaration says, or else this page.
fn meaning<'a>(name: &str, about: &'a str) -> &'a str {
    if about.is_empty() {
        MEANINGS.iter().find(|(known, _)| *known == name).map_or("", |(_, meaning)| meaning)
    } else {
        about
    }
}

/// What values a parameter takes, down to the members of an object.
fn value(kind: &Kind) -> String {
    match kind {
        Kind::Object(members) => {
            let members = members.iter().map(|(name, kind)| format!("`{name}`: {}", value(kind)));
            format!("an object with any of {}", members.collect::<Vec<_>>().join("; "))
        }
        Kind::Path => "a path".to_owned(),
        Kind::Text
        | Kind::Flag
        | Kind::Whole { .. }
        | Kind::Number { .. }
        | Kind::Choice(_)
        | Kind::Texts
        | Kind::Map => kind.expected(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_parameter_has_a_meaning() {
        let tools = tools::of(Toolset::Full);
        let parameters = || tools.iter().flat_map(|tool| &tool.parameters);
        for Parameter { name, about, .. } in parameters() {
            assert!(!meaning(name, about).is_empty(), "{name}");
        }
        let undescribed: BTreeSet<&str> =
            parameters().filter(|parameter| parameter.about.is_empty()).map(|parameter| parameter.name).collect();
        let unneeded: Vec<&str> =
            MEANINGS.iter().map(|(name, _)| *name).filter(|name| !undescribed.contains(name)).collect();
        assert!(unneeded.is_empty(), "nothing asks for the meaning of {unneeded:?}");
    }
}
