// SPDX-License-Identifier: Apache-2.0
//! Every test that docs/acceptance.md names is there, in the file that it names.
#![expect(clippy::disallowed_methods, reason = "reads files of this repository")]

use std::collections::BTreeMap;
use std::path::Path;

/// What stands in backticks as `path.rs::test`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::").filter(|(path, _)| path.ends_with(".rs"))).collect()
}

#[test]
fn every_test_that_the_acceptance_table_names_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let table = std::fs::read_to_string(root.join("docs/acceptance.md")).expect("docs/acceptance.md");
    let tests = named(&table);
    assert!(tests.len() > 50, "only {} tests are named", tests.len());
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for (path, test) in tests {
        let text = files.entry(path).or_insert_with(|| std::fs::read_to_string(root.join(path)).unwrap_or_default());
        if !text.contains(&format!("fn {test}(")) {
            missing.push(format!("{path}::{test}"));
        }
    }
    assert!(missing.is_empty(), "these tests are not there: {missing:#?}");
}
