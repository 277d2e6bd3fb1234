// SPDX-License-Identifier: Apache-2.0
//! Pods on every ENI talk whatever rp_filter the host had before Enid came (ip-sysctl.rst: 0 off, 1 strict, 2 loose).
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::SocketAddrV4;
use std::sync::atomic::AtomicUsize;

use integration::fabric::INTERNET_HOST;
use integration::node::RpFilter;
use integration::pods;
use integration::probe::{EchoServer, reach_both};
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};

fn pods_talk_with(rp_filter: RpFilter) {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    for node in &mut spec.nodes {
        node.rp_filter = rp_filter;
    }
    let mut topology = Topology::build(&spec).unwrap();
    topology.start(&[]).unwrap();
    let near = pods::start(topology.node("n1"), 12, 6, &AtomicUsize::new(0)).unwrap();
    let far = pods::start(topology.node("n2"), 12, 6, &AtomicUsize::new(0)).unwrap();
    let outside = EchoServer::start(topology.fabric.internet()).unwrap();
    let places = |pods: &[pods::Pod]| {
        [true, false].map(|primary| pods.iter().position(|pod| pod.on_primary() == primary).unwrap())
    };
    let hosts = ["n1", "n2"].map(|name| topology.instance(name).unwrap());
    for from in places(&near).map(|at| &near[at]) {
        for to in places(&far).map(|at| &far[at]) {
            assert_eq!(to.reached_from(&from.sandbox.netns).unwrap(), from.added.address);
            assert_eq!(from.reached_from(&to.sandbox.netns).unwrap(), to.added.address);
        }
        assert_eq!(from.reached_from(&topology.node("n1").netns).unwrap(), hosts[0].address);
        assert_eq!(from.reached_from(&topology.node("n2").netns).unwrap(), hosts[1].address);
        let seen = reach_both(&from.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), hosts[0].public_address);
    }
    assert_eq!(topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

#[test]
fn pods_on_every_eni_talk_on_a_host_without_rp_filter() {
    pods_talk_with(RpFilter::Off);
}

#[test]
fn pods_on_every_eni_talk_on_a_host_with_strict_rp_filter() {
    pods_talk_with(RpFilter::Strict);
}

#[test]
fn pods_on_every_eni_talk_on_a_host_with_loose_rp_filter() {
    pods_talk_with(RpFilter::Loose);
}
