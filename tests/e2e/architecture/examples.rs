//! Small crates that were made up, in which each way to import something is found, and each kind of circle.

use std::path::Path;

use super::imports::imports;
use super::modules::Crate;
use super::{circles_of, named, unit, violations};

/// Each file and what is in it; `lib.rs` is the root.
fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("can be made");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("lies in a directory")).expect("can be made");
        std::fs::write(path, text).expect("can be written");
    }
    directory
}

fn read(directory: &Path) -> super::Imports {
    imports(&Crate::read("made-up", &directory.join("lib.rs")))
}

/// Which files import which, as `a -> b`.
fn imported(files: &[(&str, &str)]) -> Vec<String> {
    let directory = written(files);
    let short = |file: &str| file.strip_suffix(".rs").expect("is Rust").to_owned();
    read(directory.path()).keys().map(|(from, to)| format!("{} -> {}", short(from), short(to))).collect()
}

fn circles_in(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let directory = written(files);
    let found = circles_of(&read(directory.path()));
    found.iter().map(|(module, circle)| named(module, circle).into_iter().collect()).collect()
}

const LIB: (&str, &str) = ("lib.rs", "mod a;\nmod b;\nmod c;\n");
const B: (&str, &str) = ("b.rs", "pub struct Thing; pub fn made() {} pub mod inner { pub fn deep() {} }\n");
const C: (&str, &str) = ("c.rs", "pub fn other() {}\n");

#[test]
fn every_way_to_name_something_is_an_import() {
    for code in [
        "use crate::b::Thing;",
        "use super::b::Thing;",
        "use crate::b::{self, Thing};",
        "use crate::{b::{inner::{deep}, Thing as Other}};",
        "use crate::b::*;",
        "fn f() { crate::b::made() }",
        "fn f(_: crate::b::Thing) {}",
        "fn f() -> Option<super::b::Thing> { None }",
        "fn f() { use crate::b; b::made() }",
        "use crate::b::inner; fn f() { inner::deep() }",
        "fn f() { println!(\"{:?}\", crate::b::made()) }",
        "fn f() { assert!(vec![(1, crate::b::inner::deep())].is_empty()) }",
        "impl crate::b::Thing {}",
        "#[serde(with = \"crate::b\")] struct S;",
        "mod within { fn f() { super::super::b::made() } }",
        "mod within { use crate::b; fn f() { b::made() } }",
        "struct S { #[cfg(unix)] f: crate::b::Thing }",
        "#[cfg(not(test))] fn f() { crate::b::made() }",
        "#[cfg(any(test, unix))] fn f() { crate::b::made() }",
        "fn f() { match 1 { _ => crate::b::made() } }",
    ] {
        assert_eq!(imported(&[LIB, ("a.rs", code), B, C]), ["a -> b"], "{code}");
    }
}

#[test]
fn each_name_of_nested_groups_is_read() {
    let code = "use crate::{b::{self, inner::{deep}, Thing}, c::other};";
    assert_eq!(imported(&[LIB, ("a.rs", code), B, C]), ["a -> b", "a -> c"]);
}

#[test]
fn what_only_tests_or_comments_name_is_no_import() {
    for code in [
        "#[cfg(test)] mod tests { use crate::b::Thing; }",
        "#[cfg(test)] use crate::b::Thing;",
        "#[cfg(all(test, unix))] fn f() { crate::b::made() }",
        "#[cfg(any(test, fuzzing))] fn f() { crate::b::made() }",
        "#[test] fn f() { crate::b::made() }",
        "struct S; impl S { #[cfg(test)] fn f() { crate::b::made() } }",
        "fn f() { #[cfg(test)] crate::b::made(); }",
        "fn f() { #[cfg(test)] { crate::b::made() } }",
        "/// [`crate::b::Thing`]\nfn f() {} // crate::b::made()",
        "fn f() { \"crate::b::made()\"; }",
        "pub(in crate::b) fn f() {}",
        "use std::b::Thing; use b_of_others::made;",
        "use crate::b;",
    ] {
        assert_eq!(imported(&[LIB, ("a.rs", code), B, C]), [""; 0], "{code}");
    }
}

#[test]
fn a_file_that_only_tests_compile_is_left_out() {
    let files = [
        ("lib.rs", "mod b;\nmod c;\n#[cfg(test)] mod a;\nmod d;\n"),
        ("a.rs", "use crate::b::Thing;"),
        ("d.rs", "#![cfg(test)]\nuse crate::b::Thing;"),
        B,
        C,
    ];
    assert_eq!(imported(&files), [""; 0]);
}

#[test]
fn what_is_passed_on_leads_to_the_file_that_declares_it() {
    let lib = ("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::{Thing, inner as renamed};\npub(crate) use c::*;\n");
    for (code, expected) in [
        ("use crate::Thing;", "a -> b"),
        ("use super::Thing as Other;", "a -> b"),
        ("fn f() { crate::renamed::deep() }", "a -> b"),
        ("fn f() { crate::other() }", "a -> c"),
    ] {
        assert_eq!(imported(&[lib, ("a.rs", code), B, C]), [expected], "{code}");
    }
    // Passing on is no import; using what one passes on is.
    let code = "pub use crate::b::Thing; fn f() { Thing::new() }";
    assert_eq!(imported(&[LIB, ("a.rs", code), B, C]), ["a -> b"]);
    assert_eq!(imported(&[LIB, ("a.rs", "pub use crate::b::Thing;"), B, C]), [""; 0]);
    // Through two files.
    let a = ("a.rs", "pub use crate::c::Thing; pub fn f() {}");
    let c = ("c.rs", "pub use crate::b::Thing;");
    let d = ("d.rs", "fn g() { crate::a::Thing; }");
    assert_eq!(imported(&[("lib.rs", "mod a; mod b; mod c; mod d;"), a, B, c, d]), ["d -> b"]);
}

#[test]
fn a_name_that_two_files_take_from_each_other_is_of_the_file_that_was_named() {
    let a = ("a.rs", "pub use crate::b::*; pub use crate::b::x;");
    let b = ("b.rs", "pub use crate::a::*; pub use crate::a::x;");
    assert_eq!(imported(&[LIB, a, b, ("c.rs", "use crate::a::x;")]), ["c -> a"]);
}

#[test]
fn two_files_three_files_and_a_module_with_its_own_file_make_circles() {
    let found = circles_in(&[LIB, ("a.rs", "use crate::b::Thing;"), ("b.rs", "pub struct Thing; use crate::a::x;"), C]);
    assert_eq!(found, [["a", "b"]]);
    let a = ("a.rs", "use crate::b::Thing; pub fn x() {}");
    let b = ("b.rs", "pub struct Thing; fn f() { crate::c::other() }");
    let c = ("c.rs", "pub fn other() { super::a::x() }");
    assert_eq!(circles_in(&[LIB, a, b, c]), [["a", "b", "c"]]);
    let c = ("c.rs", "pub fn other() {}");
    assert_eq!(circles_in(&[LIB, a, b, c]), [[""; 0]; 0]);
    // A module that uses its child, whose child uses what stands in the module.
    for name in ["a.rs", "a/mod.rs"] {
        let a = (name, "mod child; pub struct Shared; fn f() { child::g() }");
        let child = ("a/child.rs", "pub fn g() -> super::Shared { super::Shared }");
        assert_eq!(circles_in(&[LIB, a, child, B, C]), [["a/child", "a/mod"]], "{name}");
        let child = ("a/child.rs", "pub fn g() {}");
        assert_eq!(circles_in(&[LIB, a, child, B, C]), [[""; 0]; 0], "{name}");
    }
    // With the file of the crate itself.
    let lib = ("lib.rs", "mod a; pub struct Shared; fn f() { a::g() }");
    assert_eq!(circles_in(&[lib, ("a.rs", "pub fn g(_: crate::Shared) {}")]), [["a", "mod"]]);
}

#[test]
fn folders_make_a_circle_even_where_no_two_files_do() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; mod two;"),
        ("a/one.rs", "use crate::b::three::X;"),
        ("a/two.rs", "pub struct Y;"),
        ("b/mod.rs", "pub mod three; mod four;"),
        ("b/three.rs", "pub struct X;"),
        ("b/four.rs", "use crate::a::two::Y;"),
    ];
    assert_eq!(circles_in(&files), [["a", "b"]]);
}

#[test]
fn a_file_belongs_to_a_part_of_each_module_it_lies_in() {
    for (file, within, expected) in [
        ("lib.rs", "", Some("mod")),
        ("store.rs", "", Some("store")),
        ("store/mod.rs", "", Some("store")),
        ("store/rows/deep.rs", "", Some("store")),
        ("store/mod.rs", "store", Some("mod")),
        ("store.rs", "store", Some("mod")),
        ("store/rows/deep.rs", "store", Some("rows")),
        ("stores.rs", "store", None),
    ] {
        assert_eq!(unit(file, within).as_deref(), expected, "{file} within {within}");
    }
}

#[test]
fn what_goes_up_or_sideways_or_is_in_no_row_is_wrong() {
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rows = vec![text(&["top"]), text(&["left", "right"]), text(&["bottom", "gone"])];
    let names = text(&["top", "left", "right", "bottom", "new"]).into_iter().collect();
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let edges = [edge("top", "bottom"), edge("left", "right"), edge("bottom", "top"), edge("right", "bottom")];
    assert_eq!(
        violations(&rows, &names, &edges.into_iter().collect()),
        ["new is in no row", "gone is not there", "bottom imports top", "left imports right"]
    );
}
