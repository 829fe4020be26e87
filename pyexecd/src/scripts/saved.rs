//! Scripts that somebody saved under a name.

use std::path::Path;

use pyexec_proto::error::Named;
use pyexec_proto::script::{MAX_SOURCE_BYTES, SaveScript, SavedScript};
use pyexec_proto::url_password::masked;
use pyexec_proto::{Error, OsText};

use super::files::{self, failed};
use super::names::ScriptName;
use crate::environment::check_requirement;
use pyexec_python::{script_metadata, version_specifiers};

/// Nothing else may write to the directory meanwhile.
pub(super) fn save(directory: &Path, script: SaveScript) -> Result<SavedScript, Error> {
    let name = ScriptName::read(&script.name)?;
    let path = directory.join(name.as_str());
    let (source, header_written) = with_header(script.source, &script.dependencies, script.requires_python.as_deref())?;
    check_size(source.len())?;
    let doing = || format!("save {name}");
    let replaced = match files::look(&path).map_err(failed(doing()))? {
        None => false,
        Some(true) if script.overwrite => true,
        Some(true) => {
            return Err(Error::InvalidArgument {
                what: "script name".to_owned(),
                given: name.into(),
                problem: if holds(&path, &source) {
                    "there is one already, with the very same content".to_owned()
                } else {
                    "there is one already".to_owned()
                },
                hint: "`--overwrite` (`overwrite=true`) replaces it; or choose another name".to_owned(),
            });
        }
        Some(false) => return Err(no_file(&name)),
    };
    let written = files::write(directory, name.as_str(), &source);
    // Somebody may have no other copy of it.
    written.and_then(|file| file.sync_all()).map_err(failed(doing()))?;
    Ok(SavedScript { name: name.into(), path: OsText::from(path), replaced, header_written })
}

pub(super) fn remove(directory: &Path, given: &str) -> Result<(), Error> {
    let name = ScriptName::read(given)?;
    let path = directory.join(name.as_str());
    match files::look(&path).map_err(failed(format!("remove {name}")))? {
        None => Err(Error::NotFound { what: Named::SavedScript, path: OsText::from(name.as_str()) }),
        Some(false) => Err(no_file(&name)),
        Some(true) => files::remove_if_there(&path).map_err(failed(format!("remove {name}"))),
    }
}

/// What an earlier daemon did not finish writing. Nothing may write to the directory meanwhile.
pub(super) fn tidy(directory: &Path) -> std::io::Result<()> {
    for entry in files::entries(directory)? {
        let name = entry.file_name();
        let of = name.to_str().and_then(files::unfinished);
        if of.is_some_and(|of| ScriptName::of_file(of.as_ref()).is_some()) {
            files::clear_away(&entry.path());
        }
    }
    Ok(())
}

/// A link, a directory, a pipe: somebody else has put it there.
pub(super) fn no_file(name: &ScriptName) -> Error {
    Error::InvalidArgument {
        what: "script".to_owned(),
        given: name.to_string(),
        problem: "it is not a regular file, and is left alone".to_owned(),
        hint: "look at it in the directory of scripts, or choose another name".to_owned(),
    }
}

pub(super) fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= MAX_SOURCE_BYTES {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        what: "source".to_owned(),
        given: format!("({bytes} bytes)"),
        problem: format!("{MAX_SOURCE_BYTES} bytes is the most"),
        hint: "keep data in a file of its own, and let the script open that".to_owned(),
    })
}

fn holds(path: &Path, source: &[u8]) -> bool {
    match files::open(path) {
        Ok(files::Found::File(mut file, metadata)) if metadata.len() == source.len() as u64 => {
            files::beginning(&mut file, source.len()).is_ok_and(|content| content == source)
        }
        Ok(_) | Err(_) => false,
    }
}

/// The source, and whether a header was put into it.
fn with_header(
    source: Vec<u8>,
    dependencies: &[String],
    requires_python: Option<&str>,
) -> Result<(Vec<u8>, bool), Error> {
    check_size(source.len())?;
    for dependency in dependencies {
        check_requirement(dependency)?;
        let masked = masked(dependency);
        if masked != dependency.as_str() {
            return Err(Error::InvalidArgument {
                what: "requirement".to_owned(),
                given: masked.into_owned(),
                problem: "it has a password, and the header of a saved script rests on disk".to_owned(),
                hint: "write `${TOKEN}` in its place, and set TOKEN where the script is run".to_owned(),
            });
        }
    }
    if let Some(versions) = requires_python {
        version_specifiers::check(versions).map_err(|clause| Error::InvalidArgument {
            what: "requires_python".to_owned(),
            given: versions.chars().take(80).collect(),
            problem: format!("`{}` does not say which versions", clause.chars().take(80).collect::<String>()),
            hint: "write `>=3.11`, `>=3.9,<4` or `==3.12.*`".to_owned(),
        })?;
    }
    let header = script_metadata::read(&source).map_err(|error| Error::InvalidArgument {
        what: "source".to_owned(),
        given: "its header".to_owned(),
        problem: error.to_string(),
        hint: "correct the `# /// script` block, or leave it out and name the dependencies".to_owned(),
    })?;
    if header.is_some() || (dependencies.is_empty() && requires_python.is_none()) {
        return Ok((source, false));
    }
    match str::from_utf8(&source) {
        Ok(text) => Ok((script_metadata::write_header(dependencies, requires_python, text).into_bytes(), true)),
        Err(_) => Err(Error::InvalidArgument {
            what: "source".to_owned(),
            given: format!("({} bytes)", source.len()),
            problem: "it is not UTF-8, and no header can be put into it".to_owned(),
            hint: "convert it, or write the `# /// script` block yourself".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(source: &str) -> SaveScript {
        SaveScript {
            name: "x".to_owned(),
            source: source.as_bytes().to_vec(),
            dependencies: vec![],
            requires_python: None,
            overwrite: false,
        }
    }

    const HEADER: &str = "# /// script\n# dependencies = [\"idna\"]\n# ///\n";

    #[test]
    fn a_header_is_written_where_there_is_none_and_kept_where_there_is() {
        let (six, over_311) = (&["six".to_owned()][..], Some(">=3.11"));
        let cases = [
            ("print(1)\n".to_owned(), &[][..], None, "print(1)\n".to_owned(), false),
            (
                "print(1)\n".to_owned(),
                six,
                over_311,
                "# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\n#     \"six\",\n# ]\n# ///\n\nprint(1)\n"
                    .to_owned(),
                true,
            ),
            (
                String::new(),
                &[],
                over_311,
                "# /// script\n# requires-python = \">=3.11\"\n# dependencies = []\n# ///\n".to_owned(),
                true,
            ),
            (format!("{HEADER}print(1)\n"), six, over_311, format!("{HEADER}print(1)\n"), false),
            (format!("{HEADER}print(1)\n"), &[], None, format!("{HEADER}print(1)\n"), false),
        ];
        for (source, dependencies, requires_python, expected, written) in cases {
            let directory = tempfile::tempdir().expect("a directory");
            let given = SaveScript {
                dependencies: dependencies.to_vec(),
                requires_python: requires_python.map(str::to_owned),
                ..script(&source)
            };
            let saved = save(directory.path(), given).expect("can be saved");
            assert_eq!(
                (saved.name.as_str(), saved.replaced, saved.header_written),
                ("x.py", false, written),
                "{source:?}"
            );
            assert_eq!(std::fs::read_to_string(saved.path.as_path()).expect("is there"), expected, "{source:?}");
        }
    }

    #[test]
    fn what_would_make_a_broken_header_is_refused_and_nothing_is_written() {
        let with = |dependency: &str| SaveScript { dependencies: vec![dependency.to_owned()], ..script("print(1)\n") };
        let over = |versions: &str| SaveScript { requires_python: Some(versions.to_owned()), ..script("print(1)\n") };
        let cases = [
            (with(""), "requirement"),
            (with("six\n# ///"), "requirement"),
            (with("--index-url=http://x"), "requirement"),
            (over("3.12"), "requires_python"),
            (over(""), "requires_python"),
            (over(">=3.8\"\n# x = \""), "requires_python"),
            (script("# /// script\n# dependencies = 'six'\n# ///\n"), "source"),
            (script(&format!("{HEADER}\n{HEADER}")), "source"),
            (SaveScript { source: b"x = '\xe4'".to_vec(), ..with("six") }, "source"),
            (SaveScript { source: vec![b'#'; MAX_SOURCE_BYTES + 1], ..script("") }, "source"),
            (SaveScript { name: "../x".to_owned(), ..script("") }, "script name"),
        ];
        for (given, refused) in cases {
            let directory = tempfile::tempdir().expect("a directory");
            match save(directory.path(), given.clone()) {
                Err(Error::InvalidArgument { what, .. }) => assert_eq!(what, refused, "{given:?}"),
                other => panic!("{given:?}: {other:?}"),
            }
            assert_eq!(files::entries(directory.path()).expect("can be listed").len(), 0, "{given:?}");
        }
    }

    #[test]
    fn a_source_in_another_encoding_is_kept_byte_for_byte() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = b"# coding: latin-1\nx = '\xe4'\n".to_vec();
        let saved = save(directory.path(), SaveScript { source: source.clone(), ..script("") }).expect("can be saved");
        assert_eq!(std::fs::read(saved.path.as_path()).expect("is there"), source);
    }

    #[test]
    fn what_was_not_finished_is_cleared_away_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in [".x.py.tmp", ".notes.tmp", "x.py", "x.py.tmp"] {
            std::fs::write(directory.path().join(name), "").expect("can be written");
        }
        tidy(directory.path()).expect("can be listed");
        let entries = files::entries(directory.path()).expect("can be listed");
        let mut left: Vec<_> = entries.iter().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, [".notes.tmp", "x.py", "x.py.tmp"]);
    }
}
