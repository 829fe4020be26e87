//! `pyexec bench`: measures scripts, each as a job of its own, and says how they compare.
//!
//! They run one after the other. A job per script is what keeps each result whole: one record, one id that `show` and
//! `logs` know, one timeout over all its runs. What a machine that changes meanwhile makes of a comparison is said in the
//! help, with how to find out.

mod progress;
mod results;
mod table;

use std::sync::Arc;

use pyexec_client::Client;
use pyexec_client::reading::Reader;
use pyexec_proto::JobDetail;
use pyexec_proto::job::Submission;
use pyexec_proto::output::Stream;

use crate::args::Bench;
use crate::attach::interruption::Interruptions;
use crate::attach::{follow_to_end, stop_waiting};
use crate::connection::{connect, note_unaffected};
use crate::exit_code::{self, Code, Ending, Failure, SUCCESS};
use crate::submission::own_files::OwnFiles;
use crate::{plot, render, submission, terminal};
use results::{Measured, Results};

pub(crate) async fn perform(bench: Bench) -> Result<Code, Failure> {
    if bench.scripts().filter(|run| run.source.is_stdin()).count() > 1 {
        return Err(Failure::Usage {
            problem: "stdin cannot carry the code of two scripts".to_owned(),
            hint: "put the code into files, or give it with -c".to_owned(),
        });
    }
    let exports = [&bench.export_json, &bench.export_markdown, &bench.plot];
    plot::check(bench.plot.as_deref())?;
    exports.into_iter().flatten().try_for_each(|path| results::check_export(path))?;
    let mut own_files = OwnFiles::default();
    let prepared: Vec<Submission> = bench
        .scripts()
        .map(|run| {
            let mut submission = submission::prepare(run, &mut own_files)?.submission;
            submission.watching.attached = bench.show_output;
            Ok(submission)
        })
        .collect::<Result<_, Failure>>()?;
    let client = Arc::new(connect().await?);
    let interruptions = Interruptions::listen().map_err(Failure::Runtime)?;
    let number = prepared.len();
    let mut measured = vec![];
    // Of the first that went wrong.
    let mut code = SUCCESS;
    for (at, submission) in prepared.into_iter().enumerate() {
        let id = submission.id;
        let name = name_of(&submission);
        let place = if number > 1 { format!("[{}/{number}] {name}", at + 1) } else { name.clone() };
        let ended_job = run_to_end(&client, submission, &interruptions, &place, bench.show_output);
        let ended_job = tokio::select! {
            biased;
            interruption = interruptions.leave() => return Ok(stop_waiting(id, interruption)),
            ended_job = ended_job => ended_job,
        };
        let ended = match ended_job {
            Ok(job) => conclude(&client, name.clone(), job, interruptions.first().is_some()).await,
            Err(failure) => Err(failure),
        };
        let this = match ended {
            Ok((this, its_code)) => {
                if !bench.json {
                    let screen = terminal::screen();
                    terminal::print(&this.text(screen, terminal::pen(screen)))?;
                }
                this.print_problem();
                measured.push(this);
                its_code
            }
            Err(failure @ Failure::Output(_)) => return Err(failure),
            // What the others took is not lost over it.
            Err(failure) if number > 1 => {
                let hint = failure.hint();
                terminal::problem(&format!("{name}: {}", pyexec_view::with_causes(&failure)), hint.as_deref());
                failure.code()
            }
            Err(failure) => return Err(failure),
        };
        if let Some(interruption) = interruptions.first() {
            code = exit_code::of_interruption(interruption);
            break;
        }
        code = if code == SUCCESS { this } else { code };
    }
    match report(&bench, &Results::of(measured)) {
        // What went wrong first is what is told by the code.
        Err(failure) if code != SUCCESS && !failure.is_silent() => {
            terminal::error(&failure, failure.hint().as_deref());
            Ok(code)
        }
        reported => reported.map(|()| code),
    }
}

/// Prints what is not printed yet, and writes what is to be written.
fn report(bench: &Bench, results: &Results) -> Result<(), Failure> {
    if bench.json {
        terminal::print_json(&results.document())?;
    } else {
        let screen = terminal::screen();
        terminal::print(&table::comparison(results, screen, terminal::pen(screen)))?;
    }
    if let Some(path) = &bench.export_json {
        terminal::write_file(path, (results::pretty(&results.document())? + "\n").as_bytes())?;
    }
    if let Some(path) = &bench.export_markdown {
        terminal::write_file(path, table::markdown(results).as_bytes())?;
    }
    if let Some(path) = &bench.plot {
        results.plot(path)?;
    }
    Ok(())
}

/// What runs, without what it is given.
fn name_of(submission: &Submission) -> String {
    const SHOWN: usize = 60;
    let mut spec = submission.spec.clone();
    spec.args.clear();
    render::one_line(&render::truncated(&spec.command(), SHOWN)).into_owned()
}

/// Runs it to its end.
async fn run_to_end(
    client: &Arc<Client>,
    submission: Submission,
    interruptions: &Interruptions,
    name: &str,
    show_output: bool,
) -> Result<JobDetail, Failure> {
    let id = submission.id;
    client.submit(submission).await?;
    let stopping = tokio::spawn(interruptions.clone().stop_job(client.clone(), id));
    let ended = if show_output {
        follow_to_end(client, id).await
    } else if terminal::stderr_is_terminal() {
        progress::until_the_end(client, id, name).await
    } else {
        Ok(client.wait(id).await?)
    };
    stopping.abort();
    note_unaffected(id, ended)
}

async fn conclude(client: &Client, name: String, job: JobDetail, stopped: bool) -> Result<(Measured, Code), Failure> {
    let Ending { code, problem } = Ending::of(&job)?;
    // Whoever has stopped it knows.
    let problem = match problem {
        None if code != SUCCESS && !stopped => Some(format!("exit code {code}")),
        problem => problem.filter(|_| !stopped),
    };
    let stderr = if code == SUCCESS { String::new() } else { stderr_tail(client, &job).await? };
    Ok((Measured::of(name, &job, problem, stderr), code))
}

/// The end of what it has said of its failure.
async fn stderr_tail(client: &Client, job: &JobDetail) -> Result<String, Failure> {
    const MOST: u32 = 4 << 10;
    const LINES: usize = 12;
    let read = Reader::tail(job, MOST).characters(client, MOST, 0).await?;
    let text = read.text(Stream::Stderr);
    let lines: Vec<&str> = text.lines().collect();
    // The first may be half of one.
    let whole = lines.len().saturating_sub(usize::from(*job.output.get(Stream::Stderr) > u64::from(MOST)));
    Ok(lines[lines.len() - whole.min(LINES)..].join("\n"))
}
