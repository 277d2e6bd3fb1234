// SPDX-License-Identifier: Apache-2.0
//! Host ports with packets, and whose they are.
//!
//! ```text
//!  pod 10.0.0.7 (serves 8080) ─┐
//!  pod 10.0.0.8               ─┤ node ── eth0 10.0.0.10 ── far 10.0.0.1
//! ```
//! A server answers with the address that it saw.

#![expect(clippy::disallowed_methods, reason = "looks into the folder of host ports")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::apply::hostport::Settled;
use crate::apply::pod::{attach, detach};
use crate::apply::testbed::{Space, pod, settle, wait_for_carrier};
use crate::apply::watch::Watcher;
use crate::apply::{ApplyError, hostport};
use crate::plan::hostport::{HostPort, Mapping, Protocol};
use crate::plan::pod::{PodAttachment, PodDetachment};
use crate::plan::repair::Object;

const NODE: &str = "10.0.0.10";
const PATIENCE: Duration = Duration::from_millis(400);

struct Net {
    node: Space,
    far: Space,
    server: (PodAttachment, Space),
    client: (PodAttachment, Space),
    folder: tempfile::TempDir,
}

fn start(name: &str, host: u8) -> (PodAttachment, Space) {
    let (attachment, space) = (pod(name, Ipv4Addr::new(10, 0, 0, host), None), Space::new());
    attach(&space.path(), &attachment).unwrap();
    settle(&space);
    (attachment, space)
}

impl Net {
    fn new() -> Self {
        let (node, far) = (Space::enter_new(), Space::new());
        far.ip("link set lo up");
        node.sysctl("ipv4/ip_forward", "1");
        node.link("eth0", "02:00:0a:00:00:0a", &far, "wan");
        node.ip("addr add 10.0.0.10/24 dev eth0");
        far.ip("addr add 10.0.0.1/24 dev wan");
        wait_for_carrier(&node, "eth0");
        let folder = tempfile::tempdir().unwrap();
        Self { node, far, server: start("server", 7), client: start("client", 8), folder }
    }

    fn publish(&self, ports: &[HostPort]) {
        self.open(&self.server.0, ports).unwrap();
    }

    fn open(&self, pod: &PodAttachment, ports: &[HostPort]) -> Result<(), ApplyError> {
        let PodAttachment { owner, host_veth, addresses, .. } = pod.clone();
        let address = addresses.v4().unwrap();
        hostport::publish(self.folder.path(), &Mapping { owner, host_veth, address, ports: ports.to_vec() })
    }

    fn withdraw(&self, owner: &str) -> usize {
        hostport::withdraw(self.folder.path(), owner).unwrap()
    }

    #[track_caller]
    fn settle(&self) -> Settled {
        let settled = hostport::settle(self.folder.path()).unwrap();
        assert_eq!(settled.failures, Vec::<String>::new());
        assert!(settled.pods <= self.files());
        // Whatever else there is to compare.
        Settled { pods: 0, ..settled }
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }

    fn end_server(&self) {
        let PodAttachment { host_veth, owner, addresses, .. } = self.server.0.clone();
        detach(&PodDetachment { host_veth, owner, addresses: addresses.iter().collect() }).unwrap();
    }
}

fn port(protocol: Protocol, host_port: u16) -> HostPort {
    HostPort { protocol, host_address: None, host_port, pod_port: 8080 }
}

fn both(host_port: u16) -> [HostPort; 2] {
    [port(Protocol::Tcp, host_port), port(Protocol::Udp, host_port)]
}

/// Serves one of each in the pod, for as long as the test runs.
fn serve(pod: &Space) {
    let (tcp, udp) = pod.run(|| (TcpListener::bind("0.0.0.0:8080").unwrap(), UdpSocket::bind("0.0.0.0:8080").unwrap()));
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let peer = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

fn ask_tcp(from: &Space, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

fn ask_udp(from: &Space, to: &str) -> Option<String> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.connect(to).ok()?;
        socket.send(b"?").ok()?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

/// What the server saw, over both; they must agree.
#[track_caller]
fn ask(from: &Space, to: &str) -> Option<String> {
    let (tcp, udp) = (ask_tcp(from, to), ask_udp(from, to));
    assert_eq!(tcp, udp, "TCP and UDP to {to}");
    tcp
}

#[test]
fn a_port_of_the_node_is_reached_from_everywhere_and_clients_keep_their_addresses() {
    let net = Net::new();
    serve(&net.server.1);
    let to = format!("{NODE}:30080");
    assert_eq!(ask(&net.far, &to), None, "before");
    net.publish(&both(30_080));
    let text = |address: &str| Some(address.to_owned());
    assert_eq!(ask(&net.far, &to), text("10.0.0.1"), "from outside");
    assert_eq!(ask(&net.client.1, &to), text("10.0.0.8"), "from another pod");
    assert_eq!(ask(&net.node, &to), text(NODE), "from the node");
    assert!(ask(&net.node, "127.0.0.1:30080").is_some(), "from the node's loopback");
    let itself = ask(&net.server.1, &to);
    assert!(itself.is_some_and(|seen| seen != "10.0.0.7"), "a pod reaches itself, masqueraded");
    assert_eq!(ask(&net.far, &format!("{NODE}:30081")), None, "another port");
    assert_eq!(net.withdraw(&net.server.0.owner), 3);
    assert_eq!(ask(&net.far, &to), None, "after");
}

#[test]
fn a_port_with_a_host_address_is_open_there_only() {
    let net = Net::new();
    serve(&net.server.1);
    net.node.ip("addr add 10.0.0.11/24 dev eth0");
    let at = |port| HostPort { host_address: Some(Ipv4Addr::new(10, 0, 0, 11)), ..port };
    net.publish(&both(30_080).map(at));
    assert!(ask(&net.far, "10.0.0.11:30080").is_some());
    assert_eq!(ask(&net.far, &format!("{NODE}:30080")), None);
}

#[test]
fn a_pods_port_does_not_open_the_nodes_loopback_to_the_pod() {
    let net = Net::new();
    let _listener = TcpListener::bind("127.0.0.1:9999").unwrap();
    net.publish(&both(30_080));
    assert_eq!(net.node.sysctl_value(&format!("ipv4/conf/{}/route_localnet", net.server.0.host_veth)), "1");
    // As an attacker would: in its own namespace loopback is no martian, and is reached by the node.
    let pod = &net.server.1;
    pod.sysctl("ipv4/conf/all/route_localnet", "1");
    pod.ip("route add 127.0.0.1/32 via 169.254.1.1 dev eth0 onlink src 10.0.0.7");
    pod.ip("rule add pref 5 lookup main");
    pod.ip("rule add pref 10 lookup local");
    pod.ip("rule del pref 0");
    let is_answered = || {
        ask_tcp(pod, "127.0.0.1:9999");
        net.node.connections().lines().any(|line| line.contains("SYN_RECV") && line.contains("dport=9999"))
    };
    assert!(!is_answered());
    // It is the guard that keeps it shut.
    net.node.nft("delete chain ip enid_hostports loopback_guard");
    assert!(is_answered(), "the twin");
}

#[test]
fn a_port_of_a_live_pod_is_refused_and_that_of_a_dead_one_taken_over() {
    let net = Net::new();
    net.publish(&both(30_080));
    net.publish(&both(30_080));
    let error = net.open(&net.client.0, &[port(Protocol::Tcp, 30_081), port(Protocol::Tcp, 30_080)]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("host port 30080/tcp") && text.contains(&net.server.0.owner), "{text}");
    assert_eq!(net.withdraw(&net.client.0.owner), 0, "nothing is left of a refused one");
    net.end_server();
    serve(&net.client.1);
    net.open(&net.client.0, &both(30_080)).unwrap();
    assert_eq!(ask(&net.far, &format!("{NODE}:30080")), Some("10.0.0.1".to_owned()));
}

#[test]
fn what_has_no_live_owner_is_swept_and_the_rest_is_not() {
    let net = Net::new();
    assert_eq!(net.settle().closed, 0, "no table");
    net.publish(&both(30_080));
    net.open(&net.client.0, &both(30_081)).unwrap();
    assert_eq!(net.settle().closed, 0);
    net.end_server();
    assert_eq!((net.settle().closed, net.files()), (3, 1), "elements and file");
    let listing = net.node.nft("list table ip enid_hostports");
    assert!(listing.contains("30081") && !listing.contains("30080"), "{listing}");
    assert_eq!(net.settle().closed, 0);
}

#[test]
fn the_table_reads_as_nft_and_names_the_owners() {
    let net = Net::new();
    net.publish(&[port(Protocol::Sctp, 30_080)]);
    let listing = net.node.nft("list table ip enid_hostports");
    for part in [
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "sctp . 30080 comment \"aws-cni/server-sandbox/eth0\" : 10.0.0.7 . 8080",
        "type nat hook prerouting priority dstnat - 5",
        "type nat hook output priority -105",
        "ip daddr != @services fib daddr type local dnat ip to meta l4proto . th dport map @ports",
        "ip daddr . meta l4proto . th dport map @ports_at",
        "ip daddr 127.0.0.0/8 iifname != \"lo\" drop",
        "ct status dnat ip saddr . ip daddr @hairpins masquerade",
    ] {
        let squeezed = listing.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(part), "{part}:\n{listing}");
    }
}

#[test]
fn what_others_remove_of_the_table_comes_back_for_living_pods_and_only_for_them() {
    let net = Net::new();
    serve(&net.server.1);
    net.publish(&both(30_080));
    net.open(&net.client.0, &both(30_081)).unwrap();
    let whole = || net.node.nft("list table ip enid_hostports");
    let (before, to) = (whole(), format!("{NODE}:30080"));
    assert_eq!(net.settle(), Settled::default(), "nothing is missing");
    assert_eq!(hostport::settle(net.folder.path()).unwrap().pods, 2);
    for damage in [
        "flush ruleset",
        "delete chain ip enid_hostports loopback_guard",
        "flush chain ip enid_hostports host_ports",
        "flush map ip enid_hostports ports",
        "flush table ip enid_hostports",
    ] {
        net.node.nft(damage);
        assert!(!net.settle().restored.is_empty(), "{damage}");
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // Elements may stand in another order.
        let words =
            |text: &str| sorted(&text.replace(',', "\n").replace("{ ", "{\n").replace(" }", "\n}").replace('\t', ""));
        let trimmed = |text: &str| {
            words(text).iter().map(|word| word.trim().to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(trimmed(&whole()), trimmed(&before), "{damage}");
        assert_eq!(ask(&net.far, &to), Some("10.0.0.1".to_owned()), "{damage}");
        assert_eq!(net.settle(), Settled::default(), "{damage}, once more");
    }
    // The DEL that comes while nothing is there, and the sandbox that ends without one.
    net.node.nft("flush ruleset");
    assert_eq!(net.withdraw(&net.client.0.owner), 0);
    net.end_server();
    assert_eq!(hostport::settle(net.folder.path()).unwrap(), Settled::default(), "no pod either");
    assert_eq!((net.files(), net.node.nft("list tables ip").as_str()), (0, ""));
}

#[test]
fn a_refused_add_leaves_no_file_and_garbage_among_the_files_goes() {
    let net = Net::new();
    net.publish(&both(30_080));
    net.open(&net.client.0, &both(30_080)).unwrap_err();
    assert_eq!(net.files(), 1);
    std::fs::write(net.folder.path().join("garbage"), "x").unwrap();
    assert_eq!((net.settle(), net.files()), (Settled::default(), 1));
}

#[test]
fn the_notifications_tell_of_a_table_that_was_taken_away_and_not_of_what_the_plugin_does() {
    let net = Net::new();
    net.publish(&both(30_080));
    let mut watcher = Watcher::start().unwrap();
    let mut heard = || watcher.wait_at_most(Duration::from_millis(100)).unwrap().objects;
    net.open(&net.client.0, &both(30_081)).unwrap();
    net.withdraw(&net.client.0.owner);
    assert!(!heard().contains(&Object::HostPort), "ADD and DEL");
    net.node.nft("flush ruleset");
    assert!(heard().contains(&Object::HostPort));
}

/// kube-proxy in IPVS mode binds Services' addresses to a dummy; a veth of its name does as well.
#[test]
fn a_services_address_that_ipvs_has_bound_is_no_address_of_the_node() {
    let net = Net::new();
    serve(&net.server.1);
    net.node.ip("link add kube-ipvs0 type veth peer name ipvs-peer");
    net.node.ip("addr add 172.20.0.1/32 dev kube-ipvs0");
    net.node.ip("addr add 10.0.0.10/32 dev kube-ipvs0");
    net.far.ip("route add 172.20.0.0/16 via 10.0.0.10");
    // What IPVS would answer.
    let _service = TcpListener::bind("172.20.0.1:30080").unwrap();
    let is_pod = |to: &str| ask_tcp(&net.far, to).is_some_and(|seen| !seen.is_empty());
    net.publish(&both(30_080));
    assert!(!is_pod("172.20.0.1:30080"), "from outside");
    assert!(ask_tcp(&net.node, "172.20.0.1:30080").is_none(), "from the node");
    for to in [NODE, "127.0.0.1"] {
        assert!(ask(&net.node, &format!("{to}:30080")).is_some(), "{to}");
    }
    assert!(is_pod(&format!("{NODE}:30080")), "an address that the node has besides");
    // Addresses of further ENIs, whenever they come.
    net.node.ip("addr add 10.0.0.11/24 dev eth0");
    assert!(is_pod("10.0.0.11:30080"));
    // Services come and go.
    net.node.ip("addr add 172.20.0.2/32 dev kube-ipvs0");
    assert!(is_pod("172.20.0.2:30080"), "until the daemon has looked");
    assert_eq!(net.settle(), Settled::default(), "no damage");
    assert!(!is_pod("172.20.0.2:30080"));
    net.node.ip("link del kube-ipvs0");
    net.settle();
    assert!(!net.node.nft("list set ip enid_hostports services").contains("172.20"));
}

#[test]
fn a_steady_udp_sender_reaches_the_pod_when_the_port_opens_and_the_next_one_when_it_has_another() {
    let net = Net::new();
    serve(&net.server.1);
    serve(&net.client.1);
    let (to, ports) = (format!("{NODE}:30080"), [port(Protocol::Udp, 30_080)]);
    // The kernel tracks connections where a rule asks for them.
    net.node.nft_text("add table ip track\nadd chain ip track everything { type filter hook prerouting priority 0; }\nadd rule ip track everything ct state new counter");
    // One flow: one socket. The node's own listener is what answers first.
    let listener = net.node.udp("0.0.0.0:30080");
    let sender = net.far.udp("10.0.0.1:40000");
    sender.connect(&to).unwrap();
    sender.set_read_timeout(Some(PATIENCE)).unwrap();
    // Another flow to the port, to somebody else: it is not ours to forget.
    net.far.ip("addr add 10.0.0.2/24 dev wan");
    net.client.1.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", "10.0.0.2:30080").unwrap());
    let answer = || {
        sender.send(b"?").ok()?;
        let mut buffer = [0; 64];
        let length = sender.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    assert_eq!(answer(), None);
    assert_eq!(listener.recv(&mut [0; 8]).unwrap(), 1, "the node's own has it");
    net.publish(&ports);
    assert_eq!(answer(), Some("10.0.0.1".to_owned()), "the same flow, now to the pod");
    net.withdraw(&net.server.0.owner);
    assert_eq!(answer(), None);
    assert_eq!(listener.recv(&mut [0; 8]).unwrap(), 1, "the node's own has it again");
    net.open(&net.client.0, &ports).unwrap();
    assert_eq!(answer(), Some("10.0.0.1".to_owned()), "to the next pod");
    assert!(net.node.connections().lines().any(|line| line.contains("dst=10.0.0.2")), "another's flow");
}
