// SPDX-License-Identifier: Apache-2.0
//! Two versions on one node: the plugin of one with the daemon of the other, pods of either ended by the other, the daemon replaced and
//! put back while they talk. `make test-upgrade [REF=…]` builds the earlier version (scripts/previous.sh) and names it in `ENID_PREVIOUS`.
//!
//! Left out of `make test`, which lists them as skipped: before the first release there is no earlier version.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads where the earlier version is")]

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::pass;
use integration::fabric::INTERNET_HOST;
use integration::flows::{Flows, Listening, Path};
use integration::node::Node;
use integration::pods::{self, Pod, one_of_each};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Previous,
    Present,
}

fn previous(program: &str) -> PathBuf {
    let folder = std::env::var_os("ENID_PREVIOUS").expect("ENID_PREVIOUS: run `make test-upgrade`");
    PathBuf::from(folder).join(program)
}

struct Bed {
    topology: Topology,
    far: Pod,
    present: [PathBuf; 2],
}

impl Bed {
    fn build(daemon: Version, environment: &[(&str, &str)]) -> Self {
        let mut spec = TopologySpec::one("m5.large");
        spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
        let mut topology = Topology::build(&spec).unwrap();
        let present = topology.node("n1").programs();
        if daemon == Version::Previous {
            topology.node_mut("n1").use_daemon(&previous("ipamd"));
        }
        topology.start(environment).unwrap();
        let far = pods::start(topology.node("n2"), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0);
        Self { topology, far, present }
    }

    fn use_plugin(&mut self, version: Version) {
        let path = if version == Version::Previous { previous("aws-cni") } else { self.present[1].clone() };
        self.topology.node_mut("n1").use_plugin(&path);
    }

    /// Killed, as a node that is upgraded in a hurry; then the other version starts.
    fn replace_daemon(&mut self, version: Version) {
        let path = if version == Version::Previous { previous("ipamd") } else { self.present[0].clone() };
        let n1 = self.topology.node_mut("n1");
        n1.kill();
        n1.use_daemon(&path);
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        n1.wait_answers(READY).unwrap();
    }

    fn n1(&self) -> &Node {
        self.topology.node("n1")
    }

    fn start(&self, count: usize) -> Vec<Pod> {
        pods::start(self.n1(), count, 4, &AtomicUsize::new(0)).unwrap()
    }

    /// A pod of each ENI talks with a pod of n2 and the internet.
    fn flows(&self, pods: &[Pod]) -> Flows {
        let mut paths = Vec::new();
        for pod in one_of_each(pods) {
            let far =
                [(&self.far.sandbox.netns, self.far.added.address), (self.topology.fabric.internet(), INTERNET_HOST)];
            for (namespace, address) in far {
                let server = Listening::start(namespace, address).unwrap();
                let to = SocketAddrV4::new(address, server.port());
                let name = format!("table {} to {address}", pod.added.table);
                paths.push(Path::open(&name, &pod.sandbox.netns, to, server).unwrap());
            }
        }
        Flows::start(paths)
    }
}

fn assert_whole(flows: Flows) {
    let broken: Vec<_> = flows.end().iter().filter(|tally| !tally.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

fn mixed(environment: &[(&str, &str)]) {
    for (daemon, plugin) in [(Version::Present, Version::Previous), (Version::Previous, Version::Present)] {
        let mut bed = Bed::build(daemon, environment);
        bed.use_plugin(plugin);
        let pods = bed.start(12);
        assert_whole(bed.flows(&pods));
        for pod in &pods {
            assert_eq!(
                pod.reached_from(&bed.far.sandbox.netns).unwrap(),
                bed.far.added.address,
                "{daemon:?}, {plugin:?}"
            );
        }
        let other = if plugin == Version::Present { Version::Previous } else { Version::Present };
        bed.use_plugin(other);
        pods::end(bed.n1(), pods, 4).unwrap();
        assert_eq!(
            bed.n1().number("/pool/allocated").unwrap(),
            0,
            "{daemon:?} and pods of {plugin:?} ended by {other:?}"
        );
        let left = bed.n1().leftovers().unwrap().of_pods();
        assert!(left.rules.is_empty() && left.routes.is_empty(), "{daemon:?}, {plugin:?}: {left}");
    }
}

#[test]
#[ignore = "needs an earlier version: make test-upgrade"]
fn the_plugin_of_either_version_works_with_the_daemon_of_the_other() {
    mixed(&[]);
}

#[test]
#[ignore = "needs an earlier version: make test-upgrade"]
fn the_same_inside_prefixes() {
    mixed(&[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")]);
}

/// There, back and there again, with pods of either version alive.
#[test]
#[ignore = "needs an earlier version: make test-upgrade"]
fn the_daemon_is_replaced_and_put_back_under_live_pods_that_lose_nothing() {
    let mut bed = Bed::build(Version::Previous, &[]);
    bed.use_plugin(Version::Previous);
    let mut pods = bed.start(12);
    let flows = bed.flows(&pods);
    for version in [Version::Present, Version::Previous, Version::Present] {
        bed.replace_daemon(version);
        bed.use_plugin(version);
        assert_eq!(bed.n1().number("/pool/allocated").unwrap(), pods.len() as u64, "{version:?}");
        pods.extend(bed.start(2));
        pass(Duration::from_secs(1));
    }
    assert_whole(flows);
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), pods.len(), "an address was given twice");
    pods::end(bed.n1(), pods, 4).unwrap();
    assert_eq!(bed.n1().number("/pool/allocated").unwrap(), 0);
}
