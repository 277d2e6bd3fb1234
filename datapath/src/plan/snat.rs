// SPDX-License-Identifier: Apache-2.0
//! Our nft table: SNAT of what leaves the VPC, the mark that sends such traffic of pods on secondary ENIs out of the
//! primary one, and the drop of what detached pods still send.
//!
//! | chain | hook, priority | does |
//! |---|---|---|
//! | `dead_pods` | filter prerouting, -300 (raw) | link group 0xdead: drop, before conntrack sees it |
//! | `restore_mark` | filter prerouting, -150 (mangle) | from a pod, connection has our mark: packet gets it |
//! | `mark_outbound` | nat prerouting, -90 | first packet from a pod to outside the VPC: connection and packet get our mark |
//! | `mark_redirected` | filter prerouting, -90 | the same for a connection that somebody's DNAT sent out of the VPC |
//! | `source_address` | nat postrouting, 100 (srcnat) | to outside the VPC: source becomes the node's primary address |
//!
//! Worked example: pod 10.0.1.7 (secondary ENI) opens 198.51.100.9:443. `mark_outbound` marks connection and packet
//! 0x80, rule 1024 looks up main, the packet leaves by the primary ENI with source 10.0.0.10. The answer comes to
//! 10.0.0.10, is turned back to 10.0.1.7 and reaches the pod by rule 512. From the second packet on nat chains are not
//! asked, `restore_mark` takes the mark from the connection.
//!
//! -90 is behind kube-proxy's DNAT at -100: what matters is where a packet goes, not which Service it was sent to. But nat
//! chains are one list: once a chain has translated a connection those behind it are not asked (`nf_nat_inet_fn`,
//! `net/netfilter/nf_nat_core.c`). `mark_redirected` is for those, Services with an endpoint outside the VPC; without it
//! they die on secondary ENIs. Only the bits of our mask are written. With external SNAT only `dead_pods` is left.

use super::host::HostSetup;
use super::ids;
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, NftTable, Statement};

/// Name of the set of blocks that are not SNATed.
pub const SET: &str = "vpc_cidrs";

/// The table as it must be.
#[must_use]
pub fn table(host: &HostSetup) -> NftTable {
    let mut chains = vec![dead_pods()];
    if !host.external_snat {
        chains.extend([restore_mark(host), mark_outbound(host), mark_redirected(host), source_address(host)]);
    }
    let set = (!host.external_snat).then(|| {
        let blocks: Vec<_> = host.vpc_cidrs.iter().chain(&host.exclude_cidrs).copied().collect();
        NftSet::new(SET, &blocks)
    });
    NftTable { name: ids::NFT_TABLE, set, chains }
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

fn restore_mark(host: &HostSetup) -> NftChain {
    NftChain {
        name: "restore_mark",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -150,
        rules: vec![NftRule {
            purpose: "marked connections stay on the primary ENI",
            matches: vec![Match::InputPrefix(host.veth_prefix.clone()), Match::ConnectionMark(host.connmark)],
            statements: vec![Statement::SetPacketMark(host.connmark)],
        }],
    }
}

fn mark_outbound(host: &HostSetup) -> NftChain {
    NftChain {
        name: "mark_outbound",
        kind: ChainType::Nat,
        hook: Hook::Prerouting,
        priority: -90,
        rules: vec![NftRule {
            purpose: "pods leave the VPC by the primary ENI",
            matches: vec![
                Match::InputPrefix(host.veth_prefix.clone()),
                Match::DestinationOutside(SET),
                Match::DestinationNotLocal,
            ],
            statements: vec![
                Statement::Counter,
                Statement::SetConnectionMark(host.connmark),
                Statement::SetPacketMark(host.connmark),
            ],
        }],
    }
}

fn mark_redirected(host: &HostSetup) -> NftChain {
    NftChain {
        name: "mark_redirected",
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: -90,
        rules: vec![NftRule {
            purpose: "and so do connections that a Service sends out",
            matches: vec![
                Match::InputPrefix(host.veth_prefix.clone()),
                Match::ConnectionNew,
                Match::DestinationTranslated,
                Match::DestinationOutside(SET),
                Match::DestinationNotLocal,
            ],
            statements: vec![
                Statement::Counter,
                Statement::SetConnectionMark(host.connmark),
                Statement::SetPacketMark(host.connmark),
            ],
        }],
    }
}

fn source_address(host: &HostSetup) -> NftChain {
    NftChain {
        name: "source_address",
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: 100,
        rules: vec![NftRule {
            purpose: "what leaves the VPC has the node's address",
            matches: vec![
                Match::OutputNot("lo"),
                Match::OutputNotPrefix("vlan"),
                Match::DestinationOutside(SET),
                Match::DestinationNotLocal,
            ],
            statements: vec![Statement::Counter, Statement::Snat { to: host.primary_address, ports: host.port_choice }],
        }],
    }
}
