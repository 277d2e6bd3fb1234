// SPDX-License-Identifier: Apache-2.0
//! How the generator of the AWS SDK lays a service crate out, as far as the derivation leans on it.
//!
//! Three kinds of source files, told apart by their path alone:
//!
//! - **base**: what every client needs whatever it calls (configuration, endpoints, errors). Kept as it is.
//! - **unit**: one action, one type or one wire shape. Kept as it is or left out as a whole.
//! - **divided**: an index, in which each item belongs to something else (`mod describe_subnets;`, one `impl` per action's
//!   error). Split into items ([`items`]), each kept or left out.
//!
//! A path that is none of these means that the generator has changed its layout: an error, never a guess.

use std::collections::BTreeMap;

use crate::Error;

/// Source files of a crate: path below `src`, with `/`, to text.
pub type Source = BTreeMap<String, String>;

/// What a source file is to the derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every client needs it.
    Base,
    /// One action, type or wire shape.
    Unit,
    /// An index, kept item by item.
    Divided,
    /// Waiters poll until a resource is in some state. The daemon has no use for them, and each brings its action along.
    Waiter,
}

/// The indexes. `lib.rs` is one for `pub mod waiters`.
const DIVIDED: [&str; 9] = [
    "client.rs",
    "error_meta.rs",
    "lens.rs",
    "lib.rs",
    "operation.rs",
    "protocol_serde.rs",
    "serde_util.rs",
    "types.rs",
    "types/builders.rs",
];

/// Files and folders that every client needs.
const BASE: [&str; 17] = [
    "client/customize",
    "client/customize.rs",
    "client_idempotency_token.rs",
    "config",
    "config.rs",
    "ec2_query_errors.rs",
    "endpoint_lib",
    "endpoint_lib.rs",
    "error",
    "error.rs",
    "idempotency_token.rs",
    "meta.rs",
    "observability_feature.rs",
    "primitives",
    "primitives.rs",
    "sdk_feature_tracker.rs",
    "serialization_settings.rs",
];

/// What the file at `path` is.
///
/// # Errors
/// [`Error::Layout`] for a path that the layout known here does not have.
pub fn kind(path: &str) -> Result<Kind, Error> {
    if DIVIDED.contains(&path) {
        return Ok(Kind::Divided);
    }
    let base = |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    if BASE.into_iter().any(base) {
        return Ok(Kind::Base);
    }
    let (folder, rest) = path.split_once('/').unwrap_or(("", path));
    match folder {
        "operation" | "client" => Ok(Kind::Unit),
        "types" if rest.starts_with('_') => Ok(Kind::Unit),
        "protocol_serde" if rest.starts_with("shape_") => Ok(Kind::Unit),
        "waiters" => Ok(Kind::Waiter),
        "" if rest == "waiters.rs" => Ok(Kind::Waiter),
        _ => Err(Error::Layout { path: path.into(), what: "a file of no known kind".into() }),
    }
}

/// The item's name that modules and indexes refer to it by: of `mod x;`, `fn x(…)` or `pub use …::x;`.
///
/// `None` for an `impl` or a trait, which nothing refers to through a path.
#[must_use]
pub fn name(item: &str) -> Option<&str> {
    let head = code(item).find(|line| !line.starts_with('#'))?;
    let mut words = head.split_whitespace().skip_while(|word| word.starts_with("pub"));
    match words.next()? {
        "mod" => words.next()?.strip_suffix(';'),
        "fn" => words.next()?.split(['(', '<']).next(),
        "use" => words.next()?.strip_suffix(';')?.rsplit("::").next(),
        _ => None,
    }
}

/// The lines of a text that are code: no comments (documentation links to everything), nothing blank.
pub fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with("//")
    })
}

/// Splits a formatted file into its top-level items, each with its comments and attributes; joined they are the file again.
///
/// An item ends with a line that is `}` or that begins in the first column and ends in `;` or `}`: rustfmt writes no other.
///
/// # Errors
/// [`Error::Layout`] where an item does not end before the file does.
pub fn items<'a>(path: &str, text: &'a str) -> Result<Vec<&'a str>, Error> {
    let mut items = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        let bare = line.trim_end();
        let first = !bare.starts_with([' ', '/', '#']);
        if first && (bare == "}" || bare.ends_with(';') || bare.ends_with('}')) {
            items.push(&text[start..at]);
            start = at;
        }
    }
    let rest = &text[start..];
    if code(rest).any(|line| !line.starts_with("#!")) {
        let begin = rest.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(Error::Layout { path: path.into(), what: format!("an item without an end: {begin}") });
    }
    items.push(rest);
    Ok(items)
}

/// Every `crate::a::b…` that code of the text names, as its parts without `crate`.
pub fn paths(text: &str) -> impl Iterator<Item = Vec<&str>> {
    code(text).flat_map(|line| {
        line.match_indices("crate::").filter_map(move |(at, found)| {
            let part_of_a_word = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            (!part_of_a_word).then(|| parts(&line[at + found.len()..]))
        })
    })
}

fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    loop {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if end > 0 {
            parts.push(&text[..end]);
        }
        match text[end..].strip_prefix("::") {
            Some(rest) if end > 0 => text = rest,
            _ => return parts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_joined_are_the_file_again() {
        let text = "// Generated.\n#[derive(Debug)]\npub struct A {\n    b: u8,\n}\n\n/// Doc.\npub mod x;\n\nimpl<R>\n    From<R>\n    for A\nwhere\n    R: Send,\n{\n    fn f() {}\n}\nimpl X for A {}\n";
        let split = items("x.rs", text).unwrap();
        assert_eq!(split.concat(), text);
        assert_eq!(split.len(), 5, "a struct, a mod, two impls, the end: {split:?}");
        assert_eq!(name(split[1]), Some("x"));
        assert_eq!(name(split[2]), None);
    }

    #[test]
    fn an_item_without_an_end_is_an_error_not_a_guess() {
        let error = items("x.rs", "pub fn f(\n    a: u8,\n").unwrap_err().to_string();
        assert!(error.contains("x.rs") && error.contains("pub fn f("), "{error}");
    }

    #[test]
    fn names_are_those_that_others_refer_to() {
        assert_eq!(name("/// Doc\npub mod describe_subnets;\n"), Some("describe_subnets"));
        assert_eq!(name("pub(crate) mod shape_tag;\n"), Some("shape_tag"));
        assert_eq!(name("pub(crate) fn reflens_x(\n    input: &A,\n) {\n}\n"), Some("reflens_x"));
        assert_eq!(name("pub(crate) fn type_erase<O, E>(\n) {\n}\n"), Some("type_erase"));
        assert_eq!(name("pub use crate::types::_tag::Tag;\n"), Some("Tag"));
    }

    #[test]
    fn paths_leave_comments_out_and_see_every_reference_of_a_line() {
        let text = "    /// [`x`](crate::operation::x)\n    fn f(a: crate::types::Tag) -> crate::types::builders::TagBuilder;\n    $crate::no::no; mycrate::no\n";
        let found: Vec<_> = paths(text).collect();
        assert_eq!(found, [vec!["types", "Tag"], vec!["types", "builders", "TagBuilder"]]);
    }

    #[test]
    fn a_file_of_no_known_kind_is_an_error() {
        assert_eq!(kind("operation/describe_subnets/builders.rs").unwrap(), Kind::Unit);
        assert_eq!(kind("client/customize/internal.rs").unwrap(), Kind::Base);
        assert_eq!(kind("client/describe_subnets.rs").unwrap(), Kind::Unit);
        assert_eq!(kind("waiters/x.rs").unwrap(), Kind::Waiter);
        assert!(kind("auth_plugin.rs").unwrap_err().to_string().contains("auth_plugin.rs"));
        assert!(kind("configuration.rs").is_err(), "a name that begins like a base file is not one");
    }
}
