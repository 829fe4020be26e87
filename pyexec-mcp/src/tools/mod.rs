//! The tools, one file for each kind, with their names, parameters, results and implementation.

mod control;
mod environments;
mod input;
mod listing;
mod output;
mod parameters;
mod running;
mod schema;
mod scripts;
mod status;
mod tool;

use crate::options::Toolset;
use parameters::markdown_output;
pub(crate) use tool::{Hints, Tool, next_after_failure};

/// The tools in the order in which they are listed.
pub(crate) fn of(toolset: Toolset) -> Vec<Tool> {
    let all = [
        running::tools(),
        status::tools(),
        listing::tools(),
        output::tools(),
        input::tools(),
        control::tools(),
        environments::tools(),
        scripts::tools(),
    ];
    let is_core = |tool: &Tool| CORE.contains(&tool.name);
    let mut tools: Vec<Tool> =
        all.into_iter().flatten().filter(|tool| toolset == Toolset::Full || is_core(tool)).collect();
    for tool in &mut tools {
        tool.parameters.push(markdown_output());
    }
    tools
}

const CORE: [&str; 6] = [
    "py_run_script_in_dir",
    "py_run_script_with_dependencies",
    "py_job_status",
    "py_list_jobs",
    "py_get_job_output",
    "py_cancel_job",
];

/// The prefix of every tool's name. Clients of the program that pyexec replaces call tools without it, and are served
/// too; only this module knows of that.
const PREFIX: &str = "py_";

pub(crate) fn find<'a>(tools: &'a [Tool], name: &str) -> Option<&'a Tool> {
    tools.iter().find(|tool| tool.name == name || tool.name.strip_prefix(PREFIX) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn listed(toolset: Toolset, structured: bool) -> String {
        let declarations: Vec<_> = of(toolset).iter().map(|tool| tool.declaration(structured)).collect();
        serde_json::to_string(&json!({"tools": declarations})).expect("can be serialised")
    }

    #[test]
    fn the_list_of_tools_stays_small() {
        let (full, core) = (listed(Toolset::Full, false).len(), listed(Toolset::Core, false).len());
        assert!(full <= 16 << 10, "{full} bytes");
        assert!(core <= 6 << 10, "{core} bytes");
    }

    #[test]
    fn the_list_of_tools_is_the_same_every_time() {
        assert_eq!(listed(Toolset::Full, true), listed(Toolset::Full, true));
    }

    #[test]
    fn the_core_is_the_six_it_should_be() {
        let names: BTreeSet<_> = of(Toolset::Core).iter().map(|tool| tool.name).collect();
        assert_eq!(names, CORE.into());
    }

    #[test]
    fn every_tool_can_be_told_what_form_its_answer_has() {
        for tool in of(Toolset::Full) {
            assert!(tool.parameters.iter().any(|parameter| parameter.name == "markdown_output"), "{}", tool.name);
            assert!(!tool.title.is_empty() && !tool.about.is_empty() && !tool.returns.is_empty(), "{}", tool.name);
        }
    }

    #[test]
    fn tools_are_found_with_and_without_their_prefix() {
        let tools = of(Toolset::Full);
        for name in ["py_job_status", "job_status"] {
            assert_eq!(find(&tools, name).map(|tool| tool.name), Some("py_job_status"));
        }
        assert!(find(&tools, "py_py_job_status").is_none());
        assert!(find(&tools, "status").is_none());
    }
}
