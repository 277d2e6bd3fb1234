// SPDX-License-Identifier: Apache-2.0
//! A driver's statistics: the ones that are taken, and the real ioctl on a link whose driver has others.

use std::collections::BTreeMap;

use crate::apply::ethtool::{self, Allowance};
use crate::apply::testbed::Space;

/// As `ethtool -S` of an ENA link shows them, in its order (ENA driver 2.13).
const OF_ENA: &[(&str, u64)] = &[
    ("total_resets", 0),
    ("tx_timeout", 0),
    ("bw_in_allowance_exceeded", 17),
    ("bw_out_allowance_exceeded", 0),
    ("pps_allowance_exceeded", u64::MAX),
    ("conntrack_allowance_exceeded", 3),
    ("linklocal_allowance_exceeded", 1),
    ("conntrack_allowance_available", 136_812),
    ("queue_0_tx_cnt", 4711),
    ("future_allowance_exceeded", 9),
];

#[test]
fn of_what_ena_tells_the_allowances_are_taken_and_nothing_else() {
    let found = ethtool::pick(OF_ENA.iter().map(|(name, value)| ((*name).to_owned(), *value)));
    let wanted = BTreeMap::from([
        (Allowance::BandwidthIn, 17),
        (Allowance::BandwidthOut, 0),
        (Allowance::PacketRate, u64::MAX),
        (Allowance::Connections, 3),
        (Allowance::LinkLocal, 1),
    ]);
    assert_eq!(found, wanted);
}

#[test]
fn an_older_driver_that_has_some_of_them_gives_those() {
    let found = ethtool::pick([("pps_allowance_exceeded".to_owned(), 2), ("rx_bytes".to_owned(), 1)]);
    assert_eq!(found, BTreeMap::from([(Allowance::PacketRate, 2)]));
}

#[test]
fn names_end_at_their_first_zero_and_a_piece_of_one_is_none() {
    let mut bytes = vec![0; 70];
    bytes[..3].copy_from_slice(b"one");
    bytes[32..64].copy_from_slice(&[b'x'; 32]);
    assert_eq!(ethtool::names(&bytes), ["one".to_owned(), "x".repeat(32)]);
    assert_eq!(ethtool::values(&[1, 0, 0, 0, 0, 0, 0, 0, 9]), [u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0])]);
}

/// veth has statistics (`drivers/net/veth.c`): the peer's index first, then those of its queues.
#[test]
fn the_kernel_tells_all_statistics_of_a_veth_and_none_of_them_is_an_allowance() {
    let node = Space::enter_new();
    node.ip("link add one type veth peer name two");
    let index = node.ip_json("link show two")[0]["ifindex"].as_u64().unwrap();
    let all = ethtool::statistics("one").unwrap();
    assert_eq!(all.first(), Some(&("peer_ifindex".to_owned(), index)), "{all:?}");
    let is_named = |(name, _): &(String, u64)| !name.is_empty() && name.is_ascii();
    assert!(all.len() > 1 && all.iter().all(is_named), "{all:?}");
    assert_eq!(ethtool::pick(all), BTreeMap::new());
}

#[test]
fn a_link_without_statistics_and_one_that_is_gone_have_none() {
    let _node = Space::enter_new();
    for link in ["lo", "gone", "a-name-that-is-too-long"] {
        assert_eq!(ethtool::statistics(link).unwrap(), [], "{link}");
    }
    assert_eq!(ethtool::exceeded().unwrap(), BTreeMap::new());
}
