//! Which file names what of which other file of its crate.
//!
//! A path leads to the file that declares what it ends at, whoever passes that on: `crate::JobSpec` is an import of `job.rs`
//! although `lib.rs` has `pub use job::JobSpec`. Neither `mod x;` nor passing something on is an import. The name of a module
//! is none either: it is what is named through it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what Rust may hold grows, and only some of it declares or names something"
)]

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Attribute, ImplItem, Item, Stmt, TraitItem, Visibility};

use super::modules::{
    Crate, ModuleId, Use, attributes_of, attributes_of_impl_item, attributes_of_statement, attributes_of_trait_item,
    is_left_out,
};

/// Between two files, which differ: in which lines of the first the second is named.
pub(super) type Imports = BTreeMap<(String, String), BTreeSet<usize>>;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(ModuleId),
    /// What that module declares.
    Item(ModuleId),
}

pub(super) fn imports(of: &Crate) -> Imports {
    let mut imports = Imports::new();
    for (id, module) in of.modules.iter().enumerate() {
        for used in module.uses.iter().filter(|used| !used.passes_on) {
            match (resolve(of, id, &used.path, &mut vec![]), &used.name) {
                (Some(Target::Item(there)), _) => note(of, &mut imports, id, there, used.line),
                // Everything that a module declares, and what it passes on.
                (Some(Target::Module(there)), None) => {
                    note(of, &mut imports, id, there, used.line);
                    for passed in of.modules[there].uses.iter().filter(|passed| passed.passes_on) {
                        if let Some(Target::Item(there)) = resolve(of, there, &passed.path, &mut vec![]) {
                            note(of, &mut imports, id, there, used.line);
                        }
                    }
                }
                (Some(Target::Module(_)) | None, _) => {}
            }
        }
        let mut names = Names { paths: vec![] };
        for item in &module.syntax {
            names.visit_item(item);
        }
        for (path, line) in names.paths {
            if let Some(Target::Item(there)) = resolve(of, id, &path, &mut vec![]) {
                note(of, &mut imports, id, there, line);
            }
        }
    }
    imports
}

fn note(of: &Crate, imports: &mut Imports, from: ModuleId, to: ModuleId, line: usize) {
    let (from, to) = (&of.modules[from].file, &of.modules[to].file);
    if from != to {
        imports.entry((from.clone(), to.clone())).or_default().insert(line);
    }
}

/// `None`: another crate, something local, or what only a macro makes. `seen` are the names that are being looked up.
fn resolve(of: &Crate, from: ModuleId, path: &[String], seen: &mut Vec<(ModuleId, String)>) -> Option<Target> {
    let (first, mut rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Target::Module(0),
        "self" => Target::Module(from),
        "super" => Target::Module(of.modules[from].parent?),
        name => look_up(of, from, name, seen)?,
    };
    while let (Target::Module(module), Some((next, after))) = (at, rest.split_first()) {
        at = match next.as_str() {
            "super" => Target::Module(of.modules[module].parent?),
            "self" => Target::Module(module),
            // What is not seen to be declared is of a macro, in this module.
            name => look_up(of, module, name, seen).unwrap_or(Target::Item(module)),
        };
        rest = after;
    }
    Some(at)
}

fn look_up(of: &Crate, module: ModuleId, name: &str, seen: &mut Vec<(ModuleId, String)>) -> Option<Target> {
    let here = &of.modules[module];
    if here.items.iter().any(|item| item == name) {
        return Some(Target::Item(module));
    }
    if let Some(child) = here.children.get(name) {
        return Some(Target::Module(*child));
    }
    let key = (module, name.to_owned());
    if seen.contains(&key) {
        return None;
    }
    seen.push(key);
    let named = here.uses.iter().filter(|used| used.name.as_deref() == Some(name));
    let found = named.filter_map(|used| through(of, module, used, seen)).next();
    let found = found.or_else(|| {
        let globs = here.uses.iter().filter(|used| used.name.is_none());
        globs
            .filter_map(|used| match through(of, module, used, seen)? {
                Target::Module(there) if there != module => look_up(of, there, name, seen),
                Target::Module(_) | Target::Item(_) => None,
            })
            .next()
    });
    seen.pop();
    found
}

/// Where a `use` declaration of a module leads: its first name is not the one it declares.
fn through(of: &Crate, module: ModuleId, used: &Use, seen: &mut Vec<(ModuleId, String)>) -> Option<Target> {
    resolve(of, module, &used.path, seen)
}

/// Every path in the code of one module, with its line: in types, expressions, patterns, attributes and macro calls.
struct Names {
    paths: Vec<(Vec<String>, usize)>,
}

impl Names {
    /// What a macro is called with is not parsed: names that are joined by `::` are paths.
    fn visit_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
        let is_dot = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == '.');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.visit_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let is_continued = at > 0 && is_dot(at - 1) || at > 1 && is_colon(at - 1) && is_colon(at - 2);
                    let (mut path, line) = (vec![first.to_string()], first.span().start().line);
                    while let (true, true, Some(TokenTree::Ident(next))) =
                        (is_colon(at + 1), is_colon(at + 2), tokens.get(at + 3))
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if !is_continued {
                        self.paths.push((path, line));
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            _ if is_left_out(attributes_of(item)) => {}
            // Modules within are modules of their own, and names are taken before.
            Item::Mod(_) | Item::Use(_) => {}
            item => syn::visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !is_left_out(attributes_of_impl_item(item)) {
            syn::visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !is_left_out(attributes_of_trait_item(item)) {
            syn::visit::visit_trait_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if !is_left_out(attributes_of_statement(statement)) {
            syn::visit::visit_stmt(self, statement);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_left_out(&field.attrs) {
            syn::visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !is_left_out(&field.attrs) {
            syn::visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !is_left_out(&variant.attrs) {
            syn::visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_left_out(&arm.attrs) {
            syn::visit::visit_arm(self, arm);
        }
    }

    /// Who may see something is no import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // `#[serde(with = "crate::bytes")]` names what its text says.
        if let syn::Meta::List(list) = &attribute.meta {
            for token in list.tokens.clone() {
                let TokenTree::Literal(literal) = token else { continue };
                let text = literal.to_string();
                let path: Vec<String> = text.trim_matches('"').split("::").map(str::to_owned).collect();
                if path.len() > 1 && path.iter().all(|name| syn::parse_str::<syn::PathSegment>(name).is_ok()) {
                    // serde names a function below the last module, which is not in the text.
                    let line = literal.span().start().line;
                    self.paths.push((path.iter().cloned().chain(["*".to_owned()]).collect(), line));
                    self.paths.push((path, line));
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
            self.paths.push((names, line));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.visit_tokens(called.tokens.clone());
    }
}
