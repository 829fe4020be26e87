use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::oracle::{Oracle, pythons};

fn dependencies(of: &str) -> Option<Vec<String>> {
    read(of.as_bytes()).expect("a header that can be read").map(|metadata| metadata.dependencies)
}

#[test]
fn a_header_is_read_whole() {
    let script = "#!/usr/bin/env python3\nimport os\n# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\n\
                  #   \"requests<3\",\n#\n#   'rich', # nice\n# ]\n# [tool.uv]\n# exclude-newer = \"2024-01-01T00:00:00Z\"\n\
                  # [tool.other]\n# x = 1\n# ///\n";
    let metadata = read(script.as_bytes()).expect("a good header").expect("a header");
    assert_eq!(metadata.requires_python.as_deref(), Some(">=3.11"));
    assert_eq!(metadata.dependencies, ["requests<3", "rich"]);
    let uv = metadata.tool_uv.expect("a table for uv");
    assert_eq!(uv["exclude-newer"].as_str(), Some("2024-01-01T00:00:00Z"));
    assert_eq!(uv.len(), 1);
}

#[test]
fn what_opens_no_block_is_a_comment() {
    for script in [
        "",
        "print(1)",
        "# /// script\n# ///\n",
        "# /// script \n# dependencies = ['a']\n# ///\n",
        "# /// script\t\n# dependencies = ['a']\n# ///\n",
        " # /// script\n# dependencies = ['a']\n# ///\n",
        "#/// script\n# dependencies = ['a']\n# ///\n",
        "# ///script\n# dependencies = ['a']\n# ///\n",
        "# ///  script\n# dependencies = ['a']\n# ///\n",
        "# /// scripts\n# dependencies = ['a']\n# ///\n",
        "# /// Script\n# dependencies = ['a']\n# ///\n",
        "# /// other\n# x\n",
        "# /// other\n# /// script\n# dependencies = ['a']\n# ///\n",
    ] {
        assert_eq!(dependencies(script), None, "{script:?}");
    }
}

const NOT_CLOSED: [&str; 10] = [
    "# /// script",
    "# /// script\nx = 1\n",
    "# /// script\n# dependencies = []\n",
    "# /// script\n# dependencies = []\n\n# ///\n",
    "# /// script\n# dependencies = []\nx = 1\n# ///\n",
    "# /// script\n#dependencies = []\n# ///\n",
    "# /// script\r\n# dependencies = []\r\nprint(1)\r\n",
    "# /// script\nx = 1\n# /// script\n# dependencies = []\n# ///\n",
    "x = \"\"\"\n# /// script\n\"\"\"\n",
    "# /// script\n# dependencies = []\n #\n# ///\n",
];

const BLANK_AFTER_CLOSING: [&str; 2] =
    ["# /// script\n# dependencies = []\n# /// \n", "# /// script\n# dependencies = []\n# ///\t \nx = 1\n"];

#[test]
fn a_header_that_is_not_closed_is_refused_with_its_line() {
    for script in NOT_CLOSED {
        let line = if script.starts_with('x') { 2 } else { 1 };
        assert_eq!(read(script.as_bytes()), Err(ScriptMetadataError::NotClosed { line }), "{script:?}");
    }
    for script in BLANK_AFTER_CLOSING {
        let refused = read(script.as_bytes());
        assert_eq!(refused, Err(ScriptMetadataError::BlankAfterClosing { line: 3 }), "{script:?}");
    }
}

#[test]
fn uv_takes_and_refuses_the_same_headers() {
    let uv = std::env::var_os("PYEXEC_TEST_UV").expect("PYEXEC_TEST_UV names the uv to test with");
    let directory = tempfile::tempdir().expect("a directory");
    let python = &pythons()[0];
    let others = [
        "# /// script\n# dependencies = []\n# ///\n",
        "# /// script\n# ///\n",
        "# /// script \n# dependencies = [\n",
        "# ///  script\n# dependencies = [\n",
        "#/// script\n",
        "# /// other\n# x\n",
        "# /// script\n# dependencies = []\n# ///\nx = 1\n# /// script\n",
        "# /// script\n#\n# x = 1\n# ///\n# /// other\n",
        "# /// script\n# dependencies = []\n# ///\n\n# /// script\n# dependencies = []\n# ///\n",
        "# /// script\n# dependencies = []\n# ///\n# /// script\n# dependencies = []\n# ///\n",
        "# /// script\n# dependencies = [\n# ///\n",
        "# /// script\n# dependencies = 'a'\n# ///\n",
        "# /// script\n# requires-python = 3\n# ///\n",
    ];
    for script in [&others[..], &NOT_CLOSED, &BLANK_AFTER_CLOSING].concat() {
        let file = directory.path().join("script.py");
        std::fs::write(&file, script).expect("can be written");
        let mut command = std::process::Command::new(&uv);
        let asked = command.args(["run", "--no-project", "--offline", "--quiet", "--python"]).arg(python).arg(&file);
        let ran = asked.env("UV_CACHE_DIR", directory.path().join("cache")).output().expect("uv can be started");
        // 2: uv itself failed; anything else is Python's.
        assert_eq!(ran.status.code() != Some(2), read(script.as_bytes()).is_ok(), "{script:?}: {ran:?}");
    }
}

#[test]
fn every_line_end_byte_order_mark_and_end_of_file_is_fine() {
    for script in [
        "# /// script\r\n# dependencies = ['a']\r\n# ///\r\n",
        "# /// script\r# dependencies = ['a']\r# ///\r",
        "\u{feff}# /// script\n# dependencies = ['a']\n# ///",
        "# /// script\n# dependencies = ['a']\n# ///\n# /// other\n",
        "# /// other\n# x\n# ///\n\n# /// script\n# dependencies = ['a']\n# ///",
        "# /// script\n# dependencies = ['a']\n# ///\n\n# /// script\nx = 1\n",
    ] {
        assert_eq!(dependencies(script), Some(vec!["a".to_owned()]), "{script:?}");
    }
}

#[test]
fn a_block_ends_with_the_last_line_that_can_end_it() {
    let script = "# /// script\n# dependencies = [\"\"\"\n# ///\n# /// b\n# \"\"\"]\n# ///\n";
    assert_eq!(dependencies(script), Some(vec!["///\n/// b\n".to_owned()]));
}

#[test]
fn the_rest_of_the_script_may_have_any_encoding_but_the_header_is_utf8() {
    let mut script = b"# coding: latin-1\n# /// script\n# dependencies = ['a']\n# ///\nx = '\xe4'\n".to_vec();
    assert!(read(&script).is_ok_and(|metadata| metadata.is_some()));
    script[52] = 0xe4;
    assert_eq!(read(&script), Err(ScriptMetadataError::NotUtf8 { line: 3 }));
}

#[test]
fn a_refusal_names_the_line_of_the_script() {
    for (script, expected) in [
        ("# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n", "line 5: a second"),
        ("\n# /// script\n# dependencies = [\n#   'a'\n#   'b'\n# ]\n# ///\n", "line 5: "),
        ("# /// script\n# dependencies = 'a'\n# ///\n", "line 2: "),
        ("# /// script\n#\n# dependencies = [\n# 'a',\n# 3]\n# ///\n", "line 5: "),
        ("# /// script\n# x = 1\n# requires-python = 3.11\n# ///\n", "line 3: "),
        ("# /// script\n# tool = 1\n# ///\n", "line 2: "),
        ("# /// script\n# [tool]\n# uv = []\n# ///\n", "line 3: "),
        ("# /// script\n# x = '''\n# y\n# ///\n", "line 3: "),
        ("# /// script\n# x = 1\n# x = 2\n# ///\n", "line 3: "),
    ] {
        let told = read(script.as_bytes()).expect_err("a refusal").to_string();
        assert!(told.starts_with(expected), "{script:?}: {told}");
    }
}

#[test]
fn a_header_is_written_after_the_lines_that_have_to_come_first() {
    const HEADER: &str = "# /// script\n# requires-python = \">=3.9\"\n# dependencies = [\n#     \"a\",\n# ]\n# ///\n";
    for (source, expected) in [
        ("", HEADER.to_owned()),
        ("x = 1\n", format!("{HEADER}\nx = 1\n")),
        ("# ///\nx = 1\n", format!("{HEADER}\n# ///\nx = 1\n")),
        ("#!/bin/python\nx = 1\n", format!("#!/bin/python\n\n{HEADER}\nx = 1\n")),
        ("#!/bin/python", format!("#!/bin/python\n\n{HEADER}")),
        ("# coding: utf-8\n", format!("# coding: utf-8\n\n{HEADER}")),
        ("#!p\n# -*- coding: utf-8 -*-\nx", format!("#!p\n# -*- coding: utf-8 -*-\n\n{HEADER}\nx")),
        ("\n# vim: set fileencoding=utf-8 :\nx", format!("\n# vim: set fileencoding=utf-8 :\n\n{HEADER}\nx")),
        ("x = 1\n# coding: utf-8\n", format!("{HEADER}\nx = 1\n# coding: utf-8\n")),
        ("\u{feff}x", format!("\u{feff}{HEADER}\nx")),
        ("#!p\r\nx\r\n", format!("#!p\n\n{HEADER}\nx\n").replace('\n', "\r\n")),
    ] {
        assert_eq!(write_header(&["a".to_owned()], Some(">=3.9"), source), expected, "{source:?}");
    }
}

#[test]
fn a_source_with_a_header_or_nothing_to_say_is_left_alone() {
    let good = "# /// script\n# dependencies = []\n# ///\n";
    let bad = "# /// script\n# nonsense\n# ///\n";
    for source in [good.to_owned(), bad.to_owned(), format!("{good}\n{good}")] {
        assert_eq!(write_header(&["a".to_owned()], Some(">=3.9"), &source), source);
    }
    assert_eq!(write_header(&[], None, "x = 1"), "x = 1");
}

#[test]
fn python_reads_generated_headers_as_we_do() {
    let oracles = oracles();
    run(&scripts(), |script| {
        let known = blocks(&lines(script.as_bytes()))
            .iter()
            .map(|block| {
                let content = block.content(&lines(script.as_bytes())).expect("a text is UTF-8");
                json!([String::from_utf8_lossy(block.kind), content])
            })
            .collect::<Vec<_>>();
        for oracle in &oracles {
            let answer = oracle.borrow_mut().ask(&json!({ "script": script }));
            if answer["blocks"] != Value::Array(known.clone()) {
                return Err(TestCaseError::fail(format!("found {known:?}, Python finds {}", answer["blocks"])));
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_written_is_read_back_by_us_and_by_python_and_changes_nothing_else() {
    let oracles = oracles();
    let texts = || "[a-z<>=\"'\\\\#/\n\r\t\u{85}\u{2028}\u{7f}é\u{1f600} ]{0,12}";
    let metadata = (prop::collection::vec(texts(), 0..4), prop::option::of(texts()));
    run(&(metadata, sources()), |((dependencies, requires_python), source)| {
        let written = write_header(&dependencies, requires_python.as_deref(), &source);
        let had_one = blocks(&lines(source.as_bytes())).iter().any(|block| block.kind == b"script");
        // Whoever writes one has refused such a source before.
        prop_assume!(had_one || read(source.as_bytes()).is_ok());
        if had_one || (dependencies.is_empty() && requires_python.is_none()) {
            prop_assert_eq!(written, source);
            return Ok(());
        }
        let read_back = read(written.as_bytes());
        prop_assert_eq!(
            read_back,
            Ok(Some(ScriptMetadata {
                requires_python: requires_python.clone(),
                dependencies: dependencies.clone(),
                tool_uv: None,
            })),
            "{}",
            written
        );
        for oracle in &oracles {
            let mut oracle = oracle.borrow_mut();
            let before = oracle.ask(&json!({ "script": source }));
            let after = oracle.ask(&json!({ "script": written }));
            prop_assert_eq!(&before["encoding"], &after["encoding"], "{}", written);
            prop_assert_eq!(&before["program"], &after["program"], "{}", written);
            if let Some(metadata) = after["metadata"].as_object() {
                let versions = requires_python.as_ref().map(|versions| json!(versions));
                prop_assert_eq!(metadata.get("requires-python"), versions.as_ref(), "{}", written);
                prop_assert_eq!(&metadata["dependencies"], &json!(dependencies), "{}", written);
            }
        }
        Ok(())
    });
}

fn oracles() -> Vec<RefCell<Oracle>> {
    let program = include_str!("../oracle/script_metadata_oracle.py");
    pythons().iter().map(|python| RefCell::new(Oracle::start(python, program))).collect()
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    // PROPTEST_CASES asks for more.
    let cases = Config::default().cases.max(1024);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    if let Err(difference) = runner.run(strategy, test) {
        panic!("{difference}");
    }
}

fn any_of(lines: &[&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(lines.to_vec()).prop_map(str::to_owned)
}

fn line_ends() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["\n", "\n", "\n", "\n", "\n", "\r\n", "\r", "\u{2028}", "\x0c", "\x0b", "\u{85}", "\n\n"])
}

fn scripts() -> impl Strategy<Value = String> {
    let lines = any_of(&[
        "# /// script",
        "# /// script",
        "# /// script",
        "# ///",
        "# ///",
        "# ///",
        "# /// other-1",
        "#",
        "# ",
        "#  x",
        "# x = 1",
        "# x = 1",
        "#x",
        "",
        "x = 1",
        " # ///",
        "# /// ",
        "# /// a b",
        "#!",
        "\u{feff}# /// script",
        "# é",
    ]);
    text_of(lines, 12)
}

fn sources() -> impl Strategy<Value = String> {
    let first = || {
        any_of(&[
            "#!/usr/bin/python",
            "# coding: utf-8",
            "# -*- coding: latin-1 -*-",
            "",
            "x = 1",
            "# a comment",
            "\u{feff}#!p",
            "\u{feff}",
            "  # vim: set fileencoding=ascii :",
            "# coding : no",
            "#coding=\tiso-8859-15",
            "# coding:",
            "\x0c",
            "# /// script",
            "\"\"\"text",
            "# decoding: coding: cp1252",
        ])
    };
    (first(), line_ends(), first(), line_ends(), scripts()).prop_map(
        |(first, after_first, second, after_second, rest)| first + after_first + &second + after_second + &rest,
    )
}

fn text_of(lines: impl Strategy<Value = String>, longest: usize) -> impl Strategy<Value = String> {
    prop::collection::vec((lines, line_ends()), 0..longest).prop_map(|lines| {
        let text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
        text
    })
}
