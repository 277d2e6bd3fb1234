// SPDX-License-Identifier: Apache-2.0
//! Packets with what is plain left untracked (topology: [`super::packets`]), beside rules as kube-proxy makes them, which drop
//! what conntrack calls invalid.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::packets::{Net, Way, exchange, host_setup};
use crate::apply::netlink::Socket;
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, pause, settle};
use crate::apply::{host, hostport, nftables};
use crate::plan::host::HostSetup;
use crate::plan::hostport::{HostPort, Mapping, Protocol};
use crate::plan::snat;

const SERVER: &str = "10.0.0.8:8080";
const SERVICE: &str = "172.20.0.10:80";
const NODE_PORT: &str = "10.0.0.10:30080";
const PATIENCE: Duration = Duration::from_millis(500);
/// Of each kind; 250 times what a node's other traffic may add meanwhile.
const FLOWS: usize = 5000;

struct Bed {
    net: Net,
    client: Space,
    server: Space,
}

fn with_option() -> HostSetup {
    HostSetup { notrack: true, ..host_setup() }
}

impl Bed {
    /// A client on the secondary ENI, a server on the primary one, a Service and a node port that lead to it.
    fn new(setup: &HostSetup) -> Self {
        let net = Net::plumbed_by("0", Way::Classic);
        host::setup(setup).unwrap();
        let (client, server) = (Space::new(), Space::new());
        attach(&client.path(), &Way::Classic.on_secondary("client")).unwrap();
        settle(&client);
        attach(&server.path(), &Way::Classic.on_primary("server")).unwrap();
        settle(&server);
        net.node.nft_text(
            "table ip proxy {
                chain services {
                    type nat hook prerouting priority -100
                    ip daddr 172.20.0.10 meta l4proto { tcp, udp } th dport 80 dnat to 10.0.0.8:8080
                    ip daddr 172.20.0.11 dnat to 10.0.1.1
                    fib daddr type local meta l4proto { tcp, udp } th dport 30080 dnat to 10.0.0.8:8080
                }
                chain forward {
                    type filter hook forward priority 0
                    ct state invalid counter drop
                }
            }",
        );
        Self { net, client, server }
    }

    fn tracked(&self) -> usize {
        self.net.node.sysctl_value("netfilter/nf_conntrack_count").parse().unwrap()
    }

    fn flows(&self) -> String {
        self.net.node.nft("list set ip enid nat_flows")
    }

    /// A connection of TCP, both ends.
    fn connection(&self, to: &str) -> (TcpStream, TcpStream) {
        let listener = self.server.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
        let client = self.client.run(|| TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE).unwrap());
        let server = listener.accept().unwrap().0;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        (client, server)
    }
}

/// Whether what one end says is heard at the other.
fn says(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"word").unwrap();
    to.read_exact(&mut [0; 4]).is_ok()
}

/// Much more than a window, one way.
fn says_much(from: &mut TcpStream, to: &mut TcpStream) {
    const LENGTH: usize = 8 << 20;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| from.write_all(&vec![7; LENGTH]).unwrap());
        to.read_exact(&mut vec![0; LENGTH]).unwrap();
        writing.join().unwrap();
    });
}

fn udp_flows(bed: &Bed, target: &str, answerer: &UdpSocket) {
    let mut buffer = [0; 4];
    bed.client.run(|| {
        for _ in 0..FLOWS {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"ask", target).unwrap();
            let (_, source) = answerer.recv_from(&mut buffer).unwrap();
            answerer.send_to(b"yes", source).unwrap();
            assert_eq!(socket.recv_from(&mut [0; 4]).unwrap().1.to_string(), target);
        }
    });
}

fn tcp_flows(bed: &Bed) {
    let listener = bed.server.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    bed.client.run(|| {
        for _ in 0..FLOWS {
            let mut client = TcpStream::connect_timeout(&SERVER.parse().unwrap(), PATIENCE).unwrap();
            // Ends with a reset: no port stays taken.
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            assert!(says(&mut client, &mut listener.accept().unwrap().0));
        }
    });
}

#[test]
fn short_flows_between_pods_and_into_the_vpc_take_nothing_of_the_table() {
    let bed = Bed::new(&with_option());
    let (pod, vpc) = (bed.server.udp(SERVER), bed.net.router.udp("10.0.1.1:7004"));
    let before = bed.tracked();
    udp_flows(&bed, SERVER, &pod);
    udp_flows(&bed, "10.0.1.1:7004", &vpc);
    tcp_flows(&bed);
    let after = bed.tracked();
    assert!(after <= before + 20, "{before} connections were tracked before, {after} after");
    // The twin: it is the option that keeps them out.
    host::setup(&host_setup()).unwrap();
    udp_flows(&bed, SERVER, &pod);
    let without = bed.tracked();
    // Some take a port that one before them had.
    assert!(without >= after + FLOWS / 2, "{after} connections were tracked with the option, {without} without");
}

/// Flows of one datagram each, and of nothing that is answered; `ENID_FLOWS` says how many (a million take ten seconds).
#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own setting")]
fn a_storm_of_flows_between_pods_leaves_the_table_as_it_is() {
    /// Ports of the server, each a flow from each port of the client.
    const PORTS: u32 = 50_000;
    let flows = std::env::var("ENID_FLOWS").map_or(1_000_000, |count| count.parse().expect("ENID_FLOWS is a number"));
    let bed = Bed::new(&with_option());
    bed.server.nft_text(
        "table ip quiet { chain quiet { type filter hook input priority 0; udp dport >= 10000 counter drop; }; }",
    );
    let storm = |flows: u32| {
        bed.client.run(|| {
            for first in (0..flows).step_by(PORTS as usize) {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for port in 0..PORTS.min(flows - first) {
                    let port = u16::try_from(10_000 + port).unwrap();
                    socket.send_to(b"?", (Ipv4Addr::new(10, 0, 0, 8), port)).unwrap();
                }
            }
        });
    };
    let before = bed.tracked();
    storm(flows);
    let after = bed.tracked();
    assert!(after <= before + 20, "{before} connections were tracked before {flows} flows, {after} after");
    let arrived = bed.server.nft("list table ip quiet");
    let arrived: u32 = arrived.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(arrived >= flows / 10 * 9, "of {flows} only {arrived} got through");
    // The twin.
    host::setup(&host_setup()).unwrap();
    storm(5_000);
    assert!(bed.tracked() >= after + 4_500, "{} connections are tracked without the option", bed.tracked());
}

#[test]
fn what_is_translated_works_between_the_same_pods_as_what_is_not() {
    let bed = Bed::new(&with_option());
    let (client, server) = (bed.client.udp("0.0.0.0:7001"), bed.server.udp(SERVER));
    let internet = bed.net.internet.udp("198.51.100.9:7005");
    let (node, vpc) = (bed.net.node.udp("10.0.0.10:7003"), bed.net.router.udp("10.0.1.1:7006"));
    let source = |from: &UdpSocket, to: &UdpSocket, target: &str| exchange(from, to, target).unwrap().to_string();
    // From one port: what is opened to the pod itself must not be taken for the Service's, nor the other way round.
    assert_eq!(source(&client, &server, SERVICE), "10.0.1.7:7001");
    assert_ne!(source(&client, &server, SERVER), "10.0.1.7:7001", "conntrack keeps them apart by the port");
    assert_eq!(source(&client, &server, SERVICE), "10.0.1.7:7001");
    assert_eq!(source(&vpc, &server, NODE_PORT), "10.0.1.1:7006");
    assert_eq!(source(&client, &internet, "198.51.100.9:7005").split(':').next(), Some("10.0.0.10"));
    assert_eq!(source(&client, &node, "10.0.0.10:7003"), "10.0.1.7:7001");
    assert_eq!(source(&node, &client, "10.0.1.7:7001"), "10.0.0.10:7003");
    // As at a restart and at each look of the repair: what rules remember is no difference.
    assert!(bed.flows().contains("udp . 10.0.0.8 . 8080 . 10.0.1.7 . 7001"), "{}", bed.flows());
    assert_eq!(host::setup(&with_option()).unwrap().ops, []);
    for target in [SERVICE, SERVER] {
        let (mut client, mut server) = bed.connection(target);
        assert!(says(&mut client, &mut server) && says(&mut server, &mut client), "{target}");
    }
}

#[test]
fn a_flow_is_known_for_as_long_as_its_connection_and_not_much_longer() {
    let bed = Bed::new(&with_option());
    // The time left of the flow: `4d23h59m59s990ms`, `2m9s980ms`.
    let expiry = || {
        let flows = bed.flows();
        let of_tcp = flows.split("tcp . ").nth(1).unwrap_or_else(|| panic!("no flow of TCP in {flows}"));
        of_tcp.split("expires ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let (mut client, mut server) = bed.connection(SERVICE);
    assert!(says(&mut client, &mut server) && says(&mut server, &mut client));
    // An idle connection is tracked for five days, and so is its flow.
    let idle = expiry();
    assert!(idle == "5d" || idle.starts_with("4d23h59m"), "{idle}");
    drop((client, server));
    // The last packets may be on their way.
    let is_brief = (0..100).any(|_| {
        let brief = !expiry().contains(['d', 'h']);
        if !brief {
            pause(10_000_000);
        }
        brief
    });
    assert!(is_brief, "{} {}", bed.flows(), bed.net.node.connections());
    // The twin: what is not known is answered from the wrong address.
    let (mut client, mut server) = bed.connection(SERVICE);
    assert!(says(&mut server, &mut client));
    bed.net.node.nft("flush set ip enid nat_flows");
    assert!(!says(&mut server, &mut client));
}

#[test]
fn what_is_translated_already_stays_so_when_the_option_comes_and_the_vpc_grows() {
    let bed = Bed::new(&host_setup());
    let (mut client, mut server) = bed.connection(SERVICE);
    let (pod, internet) = (bed.client.udp("0.0.0.0:7001"), bed.net.internet.udp("198.51.100.9:7005"));
    let outside = exchange(&pod, &internet, "198.51.100.9:7005").unwrap();
    host::setup(&with_option()).unwrap();
    // The server speaks first: nothing else has said that it is translated.
    assert!(says(&mut server, &mut client) && says(&mut client, &mut server));
    let mut larger = with_option();
    larger.vpc_cidrs.push("198.51.100.0/24".parse().unwrap());
    host::setup(&larger).unwrap();
    assert!(says(&mut server, &mut client));
    assert_eq!(exchange(&pod, &internet, "198.51.100.9:7005").unwrap(), outside);
    // And when it goes.
    host::setup(&host_setup()).unwrap();
    assert!(says(&mut server, &mut client) && says(&mut client, &mut server));
}

#[test]
fn what_is_plain_goes_on_when_the_option_comes_and_goes() {
    let bed = Bed::new(&host_setup());
    let (mut client, mut server) = bed.connection(SERVER);
    assert!(says(&mut client, &mut server) && says(&mut server, &mut client));
    // One that nobody translates but for its port, which the other has.
    let (pod, answerer) = (bed.client.udp("0.0.0.0:7001"), bed.server.udp(SERVER));
    exchange(&pod, &answerer, SERVICE).unwrap();
    let source = exchange(&pod, &answerer, SERVER).unwrap();
    assert_ne!(source.to_string(), "10.0.1.7:7001");
    for _ in 0..2 {
        host::setup(&with_option()).unwrap();
        let known = bed.net.node.connections();
        assert!(!known.lines().any(|line| line.contains("tcp") && line.contains("dst=10.0.0.8")), "{known}");
        says_much(&mut client, &mut server);
        says_much(&mut server, &mut client);
        assert_eq!(exchange(&pod, &answerer, SERVER).unwrap(), source);
        host::setup(&host_setup()).unwrap();
        assert!(says(&mut client, &mut server) && says(&mut server, &mut client), "{}", bed.net.node.connections());
        assert_eq!(exchange(&pod, &answerer, SERVER).unwrap(), source);
    }
}

#[test]
fn what_was_tracked_before_by_others_is_not_in_the_way_when_tracking_comes_back() {
    let bed = Bed::new(&with_option());
    // Something of before the option, that nobody has forgotten.
    bed.net.node.nft("flush chain ip enid not_tracked");
    let (mut client, mut server) = bed.connection(SERVER);
    assert!(says(&mut client, &mut server) && says(&mut server, &mut client));
    nftables::replace(&mut Socket::netfilter().unwrap(), &snat::table(&with_option())).unwrap();
    says_much(&mut client, &mut server);
    host::setup(&host_setup()).unwrap();
    assert!(says(&mut client, &mut server) && says(&mut server, &mut client), "{}", bed.net.node.connections());
}

#[test]
fn with_no_room_for_flows_everything_is_tracked_and_works() {
    let bed = Bed::new(&with_option());
    let mut table = snat::table(&with_option());
    table.memories.iter_mut().filter(|memory| memory.name == "nat_flows").for_each(|memory| memory.size = 1);
    nftables::replace(&mut Socket::netfilter().unwrap(), &table).unwrap();
    let (client, other) = (bed.client.udp("0.0.0.0:7001"), bed.client.udp("0.0.0.0:7002"));
    let server = bed.server.udp(SERVER);
    exchange(&client, &server, SERVER).unwrap();
    let before = bed.tracked();
    exchange(&client, &server, SERVICE).unwrap();
    exchange(&other, &server, SERVICE).unwrap();
    // Not for as long as the last one of them is known, which may be brief: an older one may have found no room, too.
    let overflow = bed.net.node.nft("list set ip enid nat_overflow");
    assert!(overflow.contains("udp timeout 5d"), "{overflow}");
    let (plain, vpc) = (bed.client.udp("0.0.0.0:7003"), bed.net.router.udp("10.0.1.1:7004"));
    exchange(&plain, &vpc, "10.0.1.1:7004").unwrap();
    assert_eq!(bed.tracked(), before + 3);
    // The same when there are more already than there is room for.
    nftables::replace(&mut Socket::netfilter().unwrap(), &table).unwrap();
    assert!(bed.net.node.nft("list set ip enid nat_overflow").contains("udp"));
    for socket in [&client, &other] {
        exchange(socket, &server, SERVICE).unwrap();
    }
}

#[test]
fn datagrams_in_fragments_are_whole_before_they_are_looked_at() {
    let bed = Bed::new(&with_option());
    let (server, vpc) = (bed.server.udp(SERVER), bed.net.router.udp("10.0.0.1:7004"));
    // As the ENIs': with a larger one the pod would send it whole, not to be cut on the way.
    bed.server.ip("link set eth0 mtu 1500");
    let (large, mut buffer, before) = ([7; 4000], [0; 5000], bed.tracked());
    for (target, tracked) in [(SERVER, 0), (NODE_PORT, 1)] {
        vpc.send_to(&large, target).unwrap();
        let (length, source) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], source).unwrap();
        let (length, answerer) = vpc.recv_from(&mut buffer).unwrap();
        assert_eq!((length, answerer.to_string().as_str()), (large.len(), target));
        assert_eq!(bed.tracked(), before + tracked, "{target}");
    }
}

#[test]
fn errors_about_both_kinds_reach_the_pod() {
    let bed = Bed::new(&with_option());
    let refused = |target: &str| {
        let socket = bed.client.udp("0.0.0.0:0");
        bed.client.run(|| socket.connect(target).unwrap());
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 4]).unwrap_err().kind()
    };
    // Nobody listens there: the router says so, by ICMP.
    assert_eq!(refused("10.0.1.1:9"), ErrorKind::ConnectionRefused);
    assert_eq!(refused("172.20.0.11:9"), ErrorKind::ConnectionRefused, "by a Service");
    // The twin: without the rule about errors such a one is invalid, and dropped as kube-proxy drops it.
    bed.net.node.nft("flush chain ip enid nat_seen");
    assert_eq!(refused("10.0.1.1:9"), ErrorKind::WouldBlock);
}

#[test]
fn host_ports_lead_into_pods_and_back() {
    let bed = Bed::new(&with_option());
    let pod = Way::Classic.on_primary("server");
    let folder = tempfile::tempdir().unwrap();
    let ports = [Protocol::Tcp, Protocol::Udp];
    let ports = ports.map(|protocol| HostPort { protocol, host_address: None, host_port: 8000, pod_port: 8080 });
    let address = Ipv4Addr::new(10, 0, 0, 8);
    let mapping = Mapping { owner: pod.owner, host_veth: pod.host_veth, address, ports: ports.to_vec() };
    hostport::publish(folder.path(), &mapping).unwrap();
    let server = bed.server.udp(SERVER);
    for (asker, own) in
        [(bed.net.router.udp("10.0.1.1:7006"), "10.0.1.1"), (bed.client.udp("0.0.0.0:7001"), "10.0.1.7")]
    {
        assert_eq!(exchange(&asker, &server, "10.0.0.10:8000").unwrap().ip().to_string(), own);
    }
    let (mut client, mut server) = bed.connection("10.0.0.10:8000");
    assert!(says(&mut client, &mut server) && says(&mut server, &mut client));
}
