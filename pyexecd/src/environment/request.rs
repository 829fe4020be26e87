//! What identifies an environment before it is resolved: requirements in one spelling, and everything else that decides
//! what they resolve to.

use sha2::{Digest, Sha256};

/// An interpreter as it was when somebody looked. Another file under the same path is another interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InterpreterIdentity {
    /// With links followed.
    pub(super) path: std::path::PathBuf,
    pub(super) version: String,
    pub(super) inode: u64,
    /// In nanoseconds since 1970.
    pub(super) modified: i64,
}

impl InterpreterIdentity {
    /// A few letters that tell interpreters apart.
    pub(super) fn family(&self) -> String {
        hex(self.text().as_bytes())[..8].to_owned()
    }

    fn text(&self) -> String {
        format!("{} {} {} {}", self.path.display(), self.version, self.inode, self.modified)
    }
}

/// What is asked to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// In one spelling, sorted, nothing twice.
    requirements: Vec<String>,
    /// The content of a requirements file, and where it is.
    pub(super) file: Option<RequirementsFile>,
    pub(super) interpreter: InterpreterIdentity,
    /// A hash of index settings and the like: [`super::settings::Settings::resolution`].
    pub(super) settings: String,
    pub(super) uv_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequirementsFile {
    pub(super) path: std::path::PathBuf,
    pub(super) content: Vec<u8>,
}

impl RequirementsFile {
    /// Whether it lists requirements, line by line. uv goes by the name: it reads projects, locks and scripts, too.
    pub(super) fn is_list(&self) -> bool {
        match self.path.extension().map(std::ffi::OsStr::as_encoded_bytes) {
            Some(extension) => matches!(extension, b"txt" | b"in"),
            None => !self.content.windows(12).any(|words| words == b"# /// script"),
        }
    }
}

impl Request {
    pub(super) fn new(
        requirements: &[String],
        file: Option<RequirementsFile>,
        interpreter: InterpreterIdentity,
        settings: String,
        uv_version: String,
    ) -> Self {
        let mut requirements: Vec<String> = requirements.iter().map(|requirement| normalized(requirement)).collect();
        requirements.sort();
        requirements.dedup();
        Self { requirements, file, interpreter, settings, uv_version }
    }

    pub(super) fn requirements(&self) -> &[String] {
        &self.requirements
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requirements.is_empty() && self.file.is_none()
    }

    /// What a resolution is remembered under.
    pub(super) fn key(&self) -> String {
        let file = self.file.as_ref().map(|file| hex(&file.content)).unwrap_or_default();
        let requirements = self.requirements.join("\n");
        let parts = [&requirements, &file, &self.interpreter.text(), &self.settings, &self.uv_version];
        hex(parts.map(String::as_str).join("\0").as_bytes())
    }

    /// Whether the same resolution may be used for good: everything named is pinned to one version.
    pub(super) fn is_pinned(&self) -> bool {
        self.file.is_none() && self.requirements.iter().all(|requirement| is_pinned(requirement))
    }

    /// Whether it names something whose content can change under the same name: a path, a link, another file.
    pub(super) fn is_volatile(&self) -> bool {
        let file = self.file.iter().flat_map(|file| file.content.split(|byte| *byte == b'\n'));
        let lines = file.map(|line| String::from_utf8_lossy(line).trim().to_owned());
        lines.chain(self.requirements.iter().cloned()).any(|line| is_volatile(&line))
    }
}

/// The address of an environment: what is in it, for which interpreter, and what changes how it is built.
pub(super) fn address(lock: &str, interpreter: &InterpreterIdentity, uv_version: &str, building: &str) -> String {
    let major = uv_version.split('.').take(2).collect::<Vec<_>>().join(".");
    let interpreter = interpreter.text();
    let mut parts = vec![lock, &interpreter, std::env::consts::ARCH, &major];
    // Most often there is nothing, and an address is what it has always been.
    if !building.is_empty() && !lock.is_empty() {
        parts.push(building);
    }
    let mut address = hex(parts.join("\0").as_bytes());
    // Half of it is plenty to tell environments apart, and keeps the first line of their scripts short.
    address.truncate(32);
    address
}

fn is_pinned(requirement: &str) -> bool {
    let before_marker = requirement.split(';').next().unwrap_or_default();
    before_marker
        .split_once("==")
        .is_some_and(|(_, version)| !version.contains(['*', ',']) && !version.starts_with('='))
}

pub(super) fn is_volatile(line: &str) -> bool {
    let option = line.starts_with('-') && !line.starts_with("--hash");
    option || line.contains(" @ ") || line.contains("://") || line.starts_with(['.', '/', '~']) || line.contains(".whl")
}

/// One spelling of a PEP 508 requirement: `Foo_Bar [B,a] >= 1, <2 ; python_version<"3.12"` and
/// `foo-bar[a,b]<2,>=1;python_version<"3.12"` are the same. What can not be read so is left to uv to complain about.
pub(super) fn normalized(requirement: &str) -> String {
    let requirement = requirement.trim();
    let end = requirement.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let (name, rest) = requirement.split_at(end.unwrap_or(requirement.len()));
    if name.is_empty() || is_volatile(requirement) {
        return requirement.to_owned();
    }
    let (before, marker) = match rest.split_once(';') {
        Some((before, marker)) => (before, Some(marker.trim())),
        None => (rest, None),
    };
    let before: String = before.chars().filter(|c| !c.is_whitespace()).collect();
    let (extras, versions) = match before.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((extras, versions)) => (extras, versions),
        None => ("", before.as_str()),
    };
    let versions = versions.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(versions);
    // `numpy pandas`, say, is not the package `numpypandas`.
    if !versions.is_empty() && !versions.starts_with(['<', '>', '=', '!', '~']) {
        return requirement.to_owned();
    }
    let mut normal = normalized_name(name);
    let extras = sorted(extras.split(',').filter(|extra| !extra.is_empty()).map(normalized_name));
    if !extras.is_empty() {
        normal.push_str(&format!("[{}]", extras.join(",")));
    }
    normal.push_str(&sorted(versions.split(',').filter(|version| !version.is_empty()).map(str::to_owned)).join(","));
    if let Some(marker) = marker {
        normal.push_str(" ; ");
        normal.push_str(marker);
    }
    normal
}

/// PEP 503: lower case, and one hyphen for any run of `-`, `_` and `.`.
pub(super) fn normalized_name(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

fn sorted(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut words: Vec<String> = words.collect();
    words.sort();
    words.dedup();
    words
}

/// SHA-256, in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(requirements: &[&str]) -> Request {
        let requirements: Vec<String> = requirements.iter().map(|text| (*text).to_owned()).collect();
        let interpreter =
            InterpreterIdentity { path: "/python".into(), version: "3.12.1".into(), inode: 1, modified: 2 };
        Request::new(&requirements, None, interpreter, String::new(), "0.13.9".into())
    }

    #[test]
    fn order_and_spelling_do_not_change_the_key() {
        let key = |requirements: &[&str]| request(requirements).key();
        assert_eq!(key(&["numpy", "Python_DateUtil"]), key(&["python-dateutil", "NumPy", "numpy "]));
        assert_eq!(key(&["foo [B,a] >= 1, <2"]), key(&["Foo[a,b]<2,>=1"]));
        assert_eq!(key(&["foo (>=1)"]), key(&["foo>=1"]));
        assert_ne!(key(&["numpy"]), key(&["numpy==1"]));
        assert_ne!(key(&["foo[a]"]), key(&["foo"]));
        assert_ne!(key(&["foo; python_version < '3.9'"]), key(&["foo"]));
    }

    #[test]
    fn what_can_not_be_read_is_left_as_it_is() {
        for text in ["numpy pandas", "not a requirement!", "six 1.16", "foo[a] bar", "numpy, pandas"] {
            assert_eq!(normalized(text), text);
        }
    }

    #[test]
    fn the_interpreter_and_the_settings_are_part_of_the_key() {
        let base = request(&["numpy"]);
        let mut other = base.clone();
        other.interpreter.modified += 1;
        assert_ne!(base.key(), other.key());
        let mut other = base.clone();
        other.settings = "index".into();
        assert_ne!(base.key(), other.key());
    }

    #[test]
    fn only_exact_versions_are_pinned() {
        for (requirements, pinned) in [
            (&["a==1.0", "b==2"][..], true),
            (&[][..], true),
            (&["a==1.*"][..], false),
            (&["a>=1"][..], false),
            (&["a==1", "b"][..], false),
            (&["a==1; python_version == '3.12'"][..], true),
            (&["a; python_version == '3.12'"][..], false),
        ] {
            assert_eq!(request(requirements).is_pinned(), pinned, "{requirements:?}");
        }
    }

    #[test]
    fn only_a_list_of_requirements_is_read_as_one() {
        let file = |path: &str, content: &str| RequirementsFile { path: path.into(), content: content.into() };
        for (path, content, is_list) in [
            ("/a/requirements.txt", "six", true),
            ("/a/requirements.in", "six", true),
            ("/dev/fd/63", "six", true),
            ("/a/script", "# /// script\n# dependencies = []\n# ///\n", false),
            ("/a/pylock.toml", "", false),
            ("/a/script.py", "", false),
        ] {
            assert_eq!(file(path, content).is_list(), is_list, "{path}");
        }
    }

    #[test]
    fn the_same_packages_built_in_another_way_are_another_environment() {
        let interpreter = request(&[]).interpreter;
        let address = |lock: &str, building: &str| address(lock, &interpreter, "0.13.9", building);
        assert_ne!(address("six==1.17.0", ""), address("six==1.17.0", "UV_NO_BINARY=1"));
        assert_eq!(address("", ""), address("", "UV_NO_BINARY=1"), "nothing is built");
    }

    #[test]
    fn paths_and_links_are_volatile() {
        for (requirement, volatile) in [
            ("numpy", false),
            ("foo @ file:///tmp/foo", true),
            ("./foo", true),
            ("git+https://example.org/foo", true),
            ("-e .", true),
            ("foo-1.0-py3-none-any.whl", true),
        ] {
            assert_eq!(request(&[requirement]).is_volatile(), volatile, "{requirement}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(text in "[A-Za-z._-]{0,12}( ?\\[[a-z,]{0,5}\\])?( ?[<>=]{1,2} ?[0-9.]{1,4},?){0,3}") {
            let once = normalized(&text);
            prop_assert_eq!(normalized(&once), once);
        }

        #[test]
        fn any_text_is_taken(text: String) {
            let _ = normalized(&text);
        }
    }
}
