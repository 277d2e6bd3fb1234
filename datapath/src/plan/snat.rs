// SPDX-License-Identifier: Apache-2.0
//! Our nft table: SNAT of what pods send out of the VPC, the connection mark that keeps such traffic and node-port
//! connections on the primary ENI, and the drop of what detached pods still send. [`super::mss`], [`super::egress`] and
//! [`super::notrack`] add chains of their own. Where pods use IPv6 there is a second one for it, with those of the chains that
//! translate nothing.
//!
//! | chain | hook, priority | does |
//! |---|---|---|
//! | `dead_pods` | filter prerouting, -300 (raw) | link group 0xdead: drop, before conntrack sees it |
//! | `eni_marks` | filter prerouting, -155 | from a pod in layout `flat`: by which ENI it leaves ([`super::marks`]) |
//! | `connection_marks` | filter prerouting, -150 (mangle) | from a pod, connection has our mark: packet gets it. The rest is [`super::answers`]': new connection by the primary ENI to an address of the node: connection gets our mark; by a secondary one: that ENI's, which its answers get |
//! | `mark_outbound` | filter prerouting, -90 | new connection from a pod to what is translated: connection and packet get our mark |
//! | `source_address` | nat postrouting, 110 | connection has our mark, destination is translated: source becomes the node's primary address |
//!
//! Translated are destinations in set `translated` and not in set `not_translated`. The second holds the blocks of the VPC
//! and the excluded ones, and always wins; the first holds the included ones, or everything when none are named. What is
//! not translated leaves with the pod's address by the pod's own ENI.
//!
//! Worked example: pod 10.0.1.7 (secondary ENI) opens 198.51.100.9:443. `mark_outbound` marks connection and packet
//! 0x80, rule 1024 looks up main, the packet leaves by the primary ENI with source 10.0.0.10. The answer comes to
//! 10.0.0.10, is turned back to 10.0.1.7 and reaches the pod by rule 512. Later packets of the pod get the mark from the
//! connection in `connection_marks`: what was decided for a connection stays, whatever becomes of the sets.
//!
//! A client opens 10.0.0.10:30080, a node port: the connection is marked as it comes in, kube-proxy's DNAT sends it to
//! 10.0.1.7. The answer of the pod has source 10.0.1.7 when it is routed and 10.0.0.10 when it leaves: without the mark it
//! would leave by the secondary ENI and die at the VPC's source check. What comes in by a secondary ENI (a load balancer's
//! target is the pod's own address; a peered VPC; a transit gateway) is addressed to the pod, not to the node, is not
//! marked, and goes back by the rule of the pod's address. Addressed to the node, it has that ENI's mark ([`super::answers`]).
//!
//! What counts as an address of the node is what the kernel takes for one, the Services' addresses that kube-proxy binds in
//! IPVS mode among them: whoever reaches one of those by the primary ENI must be answered from there, too.
//!
//! # Hook priorities, beside kube-proxy
//!
//! | priority | prerouting | who |
//! |---|---|---|
//! | -200 | conntrack | kernel |
//! | -155 | `eni_marks`: an answer that must not leave by its pod's ENI gets another mark behind it | Enid |
//! | -150 | `connection_marks`: the node port's own address is still in the packet, and a packet of a known connection has its mark back before anything is routed | Enid |
//! | -110 | filter-prerouting of kube-proxy's nftables mode | kube-proxy |
//! | -100 | Service DNAT, in the three modes iptables-legacy, iptables-nft and nftables | kube-proxy |
//! | -90 | `mark_outbound`: what counts is where a packet goes, not which Service it was sent to | Enid |
//!
//! | priority | postrouting | who |
//! |---|---|---|
//! | 100 | masquerading; rules of the operator's own | kube-proxy, others |
//! | 110 | `source_address`: the default for what nobody else has translated. 100 itself would depend on who came first: of two equal priorities the newer runs first (`nf_hook_entries_grow`, `net/netfilter/core.c`) | Enid |
//!
//! `mark_outbound` is a filter chain because nat chains are one list: once one has translated a connection those behind it
//! are not asked (`nf_nat_inet_fn`, `net/netfilter/nf_nat_core.c`), and a Service with an endpoint outside the VPC would be
//! missed. No order of start and no restart of kube-proxy changes any of this: each side has priorities of its own.
//!
//! Only pods are translated (only what came in by a pod's link is ever marked for it): the node's own connections and their
//! ports are its own. Only the bits of our mask are written. With SNAT done elsewhere `mark_outbound` and `source_address`
//! are not there, without node ports half of `connection_marks` is not.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::answers;
use super::egress;
use super::host::HostSetup;
use super::ids;
use super::marks;
use super::model::Family;
use super::mss;
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, NftTable, Statement, Transport, Within};
use super::notrack;

/// Name of the set of blocks that are never SNATed.
pub const NOT_TRANSLATED: &str = "not_translated";
/// Name of the set of blocks that are SNATed, but for those of the other set.
pub const TRANSLATED: &str = "translated";

/// The table as it must be.
#[must_use]
pub fn table(host: &HostSetup) -> NftTable {
    let mut chains = vec![dead_pods()];
    // Egress of pods that have no IPv4 of their own leaves by main, whatever ENI they are on.
    if host.families.has_ipv4_pods() {
        chains.extend(marks::chain(host));
    }
    if host.needs_mark() {
        chains.push(connection_marks(host));
    }
    chains.extend(answers::of_the_node(host));
    if !host.external_snat {
        chains.extend([mark_outbound(host), source_address(host)]);
    }
    let mut sets = if host.external_snat { Vec::new() } else { sets(host).to_vec() };
    chains.extend(mss::clamp(host));
    if host.external_mtu.is_some() || host.notrack {
        sets.push(mss::vpc(host));
    }
    if let Some((set, more)) = egress::part(host, Family::V4) {
        sets.push(set);
        chains.extend(more);
    }
    sets.sort_by_key(|set| set.name);
    chains.extend(notrack::chains(host));
    let branches = answers::branches(host);
    NftTable { family: Family::V4, name: ids::NFT_TABLE, sets, memories: notrack::memories(host), chains, branches }
}

/// The table of IPv6; `None`: no pod uses it. Nothing of IPv6 is translated but for egress, so connections are marked for node
/// ports only.
#[must_use]
pub fn table_of_ipv6(host: &HostSetup) -> Option<NftTable> {
    if !host.families.uses_ipv6() {
        return None;
    }
    let (mut sets, mut chains, mut branches) = (Vec::new(), vec![dead_pods()], Vec::new());
    if host.families.has_ipv6_pods() {
        chains.extend(marks::chain(host));
        chains.extend(host.serves_node_ports.then(|| connection_marks(host)));
        chains.extend(answers::of_the_node(host));
        branches.extend(answers::branches(host));
    }
    if let Some((set, more)) = egress::part(host, Family::V6) {
        sets.push(set);
        chains.extend(more);
    }
    Some(NftTable { family: Family::V6, name: ids::NFT_TABLE, sets, memories: Vec::new(), chains, branches })
}

fn sets(host: &HostSetup) -> [NftSet; 2] {
    let blocks = |blocks: &[Ipv4Net]| blocks.iter().copied().map(IpNet::from).collect::<Vec<_>>();
    let everything = [Ipv4Net::default()];
    let included = if host.include_cidrs.is_empty() { &everything } else { host.include_cidrs.as_slice() };
    let kept = [host.vpc_cidrs.as_slice(), &host.exclude_cidrs].concat();
    [NftSet::new(NOT_TRANSLATED, Family::V4, blocks(&kept)), NftSet::new(TRANSLATED, Family::V4, blocks(included))]
}

fn dead_pods() -> NftChain {
    NftChain {
        name: "dead_pods",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -300,
        rules: vec![NftRule {
            purpose: "detached pods are not heard",
            matches: vec![Match::InputGroup(ids::DEAD_GROUP)],
            statements: vec![Statement::Counter, Statement::Drop],
        }],
    }
}

fn connection_marks(host: &HostSetup) -> NftChain {
    let from_pods = NftRule {
        purpose: "marked connections stay on the primary ENI",
        matches: vec![Match::InputPrefix(host.veth_prefix.clone()), Match::ConnectionMark(host.connmark)],
        statements: vec![Statement::SetPacketMark(host.connmark)],
    };
    let entries = host.serves_node_ports.then(|| answers::entries(host));
    NftChain {
        name: "connection_marks",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -150,
        rules: std::iter::once(from_pods).chain(entries.into_iter().flatten()).collect(),
    }
}

/// What is translated, by destination.
fn destinations() -> [Match; 2] {
    [Within::Outside(NOT_TRANSLATED), Within::Inside(TRANSLATED)].map(|within| Match::Destination(Family::V4, within))
}

fn mark_outbound(host: &HostSetup) -> NftChain {
    let mut matches = vec![Match::InputPrefix(host.veth_prefix.clone()), Match::ConnectionNew];
    matches.extend(destinations());
    matches.push(Match::DestinationLocal(false));
    NftChain {
        name: "mark_outbound",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -90,
        rules: vec![NftRule {
            purpose: "what pods send out of the VPC leaves by the primary ENI",
            matches,
            statements: vec![
                Statement::Counter,
                Statement::SetConnectionMark(host.connmark),
                Statement::SetPacketMark(host.connmark),
            ],
        }],
    }
}

/// With a range of ports one rule more for each transport that has ports, before the one for all: nft takes a range only behind one.
pub(super) fn rewritten_transports(host: &HostSetup) -> impl Iterator<Item = Option<Transport>> {
    let ranged = [Transport::Tcp, Transport::Udp].into_iter().filter(|_| host.port_range.is_some());
    ranged.map(Some).chain([None])
}

fn source_address(host: &HostSetup) -> NftChain {
    let rule = |transport: Option<Transport>| NftRule {
        purpose: "and has the node's address",
        matches: std::iter::once(Match::ConnectionMark(host.connmark))
            .chain(destinations())
            .chain(transport.map(Match::Transport))
            .collect(),
        statements: vec![
            Statement::Counter,
            Statement::Snat {
                to: IpAddr::V4(host.primary_address),
                range: host.port_range.filter(|_| transport.is_some()),
                ports: host.port_choice,
            },
        ],
    };
    NftChain {
        name: "source_address",
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: 110,
        rules: rewritten_transports(host).map(rule).collect(),
    }
}
