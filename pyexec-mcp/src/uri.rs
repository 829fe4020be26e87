//! URIs of resources, `job-stream://{job_id}` and `job-artifact://{job_id}/{path}`, and percent-encoding.

use pyexec_proto::OsText;

pub(crate) const STREAM_SCHEME: &str = "job-stream://";
pub(crate) const ARTIFACT_SCHEME: &str = "job-artifact://";

/// The resource URI of a job's output.
pub(crate) fn of_stream(id: impl std::fmt::Display) -> String {
    format!("{STREAM_SCHEME}{id}")
}

/// The job of an output's URI, as written; `None` for any other URI.
pub(crate) fn job_in(uri: &str) -> Option<&str> {
    uri.strip_prefix(STREAM_SCHEME).map(|id| id.trim_end_matches('/')).filter(|id| !id.is_empty())
}

/// The job and path of an artifact's URI; `None` for any other URI.
pub(crate) fn artifact_in(uri: &str) -> Option<(&str, OsText)> {
    let (id, path) = uri.strip_prefix(ARTIFACT_SCHEME)?.split_once('/')?;
    let path = percent_decoded(path)?;
    (!id.is_empty() && !path.is_empty()).then(|| (id, path.into()))
}

/// The percent-encoded path of an artifact's URI.
pub(crate) fn encoded_path_in(uri: &str) -> Option<&str> {
    Some(uri.strip_prefix(ARTIFACT_SCHEME)?.split_once('/')?.1)
}

pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_named_by_its_job_and_its_path_whatever_that_is_made_of() {
        type Named<'a> = Option<(&'a str, &'a [u8])>;
        let cases: [(&str, Named<'_>); 11] = [
            ("job-artifact://1234abcd/plot.png", Some(("1234abcd", b"plot.png"))),
            ("job-artifact://1234abcd/a/b.txt", Some(("1234abcd", b"a/b.txt"))),
            ("job-artifact://1234abcd/a%2Fb%20c%ff", Some(("1234abcd", b"a/b c\xff"))),
            // The daemon says what is wrong with it.
            ("job-artifact://1234abcd/%2e%2e/x", Some(("1234abcd", b"../x"))),
            ("job-artifact://1234abcd//etc/passwd", Some(("1234abcd", b"/etc/passwd"))),
            ("job-artifact://1234abcd/", None),
            ("job-artifact://1234abcd", None),
            ("job-artifact:///x", None),
            ("job-artifact://1234abcd/%", None),
            ("job-artifact://1234abcd/%+1", None),
            ("job-stream://1234abcd/x", None),
        ];
        for (uri, expected) in cases {
            let named = artifact_in(uri);
            let named = named.as_ref().map(|(id, path)| (*id, path.as_bytes()));
            assert_eq!(named, expected, "{uri}");
        }
    }

    #[test]
    fn a_resource_is_named_by_its_job() {
        let cases = [
            ("job-stream://1234abcd", Some("1234abcd")),
            ("job-stream://1234abcd/", Some("1234abcd")),
            ("job-stream://", None),
            ("job-artifact://1234abcd", None),
            ("1234abcd", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(job_in(uri), expected, "{uri}");
        }
    }
}
