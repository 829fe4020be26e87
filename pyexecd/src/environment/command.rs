//! What is executed for a job, part by part, so that two jobs can be compared by what they are started with.

use pyexec_proto::OsText;
use pyexec_proto::job::Variables;

/// What is executed. The words of a command line are made of it by [`Command::argv`], at the last moment.
#[derive(Clone, Debug)]
pub struct Command {
    /// Absolute: a Python, or uv, which starts one.
    pub interpreter: OsText,
    /// Of the interpreter; they come before the target.
    pub flags: Vec<OsText>,
    pub target: Target,
    /// Of the job's own code.
    pub args: Vec<OsText>,
    pub environment: Variables,
    /// It is uv, which passes signals on to the Python it has started.
    pub leader_forwards: bool,
}

/// What an interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    File(OsText),
    /// As after `-c`.
    Code(OsText),
    /// What comes in by stdin.
    Stdin,
    /// As after `-m`.
    Module(OsText),
}

impl Command {
    /// Its words, the interpreter first.
    pub fn argv(&self) -> Vec<OsText> {
        let mut argv = vec![self.interpreter.clone()];
        argv.extend_from_slice(&self.flags);
        match &self.target {
            Target::File(path) => {
                // Or it would be taken for an option.
                argv.extend(path.as_bytes().starts_with(b"-").then(|| "--".into()));
                argv.push(path.clone());
            }
            Target::Code(code) => argv.extend(["-c".into(), code.clone()]),
            Target::Stdin => argv.push("-".into()),
            Target::Module(module) => argv.extend(["-m".into(), module.clone()]),
        }
        argv.extend_from_slice(&self.args);
        argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_command_are_flags_then_target_then_arguments() {
        for (target, words) in [
            (Target::File("x.py".into()), &["x.py"][..]),
            (Target::File("-x.py".into()), &["--", "-x.py"]),
            (Target::Code("print(1)".into()), &["-c", "print(1)"]),
            (Target::Code("-".into()), &["-c", "-"]),
            (Target::Stdin, &["-"]),
            (Target::Module("http.server".into()), &["-m", "http.server"]),
        ] {
            let command = Command {
                interpreter: "/bin/python".into(),
                flags: vec!["-X".into(), "dev".into()],
                target: target.clone(),
                args: vec!["--".into(), "-c".into()],
                environment: Variables::default(),
                leader_forwards: false,
            };
            let expected: Vec<OsText> =
                [&["/bin/python", "-X", "dev"], words, &["--", "-c"]].concat().into_iter().map(OsText::from).collect();
            assert_eq!(command.argv(), expected, "{target:?}");
        }
    }
}
