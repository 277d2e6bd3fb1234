// SPDX-License-Identifier: Apache-2.0
//! How many pods a node of a type can hold: the formulas of the EKS AMI's max-pods calculator.
//!
//! `ENIs x (IPv4 slots - 1) + 2`: each ENI keeps its primary address for itself, and two system pods (the CNI daemon and
//! kube-proxy) use the host network. Only the default card counts, as pods use one network card unless they ask for more.
//! In prefix mode each slot holds 16 addresses; EKS recommends at most 110 pods below 31 vCPUs and 250 from there on
//! (<https://docs.aws.amazon.com/eks/latest/userguide/choosing-instance-type.html>).

use crate::InstanceLimits;

/// Pods that use the host network on every EKS node: the CNI daemon and kube-proxy.
pub const HOST_NETWORK_PODS: u32 = 2;
/// Addresses in a /28.
pub(crate) const ADDRESSES_PER_PREFIX: u32 = 16;
/// EKS's recommendation for types below [`LARGE_VCPUS`].
const RECOMMENDED_SMALL: u32 = 110;
/// EKS's recommendation from [`LARGE_VCPUS`] on.
const RECOMMENDED_LARGE: u32 = 250;
/// vCPUs from which EKS recommends the larger number ("more than 30": the first type above has 32).
const LARGE_VCPUS: u16 = 31;

/// Pod addresses a node can give in secondary-IP mode with `enis` ENIs: `enis x (slots - 1)`.
#[must_use]
pub fn pod_addresses(limits: &InstanceLimits, enis: u32) -> u32 {
    enis.saturating_mul(limits.secondary_slots_per_eni())
}

/// Max pods in secondary-IP mode. `m5.large`: 3 x 9 + 2 = 29.
#[must_use]
pub fn max_pods_secondary_ips(limits: &InstanceLimits) -> u32 {
    pod_addresses(limits, limits.max_enis_on_default_card()) + HOST_NETWORK_PODS
}

/// Max pods in prefix mode, capped at EKS's recommendation. `None`: the type takes no prefixes.
/// `m5.large`: 3 x 9 x 16 + 2 = 434, capped to 110. A type whose vCPU count is unknown gets the smaller cap.
#[must_use]
pub fn max_pods_prefixes(limits: &InstanceLimits) -> Option<u32> {
    if !limits.takes_prefixes() {
        return None;
    }
    let addresses = pod_addresses(limits, limits.max_enis_on_default_card()) * ADDRESSES_PER_PREFIX;
    Some(recommended_most(limits.vcpus).min(addresses + HOST_NETWORK_PODS))
}

/// The most pods that EKS recommends for so many vCPUs.
pub(crate) fn recommended_most(vcpus: Option<u16>) -> u32 {
    match vcpus {
        Some(vcpus) if vcpus >= LARGE_VCPUS => RECOMMENDED_LARGE,
        Some(_) | None => RECOMMENDED_SMALL,
    }
}
