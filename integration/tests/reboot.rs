// SPDX-License-Identifier: Apache-2.0
//! A node after a reboot: state folder empty, kernel blank, links called otherwise and the wrong way round, old sandboxes still
//! listed by the runtime, and IMDS or EC2 showing a part of the ENIs for a minute.
//!
//! New pods are served within 5 s; every ENI stays; nothing is given back.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the clock"
)]

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::NetnsPath;
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use vpc_model::{EniId, Hidden};

/// Pods before: on all three ENIs of an m5.large.
const OLD: usize = 20;
const TAKING: [&str; 3] = ["UnassignPrivateIpAddresses", "DetachNetworkInterface", "DeleteNetworkInterface"];

/// Who shows a part only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partial {
    Imds,
    ImdsAndEc2,
}

/// Links of secondary ENIs as udev may leave them after a boot: down, without addresses, names swapped.
fn boot_links(topology: &Topology) {
    let n1 = topology.node("n1");
    let links = topology.world.tools.ip_json(&n1.netns, &["link", "show"]).unwrap();
    let secondary = topology.enis("n1").unwrap().split_off(1);
    let macs: Vec<String> = topology.emulator.with_model(|vpc, _| {
        secondary.iter().map(|eni| vpc.eni(&EniId(eni.id.clone())).unwrap().mac.to_string()).collect()
    });
    let names: Vec<String> = links
        .as_array()
        .unwrap()
        .iter()
        .filter(|link| macs.iter().any(|mac| link["address"].as_str() == Some(mac)))
        .map(|link| link["ifname"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 2, "{links}");
    for name in &names {
        n1.ip(&format!("address flush dev {name}\nlink set {name} down\nlink set {name} name was-{name}\n")).unwrap();
    }
    for (name, other) in names.iter().zip(names.iter().rev()) {
        n1.ip(&format!("link set was-{name} name {other}\n")).unwrap();
    }
}

fn enis(topology: &Topology) -> BTreeSet<String> {
    topology.enis("n1").unwrap().into_iter().map(|eni| eni.id).collect()
}

fn reboot(topology: &mut Topology, old: &[Pod]) {
    let n1 = topology.node_mut("n1");
    n1.kill();
    for pod in old {
        n1.ip(&format!("link delete {}\n", pod.added.host_veth)).unwrap();
    }
    n1.ask(&["cleanup-host"]).unwrap();
    n1.lose_state().unwrap();
    boot_links(topology);
}

fn hide(topology: &Topology, partial: Partial, ids: &BTreeSet<String>) {
    let hidden = Hidden { enis: ids.iter().map(|id| EniId(id.clone())).collect(), ..Hidden::default() };
    topology.emulator.with_model(|vpc, _| {
        vpc.hide_from_imds(hidden.clone());
        vpc.hide_from_describe(if partial == Partial::ImdsAndEc2 { hidden } else { Hidden::default() });
    });
}

fn reached_from_afar(topology: &Topology, pods: &[Pod]) {
    let n2 = topology.node("n2");
    for pod in pods {
        pod.reached_from(&n2.netns).unwrap_or_else(|error| panic!("{}: {error}", pod.added.address));
    }
}

fn nothing_taken(n1: &Node, topology: &Topology, before: &BTreeSet<String>) {
    for action in TAKING {
        let on_ours = topology.emulator.with_model(|vpc, _| {
            let names_ours = |value: &String| before.contains(value);
            vpc.calls()
                .filter(|call| call.action == action && call.parameters.iter().any(|(_, v)| names_ours(v)))
                .count()
        });
        assert_eq!(on_ours, 0, "{action} was called:\n{}", integration::process::tail(&n1.log(), 20));
    }
    assert!(enis(topology).is_superset(before), "{before:?}, now {:?}", enis(topology));
}

fn comes_back(partial: Partial) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    let n1 = topology.node_mut("n1");
    n1.set("WARM_IP_TARGET", "1");
    n1.set("MINIMUM_IP_TARGET", "27");
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let old = pods::start(n1, OLD, 6, &AtomicUsize::new(0)).unwrap();
    let before = enis(&topology);
    assert_eq!(before.len(), 3);
    pass(Duration::from_secs(2));

    reboot(&mut topology, &old);
    let primary = topology.enis("n1").unwrap()[0].id.clone();
    let secondary: BTreeSet<String> = before.iter().filter(|id| **id != primary).cloned().collect();
    hide(&topology, partial, &secondary);
    let began = Instant::now();
    topology.node_mut("n1").start().unwrap();
    let n1 = topology.node("n1");
    n1.wait_ready(READY).unwrap();
    let mut young = pods::start(n1, 5, 2, &AtomicUsize::new(0)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "new pods took {:?}", began.elapsed());
    reached_from_afar(&topology, &young);
    // The runtime lists its old sandboxes, and ends them.
    for pod in &old {
        topology.node("n1").runtime.del(&pod.sandbox, NetnsPath::Empty).unwrap();
    }
    assert_eq!(topology.node("n1").number("/pool/allocated").unwrap(), 5);
    while began.elapsed() < Duration::from_secs(60) {
        pass(Duration::from_secs(5));
        nothing_taken(topology.node("n1"), &topology, &before);
    }
    hide(&topology, partial, &BTreeSet::new());
    if partial == Partial::ImdsAndEc2 {
        // Noticed with the next read; a restart is one.
        topology.node_mut("n1").kill();
        topology.node_mut("n1").start().unwrap();
    }
    let whole = eventually("all three ENIs serve", Duration::from_secs(30), || {
        match topology.node("n1").number("/pool/free") {
            Ok(free) if free + 5 == 27 => Ok(()),
            other => Err(format!("{other:?} free")),
        }
    });
    whole.unwrap();
    young.extend(pods::start(topology.node("n1"), 22, 6, &AtomicUsize::new(5)).unwrap());
    reached_from_afar(&topology, &young);
    nothing_taken(topology.node("n1"), &topology, &before);
}

#[test]
fn after_a_reboot_with_a_partial_imds_new_pods_come_at_once_and_every_eni_stays() {
    comes_back(Partial::Imds);
}

#[test]
fn after_a_reboot_with_a_partial_imds_and_a_partial_ec2_new_pods_come_at_once_and_every_eni_stays() {
    comes_back(Partial::ImdsAndEc2);
}
