//! The reader against tables, and against python-dotenv itself.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::oracle::{Oracle, base64};

const ENVIRONMENT: &[(&str, &str)] =
    &[("HOME", "/home/ada"), ("EMPTY", ""), ("A", "from the environment"), ("REF", "${HOME}")];

fn environment(name: &str) -> Option<String> {
    ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn read_here(text: impl AsRef<[u8]>) -> Result<Vec<(String, String)>, DotenvError> {
    read(text.as_ref(), &environment)
}

/// A file and the variables it sets.
const FILES: &[(&str, &[(&str, &str)])] = &[
    ("", &[]),
    ("\n \t\n# comment\n  # another\n#", &[]),
    ("A=1", &[("A", "1")]),
    (" A = 1 \n", &[("A", "1")]),
    ("A=", &[("A", "")]),
    ("A=\nB=1", &[("A", ""), ("B", "1")]),
    ("A=one two\tthree  ", &[("A", "one two\tthree")]),
    ("A=one # two", &[("A", "one")]),
    ("A=one# two", &[("A", "one# two")]),
    ("A=one#two # three # four", &[("A", "one#two")]),
    ("A=#one", &[("A", "#one")]),
    ("A= #one", &[("A", "")]),
    ("A= # one\nB=2", &[("A", ""), ("B", "2")]),
    ("A=''#comment", &[("A", "")]),
    ("A='x' # it's a comment", &[("A", "x")]),
    ("A==", &[("A", "=")]),
    ("A=b=c", &[("A", "b=c")]),
    ("A=it's", &[("A", "it's")]),
    ("A=say \"hi\"", &[("A", "say \"hi\"")]),
    ("A=`one two`", &[("A", "`one two`")]),
    ("A=\\n\\t\\\\", &[("A", "\\n\\t\\\\")]),
    ("export A=1\nexport\tB=2\nexport   C = 3", &[("A", "1"), ("B", "2"), ("C", "3")]),
    ("export=1", &[("export", "1")]),
    ("export", &[]),
    ("export A", &[]),
    ("export # comment", &[]),
    ("exported=1", &[("exported", "1")]),
    ("'A'=1", &[("A", "1")]),
    ("'A B#C'=1", &[("A B#C", "1")]),
    ("\"A\"=1", &[("\"A\"", "1")]),
    ("a.b-c:d=1", &[("a.b-c:d", "1")]),
    ("GRÜSSE=ä\u{1f600}", &[("GRÜSSE", "ä\u{1f600}")]),
    ("A=\u{a0}\u{3000}x\u{2003}", &[("A", "x")]),
    ("A\x1f=\x1cx\x1d#\x1e", &[("A", "x")]),
    ("A=x\u{200b}", &[("A", "x\u{200b}")]),
    ("A=x\u{85}# comment", &[("A", "x")]),
    // Keys without a value.
    ("A\nB=1", &[("B", "1")]),
    ("A # comment\nB=1", &[("B", "1")]),
    ("A#=1", &[]),
    ("a:b", &[]),
    ("A=1\nA", &[]),
    ("A\nA=1", &[("A", "1")]),
    ("A\nB=<${A:-default}>", &[("B", "<>")]),
    // Quotes.
    ("A=\"one # two\"", &[("A", "one # two")]),
    ("A= 'one' ", &[("A", "one")]),
    ("A=\"one\ntwo\"\nB=3", &[("A", "one\ntwo"), ("B", "3")]),
    ("A='one\n# two\nthree=3'", &[("A", "one\n# two\nthree=3")]),
    (r#"A="\a\b\f\n\r\t\v\\\"\'""#, &[("A", "\x07\x08\x0c\n\r\t\x0b\\\"'")]),
    (r#"A="\\n""#, &[("A", "\\n")]),
    (r#"A="\x41\u0041\0\$\e""#, &[("A", r"\x41\u0041\0\$\e")]),
    ("A=\"one\\\ntwo\"", &[("A", "one\\\ntwo")]),
    (r#"A='\n\t\\\'\"'"#, &[("A", r#"\n\t\'\""#)]),
    (r"A='\\'", &[("A", "\\")]),
    (r#"A="it's""#, &[("A", "it's")]),
    (r#"A='"'"#, &[("A", "\"")]),
    // References.
    ("A=${HOME}/x", &[("A", "/home/ada/x")]),
    ("A='${HOME}'\nB=\"${HOME}\"", &[("A", "/home/ada"), ("B", "/home/ada")]),
    ("A=$HOME ${HOME", &[("A", "$HOME ${HOME")]),
    ("A=\\${HOME}", &[("A", "\\/home/ada")]),
    ("A=$${HOME}", &[("A", "$/home/ada")]),
    ("A=<${NOWHERE}>", &[("A", "<>")]),
    ("A=${NOWHERE:-a b}", &[("A", "a b")]),
    ("A=${EMPTY:-default}", &[("A", "")]),
    ("A=${NOWHERE:-}", &[("A", "")]),
    ("A=${NOWHERE:-${HOME}}", &[("A", "${HOME}")]),
    ("A=${HOME:-x}${NOWHERE:-y}", &[("A", "/home/aday")]),
    ("A=${HOME-x} ${HOME:x} ${HOME:?x}", &[("A", " ${HOME:x} ${HOME:?x}")]),
    ("A=${x:${HOME}}", &[("A", "${x:/home/ada}")]),
    ("A=${}${ HOME }", &[("A", "")]),
    ("A=${REF}", &[("A", "${HOME}")]),
    ("A=${A}!", &[("A", "from the environment!")]),
    ("A=1\nB=${A}", &[("A", "1"), ("B", "1")]),
    ("B=${A}\nA=1", &[("B", "from the environment"), ("A", "1")]),
    ("A=1\nB=${A}\nA=2\nC=${A}", &[("A", "2"), ("B", "1"), ("C", "2")]),
    ("A=1\nA=${A}2", &[("A", "12")]),
    ("A=\"${X:-one\ntwo}\"", &[("A", "one\ntwo")]),
    ("${HOME}=1", &[("${HOME}", "1")]),
    ("X='$'\nA=${X}{HOME}", &[("X", "$"), ("A", "${HOME}")]),
    // Line ends and the byte order mark.
    ("A=1\r\nB=2\rC=3\r\n", &[("A", "1"), ("B", "2"), ("C", "3")]),
    ("A='1\r\n2\r3'", &[("A", "1\n2\n3")]),
    ("\u{feff}A=1", &[("A", "1")]),
    ("\u{feff}\u{feff}A=1", &[("\u{feff}A", "1")]),
    ("A=\u{feff}1", &[("A", "\u{feff}1")]),
];

/// A file that is refused, and what the message must say.
const REFUSED: &[(&[u8], &str)] = &[
    (b"=x", "line 1: no name"),
    (b"A=1\n\n  =hunter2", "line 3: no name"),
    (b"''=hunter2", "line 1: no name"),
    (b"export  \nA=1", "line 1: no name"),
    (b"export =hunter2", "line 1: no name"),
    (b"a: hunter2", "line 1: `a:` is followed by"),
    (b"TOKEN hunter2", "line 1: `TOKEN` is followed by"),
    (b"'TOKEN'hunter2=1", "line 1: `TOKEN` is followed by"),
    (b"hunter2 hunter2", "line 1: the name is followed by"),
    (b"1234 5678", "line 1: the name is followed by"),
    (b"'A", "line 1: a name in single quotes"),
    (b"A=1\r\nB='hunter2\r\nC=1", "line 2: the value of `B` is not closed with '"),
    (b"token=\"hunter2\\\"", "line 1: the value of `token` is not closed with \""),
    (b"A='hunter2\\", "line 1: the value of `A` is not closed"),
    (b"A='one\ntwo' hunter2", "line 1: after the closing ' of `A`"),
    (b"A=\"x\"hunter2", "line 1: after the closing \" of `A`"),
    (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='", "line 1: the value of a variable is"),
    (b"'A=B'=hunter2", "line 1: the name of a variable has"),
    (b"A\0=hunter2", "line 1: the name of a variable has"),
    (b"A=hunter2\0", "line 1: the value of `A` has a NUL"),
    (b"A=1\r\rB=\xff", "line 3: not UTF-8"),
    (b"\xff\xfeA\0=\0x\0", "line 1: not UTF-8"),
];

#[test]
fn every_file_of_the_table_sets_what_the_table_says() {
    for (text, expected) in FILES {
        let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(read_here(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn a_refusal_names_the_line_and_never_the_value() {
    for (text, expected) in REFUSED {
        let told = read_here(text).expect_err("a refusal").to_string();
        assert!(told.starts_with(expected), "{:?}: {told}", text.escape_ascii().to_string());
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let mut text = b"A=".to_vec();
    text.resize(MAX_FILE_BYTES, b'x');
    assert!(read_here(&text).is_ok_and(|variables| variables[0].1.len() == MAX_FILE_BYTES - 2));
    text.push(b'x');
    assert_eq!(read_here(&text), Err(DotenvError::TooLong { bytes: MAX_FILE_BYTES + 1 }));
}

#[test]
fn references_that_double_a_value_with_every_line_are_stopped() {
    let text = format!("A=0123456789\n{}", "A=${A}${A}\n".repeat(100));
    assert_eq!(read_here(text), Err(DotenvError::TooMuchExpansion { line: 20 }));
}

#[test]
fn a_file_full_of_unfinished_references_takes_no_longer_than_another() {
    for unfinished in ["${", "${:", "${:-"] {
        let text = format!("A={}", unfinished.repeat((MAX_FILE_BYTES - 2) / unfinished.len()));
        let begun = std::time::Instant::now();
        assert!(read_here(&text).is_ok_and(|variables| variables[0].1 == text[2..]));
        assert!(begun.elapsed().as_secs() < 5, "{unfinished} took {:?}", begun.elapsed());
    }
}

#[test]
fn python_dotenv_reads_every_file_of_the_tables_as_we_do() {
    let mut oracle = dotenv_oracle();
    let texts = FILES.iter().map(|(text, _)| text.as_bytes()).chain(REFUSED.iter().map(|(text, _)| *text));
    for text in texts {
        let expected = expected(&oracle.ask(&question(text, &real_environment())));
        assert_eq!(outcome(text, &real_environment()), expected, "{:?}", text.escape_ascii().to_string());
    }
}

#[test]
fn python_dotenv_reads_generated_files_as_we_do() {
    let oracle = RefCell::new(dotenv_oracle());
    // PROPTEST_CASES asks for more.
    let cases = Config::default().cases.max(4096);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let asked = RefCell::new((0, 0));
    let result = runner.run(&(files(), environments()), |(text, environment)| {
        let expected = expected(&oracle.borrow_mut().ask(&question(text.as_bytes(), &environment)));
        let outcome = outcome(text.as_bytes(), &environment);
        let mut asked = asked.borrow_mut();
        *if outcome.is_ok() { &mut asked.0 } else { &mut asked.1 } += 1;
        if outcome == expected {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("read as {outcome:?}, python-dotenv says {expected:?}")))
        }
    });
    if let Err(difference) = result {
        panic!("{difference}");
    }
    let (read, refused) = asked.into_inner();
    assert!(read > cases / 4 && refused > cases / 20, "the generator is one-sided: {read} read, {refused} refused");
}

fn dotenv_oracle() -> Oracle {
    let python = std::env::var_os("PYEXEC_TEST_DOTENV_PYTHON").expect(
        "set PYEXEC_TEST_DOTENV_PYTHON to a Python that has python-dotenv: \
         `python3 -m venv V && V/bin/pip install python-dotenv`, then V/bin/python",
    );
    Oracle::start(std::path::Path::new(&python), include_str!("../oracle/dotenv_oracle.py"))
}

type Environment = BTreeMap<String, String>;

fn real_environment() -> Environment {
    ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn question(text: &[u8], environment: &Environment) -> Value {
    json!({ "text": base64(text), "environment": environment })
}

/// The variables, or the line of the refusal (nothing where the oracle does not know it).
type Outcome = Result<Vec<(String, String)>, Option<u64>>;

fn outcome(text: &[u8], environment: &Environment) -> Outcome {
    read(text, &|name| environment.get(name).cloned()).map_err(|error| match error {
        DotenvError::Statement { line, .. } => u64::try_from(line).ok(),
        DotenvError::NotUtf8 { .. } => None,
        DotenvError::TooLong { .. } | DotenvError::TooMuchExpansion { .. } => panic!("{error}"),
    })
}

/// What python-dotenv's answer asks of us: what it skips, and what `os.environ` would not take, is refused.
fn expected(answer: &Value) -> Outcome {
    if answer["not_utf8"] == true {
        return Err(None);
    }
    for statement in answer["statements"].as_array().expect("a list of statements") {
        let impossible = match (statement["name"].as_str(), statement["value"].as_str()) {
            (Some(name), Some(value)) => name.contains(['=', '\0']) || value.contains('\0'),
            (None, _) | (_, None) => false,
        };
        if impossible || statement["error"] == true {
            return Err(Some(statement["line"].as_u64().expect("a line number")));
        }
    }
    let values = answer["values"].as_array().expect("a list of variables");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(values.iter().filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect())
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec!["A", "B", "C", "HOME", "EMPTY", "export", "X"]).prop_map(str::to_owned),
        1 => "[A-Za-z_.'\"$\\-:é]{1,4}",
    ]
}

fn references() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => names().prop_map(|name| format!("${{{name}}}")),
        2 => (names(), "[a-z${:'\"# \\\\\n-]{0,5}").prop_map(|(name, default)| format!("${{{name}:-{default}}}")),
        1 => names().prop_map(|name| format!("${name}")),
        1 => "[${}:A-]{1,6}",
    ]
}

/// Pieces that mean something to the format, alone or in the wrong place.
fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,3}",
        3 => references(),
        3 => prop::sample::select(vec![
            " ", "  ", "\t", " #", "#", "=", "'", "\"", "\\", "\\\\", "\\'", "\\\"", "\\n", "\\t", "\\a", "\\v", "\\r",
            "\\b", "\\f", "\\u0041", "\\x41", "\\0", "$", "{", "}", ":", "-", "`", "\n", "\r", "\r\n",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "\u{a0}", "\u{85}", "\u{2028}", "\u{2029}", "\u{3000}", "\u{feff}", "\u{200b}", "\u{180e}", "\x0b", "\x0c",
            "\x1c", "\x1d", "\x1e", "\x1f", "\x7f", "é", "\u{1f600}", "\u{661}", "\0",
        ]).prop_map(str::to_owned),
    ]
}

fn texts(longest: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(pieces(), 0..=longest).prop_map(|pieces| pieces.concat())
}

fn quoted(quote: char, text: &str) -> String {
    format!("{quote}{}{quote}", text.replace('\\', r"\\").replace(quote, &format!("\\{quote}")))
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => texts(4),
        3 => texts(4).prop_map(|text| text.replace(['\n', '\r', '\0'], "").trim_start_matches(['"', '\'']).to_owned()),
        3 => texts(5).prop_map(|text| quoted('"', &text)),
        3 => texts(5).prop_map(|text| quoted('\'', &text)),
        1 => texts(5).prop_map(|text| format!("\"{text}\"")),
        1 => texts(5).prop_map(|text| format!("'{text}'")),
    ]
}

fn statements() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", "", "", " ", "\t ", "\u{a0}", "\x1f"]);
    let keyword = prop::sample::select(vec!["", "", "", "", "export ", "export\t", "export\u{3000}", "export"]);
    let comment = prop::sample::select(vec!["", "", "", " # it's", "#x", " #", "\t# \"", " x"]);
    let names = prop_oneof![6 => names(), 1 => names().prop_map(|name| format!("'{name}'"))];
    let assignment = (keyword, names, space(), space(), values(), comment).prop_map(
        |(keyword, name, before, after, value, comment)| format!("{keyword}{name}{before}={after}{value}{comment}"),
    );
    prop_oneof![
        12 => assignment,
        1 => texts(5),
        1 => names_alone(),
        1 => texts(4).prop_map(|text| format!("#{}", text.replace(['\n', '\r'], ""))),
        1 => space().prop_map(str::to_owned),
    ]
}

fn names_alone() -> impl Strategy<Value = String> {
    (names(), prop::sample::select(vec!["", " ", " # comment", "#comment"])).prop_map(|(name, rest)| name + rest)
}

fn files() -> impl Strategy<Value = String> {
    let line_end = || prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n \u{2028}\n"]);
    let lines = prop::collection::vec((statements(), line_end()), 0..7);
    (prop::sample::select(vec!["", "", "", "", "\u{feff}", "\u{feff}\u{feff}"]), lines, statements()).prop_map(
        |(mark, lines, last)| {
            let lines: String = lines.into_iter().map(|(statement, line_end)| statement + line_end).collect();
            format!("{mark}{lines}{last}")
        },
    )
}

fn environments() -> impl Strategy<Value = Environment> {
    prop::collection::btree_map(
        prop::sample::select(vec!["A", "B", "HOME", "EMPTY", "X"]).prop_map(str::to_owned),
        "[a-z${}AB: é]{0,8}",
        0..4,
    )
}
