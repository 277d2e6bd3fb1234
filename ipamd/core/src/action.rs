// SPDX-License-Identifier: Apache-2.0
//! What the core asks for: state to keep, replies to send, actions to run.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::{
    ActionId, AllocationKey, AttachmentId, DeviceIndex, EniId, InstanceId, MacAddr, RequestId, RouteTable,
    SecurityGroupId, SubnetId,
};
use crate::reason::{Notice, Refusal};

/// Everything that follows from one event. The driver works it off in this order: persist, replies, actions, notices.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Whether the journal must be written before anything else happens (`Core::checkpoint`). When that fails the driver
    /// sends no reply, runs no action, and hands the effects back as `Event::PersistFailed`.
    pub persist: bool,
    /// Answers to calls.
    pub replies: Vec<Reply>,
    /// Calls to EC2 and the kernel.
    pub actions: Vec<Action>,
    /// What the log (and later metrics and events) should say.
    pub notices: Vec<Notice>,
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
}

/// An address bound to a sandbox, with what the plugin needs to plumb it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The ENI that holds it; empty in the answer to a DEL that came before EC2 showed which one it is.
    pub eni_id: EniId,
    /// That ENI's device index; 0 is the primary ENI.
    pub device_index: DeviceIndex,
    /// That ENI's route table; main for the primary ENI.
    pub table: RouteTable,
}

/// A call to EC2 or the kernel, with the id under which its outcome is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Given back in `Event::ActionEnded`.
    pub id: ActionId,
    /// What to do.
    pub kind: ActionKind,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// CreateNetworkInterface, with its secondary addresses, tags and description in the same call.
    CreateEni {
        /// Subnet of the new ENI.
        subnet_id: SubnetId,
        /// Its security groups.
        security_group_ids: Vec<SecurityGroupId>,
        /// Secondary addresses to create it with.
        secondary_addresses: u32,
        /// Idempotency token; the same for every repetition of this intent.
        client_token: String,
        /// Description.
        description: String,
        /// Tags, sorted by key.
        tags: Vec<(String, String)>,
    },
    /// AttachNetworkInterface on network card 0.
    AttachEni {
        /// The ENI.
        eni_id: EniId,
        /// This instance.
        instance_id: InstanceId,
        /// Position reserved for it.
        device_index: DeviceIndex,
    },
    /// ModifyNetworkInterfaceAttribute: delete-on-termination true.
    SetDeleteOnTermination {
        /// The ENI.
        eni_id: EniId,
        /// Its attachment.
        attachment_id: AttachmentId,
    },
    /// AssignPrivateIpAddresses by count. Never repeated blindly: after `Unknown`, describe and compare.
    AssignAddresses {
        /// The ENI.
        eni_id: EniId,
        /// How many.
        count: u32,
    },
    /// UnassignPrivateIpAddresses.
    UnassignAddresses {
        /// The ENI.
        eni_id: EniId,
        /// Which.
        addresses: Vec<Ipv4Addr>,
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
    /// DescribeSubnets for one subnet.
    DescribeSubnet {
        /// The subnet.
        subnet_id: SubnetId,
    },
    /// Write and prove the ENI's link, addresses, table, routes and rule.
    ConfigureEni(EniPlan),
    /// Remove the kernel objects of an ENI that is being detached (rule, table routes).
    DeconfigureEni(EniPlan),
    /// Write the host's own set-up: rules, nft table, sysctls of the primary ENI.
    ConfigureHost {
        /// Primary ENI's MAC.
        primary_mac: MacAddr,
        /// Primary ENI's primary address.
        primary_address: Ipv4Addr,
        /// All blocks of the VPC.
        vpc_cidrs: Vec<Ipv4Net>,
    },
    /// Read the kernel's witness: host veths, aliases, host routes, links.
    ObserveKernel,
    /// The DEL left on disk under this key is done: its tombstone can go. No outcome is reported.
    ForgetTombstone {
        /// The sandbox's key.
        key: AllocationKey,
    },
}

/// Tag that carries the client token of a create intent, so that an ENI whose create call was never answered is found again.
pub const CLIENT_TOKEN_TAG: &str = "enid.dev/client-token";

/// What the kernel needs to know of an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniPlan {
    /// The ENI, for the log.
    pub eni_id: EniId,
    /// How its link is found.
    pub mac: MacAddr,
    /// Position; 0 is the primary ENI, whose link only gets MTU and rp_filter.
    pub device_index: DeviceIndex,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// Its subnet's block; the router is its first address + 1.
    pub subnet_cidr: Ipv4Net,
    /// Its route table.
    pub table: RouteTable,
}
