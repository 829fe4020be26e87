//! `pyexec doctor`: what is installed and what is not, and what to do about each.
//!
//! It looks and asks, and changes nothing: no daemon is started, no directory made. Whatever it asks may never answer, so
//! everything has its time limit, and what could not be found out is said like what was.

mod check;
mod clients;
mod daemon;
mod environment_file;
mod leftovers;
mod limits;
mod memory;
mod places;
mod programs;
mod python;
mod systemd;

use std::fmt::Write as _;

use pyexec_proto::paths::Paths;
use serde::Serialize;

use crate::args::Doctor;
use crate::exit_code::{self, Code, Failure};
use crate::render;
use crate::terminal::{self, Screen};
use check::{Check, Status};

/// `pyexec doctor --json`.
#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

pub(crate) async fn perform(doctor: &Doctor) -> Result<Code, Failure> {
    let checks = look().await;
    let code = exit_code::of_doctor(count(&checks, Status::Problem) > 0);
    if doctor.json {
        terminal::print_json(&Report { checks })?;
    } else {
        terminal::print(&text(&checks, terminal::screen()))?;
    }
    Ok(code)
}

/// At everything, in the order in which it is told.
async fn look() -> Vec<Check> {
    let tools = async {
        let (mut checks, uv_by_settings) = programs::checks().await;
        checks.extend(python::checks(uv_by_settings).await);
        checks
    };
    let ours = async {
        match Paths::from_environment() {
            Ok(paths) => {
                let (daemon, places, file, leftovers) = tokio::join!(
                    daemon::checks(&paths),
                    places::checks(&paths),
                    environment_file::checks(&paths),
                    leftovers::checks(&paths)
                );
                [daemon, places, file, leftovers].concat()
            }
            Err(error) => vec![Check::problem("home", error.to_string(), error.hint())],
        }
    };
    let (tools, ours, systemd, clients) = tokio::join!(tools, ours, systemd::checks(), clients::checks());
    let memory = memory::check().into_iter().collect();
    [tools, ours, memory, systemd, clients].concat()
}

fn count(checks: &[Check], status: Status) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

fn text(checks: &[Check], screen: Screen) -> String {
    let coloured = matches!(screen, Screen::Terminal { colour: true, .. });
    let mut text = String::new();
    for check in checks {
        let (mark, colour) = match check.status {
            Status::Ok => ("ok", "32"),
            Status::Warning => ("warning", "33"),
            Status::Problem => ("problem", "31"),
        };
        let padded = format!("{mark:7}");
        let mark = if coloured { format!("\x1b[1;{colour}m{padded}\x1b[0m") } else { padded };
        let _ = writeln!(text, "{mark}  {}: {}", render::one_line(&check.name), render::one_line(&check.detail));
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "         hint: {}", render::one_line(hint));
        }
    }
    let _ = writeln!(text, "{}", verdict(count(checks, Status::Problem), count(checks, Status::Warning)));
    text
}

fn verdict(problems: usize, warnings: usize) -> String {
    let number = |number: usize, of: &str| match number {
        0 => format!("no {of}s"),
        1 => format!("1 {of}"),
        number => format!("{number} {of}s"),
    };
    format!("{}, {}", number(problems, "problem"), number(warnings, "warning"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_mark_and_what_is_not_fine_its_hint() {
        let checks = [
            Check::ok("uv", "0.9.1"),
            Check::warning("lingering", "off", "do this"),
            Check::problem("daemon", "\x1b[2Jdead", "do that"),
        ];
        let expected = "ok       uv: 0.9.1\nwarning  lingering: off\n         hint: do this\n\
            problem  daemon: \\x1b[2Jdead\n         hint: do that\n1 problem, 1 warning\n";
        assert_eq!(text(&checks, Screen::File), expected);
        assert!(
            text(&checks, Screen::Terminal { columns: 40, colour: true }).starts_with("\x1b[1;32mok     \x1b[0m  uv")
        );
        assert_eq!(verdict(0, 2), "no problems, 2 warnings");
    }
}
