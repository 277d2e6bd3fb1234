// SPDX-License-Identifier: Apache-2.0
//! The shape of one row: what EC2 allows an instance type to attach.

use std::borrow::Cow;

/// The networking limits of one instance type. Table rows borrow their card list; a row learned from
/// DescribeInstanceTypes owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// Network cards in index order, never empty. Most types have one.
    pub cards: Cow<'static, [CardLimits]>,
    /// Index into `cards` of the card that a request without `NetworkCardIndex` uses.
    pub default_card: u8,
    /// IPv4 slots of each ENI, the primary address included. A slot holds one secondary address or one /28 prefix.
    pub ipv4_per_eni: u16,
    /// IPv6 slots of each ENI; `Some(0)`: the type has no IPv6; `None`: no source says.
    pub ipv6_per_eni: Option<u16>,
    /// What the instance runs on; decides whether prefixes can be assigned.
    pub hypervisor: Hypervisor,
    /// Whether the type is bare metal.
    pub bare_metal: bool,
    /// Whether a trunk ENI can be attached, and how many branch ENIs it carries.
    pub trunking: Trunking,
    /// Default vCPU count; `None`: no source says.
    pub vcpus: Option<u16>,
}

/// The limits of one network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardLimits {
    /// Network card index, from 0.
    pub index: u8,
    /// ENIs the card can hold; on card 0 the primary ENI is one of them.
    pub max_enis: u16,
}

/// The hypervisor of an instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// Nitro: takes prefixes.
    Nitro,
    /// Xen: takes single addresses only.
    Xen,
    /// None: bare metal, takes prefixes.
    None,
    /// No source says; treated as taking single addresses only.
    Unknown,
}

/// Trunk ENI support of an instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trunking {
    /// A trunk ENI can be attached and carries this many branch ENIs.
    Supported {
        /// Branch ENIs per trunk.
        branch_enis: u16,
    },
    /// No trunk ENI can be attached.
    Unsupported,
    /// The only source does not list the type; treat as unsupported.
    Unknown,
}

impl InstanceLimits {
    /// ENIs the instance can hold, summed over all network cards (EC2's `MaximumNetworkInterfaces`).
    #[must_use]
    pub fn max_enis(&self) -> u32 {
        self.cards.iter().map(|card| u32::from(card.max_enis)).sum()
    }

    /// ENIs that the default card can hold.
    #[must_use]
    pub fn max_enis_on_default_card(&self) -> u32 {
        self.card(self.default_card).map_or(0, |card| u32::from(card.max_enis))
    }

    /// The card with this index, or `None` when the type has no such card.
    #[must_use]
    pub fn card(&self, index: u8) -> Option<CardLimits> {
        self.cards.iter().copied().find(|card| card.index == index)
    }

    /// Secondary addresses (or prefixes) an ENI can hold: its slots less the primary address.
    #[must_use]
    pub fn secondary_slots_per_eni(&self) -> u32 {
        u32::from(self.ipv4_per_eni).saturating_sub(1)
    }

    /// Whether EC2 assigns /28 prefixes to ENIs of this type: Nitro, or bare metal (EC2 user guide, "Prefix delegation").
    #[must_use]
    pub fn takes_prefixes(&self) -> bool {
        self.bare_metal || self.hypervisor == Hypervisor::Nitro
    }
}
