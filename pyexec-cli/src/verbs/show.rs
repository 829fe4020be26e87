//! `pyexec show ID`: everything about one job.

use std::path::Path;
use std::time::Duration;

use pyexec_client::files;
use pyexec_proto::fence::Fence;
use pyexec_proto::{JobDetail, Reason, Timestamp};
use pyexec_view::timeline::{Curve, Timeline};
use pyexec_view::{ArtifactView, ArtifactsView, JobView, ProjectUsed, ProjectView, UsageView};

use crate::args::Show;
use crate::connection::{connect_and_resolve_one, note_unaffected};
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::{benchmark, plot, render, terminal};

pub(crate) async fn perform(show: &Show) -> Result<Code, Failure> {
    plot::check(show.plot.as_deref())?;
    let (client, id) = connect_and_resolve_one(&show.id).await?;
    let detail = note_unaffected(id, client.show(id).await.map_err(Failure::from))?;
    if let Some(path) = &show.plot {
        draw(&detail, path)?;
    }
    let mut job = JobView::of(&detail, Timestamp::now());
    job.artifacts = ArtifactsView::beside(id, &files::artifacts(&client, id).await?);
    if show.json {
        terminal::print_json(&serde_json::json!({ "job": job }))?;
    } else {
        let benchmark = job.benchmark.as_ref().map(benchmark::text).unwrap_or_default();
        terminal::print(&(text(&job) + &benchmark))?;
    }
    Ok(SUCCESS)
}

fn draw(job: &JobDetail, path: &Path) -> Result<(), Failure> {
    let timeline = Timeline::of(job).ok_or_else(|| Failure::NothingToDraw { what: format!("job {}", job.id) })?;
    let title = job.title();
    plot::write(path, &title, &[Curve { name: &title, timeline: &timeline }])
}

/// `key: value` lines; what there is nothing to say about is left out.
fn text(job: &JobView) -> String {
    let fence = Fence { network: job.network, filesystem: job.filesystem };
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join(", "));
    let status = match job.reason {
        // These repeat the status, or what the exit code says.
        None | Some(Reason::Exit | Reason::Cancelled) => job.status.to_string(),
        Some(reason) => format!("{} ({reason})", job.status),
    };
    let pairs = [
        ("id", Some(job.id.clone())),
        ("label", job.label.clone()),
        ("status", Some(status)),
        ("exit code", job.exit_code.map(|code| code.to_string())),
        ("message", job.message.clone()),
        ("error", job.error.clone()),
        ("command", Some(job.command.clone())),
        ("directory", Some(job.directory.clone())),
        ("runs with", Some(job.execution_strategy.clone())),
        ("python", job.python_version_used.clone()),
        ("environment", job.environment.clone()),
        ("project", job.project.as_ref().map(project)),
        ("dependencies", list(&job.dependencies)),
        ("resolved", list(&job.resolved_dependencies)),
        ("not installed", list(&job.unknown_imports)),
        ("variables", list(&job.variables)),
        ("limits", (!job.lowered_limits.is_empty()).then(|| job.lowered_limits.join("; "))),
        ("not taken over", (!job.not_taken_over.is_empty()).then(|| job.not_taken_over.join("; "))),
        ("timeout", job.timeout_seconds.map(seconds)),
        ("fence", fence.is_some().then(|| fence.to_string())),
        ("pid", job.pid.map(|pid| pid.to_string())),
        ("created", Some(job.created_at.clone())),
        ("started", job.started_at.clone()),
        ("completed", job.completed_at.clone()),
        ("took", job.elapsed_seconds.map(seconds)),
        ("progress", job.progress.as_ref().map(|progress| render::progress(&progress.sentence, progress.eta_seconds))),
        ("cpu", job.usage.as_ref().map(cpu)),
        ("peak memory", job.usage.map(|usage| benchmark::peak(usage.peak_rss_mb, usage.peak_rss_scope))),
        ("read", job.usage.map(|usage| format!("{} from storage", render::size(usage.read_bytes)))),
        ("written", job.usage.map(|usage| format!("{} to storage", render::size(usage.written_bytes)))),
        ("stdout", Some(render::size(job.stdout_bytes))),
        ("stderr", Some(render::size(job.stderr_bytes))),
        ("artifacts", artifacts(&job.artifacts)),
    ];
    let known: Vec<(&str, String)> = pairs
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key, render::one_line(&value).into_owned())))
        .collect();
    render::aligned(&known)
}

/// What was used of a project, or of an environment that was there already.
fn project(view: &ProjectView) -> String {
    let how = match view.used {
        ProjectUsed::Synced => "synced",
        ProjectUsed::AsFound => "used as it was",
        ProjectUsed::LeftOut => "not used",
    };
    format!("{} ({how})", view.path)
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| String::new(), render::duration)
}

fn cpu(usage: &UsageView) -> String {
    let waited = format!("{} user, {} system", seconds(usage.user_seconds), seconds(usage.system_seconds));
    let unwaited = seconds(usage.unwaited_cpu_seconds);
    match (usage.cpu_is_incomplete, usage.unwaited_cpu_seconds > 0.0) {
        (true, _) => format!("{waited}, at least {unwaited} of processes that no parent waited for"),
        (false, true) => format!("{waited}, {unwaited} of processes that no parent waited for"),
        (false, false) => waited,
    }
}

/// As many as fit a line or two.
fn artifacts(view: &ArtifactsView) -> Option<String> {
    const SHOWN: usize = 8;
    let named = |artifact: &ArtifactView| format!("{} ({})", artifact.path, render::size(artifact.bytes));
    let shown: Vec<String> = view.artifacts.iter().take(SHOWN).map(named).collect();
    let more = view.artifacts.len() as u64 + view.artifacts_left_out - shown.len() as u64;
    if let Some(problem) = &view.artifacts_problem {
        return Some(problem.clone());
    }
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::Status;
    use pyexec_proto::fence::NetworkFence;

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_hostile_is_shown_harmless() {
        let job = JobView {
            id: "0a1b2c3d".into(),
            label: Some("\x1b[31mred".into()),
            status: Status::Pending,
            reason: None,
            message: Some("2 before it in the queue".into()),
            created_at: "2026-07-28T09:30:00.250Z".into(),
            started_at: None,
            completed_at: None,
            elapsed_seconds: None,
            exit_code: None,
            error: None,
            pid: None,
            command: "x.py".into(),
            directory: "/tmp".into(),
            execution_strategy: "uv-run".into(),
            python_version_used: Some("3.12.1".into()),
            dependencies: vec![],
            resolved_dependencies: vec!["six==1.17.0".into()],
            unknown_imports: vec![],
            environment: None,
            project: Some(ProjectView { used: ProjectUsed::AsFound, path: "/tmp/.venv".into() }),
            variables: vec!["A".into(), "B".into()],
            lowered_limits: vec![],
            not_taken_over: vec![],
            timeout_seconds: Some(90.0),
            network: Some(NetworkFence::None),
            filesystem: None,
            stdout_bytes: 0,
            stderr_bytes: 2_048,
            progress: None,
            usage: None,
            benchmark: None,
            artifacts: ArtifactsView::default(),
        };
        assert_eq!(
            text(&job),
            "id:        0a1b2c3d\n\
             label:     \\x1b[31mred\n\
             status:    pending\n\
             message:   2 before it in the queue\n\
             command:   x.py\n\
             directory: /tmp\n\
             runs with: uv-run\n\
             python:    3.12.1\n\
             project:   /tmp/.venv (used as it was)\n\
             resolved:  six==1.17.0\n\
             variables: A, B\n\
             timeout:   1m 30s\n\
             fence:     network none\n\
             created:   2026-07-28T09:30:00.250Z\n\
             stdout:    0 B\n\
             stderr:    2.0 KiB\n"
        );
    }
}
