// SPDX-License-Identifier: Apache-2.0
//! The kernel's counters of lost connections: read, and seen to rise when the table is full.
#![expect(clippy::disallowed_methods, reason = "a test sets what is the whole machine's, in a machine of its own")]

use std::fs;

use crate::apply::conntrack::message;
use crate::apply::conntrack::{self, Losses};
use crate::apply::netlink::raw::Message;
use crate::apply::testbed::Space;

#[test]
fn counters_of_a_new_namespace_are_read_and_nought() {
    let _node = Space::enter_new();
    assert_eq!(conntrack::losses().unwrap(), Some(Losses::default()));
}

#[test]
fn each_counter_is_taken_for_what_it_is() {
    // CTA_STATS_FOUND, _INVALID, _INSERT_FAILED, _DROP, _EARLY_DROP, _ERROR (`enum ctattr_stats_cpu`).
    let counters = [(2, 1_u32), (4, 2), (9, 3), (10, u32::MAX), (11, 5), (12, 6)];
    let entry =
        counters.iter().fold(Message::new(0, 0, 0), |entry, (kind, value)| entry.with(*kind, &value.to_be_bytes()));
    assert_eq!(message::losses(&entry), [3, u64::from(u32::MAX), 5]);
    assert_eq!(message::losses(&Message::new(0, 0, 0)), [0, 0, 0]);
}

#[test]
fn clashes_are_not_counted_for_want_of_room_too() {
    let losses = |insert_failed, dropped| Losses { insert_failed, dropped, early_dropped: 2 };
    assert_eq!([[3, 10, 2], [3, 3, 2], [3, 1, 2]].map(Losses::of), [losses(3, 7), losses(3, 0), losses(3, 0)]);
}

/// Sets the most connections of the whole machine, from its first namespace.
fn set_most(value: &str) {
    std::thread::scope(|scope| {
        let set = || {
            let first = fs::File::open("/proc/1/ns/net").unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&first), kind).unwrap();
            fs::write("/proc/sys/net/netfilter/nf_conntrack_max", value).unwrap();
        };
        scope.spawn(set).join().unwrap();
    });
}

/// Sets it back, whatever becomes of the test.
struct Restored(String);

impl Drop for Restored {
    fn drop(&mut self) {
        set_most(&self.0);
    }
}

/// The most connections is one number for the whole machine: only in a machine of the test's own may it be made small, and there
/// it runs alone (scripts/vm-init.sh).
#[test]
#[ignore = "sets nf_conntrack_max for the whole machine: runs in the virtual machine (make test-vm)"]
fn packets_that_a_full_table_drops_are_counted() {
    const SMALL: u64 = 300;
    assert!(std::env::var_os("ENID_IN_VM").is_some(), "not on a machine that is used: run `make test-vm`");
    let (node, pod) = (Space::enter_new(), Space::new());
    pod.ip("link set lo up");
    node.link("far", "02:00:00:00:00:01", &pod, "eth0");
    node.ip("addr add 10.0.0.1/24 dev far");
    pod.ip("addr add 10.0.0.7/24 dev eth0");
    // Something asks for connections, so they are tracked.
    node.nft_text("table ip watch { chain in { type filter hook input priority 0; ct state new counter; }; }");
    let restored = Restored(node.sysctl_value("netfilter/nf_conntrack_max"));
    let answerer = node.udp("10.0.0.1:53");
    set_most(&SMALL.to_string());
    let socket = pod.udp("0.0.0.0:0");
    for port in 0..2_000_u16 {
        // Each to another port is a connection of its own; what is lost is the point.
        let _ = socket.send_to(b"?", format!("10.0.0.1:{}", 1_000 + port));
    }
    let (fill, losses) = (conntrack::fill().unwrap().unwrap(), conntrack::losses().unwrap().unwrap());
    drop(restored);
    drop(answerer);
    assert_eq!(fill.1, SMALL);
    // Unanswered ones give way while the kernel finds any near; then packets are dropped.
    assert!(losses.early_dropped + losses.dropped >= 2_000 - 2 * SMALL, "{losses:?}, {fill:?}");
    println!("{losses:?} with {} of {} connections", fill.0, fill.1);
}
