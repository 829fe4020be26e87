//! Escaping of text for Markdown tables.

/// Escapes `text` for one cell of a Markdown table, so that no `|` in it ends the cell, whatever backslashes precede
/// it.
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
