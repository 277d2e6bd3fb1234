// SPDX-License-Identifier: Apache-2.0
//! What an instance takes: a type that nobody knows, several network cards and EFA-only ENIs, and fewer ENIs on request.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::pods;
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use vpc_model::{Fault, InterfaceSpec, InterfaceType};

/// Pods that an m5.large has addresses for on its primary ENI.
const PRIMARY: usize = 9;

fn one(node: NodeSpec) -> Topology {
    Topology::build(&TopologySpec { nodes: vec![node], ..TopologySpec::one("m5.large") }).unwrap()
}

fn unknown() -> NodeSpec {
    NodeSpec { limits_of: Some("m5.large".to_owned()), ..NodeSpec::new("n1", "z99.large", Subnet::B) }
}

/// Errors of EC2's that say that something is too much.
fn refusals(topology: &Topology) -> usize {
    topology.emulator.with_model(|vpc, _| {
        let limits = ["AttachmentLimitExceeded", "PrivateIpAddressLimitExceeded"];
        vpc.calls().filter(|call| call.code.as_deref().is_some_and(|code| limits.contains(&code))).count()
    })
}

#[test]
fn a_type_that_nobody_knows_gets_pods_on_its_primary_eni_and_finds_its_limits_out() {
    let mut topology = one(unknown());
    let denied = Fault::always("DescribeInstanceTypes", "UnauthorizedOperation");
    topology.emulator.with_model(|vpc, _| vpc.order_fault(denied));
    topology.start(&[("WARM_IP_TARGET", "1")]).unwrap();
    let started = AtomicUsize::new(0);
    let first = pods::start(topology.node("n1"), PRIMARY, 1, &started).unwrap();
    assert!(first.iter().all(pods::Pod::on_primary), "all of them fit onto the primary ENI");
    // And onto the others, as far as EC2 goes: 3 ENIs of 9.
    let more = pods::start(topology.node("n1"), 2 * PRIMARY, 1, &started).unwrap();
    for pod in first.iter().chain(&more) {
        pod.reached_from(&topology.node("n1").netns).unwrap();
    }
    let found = refusals(&topology);
    assert!((1..=14).contains(&found), "{found} refusals taught it");
    let asked = topology.calls("DescribeInstanceTypes");
    // After 0.25 s, and twice as long each time up to 10 min.
    assert!((1..=12).contains(&asked), "{asked} times asked for what is denied");

    // A restart knows what was learned.
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().and_then(|()| n1.wait_ready(READY)).unwrap();
    let settled = eventually("the node is full, and knows it", Duration::from_secs(20), || {
        let n1 = topology.node("n1");
        let sandbox = n1.next_sandbox().map_err(|error| error.to_string())?;
        let error = n1.runtime.add(&sandbox).map_or_else(|error| error.to_string(), |added| format!("{added:?}"));
        n1.runtime.del(&sandbox, integration::sandbox::NetnsPath::Given).map_err(|error| error.to_string())?;
        if error.contains("NodeFull") { Ok(()) } else { Err(error) }
    });
    settled.unwrap();
    assert!(refusals(&topology) <= found + 1, "{} refusals more", refusals(&topology) - found);
}

fn efa_only(network_card: u8, device_index: u32) -> InterfaceSpec {
    InterfaceSpec {
        network_card,
        device_index,
        interface_type: InterfaceType::EfaOnly,
        subnet: None,
        secondary_addresses: 0,
        tags: Default::default(),
    }
}

/// Fills the primary ENI and a bit of another; the ENIs that the instance was launched with stay as they were.
fn serves_beside(instance_type: &str, launched: Vec<InterfaceSpec>, card_0_max: u64) {
    let node = NodeSpec { network_interfaces: launched, ..NodeSpec::new("n1", instance_type, Subnet::B) };
    let mut topology = one(node);
    let others = |topology: &Topology| -> Vec<String> {
        topology.emulator.with_model(|vpc, _| {
            let odd = vpc.enis().filter(|eni| {
                eni.interface_type != InterfaceType::Interface
                    || eni.attachment().is_some_and(|attachment| attachment.network_card > 0)
            });
            odd.map(|eni| format!("{eni:?}")).collect()
        })
    };
    let before = others(&topology);
    assert!(!before.is_empty());
    topology.start(&[("WARM_IP_TARGET", "1")]).unwrap();
    let n1 = topology.node("n1");
    let counted = eventually("pods are on the default card only", Duration::from_secs(10), || {
        let most = n1.number("/pool/maxEnis").map_err(|error| error.to_string())?;
        if most == card_0_max { Ok(()) } else { Err(format!("{most} ENIs may be had")) }
    });
    counted.unwrap();
    let pods = pods::start(n1, 52, 4, &AtomicUsize::new(0)).unwrap();
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
    let ours: Vec<(u8, u32)> = topology.emulator.with_model(|vpc, _| {
        let attachments =
            vpc.enis().filter(|eni| eni.interface_type == InterfaceType::Interface && eni.primary.is_some());
        let at = attachments.filter_map(|eni| eni.attachment().map(|at| (at.network_card, at.device_index)));
        at.filter(|(card, _)| *card == 0).collect()
    });
    assert_eq!(ours.len(), 2, "the primary ENI and one more: {ours:?}");
    assert_eq!(others(&topology), before);
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().and_then(|()| n1.wait_ready(READY)).unwrap();
    assert_eq!(others(&topology), before, "after a restart");
    assert!(!topology.node_mut("n1").daemon().unwrap().has_ended());
}

#[test]
fn on_four_network_cards_with_efa_only_enis_pods_are_on_the_first_and_the_rest_is_left_alone() {
    let plain = InterfaceSpec { interface_type: InterfaceType::Interface, ..efa_only(3, 2) };
    let launched = vec![efa_only(0, 1), efa_only(1, 1), efa_only(2, 1), efa_only(3, 1), plain];
    serves_beside("p4d.24xlarge", launched, 14);
}

#[test]
fn an_efa_only_eni_of_the_default_card_takes_its_slot_and_nothing_else() {
    serves_beside("c5n.18xlarge", vec![efa_only(0, 3)], 14);
}

/// ENIs and volumes share an instance's places on most types, so ENIs can be capped, and prefixes go first.
#[test]
fn a_cap_on_enis_is_told_and_kept_and_prefixes_fill_attached_enis_before_another_is_attached() {
    let mut topology = one(NodeSpec::new("n1", "m5.large", Subnet::B));
    let prefixes = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1"), ("MAX_ENI", "2")];
    topology.start(&prefixes).unwrap();
    let n1 = topology.node("n1");
    assert_eq!(n1.number("/pool/maxEnis").unwrap(), 2);
    let pods = pods::start(n1, 40, 4, &AtomicUsize::new(0)).unwrap();
    assert!(pods.iter().all(pods::Pod::on_primary), "three prefixes hold them, and the primary ENI takes nine");
    assert_eq!(topology.calls("AttachNetworkInterface"), 0);

    let mut topology = one(NodeSpec::new("n1", "m5.large", Subnet::B));
    topology.start(&[("MAX_ENI", "2"), ("WARM_IP_TARGET", "1")]).unwrap();
    let n1 = topology.node("n1");
    pods::start(n1, 2 * PRIMARY, 3, &AtomicUsize::new(0)).unwrap();
    let sandbox = n1.next_sandbox().unwrap();
    let error = n1.runtime.add(&sandbox).unwrap_err().to_string();
    assert!(error.contains("NodeFull") && error.contains("2 of 2 ENIs"), "{error}");
    assert_eq!(topology.calls("AttachNetworkInterface"), 1);
}
