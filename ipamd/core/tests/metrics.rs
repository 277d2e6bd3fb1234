// SPDX-License-Identifier: Apache-2.0
//! docs/metrics.md has the code's tables (`make bless` rewrites them); alert rules and dashboard use families and labels that there
//! are; the actions that metrics name are those that the EC2 edge calls.
#![expect(clippy::disallowed_methods, reason = "reads, and when asked rewrites, files of this repository")]

use std::collections::{BTreeMap, BTreeSet};

use ipamd_core::metrics::families::{ALL, EC2_ACTIONS, Family, Kind, LEFT_OUT};
use ipamd_core::metrics::{markdown_left_out, markdown_table};
use ipamd_core::reason::ReasonCode;

fn path(name: &str) -> String {
    format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Holds what lies between the two marks to `table`, or rewrites it.
fn hold(page: &str, mark: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {mark}: generated from ipamd/core/src/metrics, held by a test -->\n"),
        format!("<!-- end of {mark} -->"),
    );
    let start = page.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let stop = start + page[start..].find(&end).unwrap_or_else(|| panic!("no {end}"));
    if std::env::var_os("ENID_BLESS").is_none() {
        assert_eq!(&page[start..stop], table, "run `make bless` and read the diff");
    }
    format!("{}{table}{}", &page[..start], &page[stop..])
}

#[test]
fn the_page_of_metrics_has_every_family_and_no_other() {
    let page = hold(&file("docs/metrics.md"), "families", &markdown_table());
    let page = hold(&page, "left out", &markdown_left_out());
    if std::env::var_os("ENID_BLESS").is_some() {
        std::fs::write(path("docs/metrics.md"), page).expect("writing docs/metrics.md");
    }
}

#[test]
fn names_are_there_once_and_those_of_ours_are_as_prometheus_wants_them() {
    let names: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), ALL.len());
    for family in ALL.iter().filter(|family| !family.name.starts_with("awscni_")) {
        assert!(family.name.starts_with("ipamd_") || family.name.starts_with("process_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
    }
    for (name, _) in LEFT_OUT {
        assert!(!names.contains(name), "{name} is served");
    }
}

#[test]
fn buckets_ascend() {
    for family in ALL {
        if let Kind::Histogram(bounds) = family.kind {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", family.name);
        }
    }
}

#[test]
fn the_actions_are_those_that_the_ec2_edge_calls() {
    let sources = ["ipamd/aws/src/ec2.rs", "ipamd/aws/src/ec2/reads.rs"].map(file).concat();
    let called: BTreeSet<&str> =
        sources.split("let action = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(called, BTreeSet::from(EC2_ACTIONS));
}

/// What a query may name: families, and a histogram's parts.
fn series() -> BTreeMap<String, Family> {
    let parts = |family: &Family| match family.kind {
        Kind::Histogram(_) => vec!["_bucket", "_sum", "_count"],
        Kind::Summary => vec!["_sum", "_count"],
        Kind::Counter | Kind::Gauge => vec![""],
    };
    let all =
        ALL.iter().flat_map(|family| parts(family).into_iter().map(|part| (format!("{}{part}", family.name), *family)));
    all.collect()
}

/// Every name of ours in a query is a series, and every label that it is asked by is one of its family's.
fn check(place: &str, query: &str) -> usize {
    let series = series();
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let (mut rest, mut found) = (query, 0);
    while let Some(start) = ["ipamd_", "awscni_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let name: String = rest[start..].chars().take_while(|letter| is_name(*letter)).collect();
        let family = series.get(&name).unwrap_or_else(|| panic!("{place}: there is no {name} in {query}"));
        rest = &rest[start + name.len()..];
        found += 1;
        let Some(selector) = rest.strip_prefix('{') else { continue };
        let end = selector.find('}').unwrap_or_else(|| panic!("{place}: {query}"));
        for matcher in selector[..end].split(',').filter(|matcher| !matcher.trim().is_empty()) {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            let is_of_scrape = ["job", "instance", "node", "le"].contains(&label);
            assert!(is_of_scrape || family.labels.contains(&label), "{place}: {name} has no label {label}");
            if label == "code" {
                let codes: Vec<String> = ReasonCode::ALL.iter().map(ToString::to_string).collect();
                let value = matcher.split('"').nth(1).unwrap_or_default();
                let known = |value: &str| value == "ok" || codes.iter().any(|code| code == value);
                assert!(value.split('|').all(known), "{place}: no code {value}");
            }
        }
    }
    found
}

#[test]
fn the_alert_rules_use_what_there_is() {
    let rules = file("deploy/alerts/enid.yaml");
    let names = rules.matches("- alert: ").count();
    assert!(names >= 12, "{names} alerts");
    let found: usize = expressions(&rules).iter().map(|expression| check("deploy/alerts/enid.yaml", expression)).sum();
    assert!(found >= names, "{found} series in {names} alerts");
}

/// The texts after `expr:`, folded blocks included.
fn expressions(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(text) = line.trim_start().strip_prefix("expr:") else { continue };
        let indent = line.len() - line.trim_start().len();
        let mut text = text.trim().trim_start_matches(['>', '|', '-']).to_owned();
        while let Some(next) = lines.next_if(|next| next.len() - next.trim_start().len() > indent) {
            text.push(' ');
            text.push_str(next.trim());
        }
        found.push(text);
    }
    found
}

#[test]
fn the_dashboard_uses_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("deploy/dashboards/enid.json")).expect("JSON");
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() >= 12, "{} queries", queries.len());
    for query in &queries {
        assert!(check("deploy/dashboards/enid.json", query) > 0, "{query} asks for nothing of ours");
    }
}

fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("expr", Some(text)) => queries.push(text.to_owned()),
                    // Of a variable: what its values are taken from.
                    ("definition", Some(text)) => queries.push(text.to_owned()),
                    _ => collect(value, queries),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        _ => {}
    }
}
