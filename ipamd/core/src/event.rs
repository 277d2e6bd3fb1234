// SPDX-License-Identifier: Apache-2.0
//! What the core is told. The driver turns everything that happens (calls, outcomes of actions, netlink events, time)
//! into one of these.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use instance_limits::InstanceLimits;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::config::{LiveSettings, NatBlocks};
use crate::election::Elected;
use crate::ids::{
    ActionId, AllocationKey, AttachmentId, BootTime, DeviceIndex, EniId, InstanceId, MacAddr, PodRef, RequestId,
    SecurityGroupId, SubnetId, VpcId,
};
use crate::pod_network::PodNetwork;
use crate::repair::{KernelChange, RepairReport};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// IMDS answered who we are. Also sent again when an answer changed (VPC blocks, security groups).
    FactsLearned(InstanceFacts),
    /// IMDS cannot be read yet; the edge goes on trying.
    FactsUnavailable(Failure),
    /// The limits of the instance type: from the table, or from DescribeInstanceTypes.
    LimitsLearned(InstanceLimits),
    /// The limits of the instance type are in no table, and EC2 does not tell them (yet).
    LimitsUnavailable(Failure),
    /// The lists of blocks that decide of translation are others now (`ENID_SNAT_FILE`).
    NatBlocksChanged(NatBlocks),
    /// What of the configuration may change is otherwise now. Decides from now on; what was decided before goes on.
    SettingsChanged(Box<LiveSettings>),
    /// Instance metadata shows other ENIs, addresses or prefixes than before: EC2 (or metadata itself, where EC2 is not asked)
    /// is to be read again.
    EnisChanged,
    /// Whether Kubernetes may put pods on this node (`false`: it is cordoned). Until told, it may.
    NodeSchedulable(bool),
    /// The pods that are bound to this node and want an address of their own (host network and finished ones left out), all
    /// of them each time: what is announced and has no address yet is demand. Never said: demand is what asks.
    PodsBound(BTreeSet<PodRef>),
    /// Custom networking: what the API server says of this node's ENIConfig. Never said: nobody knows yet, and the last word of
    /// this boot holds.
    PodNetworkChanged(PodNetwork),
    /// Custom networking: the API server does not let this node read its ENIConfig, or has no such kind; as [`PodNetwork::Missing`].
    /// A policy that was read in this boot goes before it.
    PodNetworkRefused(PodNetwork),
    /// Which node sweeps leaked ENIs for its cluster. Never said: nobody elects one.
    SweeperElected(Elected),
    /// An ADD call. The daemon must answer before `deadline`.
    AddRequested {
        /// Names the call in the reply.
        request: RequestId,
        /// The sandbox's key; an ADD for a key that holds an address gets the same one.
        key: AllocationKey,
        /// The pod, as far as the caller knows it.
        pod: PodRef,
        /// When the answer must have been given.
        deadline: BootTime,
    },
    /// The ADD caller is gone: its waiter is removed, nothing is allocated for it any more.
    RequestAbandoned {
        /// Which call.
        request: RequestId,
    },
    /// A DEL call. Removes a waiter of the same key too.
    DelRequested {
        /// Names the call in the reply.
        request: RequestId,
        /// The sandbox's key.
        key: AllocationKey,
    },
    /// A GC call.
    GcRequested {
        /// Names the call in the reply.
        request: RequestId,
        /// What it says.
        garbage: Garbage,
    },
    /// A DEL that the plugin left on disk while the daemon was away. No reply; forgotten by [`crate::ActionKind::ForgetTombstone`].
    TombstoneFound {
        /// The sandbox's key.
        key: AllocationKey,
    },
    /// An action ended. Unknown ids are ignored.
    ActionEnded {
        /// Which action.
        id: ActionId,
        /// How.
        outcome: Outcome,
    },
    /// The kernel has a link with this MAC (netlink event): a waiting ENI configuration can be tried at once.
    LinkAppeared {
        /// MAC of the link.
        mac: MacAddr,
    },
    /// The kernel told that something of ours may have been changed by another hand.
    KernelChanged(KernelChange),
    /// How many connections the kernel tracks now.
    ConnectionsCounted(TrackedConnections),
    /// What EC2 has held back so far because the instance was over an allowance, by MAC of the ENI; those whose driver does not tell are
    /// left out.
    AllowancesCounted(BTreeMap<MacAddr, Exceeded>),
    /// What the last effects asked to be made durable could not be written. Their replies were not sent and their
    /// actions not started: the core takes them back (see `Core::handle`).
    PersistFailed {
        /// The effects, whole, as they were returned.
        effects: Box<crate::Effects>,
        /// The reason, for the refusal's text: `writing …: No space left on device`.
        message: String,
    },
    /// A deadline that the core asked for has come.
    Tick,
}

/// Packets of an ENI that EC2 queued or dropped since its link came, by allowance: `bw_in`, `bw_out`, `pps`, `conntrack`, `linklocal`.
pub type Exceeded = BTreeMap<&'static str, u64>;

/// What a GC says of the sandboxes of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// The network; keys of others are no business of this call.
    pub network: String,
    /// Sandboxes that there are, or that the plugin has spared.
    pub keep: BTreeSet<AllocationKey>,
    /// Sandboxes that the plugin has taken down.
    pub gone: BTreeSet<AllocationKey>,
    /// What was granted less than this ago is spared, gone or not: the grant may be newer than the list.
    pub spare_younger: Duration,
}

/// How full the kernel's table of connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackedConnections {
    /// Connections in it (`nf_conntrack_count`).
    pub count: u64,
    /// The most it takes (`nf_conntrack_max`); 0: no limit.
    pub max: u64,
    /// What it lost; `None`: that could not be read.
    #[serde(default)]
    pub lost: Option<LostConnections>,
}

/// What the kernel lost of connections since it tracks them, over all processors (`conntrack -S`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostConnections {
    /// Not entered, because a tuple was another connection's (`insert_failed`).
    pub insert_failed: u64,
    /// Packets dropped, because there was no room (`drop` without `insert_failed`, which the kernel counts in both).
    pub dropped: u64,
    /// Forgotten before their first answer, to make room (`early_drop`).
    pub early_dropped: u64,
}

impl LostConnections {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.insert_failed.saturating_add(self.dropped).saturating_add(self.early_dropped)
    }
}

/// Who this instance is (IMDS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    /// The instance.
    pub instance_id: InstanceId,
    /// Such as `m5.large`.
    pub instance_type: String,
    /// Such as `us-east-1a`.
    pub availability_zone: String,
    /// Such as `us-east-1`.
    pub region: String,
    /// The VPC of the primary ENI.
    pub vpc_id: VpcId,
    /// All IPv4 blocks of the VPC.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// The primary ENI.
    pub primary_eni_id: EniId,
    /// MAC of the primary ENI.
    pub primary_mac: MacAddr,
    /// Primary address of the primary ENI: the node's address.
    pub primary_address: Ipv4Addr,
    /// Subnet of the primary ENI.
    pub subnet_id: SubnetId,
    /// Block of that subnet.
    pub subnet_cidr: Ipv4Net,
    /// Security groups of the primary ENI: those of new ENIs.
    pub security_group_ids: Vec<SecurityGroupId>,
}

/// One ENI as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniView {
    /// The ENI.
    pub eni_id: EniId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its VPC; `None`: not told.
    pub vpc_id: Option<VpcId>,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// Primary address: never a pool address.
    pub primary_address: Ipv4Addr,
    /// Secondary addresses, any order.
    pub secondary_addresses: Vec<Ipv4Addr>,
    /// /28 prefixes, any order.
    pub prefixes: Vec<Ipv4Net>,
    /// Its security groups; empty: not told.
    pub security_group_ids: Vec<SecurityGroupId>,
    /// `None`: not attached.
    pub attachment: Option<AttachmentView>,
    /// EC2's status text (an open set: `pending`, `available`, `in-use`, …).
    pub status: String,
    /// `interface`, `efa`, `efa-only`, `trunk`, `branch`, …
    pub interface_type: String,
    /// Managed by an AWS service (requester-managed or with an operator) or of another account: never ours to touch.
    pub foreign: bool,
    /// Description.
    pub description: String,
    /// Tags, any order.
    pub tags: Vec<(String, String)>,
}

/// The attachment of an ENI as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentView {
    /// Its id.
    pub attachment_id: AttachmentId,
    /// Position on the card.
    pub device_index: DeviceIndex,
    /// The card.
    pub network_card: u32,
    /// The instance, `None` when EC2 hides it.
    pub instance_id: Option<InstanceId>,
    /// `attaching`, `attached`, `detaching`, `detached` (an open set).
    pub status: String,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// One subnet as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetView {
    /// The subnet.
    pub subnet_id: SubnetId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Free addresses as EC2 counts them.
    pub available: u32,
    /// Its zone.
    pub availability_zone: String,
    /// Tags, any order.
    pub tags: Vec<(String, String)>,
}

/// What the kernel has that testifies for addresses in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Host veths that carry an address for a sandbox (alias written at ADD), or a host route to an address.
    pub held: Vec<HeldAddress>,
    /// Names of all host veths (links with our veth prefix): the witness for checkpoint entries of the reference, whose
    /// links carry no alias.
    pub host_veths: Vec<String>,
    /// MACs of the links that exist.
    pub link_macs: Vec<MacAddr>,
}

/// An address that the kernel says is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Who holds it, when the link's alias says so.
    pub key: Option<AllocationKey>,
    /// The host veth.
    pub link: String,
}

/// How an action ended.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one value an EC2 call, moved twice: a box would cost more than it saves"
)]
pub enum Outcome {
    /// `CreateEni`.
    EniCreated(EniView),
    /// `AttachEni`.
    EniAttached {
        /// The new attachment.
        attachment_id: AttachmentId,
    },
    /// `Assign`: what this call added, as EC2 answered (an emulator may list all; the core ignores known ones).
    Assigned {
        /// Single addresses.
        addresses: Vec<Ipv4Addr>,
        /// Prefixes.
        prefixes: Vec<Ipv4Net>,
    },
    /// `ConfigureEni`: written, read back and proven.
    EniConfigured,
    /// `DescribeEnis`: every ENI attached to the instance and every ENI asked for by id that EC2 knows, and when the call was
    /// started (an answer older than our last write proves nothing).
    EnisDescribed {
        /// The ENIs, any order.
        enis: Vec<EniView>,
        /// When the read began.
        read_at: BootTime,
    },
    /// `DescribeSubnets`: those that EC2 knows, sorted by id.
    SubnetsDescribed(Vec<SubnetView>),
    /// `DescribeLeakedEnis`.
    LeakedEnisDescribed {
        /// Unattached ENIs, sorted by id.
        enis: Vec<EniView>,
        /// Of the instances that they were made for by their tags, those that have an ENI attached: that are there.
        living: BTreeSet<InstanceId>,
    },
    /// `ObserveKernel`.
    KernelObserved(KernelView),
    /// `ListSandboxes`.
    SandboxesListed {
        /// Ids of those that are ready; stopped ones are left out.
        ready: BTreeSet<String>,
    },
    /// `Repair`.
    Repaired(Box<RepairReport>),
    /// Actions without an answer: unassign, detach, delete, delete-on-termination, security groups, tags, deconfigure, flush.
    Done,
    /// It failed.
    Failed(Failure),
}

/// Why an action failed, as a decision needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure; decisions look at this only.
    pub class: FailureClass,
    /// EC2's error code, or the edge's own (`Timeout`, `LinkMissing`).
    pub code: String,
    /// Full text for log and refusal, causes included. Of a denied EC2 call it begins with the action's name and a colon: `ipamd doctor`
    /// reads that.
    pub message: String,
    /// How long to wait before another try, when the other side (or our own bucket) says so.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure (EC2 API reference, "Error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureClass {
    /// Throttled: by EC2 or by our own bucket.
    Throttled,
    /// The subnet has no free address.
    SubnetExhausted,
    /// The subnet has no free /28 (or fewer than were asked for), though it may have free addresses.
    PrefixesExhausted,
    /// The ENI holds all the addresses it may: our view is stale.
    AddressLimit,
    /// The instance holds all the ENIs it may.
    AttachmentLimit,
    /// The device index is taken.
    DeviceIndexTaken,
    /// The object is not known (any more, or not yet).
    NotFound,
    /// The object is in another state than the call needs (in use, detaching).
    WrongState,
    /// Credentials or permissions.
    Denied,
    /// The client token was used with other parameters.
    TokenMismatch,
    /// Server side or network: try again.
    Transient,
    /// No answer in time: it may or may not have happened.
    Unknown,
    /// A request EC2 will never take: a bug, or a configuration that cannot work.
    Rejected,
    /// `ConfigureEni`: the kernel has no link with the ENI's MAC (yet).
    LinkMissing,
    /// `ConfigureEni`: the kernel refused, or read-back differed.
    Kernel,
}

#[cfg(test)]
impl FailureClass {
    /// Every one.
    pub(crate) const ALL: [Self; 15] = [
        Self::Throttled,
        Self::SubnetExhausted,
        Self::PrefixesExhausted,
        Self::AddressLimit,
        Self::AttachmentLimit,
        Self::DeviceIndexTaken,
        Self::NotFound,
        Self::WrongState,
        Self::Denied,
        Self::TokenMismatch,
        Self::Transient,
        Self::Unknown,
        Self::Rejected,
        Self::LinkMissing,
        Self::Kernel,
    ];
}
