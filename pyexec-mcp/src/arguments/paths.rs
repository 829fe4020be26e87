//! Paths as people and hosts write them, with `~` or as `file` URIs.

use std::path::Path;

use crate::answer::Failure;
use crate::answer::shown::cut;
use crate::uri::percent_decoded;

/// The path that `given` stands for, in the parameter `name`. Everything but `~`, `~/…` and `file:…` is a path already.
pub(super) fn resolved(name: &str, given: &str, home: Option<&Path>) -> Result<String, Failure> {
    if let Some(below) = given.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with('/')) {
        let home = home.and_then(Path::to_str).ok_or_else(|| {
            Failure::argument(
                format!("`{name}` is \"{}\", and there is no home directory", cut(given)),
                "set HOME in the environment of this MCP server, or give the whole path",
            )
        })?;
        return Ok(format!("{}{below}", home.trim_end_matches('/')));
    }
    match file_uri(given) {
        None => Ok(given.to_owned()),
        Some(Ok(path)) => Ok(path),
        Some(Err(problem)) => Err(Failure::argument(
            format!("`{name}` is \"{}\", {problem}", cut(given)),
            "give the path itself, or a URI such as file:///home/me/a%20b.py",
        )),
    }
}

/// The path of a `file` URI; `None` if the text is not such a URI.
fn file_uri(given: &str) -> Option<Result<String, &'static str>> {
    const SCHEME: usize = "file:".len();
    let scheme = given.get(..SCHEME)?;
    let rest = &given[SCHEME..];
    if !scheme.eq_ignore_ascii_case("file:") || !rest.starts_with('/') {
        return None;
    }
    let path = match rest.strip_prefix("//") {
        // `file:/path`
        None => rest,
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Some(Err("a URI of a file on another machine"));
            }
            path
        }
    };
    if path.is_empty() {
        return Some(Err("a URI without a path"));
    }
    let decoded = percent_decoded(path).ok_or("a URI with a % that is not followed by two hexadecimal digits");
    Some(decoded.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "a URI of a path that is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_is_meant_by_it() {
        for (given, expected) in [
            ("~", "/home/me"),
            ("~/", "/home/me/"),
            ("~/a b/c.py", "/home/me/a b/c.py"),
            ("file:///a%20b/%C3%A9.py", "/a b/é.py"),
            ("file://localhost/a", "/a"),
            ("FILE:///a", "/a"),
            ("file:/a", "/a"),
            ("file:///", "/"),
            ("file:///a#b?c", "/a#b?c"),
            // Names that only look like it.
            ("~me/a", "~me/a"),
            ("a/~", "a/~"),
            ("file:a", "file:a"),
            ("files:///a", "files:///a"),
            ("a%20b", "a%20b"),
            ("é:///a", "é:///a"),
            ("", ""),
        ] {
            let read = resolved("directory", given, Some(Path::new("/home/me/")));
            assert!(matches!(&read, Ok(path) if path == expected), "{given}: {read:?}");
        }
    }

    #[test]
    fn what_is_no_path_of_this_machine_is_refused_with_what_would_be() {
        for (given, home, problem) in [
            ("file://server/share/a", Some("/home/me"), "another machine"),
            ("file://a.py", Some("/home/me"), "another machine"),
            ("file://", Some("/home/me"), "without a path"),
            ("file:///a%2", Some("/home/me"), "hexadecimal"),
            ("file:///%ff", Some("/home/me"), "not UTF-8"),
            ("~/a", None, "no home directory"),
        ] {
            let refused = resolved("directory", given, home.map(Path::new));
            let Err(Failure::Argument { problem: said, next }) = refused else { panic!("{given} was taken") };
            assert!(said.starts_with(&format!("`directory` is \"{given}\", ")) && said.contains(problem), "{said}");
            assert!(next.contains("path"), "{next}");
        }
    }
}
