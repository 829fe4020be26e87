//! Text in tables of markdown.

/// `text` within one cell of a table in markdown: no `|` of its own ends it, however many backslashes are before it.
pub fn in_cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len() + 8);
    let mut backslashes = 0;
    for character in text.chars() {
        if character == '|' && backslashes % 2 == 0 {
            cell.push('\\');
        }
        backslashes = if character == '\\' { backslashes + 1 } else { 0 };
        cell.push(character);
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_ended_by_nothing_in_it() {
        for (text, expected) in
            [("a|b", r"a\|b"), (r"a\|b", r"a\|b"), (r"a\\|b", r"a\\\|b"), ("||", r"\|\|"), (r"\", r"\")]
        {
            assert_eq!(in_cell(text), expected, "{text}");
        }
    }
}
