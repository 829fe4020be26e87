//! Finds the `id` of a message that cannot be parsed because it is too deep, too long, or not JSON.
//!
//! The sender of the request waits for an answer with that `id`. The search reads byte by byte in constant memory, so
//! it handles lines of any length and depth. It checks nothing else about them.

/// The longest `id` that is found, in bytes as written.
const LONGEST: usize = 1 << 10;

#[derive(Debug, Default)]
pub(super) struct IdSearch {
    depth: usize,
    /// Within a string; says whether the previous byte was a backslash.
    string: Option<Escaped>,
    collecting: Collecting,
    collected: Vec<u8>,
    /// After the colon of a member of the outermost object.
    in_value: bool,
    key_is_id: bool,
    found: Vec<u8>,
}

type Escaped = bool;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Collecting {
    #[default]
    Nothing,
    Key,
    Id,
}

/// The `id` of a whole line, as written.
pub(super) fn visible_id(line: &[u8]) -> Option<String> {
    let mut search = IdSearch::default();
    search.feed(line);
    search.found()
}

impl IdSearch {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.string {
                Some(false) if self.collecting == Collecting::Nothing => {
                    // Within a string only its end matters.
                    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')) else { return };
                    self.in_string(bytes[at], false);
                    bytes = &bytes[at + 1..];
                    continue;
                }
                Some(escaped) => self.in_string(*byte, escaped),
                None => self.between_strings(*byte),
            }
            bytes = rest;
        }
    }

    /// The JSON text of a string or a number.
    pub(super) fn found(mut self) -> Option<String> {
        self.end_of_number();
        let text = String::from_utf8(self.found).ok()?;
        match serde_json::from_str(&text).ok()? {
            serde_json::Value::String(_) | serde_json::Value::Number(_) => Some(text),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => None,
        }
    }

    fn in_string(&mut self, byte: u8, escaped: Escaped) {
        self.collect(byte);
        match (escaped, byte) {
            (false, b'\\') => self.string = Some(true),
            (false, b'"') => {
                self.string = None;
                match self.collecting {
                    Collecting::Key => self.key_is_id = self.collected == b"\"id\"",
                    Collecting::Id => self.found = std::mem::take(&mut self.collected),
                    Collecting::Nothing => {}
                }
                self.collecting = Collecting::Nothing;
            }
            (true | false, _) => self.string = Some(false),
        }
    }

    fn between_strings(&mut self, byte: u8) {
        let is_outermost = self.depth == 1;
        match byte {
            b'"' => {
                self.string = Some(false);
                self.collected.clear();
                self.collecting = match (is_outermost, self.in_value) {
                    (true, false) => Collecting::Key,
                    (true, true) if self.key_is_id => Collecting::Id,
                    (true | false, _) => Collecting::Nothing,
                };
                self.collect(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end_of_number();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if is_outermost => self.in_value = true,
            b',' if is_outermost => {
                self.end_of_number();
                (self.in_value, self.key_is_id) = (false, false);
            }
            byte if byte.is_ascii_whitespace() => self.end_of_number(),
            byte if is_outermost && self.in_value && self.key_is_id => {
                if self.collecting == Collecting::Nothing {
                    self.collected.clear();
                    self.collecting = Collecting::Id;
                }
                self.collect(byte);
            }
            _ => {}
        }
    }

    fn collect(&mut self, byte: u8) {
        if self.collecting == Collecting::Nothing {
            return;
        }
        if self.collected.len() == LONGEST {
            self.collecting = Collecting::Nothing;
            return;
        }
        self.collected.push(byte);
    }

    /// A string has a terminator; a number ends at the byte after it.
    fn end_of_number(&mut self) {
        if self.collecting == Collecting::Id && self.string.is_none() {
            self.found = std::mem::take(&mut self.collected);
            self.collecting = Collecting::Nothing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_outermost_object_is_found_and_no_other() {
        let deep = format!("{{\"params\":{}{},\"id\":7}}", "[".repeat(100_000), "]".repeat(100_000));
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(LONGEST));
        let cases: [(&str, Option<&str>); 22] = [
            (r#"{"id":5,"method":"ping"}"#, Some("5")),
            (r#"{"method":"ping" , "id" : "a b" }"#, Some(r#""a b""#)),
            (r#"{"id":"a\"b\\","x":1}"#, Some(r#""a\"b\\""#)),
            (r#"{"id":10000000000000000000000}"#, Some("10000000000000000000000")),
            (r#"{"id":1.5}"#, Some("1.5")),
            // Cut off, torn, or with rubbish behind it.
            (r#"{"id":5,"params":{"x":"#, Some("5")),
            (r#"{"id":5"#, Some("5")),
            (r#"{"id":5} hello"#, Some("5")),
            (r#"{"id":5,"params":{"x":"\ud800"}}"#, Some("5")),
            // The one that a parser takes.
            (r#"{"id":1,"id":2}"#, Some("2")),
            (&deep, Some("7")),
            // Of something inside.
            (r#"{"params":{"id":5}}"#, None),
            (r#"{"params":[{"id":5}],"x":"\"id\":6"}"#, None),
            (r#"[{"id":5}]"#, None),
            (r#"["id",5]"#, None),
            (r#"{"xid":5,"id2":6}"#, None),
            // Nothing that an answer can be given to.
            (r#"{"id":null}"#, None),
            (r#"{"id":true}"#, None),
            (r#"{"id":{"id":5}}"#, None),
            (r#"{"id":hello}"#, None),
            (&long, None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(visible_id(line.as_bytes()).as_deref(), expected, "{line:.100}");
            // However it is cut into pieces.
            let mut search = IdSearch::default();
            line.as_bytes().chunks(3).for_each(|piece| search.feed(piece));
            assert_eq!(search.found().as_deref(), expected, "{line:.100} in pieces");
        }
        assert_eq!(visible_id(b"{\"x\":\"\xff\",\"id\":5}").as_deref(), Some("5"));
        assert_eq!(visible_id(b"{\"id\":\"\xff\"}"), None);
    }
}
