// SPDX-License-Identifier: Apache-2.0
//! Whatever IMDS or EC2 leave out, nothing that a living pod has is given back.
//!
//! The reference takes a missing entry of IMDS for a detached ENI, and has released addresses of running pods for it
//! (amazon-vpc-cni-k8s #1967, #3877). Here nothing goes without three witnesses: journal, kernel, and a fresh EC2 read.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the journal"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::topology::{EniFacts, READY, Topology, TopologySpec};
use ipnet::Ipv4Net;
use serde_json::Value;
use vpc_model::{EniId, Hidden, ImdsFault};

/// Two ENIs of an m5.large and a bit of the third.
const PODS: usize = 20;
const TAKING: [&str; 4] =
    ["UnassignPrivateIpAddresses", "DetachNetworkInterface", "DeleteNetworkInterface", "DeleteTags"];

fn full_node() -> (Topology, Vec<Pod>) {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1"), ("WARM_IP_TARGET", "1")]).unwrap();
    let pods = pods::start(topology.node("n1"), PODS, 4, &AtomicUsize::new(0)).unwrap();
    (topology, pods)
}

/// Nothing was taken, every pod is reached, and the journal has them all.
fn check(topology: &Topology, pods: &[Pod], after: &str) {
    for action in TAKING {
        assert_eq!(topology.calls(action), 0, "{action} was called after {after}");
    }
    let n1 = topology.node("n1");
    for pod in pods {
        pod.reached_from(&n1.netns).unwrap_or_else(|error| panic!("{} after {after}: {error}", pod.added.address));
    }
    assert_eq!(n1.number("/pool/allocated").unwrap(), PODS as u64, "after {after}");
}

#[test]
fn whatever_imds_leaves_out_no_held_address_or_eni_is_given_back() {
    let (mut topology, pods) = full_node();
    let macs: Vec<String> = topology.emulator.with_model(|vpc, _| {
        vpc.enis().filter(|eni| eni.attachment().is_some()).map(|eni| eni.mac.to_string()).collect()
    });
    assert_eq!(macs.len(), 3);
    let folder = "/latest/meta-data/network/interfaces/macs/";
    let mut missing: Vec<String> = macs.iter().map(|mac| format!("{folder}{mac}/")).collect();
    missing.extend(macs.iter().map(|mac| format!("{folder}{mac}/local-ipv4s")));
    missing.push(folder.to_owned());
    for path_prefix in missing {
        let fault = ImdsFault { instance: None, path_prefix: path_prefix.clone(), status: 404, count: None };
        topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
        let n1 = topology.node_mut("n1");
        n1.kill();
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        pass(Duration::from_secs(2));
        check(&topology, &pods, &format!("a restart without {path_prefix}"));
        topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    }
}

#[test]
fn an_eni_that_somebody_detaches_under_its_pods_keeps_their_addresses_reserved_and_is_not_deleted() {
    let (topology, pods) = full_node();
    let (eni, attachment) = topology.emulator.with_model(|vpc, _| {
        let eni = vpc.enis().find(|eni| eni.attachment().is_some_and(|at| at.device_index == 1)).unwrap();
        (eni.id.as_str().to_owned(), eni.attachment().unwrap().id.as_str().to_owned())
    });
    topology.emulator.ec2("DetachNetworkInterface", &[("AttachmentId", &attachment), ("Force", "true")]);
    let n1 = topology.node("n1");
    pass(Duration::from_secs(5));
    // New pods come up on what is left, with addresses that nobody has.
    let more = pods::start(n1, 2, 2, &AtomicUsize::new(PODS)).unwrap();
    for pod in &more {
        assert!(pods.iter().all(|other| other.added.address != pod.added.address));
        pod.reached_from(&n1.netns).unwrap();
    }
    assert_eq!(n1.number("/pool/allocated").unwrap(), PODS as u64 + 2);
    let there = topology.emulator.with_model(|vpc, _| vpc.enis().any(|other| other.id.as_str() == eni));
    assert!(there, "{eni} was deleted while its addresses are held by pods");
    for action in ["UnassignPrivateIpAddresses", "DeleteNetworkInterface"] {
        assert_eq!(topology.calls(action), 0, "{action} was called");
    }
}

/// What can be missing from an answer: an ENI, or all that pods have on one.
enum Part {
    Eni(EniId),
    Held(Vec<Ipv4Addr>, Vec<Ipv4Net>),
}

fn parts(enis: &[EniFacts], pods: &[Pod]) -> Vec<Part> {
    let held: BTreeSet<Ipv4Addr> = pods.iter().map(|pod| pod.added.address).collect();
    let of_eni = |eni: &EniFacts| {
        let addresses = eni.secondary.iter().copied().filter(|address| held.contains(address)).collect();
        let inside = |prefix: &Ipv4Net| held.iter().any(|address| prefix.contains(address));
        Part::Held(addresses, eni.prefixes.iter().copied().filter(inside).collect())
    };
    let secondary = enis.iter().filter(|eni| eni.device_index > 0);
    secondary.map(|eni| Part::Eni(EniId(eni.id.clone()))).chain(enis.iter().map(of_eni)).collect()
}

fn subset(parts: &[Part], bits: usize) -> Hidden {
    let mut hidden = Hidden::default();
    for (_, part) in parts.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0) {
        match part {
            Part::Eni(id) => drop(hidden.enis.insert(id.clone())),
            Part::Held(addresses, prefixes) => {
                hidden.addresses.extend(addresses);
                hidden.prefixes.extend(prefixes);
            }
        }
    }
    hidden
}

/// Every allocation of the journal that the reference reads.
fn journal(node: &Node) -> Value {
    let text = fs::read(node.state_folder().join("ipam.json")).unwrap();
    let mut journal: Value = serde_json::from_slice(&text).unwrap();
    let allocations = journal["allocations"].as_array_mut().unwrap();
    allocations.sort_by_key(|entry| entry["containerID"].to_string());
    journal["allocations"].clone()
}

fn restart(node: &mut Node) {
    node.kill();
    node.start().unwrap();
    node.wait_answers(READY).unwrap();
}

fn drift_found(node: &Node, what: &Hidden) {
    let told = eventually("the difference is told", Duration::from_secs(10), || match node.number("/drift/found") {
        Ok(found) if found > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    told.unwrap_or_else(|error| panic!("{error} without {what:?}"));
}

/// EC2 and IMDS leave out every subset of what pods have; the daemon is killed and reads anew for each, and the last one
/// stays while it looks again and again.
fn nothing_left_out_is_given_back(environment: &[(&str, &str)], count: usize, enis: usize) {
    let mut topology = Topology::build(&TopologySpec::one("t3.small")).unwrap();
    topology.start(environment).unwrap();
    let pods = pods::start(topology.node("n1"), count, 6, &AtomicUsize::new(0)).unwrap();
    // What was asked for as a reserve meanwhile comes, too.
    pass(Duration::from_secs(3));
    let facts = topology.enis("n1").unwrap();
    assert_eq!(facts.len(), enis);
    let before = journal(topology.node("n1"));
    assert_eq!(before.as_array().unwrap().len(), count);
    let parts = parts(&facts, &pods);
    let last = (1 << parts.len()) - 1;
    for bits in 1..=last {
        let what = subset(&parts, bits);
        topology.emulator.with_model(|vpc, _| {
            vpc.hide_from_describe(what.clone());
            vpc.hide_from_imds(what.clone());
        });
        restart(topology.node_mut("n1"));
        drift_found(topology.node("n1"), &what);
        if bits == last {
            // An ENI that is not shown is looked for again after 30 s: what a second look would take is seen to stay.
            pass(Duration::from_secs(35));
        }
        for action in TAKING {
            assert_eq!(topology.calls(action), 0, "{action} was called without {what:?}");
        }
        assert_eq!(journal(topology.node("n1")), before, "without {what:?}");
    }
    let n1 = topology.node("n1");
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
    topology.emulator.with_model(|vpc, _| {
        vpc.hide_from_describe(Hidden::default());
        vpc.hide_from_imds(Hidden::default());
    });
    restart(topology.node_mut("n1"));
    topology.node("n1").wait_ready(READY).unwrap();
    assert_eq!(topology.node("n1").number("/drift/found").unwrap(), 0);
    assert_eq!(topology.calls("DetachNetworkInterface") + topology.calls("UnassignPrivateIpAddresses"), 0);
}

#[test]
fn enis_and_addresses_that_ec2_and_imds_leave_out_in_any_combination_are_kept_and_the_difference_is_told() {
    nothing_left_out_is_given_back(&[("WARM_IP_TARGET", "1")], 8, 3);
}

#[test]
fn enis_and_prefixes_that_ec2_and_imds_leave_out_in_any_combination_are_kept_and_the_difference_is_told() {
    let prefixes = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];
    nothing_left_out_is_given_back(&prefixes, 60, 2);
}
