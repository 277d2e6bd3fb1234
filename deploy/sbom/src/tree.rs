// SPDX-License-Identifier: Apache-2.0
//! What `cargo tree --prefix depth --format '{p}|{l}'` prints, as packages and who depends on whom.
//!
//! Cargo prints what is below a package only the first time (`(*)` afterwards), so every edge is there once.

use std::collections::{BTreeMap, BTreeSet};

/// Name and version: what one package is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

/// The packages of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Each with its licence, as the package says it; empty: it says none.
    pub(crate) licences: BTreeMap<Package, String>,
    /// Who depends on whom.
    pub(crate) edges: BTreeMap<Package, BTreeSet<Package>>,
    /// The program's own package: the first line.
    pub(crate) root: Option<Package>,
}

/// The tree in what cargo printed; `Err`: the line that is none of its.
pub(crate) fn parse(text: &str) -> Result<Tree, String> {
    let mut tree = Tree::default();
    let mut above: Vec<Package> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (depth, package, licence) = entry(line).ok_or_else(|| line.to_owned())?;
        if depth > above.len() {
            return Err(line.to_owned());
        }
        above.truncate(depth);
        if let Some(parent) = above.last() {
            tree.edges.entry(parent.clone()).or_default().insert(package.clone());
        }
        tree.root.get_or_insert_with(|| package.clone());
        tree.licences.entry(package.clone()).or_insert(licence);
        above.push(package);
    }
    Ok(tree)
}

/// `2serde v1.0.228 (proc-macro)|MIT OR Apache-2.0 (*)`
fn entry(line: &str) -> Option<(usize, Package, String)> {
    let start = line.find(|letter: char| !letter.is_ascii_digit())?;
    let (depth, rest) = line.split_at(start);
    let (package, licence) = rest.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let licence = licence.trim_end_matches("(*)").trim();
    let package = Package { name: name.to_owned(), version: version.to_owned() };
    Some((depth.parse().ok()?, package, licence.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "0ipamd v0.1.0 (/src/ipamd)|Apache-2.0\n1axum v0.8.1|MIT\n2serde v1.0.2|MIT OR Apache-2.0\n\
        3serde_derive v1.0.2 (proc-macro)|MIT OR Apache-2.0\n1serde v1.0.2|MIT OR Apache-2.0 (*)\n1http v0.2.0|MIT\n1http v1.0.0|MIT\n";

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn packages_licences_and_edges_are_read() {
        let tree = parse(PRINTED).unwrap();
        assert_eq!(tree.root, Some(package("ipamd", "0.1.0")));
        assert_eq!(tree.licences.len(), 6, "two versions of http are two packages");
        assert_eq!(tree.licences[&package("serde", "1.0.2")], "MIT OR Apache-2.0");
        let below = |of: &Package| tree.edges[of].iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
        assert_eq!(below(&package("ipamd", "0.1.0")), ["axum", "http", "http", "serde"]);
        assert_eq!(below(&package("serde", "1.0.2")), ["serde_derive"]);
    }

    #[test]
    fn what_cargo_does_not_print_is_refused() {
        for line in ["ipamd v0.1.0|MIT", "0ipamd 0.1.0|MIT", "0ipamd v0.1.0", "1late v1.0.0|MIT"] {
            assert_eq!(parse(line), Err(line.to_owned()));
        }
    }
}
