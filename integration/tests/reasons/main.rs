// SPDX-License-Identifier: Apache-2.0
//! One cause, one code, wherever one looks: each code of docs/reasons.md is provoked from outside, and the same code is then in the CNI
//! error, the log, `ipamd_reason_total`, a Kubernetes Event, and the status or its records.
//!
//! [`rows`] is the table: how each is provoked, at which places it must be seen, why not at the others; and which cannot be
//! provoked here, with the reason. Scenarios provoke several on a node and hold each to its row.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; breaks files, reads logs"
)]

use std::collections::BTreeSet;

mod bed;
mod ec2;
mod host;
mod plugin;
mod pool;
mod rows;
mod settings;
mod start;
mod state;

use rows::{ROWS, Seen, UNPROVOKED};

/// The codes of the page, with the places that it names.
fn page() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reasons.md")).unwrap();
    let sections = page.split("\n## ").skip(1);
    sections
        .map(|section| {
            let places = section.split("**Where it shows:** ").nth(1).unwrap();
            (section.lines().next().unwrap().to_owned(), places.lines().next().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn every_code_of_the_page_is_provoked_or_has_its_reason() {
    let page: BTreeSet<String> = page().into_iter().map(|(code, _)| code).collect();
    assert!(page.len() > 100, "{} codes", page.len());
    let named = || ROWS.iter().map(|row| row.code).chain(UNPROVOKED.iter().map(|(code, _)| *code));
    let table: BTreeSet<String> = named().map(str::to_owned).collect();
    assert_eq!(named().count(), table.len(), "a code is named twice");
    let missing: Vec<_> = page.difference(&table).collect();
    let unknown: Vec<_> = table.difference(&page).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the table: {missing:?}; not on the page: {unknown:?}");
    assert!(UNPROVOKED.iter().all(|(_, why)| !why.is_empty()) && ROWS.iter().all(|row| !row.how.is_empty()));
}

/// A row whose code no scenario asks for would hold nothing.
#[test]
fn every_row_is_held_by_a_scenario() {
    let scenarios = [
        include_str!("ec2.rs"),
        include_str!("host.rs"),
        include_str!("plugin.rs"),
        include_str!("pool.rs"),
        include_str!("settings.rs"),
        include_str!("start.rs"),
        include_str!("state.rs"),
    ];
    for row in ROWS {
        let quoted = format!("\"{}\"", row.code);
        assert!(scenarios.iter().any(|scenario| scenario.contains(&quoted)), "{} is in no scenario", row.code);
    }
}

/// Where a row says that a code is to be seen, the page says so, too.
#[test]
fn the_page_names_the_places_that_are_looked_at() {
    let page = page();
    for row in ROWS {
        let (_, places) = page.iter().find(|(code, _)| code == row.code).unwrap();
        let log = if row.of_plugin { "plugin's log" } else { "daemon's log" };
        for (seen, sign) in
            [(row.cni, "CNI error"), (row.log, log), (row.metric, "ipamd_reason_total"), (row.event, "Event of")]
        {
            if matches!(seen, Seen::Yes) {
                assert!(places.contains(sign), "{}: {sign} is not among: {places}", row.code);
            }
        }
    }
}
