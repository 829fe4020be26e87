//! What has changed between two texts, as one run of lines: enough for an edit in one place.

use std::fmt::Write as _;

use crate::render;

/// Where two texts differ, in lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// How many lines are the same at the beginning.
    same_before: usize,
    removed: usize,
    added: usize,
}

impl Difference {
    /// How a line ends makes no difference.
    pub(crate) fn between(old: &str, new: &str) -> Self {
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
        let same_before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[same_before..], &new[same_before..]);
        let same_after = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        Self { same_before, removed: old.len() - same_after, added: new.len() - same_after }
    }

    pub(crate) fn adds_lines(&self) -> bool {
        self.added > 0
    }

    /// The lines before the change, with their ends.
    pub(crate) fn before<'a>(&self, old: &'a str) -> impl Iterator<Item = &'a str> {
        old.split_inclusive('\n').take(self.same_before)
    }

    pub(crate) fn added<'a>(&self, new: &'a str) -> impl Iterator<Item = &'a str> {
        new.split_inclusive('\n').skip(self.same_before).take(self.added)
    }

    pub(crate) fn after<'a>(&self, old: &'a str) -> impl Iterator<Item = &'a str> {
        old.split_inclusive('\n').skip(self.same_before + self.removed)
    }

    /// As `diff -u` shows it, without the names of the files. `None` where lines are too long for anybody to read.
    pub(crate) fn unified(&self, old: &str, new: &str) -> Option<String> {
        const AROUND: usize = 3;
        const LONGEST: usize = 400;
        let first = self.same_before.saturating_sub(AROUND);
        let above = old.lines().skip(first).take(self.same_before - first);
        let gone = old.lines().skip(self.same_before).take(self.removed);
        let come = new.lines().skip(self.same_before).take(self.added);
        let below = old.lines().skip(self.same_before + self.removed).take(AROUND);
        let marked = above
            .map(|line| (' ', line))
            .chain(gone.map(|line| ('-', line)))
            .chain(come.map(|line| ('+', line)))
            .chain(below.map(|line| (' ', line)));
        let marked: Vec<(char, &str)> = marked.collect();
        if marked.iter().any(|(_, line)| line.len() > LONGEST) {
            return None;
        }
        let count = |unless: char| marked.iter().filter(|(mark, _)| *mark != unless).count();
        let start = |count: usize| if count == 0 { first } else { first + 1 };
        let (in_old, in_new) = (count('+'), count('-'));
        let mut text = format!("@@ -{},{in_old} +{},{in_new} @@\n", start(in_old), start(in_new));
        for (mark, line) in marked {
            let _ = writeln!(text, "{mark}{}", render::lines(line));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let shown = Difference::between(old, new).unified(old, new).expect("is short");
        assert_eq!(shown, "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        let shown = Difference::between("", "a\n").unified("", "a\n").expect("is short");
        assert_eq!(shown, "@@ -0,0 +1,1 @@\n+a\n");
    }

    #[test]
    fn lines_that_repeat_are_not_counted_twice() {
        for (old, new) in [("a\na\n", "a\na\na\n"), ("a\na\na\n", "a\n"), ("x\n", ""), ("", "")] {
            let difference = Difference::between(old, new);
            let rebuilt: String =
                difference.before(old).chain(difference.added(new)).chain(difference.after(old)).collect();
            assert_eq!(rebuilt, new, "from {old:?}");
        }
    }

    #[test]
    fn a_line_of_a_thousand_characters_is_not_shown() {
        let new = "x".repeat(1_000);
        assert_eq!(Difference::between("", &new).unified("", &new), None);
    }
}
