//! Code that was run without a file: kept for a while, each beside a JSON file that says where it came from.
//!
//! What may be secret never gets here from the parameters: see [`redacted`].

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use pyexec_proto::script::{Autosave, MAX_PARAMETERS_BYTES};
use pyexec_proto::url_password::masked;
use pyexec_proto::{Error, JobDetail, JobId, JobSpec, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{self, Found, failed};
use super::names::ScriptName;
use super::saved::check_size;

/// The file beside a script.
#[derive(Serialize)]
struct Sidecar<'a> {
    tool: &'a str,
    job_id: String,
    /// RFC 3339, UTC.
    saved_at: String,
    parameters: Value,
}

/// Writes the script and its sidecar, or finds those that this job has already. Nothing else may write to the directory
/// meanwhile.
pub(super) fn keep(directory: &Path, job: &JobDetail, code: &[u8], autosave: &Autosave) -> Result<ScriptName, Error> {
    check_size(code.len())?;
    let sidecar = Sidecar {
        tool: &autosave.tool,
        job_id: job.id.to_string(),
        saved_at: job.created_at.to_string(),
        parameters: parameters_of(&job.spec, &autosave.parameters)?,
    };
    let sidecar = serde_json::to_vec_pretty(&sidecar).map_err(|error| failed("describe a script")(error.into()))?;
    if sidecar.len() > MAX_PARAMETERS_BYTES {
        return Err(refused(sidecar.len(), format!("{MAX_PARAMETERS_BYTES} bytes is the most")));
    }
    let write = || {
        let [short, long] = names(job.id, job.created_at)?;
        let name = if is_free_for(directory, &short, job.id)? { short } else { long };
        if files::look(&directory.join(name.as_str()))?.is_none() {
            // First, so that there is no script without one.
            files::write(directory, &sidecar_of(&name), &sidecar)?;
            files::write(directory, name.as_str(), code)?;
        }
        Ok(name)
    };
    write().map_err(failed("autosave a script"))
}

/// The text beside a script, if there is any.
pub(super) fn metadata(directory: &Path, name: &ScriptName) -> io::Result<Option<String>> {
    let Found::File(mut file, _) = files::open(&directory.join(sidecar_of(name)))? else { return Ok(None) };
    let text = files::beginning(&mut file, MAX_PARAMETERS_BYTES)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn sidecar_of(name: &ScriptName) -> String {
    format!("{}.json", name.stem())
}

/// What the tool was given, with arguments and names of variables, which the job's specification has.
fn parameters_of(spec: &JobSpec, given: &str) -> Result<Value, Error> {
    let mut parameters = redacted(given)?;
    if let Value::Object(members) = &mut parameters {
        if !spec.args.is_empty() {
            members.insert("args".to_owned(), spec.args.iter().map(|arg| arg.to_text()).collect());
        }
        if !spec.variables.is_empty() {
            let names = Value::Object(spec.variables.iter().map(|name| (name.clone(), Value::Null)).collect());
            members.insert("env_vars".to_owned(), without_values(&names));
        }
    }
    Ok(parameters)
}

/// What is known of the parameters of a tool, without what may be secret: neither values of variables nor what is typed
/// into the script. The code lies beside it. At whatever depth: a client that nests them has not made them public.
///
/// # Errors
/// On what is no JSON object. Nothing of the text is repeated in the error.
fn redacted(text: &str) -> Result<Value, Error> {
    match serde_json::from_str(text) {
        Ok(mut object @ Value::Object(_)) => {
            redact(&mut object);
            Ok(object)
        }
        Ok(_) => Err(refused(text.len(), "they are no JSON object".to_owned())),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(refused(text.len(), format!("they are no JSON, from {place} on")))
        }
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| name != "stdin" && name != "script_content");
            for (name, member) in members.iter_mut() {
                match name.as_str() {
                    "env_vars" => *member = without_values(member),
                    // The script's own.
                    "args" => {}
                    _ => redact(member),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(redact),
        Value::String(text) => *text = masked(text).into_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn without_values(variables: &Value) -> Value {
    const HIDDEN: &str = "***";
    match variables {
        Value::Object(variables) => {
            // A name has no `=`; what comes after one was meant as a value.
            let name = |name: &String| name.split('=').next().unwrap_or_default().to_owned();
            Value::Object(variables.keys().map(|key| (name(key), HIDDEN.into())).collect::<Map<_, _>>())
        }
        Value::Null => Value::Null,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => HIDDEN.into(),
    }
}

fn refused(bytes: usize, problem: String) -> Error {
    Error::InvalidArgument {
        what: "parameters".to_owned(),
        given: format!("({bytes} bytes)"),
        problem,
        hint: "send what the tool was given, as one JSON object".to_owned(),
    }
}

const ID_DIGITS: usize = 8;

/// `20260728-093000-0a1b2c3d.py`, and with the whole of the job's id should another job have that name. They say by
/// themselves where the script of a job lies: with many of them, nothing has to be looked through.
fn names(job: JobId, submitted_at: Timestamp) -> io::Result<[ScriptName; 2]> {
    let digits: String = submitted_at.to_string().chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8);
    let id = job.simple();
    let name =
        |id: &str| ScriptName::of_file(format!("{day}-{time}-{id}.py").as_ref()).ok_or(io::ErrorKind::InvalidInput);
    Ok([name(&id[..ID_DIGITS])?, name(&id)?])
}

/// Whether nothing has this name yet, or what has it is of this job.
fn is_free_for(directory: &Path, name: &ScriptName, job: JobId) -> io::Result<bool> {
    #[derive(Deserialize)]
    struct OfJob {
        job_id: String,
    }
    let Some(text) = metadata(directory, name)? else {
        return Ok(files::look(&directory.join(name.as_str()))?.is_none());
    };
    Ok(serde_json::from_str::<OfJob>(&text).is_ok_and(|known| known.job_id == job.to_string()))
}

/// The part of a file name of ours that stands for the job.
fn job_in(stem: &str) -> Option<&str> {
    let mut parts = stem.split('-');
    let (day, time, id) = (parts.next()?, parts.next()?, parts.next()?);
    let are_digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_id =
        (id.len() == ID_DIGITS || id.len() == 32) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (are_digits(day, 8) && are_digits(time, 6) && is_id && parts.next().is_none()).then_some(id)
}

/// How long autosaved scripts are kept, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub max_age: Duration,
    /// 0 keeps none.
    pub max_count: usize,
}

impl Retention {
    /// Those that go, of all there are: the older ones beyond the number, and what is too old.
    fn forgets(&self, mut scripts: Vec<(Timestamp, ScriptName)>, now: Timestamp) -> Vec<ScriptName> {
        scripts.sort_by(|one, other| other.cmp(one));
        let goes = |at: usize, modified: Timestamp| at >= self.max_count || modified.age_at(now) > self.max_age;
        let doomed = scripts.into_iter().enumerate().filter(|(at, (modified, _))| goes(*at, *modified));
        doomed.map(|(_, (_, name))| name).collect()
    }
}

/// Removes what is kept no longer, what has lost its script, and what was not finished. What is not called as we call
/// things is somebody else's. Nothing may write to the directory meanwhile.
pub(super) fn tidy(directory: &Path, retention: Retention, now: Timestamp) -> io::Result<()> {
    let (mut scripts, mut sidecars) = (Vec::new(), Vec::new());
    for entry in files::entries(directory)? {
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let unfinished = files::unfinished(file);
        let Some((stem, suffix)) = unfinished.unwrap_or(file).rsplit_once('.') else { continue };
        if job_in(stem).is_none() || !entry.file_type()?.is_file() {
            continue;
        }
        match (unfinished, suffix) {
            (Some(_), "py" | "json") => files::clear_away(&entry.path()),
            (None, "json") => sidecars.push(stem.to_owned()),
            (None, "py") => {
                let (Some(name), Ok(metadata)) = (ScriptName::of_file(file.as_ref()), entry.metadata()) else {
                    continue;
                };
                scripts.push((files::modified_at(&metadata), name));
            }
            (_, _) => {}
        }
    }
    let mut stems: HashSet<String> = scripts.iter().map(|(_, name)| name.stem().to_owned()).collect();
    for name in retention.forgets(scripts, now) {
        // A daemon that dies in between leaves a sidecar, which the next one finds.
        files::clear_away(&directory.join(name.as_str()));
        stems.remove(name.stem());
    }
    for orphan in sidecars.iter().filter(|stem| !stems.contains(*stem)) {
        files::clear_away(&directory.join(format!("{orphan}.json")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::JobSource;
    use pyexec_proto::environment::Interpreter;
    use serde_json::json;

    const DAY: i64 = 86_400_000_000;
    const NOW: Timestamp = Timestamp(1_785_231_000_250_999);

    const CODE: &[u8] = b"print(1)\n";

    fn job() -> JobDetail {
        let id = "0a1b2c3d-0000-4000-8000-000000000001".parse().expect("is an id");
        let spec = JobSpec::new(JobSource::Inline { code: "print(1)\n".into() }, "/", Interpreter::System);
        JobDetail::submitted(id, NOW, spec)
    }

    fn autosave(parameters: &Value) -> Autosave {
        Autosave { tool: "py_run_script_in_dir".to_owned(), parameters: parameters.to_string() }
    }

    fn files_in(directory: &Path) -> Vec<String> {
        let entries = files::entries(directory).expect("can be listed");
        let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_may_be_secret_is_not_kept_however_it_comes() {
        for (given, kept) in [
            (json!({}), json!({})),
            (
                json!({"env_vars": {"A": "hunter2", "B": {"c": "hunter2"}}}),
                json!({"env_vars": {"A": "***", "B": "***"}}),
            ),
            (json!({"env_vars": {"A=hunter2": ""}}), json!({"env_vars": {"A": "***"}})),
            (json!({"env_vars": "A=hunter2"}), json!({"env_vars": "***"})),
            (json!({"env_vars": ["A=hunter2"]}), json!({"env_vars": "***"})),
            (json!({"env_vars": 2}), json!({"env_vars": "***"})),
            (json!({"env_vars": null}), json!({"env_vars": null})),
            (json!({"stdin": "hunter2", "script_content": "hunter2", "args": ["x"]}), json!({"args": ["x"]})),
            (json!({"stdin": {"env_vars": "hunter2"}}), json!({})),
            (
                json!({"dependencies": ["a @ https://u:hunter2@h", "b"], "args": ["https://u:hunter2@h"]}),
                json!({"dependencies": ["a @ https://u:****@h", "b"], "args": ["https://u:hunter2@h"]}),
            ),
            (
                json!({"arguments": [{"stdin": "hunter2", "env_vars": {"A": "hunter2"}, "directory": "/"}]}),
                json!({"arguments": [{"env_vars": {"A": "***"}, "directory": "/"}]}),
            ),
        ] {
            assert_eq!(redacted(&given.to_string()), Ok(kept), "{given}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_without_being_repeated() {
        for text in
            ["", "null", "\"hunter2\"", "[\"hunter2\"]", "{\"stdin\": \"hunter2\"", "hunter2", &"[".repeat(9_999)]
        {
            let refused = redacted(text).expect_err("is no object");
            assert!(matches!(&refused, Error::InvalidArgument { what, .. } if what == "parameters"), "{refused:?}");
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn a_script_is_kept_once_with_what_is_known_of_it() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("autosaved");
        let given = autosave(&json!({"directory": "/work"}));
        let mut job = job();
        job.spec.args = vec!["a".into()];
        job.spec.variables = vec!["TOKEN".to_owned()];
        for _ in 0..2 {
            let name = keep(&directory, &job, CODE, &given).expect("can be kept");
            assert_eq!(name.as_str(), "20260728-093000-0a1b2c3d.py");
        }
        assert_eq!(files_in(&directory), ["20260728-093000-0a1b2c3d.json", "20260728-093000-0a1b2c3d.py"]);
        let name = ScriptName::read("20260728-093000-0a1b2c3d").expect("is a name");
        let text = metadata(&directory, &name).expect("can be read").expect("is there");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("is JSON"),
            json!({
                "tool": "py_run_script_in_dir",
                "job_id": "0a1b2c3d-0000-4000-8000-000000000001",
                "saved_at": "2026-07-28T09:30:00.250Z",
                "parameters": {"directory": "/work", "args": ["a"], "env_vars": {"TOKEN": "***"}},
            })
        );
    }

    #[test]
    fn jobs_whose_ids_begin_alike_have_scripts_of_their_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let given = autosave(&json!({}));
        let first = (job(), CODE);
        let id = "0a1b2c3d-0000-4000-8000-000000000002".parse().expect("is an id");
        let other = (JobDetail { id, ..job() }, &b"print(2)\n"[..]);
        let names = [&first, &other, &first, &other]
            .map(|(job, code)| keep(directory.path(), job, code, &given).expect("is kept"));
        assert_eq!((&names[0], &names[1]), (&names[2], &names[3]));
        assert_eq!(names[1].as_str(), "20260728-093000-0a1b2c3d000040008000000000000002.py");
        for (name, source) in [(&names[0], "print(1)\n"), (&names[1], "print(2)\n")] {
            assert_eq!(std::fs::read_to_string(directory.path().join(name.as_str())).expect("is there"), source);
        }
    }

    #[test]
    fn parameters_without_end_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let given = autosave(&json!({"args": ["x".repeat(MAX_PARAMETERS_BYTES)]}));
        assert!(keep(directory.path(), &job(), CODE, &given).is_err());
        assert_eq!(files_in(directory.path()), [] as [String; 0]);
        // What is left out does not count.
        let given = autosave(&json!({"stdin": "x".repeat(MAX_PARAMETERS_BYTES)}));
        assert!(keep(directory.path(), &job(), CODE, &given).is_ok());
    }

    #[test]
    fn the_oldest_go_first_and_what_is_too_old_goes_in_any_case() {
        let name = |name: &str| ScriptName::read(name).expect("is a name");
        let all = || {
            [("c", 3), ("a", 40), ("d", 0), ("b", 29), ("e", -5)]
                .map(|(of, days)| (Timestamp(NOW.0 - days * DAY), name(of)))
        };
        let month = Duration::from_secs(30 * 86_400);
        for (max_age, max_count, gone) in [
            (month, 1_000, &["a.py"][..]),
            (month, 5, &["a.py"]),
            (month, 3, &["b.py", "a.py"]),
            (Duration::MAX, 1_000, &[]),
            (Duration::MAX, 2, &["c.py", "b.py", "a.py"]),
            (Duration::ZERO, 1_000, &["c.py", "b.py", "a.py"]),
            (month, 0, &["e.py", "d.py", "c.py", "b.py", "a.py"]),
        ] {
            let forgotten = Retention { max_age, max_count }.forgets(all().into(), NOW);
            let forgotten: Vec<&str> = forgotten.iter().map(ScriptName::as_str).collect();
            assert_eq!(forgotten, gone, "{max_age:?}, {max_count}");
        }
    }

    #[test]
    fn what_is_tidied_away_is_ours_and_nothing_else() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path();
        let (old, new) = ("20200101-000000-0a1b2c3d", "20260728-093000-1a1b2c3d");
        let mine =
            ["notes.json", "notes.py", "notes.txt", ".notes.tmp", "20200101-000000-x.json", "2020-01-0a1b2c3d.json"];
        let ours = [&format!("{old}.py"), &format!("{old}.json"), &format!("{new}.py"), &format!("{new}.json")];
        let orphans =
            ["20260101-000000-2a1b2c3d.json", ".20260101-000000-2a1b2c3d.py.tmp", ".20260101-000000-2a1b2c3d.json.tmp"];
        for file in mine.into_iter().chain(ours.map(String::as_str)).chain(orphans) {
            std::fs::write(directory.join(file), "").expect("can be written");
        }
        std::fs::create_dir(directory.join("20200101-000000-3a1b2c3d.py")).expect("can be made");
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        let file = std::fs::File::options().append(true).open(directory.join(ours[0])).expect("is there");
        file.set_modified(long_ago).expect("can be set");
        let retention = Retention { max_age: Duration::from_secs(30 * 86_400), max_count: 1_000 };
        tidy(directory, retention, Timestamp::now()).expect("can be listed");
        let mut left: Vec<String> = mine.into_iter().map(str::to_owned).collect();
        left.extend([ours[2].clone(), ours[3].clone(), "20200101-000000-3a1b2c3d.py".to_owned()]);
        left.sort();
        assert_eq!(files_in(directory), left);
    }
}
