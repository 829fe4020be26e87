//! Where a job's time went, as tables for people.

use pyexec_proto::JobId;
use pyexec_view::{ProfileRow, ProfileView};

use crate::render;
use crate::terminal::Screen;

/// A heading, and two tables; or why there are none. Ends with a newline.
pub(crate) fn text(profile: &ProfileView, id: JobId) -> String {
    if let Some(problem) = &profile.problem {
        return format!("profile: {}\n", render::one_line(problem));
    }
    let table = |title: &str, rows: &[ProfileRow]| {
        let cells = |row: &ProfileRow| row.cells().iter().map(|cell| render::one_line(cell).into_owned()).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        let table = render::plain_table(&ProfileRow::HEADER, &rows, &[], Screen::File);
        let indented: String = table.lines().map(|line| format!("  {line}\n")).collect();
        format!("{title}\n{indented}")
    };
    format!(
        "profile: {} calls of {} functions in {:.3} s; `pyexec artifacts {id} {}` has all of it\n{}{}",
        profile.calls.unwrap_or(0),
        profile.functions.unwrap_or(0),
        profile.seconds.unwrap_or(0.0),
        profile.artifact.unwrap_or_default(),
        table("by cumulative time:", &profile.by_cumulative),
        table("by own time:", &profile.by_own),
    )
}
