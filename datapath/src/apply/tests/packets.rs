// SPDX-License-Identifier: Apache-2.0
//! Real packets through the set-up of one node.
//!
//! ```text
//!  pod 10.0.1.7 ─┐        eth0 10.0.0.10 ── r0 10.0.0.1 ┐
//!  pod 10.0.0.8 ─┤ node                                 router ── inet0 198.51.100.1 ── internet 198.51.100.9
//!                └        eth1 10.0.1.20 ── r1 10.0.1.1 ┘
//! ```
//! The router checks sources as a VPC does (rp_filter strict): what comes in by the wrong ENI dies. It knows pods by
//! permanent neighbours only, since nodes do not answer ARP for them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::apply::pod::{attach, detach};
use crate::apply::testbed::{Space, pod, settle};
use crate::apply::{eni, host};
use crate::plan::eni::{EniSetup, Steering};
use crate::plan::host::{Families, HostSetup, Layout, PortChoice, PortRange};
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodDetachment, PodLayout};
use crate::plan::{answers, ids, marks};

const PRIMARY_MAC: &str = "02:00:0a:00:00:0a";
const SECONDARY_MAC: &str = "02:00:0a:00:01:14";

/// How the pods of a test are plumbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Classic,
    /// Flat, single addresses: by mark.
    Mark,
    /// Flat, inside a prefix.
    Prefix,
}

impl Way {
    pub(super) fn layout(self) -> Layout {
        if self == Self::Classic { Layout::Classic } else { Layout::Flat }
    }

    /// A pod at 10.0.1.7, on the secondary ENI.
    pub(super) fn on_secondary(self, name: &str) -> PodAttachment {
        let group = if self == Self::Mark { Place::new(0, 1).unwrap().group().unwrap() } else { ids::DEFAULT_GROUP };
        self.plumbed(pod(name, Ipv4Addr::new(10, 0, 1, 7), Some(2)), group)
    }

    /// A pod at 10.0.0.8, on the primary ENI.
    pub(super) fn on_primary(self, name: &str) -> PodAttachment {
        self.plumbed(pod(name, Ipv4Addr::new(10, 0, 0, 8), None), ids::DEFAULT_GROUP)
    }

    fn plumbed(self, pod: PodAttachment, group: u32) -> PodAttachment {
        match self.layout() {
            Layout::Classic => pod,
            Layout::Flat => PodAttachment { layout: PodLayout::Flat { table: ids::POD_TABLE, group }, ..pod },
        }
    }

    /// The ENI, steered by nothing but what this way needs.
    pub(super) fn eni(self) -> EniSetup {
        let mark = marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 1).unwrap()).filter(|_| self == Self::Mark);
        let prefixes = if self == Self::Prefix { vec!["10.0.1.0/28".parse().unwrap()] } else { Vec::new() };
        let steering = (self.layout() == Layout::Flat).then_some(Steering { mark, prefixes });
        EniSetup { steering, ..eni_setup() }
    }
}

pub(super) struct Net {
    pub(super) node: Space,
    pub(super) router: Space,
    pub(super) internet: Space,
}

impl Net {
    fn new(rp_filter: &str) -> Self {
        let net = Self { node: Space::enter_new(), router: Space::new(), internet: Space::new() };
        let Self { node, router, internet } = &net;
        for space in [router, internet] {
            space.ip("link set lo up");
        }
        for scope in ["all", "default"] {
            node.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), rp_filter);
            router.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "1");
        }
        node.sysctl("ipv4/ip_forward", "0");
        router.sysctl("ipv4/ip_forward", "1");
        node.link("eth0", PRIMARY_MAC, router, "r0");
        node.link("eth1", SECONDARY_MAC, router, "r1");
        router.link("inet0", "02:00:00:00:00:01", internet, "eth0");
        for (space, address, link) in [
            (node, "10.0.0.10/24", "eth0"),
            (router, "10.0.0.1/24", "r0"),
            (router, "10.0.1.1/24", "r1"),
            (router, "198.51.100.1/24", "inet0"),
            (internet, "198.51.100.9/24", "eth0"),
        ] {
            space.ip(&format!("addr add {address} dev {link}"));
        }
        node.ip("route add default via 10.0.0.1");
        // Only NATed addresses are known outside: pods' own are not answered.
        internet.ip("route add 10.0.0.10/32 via 198.51.100.1");
        router.ip(&format!("neigh replace 10.0.0.8 lladdr {PRIMARY_MAC} dev r0 nud permanent"));
        router.ip(&format!("neigh replace 10.0.1.7 lladdr {SECONDARY_MAC} dev r1 nud permanent"));
        host::setup(&host_setup()).unwrap();
        eni::setup(&eni_setup()).unwrap();
        net
    }

    pub(super) fn plumbed_by(rp_filter: &str, way: Way) -> Self {
        let net = Self::new(rp_filter);
        host::setup(&HostSetup { layout: way.layout(), ..host_setup() }).unwrap();
        eni::setup(&way.eni()).unwrap();
        net
    }
}

pub(super) fn host_setup() -> HostSetup {
    HostSetup {
        primary_mac: PRIMARY_MAC.parse().unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 0, 10),
        vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
        exclude_cidrs: Vec::new(),
        include_cidrs: Vec::new(),
        external_service_cidrs: Vec::new(),
        external_snat: false,
        serves_node_ports: true,
        port_choice: PortChoice::Prng,
        port_range: None,
        connmark: ids::DEFAULT_CONNMARK,
        external_mtu: None,
        families: Families::V4,
        disables_early_demux: false,
        notrack: false,
        veth_prefix: "eni".to_owned(),
        mtu: 1500,
        layout: Layout::Classic,
        eni_mark_mask: ids::DEFAULT_ENI_MARK_MASK,
    }
}

fn eni_setup() -> EniSetup {
    EniSetup {
        mac: SECONDARY_MAC.parse().unwrap(),
        place: Place::new(0, 1).unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 1, 20),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: 1500,
        steering: None,
        answers: answers::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 1).unwrap()),
        ipv6: false,
    }
}

/// Sends from one socket to the other and back twice; gives the source that the far end saw.
pub(super) fn exchange(from: &UdpSocket, to: &UdpSocket, target: &str) -> io::Result<SocketAddr> {
    let mut buffer = [0; 16];
    let mut seen = None;
    // Twice: nat chains see the first packet of a connection only.
    for payload in [b"one", b"two"] {
        from.send_to(payload, target)?;
        let (length, source) = to.recv_from(&mut buffer)?;
        assert_eq!(&buffer[..length], payload);
        assert_eq!(*seen.get_or_insert(source), source);
        to.send_to(b"back", source)?;
        let (length, answerer) = from.recv_from(&mut buffer)?;
        assert_eq!(&buffer[..length], b"back");
        assert_eq!(answerer.to_string(), target);
    }
    seen.ok_or_else(|| io::Error::other("nothing was sent"))
}

fn all_ways(rp_filter: &str) {
    for way in [Way::Classic, Way::Mark, Way::Prefix] {
        // Namespaces of their own: a thread each.
        std::thread::scope(|scope| scope.spawn(|| all_ways_of(rp_filter, way, way)).join().unwrap());
    }
}

/// Every direction, for a pod on each ENI that are plumbed so.
fn all_ways_of(rp_filter: &str, secondary: Way, primary: Way) {
    let net = Net::plumbed_by(rp_filter, if secondary == Way::Classic { primary } else { secondary });
    let (on_secondary, on_primary) = (Space::new(), Space::new());
    attach(&on_secondary.path(), &secondary.on_secondary("s")).unwrap();
    settle(&on_secondary);
    attach(&on_primary.path(), &primary.on_primary("p")).unwrap();
    settle(&on_primary);
    let secondary = on_secondary.udp("0.0.0.0:7001");
    let primary = on_primary.udp("0.0.0.0:7002");
    let node = net.node.udp("10.0.0.10:7003");
    let router = net.router.udp("10.0.1.1:7004");
    // The subnet of the other ENI, which main knows: a secondary ENI's pod must not take that way.
    let other_router = net.router.udp("10.0.0.1:7007");
    let internet = net.internet.udp("198.51.100.9:7005");
    let source = |result: io::Result<SocketAddr>| result.unwrap().ip().to_string();

    for (name, socket, own) in [("secondary", &secondary, "10.0.1.7:7001"), ("primary", &primary, "10.0.0.8:7002")] {
        let own_ip = own.split(':').next().unwrap();
        assert_eq!(source(exchange(socket, &node, "10.0.0.10:7003")), own_ip, "{name} to node");
        assert_eq!(source(exchange(&node, socket, own)), "10.0.0.10", "node to {name}");
        assert_eq!(source(exchange(socket, &internet, "198.51.100.9:7005")), "10.0.0.10", "{name} to internet");
        assert_eq!(source(exchange(socket, &router, "10.0.1.1:7004")), own_ip, "{name} to the VPC");
        assert_eq!(source(exchange(socket, &other_router, "10.0.0.1:7007")), own_ip, "{name} to the primary's subnet");
    }
    assert_eq!(source(exchange(&secondary, &primary, "10.0.0.8:7002")), "10.0.1.7", "pod to pod");
    assert_eq!(source(exchange(&primary, &secondary, "10.0.1.7:7001")), "10.0.0.8", "pod to pod");
    // From the VPC into a pod on a secondary ENI: in by eth1, the answer out by eth1.
    let asker = net.router.udp("10.0.1.1:7006");
    assert_eq!(source(exchange(&asker, &secondary, "10.0.1.7:7001")), "10.0.1.1", "VPC to pod");
}

#[test]
fn a_pod_of_each_layout_live_on_one_node() {
    for (secondary, primary) in [(Way::Classic, Way::Mark), (Way::Mark, Way::Classic), (Way::Classic, Way::Prefix)] {
        std::thread::scope(|scope| scope.spawn(|| all_ways_of("1", secondary, primary)).join().unwrap());
    }
}

#[test]
fn packets_go_all_ways_with_rp_filter_off_at_start() {
    all_ways("0");
}

#[test]
fn packets_go_all_ways_with_rp_filter_strict_at_start() {
    all_ways("1");
}

#[test]
fn packets_go_all_ways_with_rp_filter_loose_at_start() {
    all_ways("2");
}

#[test]
fn without_its_eni_s_rule_a_flat_pod_does_not_reach_the_vpc() {
    // The negative twin: it is that rule that takes its packets to the ENI.
    for way in [Way::Mark, Way::Prefix] {
        let alone = || {
            let net = Net::plumbed_by("0", way);
            let sandbox = Space::new();
            attach(&sandbox.path(), &way.on_secondary("s")).unwrap();
            settle(&sandbox);
            let (pod, router) = (sandbox.udp("0.0.0.0:7001"), net.router.udp("10.0.0.1:7004"));
            net.node.ip("rule del priority 1536");
            assert!(exchange(&pod, &router, "10.0.0.1:7004").is_err(), "{way:?}");
            eni::setup(&way.eni()).unwrap();
            assert_eq!(exchange(&pod, &router, "10.0.0.1:7004").unwrap().ip().to_string(), "10.0.1.7", "{way:?}");
        };
        std::thread::scope(|scope| scope.spawn(alone).join().unwrap());
    }
}

#[test]
fn without_the_mark_rule_a_pod_on_a_secondary_eni_does_not_reach_the_internet() {
    // The negative twin: it is the mark that sends these packets out of the primary ENI.
    let net = Net::new("0");
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    let (pod, internet) = (sandbox.udp("0.0.0.0:7001"), net.internet.udp("198.51.100.9:7005"));
    net.node.ip("rule del priority 1024");
    assert!(exchange(&pod, &internet, "198.51.100.9:7005").is_err());
    host::setup(&host_setup()).unwrap();
    let other = sandbox.udp("0.0.0.0:7009");
    assert_eq!(exchange(&other, &internet, "198.51.100.9:7005").unwrap().ip().to_string(), "10.0.0.10");
}

#[test]
fn only_our_bits_of_the_packet_mark_are_written() {
    let net = Net::new("0");
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    // Somebody else's mark (kube-proxy's, say) on the packet and the connection, set before our chains run.
    net.node.nft_text(
        "table ip other {
            chain before {
                type filter hook prerouting priority -160
                iifname \"eni*\" meta mark set 0x4000 ct mark set 0x20
            }
            chain after {
                type filter hook forward priority 0
                meta mark 0x4080 ct mark 0xa0 counter
            }
        }",
    );
    let (pod, internet) = (sandbox.udp("0.0.0.0:7001"), net.internet.udp("198.51.100.9:7005"));
    pod.send_to(b"one", "198.51.100.9:7005").unwrap();
    internet.recv_from(&mut [0; 8]).unwrap();
    let listing = net.node.nft("list chain ip other after");
    assert!(listing.contains("packets 1"), "{listing}");
}

#[test]
fn a_detached_pod_is_not_heard_even_with_a_re_issued_address() {
    let changes =
        [(Way::Classic, Way::Classic), (Way::Mark, Way::Mark), (Way::Classic, Way::Mark), (Way::Mark, Way::Classic)];
    for (first, then) in changes {
        std::thread::scope(|scope| scope.spawn(|| not_heard_after_detach(first, then)).join().unwrap());
    }
}

fn not_heard_after_detach(first: Way, then: Way) {
    let net = Net::plumbed_by("0", Way::Mark);
    let (old_sandbox, new_sandbox) = (Space::new(), Space::new());
    let old = first.on_secondary("old");
    attach(&old_sandbox.path(), &old).unwrap();
    settle(&old_sandbox);
    let (old_pod, node) = (old_sandbox.udp("0.0.0.0:7001"), net.node.udp("10.0.0.10:7003"));
    exchange(&old_pod, &node, "10.0.0.10:7003").unwrap();
    detach(&PodDetachment { host_veth: old.host_veth, owner: old.owner, addresses: Vec::new() }).unwrap();
    attach(&new_sandbox.path(), &then.on_secondary("new")).unwrap();
    settle(&new_sandbox);
    let new_pod = new_sandbox.udp("0.0.0.0:7001");
    exchange(&new_pod, &node, "10.0.0.10:7003").unwrap();
    old_pod.send_to(b"late", "10.0.0.10:7003").unwrap();
    old_pod.send_to(b"late", "198.51.100.9:7005").unwrap();
    assert!(node.recv_from(&mut [0; 8]).is_err());
    let listing = net.node.nft("list chain ip enid dead_pods");
    assert!(listing.contains("packets 2"), "{listing}");
}

#[test]
fn with_external_snat_pods_keep_their_address_outside() {
    let net = Net::new("0");
    host::setup(&HostSetup { external_snat: true, ..host_setup() }).unwrap();
    net.internet.ip("route add 10.0.1.7/32 via 198.51.100.1");
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    let (pod, internet) = (sandbox.udp("0.0.0.0:7001"), net.internet.udp("198.51.100.9:7005"));
    assert_eq!(exchange(&pod, &internet, "198.51.100.9:7005").unwrap().ip().to_string(), "10.0.1.7");
}

#[test]
fn a_service_whose_endpoint_is_outside_the_vpc_is_reached_from_a_secondary_eni() {
    let net = Net::new("0");
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    // As kube-proxy does for a Service with an endpoint that is no pod.
    net.node.nft_text(
        "table ip proxy {
            chain services {
                type nat hook prerouting priority -100
                ip daddr 172.20.0.10 dnat to 198.51.100.9
            }
        }",
    );
    let (pod, internet) = (sandbox.udp("0.0.0.0:7001"), net.internet.udp("198.51.100.9:7005"));
    assert_eq!(exchange(&pod, &internet, "172.20.0.10:7005").unwrap().ip().to_string(), "10.0.0.10");
}

#[test]
fn the_nodes_own_connections_are_not_translated() {
    // The node speaks with an address that is not the primary ENI's: with the reference it would be hidden.
    let net = Net::new("0");
    net.node.ip("addr add 10.0.0.77/32 dev eth0");
    net.router.ip(&format!("neigh replace 10.0.0.77 lladdr {PRIMARY_MAC} dev r0 nud permanent"));
    net.internet.ip("route add 10.0.0.77/32 via 198.51.100.1");
    let (node, internet) = (net.node.udp("10.0.0.77:7003"), net.internet.udp("198.51.100.9:7005"));
    assert_eq!(exchange(&node, &internet, "198.51.100.9:7005").unwrap().to_string(), "10.0.0.77:7003");
}

#[test]
fn source_ports_are_of_the_range_for_every_choice() {
    let net = Net::new("0");
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    let internet = net.internet.udp("198.51.100.9:7005");
    for port_choice in [PortChoice::Prng, PortChoice::HashRandom, PortChoice::None] {
        let port_range = Some(PortRange { first: 20_000, last: 20_031 });
        host::setup(&HostSetup { port_choice, port_range, ..host_setup() }).unwrap();
        for _ in 0..8 {
            let pod = sandbox.udp("0.0.0.0:0");
            let seen = exchange(&pod, &internet, "198.51.100.9:7005").unwrap();
            assert!((20_000..=20_031).contains(&seen.port()), "{port_choice:?}: {seen}");
        }
    }
}

#[test]
fn what_is_not_included_keeps_the_pods_address_and_its_own_eni() {
    let net = Net::new("0");
    net.internet.ip("addr add 198.51.100.77/24 dev eth0");
    net.internet.ip("route add 10.0.1.7/32 via 198.51.100.1");
    let included = vec!["198.51.100.9/32".parse().unwrap()];
    host::setup(&HostSetup { include_cidrs: included, ..host_setup() }).unwrap();
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    let pod = sandbox.udp("0.0.0.0:7001");
    for (address, seen) in [("198.51.100.9:7005", "10.0.0.10"), ("198.51.100.77:7005", "10.0.1.7")] {
        let internet = net.internet.udp(address);
        assert_eq!(exchange(&pod, &internet, address).unwrap().ip().to_string(), seen);
    }
}
