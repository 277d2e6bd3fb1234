// SPDX-License-Identifier: Apache-2.0
//! Answers from a state and records that are made up.

use ipamd_core::chronicle::Kind;
use ipamd_core::ids::PodRef;
use ipamd_core::reason::ReasonCode;
use ipamd_core::{Core, Now, Restored};

use super::*;

fn snapshot() -> Snapshot {
    let now = Now { boot: ipamd_core::BootTime::default(), unix_nanos: 100_000_000_000 };
    let kernel = ipamd_core::event::KernelView::default();
    let restored = Restored::read(None, None, kernel, "boot".to_owned());
    let mut snapshot = Core::new(Config::default(), restored, now).0.snapshot(now);
    snapshot.pods.push(PodSnapshot {
        key: "aws-cni/c1/eth0".to_owned(),
        pod: PodRef { namespace: "default".to_owned(), name: "web-0".to_owned() },
        address: Ipv4Addr::new(10, 0, 1, 23),
        eni_id: Some("eni-1".into()),
        device_index: Some(ipamd_core::ids::DeviceIndex(1)),
        allocated_unix_nanos: 40_000_000_000,
        orphan_for_ms: None,
    });
    snapshot.waiters.push(WaiterSnapshot {
        key: "aws-cni/c2/eth0".to_owned(),
        pod: PodRef { namespace: "default".to_owned(), name: "web-1".to_owned() },
        waiting_ms: 3_200,
        budget_left_ms: 16_800,
        waits_for: ReasonCode::EniPending,
    });
    let address = |last, state: &str, cooling_for_ms| AddressSnapshot {
        address: Ipv4Addr::new(10, 0, 1, last),
        eni_id: Some("eni-1".into()),
        prefix: None,
        state: state.to_owned(),
        cooling_for_ms,
    };
    snapshot.addresses =
        vec![address(23, "allocated", None), address(24, "cooling", Some(12_000)), address(25, "held", None)];
    snapshot
}

fn record(seq: u64, pod: &str, code: Option<ReasonCode>) -> Record {
    Record {
        seq,
        unix_ms: 90_000,
        level: NoticeLevel::Warn,
        kind: if code.is_some() { Kind::Refused } else { Kind::Added },
        code,
        text: format!("record {seq}"),
        pod: Some(pod.to_owned()),
        key: None,
        address: Some(Ipv4Addr::new(10, 0, 1, 24)),
        eni_id: None,
        took_ms: None,
    }
}

fn asked(what: &str, json: bool) -> Result<String, String> {
    let (snapshot, screen) = (snapshot(), Screen::default());
    let records = Records {
        records: vec![record(1, "default/web-0", None), record(2, "default/gone", Some(ReasonCode::NodeFull))],
        missed: 0,
        next: 3,
        started_unix_ms: 1,
    };
    let known = Known { snapshot: &snapshot, records: &records, screen: &screen, unix_nanos: 100_000_000_000 };
    match what.parse() {
        Ok(address) => known.address(address, json),
        Err(_) if what == NO_ADDRESS => known.no_address(json),
        Err(_) => known.pod(what, json),
    }
}

#[test]
fn a_sandbox_is_found_by_its_id_or_its_beginning_and_a_beginning_of_two_is_told_so() {
    let (mut snapshot, screen) = (snapshot(), Screen::default());
    let (one, other) = ("5ec4e7c0ffee01", "5ec4e7c0ffee02");
    snapshot.pods[0].key = format!("aws-cni/{one}/eth0");
    snapshot.waiters[0].key = format!("aws-cni/{other}/eth0");
    let past = Record { pod: None, key: Some("aws-cni/0123456789/eth0".to_owned()), ..record(1, "-", None) };
    let records = Records { records: vec![past], missed: 0, next: 2, started_unix_ms: 1 };
    let known = Known { snapshot: &snapshot, records: &records, screen: &screen, unix_nanos: 100_000_000_000 };
    for what in [one, "containerd://5ec4e7c0ffee01", "5ec4e7c0ffee01"] {
        let text = known.pod(what, false).unwrap();
        assert!(text.contains("default/web-0 has 10.0.1.23") && !text.contains("web-1"), "{what}: {text}");
    }
    assert!(known.pod(other, false).unwrap().contains("default/web-1 waits"));
    assert!(known.pod("012345", false).unwrap().contains("record 1"), "what it had lately");
    let error = known.pod("5ec4e7c", false).unwrap_err();
    assert!(error.contains(one) && error.contains(other), "{error}");
    for what in ["5ec4e", "ffee01", ""] {
        assert!(known.pod(what, false).unwrap_err().contains("nothing is known"), "{what}");
    }
}

fn says(what: &str, parts: &[&str]) {
    let text = asked(what, false).unwrap();
    for part in parts {
        assert!(text.contains(part), "{what}: {part}: {text}");
    }
}

#[test]
fn a_pod_s_answer_is_its_address_and_what_happened_or_what_it_waits_for_or_why_it_was_refused() {
    says("web-0", &["default/web-0 has 10.0.1.23 for 60.0s", "eni-1 at device index 1", "c1", "record 1"]);
    says("default/web-1", &["waits for an address for 3.2s", "refused in 16.8s", "[EniPending]"]);
    says("gone", &["gone was refused 10.0s ago: [NodeFull] record 2", "as many pods as it can"]);
    let error = asked("never-seen", false).unwrap_err();
    assert!(
        error.contains("nothing is known of a pod or sandbox never-seen") && error.contains("kubectl get pod"),
        "{error}"
    );
    let json: serde_json::Value = serde_json::from_str(&asked("web-0", true).unwrap()).unwrap();
    assert_eq!((&json["addresses"][0]["address"], &json["records"][0]["seq"]), (&json!("10.0.1.23"), &json!(1)));
}

#[test]
fn an_address_is_a_pod_s_or_rests_or_is_held_or_unknown() {
    says("10.0.1.23", &["default/web-0 has 10.0.1.23"]);
    says("10.0.1.24", &["10.0.1.24 is cooling for 12.0s more", "on eni-1", "record 1", "record 2"]);
    says("10.0.1.25", &["in use by the kernel without a pod of ours", "ipamd check"]);
    let error = asked("192.0.2.1", false).unwrap_err();
    assert!(
        error.contains("no address of this node's ENIs") && error.contains("describe-network-interfaces"),
        "{error}"
    );
}

#[test]
fn no_address_says_rule_inputs_what_binds_and_when_next() {
    says(
        NO_ADDRESS,
        &[
            "answer   a pod that comes now gets",
            "rule     starting",
            "target",
            "asks     ",
            "cooling, the next is free in 12.0s",
            "binds",
            "next     decided anew",
        ],
    );
    let json: serde_json::Value = serde_json::from_str(&asked(NO_ADDRESS, true).unwrap()).unwrap();
    for key in ["supply", "why", "reasons", "pool", "subnets", "actions", "waiters", "records"] {
        assert!(json.get(key).is_some(), "{key}: {json}");
    }
    assert_eq!(json["nextCoolingMs"], json!(12_000));
}
