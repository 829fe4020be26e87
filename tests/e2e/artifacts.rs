//! What a job leaves in its directory of artifacts, as people and agents get at it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::mcp_session::{ERAS, Era, McpSession, base64_decoded, text_of};
use crate::sandbox::{PYEXEC_MCP, Sandbox};

/// Begins every script here.
const HERE: &str = "import os, sys\nos.chdir(os.environ['PYEXEC_ARTIFACTS'])\n";

/// The smallest PNG there is: one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[track_caller]
fn leaves(sandbox: &Sandbox, code: &str) -> String {
    let id = sandbox.detach(&["-c", &format!("{HERE}{code}")]);
    let job = sandbox.finished(&id);
    assert_eq!(job["exit_code"], 0, "{job}\n{}", sandbox.pyexec(["logs", &id, "--stderr"]));
    id
}

fn artifacts_of(sandbox: &Sandbox, id: &str) -> PathBuf {
    sandbox.run_directory(id).join("artifacts")
}

#[test]
fn what_a_job_leaves_is_listed_printed_and_copied_whatever_became_of_the_daemon() {
    let sandbox = Sandbox::new();
    let id = leaves(
        &sandbox,
        "os.mkdir('sub')\nopen('sub/b.bin', 'wb').write(bytes(range(256)) * 8192)\nopen('a.txt', 'w').write('text')",
    );
    let mode = std::fs::metadata(artifacts_of(&sandbox, &id)).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    sandbox.kill_daemon();
    let expected = json!([{"path": "a.txt", "bytes": 4}, {"path": "sub/b.bin", "bytes": 2 << 20}]);
    assert_eq!(sandbox.show(&id)["artifacts"], expected);
    let listed = sandbox.pyexec(["artifacts", &id[..8], "--json"]).expect_code(0).json();
    assert_eq!((&listed["artifacts"], &listed["job_id"]), (&expected, &id.as_str().into()));
    let table = sandbox.pyexec(["artifacts", &id]).expect_code(0).text();
    assert!(table.starts_with("SIZE") && table.contains("2.0 MiB") && table.contains("sub/b.bin\n"), "{table}");
    let bytes: Vec<u8> = (0..=255).cycle().take(2 << 20).collect();
    assert!(sandbox.pyexec(["artifacts", &id, "sub/b.bin"]).expect_code(0).stdout == bytes, "bytes differ");

    let copied = sandbox.pyexec(["artifacts", &id, "-o", "out"]).expect_code(0);
    assert_eq!(copied.text(), "out/a.txt\nout/sub/b.bin\n");
    assert!(std::fs::read(sandbox.file("out/sub/b.bin")).expect("is there") == bytes, "bytes differ");
    let again = sandbox.pyexec(["artifacts", &id, "-o", "out"]).expect_code(125);
    assert!(again.stderr.contains("out/a.txt already exists") && again.stderr.contains("--force"), "{again}");
    let forced = sandbox.pyexec(["artifacts", &id, "a.txt", "-o", "out", "--force", "--json"]).expect_code(0).json();
    assert_eq!((&forced["written"], &forced["directory"]), (&json!([{"path": "a.txt", "bytes": 4}]), &"out".into()));

    let before = sandbox.pyexec(["prune", "--older-than", "0", "--dry-run", "--json"]).expect_code(0).json();
    let pruned = sandbox.pyexec(["prune", "--older-than", "0", "--json"]).expect_code(0).json();
    for pruned in [before, pruned] {
        assert!(pruned["bytes_freed"].as_u64() > Some(2 << 20), "{pruned}");
    }
    assert!(!sandbox.run_directory(&id).exists());
    sandbox.pyexec(["artifacts", &id]).expect_code(127);
}

#[test]
fn a_job_that_leaves_nothing_has_no_artifacts() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(&["--json", "-c", "pass"]).expect_code(0).json();
    assert!(ran.get("artifacts").is_none(), "{ran}");
    let id = ran["job_id"].as_str().expect("is text");
    assert_eq!(sandbox.show(id)["artifacts"], json!([]));
    assert_eq!(sandbox.pyexec(["artifacts", id]).expect_code(0).text(), "");
    sandbox.pyexec(["artifacts", id, "-o", "out"]).expect_code(0);
    let ran = sandbox.run(&["--json", "-c", &format!("{HERE}open('x', 'w')")]).expect_code(0).json();
    assert_eq!(ran["artifacts"], json!([{"path": "x", "bytes": 0}]));
}

#[test]
fn a_running_job_has_artifacts_and_a_nested_one_has_its_own() {
    let sandbox = Sandbox::new();
    sandbox.set_script(
        "outer.py",
        "open('outer', 'w').write('1')\nimport subprocess\n\
         subprocess.run([os.environ['PYEXEC'], 'run', '--no-uv', '-c', 'import os; \
         open(os.environ[\"PYEXEC_ARTIFACTS\"] + \"/inner\", \"w\")'], check=True)\n\
         open(os.environ['WORK'] + '/nested', 'w').write('done\\n')\nimport time\ntime.sleep(600)\n",
    );
    let mut command = sandbox.cli(["run", "--no-uv", "-d", "outer.py"]);
    command.env("PYEXEC", crate::sandbox::PYEXEC).env("WORK", sandbox.work());
    let id = sandbox.attend(command).end().expect_code(0).text().trim().to_owned();
    sandbox.wait_for_file("nested");
    assert_eq!(sandbox.show(&id)["artifacts"], json!([{"path": "outer", "bytes": 1}]));
    assert_eq!(sandbox.pyexec(["artifacts", &id, "outer"]).expect_code(0).text(), "1");
    let jobs = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let inner = jobs["jobs"][0]["id"].as_str().expect("is text");
    assert_eq!(sandbox.show(inner)["artifacts"], json!([{"path": "inner", "bytes": 0}]));
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
}

impl Sandbox {
    fn set_script(&self, name: &str, code: &str) {
        self.write(name, format!("{HERE}{code}"));
    }
}

/// All a script can make that is not a file of its own.
const TRAPS: &str = "
os.makedirs('sub')
open('good', 'w').write('good')
os.symlink('/etc/passwd', 'passwd')
os.symlink('good', 'inside')
os.symlink('/etc', 'etc')
os.symlink('/dev/zero', 'zero')
os.symlink('..', 'sub/up')
os.mkfifo('pipe')
import socket
socket.socket(socket.AF_UNIX).bind('socket')
";

#[test]
fn no_path_leads_elsewhere_or_waits() {
    let sandbox = Sandbox::new();
    let id = leaves(&sandbox, TRAPS);
    let root = sandbox.work();
    let absolute = format!("{}/good", artifacts_of(&sandbox, &id).display());
    for (path, why) in [
        ("../spec.json", "not a path inside"),
        ("..", "not a path inside"),
        (".", "not a path inside"),
        ("sub/../good", "not a path inside"),
        ("/etc/passwd", "not a path inside"),
        (&absolute, "not a path inside"),
        ("", "not a path inside"),
        ("passwd", "it is a link"),
        ("inside", "it is a link"),
        ("etc/passwd", "it is a link"),
        ("sub/up/spec.json", "it is a link"),
        ("zero", "it is a link"),
        ("pipe", "a pipe, a socket or a device"),
        ("socket", "a pipe, a socket or a device"),
        ("sub", "it is a directory"),
        ("missing", "there is no such file"),
        ("good/more", "there is no such file"),
        (&"x".repeat(5_000), "there is no such file"),
    ] {
        for into in [&[][..], &["-o", "out"][..]] {
            let arguments = [&["artifacts", &id, path], into].concat();
            let ran = sandbox.pyexec(&arguments);
            assert!(matches!(ran.code, 125 | 127) && ran.stdout.is_empty(), "{path:?}: {ran}");
            if into.is_empty() {
                assert!(ran.stderr.contains(why) && ran.stderr.contains("\nhint: "), "{path:?}: {ran}");
            }
        }
    }
    let copied = sandbox.pyexec(["artifacts", &id, "-o", "all"]).expect_code(0);
    assert_eq!(copied.text(), "all/good\n");
    assert!(copied.stderr.contains("not listed, because they are links, pipes or devices: 7"), "{copied}");
    let there: Vec<_> = std::fs::read_dir(&root).expect("can be listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(there.iter().filter(|name| *name != "all" && *name != "out").count(), 0, "{there:?}");
    // A place for copies that leads elsewhere is not followed, either.
    std::fs::create_dir(sandbox.file("elsewhere")).expect("can be made");
    std::fs::create_dir(sandbox.file("trap")).expect("can be made");
    symlink(sandbox.file("elsewhere"), sandbox.file("trap/sub")).expect("can be made");
    let id = leaves(&sandbox, "os.mkdir('sub')\nopen('sub/file', 'w')");
    sandbox.pyexec(["artifacts", &id, "-o", "trap", "--force"]).expect_code(125);
    assert_eq!(std::fs::read_dir(sandbox.file("elsewhere")).expect("can be listed").count(), 0);
    sandbox.pyexec(["prune", "--older-than", "0"]).expect_code(0);
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn a_directory_that_a_job_replaced_by_a_link_has_nothing_in_it() {
    let sandbox = Sandbox::new();
    let code = "os.chdir('..')\nos.rmdir('artifacts')\nos.symlink('/etc', 'artifacts')";
    let id = leaves(&sandbox, code);
    assert_eq!(sandbox.show(&id)["artifacts"], json!([]));
    sandbox.pyexec(["artifacts", &id, "passwd"]).expect_code(127);
    sandbox.pyexec(["prune", "--older-than", "0"]).expect_code(0);
    assert!(Path::new("/etc/passwd").exists());
}

/// A mistake with `chmod` or `umask` is no reason not to be told how the job ended.
#[test]
fn a_job_that_took_its_own_permissions_away_loses_nothing_else() {
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let gone = "import os; print('hello'); os.chmod(os.environ['PYEXEC_ARTIFACTS'], 0)";
    let ran = sandbox.run(&["--json", "-c", gone]).expect_code(0).json();
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&"hello\n".into(), &0.into()), "{ran}");
    let id = ran["job_id"].as_str().expect("is text");
    assert_eq!(sandbox.show(id)["status"], "completed");
    let listed = sandbox.pyexec(["artifacts", id]).expect_code(0);
    assert!(listed.stderr.contains("there may be more"), "{listed}");
    sandbox.pyexec(["artifacts", id, "x"]).expect_code(127);
    let mut session = McpSession::open_command(&sandbox, Era::Stateless, sandbox.through(PYEXEC_MCP.path()));
    let ran = session.structured("py_run_script_in_dir", session.script(gone));
    assert_eq!(ran["stdout"], "hello\n", "{ran}");
    assert_eq!(session.structured("py_job_status", json!({"job_id": ran["job_id"]}))["job"]["status"], "completed");
    drop(session);
    // And it can be pruned.
    sandbox.pyexec(["prune", "--older-than", "0"]).expect_code(0);
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
}

#[test]
fn what_can_not_be_copied_is_named_and_everything_else_is_copied() {
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let code = "for name in 'abc': open(name, 'w').write(name)\nos.chmod('b', 0)\nos.makedirs('shut/in')\n\
                open('shut/in/x', 'w')\nos.chmod('shut', 0)";
    let id = leaves(&sandbox, code);
    let copied = sandbox.pyexec(["artifacts", &id, "-o", "out"]).expect_code(125);
    assert_eq!(copied.text(), "out/a\nout/c\n", "{copied}");
    assert!(copied.stderr.contains("not copied") && copied.stderr.contains("permission denied"), "{copied}");
    assert!(copied.stderr.contains("1 of 3 files were not copied"), "{copied}");
    let one = sandbox.pyexec(["artifacts", &id, "b"]).expect_code(127);
    assert!(one.stderr.contains("permission denied"), "{one}");
    let below = sandbox.pyexec(["artifacts", &id, "shut/in/x"]).expect_code(127);
    assert!(below.stderr.contains("permission denied"), "{below}");
    // Nor does it keep the job from being forgotten.
    sandbox.pyexec(["prune", "--older-than", "0"]).expect_code(0);
    assert!(!sandbox.run_directory(&id).exists());
    let left: Vec<PathBuf> = sandbox.files().into_iter().filter(|file| file.ends_with("shut/in/x")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn names_of_any_bytes_are_kept_and_shown_harmless() {
    let sandbox = Sandbox::new();
    let code = r"
for name in (b'new\nline', b'\x1b[31mred', b'\xff\xfe', b'-rf', b'a b', 'größe'.encode()):
    open(name, 'wb').write(name)
";
    let id = leaves(&sandbox, code);
    let table = sandbox.pyexec(["artifacts", &id]).expect_code(0);
    assert!(table.text().contains("new\\nline") && table.text().contains("\\x1b[31mred"), "{table}");
    let uris: Vec<Value> =
        sandbox.show(&id)["artifacts"].as_array().expect("are there").iter().map(|file| file["uri"].clone()).collect();
    assert!(uris.contains(&format!("job-artifact://{id}/%FF%FE").into()) && uris.contains(&Value::Null), "{uris:?}");
    let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
    assert!(!shown.contains('\x1b') && shown.contains("artifacts:"), "{shown}");
    sandbox.pyexec(["artifacts", &id, "-o", "out"]).expect_code(0);
    for name in [&b"new\nline"[..], b"\x1b[31mred", b"\xff\xfe", b"-rf", b"a b", "größe".as_bytes()] {
        let copied = std::fs::read(sandbox.file("out").join(OsStr::from_bytes(name))).expect("is there");
        assert_eq!(copied, name);
    }
    let arguments = [OsStr::new("artifacts"), id.as_ref(), OsStr::from_bytes(b"\xff\xfe")];
    assert_eq!(sandbox.pyexec(arguments).expect_code(0).stdout, b"\xff\xfe");
}

#[test]
fn thousands_of_files_and_deep_trees_are_bounded_where_they_are_shown_and_go_when_they_are_pruned() {
    let sandbox = Sandbox::new();
    let code = "
for number in range(5000):
    open(f'{number:04}', 'w').write('x')
for _ in range(1500):
    os.mkdir('deep')
    os.chdir('deep')
open('bottom', 'w')
os.chmod('.', 0)
";
    let id = leaves(&sandbox, code);
    let shown = sandbox.show(&id);
    assert_eq!(shown["artifacts"].as_array().map(Vec::len), Some(100));
    assert_eq!(shown["artifacts_left_out"], 4900);
    let copied = sandbox.pyexec(["artifacts", &id, "-o", "out"]).expect_code(0);
    assert_eq!(copied.text().lines().count(), 5000);
    assert!(copied.stderr.contains("there may be more"), "{copied}");
    sandbox.pyexec(["prune", "--older-than", "0"]).expect_code(0);
    assert!(!sandbox.run_directory(&id).exists());
    let left = std::fs::read_dir(sandbox.paths().jobs()).expect("can be listed").count();
    assert_eq!(left, 0, "something is left of it");
}

fn image_code() -> String {
    format!(
        "{HERE}import base64\npixel = base64.b64decode('{PIXEL}')\n\
         for number in range(5):\n    open(f'{{number}}.png', 'wb').write(pixel)\n\
         open('fake.png', 'w').write('no image')\nopen('0.svg', 'w').write('<svg/>')\n\
         os.symlink('/etc/passwd', 'link.png')\n\
         os.mkfifo('pipe.png')\nprint('made')"
    )
}

#[test]
fn images_come_after_the_text_when_they_are_asked_for() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let mut arguments = session.script(&image_code());
        let plain = session.call("py_run_script_in_dir", arguments.clone());
        assert_eq!(plain["content"].as_array().map(Vec::len), Some(1), "{plain}");
        let text = text_of(&plain);
        assert!(text.contains("Artifacts (job-artifact://") && text.contains("0.png (70 bytes)"), "{text}");
        let id = text.split("job-artifact://").nth(1).and_then(|rest| rest.split('/').next()).expect("is named");
        arguments["images"] = true.into();
        let run = session.call("py_run_script_in_dir", arguments);
        let status = session.call("py_job_status", json!({"job_id": id, "images": true}));
        for result in [run, status] {
            assert!(result.get("structuredContent").is_none(), "{result}");
            let blocks = result["content"].as_array().expect("is an array");
            assert_eq!(blocks.len(), 5, "{result}");
            assert!(text_of(&result).contains("beyond the first 4 are left out: 2"), "{result}");
            for block in &blocks[1..] {
                assert_eq!((&block["type"], &block["mimeType"]), (&"image".into(), &"image/png".into()));
                assert_eq!(block["data"], PIXEL);
            }
        }
        let fields = session.structured("py_job_status", json!({"job_id": id}));
        assert_eq!(fields["job"]["artifacts"][0], json!({"path": "0.png", "bytes": 70}));
        assert_eq!(fields["job"]["result"]["artifacts"], fields["job"]["artifacts"]);
    }
}

/// Makes PNGs of its own, beside what it is given: of zeros, which the larger they are the better they are packed.
const PNG_CODE: &str = "
import struct, zlib
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
def png(width, height, data=None):
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
    data = zlib.compress((b'\\0' * (width + 1)) * height) if data is None else data
    return b'\\x89PNG\\r\\n\\x1a\\n' + header + chunk(b'IDAT', data) + chunk(b'IEND', b'')
";

/// Width and height, as its header says.
fn size_of_png(block: &Value) -> (u32, u32) {
    let file = base64_decoded(block["data"].as_str().expect("is text"));
    let side = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().expect("are four"));
    (side(16), side(20))
}

#[test]
fn an_image_that_no_model_would_take_is_named_with_the_reason_and_not_shown() {
    let sandbox = Sandbox::new();
    let code = format!(
        "{HERE}{PNG_CODE}
files = {{
    '0-good.png': png(20, 10),
    '1-cut.png': png(200, 200)[:90],
    '2-start.png': png(9, 9)[:8],
    '3-damaged.png': png(9, 9).replace(b'IDAT', b'IDAX'),
    '4-undecodable.png': png(9, 9, b'nothing'),
    '5-large.png': png(9000, 9000),
    '6-wide.png': png(4000, 30),
    '7-bytes.jpg': b'\\xff\\xd8\\xff' + bytes(1 << 20),
    '8-text.gif': b'text',
    '9-padded.png': png(40, 30) + bytes(1 << 20),
}}
for name, data in files.items():
    open(name, 'wb').write(data)
"
    );
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let mut arguments = session.script(&code);
        arguments["images"] = true.into();
        let result = session.call("py_run_script_in_dir", arguments);
        let sizes: Vec<_> = result["content"].as_array().expect("is an array")[1..].iter().map(size_of_png).collect();
        assert_eq!(sizes, [(20, 10), (2000, 15), (28, 21)], "{}", text_of(&result));
        let text = text_of(&result);
        for said in [
            "1-cut.png: the PNG is cut off",
            "2-start.png: the PNG is cut off",
            "3-damaged.png: the PNG is damaged: the checksum of a chunk is wrong",
            "4-undecodable.png: the PNG is damaged: its pixels cannot be decoded",
            "5-large.png: 9000 × 9000 pixels are too many to be scaled down",
            "7-bytes.jpg: 1048579 bytes; the limit is 1048576",
            "8-text.gif: it is not a PNG, JPEG, GIF or WebP image, despite its name",
        ] {
            assert!(text.contains(&format!("\n- {said}\n")), "{said}: {text}");
        }
        let id = text.split("job-artifact://").nth(1).and_then(|rest| rest.split('/').next()).expect("is named");
        assert!(text.contains(&format!("`pyexec artifacts {id} -o DIR`")), "{text}");
        // Who asks for fields is told, too.
        let fields = session.call("py_job_status", json!({"job_id": id, "images": true, "markdown_output": false}));
        assert!(fields["content"].to_string().contains("1-cut.png: the PNG is cut off"), "{fields}");
        for (name, mime_type) in [
            ("0-good.png", "image/png"),
            ("6-wide.png", "image/png"),
            ("1-cut.png", "application/octet-stream"),
            ("4-undecodable.png", "application/octet-stream"),
            ("5-large.png", "application/octet-stream"),
        ] {
            let uri = format!("job-artifact://{id}/{name}");
            let read = session.ask("resources/read", json!({"uri": uri}));
            assert_eq!(read["contents"][0]["mimeType"], mime_type, "{read}");
        }
    }
}

#[test]
fn artifacts_are_resources() {
    let sandbox = Sandbox::new();
    let code = format!(
        "{TRAPS}{}",
        "open('a b.csv', 'w').write('1,2')\nopen('sub/data.bin', 'wb').write(b'\\xff\\x00')\n\
         open('big', 'wb').write(bytes((1 << 20) + 1))\n"
    );
    let id = leaves(&sandbox, &code);
    for era in [Era::Stateless, Era::Handshake("2025-06-18")] {
        let mut session = McpSession::open(&sandbox, era);
        let templates = session.ask("resources/templates/list", json!({}));
        assert_eq!(templates["resourceTemplates"][1]["uriTemplate"], "job-artifact://{job_id}/{path}");
        let uri = |path: &str| format!("job-artifact://{id}/{path}");
        for (path, field, content, mime_type) in [
            ("a%20b.csv", "text", "1,2", "text/csv"),
            ("sub/data.bin", "blob", "/wA=", "application/octet-stream"),
            ("sub%2Fdata.bin", "blob", "/wA=", "application/octet-stream"),
            ("good", "text", "good", "text/plain"),
        ] {
            let read = session.ask("resources/read", json!({"uri": uri(path)}));
            let found = &read["contents"][0];
            assert_eq!((&found[field], &found["mimeType"]), (&content.into(), &mime_type.into()), "{read}");
            assert_eq!(found["uri"], uri(path).as_str());
        }
        let refused = |session: &mut McpSession<'_>, uri: String| -> Value {
            let request = session.request("resources/read", json!({ "uri": uri }));
            session.answer(request)["error"].clone()
        };
        for path in ["..%2Fspec.json", "../spec.json", "%2Fetc%2Fpasswd", "/etc/passwd", "passwd", "etc/passwd", "pipe"]
        {
            let error = refused(&mut session, uri(path));
            let said = error["message"].as_str().unwrap_or_default();
            assert!(said.contains("has no artifact") && said.contains("py_job_status"), "{path}: {error}");
        }
        for unknown in [uri(""), uri("%zz"), "job-artifact://ffffffff/x".to_owned()] {
            assert!(refused(&mut session, unknown)["code"].is_i64());
        }
        let large = refused(&mut session, uri("big"));
        assert!(large["message"].as_str().is_some_and(|said| said.contains("`pyexec artifacts")), "{large}");
        let completed = session.ask(
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "job-artifact://{job_id}/{path}"},
                "argument": {"name": "job_id", "value": &id[..6]}}),
        );
        assert_eq!(completed["completion"]["values"], json!([id]));
    }
}
