// SPDX-License-Identifier: Apache-2.0
//! The public items that a caller of some actions can see: the proof that the slim crate is the same crate to its callers.
//!
//! Found without the derivation's own walk, from declarations alone: starting with the actions' modules and with what every
//! client sees, following the types that public declarations name. Taken of the full and of the slim source, both sets must be
//! equal. With the walk it shares only how files are told apart and how paths are read (`layout`).

use std::collections::BTreeSet;

use crate::Error;
use crate::layout::{Kind, Source, code, kind, paths};
use crate::reach::is_of_action;

/// Declarations, each as `file: declaration`.
pub type Surface = BTreeSet<String>;

/// What callers of `actions` see of the crate. `all` are the actions of the full crate: what names one of the others is not theirs.
///
/// # Errors
/// [`Error::Layout`] for a file of no known kind, or a type that its index lacks.
pub fn surface(source: &Source, actions: &BTreeSet<String>, all: &BTreeSet<String>) -> Result<Surface, Error> {
    let mut surface = Surface::new();
    let mut files = BTreeSet::new();
    for path in source.keys() {
        let whole = match kind(path)? {
            Kind::Base => true,
            Kind::Unit => actions.iter().any(|action| is_of_action(path, action)),
            Kind::Divided => matches!(path.as_str(), "client.rs" | "error_meta.rs" | "lib.rs" | "operation.rs"),
            Kind::Waiter => false,
        };
        if whole {
            files.insert(path.clone());
        }
    }
    let theirs = |declaration: &str| !names_waiters(declaration) && !names_other_action(declaration, actions, all);
    let mut todo: Vec<String> = files.iter().cloned().collect();
    while let Some(path) = todo.pop() {
        let text = source.get(&path).ok_or_else(|| Error::Layout { path: path.clone(), what: "missing".into() })?;
        for declaration in declarations(text).into_iter().filter(|declaration| theirs(declaration)) {
            for name in types(&declaration) {
                let (file, export) = exported(source, &name)?;
                surface.insert(export);
                if files.insert(file.clone()) {
                    todo.push(file);
                }
            }
            surface.insert(format!("{path}: {declaration}"));
        }
    }
    Ok(surface)
}

/// Public declarations of a formatted file, each on one line without its body, the variants of public enums among them.
fn declarations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = code(text);
    while let Some(line) = lines.next() {
        let head = line.trim_start();
        let ends: &[char] = match head {
            _ if head.starts_with("pub fn ")
                || head.starts_with("pub async fn ")
                || head.starts_with("pub const fn ") =>
            {
                &['{', ';']
            }
            _ if line.starts_with("impl") || line.starts_with("pub trait ") => &['{', '}'],
            _ if head.starts_with("pub ") => &['{', ';', ',', '}'],
            _ => continue,
        };
        let mut whole = head.to_owned();
        while !(whole.ends_with(ends) && balanced(&whole)) {
            let Some(more) = lines.next() else { break };
            whole = format!("{whole} {}", more.trim());
        }
        if whole.starts_with("pub enum ") {
            for variant in lines.by_ref().take_while(|line| *line != "}") {
                whole = format!("{whole} {}", variant.trim());
            }
        }
        found.push(whole);
    }
    found
}

/// Whether no bracket of a generic or an argument list is open: a comma within one does not end a field.
fn balanced(text: &str) -> bool {
    let text = text.replace("->", "");
    let count = |bracket: char| text.matches(bracket).count();
    count('<') == count('>') && count('(') == count(')')
}

/// The names of types that a declaration mentions: `Tag`, `builders::TagBuilder`.
fn types(declaration: &str) -> Vec<String> {
    let named = paths(declaration).filter_map(|parts| match parts[..] {
        ["types", "builders", name, ..] => Some(format!("builders::{name}")),
        ["types", name, ..] if !name.starts_with('_') && name != "builders" => Some(name.to_owned()),
        _ => None,
    });
    named.collect()
}

/// The file that declares a type, and the line that exports it.
fn exported(source: &Source, name: &str) -> Result<(String, String), Error> {
    let (index, bare) = match name.strip_prefix("builders::") {
        Some(bare) => ("types/builders.rs", bare),
        None => ("types.rs", name),
    };
    let ending = format!("::{bare};");
    let export = source
        .get(index)
        .and_then(|text| text.lines().find(|line| line.starts_with("pub use ") && line.ends_with(&ending)));
    let module =
        export.and_then(|line| paths(line).next()).and_then(|parts| parts.get(1).map(|part| (*part).to_owned()));
    match (export, module) {
        (Some(export), Some(module)) => Ok((format!("types/{module}.rs"), format!("{index}: {export}"))),
        _ => Err(Error::Layout { path: index.into(), what: format!("no export of {bare}") }),
    }
}

fn names_waiters(declaration: &str) -> bool {
    declaration.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| matches!(word, "waiters" | "Waiters"))
        && !declaration.contains("WaiterError")
}

fn names_other_action(declaration: &str, actions: &BTreeSet<String>, all: &BTreeSet<String>) -> bool {
    let other = |action: &str| all.contains(action) && !actions.contains(action);
    let module = declaration.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'));
    module.is_some_and(other)
        || paths(declaration).any(|parts| matches!(parts[..], ["operation", action, ..] if other(action)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_whole_and_without_bodies() {
        let text = "pub struct A {\n    /// Doc\n    pub b: ::std::option::Option<\n        crate::types::Tag,\n    >,\n    pub(crate) c: u8,\n}\nimpl A {\n    pub fn long(\n        self,\n        a: u8,\n    ) -> Self {\n        pub_call();\n    }\n}\npub enum E {\n    X,\n    #[allow(x)]\n    Y(u8),\n}\nfn hidden() {}\n";
        let found = declarations(text);
        assert_eq!(
            found,
            [
                "pub struct A {",
                "pub b: ::std::option::Option< crate::types::Tag, >,",
                "impl A {",
                "pub fn long( self, a: u8, ) -> Self {",
                "pub enum E { X, #[allow(x)] Y(u8),",
            ]
        );
        assert_eq!(types(&found[1]), ["Tag"]);
    }
}
