//! The modules of a crate as they are written: which file declares what, and which names a module takes from elsewhere.
//!
//! Code that only tests or fuzzing compile is left out everywhere.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what Rust may hold grows, and only some of it declares or names something"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Expr, ImplItem, Item, Meta, Stmt, TraitItem, UseTree, Visibility};

/// An index into [`Crate::modules`].
pub(super) type ModuleId = usize;

/// A crate, whose first module is its root.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) modules: Vec<Module>,
}

#[derive(Debug)]
pub(super) struct Module {
    pub(super) parent: Option<ModuleId>,
    /// Relative to the directory of the root's file. A module within a file has the file it is in.
    pub(super) file: String,
    pub(super) children: BTreeMap<String, ModuleId>,
    /// What is declared here, whatever its kind.
    pub(super) items: Vec<String>,
    pub(super) uses: Vec<Use>,
    pub(super) syntax: Vec<Item>,
}

/// One name of a `use` declaration, of the module or of a block in it.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// The name in this module; `None` for everything (`*`).
    pub(super) name: Option<String>,
    pub(super) path: Vec<String>,
    /// Others may name it from here. What is only passed on is no import of the file that does it.
    pub(super) passes_on: bool,
    pub(super) line: usize,
}

impl Crate {
    /// # Panics
    /// When a file is missing or is no Rust.
    pub(super) fn read(name: &str, root: &Path) -> Self {
        let mut this = Self { name: name.to_owned(), modules: vec![] };
        let directory = root.parent().expect("a file lies in a directory");
        let file = root.file_name().expect("is a file").to_string_lossy().into_owned();
        let items = parse(root).items;
        this.add(None, (directory, &file), directory, items);
        this
    }

    /// `below` is where the files of child modules lie.
    fn add(
        &mut self,
        parent: Option<ModuleId>,
        (source, file): (&Path, &str),
        below: &Path,
        syntax: Vec<Item>,
    ) -> ModuleId {
        let id = self.modules.len();
        let (children, items, uses) = (BTreeMap::new(), declared(&syntax), uses_in(&syntax));
        self.modules.push(Module { parent, file: file.to_owned(), children, items, uses, syntax: vec![] });
        for item in &syntax {
            let Item::Mod(module) = item else { continue };
            if is_left_out(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            let child = match &module.content {
                Some((_, items)) => self.add(Some(id), (source, file), &below.join(&name), items.clone()),
                None => {
                    let place = file_of(below, &name);
                    let syntax = parse(&place);
                    if is_left_out(&syntax.attrs) {
                        continue;
                    }
                    let file = place.strip_prefix(source).expect("lies below the root").to_string_lossy().into_owned();
                    self.add(Some(id), (source, &file), &below.join(&name), syntax.items)
                }
            };
            self.modules[id].children.insert(name, child);
        }
        self.modules[id].syntax = syntax;
        id
    }
}

fn file_of(below: &Path, name: &str) -> PathBuf {
    let plain = below.join(format!("{name}.rs"));
    if plain.is_file() { plain } else { below.join(name).join("mod.rs") }
}

fn parse(path: &Path) -> syn::File {
    let text = super::read(path);
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether only tests or fuzzing compile what has these attributes.
pub(super) fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|condition| !may_hold(&condition))
        }
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}

/// Whether a condition can hold in a program that is neither a test nor fuzzed.
fn may_hold(condition: &Meta) -> bool {
    let parts = |list: &syn::MetaList| {
        let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
        list.parse_args_with(parser).expect("conditions are separated by commas")
    };
    match condition {
        Meta::Path(path) => !path.is_ident("test") && !path.is_ident("fuzzing"),
        Meta::List(list) if list.path.is_ident("any") => parts(list).iter().any(may_hold),
        Meta::List(list) if list.path.is_ident("all") => parts(list).iter().all(may_hold),
        // What is not for tests is for the program; of everything else both may hold.
        Meta::List(_) | Meta::NameValue(_) => true,
    }
}

pub(super) fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub(super) fn attributes_of_impl_item(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

pub(super) fn attributes_of_trait_item(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(item) => &item.attrs,
        TraitItem::Fn(item) => &item.attrs,
        TraitItem::Type(item) => &item.attrs,
        TraitItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

pub(super) fn attributes_of_statement(statement: &Stmt) -> &[Attribute] {
    match statement {
        Stmt::Local(local) => &local.attrs,
        Stmt::Item(item) => attributes_of(item),
        Stmt::Macro(called) => &called.attrs,
        Stmt::Expr(expression, _) => attributes_of_expression(expression),
    }
}

/// Of those that stand alone.
fn attributes_of_expression(expression: &Expr) -> &[Attribute] {
    match expression {
        Expr::Assign(expression) => &expression.attrs,
        Expr::Await(expression) => &expression.attrs,
        Expr::Binary(expression) => &expression.attrs,
        Expr::Block(expression) => &expression.attrs,
        Expr::Call(expression) => &expression.attrs,
        Expr::ForLoop(expression) => &expression.attrs,
        Expr::If(expression) => &expression.attrs,
        Expr::Loop(expression) => &expression.attrs,
        Expr::Macro(expression) => &expression.attrs,
        Expr::Match(expression) => &expression.attrs,
        Expr::MethodCall(expression) => &expression.attrs,
        Expr::Return(expression) => &expression.attrs,
        Expr::Struct(expression) => &expression.attrs,
        Expr::Try(expression) => &expression.attrs,
        Expr::Unsafe(expression) => &expression.attrs,
        Expr::While(expression) => &expression.attrs,
        _ => &[],
    }
}

/// The names that items bring into their module.
fn declared(items: &[Item]) -> Vec<String> {
    let name = |item: &Item| match item {
        Item::Const(item) => Some(item.ident.to_string()),
        Item::Enum(item) => Some(item.ident.to_string()),
        Item::Fn(item) => Some(item.sig.ident.to_string()),
        Item::Macro(item) => item.ident.as_ref().map(ToString::to_string),
        Item::Static(item) => Some(item.ident.to_string()),
        Item::Struct(item) => Some(item.ident.to_string()),
        Item::Trait(item) => Some(item.ident.to_string()),
        Item::TraitAlias(item) => Some(item.ident.to_string()),
        Item::Type(item) => Some(item.ident.to_string()),
        Item::Union(item) => Some(item.ident.to_string()),
        _ => None,
    };
    items.iter().filter(|item| !is_left_out(attributes_of(item))).filter_map(name).collect()
}

/// Of the module itself and of blocks in it, but not of the modules within.
fn uses_in(items: &[Item]) -> Vec<Use> {
    struct Uses(Vec<Use>);

    impl<'ast> Visit<'ast> for Uses {
        fn visit_item(&mut self, item: &'ast Item) {
            match item {
                _ if is_left_out(attributes_of(item)) => {}
                Item::Mod(_) => {}
                Item::Use(item) => {
                    let passes_on = !matches!(item.vis, Visibility::Inherited);
                    // What begins with `::` is another crate.
                    if item.leading_colon.is_none() {
                        flatten(&item.tree, &mut vec![], passes_on, &mut self.0);
                    }
                }
                item => syn::visit::visit_item(self, item),
            }
        }

        fn visit_impl_item(&mut self, item: &'ast ImplItem) {
            if !is_left_out(attributes_of_impl_item(item)) {
                syn::visit::visit_impl_item(self, item);
            }
        }
    }

    let mut uses = Uses(vec![]);
    for item in items {
        uses.visit_item(item);
    }
    uses.0
}

/// One entry for each name of a tree, however deep its groups are.
fn flatten(tree: &UseTree, before: &mut Vec<String>, passes_on: bool, found: &mut Vec<Use>) {
    let one = |name: Option<String>, last: Option<String>, before: &[String], line: usize| Use {
        name,
        path: before.iter().cloned().chain(last).collect(),
        passes_on,
        line,
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, passes_on, found);
            before.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, passes_on, found);
            }
        }
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            // `a::{self}` is `a` itself.
            match (name.ident == "self", before.last().cloned()) {
                (true, parent) => found.push(one(parent, None, before, line)),
                (false, _) => {
                    let name = name.ident.to_string();
                    found.push(one(Some(name.clone()), Some(name), before, line));
                }
            }
        }
        UseTree::Rename(rename) => {
            let line = rename.ident.span().start().line;
            let last = (rename.ident != "self").then(|| rename.ident.to_string());
            found.push(one(Some(rename.rename.to_string()), last, before, line));
        }
        UseTree::Glob(glob) => found.push(one(None, None, before, glob.star_token.spans[0].start().line)),
    }
}
