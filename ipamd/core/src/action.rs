// SPDX-License-Identifier: Apache-2.0
//! What the core asks for: state to keep, replies to send, actions to run.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::{Layout, NatBlocks};
use crate::ids::{
    ActionId, AllocationKey, AttachmentId, BootTime, DeviceIndex, EniId, InstanceId, MacAddr, PodRef, RequestId,
    RouteTable, SecurityGroupId, SubnetId, VpcId,
};
use crate::reason::{Notice, Refusal};
use crate::repair::RepairPlan;

/// Everything that follows from one event, or from some in a row. The driver works it off in this order: persist, replies, actions, notices.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Whether the journal must be written before anything else happens (`Core::journal`). When that fails the driver
    /// sends no reply, runs no action, and hands the effects back as `Event::PersistFailed`.
    pub persist: bool,
    /// Answers to calls.
    pub replies: Vec<Reply>,
    /// Calls to EC2 and the kernel.
    pub actions: Vec<Action>,
    /// What the log (and later metrics and events) should say.
    pub notices: Vec<Notice>,
}

impl Effects {
    /// With what follows from the event after: one write of the journal is for both.
    pub fn join(&mut self, later: Self) {
        self.persist |= later.persist;
        self.replies.extend(later.replies);
        self.actions.extend(later.actions);
        self.notices.extend(later.notices);
    }
}

/// An answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To ADD.
    Add {
        /// Which call.
        request: RequestId,
        /// The address, or why there is none.
        result: Result<Allocated, Refusal>,
    },
    /// To DEL. Always a success; `None`: nothing was held under that key.
    Del {
        /// Which call.
        request: RequestId,
        /// What was released.
        released: Option<Allocated>,
    },
    /// To GC. Always a success.
    Gc {
        /// Which call.
        request: RequestId,
        /// What was released, by address.
        released: Vec<Freed>,
    },
}

/// An allocation that a GC has released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    /// The sandbox that had it.
    pub key: AllocationKey,
    /// Its pod, as far as it was known.
    pub pod: PodRef,
    /// The address.
    pub allocated: Allocated,
}

/// An address bound to a sandbox, with what the plugin needs to plumb it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The ENI that holds it; empty in the answer to a DEL that came before EC2 showed which one it is.
    pub eni_id: EniId,
    /// That ENI's device index; 0 on network card 0 is the primary ENI.
    pub device_index: DeviceIndex,
    /// The network card of that device index.
    pub network_card: u32,
    /// That ENI's route table; main for the primary ENI.
    pub table: RouteTable,
    /// How the pod is plumbed.
    pub plumbing: Plumbing,
}

/// How a pod's packets find its ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plumbing {
    /// Layout `classic`: by rules of its own.
    OwnRules,
    /// Layout `flat`, single address of a secondary ENI: by the ENI's mark.
    EniMark,
    /// Layout `flat`, inside a prefix or on the primary ENI: by the prefix's rule, or by none.
    NodeRules,
}

impl Plumbing {
    /// Of a pod with an address of a prefix, or a single one, on the primary ENI or another.
    #[must_use]
    pub fn of(layout: Layout, is_of_prefix: bool, is_primary: bool) -> Self {
        match (layout, is_of_prefix || is_primary) {
            (Layout::Classic, _) => Self::OwnRules,
            (Layout::Flat, true) => Self::NodeRules,
            (Layout::Flat, false) => Self::EniMark,
        }
    }
}

/// What goes first when this node's requests to EC2 are held back; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// ADDs wait for what it brings.
    Waiting,
    /// It fills the warm pool.
    Warm,
    /// It gives something back, or tidies up.
    Release,
    /// It only looks.
    Describe,
}

/// A call to EC2 or the kernel, with the id under which its outcome is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Given back in `Event::ActionEnded`.
    pub id: ActionId,
    /// How urgent it is.
    pub priority: Priority,
    /// What to do.
    pub kind: ActionKind,
}

/// Addresses of a /28 prefix: all usable by pods, all of one slot of the ENI (EC2 user guide, "Prefix delegation").
pub const PREFIX_ADDRESSES: u32 = 16;

/// All addresses of a /28 prefix, the first and the last included (`Ipv4Net::hosts` leaves those out), ascending.
pub fn prefix_addresses(prefix: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> + Clone {
    let first = u32::from(prefix.network());
    (0..PREFIX_ADDRESSES).map(move |offset| Ipv4Addr::from(first.saturating_add(offset)))
}

/// What slots of an ENI are filled with. One address or one /28 prefix takes one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fill {
    /// So many single addresses, chosen by EC2.
    Addresses(u32),
    /// So many /28 prefixes, chosen by EC2.
    Prefixes(u32),
}

impl Fill {
    /// Slots of the ENI that it takes.
    #[must_use]
    pub fn slots(self) -> u32 {
        match self {
            Self::Addresses(count) | Self::Prefixes(count) => count,
        }
    }

    /// Addresses that pods get of it.
    #[must_use]
    pub fn addresses(self) -> u32 {
        match self {
            Self::Addresses(count) => count,
            Self::Prefixes(count) => count.saturating_mul(PREFIX_ADDRESSES),
        }
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(count) => write!(f, "{count} addresses"),
            Self::Prefixes(count) => write!(f, "{count} prefixes"),
        }
    }
}

/// Which subnets a description is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubnetQuery {
    /// One subnet.
    Id(SubnetId),
    /// These, wherever they are: those that there are, the others left out.
    Named(Vec<SubnetId>),
    /// All of a VPC and an Availability Zone.
    Zone {
        /// The VPC.
        vpc_id: VpcId,
        /// The zone, such as `us-east-1a`.
        availability_zone: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// CreateNetworkInterface, with its addresses or prefixes, tags and description in the same call.
    CreateEni {
        /// Subnet of the new ENI.
        subnet_id: SubnetId,
        /// Its security groups.
        security_group_ids: Vec<SecurityGroupId>,
        /// Addresses or prefixes to create it with.
        fill: Fill,
        /// Idempotency token; the same for every repetition of this intent.
        client_token: String,
        /// Description.
        description: String,
        /// Tags, sorted by key.
        tags: Vec<(String, String)>,
    },
    /// AttachNetworkInterface.
    AttachEni {
        /// The ENI.
        eni_id: EniId,
        /// This instance.
        instance_id: InstanceId,
        /// Position reserved for it on that card.
        device_index: DeviceIndex,
        /// The network card.
        network_card: u32,
    },
    /// ModifyNetworkInterfaceAttribute: delete-on-termination true.
    SetDeleteOnTermination {
        /// The ENI.
        eni_id: EniId,
        /// Its attachment.
        attachment_id: AttachmentId,
    },
    /// AssignPrivateIpAddresses by count. Never repeated blindly: after `Unknown`, describe and compare.
    Assign {
        /// The ENI.
        eni_id: EniId,
        /// What, and how many.
        fill: Fill,
    },
    /// UnassignPrivateIpAddresses. One of the two lists is empty: EC2 takes one kind in a call.
    Unassign {
        /// The ENI.
        eni_id: EniId,
        /// Single addresses.
        addresses: Vec<Ipv4Addr>,
        /// Prefixes.
        prefixes: Vec<Ipv4Net>,
    },
    /// ModifyNetworkInterfaceAttribute: the ENI's security groups, the whole list.
    SetSecurityGroups {
        /// The ENI.
        eni_id: EniId,
        /// Its groups from now on.
        security_group_ids: Vec<SecurityGroupId>,
    },
    /// CreateTags on an ENI: adds these, or gives them these values.
    TagEni {
        /// The ENI.
        eni_id: EniId,
        /// Tags, sorted by key.
        tags: Vec<(String, String)>,
    },
    /// DetachNetworkInterface, not forced.
    DetachEni {
        /// The ENI, for the log.
        eni_id: EniId,
        /// Its attachment.
        attachment_id: AttachmentId,
    },
    /// DeleteNetworkInterface; not found counts as done.
    DeleteEni {
        /// The ENI.
        eni_id: EniId,
    },
    /// DescribeNetworkInterfaces with the filter attachment.instance-id, plus these ids (unknown ones are left out of the
    /// answer, not an error).
    DescribeEnis {
        /// This instance.
        instance_id: InstanceId,
        /// ENIs of ours that may not be attached.
        also: Vec<EniId>,
        /// ENIs of ours whose create call has no known outcome: found by this tag value of [`CLIENT_TOKEN_TAG`].
        tokens: Vec<String>,
    },
    /// DescribeSubnets, all pages.
    DescribeSubnets(SubnetQuery),
    /// DescribeNetworkInterfaces for ENIs of the VPC that carry the instance tag ([`crate::tags::INSTANCE_TAG`]) and are attached to nothing:
    /// what nodes that are gone may have left behind. Then for the primary ENIs of the instances in those tags: which are
    /// not gone.
    DescribeLeakedEnis {
        /// The VPC.
        vpc_id: VpcId,
        /// Only those of this cluster; `None`: whatever the cluster.
        cluster_name: Option<String>,
    },
    /// Write and prove the ENI's link, addresses, table, routes and rule.
    ConfigureEni(EniPlan),
    /// Remove the kernel objects of an ENI that is being detached (rule, table routes).
    DeconfigureEni(EniPlan),
    /// Write the host's own set-up: rules, nft table, sysctls of the primary ENI.
    ConfigureHost(HostPlan),
    /// Look at everything that must be there, put right what is not, remove orphans.
    Repair(Box<RepairPlan>),
    /// Read the kernel's witness: host veths, aliases, host routes, links.
    ObserveKernel,
    /// Ask the container runtime which sandboxes it has ready.
    ListSandboxes,
    /// Make the kernel forget these addresses: connections that have one in any place of either tuple, and neighbours.
    FlushAddresses {
        /// Nobody has them; sorted.
        addresses: Vec<Ipv4Addr>,
        /// No delete may begin from then on: the addresses may be given.
        until: BootTime,
    },
    /// The DEL left on disk under this key is done: its tombstone can go. No outcome is reported.
    ForgetTombstone {
        /// The sandbox's key.
        key: AllocationKey,
    },
}

impl ActionKind {
    /// One word: EC2's name of the action, or what is done in the kernel. For metrics and the decision log; a bounded set.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateEni { .. } => "CreateNetworkInterface",
            Self::AttachEni { .. } => "AttachNetworkInterface",
            Self::SetDeleteOnTermination { .. } | Self::SetSecurityGroups { .. } => "ModifyNetworkInterfaceAttribute",
            Self::Assign { .. } => "AssignPrivateIpAddresses",
            Self::Unassign { .. } => "UnassignPrivateIpAddresses",
            Self::TagEni { .. } => "CreateTags",
            Self::DetachEni { .. } => "DetachNetworkInterface",
            Self::DeleteEni { .. } => "DeleteNetworkInterface",
            Self::DescribeEnis { .. } | Self::DescribeLeakedEnis { .. } => "DescribeNetworkInterfaces",
            Self::DescribeSubnets(_) => "DescribeSubnets",
            Self::ConfigureEni(_) => "configure-eni",
            Self::DeconfigureEni(_) => "deconfigure-eni",
            Self::ConfigureHost(_) => "configure-host",
            Self::Repair(_) => "look",
            Self::ObserveKernel => "observe",
            Self::ListSandboxes => "list-sandboxes",
            Self::FlushAddresses { .. } => "flush",
            Self::ForgetTombstone { .. } => "forget",
        }
    }

    /// Whether it is a call to EC2.
    #[must_use]
    pub fn is_ec2(&self) -> bool {
        self.name().starts_with(char::is_uppercase)
    }

    /// The ENI that it is about, when there is one and it has a name.
    #[must_use]
    pub fn eni_id(&self) -> Option<&EniId> {
        match self {
            Self::AttachEni { eni_id, .. }
            | Self::SetDeleteOnTermination { eni_id, .. }
            | Self::SetSecurityGroups { eni_id, .. }
            | Self::Assign { eni_id, .. }
            | Self::Unassign { eni_id, .. }
            | Self::TagEni { eni_id, .. }
            | Self::DetachEni { eni_id, .. }
            | Self::DeleteEni { eni_id } => Some(eni_id),
            Self::ConfigureEni(plan) | Self::DeconfigureEni(plan) => Some(&plan.eni_id),
            Self::CreateEni { .. }
            | Self::DescribeEnis { .. }
            | Self::DescribeLeakedEnis { .. }
            | Self::DescribeSubnets(_)
            | Self::ConfigureHost(_)
            | Self::Repair(_)
            | Self::ObserveKernel
            | Self::ListSandboxes
            | Self::FlushAddresses { .. }
            | Self::ForgetTombstone { .. } => None,
        }
    }
}

/// Tag that carries the client token of a create intent, so that an ENI whose create call was never answered is found again.
pub const CLIENT_TOKEN_TAG: &str = "enid.dev/client-token";

/// What the host's own set-up depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Primary ENI's MAC.
    pub primary_mac: MacAddr,
    /// Primary ENI's primary address.
    pub primary_address: Ipv4Addr,
    /// All blocks of the VPC.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// What else decides of translation.
    pub blocks: NatBlocks,
    /// What nobody translates inside the VPC is left untracked.
    pub notrack: bool,
}

/// What the kernel needs to know of an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniPlan {
    /// The ENI, for the log.
    pub eni_id: EniId,
    /// How its link is found.
    pub mac: MacAddr,
    /// Position; 0 on network card 0 is the primary ENI, whose link only gets MTU and rp_filter.
    pub device_index: DeviceIndex,
    /// The network card of that position.
    pub network_card: u32,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// Its subnet's block; the router is its first address + 1.
    pub subnet_cidr: Ipv4Net,
    /// Its prefixes, sorted: in layout `flat` each has a rule, which must be proven before an address of it is given out.
    pub prefixes: Vec<Ipv4Net>,
}
