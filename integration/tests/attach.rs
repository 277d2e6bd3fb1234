// SPDX-License-Identifier: Apache-2.0
//! ENIs that attach late, or never.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{Topology, TopologySpec};
use vpc_model::{AttachFault, AttachFaultKind};

/// Pods that the primary ENI of an m5.large has addresses for.
const PRIMARY: usize = 9;

fn order(topology: &Topology, kind: AttachFaultKind) {
    topology.emulator.with_model(|vpc, _| vpc.order_attach_fault(AttachFault { instance: None, count: None, kind }));
}

#[test]
fn an_add_waits_for_an_eni_whose_link_is_four_seconds_late_and_no_pod_of_the_others_waits_with_it() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    order(&topology, AttachFaultKind::LateLink(4_000));
    topology.start(&[]).unwrap();
    let n1 = topology.node("n1");
    let first = pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).unwrap();
    let slowest = first.iter().map(|pod| pod.added.took).max().unwrap();
    assert!(slowest < Duration::from_secs(3), "the primary ENI's pods waited {slowest:?}");

    let more = pods::start(n1, 3, 3, &AtomicUsize::new(0)).unwrap();
    let facts = topology.instance("n1").unwrap();
    for pod in &more {
        assert!(!pod.on_primary());
        assert_eq!(pod.reached_from(&n1.netns).unwrap(), facts.address);
    }
    n1.check().unwrap();
}

#[test]
fn an_eni_whose_link_never_comes_costs_its_waiters_a_refusal_with_a_reason_and_nobody_else_anything() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    order(&topology, AttachFaultKind::NoLink);
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let n1 = topology.node("n1");
    let mut first = pods::start(n1, PRIMARY, 3, &AtomicUsize::new(0)).unwrap();

    let sandbox = n1.sandbox("unlucky").unwrap();
    let error = n1.runtime.add(&sandbox).unwrap_err();
    let refused = error.refusal().unwrap();
    assert_eq!(refused.code, 11, "{refused}");
    let text = refused.to_string();
    assert!(text.contains("EniPending") || text.contains("EniStuck"), "{text}");
    assert!(
        refused.took < Duration::from_secs(20),
        "the reason comes before the budget of 20 s ends: {:?}",
        refused.took
    );
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), PRIMARY as u64);
    assert_eq!(n1.number("/pool/waiters").unwrap(), 0);
    for pod in &first {
        pod.reached_from(&n1.netns).unwrap();
    }

    // What a pod gives back is served, whatever becomes of the ENI: it is given up and replaced after minutes only, because
    // links have been seen to come that late (amazon-ecs-agent #1520).
    let freed = first.pop().unwrap();
    n1.runtime.del(&freed.sandbox, NetnsPath::Given).unwrap();
    let sandbox = n1.next_sandbox().unwrap();
    assert_eq!(n1.runtime.add(&sandbox).unwrap().address, freed.added.address);
}
