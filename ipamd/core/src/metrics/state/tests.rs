// SPDX-License-Identifier: Apache-2.0
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::event::{KernelView, LostConnections, TrackedConnections};
use crate::ids::Now;
use crate::{Core, Restored};

/// The word of a core that has just started, with what a test changes.
fn snapshot(change: Value) -> Snapshot {
    let restored = Restored::read(None, None, KernelView::default(), "boot".to_owned());
    let (core, _) = Core::new(Config::default(), restored, Now::default());
    let mut all = serde_json::to_value(core.snapshot(Now::default())).unwrap();
    for (field, value) in change.as_object().unwrap() {
        all[field] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn eni(id: Option<&str>, state: &str, state_for_ms: u64, assigning: u32) -> Value {
    json!({
        "eniId": id, "state": state, "stateForMs": state_for_ms, "retryInMs": null, "deviceIndex": 1, "table": 2,
        "mac": id.map(|_| "02:00:00:00:00:01"), "primaryAddress": null, "subnetId": "subnet-1", "created": true, "total": 3,
        "prefixes": 2, "allocated": 1, "free": 1, "cooling": 1, "assigning": assigning, "lastFailure": null,
    })
}

fn address(last: u8, id: &str, state: &str) -> Value {
    json!({ "address": format!("10.0.1.{last}"), "eniId": id, "prefix": null, "state": state, "coolingForMs": null })
}

fn lines(snapshot: &Snapshot) -> Vec<String> {
    let mut page = Page::default();
    write(snapshot, &[], &mut page);
    page.to_string().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Values of all series of a family, by their text.
fn of(snapshot: &Snapshot, family: &str) -> Vec<String> {
    let lines = lines(snapshot).into_iter();
    let series = lines.filter_map(|line| line.strip_prefix(family).map(str::to_owned));
    series.filter(|rest| rest.starts_with(['{', ' '])).collect()
}

#[test]
fn addresses_are_counted_by_eni_and_state_and_an_eni_that_is_gone_has_no_series() {
    let states = ["allocated", "allocated", "free", "cooling", "flushing", "held", "leaving"];
    let mut addresses: Vec<Value> = (1..).zip(states).map(|(last, state)| address(last, "eni-1", state)).collect();
    addresses.push(address(9, "eni-2", "free"));
    addresses.push(address(10, "eni-gone", "allocated"));
    let enis =
        [eni(Some("eni-1"), "Ready", 5, 0), eni(Some("eni-2"), "Configuring", 5, 4), eni(None, "Requested", 7, 0)];
    let found = of(&snapshot(json!({ "addresses": addresses, "enis": enis })), "ipamd_addresses");
    let wanted = [
        ("coming", "eni-1", 0),
        ("coming", "eni-2", 5),
        ("cooling", "eni-1", 2),
        ("cooling", "eni-2", 0),
        ("free", "eni-1", 1),
        ("free", "eni-2", 0),
        ("held", "eni-1", 1),
        ("held", "eni-2", 0),
        ("leaving", "eni-1", 1),
        ("leaving", "eni-2", 0),
        ("used", "eni-1", 2),
        ("used", "eni-2", 0),
    ];
    let text = |(state, id, count)| format!("{{state=\"{state}\",eni_id=\"{id}\"}} {count}");
    assert_eq!(found, wanted.map(text));
}

#[test]
fn every_state_of_an_eni_has_a_series_and_what_should_pass_its_age() {
    let enis =
        [eni(Some("eni-1"), "Ready", 99_000, 0), eni(None, "Requested", 7_500, 0), eni(None, "Requested", 30, 0)];
    let snapshot = snapshot(json!({ "enis": enis }));
    let enis = of(&snapshot, "ipamd_enis");
    assert_eq!(enis.len(), 8, "{enis:?}");
    assert!(enis.contains(&"{state=\"requested\"} 2".to_owned()) && enis.contains(&"{state=\"ready\"} 1".to_owned()));
    let ages = of(&snapshot, "ipamd_eni_oldest_seconds");
    assert_eq!(ages.len(), 6, "{ages:?}");
    assert!(ages.contains(&"{state=\"requested\"} 7.5".to_owned()), "{ages:?}");
    assert_eq!(of(&snapshot, "awscni_total_ipv4_prefixes"), [" 2"], "of ENIs that there are");
}

#[test]
fn every_reason_has_a_series_and_those_that_hold_are_1() {
    let fresh = snapshot(json!({}));
    assert_eq!(of(&fresh, "ipamd_reason_active").len(), ReasonCode::ALL.len());
    assert_eq!(active(&fresh), BTreeSet::from([ReasonCode::Starting]));
    let exhausted = json!([{ "subnetId": "subnet-1", "retryInMs": 5, "available": null }]);
    let connections = TrackedConnections { count: 80, max: 100, lost: None };
    let cases = [
        (json!({ "exhaustedSubnets": exhausted }), ReasonCode::SubnetExhausted),
        (json!({ "enis": [eni(Some("eni-1"), "Configuring", 15_000, 0)] }), ReasonCode::EniStuck),
        (json!({ "connections": connections }), ReasonCode::ConntrackFilling),
        (json!({ "supply": { "code": "NodeFull", "text": "" } }), ReasonCode::NodeFull),
    ];
    for (change, code) in cases {
        let snapshot = snapshot(change);
        assert!(active(&snapshot).contains(&code), "{code}");
        let line = format!("{{code=\"{code}\"}} 1");
        assert!(of(&snapshot, "ipamd_reason_active").contains(&line), "{code}");
        assert!(!active(&fresh).contains(&code), "{code}");
    }
    // Nobody misses what a full node has no room for while the next pod gets an address; a denied call is missed all the same.
    let why = |code: &str| json!({ "text": "", "boundBy": code, "rule": fresh.why.rule, "nextMs": null });
    let supply = json!({ "code": null, "text": "" });
    let bound = |code: &str| active(&snapshot(json!({ "why": why(code), "supply": supply })));
    assert!(bound("NodeFull").is_empty() && bound("BudgetSpent").is_empty());
    assert!(bound("Ec2Denied").contains(&ReasonCode::Ec2Denied));
    let missed = active(&snapshot(json!({ "why": why("NodeFull"), "supply": { "code": "AllCooling", "text": "" } })));
    assert!(missed.contains(&ReasonCode::NodeFull));
    let mut page = Page::default();
    write(&fresh, &[ReasonCode::MaxPodsTooHigh], &mut page);
    assert!(page.to_string().contains("ipamd_reason_active{code=\"MaxPodsTooHigh\"} 1"));
}

#[test]
fn a_table_of_connections_without_a_limit_is_not_filling() {
    let connections =
        TrackedConnections { count: 80, max: 0, lost: Some(LostConnections { dropped: 2, ..Default::default() }) };
    let snapshot = snapshot(json!({ "connections": connections }));
    assert!(!active(&snapshot).contains(&ReasonCode::ConntrackFilling));
    assert_eq!(of(&snapshot, "ipamd_conntrack_entries_max"), <[&str; 0]>::default());
    assert!(of(&snapshot, "ipamd_conntrack_lost_total").contains(&"{why=\"dropped\"} 2".to_owned()));
}

#[test]
fn allowances_are_told_of_enis_of_ours() {
    let snapshot = snapshot(json!({ "enis": [eni(Some("eni-1"), "Ready", 1, 0), eni(None, "Requested", 1, 0)] }));
    let found = BTreeMap::from([
        (MacAddr([2, 0, 0, 0, 0, 1]), Exceeded::from([("pps", 7), ("bw_in", 0)])),
        (MacAddr([2, 0, 0, 0, 0, 9]), Exceeded::from([("pps", 5)])),
    ]);
    let mut page = Page::default();
    allowances(&snapshot, &found, &mut page);
    let text = page.to_string();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let name = "ipamd_eni_allowance_exceeded_total";
    let line = |allowance: &str, count: u32| format!("{name}{{eni_id=\"eni-1\",allowance=\"{allowance}\"}} {count}");
    assert_eq!(series, [line("bw_in", 0), line("pps", 7)]);
}

#[test]
fn every_outcome_is_listed() {
    let found: BTreeSet<&str> = FailureClass::ALL.into_iter().map(outcome).chain(["ok"]).collect();
    assert_eq!(found, BTreeSet::from(OUTCOMES));
}

#[test]
fn what_the_state_has_is_in_the_table() {
    let enis = [eni(Some("eni-1"), "Ready", 5, 0)];
    let mut page = Page::default();
    write(&snapshot(json!({ "enis": enis })), &[], &mut page);
    let table: BTreeSet<&str> = super::super::families::ALL.iter().map(|family| family.name).collect();
    assert!(page.names().all(|name| table.contains(name)) && page.names().count() > 20);
}
