// SPDX-License-Identifier: Apache-2.0
use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::core::Core;
use crate::event::HeldAddress;
use crate::ids::{AllocationKey, BootTime, Now, PodRef};
use crate::reason::NoticeLevel;
use crate::{Effects, Snapshot};

const BOOT: &str = "boot-1";

fn now() -> Now {
    Now { boot: BootTime(Duration::from_secs(1_000)), unix_nanos: 1_000_000_000_000 }
}

fn key(container: &str) -> AllocationKey {
    AllocationKey { network: "aws-cni".into(), container_id: container.into(), ifname: "eth0".into() }
}

fn held(address: [u8; 4], container: Option<&str>) -> HeldAddress {
    HeldAddress { address: address.into(), key: container.map(key), link: "enix".into() }
}

fn kernel(held: &[HeldAddress], host_veths: &[&str]) -> KernelView {
    let host_veths = host_veths.iter().map(|name| (*name).to_owned()).collect();
    KernelView { held: held.to_vec(), host_veths, link_macs: vec![] }
}

fn start(reference: Option<&str>, own: Option<&str>, kernel: KernelView) -> (Core, Effects) {
    let restored = Restored::read(reference.map(str::as_bytes), own.map(str::as_bytes), kernel, BOOT);
    Core::new(Config::default(), restored, now())
}

fn states(core: &Core) -> Vec<(Ipv4Addr, String)> {
    core.snapshot(now()).addresses.into_iter().map(|entry| (entry.address, entry.state)).collect()
}

fn loud(effects: &Effects, part: &str) -> bool {
    effects.notices.iter().any(|notice| notice.level >= NoticeLevel::Warn && notice.text.contains(part))
}

fn entry(container: &str, address: &str, pod: &str) -> String {
    format!(
        r#"{{"networkName":"aws-cni","containerID":"{container}","ifName":"eth0","ipv4":"{address}","allocationTimestamp":7,"metadata":{{"k8sPodNamespace":"default","k8sPodName":"{pod}","interfacesCount":1}}}}"#
    )
}

fn reference(entries: &[String]) -> String {
    format!(r#"{{"version":"vpc-cni-ipam/1","allocations":[{}]}}"#, entries.join(","))
}

/// One ENI with `.5` cooling until 1,010 s, `.6` rested, `.7` never used, and `.8` and `.9` called allocated.
fn own(boot: &str) -> String {
    format!(
        r#"{{"version":"enid/1","bootId":"{boot}","facts":null,"enis":[{{"eniId":"eni-1","mac":"02:00:00:00:00:01","subnetId":"subnet-1","subnetCidr":"10.0.0.0/24","primaryAddress":"10.0.0.4","deviceIndex":1,"attachmentId":"eni-attach-1","stage":"attached","created":true,"deleteOnTermination":true,"addresses":[{{"address":"10.0.0.5","releasedNanos":980000000000,"coolingUntilNanos":1010000000000}},{{"address":"10.0.0.6","releasedNanos":900000000000,"coolingUntilNanos":930000000000}},{{"address":"10.0.0.7"}},{{"address":"10.0.0.8","allocated":true}},{{"address":"10.0.0.9","allocated":true}}]}}]}}"#
    )
}

#[test]
fn both_files_and_the_kernel_are_put_together() {
    let (core, effects) = start(
        Some(&reference(&[entry("a", "10.0.0.8", "web")])),
        Some(&own(BOOT)),
        kernel(&[held([10, 0, 0, 6], Some("b")), held([10, 0, 0, 7], None), held([10, 0, 0, 5], Some("c"))], &[]),
    );
    let expected = [(5, "cooling"), (6, "allocated"), (7, "held"), (8, "allocated"), (9, "cooling")];
    let expected = expected.map(|(host, state)| (Ipv4Addr::new(10, 0, 0, host), state.to_owned()));
    assert_eq!(states(&core), expected);
    assert!(loud(&effects, "adopted") && loud(&effects, "not given out") && loud(&effects, "enid.json only"));
    assert!(effects.persist);
    let nine = core.snapshot(now()).addresses.into_iter().last().expect("five");
    assert_eq!(nine.cooling_for_ms, Some(30_000), "the allocation that one file lacks rests for a period");
}

#[test]
fn allocations_of_another_boot_are_dropped_unless_the_kernel_has_them() {
    let (core, effects) = start(
        Some(&reference(&[entry("a", "10.0.0.8", "web"), entry("b", "10.0.0.9", "sample-pod")])),
        Some(&own("boot-0")),
        kernel(&[], &["enicc21c2d7785"]),
    );
    let expected = [(8, "cooling"), (9, "allocated")];
    assert_eq!(states(&core), expected.map(|(host, state)| (Ipv4Addr::new(10, 0, 0, host), state.to_owned())));
    assert!(loud(&effects, "of boot boot-0") && loud(&effects, "1 allocations of another boot"));
}

/// A pod whose address the kernel has, one that only the journal has, and what cools, through every length of both files.
#[test]
fn files_cut_off_at_any_length_lose_nothing_that_another_witness_has() {
    let whole = (reference(&[entry("a", "10.0.0.8", "web"), entry("b", "10.0.0.9", "db")]), own(BOOT));
    let view = || kernel(&[held([10, 0, 0, 8], Some("a")), held([10, 0, 0, 6], Some("x"))], &[]);
    let cut = |text: &str, length: usize| text.as_bytes()[..length].to_vec();
    let check = |reference: Vec<u8>, own: Vec<u8>| {
        let lengths = (reference.len(), own.len());
        let torn = lengths != (whole.0.len(), whole.1.len());
        let restored = Restored::read(Some(&reference), Some(&own), view(), BOOT);
        let (core, effects) = Core::new(Config::default(), restored, now());
        let keys: Vec<String> = core.snapshot(now()).pods.into_iter().map(|pod| pod.key).collect();
        assert!(
            keys.contains(&"aws-cni/a/eth0".to_owned()) && keys.contains(&"aws-cni/x/eth0".to_owned()),
            "{lengths:?}"
        );
        assert_eq!(keys.contains(&"aws-cni/b/eth0".to_owned()), reference.len() == whole.0.len(), "{lengths:?}");
        assert_eq!(loud(&effects, "cannot be used"), torn, "{lengths:?}");
        let told = core.snapshot(now()).journal.iter().any(|line| line.contains("cannot be used"));
        assert_eq!(told, torn, "{lengths:?}: the status tells it, too");
        let free = core.snapshot(now()).addresses.into_iter().filter(|entry| entry.state == "free");
        assert!(
            free.map(|entry| entry.address.octets()[3]).all(|host| host == 7),
            "{lengths:?}: only .7 was never used"
        );
        assert!(effects.persist, "what was understood is written whole");
    };
    for length in 0..=whole.0.len() {
        check(cut(&whole.0, length), whole.1.clone().into_bytes());
    }
    for length in 0..whole.1.len() {
        check(whole.0.clone().into_bytes(), cut(&whole.1, length));
        check(cut(&whole.0, length.min(whole.0.len() - 1)), cut(&whole.1, length));
    }
}

#[test]
fn what_a_lost_journal_makes_rest_rests_on_when_the_daemon_ends_before_it_has_read_ec2() {
    let (core, _) = start(Some(&reference(&[])), Some("rubbish"), kernel(&[], &[]));
    let quarantine = core.quarantine;
    assert!(quarantine.is_some());
    let written = core.checkpoint();
    let (core, _) = start(
        Some(&String::from_utf8(written.reference_json).expect("text")),
        Some(&String::from_utf8(written.own_json).expect("text")),
        kernel(&[], &[]),
    );
    assert_eq!(core.quarantine, quarantine);
}

#[test]
fn a_corrupt_reference_file_is_rebuilt_from_the_kernel() {
    let (core, effects) = start(Some("{\"vers"), Some(&own(BOOT)), kernel(&[held([10, 0, 0, 8], Some("a"))], &[]));
    let snapshot: Snapshot = core.snapshot(now());
    assert_eq!(snapshot.pods.len(), 1);
    assert_eq!(snapshot.pods[0].key, "aws-cni/a/eth0");
    assert_eq!(snapshot.pods[0].eni_id, Some("eni-1".into()));
    assert!(loud(&effects, "ipam.json cannot be used"));
    let nine = snapshot.addresses.iter().find(|entry| entry.address == Ipv4Addr::new(10, 0, 0, 9)).expect("known");
    assert_eq!(nine.state, "cooling", "allocated by enid.json, without a link: nobody knows since when");
}

#[test]
fn a_corrupt_own_file_keeps_the_allocations() {
    for own in [Some("rubbish"), Some(r#"{"version":"enid/9"}"#)] {
        let (core, effects) = start(Some(&reference(&[entry("a", "10.0.0.8", "web")])), own, kernel(&[], &[]));
        assert_eq!(states(&core), [(Ipv4Addr::new(10, 0, 0, 8), "allocated".to_owned())]);
        assert!(loud(&effects, "enid.json cannot be used"));
    }
}

/// A file that is gone, not damaged: the node has an alias of ours, so it was not the reference's until now.
#[test]
fn a_lost_own_file_keeps_the_allocations_also_of_pods_that_have_no_link_yet() {
    let journal = reference(&[entry("a", "10.0.0.8", "web")]);
    let (core, _) = start(Some(&journal), None, kernel(&[held([10, 0, 0, 9], Some("b"))], &[]));
    assert_eq!(states(&core).iter().filter(|(_, state)| state == "allocated").count(), 2, "{:?}", states(&core));
}

fn veth_of(pod: &str) -> String {
    let pod = PodRef { namespace: "default".into(), name: pod.into() };
    crate::veth::host_veth("eni", &pod).expect("it has a name")
}

#[test]
fn at_a_takeover_pods_with_a_link_are_adopted_and_those_that_have_ended_are_not() {
    let nameless = entry("old", "10.0.0.7", "").replace("aws-cni", "_migrated-from-cri");
    let entries = [
        entry("by-name", "10.0.0.4", "web"),
        entry("by-route", "10.0.0.5", "db"),
        entry("dead", "10.0.0.6", "gone"),
        nameless,
    ];
    let (core, effects) =
        start(Some(&reference(&entries)), None, kernel(&[held([10, 0, 0, 5], None)], &[&veth_of("web")]));
    let expected = [(4, "allocated"), (5, "allocated"), (6, "cooling"), (7, "allocated")];
    let expected = expected.map(|(host, state)| (Ipv4Addr::new(10, 0, 0, host), state.to_owned()));
    assert_eq!(states(&core), expected);
    assert!(loud(&effects, "1 allocations of amazon-vpc-cni-k8s"), "{:?}", effects.notices);
    assert!(core.quarantine.is_some(), "what the reference released last is not known");
    assert!(!String::from_utf8_lossy(&core.checkpoint().reference_json).contains("10.0.0.6"));
}

#[test]
fn nothing_at_all_is_a_fresh_node() {
    let (core, effects) = start(None, None, kernel(&[], &[]));
    assert!(states(&core).is_empty());
    assert!(effects.notices.iter().all(|notice| notice.level < NoticeLevel::Warn));
}

#[test]
fn an_address_or_key_bound_twice_is_kept_once() {
    let entries = [entry("a", "10.0.0.8", "x"), entry("b", "10.0.0.8", "y"), entry("a", "10.0.0.9", "x")];
    let (core, effects) = start(Some(&reference(&entries)), None, kernel(&[], &[&veth_of("x"), &veth_of("y")]));
    let pods: Vec<String> = core.snapshot(now()).pods.into_iter().map(|pod| pod.key).collect();
    assert_eq!(pods, ["aws-cni/a/eth0"]);
    assert_eq!(effects.notices.iter().filter(|notice| notice.text.contains("the second is dropped")).count(), 2);
}

#[test]
fn what_was_taken_over_without_a_pod_name_stays_until_its_del() {
    let nameless = r#"{"networkName":"n","containerID":"c","ifName":"eth0","ipv4":"10.0.0.8","allocationTimestamp":7,"metadata":{}}"#;
    let (core, _) = start(Some(&reference(&[nameless.to_owned()])), None, kernel(&[], &[]));
    let written = core.checkpoint();
    let (core, _) = start(
        Some(&String::from_utf8(written.reference_json).expect("text")),
        Some(&String::from_utf8(written.own_json).expect("text")),
        kernel(&[], &[]),
    );
    let pods = core.snapshot(now()).pods;
    assert_eq!(pods[0].pod, PodRef::default());
    assert_eq!(pods[0].orphan_for_ms, None, "no kernel object could testify for it");
}

/// Killed after `enid.json` was written and before `ipam.json` was.
#[test]
fn a_tombstone_that_only_one_file_knows_as_done_is_worked_off_again() {
    for (claimed, left) in [(false, 0), (true, 1)] {
        let done = r#","tombstonesDone":[{"network":"aws-cni","container_id":"a","ifname":"eth0"}]}"#;
        let record = r#"{"address":"10.0.0.8","allocated":true}"#;
        let released = r#"{"address":"10.0.0.8","releasedNanos":990000000000,"coolingUntilNanos":1020000000000}"#;
        let own = own(BOOT);
        let own = own.strip_suffix('}').expect("an object").to_owned() + done;
        let own = if claimed { own } else { own.replace(record, released) };
        let (mut core, effects) =
            start(Some(&reference(&[entry("a", "10.0.0.8", "web")])), Some(&own), kernel(&[], &[]));
        assert!(!loud(&effects, "cannot be used"), "{:?}", effects.notices);
        let _ = core.handle(crate::Event::TombstoneFound { key: key("a") }, now());
        assert_eq!(core.snapshot(now()).pods.len(), left, "in use anew: {claimed}");
    }
}

/// The reference's plugin goes on plumbing when its daemon has answered and ended.
#[test]
fn at_a_takeover_a_young_entry_is_kept_though_its_link_has_not_come() {
    let at = |seconds: i64| now().unix_nanos - seconds * 1_000_000_000;
    let entries = [(4, "young", at(20)), (5, "old", at(400))].map(|(host, pod, time)| {
        let text = entry(pod, &format!("10.0.0.{host}"), pod);
        text.replace("\"allocationTimestamp\":7", &format!("\"allocationTimestamp\":{time}"))
    });
    let (core, _) = start(Some(&reference(&entries)), None, kernel(&[], &[]));
    let expected = [(4, "allocated"), (5, "cooling")];
    assert_eq!(states(&core), expected.map(|(host, state)| (Ipv4Addr::new(10, 0, 0, host), state.to_owned())));
}
