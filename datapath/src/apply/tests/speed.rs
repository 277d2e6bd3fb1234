// SPDX-License-Identifier: Apache-2.0
//! An IPv6 pod is attached as fast as an IPv4 one, told without a clock: what an attach waits for is counted (it waits for
//! the kernel's answers and nothing else), and its address works the moment it returns. Times: `make bench ONLY=families`.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use super::packets::exchange;
use crate::apply::netlink::{MESSAGES, SENDS};
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, pause, pod, settle, wait_for_carrier};
use crate::plan::pod::{PodAttachment, PodLayout};
use crate::plan::{PodAddresses, ids};

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);
const V6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f13, 0, 0, 0, 0, 0, 8);

fn plumbed(addresses: impl Into<PodAddresses>, table: Option<u32>, is_flat: bool) -> PodAttachment {
    let classic = pod("p", addresses, table);
    let layout = PodLayout::Flat { table: ids::POD_TABLE, group: ids::DEFAULT_GROUP };
    if is_flat { PodAttachment { layout, ..classic } } else { classic }
}

/// Sends to the kernel and messages in them, of an attach in namespaces of its own.
fn cost(pod: &PodAttachment) -> (usize, usize) {
    let (_node, sandbox) = (Space::enter_new(), Space::new());
    let before = (SENDS.get(), MESSAGES.get());
    attach(&sandbox.path(), pod).unwrap();
    (SENDS.get() - before.0, MESSAGES.get() - before.1)
}

#[test]
fn an_attach_asks_the_kernel_as_often_for_ipv6_as_for_ipv4() {
    for (table, is_flat) in [(None, false), (Some(2), false), (None, true), (Some(2), true)] {
        let [v4, v6, both] = [V4.into(), V6.into(), PodAddresses::Both(V4, V6)]
            .map(|addresses: PodAddresses| cost(&plumbed(addresses, table, is_flat)));
        println!("table {table:?}, flat {is_flat}: {v4:?} {v6:?} {both:?} (sends, messages)");
        assert_eq!(v6.0, v4.0, "table {table:?}, flat {is_flat}");
        // One message more: the route to its own address, which the kernel makes later otherwise (`plan::pod`).
        assert!(v6.1 <= v4.1 + 1, "{v6:?} against {v4:?}, table {table:?}, flat {is_flat}");
        // The second family's own: a look whether the other layout has a route to it, the rest in sends that there are already.
        assert!(both.0 <= v4.0 + 1 && both.1 < 2 * v4.1, "{both:?} against {v4:?}");
    }
}

/// A node with an address of each family.
fn node() -> Space {
    let (node, other) = (Space::enter_new(), Space::new());
    node.link("eth0", "02:00:0a:00:00:0a", &other, "r0");
    node.ip("addr add 10.0.0.10/24 dev eth0");
    node.ip("-6 addr add 2600:1f13::10/64 dev eth0 nodad");
    wait_for_carrier(&node, "eth0");
    node
}

/// A socket at an address that the node was given by hand: the kernel's worker may take a moment for that.
fn bound(node: &Space, address: &str) -> UdpSocket {
    let bind = || node.run(|| UdpSocket::bind(address)).map_err(|_| pause(10_000_000)).ok();
    let socket = (0..300).find_map(|_| bind()).expect("the node's own address");
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Duplicate address detection takes a second and more; the sockets give up after half a one.
#[test]
fn the_first_packet_of_a_pod_goes_through_when_its_attach_has_returned() {
    for (addresses, own, far) in [
        (PodAddresses::from(V4), "10.0.0.8:7001", "10.0.0.10:7002"),
        (PodAddresses::from(V6), "[2600:1f13::8]:7001", "[2600:1f13::10]:7002"),
    ] {
        let (node, sandbox) = (node(), Space::new());
        let answerer = bound(&node, far);
        attach(&sandbox.path(), &plumbed(addresses, None, false)).unwrap();
        settle(&sandbox);
        // An address that is still being checked cannot be bound.
        let client: UdpSocket = sandbox.udp(own);
        let seen = exchange(&client, &answerer, far).unwrap();
        assert_eq!(seen.to_string(), own);
        let held = sandbox.ip("addr show dev eth0 scope global");
        assert!(!held.contains("tentative"), "{held}");
    }
}
