// SPDX-License-Identifier: Apache-2.0
use std::net::Ipv4Addr;

use ipamd_core::event::{InstanceFacts, KernelView};
use ipamd_core::{Config, Core, Now, Restored};

use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

/// The core's word on a node of this type, right after metadata has answered.
fn snapshot(instance_type: &str, max_enis: Option<u32>) -> Snapshot {
    let subnet = "10.0.1.0/24".parse().unwrap();
    let facts = InstanceFacts {
        instance_id: "i-1".into(),
        instance_type: instance_type.to_owned(),
        availability_zone: "us-east-1a".to_owned(),
        region: "us-east-1".to_owned(),
        vpc_id: "vpc-1".into(),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        primary_eni_id: "eni-1".into(),
        primary_mac: "02:00:00:00:00:01".parse().unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 1, 11),
        subnet_id: "subnet-1".into(),
        subnet_cidr: subnet,
        security_group_ids: Vec::new(),
    };
    let now = Now::default();
    let restored = Restored::read(None, None, KernelView::default(), "boot".to_owned());
    let (mut core, _) = Core::new(Config { max_enis, ..Config::default() }, restored, now);
    core.handle(ipamd_core::Event::FactsLearned(facts), now);
    let limits = instance_limits::lookup(instance_type).unwrap().clone();
    core.handle(ipamd_core::Event::LimitsLearned(limits), now);
    core.snapshot(now)
}

fn view(max_pods: u32, change: Value) -> View {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "spec": {}, "metadata": { "name": "n1" },
        "status": { "capacity": { "pods": max_pods.to_string() } },
    });
    for (part, fields) in change.as_object().unwrap() {
        for (field, value) in fields.as_object().unwrap() {
            node[part][field] = value.clone();
        }
    }
    View::of(serde_json::from_value(node).unwrap())
}

#[test]
fn max_pods_58_with_42_addresses_is_too_high_and_eks_own_29_of_an_m5_large_fits() {
    for (kind, max_enis, max_pods, on_host, holds) in [
        ("m5.xlarge", Some(3), 58, 2, false),
        ("m5.xlarge", Some(3), 44, 0, true),
        ("m5.xlarge", Some(3), 45, 2, false),
        ("m5.xlarge", Some(3), 45, 3, true),
        ("m5.large", None, 29, 0, true),
        ("m5.large", None, 110, 6, false),
        ("m5.xlarge", None, 58, 2, true),
        ("t3.small", None, 11, 2, true),
        ("t3.small", None, 8, 2, true),
    ] {
        let mut fits = Fits::default();
        let snapshot = snapshot(kind, max_enis);
        assert_eq!(fits.look(&snapshot, &view(max_pods, json!({})), Some(on_host), at(0)), !holds, "{kind} {max_pods}");
        let wanted = fits.wanted().unwrap();
        assert_eq!((wanted.kind, wanted.holds), ("EnidMaxPodsFits", holds), "{kind} {max_pods}: {}", wanted.text);
    }
}

#[test]
fn too_high_says_the_numbers_and_what_to_set() {
    let mut fits = Fits::default();
    fits.look(&snapshot("m5.xlarge", Some(3)), &view(58, json!({})), Some(2), at(0));
    let wanted = fits.wanted().unwrap();
    assert_eq!(wanted.code, ReasonCode::MaxPodsTooHigh);
    for part in ["58 pods", "42 can have", "m5.xlarge: 3 ENIs x 14 addresses", "max-pods to 44", "`ipamd max-pods`"] {
        assert!(wanted.text.contains(part), "{part}: {}", wanted.text);
    }
}

#[test]
fn it_is_told_once_and_not_again_by_the_next_daemon() {
    let shown = json!({ "conditions": [{ "type": TYPE, "status": "False", "reason": "MaxPodsTooHigh" }] });
    let mut fits = Fits::default();
    assert!(!fits.look(&snapshot("m5.xlarge", Some(3)), &view(58, json!({ "status": shown })), Some(2), at(0)));
    assert!(!fits.wanted().unwrap().holds);
}

#[test]
fn neither_a_filling_subnet_nor_a_moment_changes_it() {
    let mut fits = Fits::default();
    let mut snapshot = snapshot("m5.large", None);
    assert!(!fits.look(&snapshot, &view(29, json!({})), Some(2), at(0)));
    snapshot.capacity.as_mut().unwrap().now = 0;
    assert!(!fits.look(&snapshot, &view(29, json!({})), Some(2), at(60)));
    assert!(fits.wanted().unwrap().holds);
    let higher = view(30, json!({}));
    assert!(!fits.look(&snapshot, &higher, Some(2), at(70)));
    assert!(!fits.look(&snapshot, &view(29, json!({})), Some(2), at(80)), "it was a moment");
    assert!(!fits.look(&snapshot, &higher, Some(2), at(90)));
    assert!(!fits.look(&snapshot, &higher, Some(2), at(119)));
    assert!(fits.look(&snapshot, &higher, Some(2), at(120)));
    assert!(!fits.wanted().unwrap().holds);
}

#[test]
fn nothing_is_said_before_both_sides_are_known() {
    let mut fits = Fits::default();
    let unknown = view(1, json!({ "status": { "capacity": {} } }));
    assert!(!fits.look(&snapshot("m5.large", None), &unknown, Some(2), at(0)));
    let mut without = snapshot("m5.large", None);
    without.capacity = None;
    assert!(!fits.look(&without, &view(500, json!({})), Some(2), at(1)));
    // Before the first list of pods a 0 would be a guess: two daemons, or one that starts anew, would tell different things.
    assert!(!fits.look(&snapshot("m5.large", None), &view(500, json!({})), None, at(2)));
    assert_eq!(fits.wanted(), None);
}

#[test]
fn figures_are_written_when_they_differ_and_seldom() {
    let mut figures = Figures::new(None);
    let bare = view(29, json!({}));
    assert_eq!(figures.due(&bare, at(0)), None, "not known yet");
    let mut snapshot = snapshot("m5.large", None);
    figures.look(&snapshot, at(1));
    let patch = figures.due(&bare, at(1)).unwrap();
    assert_eq!(patch, json!({ "metadata": { "annotations": { LIMIT: "27", NOW: "27" } } }));
    figures.wrote(at(1));
    let shown = view(29, json!({ "metadata": patch["metadata"] }));
    assert_eq!(figures.due(&shown, at(2)), None);
    snapshot.capacity.as_mut().unwrap().now = 12;
    figures.look(&snapshot, at(5));
    assert_eq!(figures.due(&shown, at(5)), None, "too early");
    let patch = figures.due(&shown, at(6)).unwrap();
    assert_eq!(patch["metadata"]["annotations"][NOW], "12");
    figures.wrote(at(6));
    let shown = view(29, json!({ "metadata": patch["metadata"] }));
    snapshot.capacity.as_mut().unwrap().now = 20;
    figures.look(&snapshot, at(6));
    assert_eq!(figures.due(&shown, at(35)), None, "more is not so urgent");
    figures.look(&snapshot, at(36));
    assert_eq!(figures.due(&shown, at(36)).unwrap()["metadata"]["annotations"][NOW], "20");
}

#[test]
fn a_higher_figure_of_now_is_written_when_it_has_stood_and_a_lower_one_at_once() {
    let mut figures = Figures::new(None);
    let shows = |figures: &Figures, seconds| {
        let patch = figures.due(&view(29, json!({})), at(seconds)).unwrap();
        patch["metadata"]["annotations"][NOW].as_str().unwrap().to_owned()
    };
    let mut snapshot = snapshot("m5.large", None);
    let mut look = |figures: &mut Figures, now: u32, seconds| {
        snapshot.capacity.as_mut().unwrap().now = now;
        figures.look(&snapshot, at(seconds));
        shows(figures, seconds)
    };
    assert_eq!(look(&mut figures, 12, 0), "12", "the first word");
    // A probe of a full subnet: the limit for a moment.
    assert_eq!(look(&mut figures, 27, 10), "12");
    assert_eq!(look(&mut figures, 12, 14), "12");
    assert_eq!(look(&mut figures, 27, 20), "12");
    assert_eq!(look(&mut figures, 20, 49), "12");
    assert_eq!(look(&mut figures, 20, 50), "20");
    assert_eq!(look(&mut figures, 9, 51), "9");
}

#[test]
fn the_extended_resource_shows_what_is_now_and_comes_back() {
    let mut figures = Figures::new(Some("enid.dev/address".to_owned()));
    figures.look(&snapshot("m5.large", None), at(0));
    let annotated = json!({ "annotations": { LIMIT: "27", NOW: "27" } });
    let gone = view(29, json!({ "metadata": annotated.clone() }));
    let patch = figures.due(&gone, at(0)).unwrap();
    assert_eq!(patch["status"], json!({ "capacity": { "enid.dev/address": "27" } }));
    let there = json!({ "capacity": { "pods": "29", "enid.dev/address": "27" } });
    assert_eq!(figures.due(&view(29, json!({ "metadata": annotated.clone(), "status": there })), at(0)), None);
    let zeroed = json!({ "capacity": { "pods": "29", "enid.dev/address": "0" } });
    assert!(figures.due(&view(29, json!({ "metadata": annotated, "status": zeroed })), at(0)).is_some());
}

#[test]
fn quantities_are_read_as_the_api_server_writes_them() {
    for (text, number) in [("27", Some(27)), ("2k", Some(2_000)), ("3712", Some(3_712)), ("1Ki", None), ("", None)] {
        assert_eq!(quantity(text), number, "{text}");
    }
}
