// SPDX-License-Identifier: Apache-2.0
//! The way back: `ipamd hand-back`, aws-node starts, `ipamd hand-back --finish`; and a second takeover after it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::aws_node::{AwsNode, Entry, Spec};
use integration::eventually::{eventually, pass};
use integration::fabric::INTERNET_HOST;
use integration::flows::Flows;
use integration::pods::{self, Pod, one_of_each};
use integration::probe::{EchoServer, reach_both};
use integration::sandbox::NetnsPath;
use integration::topology::READY;

use crate::bed::{A_WHILE, ADDRESSES, Bed, PREFIXES, assert_connections_live, assert_nothing_lost};

/// A look takes away again what it wrote for a pod that ended meanwhile, before it ends.
const SWEPT: Duration = Duration::from_secs(5);

fn hand_back(bed: &Bed, arguments: &[&str]) -> Result<String, String> {
    let words: Vec<&str> = ["hand-back"].iter().chain(arguments).copied().collect();
    bed.n1().ask(&words).map_err(|error| error.to_string())
}

/// Pods of the reference and of both of our layouts, all live, all talking; the daemon has just ended.
fn lived_in(spec: &Spec, new: usize) -> (Bed, Vec<Pod>) {
    let mut bed = Bed::build(spec);
    bed.take_over(bed.aws.pods.len());
    let rested = || {
        let free = bed.n1().number("/pool/free").map_err(|error| error.to_string())?;
        if free >= new as u64 { Ok(()) } else { Err(format!("{free} free")) }
    };
    eventually("enough addresses have rested", READY, rested).unwrap();
    let mut all = pods::start(bed.n1(), new, 6, &AtomicUsize::new(0)).unwrap();
    assert!(one_of_each(&all).len() > 1, "new pods on several ENIs");
    all.extend(std::mem::take(&mut bed.aws.pods));
    (bed, all)
}

/// What the reference would restore is exactly what lives.
fn assert_restorable(bed: &Bed, pods: &[Pod]) {
    let restored = bed.host_state().would_restore(&bed.checkpoint(), &bed.on_enis()).unwrap();
    let living: BTreeMap<String, Ipv4Addr> =
        pods.iter().map(|pod| (pod.sandbox.container_id.clone(), pod.added.address)).collect();
    assert_eq!(restored, living);
}

fn assert_on_the_internet(bed: &Bed, pods: &[Pod]) {
    let outside = EchoServer::start(bed.topology.fabric.internet()).unwrap();
    let public = bed.topology.instance("n1").unwrap().public_address;
    for pod in one_of_each(pods) {
        let seen = reach_both(&pod.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), public, "{} on the internet", pod.added.address);
    }
}

/// Hands the node back, the daemon stopped, with all that talk meanwhile.
fn assert_handed_back(bed: &Bed, all: &[Pod], flows: Flows) {
    let told = hand_back(bed, &[]).unwrap();
    assert!(told.contains(&format!("with {} pods", all.len())), "{told}");
    bed.assert_as_the_reference_has_them(all);
    assert_restorable(bed, all);
    pass(A_WHILE);
    assert_nothing_lost(&flows.end());
    assert_on_the_internet(bed, all);
    assert_eq!(bed.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

fn there_and_back_and_there_again(spec: &Spec, new: usize) {
    let (mut bed, mut all) = lived_in(spec, new);
    let flows = Flows::start(bed.paths(&all));
    let refused = hand_back(&bed, &[]).unwrap_err();
    assert!(refused.contains("another ipamd holds"), "{refused}");
    assert!(bed.topology.node_mut("n1").stop());
    assert_handed_back(&bed, &all, flows);
    let left = bed.n1().leftovers().unwrap();
    assert!(left.rules.iter().all(|rule| !rule.contains("158000")), "nothing of layout flat stays: {left}");
    assert!(left.routes.iter().all(|route| !route.contains("158000")), "{left}");
    let again = hand_back(&bed, &[]).unwrap();
    assert!(again.contains("by 0 writes"), "{again}");
    assert!(!bed.n1().state_folder().join("enid.json").exists());

    let early = hand_back(&bed, &["--finish"]).unwrap_err();
    assert!(early.contains("aws-node is not ready"), "{early}");
    assert_eq!(bed.n1().leftovers().unwrap().tables, ["ip enid"]);
    let flows = Flows::start(bed.paths(&all));
    bed.aws.set_up_host(&bed.topology, "n1").unwrap();
    let finished = bed.as_if_a_daemon_answered(|bed| hand_back(bed, &["--finish"])).unwrap();
    assert!(finished.contains("removed: nft table ip enid"), "{finished}");
    assert!(bed.n1().leftovers().unwrap().tables.is_empty());
    assert_on_the_internet(&bed, &all);
    pass(A_WHILE);
    // The reference takes an ENI's address and routes away for a moment when it starts, and packets leave by another: datagrams may be
    // lost to that.
    assert_connections_live(&flows.end());
    bed.assert_as_the_reference_has_them(&all);

    // The reference's DEL finds all that it looks for, of a pod that was plumbed by Enid and of its own.
    let ended = [all.remove(0), all.pop().unwrap()];
    for pod in &ended {
        AwsNode::delete(&bed.topology, "n1", pod).unwrap();
        bed.host_state().is_torn_down(pod.added.address).unwrap();
    }
    drop(ended);
    bed.aws.entries = all.iter().map(|pod| Entry::new(&pod.sandbox, pod.added.address)).collect();
    bed.aws.write_checkpoint(&bed.topology, "n1").unwrap();
    let flows = Flows::start(bed.paths(&all));
    bed.take_over(all.len());
    pass(A_WHILE);
    assert_nothing_lost(&flows.end());
    for pod in &all {
        bed.n1().runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
        // A look that had begun before, and brings pods of before into layout `flat`, may have written after it.
        let torn_down = || bed.host_state().is_torn_down(pod.added.address);
        eventually("nothing of the pod is left", SWEPT, torn_down).unwrap();
    }
    assert_eq!(bed.n1().number("/pool/allocated").unwrap(), 0);
}

#[test]
fn a_node_with_single_addresses_goes_there_back_and_there_again_with_its_connections_open() {
    there_and_back_and_there_again(&ADDRESSES, 12);
}

#[test]
fn a_node_with_prefixes_goes_there_back_and_there_again_with_its_connections_open() {
    there_and_back_and_there_again(&PREFIXES, 32);
}

/// The journal is gone: pods are handed back by what the kernel has, and those that nobody knows are told.
#[test]
fn without_a_journal_pods_are_handed_back_by_the_kernel_s_word() {
    let (mut bed, all) = lived_in(&ADDRESSES, 12);
    assert!(bed.topology.node_mut("n1").stop());
    bed.n1().lose_state().unwrap();
    let told = hand_back(&bed, &[]).unwrap();
    // The reference's own have no alias.
    assert_eq!(told.matches("nobody knows whose").count(), all.len() - 12, "{told}");
    assert!(told.contains("with 12 pods"), "{told}");
    bed.assert_as_the_reference_has_them(&all);
    assert_restorable(&bed, &all[..12]);
}

/// No pod of Enid's yet: what the taken-over ones go by is Enid's all the same, and stays until aws-node is there.
#[test]
fn a_node_that_goes_back_at_once_keeps_its_pods_connected() {
    let mut bed = Bed::build(&ADDRESSES);
    bed.take_over(bed.aws.pods.len());
    let mut all = std::mem::take(&mut bed.aws.pods);
    let flows = Flows::start(bed.paths(&all[1..]));
    assert!(bed.topology.node_mut("n1").stop());
    // A DEL that the daemon does not hear of any more.
    let ended = all.remove(0);
    bed.n1().runtime.del(&ended.sandbox, NetnsPath::Given).unwrap();
    assert_handed_back(&bed, &all, flows);
    assert_eq!(bed.n1().leftovers().unwrap().tables, ["ip enid"]);
}

#[test]
fn what_aws_node_may_have_written_is_not_written_over() {
    let mut bed = Bed::build(&ADDRESSES);
    bed.take_over(bed.aws.pods.len());
    assert!(bed.topology.node_mut("n1").stop());
    let before = bed.checkpoint();
    let refused = bed.as_if_a_daemon_answered(|bed| hand_back(bed, &[])).unwrap_err();
    assert!(refused.contains("`ipamd hand-back --finish`"), "{refused}");
    assert_eq!(bed.checkpoint(), before);

    let journal = bed.n1().state_folder().join("ipam.json");
    std::fs::write(&journal, "{\"version\":\"vpc-cni-ipam/2\"").unwrap();
    let refused = hand_back(&bed, &[]).unwrap_err();
    assert!(refused.contains("cannot be read") && refused.contains("move it away"), "{refused}");
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), "{\"version\":\"vpc-cni-ipam/2\"");
}
