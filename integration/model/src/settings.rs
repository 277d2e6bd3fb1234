// SPDX-License-Identifier: Apache-2.0
//! What can be turned while the machine runs: latencies, lags, throttles, quotas, choice of addresses.
//!
//! Plain data with defaults, read and written by the control API. Durations are whole milliseconds, because JSON has none.
//!
//! Defaults: no latency, attach 0 ms, no lag, EC2's own throttle. Real EC2 answers in some 100 ms to 1 s, shows the link
//! of an attached ENI "usually within 5 s" and a detached one as available after "2-3 seconds" (issue reports of the
//! reference, amazon-vpc-cni-k8s #608, and of cilium #16494).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keys::KeySettings;

/// Everything that can be turned.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long things take.
    pub latencies: Latencies,
    /// How late changes are seen.
    pub lags: Lags,
    /// How many calls EC2 takes.
    pub throttle: ThrottleSettings,
    /// Account quotas.
    pub quotas: Quotas,
    /// Which free address or prefix EC2 picks.
    pub choice: AddressChoice,
    /// Whose access keys EC2 takes.
    pub keys: KeySettings,
}

/// How long things take, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latencies {
    /// From the arrival of a call to its answer. The effect is at arrival.
    pub call_ms: u64,
    /// The same for single actions, by name.
    pub by_action_ms: BTreeMap<String, u64>,
    /// For the reads of IMDS.
    pub imds_ms: u64,
    /// From Create to `available`; before it the status is `pending`.
    pub pending_ms: u64,
    /// From Attach to `attached`.
    pub attach_ms: u64,
    /// From `attached` to the link in the guest.
    pub link_ms: u64,
    /// From Detach to `available`; the link goes at the same moment.
    pub detach_ms: u64,
}

/// How late changes are seen, in milliseconds. What happened while a lag was shorter is not seen later by raising it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lags {
    /// Describe shows ENIs as they were this long ago.
    pub describe_ms: u64,
    /// Calls that name an ENI made less than this long ago answer `InvalidNetworkInterfaceID.NotFound`.
    pub new_id_ms: u64,
    /// IMDS shows ENIs as they were this long ago.
    pub imds_ms: u64,
    /// The same for the IMDS of single instances, by their name in the topology.
    pub imds_by_instance_ms: BTreeMap<String, u64>,
}

impl Lags {
    /// How long ago IMDS of the instance of this name looks at ENIs.
    #[must_use]
    pub fn of_imds(&self, instance: &str) -> Duration {
        Duration::from_millis(self.imds_by_instance_ms.get(instance).copied().unwrap_or(self.imds_ms))
    }

    /// The longest lag of any reader of ENIs.
    pub(crate) fn longest(&self) -> Duration {
        let imds = self.imds_by_instance_ms.values().copied().max().unwrap_or(0).max(self.imds_ms);
        Duration::from_millis(imds.max(self.describe_ms))
    }
}

/// How many calls EC2 takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleSettings {
    /// `false`: no limit.
    pub enabled: bool,
    /// Buckets that replace EC2's own, by action.
    pub buckets: BTreeMap<String, Bucket>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Most tokens it holds.
    pub burst: u32,
    /// Tokens added each second.
    pub refill: u32,
}

/// Account quotas (VPC user guide, "Amazon VPC quotas").
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// ENIs in the Region.
    pub network_interfaces: u32,
    /// Security groups of an ENI.
    pub security_groups_per_interface: u32,
    /// Tags of a resource.
    pub tags_per_resource: u32,
}

/// Which free address or prefix EC2 picks when it is only told how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressChoice {
    /// Any, by the seed: subnets fragment as they do in life.
    #[default]
    Random,
    /// The lowest free one: easy to read.
    Lowest,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self { enabled: true, buckets: BTreeMap::new() }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self { network_interfaces: 5_000, security_groups_per_interface: 5, tags_per_resource: 50 }
    }
}

impl Latencies {
    /// From the arrival of this action's call to its answer.
    #[must_use]
    pub fn of_call(&self, action: &str) -> Duration {
        Duration::from_millis(self.by_action_ms.get(action).copied().unwrap_or(self.call_ms))
    }
}
