// SPDX-License-Identifier: Apache-2.0
//! Layouts in the kernel: what an attach leaves, how many rules there are, and a change of layout under traffic.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::packets::{Net, Way, exchange, host_setup};
use crate::apply::pod::{Detached, Standing, attach, detach, standing};
use crate::apply::repair::{Desired, pass};
use crate::apply::testbed::{Space, assert_same, pause, pod, settle, wait_for_carrier};
use crate::apply::{ApplyError, eni, fault, host, observe};
use crate::plan::eni::{EniSetup, Steering};
use crate::plan::host::{HostSetup, Layout};
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodDetachment, PodLayout};
use crate::plan::pods::LivePod;
use crate::plan::{Mark, Rule, answers, ids, marks};

fn flat(pod: PodAttachment, group: u32) -> PodAttachment {
    PodAttachment { layout: PodLayout::Flat { table: ids::POD_TABLE, group }, ..pod }
}

fn of(pod: &PodAttachment) -> PodDetachment {
    PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() }
}

#[test]
fn a_flat_pod_has_its_route_in_the_table_of_pods_its_group_and_no_rule_and_a_detach_takes_all_of_it() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    let pod = flat(pod("a", Ipv4Addr::new(10, 0, 1, 7), Some(2)), 158_001);
    attach(&sandbox.path(), &pod).unwrap();
    let state = observe::kernel("eni").unwrap();
    assert_eq!((state.ours.rules.len(), state.ours.routes.len()), (0, 1));
    assert_eq!((state.ours.routes[0].table, state.pods[0].group), (ids::POD_TABLE, 158_001));
    assert_eq!(state.pods[0].host_routes, pod.addresses.iter().collect::<Vec<_>>());
    assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
    let as_classic = PodAttachment { layout: PodLayout::Classic, ..pod.clone() };
    assert_eq!(standing(&sandbox.path(), &as_classic).unwrap(), Standing::Plumbed, "the daemon changes it over");
    assert_eq!(detach(&of(&pod)).unwrap(), Detached { addresses: pod.addresses.iter().collect(), was_live: true });
    assert!(observe::kernel("eni").unwrap().ours.is_empty());
    assert!(node.ip("route show table 158000").is_empty());
}

#[test]
fn a_failed_attach_of_a_flat_pod_leaves_what_was_there() {
    for layouts in [[false, true], [true, false], [true, true]] {
        let inside = || {
            let (node, first_sandbox, second_sandbox) = (Space::enter_new(), Space::new(), Space::new());
            host::setup(&HostSetup { layout: Layout::Flat, ..host_setup() }).unwrap_err();
            node.ip("rule add priority 512 from all lookup 158000 protocol 158");
            let address = Ipv4Addr::new(10, 0, 1, 7);
            let [first, second] = ["a", "b"].map(|name| pod(name, address, Some(2)));
            let [first, second] = [(first, layouts[0]), (second, layouts[1])]
                .map(|(pod, is_flat)| if is_flat { flat(pod, 0) } else { pod });
            attach(&first_sandbox.path(), &first).unwrap();
            wait_for_carrier(&node, first.host_veth.as_str());
            let before = node.dump();
            let error = attach(&second_sandbox.path(), &second).unwrap_err();
            assert!(matches!(error, ApplyError::AddressInUse { .. }), "{layouts:?}: {error}");
            assert_same(&before, &node.dump(), &format!("{layouts:?}"));
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    }
}

#[test]
fn a_stale_rule_to_the_address_does_not_lead_a_flat_pod_s_packets_away() {
    let net = Net::plumbed_by("0", Way::Mark);
    let sandbox = Space::new();
    let pod = Way::Mark.on_secondary("a");
    net.node.ip("rule add priority 512 to 10.0.1.7 lookup main");
    net.node.ip("rule add priority 512 to 10.0.1.7 lookup main protocol 158");
    net.node.ip("rule add priority 1536 from 10.0.1.7 lookup main");
    attach(&sandbox.path(), &pod).unwrap();
    settle(&sandbox);
    assert!(!net.node.ip("rule").contains("10.0.1.7"), "{}", net.node.ip("rule"));
}

#[test]
fn the_number_of_rules_does_not_depend_on_the_number_of_flat_pods() {
    let net = Net::plumbed_by("0", Way::Mark);
    let rules = || net.node.ip("rule").lines().count();
    let mut counts = BTreeSet::from([rules()]);
    let mut sandboxes = Vec::new();
    for number in 0..40_u8 {
        let sandbox = Space::new();
        let (table, group) = if number % 2 == 0 { (Some(2), 158_001) } else { (None, 0) };
        let name = format!("pod-{number}");
        attach(&sandbox.path(), &flat(pod(&name, Ipv4Addr::new(10, 0, 2, number), table), group)).unwrap();
        counts.insert(rules());
        sandboxes.push(sandbox);
    }
    assert_eq!(counts.len(), 1, "{counts:?}");
    let classic = Space::new();
    attach(&classic.path(), &pod("classic", Ipv4Addr::new(10, 0, 3, 1), Some(2))).unwrap();
    assert_eq!(rules(), counts.first().unwrap() + 2, "the reference's layout has two a pod");
}

/// Sends numbered datagrams until told to stop; how many.
fn flood(from: &UdpSocket, to: SocketAddr, stop: &AtomicBool) -> u32 {
    let mut sent = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        from.send_to(&sent.to_be_bytes(), to).unwrap();
        sent += 1;
        // A receiver that gets no processor for a quarter of a second must not lose any for want of buffer.
        pause(1_000_000);
    }
    sent
}

/// Counts what arrives until the senders have stopped and nothing does any more.
fn drain(socket: &UdpSocket, stop: &AtomicBool, heard: &AtomicU32) {
    loop {
        match socket.recv_from(&mut [0; 8]) {
            Ok(_) => _ = heard.fetch_add(1, Ordering::Relaxed),
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

fn desired(way: Way, pods: impl IntoIterator<Item = PodAttachment>) -> Desired {
    let live = |pod: PodAttachment| LivePod {
        owner: pod.owner,
        host_veth: Some(pod.host_veth),
        addresses: pod.addresses,
        eni_table: pod.eni_table,
        layout: pod.layout,
    };
    Desired {
        host: Some(HostSetup { layout: way.layout(), ..host_setup() }),
        enis: vec![way.eni()],
        pods: pods.into_iter().map(live).collect(),
        spared: BTreeSet::from([Ipv4Addr::new(10, 0, 1, 20).into(), Ipv4Addr::new(10, 0, 0, 10).into()]),
        sweep: BTreeSet::new(),
    }
}

#[test]
fn a_pod_that_is_detached_while_its_layout_changes_stays_dead_and_leaves_nothing() {
    // Before anything is made for it, and before its link's group changes.
    for step in 0..2 {
        let inside = move || {
            let net = Net::plumbed_by("0", Way::Classic);
            let (sandbox, pod) = (Space::new(), Way::Classic.on_secondary("s"));
            attach(&sandbox.path(), &pod).unwrap();
            let gone = of(&pod);
            fault::meanwhile_after(step, move || assert!(detach(&gone).unwrap().was_live));
            pass(&desired(Way::Mark, [Way::Mark.on_secondary("s")])).unwrap();
            assert!(fault::has_happened());
            let link = net.node.ip(&format!("-d link show {}", pod.host_veth));
            assert!(link.contains("group 57005"), "step {step}: {link}");
            let left = ["rule", "route show table all", "neigh show nud permanent"].map(|list| net.node.ip(list));
            assert!(!left.concat().contains("10.0.1.7"), "step {step}: {left:?}");
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    }
}

fn changes_under_traffic(way: Way) {
    let net = Net::plumbed_by("0", Way::Classic);
    let (secondary, primary) = (Space::new(), Space::new());
    let pods = [Way::Classic.on_secondary("s"), Way::Classic.on_primary("p")];
    attach(&secondary.path(), &pods[0]).unwrap();
    attach(&primary.path(), &pods[1]).unwrap();
    settle(&secondary);
    settle(&primary);
    let desired = |way: Way| desired(way, [way.on_secondary("s"), way.on_primary("p")]);
    let ends = [(secondary.udp("0.0.0.0:7001"), "10.0.1.7:7001"), (primary.udp("0.0.0.0:7002"), "10.0.0.8:7002")];
    let routers = [net.router.udp("10.0.1.1:7003"), net.router.udp("10.0.0.1:7004")];
    let stop = AtomicBool::new(false);
    let heard = AtomicU32::new(0);
    let sent: u32 = std::thread::scope(|scope| {
        let mut senders = Vec::new();
        for ((end, address), router) in ends.iter().zip(&routers) {
            let (to_pod, to_router) = (address.parse().unwrap(), router.local_addr().unwrap());
            senders.push(scope.spawn({
                let stop = &stop;
                move || flood(end, to_router, stop)
            }));
            senders.push(scope.spawn({
                let stop = &stop;
                move || flood(router, to_pod, stop)
            }));
            scope.spawn(|| drain(end, &stop, &heard));
            scope.spawn(|| drain(router, &stop, &heard));
        }
        for turn in 0..20 {
            let way = if turn % 2 == 0 { way } else { Way::Classic };
            let done = pass(&desired(way)).unwrap();
            assert!(done.failures.is_empty(), "{:?}", done.failures);
            assert!(!done.repairs.is_empty(), "nothing changed");
            assert!(pass(&desired(way)).unwrap().repairs.is_empty(), "{way:?}: nothing is left to change");
            let own =
                |rule: &Rule| rule.from.or(rule.to).is_some_and(|net| net.prefix_len() == 32) && rule.priority < 32_000;
            let of_pods = observe::kernel("eni").unwrap().ours.rules.into_iter().filter(own).count();
            assert_eq!(of_pods, if way == Way::Classic { 3 } else { 0 }, "{way:?}");
        }
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    assert!(sent > 400, "{sent} datagrams are too few to tell");
    assert_eq!(heard.load(Ordering::Relaxed), sent, "a datagram was lost");
    assert!(!net.node.ip("rule").contains("158000"), "nothing of layout flat is left");
    assert!(!net.node.nft("list table ip enid").contains("eni_marks"));
}

#[test]
fn layouts_change_to_and_fro_under_traffic_without_a_packet_lost() {
    for way in [Way::Mark, Way::Prefix] {
        std::thread::scope(|scope| scope.spawn(|| changes_under_traffic(way)).join().unwrap());
    }
}

/// Sets it when the work is over, panicking or not.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends both ways between two sockets while the work goes on: how many datagrams were sent, and how many came.
fn under_traffic(ends: [&UdpSocket; 2], addresses: [&str; 2], work: impl FnOnce()) -> (u32, u32) {
    let (stop, heard) = (&AtomicBool::new(false), AtomicU32::new(0));
    let [to_first, to_second] = addresses.map(|address| address.parse().unwrap());
    let sent = std::thread::scope(|scope| {
        let stopping = Stop(stop);
        let senders =
            [(ends[0], to_second), (ends[1], to_first)].map(|(end, to)| scope.spawn(move || flood(end, to, stop)));
        for end in ends {
            scope.spawn(|| drain(end, stop, &heard));
        }
        work();
        drop(stopping);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    (sent, heard.into_inner())
}

#[test]
fn another_mask_of_enis_and_connections_under_traffic_loses_no_packet_whichever_is_set_up_first() {
    let net = Net::plumbed_by("0", Way::Mark);
    let sandbox = Space::new();
    attach(&sandbox.path(), &Way::Mark.on_secondary("s")).unwrap();
    settle(&sandbox);
    let (pod, router) = (sandbox.udp("0.0.0.0:7001"), net.router.udp("10.0.0.1:7003"));
    let (asker, answerer) = (sandbox.udp("0.0.0.0:7002"), net.router.udp("10.0.0.1:7004"));
    let change = |mask, connmark, node_first: bool| {
        let place = Place::new(0, 1).unwrap();
        let steering = Some(Steering { mark: marks::of_eni(mask, place), prefixes: Vec::new() });
        let eni_setup = EniSetup { steering, answers: answers::of_eni(mask, place), ..Way::Mark.eni() };
        let connmark = Mark { value: connmark, mask: connmark };
        let node = HostSetup { layout: Layout::Flat, eni_mark_mask: mask, connmark, ..host_setup() };
        for of_node in [node_first, !node_first] {
            let written = if of_node { host::setup(&node) } else { eni::setup(&eni_setup) };
            written.unwrap();
            let seen = exchange(&asker, &answerer, "10.0.0.1:7004").unwrap();
            assert_eq!(seen.ip().to_string(), "10.0.1.7", "{mask:#x}, the node first: {node_first}");
        }
        let rules = net.node.ip("rule");
        let marked: Vec<_> = rules.lines().filter(|rule| rule.contains("fwmark")).collect();
        let of_enis = marked.get(1..).unwrap_or_default();
        assert!(of_enis.iter().all(|rule| rule.contains(&format!("/{mask:#x} "))), "{rules}");
        assert_eq!(of_enis.len(), 1 + usize::from(eni_setup.answers.is_some()), "{rules}");
        assert!(marked[0].contains(&format!("fwmark {:#x}/", connmark.value)), "{rules}");
    };
    let changes = [(0xf00, 0x10), (0x7f, 0x80), (0xf, 0x10), (0x7f00, 0x20), (0x7f, 0x80), (0xf, 0x10)];
    let work = || changes.into_iter().enumerate().for_each(|(turn, (mask, mark))| change(mask, mark, turn % 2 == 0));
    let (sent, heard) = under_traffic([&pod, &router], ["10.0.1.7:7001", "10.0.0.1:7003"], work);
    assert!(sent > 100, "{sent} datagrams are too few to tell");
    assert_eq!(heard, sent, "a datagram was lost");
}

#[test]
fn pods_wait_with_a_new_layout_while_their_eni_s_rules_cannot_be_set_up() {
    let _net = Net::plumbed_by("0", Way::Classic);
    let sandbox = Space::new();
    let classic = Way::Classic.on_secondary("s");
    attach(&sandbox.path(), &classic).unwrap();
    let flat = Way::Mark.on_secondary("s");
    let pods = vec![LivePod {
        owner: flat.owner,
        host_veth: Some(flat.host_veth),
        addresses: flat.addresses,
        eni_table: flat.eni_table,
        layout: flat.layout,
    }];
    let broken = HostSetup { layout: Layout::Flat, mtu: 70_000, ..host_setup() };
    let desired = Desired {
        host: Some(broken),
        enis: vec![Way::Mark.eni()],
        pods,
        spared: BTreeSet::new(),
        sweep: BTreeSet::new(),
    };
    let done = pass(&desired).unwrap();
    assert_eq!(done.failures.len(), 1, "{:?}", done.failures);
    let state = observe::kernel("eni").unwrap();
    assert_eq!((state.pods[0].group, state.ours.rules.iter().filter(|rule| rule.priority == 512).count()), (0, 1));
    eni::setup(&Way::Classic.eni()).unwrap();
}
