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
//! | `egress_untranslated` | filter postrouting, 150 | still from an egress address: dropped. No nat chain sees a packet that belongs to no connection (a late RST), or to one that began before this table was there. To an egress address by another link than a pod's: dropped, for its pod is gone |
//! | `egress_segment_size` | filter forward, -150 | IPv6 with ENID_EXTERNAL_MTU: as [`super::mss`], all of it leaves the VPC |
//!
//! Before 110, so that SNAT to other blocks or none at all ([`super::snat`]) changes nothing for it. IPv6 is masqueraded: the
//! kernel knows which of the link's addresses leads to a destination, while IPv4 has the node's primary address for all.
//!
//! Worked example: pod 10.0.1.7, fd00::ac:9 opens `[2001:db8::80]:443`. Main has the node's default route, eth0; the packet leaves
//! with source 2600:1f13::10, and the answer is turned back to fd00::ac:9, to which the table of pod routes leads.
//!
//! The node itself, and so its host-network pods, may open connections to a pod's egress address.
//!
//! Invariant: no packet leaves the node from or to an egress address, and none that opens a connection and was not the node's own reaches
//! one.

use std::net::IpAddr;

use super::host::HostSetup;
use super::ids;
use super::model::Family;
use super::mss;
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, Statement, Transport, Within};
use super::snat;

/// Name of the set of egress addresses.
pub const EGRESS: &str = "egress_addresses";
/// IPv6 and TCP headers without options (RFC 8200 §3, RFC 9293 §3.7.1).
const IPV6_HEADERS: u32 = 60;

/// What egress in this family adds to our table of the family; `None`: it is not wanted.
#[must_use]
pub fn part(host: &HostSetup, family: Family) -> Option<(NftSet, Vec<NftChain>)> {
    (host.families.egress() == Some(family)).then(|| {
        let set = NftSet::new(EGRESS, family, [ids::egress_range(family)]);
        let mut chains = vec![egress_only(family), egress(host, family), untranslated(host, family)];
        if family == Family::V6 {
            chains.extend(segment_size(host));
        }
        (set, chains)
    })
}

/// An answer may come when its pod is gone and its connection is not yet forgotten.
fn untranslated(host: &HostSetup, family: Family) -> NftChain {
    let rule =
        |purpose, matches, statements: &[Statement]| NftRule { purpose, matches, statements: statements.to_vec() };
    let drop = [Statement::Counter, Statement::Drop];
    let (from, to) = (Within::Inside(EGRESS), Within::Inside(EGRESS));
    NftChain {
        name: "egress_untranslated",
        kind: ChainType::Filter,
        hook: Hook::Postrouting,
        priority: 150,
        rules: vec![
            rule("nothing leaves with an egress address", vec![Match::Source(family, from)], &drop),
            rule("to pods", vec![Match::OutputPrefix(host.veth_prefix.clone())], &[Statement::Accept]),
            rule("nothing leaves to an egress address", vec![Match::Destination(family, to)], &drop),
        ],
    }
}

/// IPv6 only: the chain of IPv4 looks at all that leaves the VPC, egress too.
fn segment_size(host: &HostSetup) -> Option<NftChain> {
    let own = Within::Inside(EGRESS);
    let ends = [Match::Source(Family::V6, own), Match::Destination(Family::V6, own)];
    mss::fit(host, "egress_segment_size", IPV6_HEADERS, ends)
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

fn egress(host: &HostSetup, family: Family) -> NftChain {
    let rule = |transport: Option<Transport>| {
        let (range, ports) = (host.port_range.filter(|_| transport.is_some()), host.port_choice);
        let rewrite = match family {
            Family::V4 => Statement::Snat { to: IpAddr::V4(host.primary_address), range, ports },
            Family::V6 => Statement::Masquerade { range, ports },
        };
        let from = std::iter::once(Match::Source(family, Within::Inside(EGRESS)));
        NftRule {
            purpose: "egress has the node's address",
            matches: from.chain(transport.map(Match::Transport)).collect(),
            statements: vec![Statement::Counter, rewrite],
        }
    };
    NftChain {
        name: "egress",
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: 109,
        rules: snat::rewritten_transports(host).map(rule).collect(),
    }
}
