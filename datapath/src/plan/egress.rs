// SPDX-License-Identifier: Apache-2.0
//! Egress between families: a pod that has an address of the VPC in one family gets out in the other by an address that only its
//! own node knows, behind the node's (ENABLE_V6_EGRESS, ENABLE_V4_EGRESS; amazon-vpc-cni-k8s has a plugin of its own for it).
//!
//! The egress address is the second of the pod's two addresses, on the same link, plumbed and repaired as the first
//! ([`super::pod`]), but for rules: it leaves by main, whatever ENI the pod is on. `apply::egress` chooses it.
//!
//! | chain, in our table of the family | hook, priority | does |
//! |---|---|---|
//! | `egress_only` | filter forward, 0 | new connection to an egress address: refused. Nobody reaches a pod by it, other pods of the node neither |
//! | `egress` | nat postrouting, 109 | from an egress address: source becomes the node's |
//!
//! Before 110, so that SNAT to other blocks or none at all ([`super::snat`]) changes nothing for it. IPv6 is masqueraded: the
//! kernel knows which of the link's addresses leads to a destination, while IPv4 has the node's primary address for all.
//!
//! Worked example: pod 10.0.1.7, fd00::ac:9 opens `[2001:db8::80]:443`. Main has the node's default route, eth0; the packet leaves
//! with source 2600:1f13::10, and the answer is turned back to fd00::ac:9, to which the table of pod routes leads.
//!
//! Invariant: no packet leaves the node with an egress address, and none that opens a connection reaches one.

use std::net::IpAddr;

use super::host::HostSetup;
use super::ids;
use super::model::Family;
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, Statement, Transport, Within};

/// Name of the set of egress addresses.
pub const EGRESS: &str = "egress_addresses";

/// What egress in this family adds to our table of the family; `None`: it is not wanted.
#[must_use]
pub fn part(host: &HostSetup, family: Family) -> Option<(NftSet, [NftChain; 2])> {
    (host.families.egress() == Some(family)).then(|| {
        let set = NftSet::new(EGRESS, family, [ids::egress_range(family)]);
        (set, [egress_only(family), egress(host, family)])
    })
}

fn egress_only(family: Family) -> NftChain {
    NftChain {
        name: "egress_only",
        kind: ChainType::Filter,
        hook: Hook::Forward,
        priority: 0,
        rules: vec![NftRule {
            purpose: "nobody reaches a pod by its egress address",
            matches: vec![Match::Destination(family, Within::Inside(EGRESS)), Match::ConnectionNew],
            statements: vec![Statement::Counter, Statement::Refuse(family)],
        }],
    }
}

/// As for SNAT, a range of ports takes one rule more for each transport that has ports.
fn egress(host: &HostSetup, family: Family) -> NftChain {
    let rewrite = |transport: Option<Transport>| {
        let (range, ports) = (host.port_range.filter(|_| transport.is_some()), host.port_choice);
        match family {
            Family::V4 => Statement::Snat { to: IpAddr::V4(host.primary_address), range, ports },
            Family::V6 => Statement::Masquerade { range, ports },
        }
    };
    let rule = |transport: Option<Transport>| NftRule {
        purpose: "egress has the node's address",
        matches: std::iter::once(Match::Source(family, Within::Inside(EGRESS)))
            .chain(transport.map(Match::Transport))
            .collect(),
        statements: vec![Statement::Counter, rewrite(transport)],
    };
    let ranged = [Transport::Tcp, Transport::Udp].into_iter().filter(|_| host.port_range.is_some());
    NftChain {
        name: "egress",
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: 109,
        rules: ranged.map(Some).chain([None]).map(rule).collect(),
    }
}
