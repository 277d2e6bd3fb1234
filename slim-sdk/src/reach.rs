// SPDX-License-Identifier: Apache-2.0
//! Which parts of the SDK the daemon's actions need: everything that code refers to, starting from the actions.
//!
//! Over-keeping is harmless (a few more lines to compile); leaving something out ends in a compile error, never in other
//! behaviour, because what is kept is kept word for word.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::layout::{Kind, Source, items, kind, name, paths};

/// What the daemon's code names of the SDK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Actions by module name (`describe_subnets`).
    pub actions: BTreeSet<String>,
    /// Types named directly (`NetworkInterface`).
    pub types: BTreeSet<String>,
}

/// What is kept of the SDK beside the base files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Actions by module name.
    pub actions: BTreeSet<String>,
    /// Modules of types, with their leading underscore.
    pub types: BTreeSet<String>,
    /// Modules of wire shapes, with their prefix `shape_`.
    pub shapes: BTreeSet<String>,
    /// Functions of the helper indexes `lens` and `serde_util`, as `lens::name`.
    pub helpers: BTreeSet<String>,
}

/// Finds what `wanted` needs of the SDK.
///
/// # Errors
/// [`Error::Layout`] for anything that the known layout does not explain.
pub fn reach(source: &Source, wanted: &Wanted) -> Result<Kept, Error> {
    let mut walk = Walk { source, index: Index::new(source)?, kept: Kept::default(), todo: Vec::new() };
    walk.kept.actions.clone_from(&wanted.actions);
    for (path, text) in source {
        if kind(path)? == Kind::Base || wanted.actions.iter().any(|action| is_of_action(path, action)) {
            walk.todo.push((path, text));
        }
    }
    for item in &wanted.types {
        walk.visit("the daemon's code", &["types", item])?;
    }
    while let Some((path, text)) = walk.todo.pop() {
        for parts in paths(text) {
            walk.visit(path, &parts)?;
        }
    }
    Ok(walk.kept)
}

/// Whether the file belongs to the action: its method of the client, its input, output, errors and builders.
#[must_use]
pub fn is_of_action(path: &str, action: &str) -> bool {
    let module = path.strip_prefix("operation/").or_else(|| path.strip_prefix("client/"));
    module.is_some_and(|module| module.split(['/', '.']).next() == Some(action))
}

/// The items of the indexes that the walk goes through, by the name others use: `types::Tag`, `lens::reflens_x`.
struct Index<'a>(BTreeMap<String, &'a str>);

impl<'a> Index<'a> {
    fn new(source: &'a Source) -> Result<Self, Error> {
        let mut index = BTreeMap::new();
        for path in ["types.rs", "types/builders.rs", "lens.rs", "serde_util.rs"] {
            let text = source.get(path).ok_or_else(|| missing(path))?;
            let module = path.trim_end_matches(".rs").replace('/', "::");
            for item in items(path, text)? {
                if let Some(name) = name(item) {
                    index.insert(format!("{module}::{name}"), item);
                }
            }
        }
        Ok(Self(index))
    }
}

fn missing(path: &str) -> Error {
    Error::Layout { path: path.into(), what: "missing".into() }
}

struct Walk<'a> {
    source: &'a Source,
    index: Index<'a>,
    kept: Kept,
    /// Texts yet to be read, with the file that each is of.
    todo: Vec<(&'a str, &'a str)>,
}

impl<'a> Walk<'a> {
    /// Keeps what `crate::parts` names, as found in the file `from`.
    fn visit(&mut self, from: &'a str, parts: &[&str]) -> Result<(), Error> {
        let unknown =
            |what: &str| Error::Layout { path: from.into(), what: format!("{what}: crate::{}", parts.join("::")) };
        match parts {
            ["types", module, ..] if module.starts_with('_') => self.keep_type(module),
            ["types", "builders", item, ..] => self.follow(&format!("types::builders::{item}"), unknown),
            ["types"] | ["types", "builders"] => Ok(()),
            ["types", item, ..] => self.follow(&format!("types::{item}"), unknown),
            ["protocol_serde", shape, ..] if shape.starts_with("shape_") => self.keep_shape(shape),
            [module @ ("lens" | "serde_util"), item, ..] => {
                let helper = format!("{module}::{item}");
                if self.kept.helpers.insert(helper.clone()) { self.follow(&helper, unknown) } else { Ok(()) }
            }
            ["operation", action, ..] if self.is_action(action) && !self.kept.actions.contains(*action) => {
                Err(unknown("a reference to an action that is not called"))
            }
            ["waiters", ..] => Err(unknown("a reference to a waiter")),
            [module, ..] if self.is_module(module) || *module == "operation" => Ok(()),
            ["Client" | "Config" | "Error", ..] => Ok(()),
            _ => Err(unknown("a path of no known kind")),
        }
    }

    fn is_action(&self, module: &str) -> bool {
        self.source.contains_key(&format!("operation/{module}.rs"))
    }

    fn is_module(&self, module: &str) -> bool {
        self.source.contains_key(&format!("{module}.rs"))
    }

    fn follow(&mut self, name: &str, unknown: impl Fn(&str) -> Error) -> Result<(), Error> {
        let item = *self.index.0.get(name).ok_or_else(|| unknown("a name that its index lacks"))?;
        self.todo.push(("types.rs", item));
        Ok(())
    }

    fn keep_type(&mut self, module: &str) -> Result<(), Error> {
        if self.kept.types.insert(module.into()) { self.read(format!("types/{module}")) } else { Ok(()) }
    }

    fn keep_shape(&mut self, module: &str) -> Result<(), Error> {
        if self.kept.shapes.insert(module.into()) { self.read(format!("protocol_serde/{module}")) } else { Ok(()) }
    }

    fn read(&mut self, module: String) -> Result<(), Error> {
        let path = format!("{module}.rs");
        let (path, text) = self.source.get_key_value(&path).ok_or_else(|| missing(&path))?;
        self.todo.push((path, text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_whose_name_goes_on_is_another() {
        for path in ["operation/stop_things.rs", "operation/stop_things/builders.rs", "client/stop_things.rs"] {
            assert!(is_of_action(path, "stop_things"), "{path}");
        }
        for path in
            ["operation/stop_things_later.rs", "operation/stop_things_later/builders.rs", "types/stop_things.rs"]
        {
            assert!(!is_of_action(path, "stop_things"), "{path}");
        }
    }
}
