//! The reader of files of variables.

use super::Allowance;
use pyexec_python::dotenv::{DotenvError, MAX_FILE_BYTES, MAX_VALUES_BYTES, read};

/// Every reference in the file is copied, and the text once for its line ends.
const ALLOWANCE: Allowance = Allowance { held: 64 << 10, held_per_byte: 64, total: 64 << 10, total_per_byte: 256 };

type Read = Result<Vec<(String, String)>, DotenvError>;

/// The file is all of the input.
pub fn check(file: &[u8]) {
    // A name takes at least two bytes, and may say this.
    const OUTSIDE: &str = "of the caller";
    let environment = |name: &str| (name == "HOME").then(|| OUTSIDE.to_owned());
    let mut found = Ok(Vec::new());
    let expands = file.windows(2).any(|pair| pair == b"${");
    let more = if expands { MAX_VALUES_BYTES * 4 } else { 0 };
    Allowance { held: ALLOWANCE.held + more, total: ALLOWANCE.total + 2 * more, ..ALLOWANCE }
        .check(file, || found = read(file, &environment));
    // The end of one line after the other: what is counted below is never fewer than there are.
    let lines = 1 + file.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    match &found {
        Ok(variables) => check_variables(variables, lines),
        Err(DotenvError::TooLong { bytes }) => assert!(*bytes == file.len() && *bytes > MAX_FILE_BYTES),
        Err(
            DotenvError::NotUtf8 { line }
            | DotenvError::Statement { line, .. }
            | DotenvError::TooMuchExpansion { line },
        ) => assert!((1..=lines).contains(line), "line {line} of {lines}"),
    }
    check_next_line(file, &found, &environment);
    if let Ok(variables) = &found {
        check_written_again(variables);
    }
}

fn check_variables(variables: &[(String, String)], lines: usize) {
    assert!(variables.len() <= lines, "{} variables on {lines} lines", variables.len());
    let mut names = std::collections::HashSet::new();
    let mut bytes = 0;
    for (name, value) in variables {
        assert!(!name.is_empty() && !name.contains(['=', '\0']), "no environment can hold the name {name:?}");
        assert!(!value.contains('\0'), "no environment can hold the value of {name:?}");
        assert!(names.insert(name), "{name:?} twice");
        bytes += value.len();
    }
    assert!(bytes <= MAX_VALUES_BYTES, "{bytes} bytes of values");
}

/// What is on a line of its own does not change what the lines before it say.
fn check_next_line(file: &[u8], found: &Read, environment: &dyn Fn(&str) -> Option<String>) {
    const NEXT: &[u8] = b"\nTHE_NEXT_LINE=1\n";
    if file.len() + NEXT.len() > MAX_FILE_BYTES {
        return;
    }
    let longer = read(&[file, NEXT].concat(), environment);
    match (found, longer) {
        (Ok(found), Ok(mut longer)) => {
            longer.retain(|(name, _)| name != "THE_NEXT_LINE");
            let found: Vec<_> = found.iter().filter(|(name, _)| name != "THE_NEXT_LINE").cloned().collect();
            assert_eq!(found, longer);
        }
        (Err(found), Err(longer)) => assert_eq!(*found, longer),
        // One byte too many.
        (Ok(_), Err(DotenvError::TooMuchExpansion { .. })) => {}
        (found, longer) => panic!("{found:?}, and with one more line {longer:?}"),
    }
}

/// Written with quotes and escapes, the variables read as they are.
fn check_written_again(variables: &[(String, String)]) {
    let mut file = String::new();
    let mut expected = Vec::new();
    for (name, value) in variables {
        // A reference would be looked up again, and no quotes take its meaning away. Nor can a name have this quote.
        if value.contains("${") || name.contains(['\'', '\r']) {
            continue;
        }
        file.push_str(&format!("'{name}'=\""));
        for letter in value.chars() {
            match letter {
                '"' | '\\' => file.extend(['\\', letter]),
                '\r' => file.push_str("\\r"),
                _ => file.push(letter),
            }
        }
        file.push_str("\" # and a comment\n");
        expected.push((name.clone(), value.clone()));
    }
    if file.len() <= MAX_FILE_BYTES {
        assert_eq!(read(file.as_bytes(), &|_| None), Ok(expected), "written as {file:?}");
    }
}
