// SPDX-License-Identifier: Apache-2.0
//! EC2 networking limits per instance type, and the max-pods arithmetic on them.
//!
//! Decides nothing: it is a table of facts (1,419 instance types, compiled in, sorted by name, looked up by binary search
//! without allocation) and pure functions over one row. It does not ask EC2: a type that is missing here is `None`, and
//! the caller asks DescribeInstanceTypes and builds an [`InstanceLimits`] of its own from the answer.
//!
//! Invariants: rows are sorted and unique; every card list is non-empty and in index order; every ENI holds at least its
//! primary address.
//!
//! Worked example: `m5.large` holds 3 ENIs of 10 IPv4 slots on one card. One slot an ENI is its primary address, so the
//! node can give 3 x 9 = 27 pods an address, and `max_pods` is 27 + 2 = 29 (two pods use the host network).
//!
//! Source: `data/instance-limits.csv`, whose README says where every column comes from. `make limits` regenerates
//! `src/table.rs` from it, and a test fails when the two disagree.

mod capacity;
mod limits;
mod max_pods;
mod near;
mod table;

pub use capacity::{Capacity, Use};
pub use limits::{CardLimits, Hypervisor, InstanceLimits, Trunking};
pub use max_pods::{HOST_NETWORK_PODS, max_pods_prefixes, max_pods_secondary_ips, pod_addresses};
pub use near::near;

/// The limits of an instance type, such as `m5.large`, exactly as EC2 spells it. `None`: not in the table; ask EC2.
#[must_use]
pub fn lookup(instance_type: &str) -> Option<&'static InstanceLimits> {
    let row = table::TABLE.binary_search_by(|(name, _)| (*name).cmp(instance_type)).ok()?;
    Some(&table::TABLE[row].1)
}

/// Every instance type of the table with its limits, sorted by name.
pub fn all() -> impl ExactSizeIterator<Item = (&'static str, &'static InstanceLimits)> {
    table::TABLE.iter().map(|(name, limits)| (*name, limits))
}

#[cfg(test)]
mod tests;
