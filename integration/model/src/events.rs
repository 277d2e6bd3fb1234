// SPDX-License-Identifier: Apache-2.0
//! What the packet fabric has to do so that packets fare as EC2 says.
//!
//! Only says it. The events come in the order in which things happened; one who applies them all, in order, has exactly
//! the links and addresses that the machine believes in.
//!
//! Invariant: for an ENI, address events come only between its `EniAttached` and its `EniDetached`; what it held before is in
//! the `EniAttached` itself.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::{EniId, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};

/// Something that the packet fabric has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FabricEvent {
    /// The link of this ENI appears in its instance.
    EniAttached(Box<AttachedEni>),
    /// The link of this ENI is gone from its instance.
    EniDetached {
        /// The ENI.
        eni: EniId,
        /// The instance.
        instance: InstanceId,
        /// How the link is found.
        mac: MacAddr,
    },
    /// This ENI may send from and receive for this address.
    AddressAssigned {
        /// The ENI.
        eni: EniId,
        /// What it got.
        address: Assigned,
    },
    /// This ENI may no longer.
    AddressUnassigned {
        /// The ENI.
        eni: EniId,
        /// What it lost.
        address: Assigned,
    },
    /// The source/destination check of this ENI was turned.
    SourceDestCheckSet {
        /// The ENI.
        eni: EniId,
        /// Whether packets that are not from or to its addresses are dropped.
        enabled: bool,
    },
    /// The security groups of this ENI were replaced.
    SecurityGroupsSet {
        /// The ENI.
        eni: EniId,
        /// The new ones.
        security_groups: Vec<SecurityGroupId>,
    },
}

/// An ENI whose link appears, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedEni {
    /// The ENI.
    pub eni: EniId,
    /// The instance whose guest gets the link.
    pub instance: InstanceId,
    /// How the topology calls that instance.
    pub instance_name: String,
    /// Position on the card; 0 on card 0 is the primary ENI.
    pub device_index: u32,
    /// The card.
    pub network_card: u8,
    /// The link's MAC.
    pub mac: MacAddr,
    /// The VPC.
    pub vpc: VpcId,
    /// The subnet.
    pub subnet: SubnetId,
    /// The subnet's block; its router is the first address + 1.
    pub subnet_cidr: Ipv4Net,
    /// Primary address.
    pub primary_address: Ipv4Addr,
    /// Secondary addresses.
    pub secondary_addresses: Vec<Ipv4Addr>,
    /// /28 prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// Public address that the internet gateway maps 1:1 to the primary address.
    pub public_address: Option<Ipv4Addr>,
    /// Whether packets that are not from or to its addresses are dropped.
    pub source_dest_check: bool,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
}

/// What is assigned to an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assigned {
    /// A secondary address.
    Address(Ipv4Addr),
    /// A /28 prefix, all sixteen addresses of it.
    Prefix(Ipv4Net),
}

impl Assigned {
    /// The block of it, /32 or /28.
    #[must_use]
    pub fn block(self) -> Ipv4Net {
        match self {
            Self::Address(address) => Ipv4Net::from(address),
            Self::Prefix(prefix) => prefix,
        }
    }
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}
