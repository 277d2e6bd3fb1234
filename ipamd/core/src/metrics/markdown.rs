// SPDX-License-Identifier: Apache-2.0
//! The tables of docs/metrics.md, from the code's own.

use super::families::{ALL, Kind, LEFT_OUT};

/// All families, by name.
#[must_use]
pub fn markdown_table() -> String {
    let mut families: Vec<_> = ALL.iter().collect();
    families.sort_by_key(|family| (!family.name.starts_with("ipamd_"), family.name));
    let mut table = "| family | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in families {
        let kind = match family.kind {
            Kind::Summary => "summary, sum and count",
            kind => kind.name(),
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!("| `{}` | {kind} | {} | {} |\n", family.name, labels.join(", "), family.help));
    }
    table
}

/// The reference's families that are not served.
#[must_use]
pub fn markdown_left_out() -> String {
    let mut table = "| family | why not |\n|---|---|\n".to_owned();
    for (name, why) in LEFT_OUT {
        table.push_str(&format!("| `{name}` | {why} |\n"));
    }
    table
}
