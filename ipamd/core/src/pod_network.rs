// SPDX-License-Identifier: Apache-2.0
//! Custom networking: where a node's ENIs for pods are made, as its ENIConfig says.
//!
//! The API server's word as a value: the policy, or why there is none. What the word is worth (does the subnet exist, is it in
//! our VPC and zone) is judged where EC2's answers are (`core/pod_network`); how an ENIConfig and a Node are read, in the
//! daemon's edge. In the journal as it is here.
//!
//! Worked example: subnets a (order 0, weight 3), b (order 0, weight 1), c (order 1): of four ENIs three are made in a and one
//! in b; c is used when neither a nor b has room.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::ids::{SecurityGroupId, SubnetId};

/// What is known of this node's ENIConfig. Nothing said yet is the absence of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodNetwork {
    /// What it says.
    Policy(PodNetworkPolicy),
    /// There is none, or it cannot be read: no ENI is made for pods.
    Missing {
        /// Which one is looked for.
        eni_config: EniConfigName,
        /// Why it cannot be had, naming object and field; a clause such as `is not there`.
        cause: String,
    },
}

impl PodNetwork {
    /// The ENIConfig that is meant.
    #[must_use]
    pub fn eni_config(&self) -> &EniConfigName {
        match self {
            Self::Policy(policy) => &policy.eni_config,
            Self::Missing { eni_config, .. } => eni_config,
        }
    }
}

/// What an ENIConfig says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkPolicy {
    /// Which one.
    pub eni_config: EniConfigName,
    /// Groups of the ENIs made for it; empty: the primary ENI's.
    pub security_group_ids: Vec<SecurityGroupId>,
    /// Where they are made, in the order of the object. What two of them mean is the first one's.
    pub subnets: Vec<PodSubnet>,
}

/// The name of an ENIConfig, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EniConfigName {
    /// The object's name.
    pub name: String,
    /// What of the Node names it.
    pub source: NameSource,
}

impl fmt::Display for EniConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ENIConfig `{}` ({})", self.name, self.source)
    }
}

/// What of a Node names its ENIConfig; the first that is there counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NameSource {
    /// The label [`EXTERNAL_LABEL`].
    ExternalLabel,
    /// The annotation with this key (`ENI_CONFIG_ANNOTATION_DEF`).
    Annotation(String),
    /// The label with this key (`ENI_CONFIG_LABEL_DEF`).
    Label(String),
    /// None of these.
    Default,
}

/// The label that goes before the keys of the configuration.
pub const EXTERNAL_LABEL: &str = "vpc.amazonaws.com/externalEniConfig";

impl fmt::Display for NameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalLabel => write!(f, "by the node's label {EXTERNAL_LABEL}"),
            Self::Annotation(key) => write!(f, "by the node's annotation {key}"),
            Self::Label(key) => write!(f, "by the node's label {key}"),
            Self::Default => f.write_str("by default, for no label or annotation of the node names one"),
        }
    }
}

/// One subnet of a policy, or several by their tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSubnet {
    /// Which.
    pub which: PodSubnetRef,
    /// Lower ones are used first.
    pub order: u32,
    /// Its share of the ENIs among those of the same order.
    pub weight: NonZeroU32,
}

/// How a policy names subnets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodSubnetRef {
    /// The subnet with this id.
    Id(SubnetId),
    /// Every subnet of the VPC and zone that has all these tags; never empty.
    Tags(BTreeMap<String, String>),
    /// None: the entry says nothing that can be understood.
    Faulty {
        /// The entry, such as `spec.subnets[1]`.
        field: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
}

impl fmt::Display for PodSubnetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Tags(tags) => {
                let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "subnets with {}", tags.join(", "))
            }
            Self::Faulty { field, .. } => f.write_str(field),
        }
    }
}
