//! Circles of a graph: what can be reached from each other.

use std::collections::{BTreeMap, BTreeSet};

/// Every set of two or more names of which each leads to all others, sorted.
pub(super) fn circles(edges: impl IntoIterator<Item = (String, String)>) -> Vec<BTreeSet<String>> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(to.clone()).or_default();
        next.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> = next
        .keys()
        .map(|from| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(at) = open.pop() {
                for to in &next[at] {
                    if seen.insert(to) {
                        open.push(to);
                    }
                }
            }
            (from, seen)
        })
        .collect();
    let mut found = BTreeSet::new();
    for (from, to) in &reached {
        let circle: BTreeSet<String> =
            to.iter().filter(|other| reached[**other].contains(from)).map(|name| (*name).clone()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Each name with the row it can stand in: what imports nothing is 0, everything else one above what it imports.
///
/// # Panics
/// On a circle.
pub(super) fn rows(names: &BTreeSet<String>, edges: &BTreeSet<(String, String)>) -> BTreeMap<String, usize> {
    let mut rows: BTreeMap<String, usize> = names.iter().map(|name| (name.clone(), 0)).collect();
    for _ in 0..=names.len() {
        let mut has_changed = false;
        for (from, to) in edges {
            let least = rows[to] + 1;
            if rows[from] < least {
                rows.insert(from.clone(), least);
                has_changed = true;
            }
        }
        if !has_changed {
            return rows;
        }
    }
    panic!("there is a circle in {edges:?}");
}
