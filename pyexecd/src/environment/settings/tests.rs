use super::*;

/// A home, and a directory `a/b/c` below it.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir_all(place.at("a/b/c")).expect("can be made");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().expect("is there").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("can be made");
        std::fs::write(path, text).expect("can be written");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.at(name)).expect("is there");
    }

    fn variables(&self, more: &[(&str, &str)]) -> Variables {
        let own = [("XDG_CONFIG_HOME", self.at("config")), ("XDG_CONFIG_DIRS", self.at("system"))];
        let own = own.into_iter().map(|(name, path)| (name.into(), path.into_os_string()));
        own.chain(more.iter().map(|(name, value)| ((*name).into(), (*value).into()))).collect()
    }

    async fn read_from(&self, settings: &str, more: &[(&str, &str)]) -> Settings {
        let search = Search {
            directory: self.at("a/b/c"),
            settings: self.at(settings),
            versions: self.at(settings),
            lock: Some(self.at("a/b/c/s.py.lock")),
        };
        Settings::read(search, &self.variables(more), &ClientFiles::in_threads()).await.expect("can be read")
    }

    async fn read(&self, more: &[(&str, &str)]) -> Settings {
        self.read_from("a/b/c", more).await
    }
}

#[tokio::test]
async fn what_uv_does_not_read_changes_nothing() {
    let place = Place::new();
    let nothing = place.read(&[]).await;
    assert_eq!((nothing.resolution.as_str(), nothing.building.as_str()), ("", ""));
    assert_eq!((&nothing.uncertain, &nothing.version_file, nothing.is_changing), (&None, &None, false));
    place.write("a/b/c/pyproject.toml", "[tool.other]\nx = 1\n");
    place.write("a/b/c/d/uv.toml", "resolution = 'lowest'\n");
    place.write("config/uv/other.toml", "resolution = 'lowest'\n");
    assert_eq!(place.read(&[]).await, nothing);
    for variable in [("UV_OFFLINE", "0"), ("UV_CACHE_DIR", "x"), ("OTHER", "x"), ("UV_INDEX", "")] {
        assert_eq!(place.read(&[variable]).await, nothing, "{variable:?}");
    }
}

#[tokio::test]
async fn what_earlier_versions_remembered_is_found() {
    let place = Place::new();
    place.write("config/uv/uv.toml", "resolution = 'lowest'\n");
    let read = place.read(&[("UV_PRERELEASE", "allow"), ("UV_INDEX", "https://host"), ("UV_OFFLINE", "1")]).await;
    let parts = b"UV_INDEX=https://host\0UV_PRERELEASE=allow\0resolution = 'lowest'\n";
    assert_eq!(read.resolution, hex(parts));
    let interpreter = crate::environment::request::InterpreterIdentity {
        path: "/python".into(),
        version: "3.12.1".into(),
        inode: 1,
        modified: 2,
    };
    let before = hex(["six==1.17.0", "/python 3.12.1 1 2", std::env::consts::ARCH, "0.13"].join("\0").as_bytes());
    assert_eq!(crate::environment::request::address("six==1.17.0", &interpreter, "0.13.9", ""), before[..32]);
}

#[tokio::test]
async fn each_file_that_uv_reads_is_part_of_what_is_remembered_and_the_nearest_wins() {
    let place = Place::new();
    let lowest = "resolution = 'lowest'\n";
    let table = "[tool.uv]\nresolution = 'lowest-direct'\n";
    let mut seen = vec![place.read(&[]).await.resolution];
    for (name, text) in [
        ("system/uv/uv.toml", lowest),
        ("config/uv/uv.toml", lowest),
        ("uv.toml", lowest),
        ("a/b/pyproject.toml", table),
        ("a/b/uv.toml", "resolution = 'highest'\n"),
        ("a/b/c/uv.toml", "prerelease = 'allow'\n"),
    ] {
        place.write(name, text);
        let read = place.read(&[]).await;
        assert_eq!(read.uncertain, None, "{name}");
        assert!(!seen.contains(&read.resolution), "{name} is not read");
        seen.push(read.resolution);
    }
    // What is farther away does not hold.
    let before = place.read(&[]).await;
    place.write("a/b/uv.toml", "resolution = 'lowest-direct'\n");
    place.remove("uv.toml");
    assert_eq!(place.read(&[]).await, before);
    // The same settings in a table are the same.
    place.write("a/b/c/pyproject.toml", "[project]\nname = 'x'\n[tool.uv]\nprerelease = 'allow'\n");
    place.remove("a/b/c/uv.toml");
    assert_eq!(place.read(&[]).await.resolution, before.resolution);
    place.remove("a/b/c/pyproject.toml");
    place.write("a/b/c/uv.toml", "prerelease = 'allow'\n");
    // Only one of the user's and the system's: it has the same effect.
    place.remove("system/uv/uv.toml");
    let of_user = place.read(&[]).await.resolution;
    place.remove("config/uv/uv.toml");
    place.write("system/uv/uv.toml", lowest);
    assert_eq!(place.read(&[]).await.resolution, of_user);
    let off = place.read(&[("UV_NO_CONFIG", "1")]).await;
    place.remove("system/uv/uv.toml");
    place.remove("a/b/c/uv.toml");
    assert_eq!(place.read(&[("UV_NO_CONFIG", "1")]).await, off);
    place.write("a/b/c/named.toml", lowest);
    let named = [("UV_CONFIG_FILE", "named.toml")];
    let before = place.read(&named).await;
    place.write("a/b/c/uv.toml", "no-index = true\n");
    assert_eq!(place.read(&named).await, before, "there are no other settings then");
    place.write("a/b/c/named.toml", "");
    assert_ne!(place.read(&named).await.resolution, before.resolution);
}

#[tokio::test]
async fn what_may_mean_something_else_to_uv_pip_is_left_to_uv_run() {
    let place = Place::new();
    for (name, text, is_certain) in [
        ("a/b/c/uv.toml", "exclude-newer = '2024-01-01'\n[[index]]\nurl = 'https://host/simple'\n", true),
        ("a/b/c/uv.toml", "index-url = 'https://host'\nextra-index-url = ['http://host']\nno-build = true\n", true),
        ("a/b/c/uv.toml", "[pip]\n", false),
        ("a/b/c/uv.toml", "constraint-dependencies = ['six<2']\n", false),
        ("a/b/c/uv.toml", "a-setting-of-tomorrow = 1\n", false),
        ("a/b/c/uv.toml", "[[index]]\nurl = './packages'\n", false),
        ("a/b/c/uv.toml", "[[index]]\nname = 'x'\n", false),
        ("a/b/c/uv.toml", "index-url = 'file:///packages'\n", false),
        ("a/b/c/uv.toml", "find-links = ['$HOME/x']\n", false),
        ("a/b/c/uv.toml", "find-links = ['nothing']\n", false),
        ("a/b/c/uv.toml", "find-links = ['.']\n", true),
        ("a/b/c/uv.toml", "this is no TOML", false),
        ("config/uv/uv.toml", "[pip]\n", false),
        ("a/b/c/pyproject.toml", "this is no TOML", false),
        ("a/b/c/pyproject.toml", "[project]\nname = 'x'\n[tool.uv.sources]\nx = { path = 'y' }\n", true),
        ("a/pyproject.toml", "[tool.uv.workspace]\nmembers = ['b']\n", false),
    ] {
        place.write(name, text);
        let read = place.read(&[]).await;
        assert_eq!(read.uncertain.is_none(), is_certain, "{name} {text}: {:?}", read.uncertain);
        place.remove(name);
    }
    // uv looks for settings above a project's directory, and not between that and the script.
    place.write("a/pyproject.toml", "[project]\nname = 'x'\n");
    place.write("a/b/uv.toml", "resolution = 'lowest'\n");
    assert!(place.read(&[]).await.uncertain.is_some());
    place.write("a/pyproject.toml", "[project]\nname = 'x'\n[tool.uv]\nmanaged = false\n");
    assert_eq!(place.read(&[]).await.uncertain, None, "uv does not look after this one");
    place.write("a/pyproject.toml", "[project]\nname = 'x'\n");
    place.remove("a/b/uv.toml");
    place.write("a/uv.toml", "resolution = 'lowest'\n");
    assert_eq!(place.read(&[]).await.uncertain, None);
    place.remove("a/uv.toml");
    place.write("a/other/uv.toml", "resolution = 'lowest'\n");
    assert!(place.read_from("a/other/../b", &[]).await.uncertain.is_some(), "uv takes `..` for a directory");
    for (name, value, is_certain) in [
        ("UV_INDEX", "https://host/simple name=http://other", true),
        ("UV_INDEX", "https://host/simple?a=b", true),
        ("UV_INDEX", "name=./packages", false),
        ("UV_DEFAULT_INDEX", "/packages", false),
        ("UV_EXTRA_INDEX_URL", "https://host file:///packages", false),
        ("UV_PROJECT", "elsewhere", false),
        ("UV_WORKING_DIR", "elsewhere", false),
    ] {
        let read = place.read(&[(name, value)]).await;
        assert_eq!(read.uncertain.is_none(), is_certain, "{name}={value}: {:?}", read.uncertain);
    }
}

#[tokio::test]
async fn what_changes_how_packages_are_built_is_told_apart() {
    let place = Place::new();
    place.write("a/b/c/build.txt", "setuptools<70\n");
    let mut seen = vec![place.read(&[("UV_RESOLUTION", "lowest")]).await.building];
    assert_eq!(seen, [""]);
    for variable in [("UV_NO_BINARY", "1"), ("UV_NO_BUILD", "1"), ("UV_BUILD_CONSTRAINT", "build.txt")] {
        seen.push(place.read(&[variable]).await.building);
    }
    place.write("a/b/c/build.txt", "setuptools<80\n");
    seen.push(place.read(&[("UV_BUILD_CONSTRAINT", "build.txt")]).await.building);
    for text in ["no-binary = true\n", "no-binary-package = ['six']\n", "[config-settings]\nx = '1'\n"] {
        place.write("a/b/c/uv.toml", text);
        seen.push(place.read(&[]).await.building);
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "two of them are taken for the same");
}

#[tokio::test]
async fn what_cannot_be_known_to_stay_is_not_remembered() {
    let place = Place::new();
    for (text, is_changing) in [
        ("six<2\n# ./comment\n", false),
        ("-r more.txt\n", false),
        ("-r missing.txt\n", true),
        ("-c https://host/limits.txt\n", true),
        ("six @ ./here\n", true),
        ("--find-links ./here\n", true),
    ] {
        place.write("a/b/c/limits.txt", text);
        place.write("a/b/c/more.txt", "six\n-r limits.txt\n");
        let read = place.read(&[("UV_CONSTRAINT", "limits.txt")]).await;
        assert_eq!(read.is_changing, is_changing, "{text}");
    }
    for value in ["missing.txt", "https://host/limits.txt"] {
        assert!(place.read(&[("UV_OVERRIDE", value)]).await.is_changing, "{value}");
    }
    place.write("a/b/c/uv.toml", "offline = true\n");
    assert!(
        place.read(&[]).await.is_offline && place.read(&[("UV_NO_CONFIG", "1"), ("UV_OFFLINE", "1")]).await.is_offline
    );
}

#[tokio::test]
async fn the_nearest_version_file_holds() {
    let place = Place::new();
    let here = |request: &str| Some(VersionFile { request: request.to_owned(), is_elsewhere: false });
    for (name, text, expected) in [
        ("config/uv/.python-versions", "3.8\n", here("3.8")),
        ("config/uv/.python-version", "3.9\n", here("3.9")),
        (".python-versions", "3.10\n", here("3.10")),
        ("a/.python-version", "\n# why\n 3.11 \n3.12\n", here("3.11")),
        ("a/b/.python-version", "cpython@3.12\n", here("cpython@3.12")),
        ("a/b/c/.python-versions", ">=3.10\n", here(">=3.10")),
        ("a/b/c/.python-version", "pypy\n", here("pypy")),
        // uv passes over what it does not know, and looks no further.
        ("a/b/c/.python-version", "nonsense\n", None),
        ("a/b/c/.python-version", "", None),
    ] {
        let before = place.read(&[]).await.python;
        place.write(name, text);
        let read = place.read(&[]).await;
        assert_eq!(read.version_file, expected, "{name} {text:?}");
        assert_eq!(read.python == before, text.is_empty(), "{name} {text:?}");
    }
    assert_eq!(place.read(&[("UV_NO_CONFIG", "1")]).await.version_file, None);
    assert_eq!(place.read(&[]).await.script_lock, None);
    place.write("a/b/c/s.py.lock", "version = 1\n");
    assert_eq!(place.read(&[]).await.script_lock.as_deref(), Some(&b"version = 1\n"[..]));
}

#[tokio::test]
async fn a_change_meanwhile_is_noticed() {
    let place = Place::new();
    let (variables, files) = (place.variables(&[]), ClientFiles::in_threads());
    let log = crate::environment::PreparationLog::of_nobody();
    let (mark, _former) = crate::environment::mark::Mark::new(place.root.path());
    let caller = Caller { variables: &variables, mark: &mark, files: &files, log: &log };
    let read = place.read(&[]).await;
    assert!(read.still_hold(caller).await);
    place.write("a/uv.toml", "resolution = 'lowest'\n");
    assert!(!read.still_hold(caller).await);
}
