// SPDX-License-Identifier: Apache-2.0
//! Notifications as bytes, to a node with an ENI, a pod and a link in the dead group.

use super::classify::{Change, Links, messages, nft_change};
use crate::apply::netlink::read::Link;
use crate::plan::{MacAddr, ids};

fn link(index: u32, name: &str, group: u32, alias: Option<&str>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 9001,
        up: true,
        group,
        alias_text: alias.map(str::to_owned),
        kind: alias.map(|_| "veth".to_owned()),
        peer: None,
        rp_filter: Some(0),
        ipv6: None,
    }
}

/// One datagram after the other; the first byte says of which family, 0: rtnetlink.
pub(crate) fn notifications(data: &[u8]) {
    let Some((&family, datagram)) = data.split_first() else { return };
    let mut links = Links::of(&[
        link(2, "eth0", ids::DEFAULT_GROUP, None),
        link(5, "eni0a1b2c3d4e5", ids::DEFAULT_GROUP, Some("enid aws-cni/c1/eth0 10.0.0.7")),
        link(6, "eni0a1b2c3d4e6", ids::DEAD_GROUP, Some("enid aws-cni/c2/eth0 10.0.0.8")),
    ]);
    for message in messages(datagram) {
        let change = if family == 0 { links.route_change(&message) } else { nft_change(&message) };
        if let Some(Change::Address(address)) = change {
            // By an address that only the plugin knows nobody is found.
            assert!(!ids::is_egress(address), "{message:?}");
        }
    }
}
