//! `--plot`: memory and CPU over the time of runs, drawn into a PNG file, where this build can draw.

use std::path::Path;

use pyexec_view::timeline::Curve;

use crate::exit_code::Failure;

/// Fails where a picture is asked for that this build cannot draw: a verb calls it before it does anything else.
pub(crate) fn check(asked_for: Option<&Path>) -> Result<(), Failure> {
    match asked_for {
        Some(path) if cfg!(not(feature = "picture")) => Err(Failure::Usage {
            problem: format!("cannot draw {}: this `pyexec` was built without pictures", path.display()),
            hint: "build it with the cargo feature `picture`, as `cargo build --release` does".to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Writes a picture of at least one run.
#[cfg(feature = "picture")]
pub(crate) fn write(path: &Path, title: &str, curves: &[Curve<'_>]) -> Result<(), Failure> {
    Ok(crate::terminal::write_file(path, &pyexec_view::picture::png(title, curves))?)
}

#[cfg(not(feature = "picture"))]
pub(crate) fn write(path: &Path, _title: &str, _curves: &[Curve<'_>]) -> Result<(), Failure> {
    check(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_refused_by_a_build_without_them_and_by_no_other() {
        assert!(check(None).is_ok());
        let refused = check(Some(Path::new("run.png"))).err().map(|failure| failure.to_string());
        if cfg!(feature = "picture") {
            assert_eq!(refused, None);
        } else {
            assert_eq!(refused.as_deref(), Some("cannot draw run.png: this `pyexec` was built without pictures"));
        }
    }
}
