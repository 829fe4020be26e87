//! An error with its causes, as one line of text.

use std::error::Error;

/// The message, followed by those of its causes that it does not repeat itself.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn a_message_carries_its_causes_once() {
        let denied = || Some(Box::new(Failure("permission denied", None)));
        assert_eq!(
            with_causes(&Failure("cannot connect to /run/s", denied())),
            "cannot connect to /run/s: permission denied"
        );
        let repeated = Failure("cannot connect: permission denied", denied());
        assert_eq!(with_causes(&repeated), "cannot connect: permission denied");
    }
}
