// SPDX-License-Identifier: Apache-2.0
//! The registry: every number and name by which objects of ours are known in the kernel. Nothing else in the workspace
//! spells one of these out.
//!
//! Rule priorities, lowest first (gaps are the reference's, amazon-vpc-cni-k8s v1.23, so that both can run on one node
//! during a migration):
//!
//! | priority | selector | table | who |
//! |---|---|---|---|
//! | 512 | to pod address | main | pod attach, layout `classic` |
//! | 512 | all | [`POD_TABLE`] | host set-up, layout `flat` |
//! | 1024 | fwmark 0x80/0x80 | main | host set-up |
//! | 1025 | fwmark of answers by the ENI | ENI's table | ENI set-up, secondary ENIs |
//! | 1535 | to an external service block | main | host set-up |
//! | 1536 | from pod address | ENI's table | pod attach, layout `classic`, pods on secondary ENIs |
//! | 1536 | from a /28 prefix; fwmark of the ENI | ENI's table | ENI set-up, layout `flat`, secondary ENIs |
//! | 32765 | from an ENI's primary address | ENI's table | ENI set-up, secondary ENIs |
//!
//! Route tables: main is 254; the reference's are device index + 1, 10000 + 100 card + device index, and VLAN id + 100 (at
//! most 4195); [`POD_TABLE`] is ours alone. Link groups: 0 is every link's that nobody put elsewhere, [`eni_link_group`] is a secondary
//! ENI's own, [`eni_group`] that of its pods, [`MAKING_GROUP`] that of host veths whose ADD is at work, [`DEAD_GROUP`] that of
//! detached pods.
//!
//! Packet marks, all by mask (README, "Marks"): ours are [`DEFAULT_CONNMARK`] (the reference's) and
//! [`DEFAULT_ENI_MARK_MASK`]; kube-proxy has 0x4000 and 0x8000, Calico 0xffff0000, Cilium 0xffff0f00.
//!
//! What must not be done: take a rule's selector alone as proof that it is ours. Objects carry [`PROTOCOL`] where the
//! kernel lets them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::model::{Family, Mark};
use super::name::RouteTable;

/// `rtm_protocol` of our routes, `FRA_PROTOCOL` of our rules, `NDA_PROTOCOL` of our neighbours, `IFA_PROTO` of our
/// addresses. 158 is free in iproute2's `rt_protos` and in the kernel's `rtnetlink.h`.
pub const PROTOCOL: u8 = 158;

/// `to <pod>` rules, and the one rule to [`POD_TABLE`].
pub const PRIORITY_TO_POD: u32 = 512;
/// The rule that sends marked traffic to the main table, hence out of the primary ENI.
pub const PRIORITY_MARK: u32 = 1024;
/// Rules that send answers of connections that came in by a secondary ENI out by it ([`super::answers`]): behind [`PRIORITY_MARK`], by
/// whose mark pods' packets stop there, before all that would lead them elsewhere.
pub const PRIORITY_ANSWER: u32 = 1025;
/// `to <block>` rules of AWS_EXTERNAL_SERVICE_CIDRS.
pub const PRIORITY_EXTERNAL_SERVICE: u32 = 1535;
/// `from <pod>` rules of pods on secondary ENIs, and the rules of whole ENIs and prefixes.
pub const PRIORITY_FROM_POD: u32 = 1536;
/// `from <ENI primary address>` rules; just before the kernel's own `main` (32766).
pub const PRIORITY_FROM_ENI: u32 = 32765;

/// The reference's mark (AWS_VPC_K8S_CNI_CONNMARK): clear of kube-proxy's 0x4000 and 0x8000.
pub const DEFAULT_CONNMARK: Mark = Mark { value: 0x80, mask: 0x80 };

/// Table of the host routes of pods in layout `flat`: no number of the reference's, and none of Calico's (1 to 250) or
/// Cilium's (2004, 2005).
pub const POD_TABLE: RouteTable = RouteTable(158_000);

/// Bits of the packet mark that say by which ENI a pod's packet leaves (layout `flat`, secondary-IP mode), or an answer, and of the
/// connection mark that say by which it was asked; clear of [`DEFAULT_CONNMARK`] and of the marks of kube-proxy, Calico and Cilium.
pub const DEFAULT_ENI_MARK_MASK: u32 = 0x7f;

/// Highest device index that has a link group and a mark: a network card has at most 24 ENIs (EC2 user guide, "Maximum IP
/// addresses per network interface"). Pods on an ENI beyond are plumbed as in layout `classic`.
pub const MOST_MARKED_ENIS: u32 = 23;

/// Link group of the primary ENI's pods, and of those inside prefixes: every link's that nobody put elsewhere.
pub const DEFAULT_GROUP: u32 = 0;
/// What the link groups of ENIs' pods are counted from.
const ENI_GROUPS: u32 = 158_000;
/// What those of ENIs' own links are counted from.
const ENI_LINK_GROUPS: u32 = 58_000;

/// A bit that groups of ENIs' pods have, and no other of ours: who has it not is told by one comparison.
pub const POD_GROUP_BIT: u32 = 0x2_0000;

/// Link group of the host veths of a secondary ENI's pods, by its device index; `None`: it has none.
#[must_use]
pub fn eni_group(device_index: u32) -> Option<u32> {
    (1..=MOST_MARKED_ENIS).contains(&device_index).then(|| ENI_GROUPS + device_index)
}

/// Link group of a secondary ENI's own link, by its device index; `None`: it has none. 58001 to 58023.
#[must_use]
pub fn eni_link_group(device_index: u32) -> Option<u32> {
    (1..=MOST_MARKED_ENIS).contains(&device_index).then(|| ENI_LINK_GROUPS + device_index)
}

/// Whether a link group is one of [`eni_link_group`].
#[must_use]
pub fn is_eni_link_group(group: u32) -> bool {
    group.checked_sub(ENI_LINK_GROUPS).and_then(eni_link_group).is_some()
}

/// Name of our nft tables, of the families `ip` and, where pods use IPv6, `ip6`.
pub const NFT_TABLE: &str = "enid";

/// The link to which kube-proxy in IPVS mode binds the addresses of Services.
pub const IPVS_LINK: &str = "kube-ipvs0";

/// Link group (IFLA_GROUP) of the host ends of pods that have been detached: their packets are dropped, and garbage
/// collection deletes the group. 57005.
pub const DEAD_GROUP: u32 = 0xdead;

/// Link group of a host veth between its making and its alias, which come by two messages: what tells it from a pod of the
/// reference, whose host veths never have an alias. 2781.
pub const MAKING_GROUP: u32 = 0xadd;

/// The pod's router: an address that only exists as a permanent neighbour in the pod (the reference's: 169.254.1.1, fe80::1).
#[must_use]
pub fn pod_gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(169, 254, 1, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Addresses by which pods get out in a family of which they have no address of the VPC (the reference's ranges: 169.254.172.0/22,
/// fd00::ac:0/118). They mean something on their own node only: no packet leaves it with one, and none is sent to one.
#[must_use]
pub fn egress_range(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::new_assert(Ipv4Addr::new(169, 254, 172, 0).into(), 22),
        Family::V6 => IpNet::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xac, 0).into(), 118),
    }
}

/// Whether an address is one of [`egress_range`].
#[must_use]
pub fn is_egress(address: IpAddr) -> bool {
    egress_range(Family::of(address)).contains(&address)
}

/// Default prefix of host veth names (`vethPrefix` of the network configuration).
pub const DEFAULT_VETH_PREFIX: &str = "eni";

/// Most characters of a veth prefix: with 11 hex digits behind it a name has at most 15 (IFNAMSIZ - 1).
pub const VETH_PREFIX_MAX: usize = 4;

/// First word of a host veth's alias.
pub const ALIAS_WORD: &str = "enid";
/// Longest link alias the kernel takes (IFALIASZ - 1, `include/uapi/linux/if.h`).
pub const ALIAS_MAX: usize = 255;

/// `rp_filter` loose: a packet is let in if its source has a route by any link. With strict (1) marked and asymmetric
/// paths die (kernel `Documentation/networking/ip-sysctl.rst`).
pub const RP_FILTER_LOOSE: u8 = 2;
