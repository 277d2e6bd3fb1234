// SPDX-License-Identifier: Apache-2.0
//! ADDs and DELs that get in each other's way: twice for one sandbox, given up, crossed.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::sandbox::{NetnsPath, SandboxError};
use integration::topology::{Latency, Topology, TopologySpec};

/// Pods that the primary ENI of an m5.large has addresses for.
const PRIMARY: usize = 9;

/// A node whose primary ENI is full and whose next ENI takes 3 s: an ADD waits.
fn waiting_room() -> (Topology, Vec<Pod>) {
    let mut spec = TopologySpec::one("m5.large");
    spec.latency = Latency { attach: Duration::from_secs(3), ..Latency::default() };
    let mut topology = Topology::build(&spec).expect("a topology");
    topology.start(&[("WARM_ENI_TARGET", "0")]).expect("a daemon that is ready");
    let pods = pods::start(topology.node("n1"), PRIMARY, 3, &AtomicUsize::new(0)).expect("pods on the primary ENI");
    (topology, pods)
}

fn waiters(node: &Node, wanted: u64) {
    let there = eventually("the ADD waits", Duration::from_secs(2), || match node.number("/pool/waiters") {
        Ok(waiters) if waiters == wanted => Ok(()),
        other => Err(format!("{other:?} waiters")),
    });
    there.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_second_add_for_a_sandbox_gets_the_same_address_and_the_pod_works() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    let sandbox = n1.sandbox("twice").unwrap();
    let first = n1.runtime.add(&sandbox).unwrap();
    match n1.runtime.add(&sandbox) {
        Ok(second) => assert_eq!(second.address, first.address),
        // The pod's link is there already: a plugin may say so, if it leaves the pod alone.
        Err(error) => assert!(error.refusal().is_some(), "{error}"),
    }
    let pod = Pod { sandbox, added: first };
    pod.reached_from(&n1.netns).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 1);
    n1.runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
}

#[test]
fn two_adds_for_one_sandbox_at_once_take_one_address_and_one_del_leaves_nothing() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    for round in 0..5 {
        let sandbox = n1.sandbox(&format!("both-{round}")).unwrap();
        let answers = std::thread::scope(|scope| {
            let adds = [0, 1].map(|_| scope.spawn(|| n1.runtime.add(&sandbox)));
            adds.map(|add| add.join().unwrap())
        });
        let addresses: Vec<_> =
            answers.iter().filter_map(|answer| answer.as_ref().ok()).map(|added| added.address).collect();
        assert!(!addresses.is_empty(), "{answers:?}");
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        assert!(answers.iter().all(|answer| !matches!(answer, Err(SandboxError::Broken { .. }))), "{answers:?}");
        assert_eq!(n1.number("/pool/allocated").unwrap(), 1);
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
    }
    let gone = eventually("nothing of a pod is left", Duration::from_secs(10), || {
        let left = n1.leftovers().unwrap().of_pods();
        if left.is_empty() { Ok(()) } else { Err(left.to_string()) }
    });
    gone.unwrap();
}

#[test]
fn an_add_whose_caller_was_killed_while_it_waited_takes_no_address() {
    let (topology, _pods) = waiting_room();
    let n1 = topology.node("n1");
    let sandbox = n1.sandbox("given-up").unwrap();
    let add = n1.runtime.begin_add(&sandbox).unwrap();
    waiters(n1, 1);
    add.kill().unwrap();
    waiters(n1, 0);
    // The ENI that was asked for comes; nobody waits for it.
    pass(Duration::from_secs(4));
    assert_eq!(n1.number("/pool/allocated").unwrap(), PRIMARY as u64);
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), PRIMARY as u64);
}

#[test]
fn adds_killed_at_any_moment_leave_nothing_after_the_del_that_follows() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "0")]).unwrap();
    let n1 = topology.node("n1");
    pods::start(n1, 1, 1, &AtomicUsize::new(0)).and_then(|pods| pods::end(n1, pods, 1)).unwrap();
    for round in 0..30 {
        let sandbox = n1.next_sandbox().unwrap();
        let add = n1.runtime.begin_add(&sandbox).unwrap();
        pass(Duration::from_millis(round));
        // Later rounds may find it ended: the most usual moment of all.
        let _ = add.kill();
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    }
    let gone = eventually("nothing of a pod is left", Duration::from_secs(10), || {
        let left = n1.leftovers().unwrap().of_pods();
        let allocated = n1.number("/pool/allocated").unwrap();
        if left.is_empty() && allocated == 0 { Ok(()) } else { Err(format!("{left}, {allocated} allocated")) }
    });
    gone.unwrap();
}

#[test]
fn a_del_for_a_waiting_add_ends_the_wait_and_nothing_is_allocated_afterwards() {
    let (topology, _pods) = waiting_room();
    let n1 = topology.node("n1");
    let sandbox = n1.sandbox("crossed").unwrap();
    std::thread::scope(|scope| {
        let add = scope.spawn(|| n1.runtime.add(&sandbox));
        waiters(n1, 1);
        let took = n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}");
        let error = add.join().unwrap().unwrap_err();
        assert!(error.refusal().is_some_and(|refused| refused.took < Duration::from_secs(3)), "{error}");
    });
    pass(Duration::from_secs(4));
    assert_eq!(n1.number("/pool/allocated").unwrap(), PRIMARY as u64);
    assert!(sandbox.address().is_none());
}

#[test]
fn waiting_adds_are_served_in_the_order_in_which_they_came() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("MAX_ENI", "1"), ("IP_COOLDOWN_PERIOD", "2")]).unwrap();
    let n1 = topology.node("n1");
    let mut pods = pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).unwrap();
    let mut freed = Vec::new();
    for pod in pods.drain(..2) {
        n1.runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
        freed.push(pod.added.address);
        pass(Duration::from_millis(400));
    }
    let sandboxes = [0, 1].map(|number| n1.sandbox(&format!("queue-{number}")).unwrap());
    let served = std::thread::scope(|scope| {
        let first = scope.spawn(|| n1.runtime.add(&sandboxes[0]).unwrap().address);
        waiters(n1, 1);
        let second = scope.spawn(|| n1.runtime.add(&sandboxes[1]).unwrap().address);
        waiters(n1, 2);
        [first.join().unwrap(), second.join().unwrap()]
    });
    assert_eq!(served.as_slice(), freed.as_slice(), "the address that cools down first goes to who came first");
}

#[test]
fn dels_that_repeat_or_name_nobody_succeed_quickly_with_and_without_a_daemon() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node_mut("n1");
    let pods = pods::start(n1, 2, 1, &AtomicUsize::new(0)).unwrap();
    let stranger = n1.sandbox("stranger").unwrap();
    for daemon in [true, false] {
        if !daemon {
            n1.kill();
        }
        for (sandbox, netns) in [
            (&stranger, NetnsPath::Given),
            (&pods[0].sandbox, NetnsPath::Given),
            (&pods[0].sandbox, NetnsPath::Given),
            (&pods[0].sandbox, NetnsPath::Empty),
        ] {
            let took = n1.runtime.del(sandbox, netns).unwrap();
            assert!(took < Duration::from_secs(2), "{took:?}, daemon there: {daemon}");
        }
        // The other pod, whose address none of these named, works.
        pods[1].reached_from(&n1.netns).unwrap();
    }
}
