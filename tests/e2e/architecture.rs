//! The layout of the project: who imports whom, and what a file may do. What ARCHITECTURE.md says of it is what is checked.
//!
//! Code is parsed (`modules`), names are followed to the files that declare them (`imports`), and what leads back to where it
//! came from is found (`circles`). Test code may import what it likes.

mod circles;
mod examples;
mod files;
mod imports;
mod manifests;
mod modules;
mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use circles::{circles, rows};
use imports::{Imports, imports};
use modules::Crate;

fn workspace() -> PathBuf {
    crate::sandbox::manifest_directory().parent().expect("the crate lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The directories of the workspace's crates.
fn members() -> Vec<String> {
    let manifest: toml::Table = read(&workspace().join("Cargo.toml")).parse().expect("is TOML");
    let members = manifest["workspace"]["members"].as_array().expect("is a list");
    members.iter().map(|member| member.as_str().expect("is text").to_owned()).collect()
}

/// The libraries of the workspace, which have modules; tests and programs are not imported.
fn libraries() -> Vec<Crate> {
    let root = |member: &String| Some((member.clone(), workspace().join(member).join("src/lib.rs")));
    let roots = members().iter().filter_map(root).filter(|(_, root)| root.is_file()).collect::<Vec<_>>();
    assert!(roots.len() > 5, "only {roots:?} were found");
    roots.iter().map(|(member, root)| Crate::read(member, root)).collect()
}

/// What a file belongs to, within a module of its crate: `store/rows.rs` belongs to `store` in the crate, and to `rows` in
/// `store`; in each, the file of the module itself is `mod`. `None`: it lies elsewhere.
fn unit(file: &str, within: &str) -> Option<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    let stem = if stem == "lib" { "" } else { stem };
    let rest = match within {
        "" => stem,
        within if stem == within => "",
        within => stem.strip_prefix(within)?.strip_prefix('/')?,
    };
    Some(rest.split('/').next().filter(|first| !first.is_empty()).unwrap_or("mod").to_owned())
}

/// Circles between the parts of one module, for each module of a crate. A circle of files is one of parts of the innermost
/// module that all of them lie in, so that these are all there are.
fn circles_of(imports: &Imports) -> Vec<(String, BTreeSet<String>)> {
    let mut modules = BTreeSet::from([String::new()]);
    for file in imports.keys().flat_map(|(from, to)| [from, to]) {
        let mut at = Path::new(file).parent();
        while let Some(directory) = at {
            modules.insert(directory.to_string_lossy().into_owned());
            at = directory.parent();
        }
    }
    let of_module = |module: String| {
        let edges = units(imports, &module);
        circles(edges.into_keys()).into_iter().map(|circle| (module.clone(), circle)).collect::<Vec<_>>()
    };
    modules.into_iter().flat_map(of_module).collect()
}

/// The imports between the parts of one module, each with the places where they are.
fn units(imports: &Imports, within: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut units: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for ((from, to), lines) in imports {
        if let (Some(a), Some(b)) = (unit(from, within), unit(to, within))
            && a != b
        {
            let places = lines.iter().map(|line| format!("{from}:{line} names {to}"));
            units.entry((a, b)).or_default().extend(places);
        }
    }
    units
}

/// The parts of a circle, by their paths in the crate.
fn named(module: &str, circle: &BTreeSet<String>) -> BTreeSet<String> {
    circle.iter().map(|unit| if module.is_empty() { unit.clone() } else { format!("{module}/{unit}") }).collect()
}

#[test]
fn nothing_imports_in_a_circle() {
    let mut found = Vec::new();
    for library in libraries() {
        let imports = imports(&library);
        let circles = circles_of(&imports);
        found.extend(circles.iter().map(|(module, circle)| explained(&library.name, module, circle, &imports)));
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

/// A circle with all imports that make it.
fn explained(krate: &str, module: &str, circle: &BTreeSet<String>, imports: &Imports) -> String {
    let mut text = format!("{krate}/src/{module}: {:?}\n", named(module, circle));
    for ((from, to), places) in units(imports, module) {
        if circle.contains(&from) && circle.contains(&to) {
            text += &format!("  {from} -> {to}\n");
            for place in places.iter().take(4) {
                text += &format!("    {krate}/src/{place}\n");
            }
            if places.len() > 4 {
                text += &format!("    and {} more\n", places.len() - 4);
            }
        }
    }
    text
}

/// Where ARCHITECTURE.md says who may import whom: the blocks of this kind, of which each line without an indent names a crate,
/// and each line below it a row of its modules, from the top down.
const LAYERS: &str = "```layers\n";

/// Writes them as they come from the code, instead of comparing.
const WRITE_VARIABLE: &str = "PYEXEC_WRITE_LAYERS";

type Rows = Vec<Vec<String>>;

/// The crates, or the modules of one, with the imports between them.
struct Graph {
    name: String,
    names: BTreeSet<String>,
    edges: BTreeSet<(String, String)>,
}

fn layers() -> BTreeMap<String, Rows> {
    let text = read(&workspace().join("ARCHITECTURE.md"));
    let (_, block) = text.split_once(LAYERS).expect("ARCHITECTURE.md has a block of layers");
    let (block, _) = block.split_once("```").expect("the block ends");
    let mut layers: BTreeMap<String, Rows> = BTreeMap::new();
    let mut of = String::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            let row = line.split_whitespace().map(str::to_owned).collect();
            layers.get_mut(&of).expect("a name comes first").push(row);
        } else {
            line.clone_into(&mut of);
            layers.insert(of.clone(), vec![]);
        }
    }
    layers
}

/// Rows from the top down. The file of the crate itself stands above all unless something imports it.
fn rows_of(names: &BTreeSet<String>, edges: &BTreeSet<(String, String)>) -> Rows {
    let rows = rows(names, edges);
    let most = rows.values().copied().max().unwrap_or(0);
    let row = |number| rows.iter().filter(|(_, row)| **row == number).map(|(name, _)| name.clone()).collect();
    (0..=most).rev().map(row).filter(|row: &Vec<String>| !row.is_empty()).collect()
}

fn top_modules(library: &Crate) -> BTreeSet<String> {
    library.modules[0].children.keys().cloned().collect()
}

/// Everything that goes upward or sideways, and everything that the rows do not name, or name and is not there.
fn violations(rows: &Rows, names: &BTreeSet<String>, edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let place = |name: &String| rows.iter().position(|row| row.contains(name));
    let mut found: Vec<String> =
        names.iter().filter(|name| place(name).is_none()).map(|name| format!("{name} is in no row")).collect();
    let listed = rows.iter().flatten().filter(|name| !names.contains(*name));
    found.extend(listed.map(|name| format!("{name} is not there")));
    for (from, to) in edges {
        match (place(from), place(to)) {
            (Some(above), Some(below)) if above >= below => found.push(format!("{from} imports {to}")),
            (Some(_) | None, Some(_) | None) => {}
        }
    }
    found
}

#[test]
fn imports_go_down_the_rows_that_architecture_md_shows() {
    let (names, edges) = (manifests::crates(), manifests::dependencies());
    let mut graphs = vec![Graph { name: "crates".to_owned(), names, edges }];
    for library in libraries() {
        let (names, imports) = (top_modules(&library), units(&imports(&library), ""));
        let edges: BTreeSet<(String, String)> = imports.into_keys().filter(|(from, _)| from != "mod").collect();
        let is_in_a_circle = !circles(edges.iter().cloned()).is_empty();
        // A crate with one of the circles that are known cannot have rows yet.
        if !is_in_a_circle && names.len() > 1 {
            graphs.push(Graph { name: library.name, names, edges });
        }
    }
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        write_layers(&graphs);
    }
    let mut layers = layers();
    let mut wrong = Vec::new();
    for Graph { name, names, edges } in &graphs {
        let rows = layers.remove(name).unwrap_or_default();
        wrong.extend(violations(&rows, names, edges).into_iter().map(|violation| format!("{name}: {violation}")));
    }
    wrong.extend(layers.keys().map(|name| format!("{name}: no crate of that name has rows")));
    assert!(
        wrong.is_empty(),
        "against the layers in ARCHITECTURE.md (`{WRITE_VARIABLE}=1` writes what follows from the code):\n{}",
        wrong.join("\n")
    );
}

fn write_layers(graphs: &[Graph]) {
    let path = workspace().join("ARCHITECTURE.md");
    let text = read(&path);
    let (before, rest) = text.split_once(LAYERS).expect("ARCHITECTURE.md has a block of layers");
    let (_, after) = rest.split_once("```").expect("the block ends");
    let mut block = String::new();
    for Graph { name, names, edges } in graphs {
        block += &format!("{name}\n");
        for row in rows_of(names, edges) {
            block += &format!("    {}\n", row.join("  "));
        }
    }
    std::fs::write(&path, format!("{before}{LAYERS}{block}```{after}")).expect("can be written");
}
