//! What of a job's wishes can be refused at once, while its client waits.

use std::time::Duration;

use pyexec_proto::Error;
use pyexec_proto::environment::{Contradiction, EnvironmentSpec, Interpreter};
use pyexec_proto::error::Named;
use pyexec_proto::job::{JobSpec, Variables};
use pyexec_proto::url_password::masked;

use super::EnvironmentError;
use super::environments::Environments;
use super::requirement::check_requirement;
use super::search_path::on_path;
use crate::client_files::{Deadline, Kind, Problem};

/// How long a submission waits for uv to say which Pythons there are.
const UV_PATIENCE: Duration = Duration::from_secs(20);

impl Environments {
    /// Refuses at once what can be known not to work. What cannot be known by the deadline is left to the preparation.
    pub async fn check(&self, spec: &JobSpec, variables: &Variables, deadline: Deadline) -> Result<(), Error> {
        let wanted = &spec.environment;
        if let Some(contradiction) = wanted.contradiction() {
            return Err(contradicts_itself(wanted, contradiction));
        }
        for requirement in &wanted.requirements {
            check_requirement(requirement)?;
        }
        if let (Some(file), None) = (&wanted.requirements_file, &wanted.requirements_content) {
            let path = spec.directory.as_path().join(file.as_path());
            let problem = match deadline.bounds(self.client_files.kind(&path)).await {
                Ok(Some(Kind::File)) | Err(Problem::NoAnswer) => None,
                Ok(Some(other)) => Some(Problem::NotAFile(other)),
                Ok(None) => Some(Problem::Io(std::io::ErrorKind::NotFound.into())),
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                return Err(problem.refusal(Named::RequirementsFile, &path));
            }
        }
        match &wanted.interpreter {
            Interpreter::System => {
                let mut files = self.client_files.open();
                let places = on_path("python3", variables.get("PATH"));
                match deadline.bounds(files.first_executable(places)).await {
                    Ok(Some(_)) | Err(Problem::NoAnswer) => {}
                    Ok(None) => return Err(EnvironmentError::NoPython.into()),
                    Err(problem) => return Err(EnvironmentError::Search { what: "python3", problem }.into()),
                }
                Ok(())
            }
            Interpreter::Uv { version } => {
                let uv = match self.uv.find(variables, Some(deadline)).await {
                    Err(EnvironmentError::Search { problem: Problem::NoAnswer, .. }) => None,
                    found => Some(found?),
                };
                if let Some(name) = &wanted.named {
                    self.names.get(name)?;
                }
                match (uv, version) {
                    (Some(uv), Some(version)) => {
                        let version = version.to_string();
                        let checked = self.interpreters.check(&uv, &version, spec.directory.as_path(), variables);
                        Ok(tokio::time::timeout(UV_PATIENCE, checked).await.unwrap_or(Ok(()))?)
                    }
                    (None, _) | (_, None) => Ok(()),
                }
            }
        }
    }
}

/// The faces refuse it before, in their own terms: what is said here is for any other client.
fn contradicts_itself(wanted: &EnvironmentSpec, contradiction: Contradiction) -> Error {
    let invalid = |what: &str, given: String, problem: &str, hint: &str| Error::InvalidArgument {
        what: what.to_owned(),
        given: masked(&given).chars().take(200).collect(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    };
    match contradiction {
        Contradiction::WithoutUv(_) => invalid(
            "requirements",
            wanted.requirements.join(" "),
            "without uv there is nothing to install them with",
            "leave out --no-uv (`use_uv=false`)",
        ),
        Contradiction::BesideNamed(_) => invalid(
            "environment",
            wanted.named.clone().unwrap_or_default(),
            "it is used as it was made, and packages or a version are asked for beside it",
            "leave out one of them",
        ),
    }
}
