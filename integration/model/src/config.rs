// SPDX-License-Identifier: Apache-2.0
//! What there is before the first call: the topology, as a value that JSON can hold.
//!
//! Holds names and numbers only; whether they fit together is checked when a [`crate::Vpc`] is made of them. Things refer
//! to each other by `name`, and an `id` that is not given is drawn from the seed.
//!
//! Worked example: `{"vpcs":[{"name":"v","cidr_blocks":["10.0.0.0/16"]}],"subnets":[{"name":"a","vpc":"v","cidr_block":
//! "10.0.1.0/24"}],"instances":[{"name":"n1","instance_type":"m5.large","subnet":"a"}]}` is a VPC with one node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::state::{InterfaceType, ReservationType};

/// The topology and the settings it starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpcConfig {
    /// The Region.
    #[serde(default = "default_region")]
    pub region: String,
    /// The account that owns everything.
    #[serde(default = "default_account")]
    pub account_id: String,
    /// Wall-clock time, in seconds since 1970, at which the machine's own clock stands at zero. It dates attach times,
    /// launch times and credentials. `None`: 2026-01-01T00:00:00Z; the emulator sets its start.
    #[serde(default)]
    pub epoch_unix_seconds: Option<u64>,
    /// The VPCs.
    pub vpcs: Vec<VpcSpec>,
    /// Their subnets.
    #[serde(default)]
    pub subnets: Vec<SubnetSpec>,
    /// Security groups besides each VPC's `default`.
    #[serde(default)]
    pub security_groups: Vec<SecurityGroupSpec>,
    /// Instances that run from the start.
    #[serde(default)]
    pub instances: Vec<InstanceSpec>,
    /// Latencies, lags, throttles, quotas.
    #[serde(default)]
    pub settings: Settings,
}

/// A VPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpcSpec {
    /// How the topology refers to it.
    pub name: String,
    /// `vpc-…`; drawn from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Its IPv4 blocks, the primary one first.
    pub cidr_blocks: Vec<Ipv4Net>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// How the topology refers to it.
    pub name: String,
    /// `subnet-…`; drawn from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Name of its VPC.
    pub vpc: String,
    /// Its block, /16 to /28, inside a block of the VPC.
    pub cidr_block: Ipv4Net,
    /// Its availability zone; `{region}a` when absent.
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its CIDR reservations.
    #[serde(default)]
    pub cidr_reservations: Vec<ReservationSpec>,
}

/// A CIDR reservation of a subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationSpec {
    /// The part of the subnet, overlapping no other.
    pub cidr: Ipv4Net,
    /// What it is kept for.
    pub reservation_type: ReservationType,
}

/// A security group. It allows everything: what groups do to packets is not modelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupSpec {
    /// How the topology refers to it; also its group name.
    pub name: String,
    /// `sg-…`; drawn from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Name of its VPC.
    pub vpc: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// An instance, launched with its primary ENI.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSpec {
    /// How the topology refers to it; also its `Name` tag.
    pub name: String,
    /// `i-…`; drawn from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Its type, of the limits table unless `limits_of` is given.
    pub instance_type: String,
    /// The type of the table whose limits it has: its own type is newer than the table, and DescribeInstanceTypes does not
    /// know it either.
    #[serde(default)]
    pub limits_of: Option<String>,
    /// Name of the subnet of its primary ENI.
    pub subnet: String,
    /// Primary address of its primary ENI; chosen when absent.
    #[serde(default)]
    pub private_address: Option<Ipv4Addr>,
    /// Public address of its primary ENI: the internet gateway maps it 1:1 to the primary address.
    #[serde(default)]
    pub public_address: Option<Ipv4Addr>,
    /// Names of its security groups; the VPC's `default` when empty.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Name of the IAM role whose test credentials IMDS gives; `None`: no role.
    #[serde(default = "default_role")]
    pub role: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// ENIs that it is launched with besides the primary one.
    #[serde(default)]
    pub network_interfaces: Vec<InterfaceSpec>,
}

/// An ENI that an instance is launched with. It goes with the instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSpec {
    /// The card.
    #[serde(default)]
    pub network_card: u8,
    /// Position on the card.
    pub device_index: u32,
    /// What it is for.
    #[serde(default)]
    pub interface_type: InterfaceType,
    /// Name of its subnet; the instance's when absent.
    #[serde(default)]
    pub subnet: Option<String>,
    /// Secondary addresses it has.
    #[serde(default)]
    pub secondary_addresses: u32,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// 2026-01-01T00:00:00Z.
pub(crate) const DEFAULT_EPOCH: u64 = 1_767_225_600;

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_account() -> String {
    "111122223333".to_owned()
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn default_role() -> Option<String> {
    Some("node".to_owned())
}

/// A topology that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that nothing in the topology has.
    #[error("{referrer} refers to {kind} `{name}`, which the topology does not have")]
    Unknown {
        /// What holds the name.
        referrer: String,
        /// What kind of thing is meant.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name or id that two things have.
    #[error("{kind} `{name}` is there twice")]
    Duplicate {
        /// What kind of thing.
        kind: &'static str,
        /// The name or id.
        name: String,
    },
    /// An id of the wrong form.
    #[error("`{id}` is not the id of a {kind}")]
    MalformedId {
        /// What kind of thing.
        kind: &'static str,
        /// The text.
        id: String,
    },
    /// A VPC without an IPv4 block.
    #[error("VPC `{0}` has no IPv4 block")]
    NoBlock(String),
    /// A block of the wrong size, outside its VPC, or across another's.
    #[error("subnet `{name}` cannot have {block}: {reason}")]
    Block {
        /// The subnet.
        name: String,
        /// Its block.
        block: Ipv4Net,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A CIDR reservation that its subnet cannot have.
    #[error("subnet `{name}`: {reason}")]
    Reservation {
        /// The subnet.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An instance type that the limits table does not have.
    #[error("instance `{name}` is of type `{instance_type}`, which the limits table does not have")]
    InstanceType {
        /// The instance.
        name: String,
        /// The type.
        instance_type: String,
    },
    /// An ENI could not be made or attached.
    #[error("making the ENIs of instance `{name}`")]
    Eni {
        /// The instance.
        name: String,
        /// EC2's refusal.
        #[source]
        source: crate::error::Ec2Error,
    },
}
