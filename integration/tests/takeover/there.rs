// SPDX-License-Identifier: Apache-2.0
//! From aws-node to Enid: the daemon starts on the node, then the runtime calls its plugin.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::aws_node::{Entry, Filling, Spec};
use integration::eventually::{eventually, pass};
use integration::fabric::INTERNET_HOST;
use integration::flows::Flows;
use integration::pods::{self, Pod, one_of_each};
use integration::probe::{EchoServer, reach_both};
use integration::sandbox::NetnsPath;
use integration::tools::{Iptables, Tools};
use integration::topology::READY;

use crate::bed::{A_WHILE, ADDRESSES, Bed, PREFIXES, assert_connections_live, assert_nothing_lost};

/// Pods of n1 reach n2's pods, the internet and each other, and are reached.
fn all_reach_all(bed: &Bed, pods: &[Pod]) {
    let outside = EchoServer::start(bed.topology.fabric.internet()).unwrap();
    let public = bed.topology.instance("n1").unwrap().public_address;
    for pod in one_of_each(pods) {
        assert_eq!(pod.reached_from(&bed.far[1].sandbox.netns).unwrap(), bed.far[1].added.address);
        assert_eq!(bed.far[1].reached_from(&pod.sandbox.netns).unwrap(), pod.added.address);
        let seen = reach_both(&pod.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), public, "{} on the internet", pod.added.address);
    }
}

fn wait_free(bed: &Bed, total: usize) {
    let freed = eventually("every address is free again", READY, || {
        let pool = ["/pool/allocated", "/pool/cooling", "/pool/free"];
        let [allocated, cooling, free] = pool.map(|at| bed.n1().number(at).unwrap_or(u64::MAX));
        let is_so = allocated + cooling == 0 && free >= total as u64;
        if is_so { Ok(()) } else { Err(format!("{allocated} allocated, {cooling} cooling, {free} free")) }
    });
    freed.unwrap();
}

/// A takeover of live pods, from the first packet to the last address.
fn whole_life(spec: &Spec) {
    let mut bed = Bed::build(spec);
    let (live, on_enis) = (bed.aws.pods.len(), bed.on_enis());
    let ids = |bed: &Bed| bed.topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect::<Vec<_>>();
    let (enis, writes) = (ids(&bed), bed.writes());
    let flows = Flows::start(bed.paths(&bed.aws.pods));
    bed.take_over(live);
    pass(A_WHILE);
    assert_nothing_lost(&flows.end());
    let asked = bed.writes().split_off(writes.len());
    match spec.filling {
        Filling::Addresses(_) => assert_eq!(asked, [] as [String; 0], "nothing had to be changed in EC2"),
        // What was free rests for a cooldown, so for pods that come meanwhile there is no prefix warm.
        Filling::Prefixes(..) => {
            assert!(asked.len() <= 1 && asked.iter().all(|call| call.starts_with("AssignPrivate")), "{asked:#?}");
        }
    }
    assert_eq!(ids(&bed), enis);
    bed.assert_as_the_reference_has_them(&bed.aws.pods);

    let old: BTreeSet<Ipv4Addr> = bed.aws.pods.iter().map(|pod| pod.added.address).collect();
    let start = || pods::start(bed.n1(), 5, 5, &AtomicUsize::new(0));
    let new = eventually("the quarantine is over", READY, || start().map_err(|error| error.to_string())).unwrap();
    assert!(new.iter().all(|pod| !old.contains(&pod.added.address)), "a live pod's address was given to another");
    all_reach_all(&bed, &bed.aws.pods);
    all_reach_all(&bed, &new);

    // Of one the runtime knows the result and the namespace, of the next the result only, of the last nothing at all.
    let adopted = std::mem::take(&mut bed.aws.pods);
    for (at, pod) in adopted.iter().enumerate() {
        let netns = if at % 2 == 0 { NetnsPath::Given } else { NetnsPath::Empty };
        if at % 3 == 2 {
            pod.sandbox.remember(serde_json::Value::Null);
        }
        bed.n1().runtime.del(&pod.sandbox, netns).unwrap();
        bed.host_state().is_torn_down(pod.added.address).unwrap();
    }
    pods::end(bed.n1(), new, 5).unwrap();
    drop(adopted);
    wait_free(&bed, on_enis.len());
    let left = bed.n1().leftovers().unwrap().of_pods();
    assert!(left.rules.is_empty() && left.routes.is_empty(), "{left}");
    assert_eq!(bed.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

#[test]
fn pods_with_single_addresses_are_taken_over_without_losing_a_packet_and_end_clean() {
    whole_life(&ADDRESSES);
}

#[test]
fn pods_inside_prefixes_are_taken_over_without_losing_a_packet_and_end_clean() {
    whole_life(&PREFIXES);
}

/// The reference's rules are out of the daemon's reach there: they stay, SNAT is right all the same, and after the operator's command,
/// too.
#[test]
fn with_iptables_legacy_connections_live_on_and_snat_is_right_before_and_after_its_rules_go() {
    let mut bed = Bed::build(&Spec { iptables: Iptables::Legacy, ..ADDRESSES });
    let flows = Flows::start(bed.paths(&bed.aws.pods));
    bed.take_over(bed.aws.pods.len());
    all_reach_all(&bed, &bed.aws.pods);
    let save = || Tools::iptables(&bed.n1().netns, Iptables::Legacy, &["iptables-save", "-c"], "").unwrap();
    let before = save();
    assert!(before.contains("AWS-CONNMARK-CHAIN-0"), "{before}");
    // What the command in the daemon's log does.
    let is_theirs = |line: &&str| {
        line.contains("AWS-SNAT-CHAIN-0") || line.contains("AWS-CONNMARK-CHAIN-0") || line.contains("--comment \"AWS, ")
    };
    let kept: String = before.lines().filter(|line| !is_theirs(line)).map(|line| format!("{line}\n")).collect();
    Tools::iptables(&bed.n1().netns, Iptables::Legacy, &["iptables-restore", "-c"], &kept).unwrap();
    assert!(!save().contains("AWS"));
    all_reach_all(&bed, &bed.aws.pods);
    pass(A_WHILE);
    assert_connections_live(&flows.end());
}

/// A pod that has died before the takeover, with its rules and its entry left; and one whose entry has the key that very old
/// versions gave.
#[test]
fn a_dead_pod_is_not_adopted_and_one_with_a_migrated_key_is_and_can_be_deleted() {
    let mut bed = Bed::build(&ADDRESSES);
    let live = bed.aws.pods.len();
    let spare = bed.aws.enis[1].addresses[8];
    let dead = bed.aws.add(&bed.topology, "n1", 1, spare).unwrap();
    bed.n1().ip(&format!("link del {}\n", dead.added.host_veth)).unwrap();
    let migrated = bed.aws.entries.remove(0).migrated();
    let first = bed.aws.pods[0].added.address;
    assert_eq!(migrated.address, first);
    bed.aws.entries.push(migrated);
    bed.aws.write_checkpoint(&bed.topology, "n1").unwrap();
    bed.take_over(live);
    let status = bed.n1().status().unwrap();
    let pods = status["pods"].as_array().unwrap();
    assert!(pods.iter().all(|pod| pod["address"] != spare.to_string()), "{status}");
    let of_first = pods.iter().find(|pod| pod["address"] == first.to_string()).unwrap();
    let key = of_first["key"].as_str().unwrap();
    assert!(key.starts_with("_migrated-from-cri/") && key.ends_with("/unknown"), "{key}");

    bed.n1().runtime.del(&bed.aws.pods[0].sandbox, NetnsPath::Given).unwrap();
    bed.host_state().is_torn_down(first).unwrap();
    assert_eq!(bed.n1().number("/pool/allocated").unwrap(), live as u64 - 1);
    // The runtime's DEL of the dead one comes late.
    bed.n1().runtime.del(&dead.sandbox, NetnsPath::Empty).unwrap();
    assert_eq!(bed.n1().number("/pool/allocated").unwrap(), live as u64 - 1);
}

/// An address that the dead pod's rules still name is given to a new one: it must go by its own ENI.
#[test]
fn what_a_dead_pod_has_left_in_the_kernel_does_not_lead_its_successor_astray() {
    let mut bed = Bed::build(&ADDRESSES);
    let spare = bed.aws.enis[0].addresses[8];
    let dead = bed.aws.add(&bed.topology, "n1", 0, spare).unwrap();
    bed.n1()
        .ip(&format!("link del {}\nrule add from {spare}/32 priority 1536 lookup 2\n", dead.added.host_veth))
        .unwrap();
    bed.aws.write_checkpoint(&bed.topology, "n1").unwrap();
    let free = bed.on_enis().len() - bed.aws.pods.len();
    bed.take_over(bed.aws.pods.len());
    let start = || {
        let missing = free as u64 - bed.n1().number("/pool/free").map_err(|error| error.to_string())?;
        if missing > 0 { Err(format!("{missing} of {free} still rest")) } else { Ok(()) }
    };
    eventually("every address has rested", READY, start).unwrap();
    let new = pods::start(bed.n1(), free, 6, &AtomicUsize::new(0)).unwrap();
    let successor = new.iter().find(|pod| pod.added.address == spare).expect("all addresses are in use");
    assert_eq!(successor.reached_from(&bed.far[0].sandbox.netns).unwrap(), bed.far[0].added.address);
    assert_eq!(bed.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

/// Killed again and again on its way, at times that no step is safe from.
#[test]
fn a_takeover_that_is_killed_at_many_points_goes_on_where_it_was() {
    let mut bed = Bed::build(&ADDRESSES);
    let flows = Flows::start(bed.paths(&bed.aws.pods));
    let writes = bed.writes();
    for ms in [5, 10, 15, 20, 30, 40, 60, 80, 120, 200] {
        let n1 = bed.topology.node_mut("n1");
        n1.start().unwrap();
        pass(Duration::from_millis(ms));
        n1.kill();
    }
    bed.take_over(bed.aws.pods.len());
    pass(A_WHILE);
    assert_nothing_lost(&flows.end());
    assert_eq!(bed.writes(), writes);
    bed.assert_as_the_reference_has_them(&bed.aws.pods);
    let known: BTreeSet<String> = bed.aws.entries.iter().map(|entry: &Entry| entry.container_id.clone()).collect();
    let restored = bed.host_state().would_restore(&bed.checkpoint(), &bed.on_enis()).unwrap();
    assert_eq!(restored.keys().cloned().collect::<BTreeSet<_>>(), known);
}
