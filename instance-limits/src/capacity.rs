// SPDX-License-Identifier: Apache-2.0
//! How many pods with an address of their own a node can hold, and how that comes about: one formula for the daemon and the
//! command line.
//!
//! Decides nothing about a running node: which ENIs hold a place and give no pod an address is the caller's to say. It knows
//! neither subnets nor pods.
//!
//! ```text
//! ENIs         min(ENIs of the default card, MAX_ENI) - idle ENIs
//! addresses    ENIs x (IPv4 slots of an ENI - 1) x (16 with prefixes, else 1)
//! max pods     addresses + 2
//! recommended  max pods, at most 110 below 31 vCPUs and 250 from there on
//! ```
//!
//! Worked example: an `m5.large` holds 3 ENIs of 10 slots: 3 x 9 = 27 addresses, 29 pods. With custom networking the primary
//! ENI is idle: 2 x 9 = 18 addresses, 20 pods. With prefixes 3 x 9 x 16 = 432 addresses, 434 pods, of which EKS recommends 110.
//!
//! Source: `max-pods-calculator.sh` of <https://github.com/awslabs/amazon-eks-ami>, and its options in the EKS user guide,
//! <https://docs.aws.amazon.com/eks/latest/userguide/choosing-instance-type.html>. Different from it: of a type with several
//! network cards the default card's ENIs count, as in `eni-max-pods.txt`, since pods get no address of another card; bare metal
//! takes prefixes, as EC2 has it.

use std::fmt;

use crate::InstanceLimits;
use crate::max_pods::{ADDRESSES_PER_PREFIX, HOST_NETWORK_PODS, recommended_most};

/// What of a type is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Whether slots hold /28 prefixes; no difference on a type that takes none.
    pub prefixes: bool,
    /// Cap on ENIs, the primary one counted (`MAX_ENI`).
    pub max_enis: Option<u32>,
    /// ENIs of the default card that give no pod an address: other people's, a trunk, and with custom networking the primary one.
    pub idle_enis: u32,
}

/// What a node can give, and its factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// ENIs that give pods addresses.
    pub enis: u32,
    /// Slots of each for pods: its primary address is its own.
    pub slots_per_eni: u32,
    /// Addresses in a slot: 1, or 16 with prefixes.
    pub addresses_per_slot: u32,
}

impl Capacity {
    /// Of a type, as it is used.
    #[must_use]
    pub fn of(limits: &InstanceLimits, how: Use) -> Self {
        let enis = limits.max_enis_on_default_card().min(how.max_enis.unwrap_or(u32::MAX));
        Self {
            enis: enis.saturating_sub(how.idle_enis),
            slots_per_eni: limits.secondary_slots_per_eni(),
            addresses_per_slot: if how.prefixes && limits.takes_prefixes() { ADDRESSES_PER_PREFIX } else { 1 },
        }
    }

    /// Addresses of an ENI.
    #[must_use]
    pub fn addresses_per_eni(&self) -> u32 {
        self.slots_per_eni.saturating_mul(self.addresses_per_slot)
    }

    /// Pods that can have an address of their own.
    #[must_use]
    pub fn addresses(&self) -> u32 {
        self.enis.saturating_mul(self.addresses_per_eni())
    }

    /// kubelet's max-pods that this is good for, with the two pods on the host's network that every EKS node has.
    #[must_use]
    pub fn max_pods(&self) -> u32 {
        self.addresses().saturating_add(HOST_NETWORK_PODS)
    }

    /// What EKS recommends of it for a type with so many vCPUs; not known how many: the smaller number.
    #[must_use]
    pub fn recommended(&self, vcpus: Option<u16>) -> u32 {
        self.max_pods().min(recommended_most(vcpus))
    }
}

/// `3 ENIs x 9 addresses`, `3 ENIs x 9 prefixes x 16`.
impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enis, slots_per_eni, addresses_per_slot } = self;
        let plural = if *enis == 1 { "" } else { "s" };
        match addresses_per_slot {
            1 => write!(f, "{enis} ENI{plural} x {slots_per_eni} addresses"),
            each => write!(f, "{enis} ENI{plural} x {slots_per_eni} prefixes x {each}"),
        }
    }
}
