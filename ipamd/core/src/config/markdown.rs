// SPDX-License-Identifier: Apache-2.0
//! The variables as a Markdown table, for the README: generated, so that it cannot disagree with the code.

use std::fmt::Write;

use super::VARIABLES;

/// One line a variable, sorted as [`VARIABLES`]; ends with a newline.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| variable | type | default | support | changes at run time | meaning |\n|---|---|---|---|---|---|\n",
    );
    for variable in VARIABLES {
        let default = if variable.default.is_empty() { "-".to_owned() } else { format!("`{}`", variable.default) };
        let kind = if variable.unit.is_empty() {
            variable.kind.to_owned()
        } else {
            format!("{}, {}", variable.kind, variable.unit)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {default} | {} | {} | {} |",
            variable.name,
            variable.support.label(),
            if variable.is_live { "yes" } else { "no" },
            variable.doc.replace('|', "\\|"),
        );
    }
    table
}
