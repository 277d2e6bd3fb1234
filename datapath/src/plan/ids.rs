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
//! What an ENI's [`Place`] gives it:
//!
//! | network card, device index | route table (the reference's numbers) | link group of its pods' host veths | of its own link | number in its mark |
//! |---|---|---|---|---|
//! | 0, 0: the primary ENI | main | none | none | none |
//! | 0, d | d + 1 | 158000 + d | 58000 + d | d, in its answers' mark d + 23 |
//! | c > 0, d (0 too) | 10000 + 100 c + d | none | none | none |
//!
//! Groups and marks are card 0's alone. There are instances with 32 cards and with 68 ENIs, [`DEFAULT_ENI_MARK_MASK`] has room for
//! 127 numbers, an operator's mask for fewer; a number that depended on the mask or the instance type would change under live pods; and
//! each group is one more nft rule that packets of the groups behind it are asked by. Without a mark a single address has a rule
//! `from` of its own, as in layout `classic`; prefixes have theirs, which need no mark.
//!
//! Other route tables: main is 254; the reference's of a branch ENI is VLAN id + 100 (at most 4195); [`POD_TABLE`] is ours
//! alone. Other link groups: 0 is every link's that nobody put elsewhere, [`MAKING_GROUP`] that of host veths whose ADD is at
//! work, [`DEAD_GROUP`] that of detached pods.
//!
//! Packet marks, all by mask (README, "Marks"): ours are [`DEFAULT_CONNMARK`] (the reference's) and
//! [`DEFAULT_ENI_MARK_MASK`]; kube-proxy has 0x4000 and 0x8000, Calico 0xffff0000, Cilium 0xffff0f00.
//!
//! What must not be done: take a rule's selector alone as proof that it is ours. Objects carry [`PROTOCOL`] where the
//! kernel lets them.

use std::fmt;
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

/// Highest device index of card 0 that has a link group and a mark: a network card has at most 24 ENIs (EC2 user guide, "Maximum
/// IP addresses per network interface"). Pods on an ENI beyond are plumbed as in layout `classic`.
pub const MOST_MARKED_ENIS: u32 = 23;

/// Link group of the primary ENI's pods, and of those inside prefixes: every link's that nobody put elsewhere.
pub const DEFAULT_GROUP: u32 = 0;
/// What the link groups of ENIs' pods are counted from.
const ENI_GROUPS: u32 = 158_000;
/// What those of ENIs' own links are counted from.
const ENI_LINK_GROUPS: u32 = 58_000;

/// A bit that groups of ENIs' pods have, and no other of ours: who has it not is told by one comparison.
pub const POD_GROUP_BIT: u32 = 0x2_0000;

/// What the tables of cards but the first are counted from, and how many numbers each card has (the reference's, and those of the
/// distribution's amazon-ec2-net-utils).
const CARD_TABLES: u32 = 10_000;
const TABLES_PER_CARD: u32 = 100;
/// With more cards the tables would run into [`POD_TABLE`]; no instance type has more than 32.
const MOST_CARDS: u32 = 1_000;

/// Where an ENI is attached to the instance: network card and device index, which EC2 counts anew on every card, from 0 (EC2 user
/// guide, "Network cards"). What follows from it is in this module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    card: u32,
    device: u32,
}

/// A place that no instance has: its route table would be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no instance has device index {device} of network card {card} (there may be indexes 0 to 99 and cards 0 to 999)"
)]
pub struct PlaceError {
    /// Network card index.
    pub card: u32,
    /// Device index.
    pub device: u32,
}

impl Place {
    /// The primary ENI's.
    pub const PRIMARY: Self = Self { card: 0, device: 0 };

    /// By network card index and device index.
    ///
    /// # Errors
    /// Numbers beyond those that tables can be counted by.
    pub fn new(card: u32, device: u32) -> Result<Self, PlaceError> {
        let is_possible = card < MOST_CARDS && device < TABLES_PER_CARD;
        if is_possible { Ok(Self { card, device }) } else { Err(PlaceError { card, device }) }
    }

    /// Whether it is the primary ENI's. Device 0 of another card is a secondary ENI like any.
    #[must_use]
    pub fn is_primary(self) -> bool {
        self == Self::PRIMARY
    }

    /// Whether the distribution may have rules and routes of its own for the ENI, which stay (head of [`super::eni`]).
    #[must_use]
    pub fn is_shared_with_distribution(self) -> bool {
        self.card > 0
    }

    /// The ENI's route table; main only for the primary ENI.
    #[must_use]
    pub fn table(self) -> RouteTable {
        match self {
            Self::PRIMARY => RouteTable::MAIN,
            Self { card: 0, device } => RouteTable(device + 1),
            Self { card, device } => RouteTable(CARD_TABLES + TABLES_PER_CARD * card + device),
        }
    }

    /// The number in the ENI's mark and link group; `None`: it has neither.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        Some(self.device).filter(|device| self.card == 0 && (1..=MOST_MARKED_ENIS).contains(device))
    }

    /// Link group of the host veths of the ENI's pods; `None`: it has none.
    #[must_use]
    pub fn group(self) -> Option<u32> {
        self.number().map(|number| ENI_GROUPS + number)
    }

    /// Link group of the ENI's own link, where node ports are served; `None`: it has none. 58001 to 58023.
    #[must_use]
    pub fn link_group(self) -> Option<u32> {
        self.number().map(|number| ENI_LINK_GROUPS + number)
    }

    /// All places that have a number, in the order in which ENIs are filled.
    pub fn with_numbers() -> impl Iterator<Item = Self> {
        (1..=MOST_MARKED_ENIS).map(|device| Self { card: 0, device })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { card, device } = self;
        if *card == 0 {
            write!(f, "device index {device}")
        } else {
            write!(f, "device index {device} of network card {card}")
        }
    }
}

/// Whether a link group is that of an ENI's own link ([`Place::link_group`]).
#[must_use]
pub fn is_eni_link_group(group: u32) -> bool {
    Place::with_numbers().any(|place| place.link_group() == Some(group))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tables_are_the_reference_s() {
        for (card, device, table) in
            [(0, 0, 254), (0, 1, 2), (0, 2, 3), (1, 0, 10_100), (1, 1, 10_101), (2, 3, 10_203), (31, 1, 13_101)]
        {
            assert_eq!(Place::new(card, device).unwrap().table(), RouteTable(table), "{card} {device}");
        }
    }

    #[test]
    fn no_two_places_share_a_table_nor_have_one_of_somebody_else() {
        let of_card = |card| (0..TABLES_PER_CARD + 60).filter_map(move |device| Place::new(card, device).ok());
        let places: Vec<_> = (0..MOST_CARDS + 2).flat_map(of_card).collect();
        let distinct: BTreeSet<_> = places.iter().map(|place| place.table()).collect();
        assert_eq!((places.len(), distinct.len()), (100_000, 100_000));
        // The kernel's (0, 253 to 255) but for the primary ENI's, those of branch ENIs, and ours of pods.
        let others = (101..=4195).chain([0, POD_TABLE.0]).filter(|number| *number != RouteTable::MAIN.0);
        assert!(others.into_iter().all(|number| !distinct.contains(&RouteTable(number))));
        let in_main: Vec<_> = places.into_iter().filter(|place| place.table() == RouteTable::MAIN).collect();
        assert_eq!(in_main, [Place::PRIMARY]);
    }

    #[test]
    fn only_secondary_enis_of_card_0_have_groups_and_numbers() {
        let place = |card, device| Place::new(card, device).unwrap();
        assert_eq!(place(0, 3).group(), Some(158_003));
        for place in [Place::PRIMARY, place(1, 0), place(1, 3)] {
            assert_eq!((place.number(), place.group()), (None, None), "{place}");
        }
        assert!(Place::PRIMARY.is_primary() && !place(1, 0).is_primary());
    }
}
