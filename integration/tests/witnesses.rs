// SPDX-License-Identifier: Apache-2.0
//! Whatever IMDS or EC2 leave out, nothing that a living pod has is given back.
//!
//! The reference takes a missing entry of IMDS for a detached ENI, and has released addresses of running pods for it
//! (amazon-vpc-cni-k8s #1967, #3877). Here nothing goes without three witnesses: journal, kernel, and a fresh EC2 read.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::pass;
use integration::pods::{self, Pod};
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::ImdsFault;

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
