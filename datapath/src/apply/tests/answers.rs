// SPDX-License-Identifier: Apache-2.0
//! Who asks a node port at an ENI's own address is answered by that ENI, whatever stands behind the port and however pods are
//! plumbed. The router takes from each ENI only what has a source of that ENI's subnet, so an answer proves its way.

use std::net::UdpSocket;

use super::packets::{Net, Way, exchange, host_setup};
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, settle};
use crate::apply::{eni, host};
use crate::plan::eni::EniSetup;
use crate::plan::host::{HostSetup, Layout};

/// As kube-proxy does: a node port for each of pod, pod, process of the node, and a pod elsewhere with masquerading; at all
/// addresses of the node.
const PROXY: &str = "table ip proxy {
    chain services {
        type nat hook prerouting priority -100
        fib daddr type local udp dport vmap { 30001 : jump secondary, 30002 : jump primary, 30003 : jump node, 30004 : jump far }
    }
    chain secondary { meta l4proto udp dnat to 10.0.1.7:7001; }
    chain primary { meta l4proto udp dnat to 10.0.0.8:7002; }
    chain node { meta l4proto udp dnat to 10.0.0.10:7003; }
    chain far { meta mark set meta mark or 0x4000 meta l4proto udp dnat to 10.0.0.1:7004; }
    chain hidden {
        type nat hook postrouting priority 100
        meta mark & 0x4000 == 0x4000 masquerade
    }
}";

const PORTS: [u16; 4] = [30_001, 30_002, 30_003, 30_004];
const ADDRESSES: [&str; 2] = ["10.0.0.10", "10.0.1.20"];
const CLIENT: &str = "198.51.100.9";

/// A node with a server behind each port.
struct Bed {
    net: Net,
    way: Way,
    servers: [UdpSocket; 4],
    _pods: [Space; 2],
}

impl Bed {
    fn build(rp_filter: &str, way: Way) -> Self {
        let net = Net::plumbed_by(rp_filter, way);
        net.internet.ip("route add 10.0.1.20/32 via 198.51.100.1");
        net.node.nft_text(PROXY);
        let pods = [Space::new(), Space::new()];
        attach(&pods[0].path(), &way.on_secondary("s")).unwrap();
        attach(&pods[1].path(), &way.on_primary("p")).unwrap();
        pods.iter().for_each(settle);
        let servers = [
            pods[0].udp("0.0.0.0:7001"),
            pods[1].udp("0.0.0.0:7002"),
            net.node.udp("10.0.0.10:7003"),
            net.router.udp("10.0.0.1:7004"),
        ];
        Self { net, way, servers, _pods: pods }
    }

    fn host(&self) -> HostSetup {
        // The client is in an external service block, too: answers are not what those blocks are about.
        HostSetup {
            layout: self.way.layout(),
            external_service_cidrs: vec!["198.51.100.0/24".parse().unwrap()],
            ..host_setup()
        }
    }

    fn client(&self) -> UdpSocket {
        self.net.internet.udp(&format!("{CLIENT}:0"))
    }

    /// Whether the client is answered, by port; each that is gets its own address seen but where it is masqueraded.
    fn answered(&self, client: &UdpSocket, at: &str) -> Vec<u16> {
        let answered = PORTS.iter().zip(&self.servers).filter(|(port, server)| {
            let seen = exchange(client, server, &format!("{at}:{port}"));
            if let Ok(seen) = seen {
                let wanted = if **port == 30_004 { "10.0.0.10" } else { CLIENT };
                assert_eq!(seen.ip().to_string(), wanted, "{port} at {at}");
            }
            seen.is_ok()
        });
        answered.map(|(port, _)| *port).collect()
    }
}

fn alone(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

const WAYS: [Way; 3] = [Way::Classic, Way::Mark, Way::Prefix];

#[test]
fn node_ports_are_answered_by_the_eni_that_was_asked_whatever_is_behind_them() {
    for (rp_filter, way) in ["0", "1", "2"].into_iter().flat_map(|strict| WAYS.map(|way| (strict, way))) {
        alone(|| {
            let bed = Bed::build(rp_filter, way);
            host::setup(&bed.host()).unwrap();
            for at in ADDRESSES {
                assert_eq!(bed.answered(&bed.client(), at), PORTS, "{way:?}, rp_filter {rp_filter}, asked at {at}");
            }
        });
    }
}

#[test]
fn a_connection_has_its_eni_s_number_and_others_bits_stay() {
    let bed = Bed::build("0", Way::Mark);
    bed.net.node.nft_text(
        "table ip other { chain before { type filter hook prerouting priority -160; ct mark set ct mark or 0x200; }; }",
    );
    for (at, mark) in [("10.0.0.10", 0x280), ("10.0.1.20", 0x218)] {
        assert_eq!(bed.answered(&bed.client(), at), PORTS);
        let asked = bed.net.node.connections();
        let asked: Vec<_> = asked.lines().filter(|line| line.contains(&format!("src={CLIENT} dst={at} "))).collect();
        assert!(
            asked.len() == PORTS.len() && asked.iter().all(|line| line.contains(&format!("mark={mark} "))),
            "{asked:?}"
        );
    }
}

#[test]
fn what_pods_open_themselves_goes_its_way_as_before() {
    for way in WAYS {
        alone(|| {
            let bed = Bed::build("0", way);
            host::setup(&bed.host()).unwrap();
            bed.answered(&bed.client(), "10.0.1.20");
            let [secondary, primary, ..] = &bed.servers;
            let (router, internet) = (bed.net.router.udp("10.0.1.1:7104"), bed.net.internet.udp("198.51.100.9:7105"));
            for (pod, own) in [(secondary, "10.0.1.7:7001"), (primary, "10.0.0.8:7002")] {
                let seen = |far, to| exchange(pod, far, to).unwrap().to_string();
                assert_eq!(seen(&router, "10.0.1.1:7104"), own, "{way:?}");
                assert!(seen(&internet, "198.51.100.9:7105").starts_with("10.0.0.10:"), "{way:?}");
            }
            assert_eq!(exchange(secondary, primary, "10.0.0.8:7002").unwrap().to_string(), "10.0.1.7:7001");
            // A pod that asks at the ENI's address is on the node: no ENI answers it.
            let seen = exchange(primary, secondary, "10.0.1.20:30001").unwrap();
            assert_eq!(seen.ip().to_string(), "10.0.0.8", "{way:?}");
        });
    }
}

#[test]
fn open_connections_go_on_when_all_is_set_up_anew_and_under_another_layout() {
    let bed = Bed::build("1", Way::Mark);
    let clients = ADDRESSES.map(|at| (at, bed.client()));
    let go_on = |when: &str| {
        for (at, client) in &clients {
            assert_eq!(bed.answered(client, at), PORTS, "{when}, asked at {at}");
        }
    };
    go_on("at first");
    // The table is made anew: a daemon of another version does so.
    bed.net.node.nft("delete table ip enid");
    host::setup(&HostSetup { port_range: None, ..bed.host() }).unwrap();
    eni::setup(&bed.way.eni()).unwrap();
    go_on("with a new table");
    host::setup(&HostSetup { external_snat: true, ..bed.host() }).unwrap();
    go_on("with SNAT elsewhere");
    host::setup(&HostSetup { layout: Layout::Classic, ..bed.host() }).unwrap();
    eni::setup(&EniSetup { steering: None, ..bed.way.eni() }).unwrap();
    go_on("in layout classic");
}

#[test]
fn without_node_ports_nothing_is_marked_and_the_eni_has_neither_rule_nor_group() {
    let bed = Bed::build("0", Way::Mark);
    let group = || bed.net.node.ip_json("link show eth1")[0]["group"].as_str().unwrap().to_owned();
    assert_eq!((group().as_str(), bed.net.node.ip("rule show priority 1025").lines().count()), ("58001", 1));
    // The router knows all neighbours from now on.
    assert_eq!(bed.answered(&bed.client(), "10.0.0.10"), PORTS);
    let off = HostSetup { serves_node_ports: false, external_service_cidrs: Vec::new(), ..bed.host() };
    host::setup(&off).unwrap();
    let silent = EniSetup { answers: None, ..bed.way.eni() };
    assert_eq!(eni::setup(&silent).unwrap().ops.len(), 2, "the rule and the group");
    assert_eq!((group().as_str(), bed.net.node.ip("rule show priority 1025").lines().count()), ("default", 0));
    assert_eq!(bed.answered(&bed.client(), "10.0.1.20"), [30_001], "the pod of that ENI, by its own rule");
    let connections = bed.net.node.connections();
    let mut asked = connections.lines().filter(|line| line.contains("dst=10.0.1.20 "));
    assert!(asked.all(|line| line.contains("mark=0 ")), "{connections}");
    host::setup(&bed.host()).unwrap();
    eni::setup(&bed.way.eni()).unwrap();
    assert_eq!(bed.answered(&bed.client(), "10.0.1.20"), PORTS);
    eni::remove(&bed.way.eni()).unwrap();
    assert_eq!((group().as_str(), bed.net.node.ip("rule show priority 1025").lines().count()), ("default", 0));
}
