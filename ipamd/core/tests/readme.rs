// SPDX-License-Identifier: Apache-2.0
//! The README's configuration table is the code's. `make bless` rewrites it.
#![expect(clippy::disallowed_methods, reason = "reads, and when asked rewrites, a file of this repository")]

use ipamd_core::config::markdown_table;

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
