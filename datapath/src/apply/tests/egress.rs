// SPDX-License-Identifier: Apache-2.0
//! Egress between families with real packets: IPv6 out of an IPv4 cluster and the other way, in both layouts.
//!
//! ```text
//!  pod 10.0.1.7 (2600:1f13::7), egress fd00::ac:… (169.254.17…) ── node eth0 2600:1f13::10, 10.0.0.10 ── outside 2600:1f13::1, 10.0.0.1
//! ```
//! Outside has a route to the egress range by the node, as an attacker on the same subnet may: it must not help.

use std::collections::BTreeSet;
use std::io;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::packets::{exchange, host_setup};
use crate::apply::egress::{Egress, attach, forget};
use crate::apply::pod::{Attached, Site, Standing, detach, standing};
use crate::apply::repair::{Desired, pass};
use crate::apply::testbed::{Space, assert_same, pause, pod, settle, wait_for_carrier};
use crate::apply::watch::{Changes, Watcher};
use crate::apply::{conntrack, host, observe, uninstall};
use crate::plan::host::{Families, HostSetup, Layout};
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodDetachment, PodLayout};
use crate::plan::pods::LivePod;
use crate::plan::{Family, PodAddresses, ids};

const MAC: &str = "02:00:0a:00:00:0a";

/// Pods' addresses are of the other family than their egress.
#[derive(Clone, Copy, Debug)]
struct Case {
    egress: Family,
    layout: Layout,
}

impl Case {
    fn each(run: fn(Self)) {
        for egress in Family::ALL {
            for layout in [Layout::Classic, Layout::Flat] {
                std::thread::scope(|scope| scope.spawn(|| run(Self { egress, layout })).join().unwrap());
            }
        }
    }

    fn host(self) -> HostSetup {
        let families = match self.egress {
            Family::V4 => Families::V6AndEgress,
            Family::V6 => Families::V4AndEgress,
        };
        HostSetup { families, layout: self.layout, ..host_setup() }
    }

    /// A pod of a secondary ENI, whose table its egress must not take.
    fn pod(self, number: u8) -> PodAttachment {
        let own: PodAddresses = match self.egress {
            Family::V6 => Ipv4Addr::new(10, 0, 1, number).into(),
            Family::V4 => Ipv6Addr::new(0x2600, 0x1f13, 0, 1, 0, 0, 0, number.into()).into(),
        };
        let layout = match self.layout {
            Layout::Classic => PodLayout::Classic,
            Layout::Flat => {
                PodLayout::Flat { table: ids::POD_TABLE, group: Place::new(0, 1).unwrap().group().unwrap() }
            }
        };
        PodAttachment { layout, ..pod(&format!("p{number}"), own, Some(2)) }
    }

    /// The pods as on the primary ENI, whose rules are not these tests' business.
    fn desired(self, pods: &[&PodAttachment]) -> Desired {
        let live = |pod: &&PodAttachment| LivePod {
            owner: pod.owner.clone(),
            host_veth: Some(pod.host_veth.clone()),
            addresses: pod.addresses,
            eni_table: None,
            layout: match pod.layout {
                PodLayout::Flat { table, .. } => PodLayout::Flat { table, group: ids::DEFAULT_GROUP },
                PodLayout::Classic => PodLayout::Classic,
            },
        };
        Desired {
            host: Some(self.host()),
            enis: Vec::new(),
            pods: pods.iter().map(live).collect(),
            spared: pods.iter().flat_map(|pod| pod.addresses.iter()).collect(),
            sweep: BTreeSet::new(),
        }
    }

    fn node_address(self) -> IpAddr {
        if self.egress == Family::V4 { "10.0.0.10".parse().unwrap() } else { "2600:1f13::10".parse().unwrap() }
    }

    fn outside(self) -> IpAddr {
        if self.egress == Family::V4 { "10.0.0.1".parse().unwrap() } else { "2600:1f13::1".parse().unwrap() }
    }
}

fn net() -> (Space, Space) {
    let (node, outside) = (Space::enter_new(), Space::new());
    outside.ip("link set lo up");
    node.sysctl("ipv4/conf/all/rp_filter", "2");
    // As long as the node does not forward it is a host like any other on its subnet.
    for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.sysctl(path, "0");
    }
    for space in [&node, &outside] {
        space.sysctl("ipv6/conf/default/accept_dad", "0");
    }
    node.link("eth0", MAC, &outside, "r0");
    node.link("eth1", "02:00:0a:00:01:14", &outside, "r1");
    wait_for_carrier(&node, "eth0");
    wait_for_carrier(&outside, "r0");
    for words in [
        "addr add 10.0.0.10/24 dev eth0",
        "-6 addr add 2600:1f13::10/64 dev eth0 nodad",
        "route add default via 10.0.0.1",
        "-6 route add default via 2600:1f13::1",
        // The pod's ENI, which its egress must not leave by.
        "route add default via 10.0.1.1 dev eth1 onlink table 2",
        "rule add priority 1536 from all fwmark 1/0x7f lookup 2",
        "-6 rule add priority 1536 from all fwmark 1/0x7f lookup 2",
        "-6 route add default via 2600:1f13:0:1::1 dev eth1 onlink table 2",
    ] {
        node.ip(words);
    }
    outside.sysctl("ipv4/conf/all/rp_filter", "1");
    outside.ip("addr add 10.0.0.1/24 dev r0");
    outside.ip("-6 addr add 2600:1f13::1/64 dev r0 nodad");
    outside.ip("route add 169.254.172.0/22 via 10.0.0.10");
    outside.ip("-6 route add fd00::ac:0/118 via 2600:1f13::10");
    (node, outside)
}

fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn site(space: &Space) -> Site {
    Site::open(&space.path()).unwrap()
}

fn attach_in(space: &Space, pod: &PodAttachment, egress: Family) -> IpAddr {
    let (_, by) = attach(&mut site(space), pod, egress).unwrap();
    settle(space);
    match by {
        Egress::By(address) => address,
        other => panic!("no egress: {other:?}"),
    }
}

/// Whether a datagram is refused by an ICMP error, and not just lost.
fn is_refused(from: &UdpSocket, to: &str) -> bool {
    from.connect(to).unwrap();
    from.send(b"let me in").unwrap();
    from.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let answer = from.recv(&mut [0; 16]);
    matches!(answer, Err(error) if ![io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()))
}

#[test]
fn a_pod_gets_out_behind_the_node_and_nobody_reaches_it_by_its_egress_address() {
    Case::each(|case| {
        let (node, outside) = net();
        host::setup(&case.host()).unwrap();
        assert!(host::setup(&case.host()).unwrap().is_empty(), "nothing is written twice");
        let (first, second) = (Space::new(), Space::new());
        let addresses =
            [(&first, 7), (&second, 8)].map(|(space, number)| attach_in(space, &case.pod(number), case.egress));
        assert!(addresses.iter().all(|address| ids::is_egress(*address)) && addresses[0] != addresses[1]);
        assert_eq!(
            standing(&first.path(), &case.pod(7)).unwrap(),
            Standing::Plumbed,
            "also for who does not know of it"
        );
        let again = attach(&mut site(&first), &case.pod(7), case.egress).unwrap();
        assert_eq!(again, (Attached::Before(case.pod(7).host_veth), Egress::AsBefore));

        let there = at(case.outside(), 7005);
        let (inside, far) = (first.udp(&at(addresses[0], 7001)), outside.udp(&there));
        let seen = exchange(&inside, &far, &there).unwrap_or_else(|error| panic!("{case:?}: {error}\n{}", node.dump()));
        assert_eq!(seen.ip(), case.node_address(), "{case:?}");

        let _listening = first.udp(&at(addresses[0], 7009));
        let target = at(addresses[0], 7009);
        let any = |family| if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
        assert!(is_refused(&outside.udp(any(case.egress)), &target), "from outside, {case:?}");
        assert!(is_refused(&second.udp(any(case.egress)), &target), "from a pod of the node, {case:?}");
    });
}

#[test]
fn a_removed_egress_route_comes_back_and_a_detach_leaves_nothing_of_it() {
    Case::each(|case| {
        let (node, _outside) = net();
        host::setup(&case.host()).unwrap();
        let (space, pod) = (Space::new(), case.pod(7));
        let address = attach_in(&space, &pod, case.egress);
        let desired = Desired { sweep: [address].into(), ..case.desired(&[&pod]) };
        pass(&desired).unwrap();
        let before = node.dump();
        let family = if case.egress == Family::V4 { "-4" } else { "-6" };
        let table = if case.layout == Layout::Flat { "158000" } else { "main" };
        node.ip(&format!("{family} route del {address} table {table}"));
        let repaired = pass(&desired).unwrap();
        assert!(repaired.failures.is_empty() && !repaired.repairs.is_empty(), "{repaired:?}");
        assert_eq!(node.dump(), before, "{case:?}");
        assert!(pass(&desired).unwrap().repairs.is_empty(), "{case:?}");

        let gone = PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() };
        let detached = detach(&gone).unwrap();
        assert!(detached.addresses.contains(&address), "{detached:?}");
        let left = observe::kernel("eni").unwrap().ours;
        assert!(left.routes.is_empty() && left.neighbours.is_empty(), "{left:?}");
        uninstall::remove(uninstall::Counted::Dependent).unwrap();
        assert!(observe::kernel("eni").unwrap().ours.is_empty());
    });
}

#[test]
fn a_watcher_hears_of_all_of_a_pod_s_egress_that_others_take_away_or_bend() {
    Case::each(|case| {
        let (node, _outside) = net();
        host::setup(&case.host()).unwrap();
        let mut watcher = Watcher::start().unwrap();
        let mut hear = || watcher.wait_at_most(Duration::from_millis(300)).unwrap();
        let ((space, pod), (other_space, other)) = ((Space::new(), case.pod(7)), (Space::new(), case.pod(8)));
        let address = attach_in(&space, &pod, case.egress);
        attach_in(&other_space, &other, case.egress);
        assert_eq!(hear(), Changes::default(), "two attaches, {case:?}");
        let desired = case.desired(&[&pod, &other]);
        pass(&desired).unwrap();
        hear();
        let family = if case.egress == Family::V4 { "-4" } else { "-6" };
        let table = if case.layout == Layout::Flat { "158000" } else { "main" };
        let known_by = pod.addresses.iter().collect();
        for command in [
            format!("{family} route del {address} table {table}"),
            format!("{family} route replace {address} dev eth1 table {table}"),
            format!("{family} route replace {address} dev {} table {table}", other.host_veth),
            format!("{family} neigh del {address} dev {}", pod.host_veth),
        ] {
            let before = node.dump();
            node.ip(&command);
            assert_eq!(hear().addresses, known_by, "{command}, {case:?}");
            let repaired = pass(&desired).unwrap();
            assert!(repaired.failures.is_empty(), "{command}, {case:?}: {repaired:?}");
            assert_same(&before, &node.dump(), &command);
            hear();
        }
        let gone = PodDetachment { host_veth: pod.host_veth, owner: pod.owner, addresses: Vec::new() };
        detach(&gone).unwrap();
        assert_eq!(hear().addresses, known_by, "a detach tells of the address of the VPC alone, {case:?}");
    });
}

#[test]
fn the_next_pod_with_an_egress_address_has_none_of_the_connections_of_the_one_before() {
    let case = Case { egress: Family::V6, layout: Layout::Flat };
    let (node, outside) = net();
    host::setup(&case.host()).unwrap();
    let there = at(case.outside(), 7005);
    let far = outside.udp(&there);
    let given: Vec<IpAddr> = (0..2)
        .map(|_| {
            let space = Space::new();
            // The same owner begins at the same place.
            let address = attach_in(&space, &case.pod(7), case.egress);
            assert!(!node.connections().contains("fd00"), "{}", node.connections());
            exchange(&space.udp(&at(address, 7001)), &far, &there).unwrap();
            assert!(node.connections().contains("fd00"), "or this test proves nothing");
            let pod = case.pod(7);
            let gone = PodDetachment { host_veth: pod.host_veth, owner: pod.owner, addresses: Vec::new() };
            forget(&detach(&gone).unwrap().addresses, &|| true).unwrap();
            address
        })
        .collect();
    assert_eq!(given[0], given[1]);
}

/// Counts what arrives outside with an egress address.
fn count_leaks(outside: &Space) {
    outside.nft_text(
        "table inet leaks {\n chain c {\n type filter hook prerouting priority -300; policy accept;\n \
         ip6 saddr fd00::ac:0/118 counter comment \"leaked\"\n ip saddr 169.254.172.0/22 counter comment \"leaked\"\n \
         ip6 daddr fd00::ac:0/118 counter comment \"leaked\"\n ip daddr 169.254.172.0/22 counter comment \"leaked\"\n }\n}\n",
    );
}

fn leaks(outside: &Space) -> usize {
    outside
        .nft("list table inet leaks")
        .lines()
        .filter(|line| line.contains("leaked") && !line.contains("packets 0"))
        .count()
}

#[test]
fn nothing_leaves_with_an_egress_address_though_conntrack_knows_nothing_of_it() {
    Case::each(|case| {
        let (node, outside) = net();
        host::setup(&case.host()).unwrap();
        count_leaks(&outside);
        node.sysctl("netfilter/nf_conntrack_tcp_loose", "0");
        let space = Space::new();
        let address = attach_in(&space, &case.pod(7), case.egress);
        let listener = outside.run(|| TcpListener::bind((case.outside(), 0))).unwrap();
        let to = listener.local_addr().unwrap();
        let mut stream = space.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap();
        conntrack::forget(&[address].into(), &|| true).unwrap();
        // A segment of a connection that is none: no nat chain sees it.
        stream.write_all(b"late").unwrap();
        pause(200_000_000);
        let table = node.nft("list ruleset");
        let dropped = table.lines().any(|line| line.contains("nothing leaves with") && !line.contains("packets 0"));
        assert!(dropped && leaks(&outside) == 0, "{case:?}\n{table}\n{}", outside.nft("list ruleset"));
        // An answer to a pod that is gone, of a connection that is still known.
        let there = at(case.outside(), 7005);
        let (inside, far) = (space.udp(&at(address, 7001)), outside.udp(&there));
        let seen = exchange(&inside, &far, &there).unwrap();
        let pod = case.pod(7);
        detach(&PodDetachment { host_veth: pod.host_veth, owner: pod.owner, addresses: Vec::new() }).unwrap();
        far.send_to(b"too late", seen).unwrap();
        pause(200_000_000);
        assert_eq!(leaks(&outside), 0, "{case:?}");
    });
}

#[test]
fn a_flow_that_began_while_the_table_was_away_is_translated_once_it_is_back() {
    Case::each(|case| {
        let (node, outside) = net();
        host::setup(&case.host()).unwrap();
        let space = Space::new();
        let address = attach_in(&space, &case.pod(7), case.egress);
        let family = if case.egress == Family::V4 { "ip" } else { "ip6" };
        node.nft_text(&format!(
            "delete table {family} enid\ntable inet others {{\n chain c {{\n type filter hook forward priority 0; policy accept;\n \
             ct state new counter\n }}\n}}\n"
        ));
        let there = at(case.outside(), 7005);
        let (inside, far) = (space.udp(&at(address, 7001)), outside.udp(&there));
        inside.send_to(b"early", &there).unwrap();
        assert_eq!(far.recv_from(&mut [0; 16]).unwrap().1.ip(), address, "or this test proves nothing");
        host::setup(&case.host()).unwrap();
        assert_eq!(exchange(&inside, &far, &there).unwrap().ip(), case.node_address(), "{case:?}");
    });
}

#[test]
fn a_living_pod_keeps_its_way_out_when_the_setting_is_off_whatever_others_remove() {
    let case = Case { egress: Family::V6, layout: Layout::Flat };
    let (node, outside) = net();
    host::setup(&case.host()).unwrap();
    let (space, pod) = (Space::new(), case.pod(7));
    let address = attach_in(&space, &pod, case.egress);
    let live = LivePod {
        owner: pod.owner.clone(),
        host_veth: Some(pod.host_veth.clone()),
        addresses: pod.addresses,
        eni_table: None,
        layout: PodLayout::Flat { table: ids::POD_TABLE, group: ids::DEFAULT_GROUP },
    };
    let desired = Desired {
        host: Some(HostSetup { families: Families::V4, ..case.host() }),
        enis: Vec::new(),
        pods: vec![live],
        spared: pod.addresses.iter().collect(),
        sweep: [address].into(),
    };
    pass(&desired).unwrap();
    let there = at(case.outside(), 7005);
    let (inside, far) = (space.udp(&at(address, 7001)), outside.udp(&there));
    node.ip(&format!("-6 route del {address} table 158000"));
    node.ip("-6 rule del priority 512");
    node.nft_text("delete table ip6 enid\n");
    node.sysctl("ipv6/conf/all/forwarding", "0");
    node.ip("-6 route replace default via 2600:1f13::1");
    pass(&desired).unwrap();
    assert_eq!(exchange(&inside, &far, &there).unwrap().ip(), case.node_address());
    assert!(pass(&desired).unwrap().repairs.is_empty());
}

#[test]
fn what_keeps_ipv6_from_a_pod_keeps_nothing_else_from_it() {
    let case = Case { egress: Family::V6, layout: Layout::Flat };
    let (node, _outside) = net();
    host::setup(&case.host()).unwrap();
    // Hardened nodes have it off by default and on for their ENI only.
    node.sysctl("ipv6/conf/default/disable_ipv6", "1");
    let space = Space::new();
    attach_in(&space, &case.pod(7), case.egress);
    let (small, pod) = (Space::new(), PodAttachment { mtu: 1_000, ..case.pod(8) });
    let (_, egress) = attach(&mut site(&small), &pod, case.egress).unwrap();
    assert!(matches!(&egress, Egress::None(why) if why.contains("1280")), "{egress:?}");
    assert_eq!(standing(&small.path(), &pod).unwrap(), Standing::Plumbed);
}

#[test]
fn without_a_way_out_of_the_node_a_pod_is_attached_without() {
    let case = Case { egress: Family::V6, layout: Layout::Flat };
    let (node, _outside) = net();
    host::setup(&case.host()).unwrap();
    node.ip("-6 route del default");
    let (space, pod) = (Space::new(), case.pod(7));
    let (_, egress) = attach(&mut site(&space), &pod, case.egress).unwrap();
    assert!(matches!(egress, Egress::None(why) if why.contains("no default route")));
    assert_eq!(standing(&space.path(), &pod).unwrap(), Standing::Plumbed);
    assert!(!space.ip("-6 addr show dev eth0").contains("fd00"));
}

#[test]
fn a_node_that_hears_routers_goes_on_hearing_them_when_it_forwards() {
    let case = Case { egress: Family::V6, layout: Layout::Flat };
    let (node, _outside) = net();
    node.sysctl("ipv6/conf/eth0/accept_ra", "1");
    host::setup(&case.host()).unwrap();
    assert_eq!(node.sysctl_value("ipv6/conf/eth0/accept_ra"), "2");
    assert_eq!(node.sysctl_value("ipv6/conf/all/forwarding"), "1");
}
