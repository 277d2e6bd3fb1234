// SPDX-License-Identifier: Apache-2.0
//! Writes the slim crate's files: kept files as they are, indexes without the items of what was left out.

use crate::Error;
use crate::layout::{Kind, Source, code, items, kind, name, paths};
use crate::reach::{Kept, is_of_action};

/// Before `lib.rs`. The licence asks that changed files say so; and shared helpers that only the left out actions used would be
/// warned of, because to cargo the copy is no crate of a registry.
const HEAD: &str = "// A copy of aws-sdk-ec2 without the actions that are not called here; derived by slim-sdk, not to be edited.\n\
                    #![allow(unused, clippy::all)]\n";

/// The slim crate's source.
///
/// # Errors
/// [`Error::Layout`] for a file or an item that the known layout does not have.
pub fn trim(source: &Source, kept: &Kept) -> Result<Source, Error> {
    let mut slim = Source::new();
    for (path, text) in source {
        match kind(path)? {
            Kind::Base => slim.insert(path.clone(), text.clone()),
            Kind::Unit if keeps_unit(kept, path) => slim.insert(path.clone(), text.clone()),
            Kind::Divided => slim.insert(path.clone(), keep_items(kept, path, text)?),
            Kind::Unit | Kind::Waiter => None,
        };
    }
    let library = slim.get_mut("lib.rs").ok_or(Error::Layout { path: "lib.rs".into(), what: "missing".into() })?;
    *library = format!("{HEAD}{library}");
    Ok(slim)
}

/// Fails when anything in the copy is not the full crate's: a file that is not the same, or an item that its index has not.
/// It asks no rule of what is kept; the only line of the copy's own is the head of `lib.rs`.
///
/// # Errors
/// [`Error::Altered`], and [`Error::Layout`] as for [`trim`].
pub fn is_word_for_word(full: &Source, slim: &Source) -> Result<(), Error> {
    for (path, text) in slim {
        let whole = full.get(path).map_or("", String::as_str);
        let text = text.strip_prefix(HEAD).filter(|_| path == "lib.rs").unwrap_or(text);
        let same = if kind(path)? == Kind::Divided {
            let mut items_of_full = items(path, whole)?.into_iter();
            items(path, text)?.into_iter().all(|item| items_of_full.any(|other| other == item))
        } else {
            text == whole
        };
        if !same {
            return Err(Error::Altered { path: path.clone() });
        }
    }
    Ok(())
}

fn keeps_unit(kept: &Kept, path: &str) -> bool {
    let module = |folder: &str| path.strip_prefix(folder).and_then(|rest| rest.split(['/', '.']).next());
    if let Some(module) = module("types/") {
        return kept.types.contains(module);
    }
    if let Some(module) = module("protocol_serde/") {
        return kept.shapes.contains(module);
    }
    kept.actions.iter().any(|action| is_of_action(path, action))
}

fn keep_items(kept: &Kept, path: &str, text: &str) -> Result<String, Error> {
    Ok(items(path, text)?.into_iter().filter(|item| keeps_item(kept, path, item)).collect())
}

/// An item stays when everything that it declares and names stays.
fn keeps_item(kept: &Kept, path: &str, item: &str) -> bool {
    let declared = match (path, name(item)) {
        (_, None) => true,
        ("lens.rs" | "serde_util.rs", Some(name)) => {
            kept.helpers.contains(&format!("{}::{name}", path.trim_end_matches(".rs")))
        }
        (_, Some(_)) if !is_module(item) => true,
        ("operation.rs", Some(module)) => kept.actions.contains(module),
        ("client.rs", Some(module)) => module == "customize" || kept.actions.contains(module),
        ("types.rs", Some(module)) => module == "builders" || kept.types.contains(module),
        ("protocol_serde.rs", Some(module)) => kept.shapes.contains(module),
        (_, Some(module)) => module != "waiters",
    };
    declared && paths(item).all(|parts| keeps_path(kept, &parts))
}

fn is_module(item: &str) -> bool {
    code(item).any(|line| !line.starts_with('#') && line.split_whitespace().any(|word| word == "mod"))
}

fn keeps_path(kept: &Kept, parts: &[&str]) -> bool {
    match parts {
        ["waiters", ..] => false,
        ["types", module, ..] if module.starts_with('_') => kept.types.contains(*module),
        ["operation", action, _, ..] => kept.actions.contains(*action),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
