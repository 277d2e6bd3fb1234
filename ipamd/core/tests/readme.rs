// SPDX-License-Identifier: Apache-2.0
//! The README's configuration table and docs/configuration.md are the code's. `make bless` rewrites them.
#![expect(clippy::disallowed_methods, reason = "reads, and when asked rewrites, files of this repository")]

use ipamd_core::config::{SUBJECTS, VARIABLES, configuration_page, markdown_table};

const BEGIN: &str = "<!-- configuration table: generated from ipamd/core/src/config, held by a test -->\n";
const END: &str = "<!-- end of configuration table -->";

#[test]
fn the_configuration_table_of_the_readme_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).expect("the README");
    let start = readme.find(BEGIN).expect("the line that begins the table") + BEGIN.len();
    let end = readme.find(END).expect("the line that ends the table");
    let table = markdown_table();
    if std::env::var_os("ENID_BLESS").is_some() {
        let blessed = format!("{}{table}{}", &readme[..start], &readme[end..]);
        std::fs::write(path, blessed).expect("writing the README");
        return;
    }
    assert_eq!(&readme[start..end], table, "run `make bless` and read the diff");
}

#[test]
fn the_page_of_all_variables_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = configuration_page();
    if std::env::var_os("ENID_BLESS").is_some() {
        std::fs::write(path, page).expect("writing docs/configuration.md");
        return;
    }
    assert_eq!(
        std::fs::read_to_string(path).expect("docs/configuration.md"),
        page,
        "run `make bless` and read the diff"
    );
}

#[test]
fn every_variable_has_one_subject() {
    let mut rows: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let mut placed: Vec<&str> = SUBJECTS.iter().flat_map(|subject| subject.entries).map(|entry| entry.name).collect();
    rows.sort_unstable();
    placed.sort_unstable();
    let nowhere: Vec<_> = rows.iter().filter(|name| !placed.contains(name)).collect();
    assert!(nowhere.is_empty(), "give these a place in ipamd/core/src/config/subjects.rs: {nowhere:?}");
    assert_eq!(placed, rows, "a subject names a variable twice, or one that there is not");
}

#[test]
fn what_is_refused_is_in_the_readme() {
    let table = markdown_table();
    for variable in VARIABLES.iter().filter(|variable| variable.support.label() != "honoured") {
        let is_elsewhere = variable.support.label() == "read elsewhere";
        let line = format!("| `{}` |", variable.name);
        assert!(is_elsewhere || table.contains(&line), "{} is missing", variable.name);
    }
}
