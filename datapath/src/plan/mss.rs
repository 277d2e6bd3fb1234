// SPDX-License-Identifier: Apache-2.0
//! The chain that keeps TCP working over paths with a smaller MTU than the ENI's whose routers do not say so.
//!
//! Inside a VPC packets of 9001 bytes pass, over an internet gateway 1500, over a VPN or a peer's firewall less (EC2 user
//! guide, "Network maximum transmission unit"). Whoever sends too large a packet is told by ICMP; where that is dropped a
//! connection opens and then hangs. So both ends of a connection that leaves the VPC are told a segment size that fits, in the
//! SYN and in its answer.
//!
//! | packet | segment size |
//! |---|---|
//! | SYN from a pod to outside the VPC | at most MTU - 40: what the other end sends fits |
//! | SYN from outside the VPC to a pod (the answer, too) | at most MTU - 40: what the pod sends fits |
//!
//! What counts as outside are all blocks but the VPC's, peered and excluded ones too: their paths are not the VPC's. Hooked
//! in forward, where a Service's endpoint has taken the place of its address. The kernel never raises the size
//! (`nft_exthdr_tcp_set_eval`, `net/netfilter/nft_exthdr.c`). Only TCP is helped; the node's own connections are its own.

use ipnet::IpNet;

use super::host::HostSetup;
use super::model::Family;
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, NftSet, Statement, Within};

/// Name of the set of the VPC's blocks.
pub const VPC: &str = "vpc";
/// IPv4 and TCP headers without options (RFC 9293 §3.7.1).
const HEADERS: u32 = 40;

/// The set of the VPC's blocks.
#[must_use]
pub fn vpc(host: &HostSetup) -> NftSet {
    NftSet::new(VPC, Family::V4, host.vpc_cidrs.iter().copied().map(IpNet::from))
}

/// The chain; `None`: nothing is known of the paths outside.
#[must_use]
pub fn clamp(host: &HostSetup) -> Option<NftChain> {
    let outside = Within::Outside(VPC);
    let ends = [Match::Destination(Family::V4, outside), Match::Source(Family::V4, outside)];
    fit(host, "segment_size", HEADERS, ends)
}

/// A chain that fits segments to the paths outside, by what tells a packet that goes there from a pod, and one that comes from
/// there; `headers`: of IP and TCP, without options.
pub(super) fn fit(
    host: &HostSetup,
    name: &'static str,
    headers: u32,
    [leaving, coming]: [Match; 2],
) -> Option<NftChain> {
    let size = u16::try_from(host.external_mtu?.saturating_sub(headers)).unwrap_or(u16::MAX);
    let rule = |purpose, link, address| NftRule {
        purpose,
        matches: vec![link, Match::TcpSyn, address],
        statements: vec![Statement::ClampSegment(size)],
    };
    let pods = host.veth_prefix.clone();
    Some(NftChain {
        name,
        kind: ChainType::Filter,
        hook: Hook::Forward,
        priority: -150,
        rules: vec![
            rule("who answers a pod fits the path", Match::InputPrefix(pods.clone()), leaving),
            rule("and so does the pod", Match::OutputPrefix(pods), coming),
        ],
    })
}
