// SPDX-License-Identifier: Apache-2.0
//! Links of kinds that the kernel of a developer's machine may lack, on ENIs and in sandboxes: VLAN, VRF, dummy, ipvlan, and
//! netem on the way of an ENI. They run in the virtual machine, where they must (`make test-vm`).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::packets::{Net, Way, exchange};
use crate::apply::pod::{attach, detach};
use crate::apply::repair::{Desired, pass};
use crate::apply::testbed::{Space, assert_same, settle, tool};
use crate::apply::{eni, observe};
use crate::plan::pod::{PodAttachment, PodDetachment};
use crate::plan::pods::LivePod;

/// What others stack on an ENI or beside it with the ENI's MAC: its own, or set so.
const REPEATED: &str = "02:00:0a:00:01:14";

fn beside(node: &Space) {
    node.ip("link add link eth1 name aavlan type vlan id 7");
    node.ip("link add link eth1 name aaipvlan type ipvlan mode l2");
    node.ip("link add aadummy type dummy");
    node.ip("link add aavrf type vrf table 900");
    node.ip("link add aabridge type bridge");
    for link in ["aadummy", "aavrf", "aabridge"] {
        node.ip(&format!("link set {link} address {REPEATED}"));
    }
    for link in ["aavlan", "aaipvlan", "aadummy", "aavrf", "aabridge"] {
        node.ip(&format!("link set {link} up"));
        let found = &node.ip_json(&format!("link show dev {link}"))[0];
        assert_eq!(found["address"], REPEATED, "{link}");
    }
}

/// Addresses and routes of these links; those of IPv6 the kernel makes itself, some time after a link is up.
fn state_of_others(node: &Space) -> String {
    ["aavlan", "aaipvlan", "aadummy", "aavrf", "aabridge"]
        .map(|link| {
            node.ip(&format!("-4 -o addr show dev {link}")) + &node.ip(&format!("-4 route show table all dev {link}"))
        })
        .join("\n")
}

fn desired(pods: &[&PodAttachment]) -> Desired {
    let live = |pod: &&PodAttachment| LivePod {
        owner: pod.owner.clone(),
        host_veth: Some(pod.host_veth.clone()),
        addresses: pod.addresses,
        eni_table: pod.eni_table,
        layout: pod.layout,
    };
    Desired {
        host: None,
        enis: vec![Way::Classic.eni()],
        pods: pods.iter().map(live).collect(),
        spared: BTreeSet::from([std::net::Ipv4Addr::new(10, 0, 1, 20).into()]),
        sweep: BTreeSet::new(),
    }
}

#[test]
#[ignore = "needs VLAN, VRF, dummy and ipvlan: runs in the virtual machine (make test-vm)"]
fn an_eni_is_found_by_its_mac_whatever_others_stack_on_it_with_the_same_and_theirs_is_left_alone() {
    let net = Net::plumbed_by("0", Way::Classic);
    let sandbox = Space::new();
    let pod = Way::Classic.on_secondary("client");
    attach(&sandbox.path(), &pod).unwrap();
    settle(&sandbox);
    beside(&net.node);
    net.node.ip("addr add 192.0.2.1/24 dev aavlan");
    let before = state_of_others(&net.node);
    // Nothing is missing, so nothing is written; what was taken away goes to the ENI again.
    assert_eq!(eni::setup(&Way::Classic.eni()).unwrap().ops, []);
    net.node.ip("addr del 10.0.1.20/24 dev eth1");
    net.node.ip("route flush table 2");
    let repaired = pass(&desired(&[&pod])).unwrap();
    assert!(repaired.failures.is_empty() && !repaired.repairs.is_empty(), "{repaired:?}");
    assert!(net.node.ip("addr show dev eth1").contains("10.0.1.20/24"));
    assert!(net.node.ip("route show table 2").contains("default via 10.0.1.1 dev eth1"));
    assert_same(&before, &state_of_others(&net.node), "links of others");
    assert_eq!(observe::kernel("eni").unwrap().pods.len(), 1, "none of theirs is taken for a pod");
    let (client, router) = (sandbox.udp("0.0.0.0:7001"), net.router.udp("10.0.1.1:7004"));
    assert_eq!(exchange(&client, &router, "10.0.1.1:7004").unwrap().to_string(), "10.0.1.7:7001");
    // A second one, made while they are there.
    net.node.ip("link del aavlan");
    net.node.ip("link add link eth1 name aavlan type vlan id 8");
    eni::remove(&Way::Classic.eni()).unwrap();
    assert!(!net.node.ip("addr show dev eth1").contains("10.0.1.20"));
    assert!(net.node.ip("link show").contains("aavlan"));
}

#[test]
#[ignore = "needs VRF and dummy: runs in the virtual machine (make test-vm)"]
fn links_of_others_in_a_sandbox_disturb_neither_attach_nor_detach() {
    let net = Net::plumbed_by("0", Way::Classic);
    let sandbox = Space::new();
    for command in [
        "link add aavrf type vrf table 900",
        "link add aadummy type dummy",
        "link set aadummy master aavrf",
        "link set aavrf up",
        "link set aadummy up",
        "addr add 192.0.2.7/24 dev aadummy",
    ] {
        sandbox.ip(command);
    }
    let before = net.node.dump();
    let pod = Way::Classic.on_secondary("client");
    for _ in 0..2 {
        attach(&sandbox.path(), &pod).unwrap();
        settle(&sandbox);
        let (client, router) = (sandbox.udp("0.0.0.0:7001"), net.router.udp("10.0.1.1:7004"));
        assert_eq!(exchange(&client, &router, "10.0.1.1:7004").unwrap().to_string(), "10.0.1.7:7001");
        detach(&PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() })
            .unwrap();
        net.node.ip(&format!("link del {}", pod.host_veth));
        net.node.ip("neigh flush dev eth1");
        assert_same(&before, &net.node.dump(), "after detach");
        assert!(sandbox.ip("addr show dev aadummy").contains("192.0.2.7/24"));
    }
}

/// `tc` in a namespace.
fn tc(space: &Space, words: &str) {
    let output = space.run(|| tool("sbin/tc").args(words.split(' ')).output()).unwrap();
    assert!(output.status.success(), "tc {words}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs netem: runs in the virtual machine (make test-vm)"]
#[expect(clippy::disallowed_methods, reason = "the time that a repair takes is what is asked for")]
fn a_connection_over_a_slow_eni_that_loses_packets_survives_and_a_repair_waits_for_none_of_it() {
    let net = Net::plumbed_by("0", Way::Classic);
    let sandbox = Space::new();
    let pod = Way::Classic.on_secondary("client");
    attach(&sandbox.path(), &pod).unwrap();
    settle(&sandbox);
    let slow = [(&net.node, "eth1"), (&net.router, "r1")];
    for (space, link) in slow {
        tc(space, &format!("qdisc add dev {link} root netem delay 100ms loss 5%"));
    }
    let patience = Duration::from_secs(20);
    let listener = net.router.run(|| TcpListener::bind("10.0.1.1:7004").unwrap());
    let mut client = sandbox.run(|| TcpStream::connect_timeout(&"10.0.1.1:7004".parse().unwrap(), patience).unwrap());
    let mut server = listener.accept().unwrap().0;
    for end in [&client, &server] {
        end.set_read_timeout(Some(patience)).unwrap();
    }
    let mut echo = |word: &[u8; 4]| {
        client.write_all(word).unwrap();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).unwrap();
        server.write_all(&heard).unwrap();
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, word);
    };
    let started = Instant::now();
    echo(b"slow");
    assert!(started.elapsed() >= Duration::from_millis(200), "netem is not on the way: {:?}", started.elapsed());
    for round in 0..3 {
        // What the pod needs is taken away, and comes back without a packet over the ENI.
        net.node.ip("rule flush");
        net.node.ip("rule add priority 32766 lookup main");
        net.node.ip("route flush table 2");
        // Slower than any emulated processor.
        for (space, link) in slow {
            tc(space, &format!("qdisc change dev {link} root netem delay 10s"));
        }
        let started = Instant::now();
        let repaired = pass(&desired(&[&pod])).unwrap();
        let took = started.elapsed();
        assert!(repaired.failures.is_empty() && !repaired.repairs.is_empty(), "{repaired:?}");
        assert!(took < Duration::from_secs(8), "round {round}: {took:?}");
        for (space, link) in slow {
            tc(space, &format!("qdisc change dev {link} root netem delay 100ms loss 5%"));
        }
        echo(b"word");
    }
    // The twin: without its rules the pod is not heard.
    net.node.ip("rule flush");
    let silent = sandbox.run(|| TcpStream::connect_timeout(&"10.0.1.1:7004".parse().unwrap(), Duration::from_secs(1)));
    assert!(silent.is_err());
}
