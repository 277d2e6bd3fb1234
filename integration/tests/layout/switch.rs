// SPDX-License-Identifier: Apache-2.0
//! The layout of a node with live pods is changed, in both directions, half-way and back: its daemon is started with another
//! `ENID_LAYOUT` while TCP connections and numbered datagrams run on every kind of path. None of them loses anything, and at the
//! end the kernel has exactly the objects of the new layout. So with another mask of marks in place.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::fabric::INTERNET_HOST;
use integration::flows::{Flows, Listening, Path, Tally};
use integration::kube_proxy::{KubeProxy as _, Mode, Policy, Service, StandIn};
use integration::pods::{self, Pod, one_of_each};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::json;

use crate::{PREFIX_MODE, rules, rules_of_classic, rules_of_flat, secondary_enis};

const NODE_PORT: u16 = 30_081;
const HOST_PORT: u16 = 30_082;

/// How long a change may take, on a busy machine.
const CHANGED: Duration = Duration::from_secs(20);

struct Bed {
    topology: Topology,
    pods: Vec<Pod>,
    far: Vec<Pod>,
}

impl Bed {
    /// Of 20 pods of n1 some are on each of its ENIs, and the last one has a host port.
    fn build(instance_type: &str, environment: &[(&str, &str)]) -> (Self, Listening) {
        let mut spec = TopologySpec::one(instance_type);
        spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
        let mut topology = Topology::build(&spec).unwrap();
        topology.start(environment).unwrap();
        let mut pods = pods::start(topology.node("n1"), 19, 6, &AtomicUsize::new(0)).unwrap();
        let far = pods::start(topology.node("n2"), 2, 2, &AtomicUsize::new(0)).unwrap();
        let n1 = topology.node("n1");
        let sandbox = n1.next_sandbox().unwrap();
        let published = Listening::start(&sandbox.netns, Ipv4Addr::UNSPECIFIED).unwrap();
        let mapping =
            |protocol| json!({ "hostPort": HOST_PORT, "containerPort": published.port(), "protocol": protocol });
        let added = n1.runtime.with_ports(json!([mapping("tcp"), mapping("udp")])).add(&sandbox).unwrap();
        pods.push(Pod { sandbox, added });
        assert!(one_of_each(&pods).len() >= 2, "pods of n1 must be on several ENIs");
        assert!(!pods[19].on_primary(), "so must the one with the host port");
        (Self { topology, pods, far }, published)
    }

    fn serve(pod: &Pod) -> (Listening, SocketAddrV4) {
        let server = Listening::start(&pod.sandbox.netns, pod.added.address).unwrap();
        let to = SocketAddrV4::new(pod.added.address, server.port());
        (server, to)
    }

    /// Every kind of path, from and to pods of every ENI of n1.
    fn paths(&self, published: Listening) -> Vec<Path> {
        let topology = &self.topology;
        let [n1, n2] = ["n1", "n2"].map(|name| topology.node(name));
        let facts = topology.instance("n1").unwrap();
        let of_enis = one_of_each(&self.pods);
        let mut paths = Vec::new();
        let mut open = |name: String, from: &_, to, server| paths.push(Path::open(&name, from, to, server).unwrap());
        for (at, pod) in of_enis.iter().enumerate() {
            let (netns, table) = (&pod.sandbox.netns, pod.added.table);
            let (server, to) = Self::serve(of_enis[(at + 1) % of_enis.len()]);
            open(format!("table {table}: to a pod of the next ENI"), netns, to, server);
            let (server, to) = Self::serve(&self.far[at % 2]);
            open(format!("table {table}: to a pod of n2"), netns, to, server);
            let (server, to) = Self::serve(pod);
            open(format!("table {table}: from a pod of n2"), &self.far[0].sandbox.netns, to, server);
            let (server, to) = Self::serve(pod);
            open(format!("table {table}: from its node"), &n1.netns, to, server);
            let server = Listening::start(topology.fabric.internet(), INTERNET_HOST).unwrap();
            let to = SocketAddrV4::new(INTERNET_HOST, server.port());
            open(format!("table {table}: to the internet"), netns, to, server);
        }
        let on_secondary = of_enis.iter().find(|pod| !pod.on_primary()).unwrap();
        let services: Vec<_> = [Policy::Local, Policy::Cluster]
            .into_iter()
            .zip([NODE_PORT, NODE_PORT + 10])
            .map(|(policy, port)| (Self::serve(on_secondary), policy, port))
            .collect();
        let service = |((_, to), policy, port): &((Listening, SocketAddrV4), Policy, u16)| Service {
            address: Ipv4Addr::new(172, 20, 0, u8::try_from(port % 100).unwrap()),
            port: 80,
            node_port: Some((*port, *policy)),
            endpoints: vec![(*to, true)],
        };
        let listed: Vec<Service> = services.iter().map(service).collect();
        StandIn::new(&topology.world.tools, &n1.netns, Mode::Nftables).sync(&listed).unwrap();
        for ((server, _), policy, port) in services {
            let (from, address) = match policy {
                Policy::Local => (topology.fabric.internet(), facts.public_address.unwrap()),
                Policy::Cluster => (&n2.netns, facts.address),
            };
            open(format!("node port, {policy:?}"), from, SocketAddrV4::new(address, port), server);
        }
        open("host port".to_owned(), &n2.netns, SocketAddrV4::new(facts.address, HOST_PORT), published);
        paths
    }

    /// The daemon of n1 with another layout, until that is so everywhere.
    fn change(&mut self, layout: &str, mask: &str, rules_then: impl Fn(&Self) -> usize) {
        let n1 = self.topology.node_mut("n1");
        assert!(n1.stop());
        n1.set("ENID_LAYOUT", layout);
        n1.set("ENID_ENI_MARK_MASK", mask);
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        let (n1, wanted) = (self.topology.node("n1"), rules_then(self));
        let changed = eventually("the pods have changed over", CHANGED, || {
            let rules = rules(&self.topology, n1);
            if rules.len() == wanted { Ok(()) } else { Err(format!("{} rules, not {wanted}: {rules:?}", rules.len())) }
        });
        changed.unwrap_or_else(|error| panic!("{layout}: {error}\n{}", integration::process::tail(&n1.log(), 20)));
        // The new layout carries traffic for a while, and the looks that follow find nothing to do.
        pass(Duration::from_secs(2));
    }

    /// All of ours on n1, sorted.
    fn objects(&self) -> Vec<String> {
        let found = self.topology.node("n1").leftovers().unwrap();
        let mut all =
            [found.rules, found.routes, found.links, found.neighbours, found.addresses, found.tables].concat();
        all.sort();
        all
    }
}

fn classic(bed: &Bed) -> usize {
    rules_of_classic(&bed.topology, "n1", &bed.pods)
}

fn flat(bed: &Bed) -> usize {
    rules_of_flat(&bed.topology, "n1")
}

/// With a mask that has room for one ENI's mark: pods of the other one keep their two rules, and it has no rule of its own. None of
/// them has one for its answers.
fn both(bed: &Bed) -> usize {
    let with_rules = bed.pods.iter().filter(|pod| pod.added.table == 3).count();
    assert!(with_rules > 0, "a third ENI");
    flat(bed) - 1 - secondary_enis(&bed.topology, "n1") + 2 * with_rules
}

/// With such a mask.
fn classic_without_answers(bed: &Bed) -> usize {
    classic(bed) - secondary_enis(&bed.topology, "n1")
}

/// From classic to flat, back, and to flat again: each time exactly what that layout had before.
fn to_and_fro(bed: &mut Bed, as_classic: &[String]) {
    bed.change("flat", WHOLE, flat);
    let as_flat = bed.objects();
    bed.change("classic", WHOLE, classic);
    assert_eq!(bed.objects(), as_classic);
    bed.change("flat", WHOLE, flat);
    assert_eq!(bed.objects(), as_flat);
}

#[expect(clippy::print_stdout, reason = "how much was sent belongs to the result")]
fn assert_nothing_lost(bed: &Bed, tallies: &[Tally]) {
    for tally in tallies {
        println!("{tally}");
    }
    assert!(tallies.iter().all(|tally| tally.sent > 500), "too few datagrams to tell");
    let broken: Vec<_> = tallies.iter().filter(|tally| !tally.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(bed.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
}

/// The whole mask, another one, and one bit only: the bits of ENIs' marks.
const WHOLE: &str = "0x7f";
const OTHER: &str = "0x7f00000";
const ONE_ENI: &str = "0x1000";

#[test]
fn pods_with_single_addresses_change_layouts_to_and_fro_and_stop_half_way_without_losing_a_packet() {
    let environment = [("ENID_LAYOUT", "classic"), ("MINIMUM_IP_TARGET", "27")];
    let (mut bed, published) = Bed::build("m5.large", &environment);
    let as_classic = bed.objects();
    let flows = Flows::start(bed.paths(published));
    bed.change("flat", ONE_ENI, both);
    bed.change("classic", ONE_ENI, classic_without_answers);
    let without_answers: Vec<_> = as_classic.iter().filter(|object| !object.starts_with("1025:")).cloned().collect();
    assert_eq!(bed.objects(), without_answers);
    to_and_fro(&mut bed, &as_classic);
    // In place: the same network by other bits.
    let marked = |bed: &Bed, mask| {
        let by_mask = format!("\"fwmask\":\"{mask}\"");
        rules(&bed.topology, bed.topology.node("n1")).iter().filter(|rule| rule.contains(&by_mask)).count()
    };
    let by_whole = marked(&bed, WHOLE);
    bed.change("flat", OTHER, flat);
    assert_eq!((marked(&bed, WHOLE), marked(&bed, OTHER)), (0, by_whole));
    assert!(by_whole > 1, "two ENIs' marks");
    assert_nothing_lost(&bed, &flows.end());
}

#[test]
fn pods_inside_prefixes_change_layouts_to_and_fro_without_losing_a_packet() {
    // t3.micro: 2 ENIs with a prefix each.
    let environment: Vec<_> = [("ENID_LAYOUT", "classic")].into_iter().chain(PREFIX_MODE.iter().copied()).collect();
    let (mut bed, published) = Bed::build("t3.micro", &environment);
    let as_classic = bed.objects();
    let flows = Flows::start(bed.paths(published));
    to_and_fro(&mut bed, &as_classic);
    assert_nothing_lost(&bed, &flows.end());
}

/// A node that begins with the default, flat: its pods and those of a later classic live side by side, and all reach all.
#[test]
fn pods_made_during_a_change_are_in_the_layout_of_their_daemon() {
    let (mut bed, _published) = Bed::build("m5.large", &[("ENID_LAYOUT", "flat"), ("MINIMUM_IP_TARGET", "27")]);
    bed.change("classic", WHOLE, classic);
    let later = pods::start(bed.topology.node("n1"), 3, 3, &AtomicUsize::new(0)).unwrap();
    bed.pods.extend(later);
    assert_eq!(rules(&bed.topology, bed.topology.node("n1")).len(), classic(&bed));
    bed.change("flat", WHOLE, flat);
    crate::all_reach_all(&bed.topology, &bed.pods, &bed.far);
}
