//! Every form of file that people keep, with the entry written into it and taken out again.

use super::*;

const SERVERS: Form = Form::Json { section: "mcpServers", typed: false };
const TYPED: Form = Form::Json { section: "servers", typed: true };

fn entry() -> Entry {
    Entry { command: "/opt/pyexec-mcp".into(), args: vec![] }
}

/// What is written, once and again.
#[track_caller]
fn written(form: Form, text: &str) -> String {
    let once = form.with_entry(text, &entry()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(form.with_entry(&once, &entry()).as_deref(), Ok(&*once), "a second time is not the same");
    assert_eq!(form.has_entry(&once), Ok(true), "{once}");
    once
}

#[track_caller]
fn removed(form: Form, text: &str) -> String {
    let once = form.without_entry(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(form.without_entry(&once).as_deref(), Ok(&*once), "a second time is not the same");
    once
}

#[test]
fn a_file_that_says_nothing_gets_the_snippet() {
    for text in ["", "\n", "  \n"] {
        assert_eq!(written(SERVERS, text), SERVERS.snippet(&entry()));
    }
    assert_eq!(written(Form::Toml, ""), Form::Toml.snippet(&entry()));
}

#[test]
fn a_snippet_is_what_the_clients_document() {
    let expected = r#"{
  "servers": {
    "pyexec": {
      "type": "stdio",
      "command": "/opt/pyexec-mcp",
      "args": ["--toolset", "core"]
    }
  }
}
"#;
    let entry = Entry { args: vec!["--toolset".into(), "core".into()], ..entry() };
    assert_eq!(TYPED.snippet(&entry), expected);
    let expected = "[mcp_servers.pyexec]\ncommand = \"/opt/pyexec-mcp\"\nargs = [\"--toolset\", \"core\"]\n";
    assert_eq!(Form::Toml.snippet(&entry), expected);
}

/// `+` marks where the entry goes; what is left without it is what was there.
#[test]
fn json_gets_the_entry_and_keeps_the_rest() {
    let entry = |unit: &str, depth: usize, ending: &str, trailing: &str| {
        let (outer, inner) = (unit.repeat(depth), unit.repeat(depth + 1));
        let lines = [
            format!("{outer}\"pyexec\": {{"),
            format!("{inner}\"command\": \"/opt/pyexec-mcp\","),
            format!("{inner}\"args\": []{trailing}"),
            format!("{outer}}}"),
        ];
        lines.join(ending)
    };
    for (name, text, expected) in [
        ("another server", "{\n  \"mcpServers\": {\n    \"x\": {\"command\": \"y\"}\n  }\n}\n", {
            let entry = entry("  ", 2, "\n", "");
            format!("{{\n  \"mcpServers\": {{\n    \"x\": {{\"command\": \"y\"}},\n{entry}\n  }}\n}}\n")
        }),
        (
            "comments",
            "// settings\n{\n  // mine\n  \"mcpServers\": {\n    /* why */ \"x\": {} // tail\n    // end\n  } // of them\n}\n// bye\n",
            {
                let entry = entry("  ", 2, "\n", "");
                format!(
                    "// settings\n{{\n  // mine\n  \"mcpServers\": {{\n    /* why */ \"x\": {{}}, // tail\n{entry}\n    // end\n  }} // of them\n}}\n// bye\n"
                )
            },
        ),
        ("trailing commas", "{\n  \"mcpServers\": {\n    \"x\": {\n      \"a\": 1,\n    },\n  },\n}\n", {
            let entry = entry("  ", 2, "\n", ",");
            format!("{{\n  \"mcpServers\": {{\n    \"x\": {{\n      \"a\": 1,\n    }},\n{entry},\n  }},\n}}\n")
        }),
        ("tabs", "{\n\t\"mcpServers\": {\n\t\t\"x\": {}\n\t}\n}\n", {
            let entry = entry("\t", 2, "\n", "");
            format!("{{\n\t\"mcpServers\": {{\n\t\t\"x\": {{}},\n{entry}\n\t}}\n}}\n")
        }),
        ("four blanks", "{\n    \"a\": [1,2,  3],\n    \"mcpServers\": {}\n}", {
            let entry = entry("    ", 2, "\n", "");
            format!("{{\n    \"a\": [1,2,  3],\n    \"mcpServers\": {{\n{entry}\n    }}\n}}")
        }),
        ("CRLF", "{\r\n  \"mcpServers\": {\r\n    \"x\": {}\r\n  }\r\n}\r\n", {
            let entry = entry("  ", 2, "\r\n", "");
            format!("{{\r\n  \"mcpServers\": {{\r\n    \"x\": {{}},\r\n{entry}\r\n  }}\r\n}}\r\n")
        }),
        ("no section", "{\n  \"projects\": {\"/a\": {\"mcpServers\": {\"pyexec\": {}}}},\n  \"n\": 1e3\n}\n", {
            let entry = entry("  ", 2, "\n", "");
            format!(
                "{{\n  \"projects\": {{\"/a\": {{\"mcpServers\": {{\"pyexec\": {{}}}}}}}},\n  \"n\": 1e3,\n  \"mcpServers\": {{\n{entry}\n  }}\n}}\n"
            )
        }),
    ] {
        assert_eq!(written(SERVERS, text), expected, "{name}");
        if text.contains("  \"mcpServers\": {\n") || text.contains("\t\"mcpServers\"") {
            assert_eq!(removed(SERVERS, &expected), text, "{name}");
        }
    }
}

#[test]
fn json_on_one_line_stays_on_one_line() {
    let tight = r#""pyexec":{"command":"/opt/pyexec-mcp","args":[]}"#;
    let wide = r#""pyexec": {"command": "/opt/pyexec-mcp", "args": []}"#;
    for (text, expected) in [
        (r#"{"a":1}"#, format!(r#"{{"a":1,"mcpServers":{{{tight}}}}}"#)),
        (r#"{"a":1,"mcpServers":{}}"#, format!(r#"{{"a":1,"mcpServers":{{{tight}}}}}"#)),
        (r#"{"mcpServers":{"x":{}},"b":[1,2]}"#, format!(r#"{{"mcpServers":{{"x":{{}},{tight}}},"b":[1,2]}}"#)),
        (r#"{ "a": 1, /* c */ }"#, format!(r#"{{ "a": 1, "mcpServers": {{{wide}}}, /* c */ }}"#)),
        (
            "{\n  \"mcpServers\": {\"x\": {\"command\": \"y\"}}\n}",
            format!("{{\n  \"mcpServers\": {{\"x\": {{\"command\": \"y\"}}, {wide}}}\n}}"),
        ),
    ] {
        assert_eq!(written(SERVERS, text), expected, "{text}");
    }
}

#[test]
fn an_entry_is_brought_up_to_date_and_keeps_what_its_owner_has_added() {
    let text = r#"{
  "servers": {
    "pyexec": {
      // the old one
      "command": "/old/pyexec-mcp", // from cargo
      "env": {"TOKEN": "x"},
      "disabled": true,
      "type": "stdio"
    }
  }
}
"#;
    assert_eq!(written(TYPED, text), text.replace("/old/", "/opt/"));
    let text = "{\n  \"servers\": {\n    \"pyexec\": {\n      \"type\": \"http\",\n      \"url\": \"http://x\",\n      \"args\": [\"a\"]\n    }\n  }\n}\n";
    let expected = "{\n  \"servers\": {\n    \"pyexec\": {\n      \"type\": \"stdio\",\n      \"args\": [],\n      \"command\": \"/opt/pyexec-mcp\"\n    }\n  }\n}\n";
    assert_eq!(written(TYPED, text), expected);
    let nothing = "{\n  \"mcpServers\": {\n    \"pyexec\": null\n  }\n}\n";
    assert!(written(SERVERS, nothing).contains("\"command\": \"/opt/pyexec-mcp\""));
    let text = "[mcp_servers.pyexec]\ncommand = '/old' # why\nargs = [\"a\"]\nstartup_timeout_sec = 20\n\n[mcp_servers.pyexec.env]\nA = \"1\"\n";
    let expected = text.replace("'/old'", "\"/opt/pyexec-mcp\"").replace("[\"a\"]", "[]");
    assert_eq!(written(Form::Toml, text), expected);
}

#[test]
fn toml_gets_the_entry_and_keeps_the_rest() {
    let table = "[mcp_servers.pyexec]\ncommand = \"/opt/pyexec-mcp\"\nargs = []\n";
    for text in [
        "a = 1\n",
        "# head\n[z]\na = 1 # c\n# tail\n",
        "[mcp_servers.x]\ncommand='y'\n\n[other]\n",
        "mcp_servers.x.command='y'\n",
        "[mcp_servers]\n",
        "[[many]]\nx = '''\n[mcp_servers.pyexec]\n'''\n",
    ] {
        let expected = format!("{text}\n{table}");
        assert_eq!(written(Form::Toml, text), expected);
        assert_eq!(removed(Form::Toml, &expected), text);
    }
    assert_eq!(written(Form::Toml, "a = 1"), format!("a = 1\n\n{table}"));
    let crlf = "a = '''x\r\ny'''\r\n[b]\r\n";
    assert_eq!(written(Form::Toml, crlf), format!("{crlf}\r\n{}", table.replace('\n', "\r\n")));
    assert_eq!(removed(Form::Toml, &written(Form::Toml, crlf)), crlf);
    let inline = "mcp_servers = {x = {command='y'}}\r\n[z]\r\n";
    let expected =
        "mcp_servers = {x = {command='y'}, pyexec = { command = \"/opt/pyexec-mcp\", args = [] } }\r\n[z]\r\n";
    assert_eq!(written(Form::Toml, inline), expected);
    assert_eq!(removed(Form::Toml, expected), inline);
}

#[test]
fn lines_that_end_in_two_ways_go_on_doing_so() {
    let text = "a = 1\r\nb = 2\n[mcp_servers.pyexec]\ncommand = '/old'\nargs = []\r\n[z]\r\nc = 3\n";
    assert_eq!(written(Form::Toml, text), text.replace("'/old'\n", "\"/opt/pyexec-mcp\"\r\n"));
}

#[test]
fn only_the_entry_is_removed() {
    for (form, text, expected) in [
        (SERVERS, "{\"mcpServers\":{\"x\":{},\"pyexec\":{}}}", "{\"mcpServers\":{\"x\":{}}}"),
        (SERVERS, "{\"mcpServers\":{\"pyexec\":{},\"x\":{}}}", "{\"mcpServers\":{\"x\":{}}}"),
        (SERVERS, "{\"pyexec\": {}}", "{\"pyexec\": {}}"),
        (SERVERS, "", ""),
        (
            Form::Toml,
            "# head\n\n[mcp_servers.pyexec]\ncommand = 'a'\n\n# k\n[mcp_servers.pyexec.env]\nA='1'\n# after\n\n[z]\n",
            "# head\n\n# k\n# after\n\n[z]\n",
        ),
        (Form::Toml, "[mcp_servers.pyexec]\ncommand = 'a'\n\n[z]\n", "[z]\n"),
        (Form::Toml, "[mcp_servers.pyexec]\nenv.A = '1'\n[mcp_servers.pyexec2]\n", "[mcp_servers.pyexec2]\n"),
        (Form::Toml, "[mcp_servers]\npyexec = {command='a'}\nx = {}\n", "[mcp_servers]\nx = {}\n"),
        (Form::Toml, "[mcp_servers]\npyexec.command='a'\nx = {}\n", "[mcp_servers]\nx = {}\n"),
    ] {
        assert_eq!(removed(form, text), expected, "{text:?}");
    }
}

#[test]
fn what_can_not_be_understood_is_refused_with_its_place() {
    for (form, text, line, column) in [
        (SERVERS, "{\n  \"a\" 1\n}", 2, 7),
        (SERVERS, "{\"a\": 1 \"b\": 2}", 1, 8),
        (SERVERS, "{'a': 1}", 1, 2),
        (SERVERS, "{\"a\": 1", 1, 1),
        (SERVERS, "{} {}", 1, 4),
        (Form::Toml, "a = 1\nb = = 2\n", 2, 5),
    ] {
        let refused = form.with_entry(text, &entry()).expect_err("is wrong");
        match refused {
            EditError::Syntax { line: at_line, column: at_column, .. } => {
                assert_eq!((at_line, at_column), (line, column), "{text:?}");
            }
            EditError::Shape(_) => panic!("{text:?}: {refused}"),
        }
        assert_eq!(form.without_entry(text), Err(refused));
    }
}

#[test]
fn what_is_not_where_servers_belong_is_refused() {
    for (form, text) in [
        (SERVERS, "[1]"),
        (SERVERS, "null"),
        (SERVERS, "{\"mcpServers\": []}"),
        (SERVERS, "{\"mcpServers\": {}, \"mcpServers\": {}}"),
        (SERVERS, "{\"mcpServers\": {\"pyexec\": {}, \"x\": {}, \"pyexec\": {}}}"),
        (Form::Toml, "mcp_servers = 1\n"),
        (Form::Toml, "[[mcp_servers]]\n"),
        (Form::Toml, "[mcp_servers]\npyexec = 1\n"),
    ] {
        let refused = form.with_entry(text, &entry());
        assert!(matches!(refused, Err(EditError::Shape(_))), "{text:?}: {refused:?}");
    }
}

#[test]
fn a_command_of_any_characters_is_read_back() {
    let entry = Entry { command: "/a b/\"q\"\\n\u{e9}\t/pyexec-mcp".into(), args: vec!["\n'\"".into(), String::new()] };
    for form in [SERVERS, TYPED, Form::Toml] {
        for text in ["", "{\"a\":1}", "{\n}\n"] {
            if form == Form::Toml && !text.is_empty() {
                continue;
            }
            let edited = form.with_entry(text, &entry).expect("can be written");
            assert_eq!(form.entry(&edited), Ok(Some(entry.clone())), "{edited}");
        }
    }
}
