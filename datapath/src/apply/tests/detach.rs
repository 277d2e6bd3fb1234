// SPDX-License-Identifier: Apache-2.0
//! Detach: by owner, repeatable, and never somebody else's.

use std::net::Ipv4Addr;

use crate::apply::pod::{Detached, attach, detach};
use crate::apply::testbed::{Space, assert_same, pause, pod};
use crate::apply::{garbage, observe};
use crate::plan::ids;
use crate::plan::pod::{PodAttachment, PodDetachment};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

fn of(pod: &PodAttachment) -> PodDetachment {
    PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() }
}

#[test]
fn after_a_detach_only_the_dead_veth_is_left_and_the_namespace_takes_it_along() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let before = node.dump();
    let pod = pod("a", ADDRESS, Some(2));
    attach(&sandbox.path(), &pod).unwrap();
    assert_eq!(detach(&of(&pod)).unwrap(), Detached { addresses: vec![ADDRESS.into()], was_live: true });
    let state = observe::kernel("eni").unwrap();
    assert!(state.ours.is_empty(), "{:?}", state.ours);
    assert_eq!(state.pods.iter().map(|pod| pod.group).collect::<Vec<_>>(), [ids::DEAD_GROUP]);
    drop(sandbox);
    let deadline = (0..200).any(|_| {
        pause(10_000_000);
        node.dump() == before
    });
    assert!(deadline, "{}", node.dump());
}

#[test]
fn a_detach_may_be_repeated_and_may_find_nothing() {
    let (_node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", ADDRESS, Some(2));
    assert_eq!(detach(&of(&pod)).unwrap(), Detached::default());
    attach(&sandbox.path(), &pod).unwrap();
    detach(&of(&pod)).unwrap();
    assert_eq!(detach(&of(&pod)).unwrap(), Detached { addresses: vec![ADDRESS.into()], was_live: false });
    assert!(garbage::delete_dead_group().unwrap());
    assert!(!garbage::delete_dead_group().unwrap());
    assert_eq!(detach(&of(&pod)).unwrap(), Detached::default());
}

#[test]
fn rules_without_a_link_are_removed_by_the_address_given() {
    let (_node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", ADDRESS, Some(2));
    attach(&sandbox.path(), &pod).unwrap();
    _node.ip(&format!("link del {}", pod.host_veth));
    let detachment = PodDetachment { addresses: vec![ADDRESS.into()], ..of(&pod) };
    assert_eq!(detach(&detachment).unwrap(), Detached { addresses: vec![ADDRESS.into()], was_live: false });
    assert!(observe::kernel("eni").unwrap().ours.is_empty());
}

#[test]
fn a_late_detach_does_not_touch_the_successor_of_the_same_name() {
    let (node, old_sandbox, new_sandbox) = (Space::enter_new(), Space::new(), Space::new());
    let old = pod("db-0", ADDRESS, Some(2));
    attach(&old_sandbox.path(), &old).unwrap();
    let new =
        PodAttachment { owner: "aws-cni/new/eth0".to_owned(), ..pod("db-0", Ipv4Addr::new(10, 0, 0, 8), Some(2)) };
    attach(&new_sandbox.path(), &new).unwrap();
    let before = node.dump();
    let late = PodDetachment { addresses: vec![ADDRESS.into()], ..of(&old) };
    assert_eq!(detach(&late).unwrap(), Detached { addresses: vec![ADDRESS.into()], was_live: false });
    assert_same(&before, &node.dump(), "dump");
}

#[test]
fn a_detach_does_not_take_a_re_issued_address_from_its_new_pod() {
    let (node, old_sandbox, new_sandbox) = (Space::enter_new(), Space::new(), Space::new());
    let old = pod("old", ADDRESS, Some(2));
    attach(&old_sandbox.path(), &old).unwrap();
    detach(&of(&old)).unwrap();
    attach(&new_sandbox.path(), &pod("new", ADDRESS, Some(3))).unwrap();
    let before = node.dump();
    // By the dead link's alias, and by the address given once that link is gone.
    assert_eq!(detach(&of(&old)).unwrap(), Detached::default());
    assert_same(&before, &node.dump(), "dump");
    node.ip(&format!("link del {}", old.host_veth));
    let before = node.dump();
    assert_eq!(detach(&PodDetachment { addresses: vec![ADDRESS.into()], ..of(&old) }).unwrap(), Detached::default());
    assert_same(&before, &node.dump(), "dump");
}

#[test]
fn a_pod_of_the_reference_is_taken_down_by_its_address() {
    let node = Space::enter_new();
    let pod = pod("a", ADDRESS, Some(2));
    node.ip(&format!("link add {} type veth peer name far", pod.host_veth));
    node.ip(&format!("link set {} up", pod.host_veth));
    node.ip(&format!("route add {ADDRESS}/32 dev {} scope link", pod.host_veth));
    node.ip(&format!("rule add priority 512 to {ADDRESS} lookup main"));
    node.ip(&format!("rule add priority 1536 from {ADDRESS} lookup 2"));
    // Without an address nothing proves that the link is this sandbox's.
    assert_eq!(detach(&of(&pod)).unwrap(), Detached::default());
    assert!(node.ip("rule").contains("10.0.0.7"));
    let detachment = PodDetachment { addresses: vec![ADDRESS.into()], ..of(&pod) };
    assert_eq!(detach(&detachment).unwrap(), Detached { addresses: vec![ADDRESS.into()], was_live: true });
    assert!(!node.ip("rule").contains("10.0.0.7"));
    assert!(!node.ip("-4 route show table main").contains("10.0.0.7"));
    assert!(node.ip("-d link show").contains("group 57005"));
}

#[test]
fn rules_of_both_protocols_go() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = pod("a", ADDRESS, Some(2));
    node.ip(&format!("rule add priority 512 to {ADDRESS} lookup main"));
    attach(&sandbox.path(), &pod).unwrap();
    node.ip(&format!("rule add priority 1536 from {ADDRESS} lookup 2"));
    node.ip(&format!("rule add priority 1536 from {ADDRESS} lookup 9"));
    detach(&of(&pod)).unwrap();
    assert_eq!(node.ip("rule").lines().count(), 3);
}

#[test]
fn the_garbage_group_holds_dead_pods_only() {
    let (_node, dead_sandbox, sandbox) = (Space::enter_new(), Space::new(), Space::new());
    let dead = pod("dead", ADDRESS, Some(2));
    attach(&dead_sandbox.path(), &dead).unwrap();
    attach(&sandbox.path(), &pod("living", Ipv4Addr::new(10, 0, 0, 8), Some(2))).unwrap();
    detach(&of(&dead)).unwrap();
    assert!(garbage::delete_dead_group().unwrap());
    let state = observe::kernel("eni").unwrap();
    assert_eq!(
        state.pods.iter().map(|pod| pod.host_routes.clone()).collect::<Vec<_>>(),
        [[Ipv4Addr::new(10, 0, 0, 8)]]
    );
}
