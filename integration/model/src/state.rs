// SPDX-License-Identifier: Apache-2.0
//! The things EC2 holds: VPCs, subnets, security groups, instances, ENIs.
//!
//! Values and the questions they answer about themselves; what changes them, and when it is allowed, is in the actions.
//!
//! Invariant: the state of an ENI is one value; an attachment exists exactly while the ENI is in use. An ENI without a
//! primary address is EFA-only, holds no address at all and never shows a link.
//!
//! ```text
//! Create ─► Pending{until} ─► Available ──Attach──► InUse(Attaching{until}) ─► InUse(Attached{link})
//!                                 ▲                                                   │ Detach
//!                                 └───────────────── InUse(Detaching{until}) ◄────────┘
//! Delete only from Pending and Available.       link: Coming{at} ─► Up, gone when the detaching ends
//! ```
//!
//! Source: EC2 API reference, NetworkInterface and NetworkInterfaceAttachment; EC2 user guide, "Elastic network
//! interfaces".

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use instance_limits::InstanceLimits;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::{AttachmentId, EniId, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};
use crate::odd::Oddity;
use crate::space::Space;

/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// A VPC.
#[derive(Clone, Debug)]
pub struct VpcRecord {
    /// Its id.
    pub id: VpcId,
    /// Its IPv4 blocks, the primary one first.
    pub cidr_blocks: Vec<Ipv4Net>,
    /// Its tags.
    pub tags: Tags,
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub availability_zone: String,
    /// Its tags.
    pub tags: Tags,
    pub(crate) space: Space,
}

/// A part of a subnet that is kept for requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrReservation {
    /// Its id, `scr-…`.
    pub id: String,
    /// The part.
    pub cidr: Ipv4Net,
    /// What it is kept for.
    pub kind: ReservationType,
    /// Its description.
    pub description: String,
    /// Its tags.
    pub tags: Tags,
}

/// What a CIDR reservation is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationType {
    /// Prefixes: EC2 picks them from here first.
    Prefix,
    /// Addresses and prefixes that a request names.
    Explicit,
}

impl ReservationType {
    /// EC2's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Explicit => "explicit",
        }
    }
}

impl Subnet {
    /// Its block.
    #[must_use]
    pub fn cidr_block(&self) -> Ipv4Net {
        self.space.block()
    }

    /// How many of its addresses nobody has.
    #[must_use]
    pub fn free_addresses(&self) -> u32 {
        self.space.free()
    }

    /// Its CIDR reservations, oldest first.
    #[must_use]
    pub fn reservations(&self) -> &[CidrReservation] {
        self.space.reservations()
    }
}

/// A security group.
#[derive(Clone, Debug)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its tags.
    pub tags: Tags,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// How the topology refers to it.
    pub name: String,
    /// Its type.
    pub instance_type: String,
    /// What that type allows.
    pub limits: &'static InstanceLimits,
    /// Subnet of its primary ENI.
    pub subnet: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub availability_zone: String,
    /// What it does.
    pub state: InstanceState,
    /// When it was launched.
    pub launched: Duration,
    /// Name of its IAM role.
    pub role: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It runs.
    Running,
    /// It is stopped; its ENIs stay attached.
    Stopped,
    /// It is gone for good.
    Terminated,
}

impl InstanceState {
    /// EC2's code and name of the state.
    #[must_use]
    pub fn code_and_name(self) -> (u16, &'static str) {
        match self {
            Self::Running => (16, "running"),
            Self::Stopped => (80, "stopped"),
            Self::Terminated => (48, "terminated"),
        }
    }
}

/// What an ENI is for (EC2 API reference, CreateNetworkInterface: `InterfaceType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceType {
    /// Packets.
    #[default]
    Interface,
    /// Packets, and an EFA device beside.
    Efa,
    /// An EFA device only: no address, and no link in the guest.
    EfaOnly,
    /// Packets of branch ENIs, tagged, besides its own.
    Trunk,
}

impl InterfaceType {
    /// EC2's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Efa => "efa",
            Self::EfaOnly => "efa-only",
            Self::Trunk => "trunk",
        }
    }

    /// The type of this name, as CreateNetworkInterface takes it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Interface, Self::Efa, Self::EfaOnly, Self::Trunk].into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it has an EFA device.
    #[must_use]
    pub fn has_efa(self) -> bool {
        matches!(self, Self::Efa | Self::EfaOnly)
    }
}

/// An ENI.
#[derive(Clone, Debug)]
pub struct Eni {
    /// Its id.
    pub id: EniId,
    /// What it is for.
    pub interface_type: InterfaceType,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone, that of the subnet.
    pub availability_zone: String,
    /// Its description.
    pub description: String,
    /// Its MAC, for life.
    pub mac: MacAddr,
    /// Its primary address, for life; `None`: it is EFA-only.
    pub primary: Option<Ipv4Addr>,
    /// Its secondary addresses, oldest first.
    pub secondaries: Vec<Ipv4Addr>,
    /// Its /28 prefixes, oldest first.
    pub prefixes: Vec<Ipv4Net>,
    /// The public address that the internet gateway maps 1:1 to the primary address.
    pub public: Option<Ipv4Addr>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether the VPC drops packets that are not from or to its addresses.
    pub source_dest_check: bool,
    /// Its tags.
    pub tags: Tags,
    /// When it was made.
    pub created: Duration,
    /// What it is doing.
    pub state: EniState,
    /// How it looks to those who describe it, when that is not what it is.
    pub odd: Option<Box<Oddity>>,
}

/// What an ENI is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EniState {
    /// Just made.
    Pending {
        /// When it is available.
        until: Duration,
    },
    /// Not attached.
    Available,
    /// Attached, or on the way to or from it.
    InUse(Attachment),
}

/// The attachment of an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its id, another one at every attach.
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// Position on the card.
    pub device_index: u32,
    /// The card.
    pub network_card: u8,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
    /// When it was attached.
    pub attach_time: Duration,
    /// How far it is.
    pub phase: AttachmentPhase,
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentPhase {
    /// On the way.
    Attaching {
        /// When it is attached; `None`: never (a fault).
        until: Option<Duration>,
        /// How much later the link comes; `None`: never (a fault).
        link_after: Option<Duration>,
    },
    /// Attached, as far as EC2 is concerned.
    Attached {
        /// What the guest has of it.
        link: Link,
    },
    /// On the way out.
    Detaching {
        /// When it is gone.
        until: Duration,
        /// What the guest still has of it.
        link: Link,
    },
}

/// What the guest has of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing yet; `None`: nothing ever (a fault).
    Coming {
        /// When it comes.
        at: Option<Duration>,
    },
    /// The link is there.
    Up,
}

impl AttachmentPhase {
    /// EC2's name of the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Attaching { .. } => "attaching",
            Self::Attached { .. } => "attached",
            Self::Detaching { .. } => "detaching",
        }
    }

    /// Whether the guest has the link.
    #[must_use]
    pub fn has_link(self) -> bool {
        matches!(self, Self::Attached { link: Link::Up } | Self::Detaching { link: Link::Up, .. })
    }

    /// When this phase ends by itself.
    fn deadline(self) -> Option<Duration> {
        match self {
            Self::Attaching { until, .. } => until,
            Self::Attached { link: Link::Coming { at } } => at,
            Self::Attached { link: Link::Up } => None,
            Self::Detaching { until, .. } => Some(until),
        }
    }
}

impl EniState {
    /// EC2's name of the status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Available => "available",
            Self::InUse(_) => "in-use",
        }
    }

    /// When this state ends by itself.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Pending { until } => Some(*until),
            Self::Available => None,
            Self::InUse(attachment) => attachment.phase.deadline(),
        }
    }
}

impl Eni {
    /// The attachment, while there is one.
    #[must_use]
    pub fn attachment(&self) -> Option<&Attachment> {
        match &self.state {
            EniState::InUse(attachment) => Some(attachment),
            EniState::Pending { .. } | EniState::Available => None,
        }
    }

    pub(crate) fn attachment_mut(&mut self) -> Option<&mut Attachment> {
        match &mut self.state {
            EniState::InUse(attachment) => Some(attachment),
            EniState::Pending { .. } | EniState::Available => None,
        }
    }

    /// Whether a guest has its link.
    #[must_use]
    pub fn has_link(&self) -> bool {
        self.attachment().is_some_and(|attachment| attachment.phase.has_link())
    }

    /// IPv4 slots in use: the primary address, each secondary address and each prefix take one.
    #[must_use]
    pub fn slots(&self) -> usize {
        usize::from(self.primary.is_some()) + self.secondaries.len() + self.prefixes.len()
    }

    /// Primary and secondary addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.primary.into_iter().chain(self.secondaries.iter().copied())
    }
}
