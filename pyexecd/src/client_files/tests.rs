use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

#[tokio::test]
async fn only_regular_files_are_opened_and_they_are_read_to_their_bound() {
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name);
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("can be made");
    let _socket = UnixListener::bind(at("socket")).expect("can be bound");
    std::fs::write(at("file"), "12345").expect("can be written");
    std::fs::File::create(at("sparse")).and_then(|file| file.set_len(1 << 40)).expect("can be made");
    for (link, target) in [("link to pipe", "pipe"), ("link to file", "file"), ("dangling", "nothing")] {
        std::os::unix::fs::symlink(target, at(link)).expect("can be linked");
    }
    let files = ClientFiles::in_threads();
    for (path, most, expected) in [
        (at("file"), 5, "Ok(5)"),
        (at("file"), 4, "it has more than 4 bytes"),
        (at("link to file"), 5, "Ok(5)"),
        (at("sparse"), 10, "it has more than 10 bytes"),
        (at("pipe"), 10, "it is a pipe, not a regular file"),
        (at("link to pipe"), 10, "it is a pipe, not a regular file"),
        (at("socket"), 10, "it is a socket, not a regular file"),
        (at("."), 10, "it is a directory, not a regular file"),
        (PathBuf::from("/dev/zero"), 10, "it is a device, not a regular file"),
        (at("nothing"), 10, "No such file or directory (os error 2)"),
        (at("dangling"), 10, "No such file or directory (os error 2)"),
        (at("file/below"), 10, "Not a directory (os error 20)"),
    ] {
        let read = files.read(&path, most).await;
        let read = read.map_or_else(|error| error.to_string(), |bytes| format!("Ok({})", bytes.len()));
        assert_eq!(read, expected, "{}", path.display());
    }
}

#[tokio::test]
async fn many_names_are_looked_at_in_one_question() {
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name);
    std::fs::write(at("file"), "").expect("can be written");
    std::os::unix::fs::symlink("file", at("link")).expect("can be linked");
    std::os::unix::fs::symlink("loop", at("loop")).expect("can be linked");
    let mut files = ClientFiles::in_threads().open();
    let asked = ["file", "link", "nothing", "file/below", "loop", "."].map(at);
    let kinds = files.kinds(&asked).await.expect("can be asked");
    assert_eq!(kinds, [Some(Kind::File), Some(Kind::File), None, None, None, Some(Kind::Directory)]);
    assert_eq!(files.kinds(&[]).await.expect("can be asked"), []);
}

#[tokio::test]
async fn several_files_are_read_at_once_and_each_has_its_own_answer() {
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name);
    std::fs::create_dir(at("below")).expect("can be made");
    std::fs::write(at("one"), "1").expect("can be written");
    std::fs::write(at("below/empty"), "").expect("can be written");
    std::fs::write(at("below/long"), "12345").expect("can be written");
    std::fs::write(at("last"), "4321").expect("can be written");
    let files = ClientFiles::in_threads();
    let paths = [at("one"), at("below"), at("below/empty"), at("below/long"), at("nothing"), at("one/x"), at("last")];
    let read = files.open().contents(&paths, 4).await.expect("is answered");
    let read: Vec<String> = read
        .into_iter()
        .map(|read| match read {
            Ok(Some(bytes)) => String::from_utf8(bytes).expect("is text"),
            Ok(None) => "nothing".to_owned(),
            Err(problem) => problem.to_string(),
        })
        .collect();
    let directory = "it is a directory, not a regular file";
    assert_eq!(read, ["1", directory, "", "it has more than 4 bytes", "nothing", "nothing", "4321"]);
    assert!(files.open().contents(&[], 4).await.expect("is answered").is_empty());
}

#[tokio::test]
async fn a_directory_is_listed_with_what_tells_that_a_file_was_replaced() {
    let home = tempfile::tempdir().expect("a directory");
    let files = ClientFiles::in_threads();
    let listed = async || files.open().entries(home.path()).await.expect("can be listed");
    std::fs::write(home.path().join("b"), "1").expect("can be written");
    std::os::unix::fs::symlink("nowhere", home.path().join("a")).expect("can be linked");
    let before = listed().await;
    let names: Vec<&[u8]> = before.iter().map(|entry| entry.name.as_bytes()).collect();
    assert_eq!(names, [b"a", b"b"]);
    assert_eq!(listed().await, before);
    std::fs::write(home.path().join("b"), "12").expect("can be written");
    assert_ne!(listed().await, before);
    assert!(files.open().entries(&home.path().join("nothing")).await.is_err());
}

/// Says of nothing that it is there, and never answers for what has `silent` in its path.
fn partly_silent(mut daemon: std::os::unix::net::UnixStream) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = daemon.read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
        if let Ok(Some((question, _))) = decode::<Question>(&mut received)
            && !format!("{question:?}").contains("silent")
            && daemon.write_all(&encode(&Answer::Kind(None), &[])).is_err()
        {
            break;
        }
    }
}

#[tokio::test]
async fn any_number_of_questions_about_what_does_not_answer_take_few_lookers_and_hold_up_no_other() {
    let files = ClientFiles::with(Start::Thread(partly_silent));
    let ask = |path: &'static str| {
        let files = files.clone();
        tokio::spawn(async move { files.kind(Path::new(path)).await })
    };
    let waiting: Vec<_> = (0..4 * MOST).map(|_| ask("/silent/directory/file")).collect();
    let below: Vec<_> = (0..4 * MOST).map(|_| ask("/silent/directory/file/below")).collect();
    for _ in 0..10 {
        assert!(matches!(ask("/other").await.expect("does not panic"), Ok(None)));
    }
    assert!(waiting.iter().chain(&below).all(|asked| !asked.is_finished()));
    assert_eq!(MOST - files.0.permits.available_permits(), MOST_OF_A_PATH);
    waiting.iter().chain(&below).for_each(tokio::task::JoinHandle::abort);
    for asked in waiting.into_iter().chain(below) {
        assert!(asked.await.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(files.0.permits.available_permits(), MOST);
}

#[tokio::test]
async fn what_comes_before_a_place_that_does_not_answer_is_found() {
    let files = ClientFiles::in_threads();
    let home = tempfile::tempdir().expect("a directory");
    let here = home.path().join("here");
    std::fs::write(&here, "").expect("can be written");
    std::fs::set_permissions(&here, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("can be set");
    // Held up by somebody else.
    let other = files.open();
    other.at(Path::new("/silent")).await;
    files.0.state().at_work[0].since = Instant::now().checked_sub(OVERDUE).expect("the clock began before that");
    let places = vec![home.path().join("nowhere"), here.clone(), PathBuf::from("/silent/here")];
    assert_eq!(files.open().first_executable(places).await.expect("can be asked"), Some(here));
    let silent = Deadline(tokio::time::Instant::now());
    let mut asking = files.open();
    let asked = silent.bounds(asking.first_executable(vec!["/silent/here".into()])).await;
    let said = asked.expect_err("it waits").to_string();
    assert_eq!(said, "its file system has not answered for 1.5 s");
    drop(other);
}
