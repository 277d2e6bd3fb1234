// SPDX-License-Identifier: Apache-2.0
//! Pods with an IPv6 address, or one of each family, in both layouts and on both ENIs, with real packets.
//!
//! ```text
//!  pod 2600:1f13:0:1::7, 10.0.1.7 ─┐      eth0 ── r0 2600:1f13::1,     10.0.0.1 ┐
//!  pod 2600:1f13::8, 10.0.0.8 ─────┤ node                                        router
//!                                  └      eth1 ── r1 2600:1f13:0:1::1, 10.0.1.1 ┘
//! ```
//! The router knows pods by permanent neighbours at the ENI's MAC, as a VPC does. Nothing waits after an attach: a socket gives
//! up after half a second, and duplicate address detection alone would take more than one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packets::{exchange, host_setup};
use crate::apply::pod::{Standing, attach, detach, standing, take_back};
use crate::apply::repair::{Desired, pass};
use crate::apply::testbed::{Space, assert_same, kernel_is_at_least, pause, pod, settle, wait_for_carrier};
use crate::apply::{ApplyError, eni, fault, host, observe};
use crate::plan::eni::{EniSetup, Steering};
use crate::plan::host::{Families, HostSetup, Layout};
use crate::plan::ids::Place;
use crate::plan::pod::{PodAttachment, PodDetachment, PodLayout};
use crate::plan::pods::LivePod;
use crate::plan::repair::{Fault, Object};
use crate::plan::{Family, PodAddresses, ids, marks};

const MACS: [&str; 2] = ["02:00:0a:00:00:0a", "02:00:0a:00:01:14"];
const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 8), Ipv4Addr::new(10, 0, 1, 7)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2600, 0x1f13, 0, 0, 0, 0, 0, 8), Ipv6Addr::new(0x2600, 0x1f13, 0, 1, 0, 0, 0, 7)];
/// The router, as each ENI has it.
const ROUTER: [(&str, &str); 2] = [("10.0.0.1", "2600:1f13::1"), ("10.0.1.1", "2600:1f13:0:1::1")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    V6,
    Dual,
}

impl Stack {
    fn addresses(self, eni: usize) -> PodAddresses {
        match self {
            Self::V6 => V6[eni].into(),
            Self::Dual => PodAddresses::Both(V4[eni], V6[eni]),
        }
    }
}

/// A pod on the primary (0) or secondary (1) ENI.
fn pod_on(eni: usize, stack: Stack, is_flat: bool) -> PodAttachment {
    let table = (eni == 1).then_some(2);
    let classic = pod(["p", "s"][eni], stack.addresses(eni), table);
    let group = if eni == 1 { Place::new(0, 1).unwrap().group().unwrap() } else { ids::DEFAULT_GROUP };
    let layout = if is_flat { PodLayout::Flat { table: ids::POD_TABLE, group } } else { PodLayout::Classic };
    PodAttachment { layout, ..classic }
}

fn of(pod: &PodAttachment) -> PodDetachment {
    PodDetachment { host_veth: pod.host_veth.clone(), owner: pod.owner.clone(), addresses: Vec::new() }
}

/// The node and the VPC's router; both families forwarded, as the host set-up does.
fn net() -> (Space, Space) {
    let (node, router) = (Space::enter_new(), Space::new());
    router.ip("link set lo up");
    for scope in ["all", "default"] {
        node.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "2");
    }
    node.sysctl("ipv4/ip_forward", "1");
    node.sysctl("ipv6/conf/all/forwarding", "1");
    // The ENIs' own link-local addresses have been there for long on a node; those of host veths are tested as they are.
    let detection = |value| [&node, &router].map(|space| space.sysctl("ipv6/conf/default/accept_dad", value));
    detection("0");
    for (eni, (v4, v6)) in ROUTER.into_iter().enumerate() {
        node.link(&format!("eth{eni}"), MACS[eni], &router, &format!("r{eni}"));
        router.ip(&format!("addr add {v4}/24 dev r{eni}"));
        router.ip(&format!("-6 addr add {v6}/64 dev r{eni} nodad"));
        router.ip(&format!("-6 addr add fe80:ec2::1/64 dev r{eni} nodad"));
        for address in Stack::Dual.addresses(eni).iter() {
            router.ip(&format!("neigh replace {address} lladdr {} dev r{eni} nud permanent", MACS[eni]));
        }
        wait_for_carrier(&node, &format!("eth{eni}"));
        wait_for_carrier(&router, &format!("r{eni}"));
    }
    detection("1");
    node.ip("addr add 10.0.0.10/24 dev eth0");
    node.ip("-6 addr add 2600:1f13::10/64 dev eth0 nodad");
    node.ip("addr add 10.0.1.20/24 dev eth1 noprefixroute");
    node.ip("route add default via 10.0.0.1");
    node.ip("-6 route add default via 2600:1f13::1");
    node.ip("route add default via 10.0.1.1 dev eth1 onlink table 2");
    node.ip("-6 route add default via 2600:1f13:0:1::1 dev eth1 onlink table 2");
    (node, router)
}

/// What layout flat has besides pods, where nothing else is looked at.
fn steer(node: &Space) {
    for family in ["-4", "-6"] {
        node.ip(&format!("{family} rule add priority 512 lookup 158000"));
        node.ip(&format!("{family} rule add priority 1536 from all fwmark 1/0x7f lookup 2"));
    }
    node.nft_text(
        "table inet steering { chain marks { type filter hook prerouting priority -150; iifgroup 158001 meta mark set 1; }; }",
    );
}

/// The node and its secondary ENI as the daemon sets them up, with pods of this stack.
fn set_up(stack: Stack, is_flat: bool) {
    let layout = if is_flat { Layout::Flat } else { Layout::Classic };
    let families = if stack == Stack::V6 { Families::V6 } else { Families::Both };
    let host = HostSetup { primary_mac: MACS[0].parse().unwrap(), families, layout, ..host_setup() };
    host::setup(&host).unwrap();
    let steering = is_flat.then(|| Steering {
        mark: marks::of_eni(ids::DEFAULT_ENI_MARK_MASK, Place::new(0, 1).unwrap()),
        prefixes: Vec::new(),
    });
    let eni = EniSetup {
        mac: MACS[1].parse().unwrap(),
        place: Place::new(0, 1).unwrap(),
        primary_address: Ipv4Addr::new(10, 0, 1, 20),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: 1500,
        steering,
        answers: None,
        ipv6: true,
    };
    eni::setup(&eni).unwrap();
    assert!(eni::setup(&eni).unwrap().is_empty() && host::setup(&host).unwrap().is_empty(), "nothing is written twice");
}

/// The node with this pod only.
fn desired(pod: &PodAttachment) -> Desired {
    let layout = if pod.layout == PodLayout::Classic { Layout::Classic } else { Layout::Flat };
    let pod = LivePod {
        owner: pod.owner.clone(),
        host_veth: Some(pod.host_veth.clone()),
        addresses: pod.addresses,
        eni_table: pod.eni_table,
        layout: pod.layout,
    };
    Desired {
        host: Some(HostSetup { layout, ..host_setup() }),
        enis: Vec::new(),
        pods: vec![pod],
        spared: BTreeSet::new(),
        sweep: BTreeSet::new(),
    }
}

/// Runs it for every stack and layout, each in a namespace and thread of its own.
fn for_all(run: fn(Stack, bool)) {
    for (stack, is_flat) in [(Stack::V6, false), (Stack::V6, true), (Stack::Dual, false), (Stack::Dual, true)] {
        std::thread::scope(|scope| scope.spawn(|| run(stack, is_flat)).join().unwrap());
    }
}

fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[test]
fn packets_go_everywhere_right_after_an_attach_whatever_families_layout_and_eni() {
    for_all(|stack, is_flat| {
        let (node, router) = net();
        set_up(stack, is_flat);
        let ends = [0, 1].map(|eni| {
            let (space, pod) = (Space::new(), pod_on(eni, stack, is_flat));
            attach(&space.path(), &pod).unwrap();
            // The first packet, to the node: no address of the pod was ever tentative.
            let shown = space.ip("-6 addr show dev eth0 scope global");
            assert!(!shown.contains("tentative") && shown.contains("nodad"), "{shown}");
            settle(&space);
            for (index, address) in pod.addresses.iter().enumerate() {
                let here = if address.is_ipv4() { "10.0.0.10" } else { "2600:1f13::10" };
                let here = at(here.parse().unwrap(), 7100 + u16::try_from(index).unwrap());
                let (inside, outside) = (space.udp(&at(address, 7000)), node.udp(&here));
                assert_eq!(
                    exchange(&inside, &outside, &here).unwrap().ip(),
                    address,
                    "to the node {stack:?} {is_flat}"
                );
                assert_eq!(standing(&space.path(), &pod).unwrap(), Standing::Plumbed);
            }
            (space, pod)
        });
        for family in Family::ALL {
            let own = |eni: usize| ends[eni].1.addresses.iter().find(|address| Family::of(*address) == family);
            let (Some(first), Some(second)) = (own(0), own(1)) else { continue };
            let sockets = [(0, first), (1, second)].map(|(eni, address)| ends[eni].0.udp(&at(address, 7001)));
            let seen = exchange(&sockets[0], &sockets[1], &at(second, 7001)).unwrap();
            assert_eq!(seen.ip(), first, "pod to pod");
            for (eni, address) in [first, second].into_iter().enumerate() {
                let there = if family == Family::V4 { ROUTER[eni].0 } else { ROUTER[eni].1 };
                let there = at(there.parse().unwrap(), 7002);
                let far = router.udp(&there);
                assert_eq!(
                    exchange(&sockets[eni], &far, &there).map(|seen| seen.ip()).ok(),
                    Some(address),
                    "pod to router, ENI {eni} {stack:?} {is_flat}"
                );
            }
        }
    });
}

/// Each route of a pod would be looked through at every ADD and DEL on the node.
#[test]
fn the_host_end_has_an_ipv6_address_and_routes_only_where_the_pod_has_one() {
    let node = Space::enter_new();
    let v4 = pod("v4", Ipv4Addr::new(10, 0, 0, 7), None);
    let small = PodAttachment { mtu: 1_000, ..pod("small", Ipv4Addr::new(10, 0, 0, 8), None) };
    for (pod, has_ipv6, why) in [
        (&v4, false, "it has no use for one"),
        (&pod_on(0, Stack::V6, false), true, "it is the router"),
        (&pod_on(0, Stack::Dual, false), true, "it is the router"),
        (&small, false, "a link whose MTU is too small has no IPv6, and is no error"),
        (&v4, false, "a worker of the kernel's sees links late that come soon after others"),
    ] {
        let space = Space::new();
        attach(&space.path(), pod).unwrap();
        settle(&space);
        // What a worker of the kernel's does later, it has done by then.
        pause(50_000_000);
        let shown = node.ip(&format!("-6 addr show dev {}", pod.host_veth));
        assert_eq!(shown.contains("fe80:"), has_ipv6, "{why}: {shown}");
        let all = node.ip("-6 route show table all");
        let routes: Vec<&str> = all.lines().filter(|route| route.contains(pod.host_veth.as_str())).collect();
        // Before Linux 6.8 nobody can tell the worker when.
        assert!(!kernel_is_at_least(6, 8) || routes.is_empty() != has_ipv6, "{why}: {routes:?}");
        detach(&of(pod)).unwrap();
    }
}

#[test]
fn ipv6_switched_on_later_gives_the_host_end_of_an_ipv4_pod_no_address() {
    let (node, sandbox) = (Space::enter_new(), Space::new());
    node.sysctl("ipv6/conf/default/disable_ipv6", "1");
    let pod = pod("v4", Ipv4Addr::new(10, 0, 0, 7), None);
    attach(&sandbox.path(), &pod).unwrap();
    settle(&sandbox);
    node.sysctl("ipv6/conf/all/disable_ipv6", "0");
    pause(50_000_000);
    assert_eq!(node.sysctl_value(&format!("ipv6/conf/{}/disable_ipv6", pod.host_veth)), "0");
    let shown = node.ip(&format!("-6 addr show dev {}", pod.host_veth));
    assert!(!shown.contains("fe80:"), "{shown}");
}

#[test]
fn a_namespace_made_with_ipv6_off_gets_it_on_its_link_and_lo() {
    let (_node, sandbox) = (Space::enter_new(), Space::new());
    for scope in ["all", "default", "lo"] {
        sandbox.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    let pod = pod_on(0, Stack::V6, false);
    attach(&sandbox.path(), &pod).unwrap();
    for link in ["eth0", "lo"] {
        assert_eq!(sandbox.sysctl_value(&format!("ipv6/conf/{link}/disable_ipv6")), "0");
    }
    let own = sandbox.udp(&at(V6[0].into(), 7000));
    let target = at(V6[0].into(), 7001);
    exchange(&own, &sandbox.udp(&target), &target).unwrap();
}

#[test]
fn two_detaches_leave_nothing_of_either_family() {
    for_all(|stack, is_flat| {
        let (node, sandbox) = (Space::enter_new(), Space::new());
        let before = node.dump();
        let pod = pod_on(1, stack, is_flat);
        attach(&sandbox.path(), &pod).unwrap();
        assert_eq!(observe::kernel("eni").unwrap().pods[0].host_routes, pod.addresses.iter().collect::<Vec<_>>());
        let detached = detach(&of(&pod)).unwrap();
        assert_eq!((detached.addresses, detached.was_live), (pod.addresses.iter().collect(), true));
        assert!(observe::kernel("eni").unwrap().ours.is_empty());
        let again = detach(&of(&pod)).unwrap();
        assert_eq!((again.addresses, again.was_live), (pod.addresses.iter().collect(), false));
        drop(sandbox);
        let is_clean = (0..300).any(|_| {
            pause(10_000_000);
            node.dump() == before
        });
        assert!(is_clean, "{}", node.dump());
    });
}

#[test]
fn a_fault_at_any_step_of_an_attach_leaves_nothing_of_either_family() {
    for_all(|stack, is_flat| {
        let (node, sandbox) = (Space::enter_new(), Space::new());
        let pod = pod_on(1, stack, is_flat);
        let before = (node.dump(), sandbox.dump());
        for step in 0.. {
            fault::fail_after(step);
            let result = attach(&sandbox.path(), &pod);
            if !fault::has_happened() {
                result.unwrap();
                assert!(step > 4, "only {step} steps");
                break;
            }
            assert_same(&before.0, &node.dump(), &format!("{stack:?} {is_flat}: fault at step {step}"));
            assert_same(&before.1, &sandbox.dump(), &format!("{stack:?} {is_flat}: fault at step {step}"));
        }
        take_back(&of(&pod)).unwrap();
        assert_same(&before.0, &node.dump(), "taken back");
    });
}

#[test]
fn an_ipv6_address_of_a_living_pod_is_refused_and_its_stale_link_gives_way() {
    for_all(|stack, is_flat| {
        let (node, living, sandbox) = (Space::enter_new(), Space::new(), Space::new());
        steer(&node);
        let pod = pod_on(1, stack, is_flat);
        attach(&living.path(), &pod).unwrap();
        wait_for_carrier(&node, pod.host_veth.as_str());
        let before = node.dump();
        // Another IPv4 address, the same IPv6 one, so that a dual pod's routes are refused one by one; either layout.
        for is_flat in [false, true] {
            let addresses = match stack {
                Stack::V6 => V6[1].into(),
                Stack::Dual => PodAddresses::Both(V4[0], V6[1]),
            };
            let owner = "aws-cni/other/eth0".to_owned();
            let name = crate::plan::LinkName::new("eni00000000001").unwrap();
            let other = PodAttachment { addresses, owner, host_veth: name, ..pod_on(1, stack, is_flat) };
            let error = attach(&sandbox.path(), &other).unwrap_err();
            assert!(matches!(error, ApplyError::AddressInUse { address, .. } if address == V6[1]), "{error}");
            assert_same(&before, &node.dump(), &error.to_string());
        }
        // The same pod name again: a re-created pod, whose predecessor's DEL never came.
        let next = PodAttachment { owner: "aws-cni/next/eth0".to_owned(), ..pod };
        attach(&sandbox.path(), &next).unwrap();
        assert_eq!(standing(&sandbox.path(), &next).unwrap(), Standing::Plumbed);
    });
}

/// The one after the other, in one table: the first gave its IPv6 address back only, as far as the routes are concerned.
#[test]
fn a_dead_pods_ipv6_route_gives_way_while_its_ipv4_address_goes_on() {
    let (_node, old, new) = (Space::enter_new(), Space::new(), Space::new());
    let dead = pod_on(1, Stack::V6, false);
    attach(&old.path(), &dead).unwrap();
    _node.ip(&format!("link set {} group {}", dead.host_veth, ids::DEAD_GROUP));
    let name = crate::plan::LinkName::new("eni00000000001").unwrap();
    let next =
        PodAttachment { host_veth: name, owner: "aws-cni/next/eth0".to_owned(), ..pod_on(1, Stack::Dual, false) };
    attach(&new.path(), &next).unwrap();
    assert_eq!(standing(&new.path(), &next).unwrap(), Standing::Plumbed);
}

#[test]
fn a_repair_puts_back_what_an_ipv6_pod_has_on_the_node() {
    for_all(|stack, is_flat| {
        let (node, _router) = net();
        if is_flat {
            steer(&node);
        }
        let (sandbox, pod) = (Space::new(), pod_on(1, stack, is_flat));
        attach(&sandbox.path(), &pod).unwrap();
        let desired = desired(&pod);
        let repaired = |hurt: &[String]| {
            hurt.iter().for_each(|command| drop(node.ip(command)));
            let done = pass(&desired).unwrap();
            assert!(done.failures.is_empty() && done.orphans.is_empty(), "{done:?}");
            done.repairs.iter().map(|repair| (repair.object, repair.fault)).collect::<Vec<_>>()
        };
        repaired(&[]);
        assert_eq!(repaired(&[]), []);
        let (address, veth) = (V6[1], &pod.host_veth);
        let table = if is_flat { "158000" } else { "main" };
        let route = format!("-6 route del {address}/128 dev {veth} table {table}");
        let neighbour = format!("-6 neigh del {address} dev {veth}");
        assert_eq!(repaired(&[neighbour]), [(Object::Neighbour, Fault::Missing)]);
        assert_eq!(repaired(&[route]), [(Object::Route, Fault::Missing)]);
        if !is_flat {
            let rules =
                [format!("-6 rule del priority 512 to {address}"), format!("-6 rule del priority 1536 from {address}")];
            assert_eq!(repaired(&rules), [(Object::Rule, Fault::Missing), (Object::Rule, Fault::Missing)]);
        }
        assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
        // The kernel forgets the IPv6 routes of a link that goes down.
        let down = repaired(&[format!("link set {veth} down")]);
        assert!(
            down.contains(&(Object::Link, Fault::Down)) && down.contains(&(Object::Route, Fault::Missing)),
            "{down:?}"
        );
        assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
    });
}

#[test]
fn a_pod_with_ipv6_changes_its_layout_and_back() {
    let (node, _router) = net();
    let (sandbox, pod) = (Space::new(), pod_on(1, Stack::Dual, false));
    attach(&sandbox.path(), &pod).unwrap();
    steer(&node);
    for is_flat in [true, false] {
        let wanted = pod_on(1, Stack::Dual, is_flat);
        let desired = desired(&PodAttachment { layout: wanted.layout, ..pod.clone() });
        let done = pass(&desired).unwrap();
        assert!(done.failures.is_empty(), "{done:?}");
        let routes = node.ip(&format!("-6 route show table {}", if is_flat { "158000" } else { "main" }));
        assert!(routes.contains(&V6[1].to_string()), "{routes}");
        assert_eq!(node.ip("-6 rule").contains(&V6[1].to_string()), !is_flat);
        assert_eq!(standing(&sandbox.path(), &pod).unwrap(), Standing::Plumbed);
    }
}
