// SPDX-License-Identifier: Apache-2.0
//! Custom networking on real nodes: an API server that has ENIConfigs, subnets for pods apart from the nodes', packets.
//!
//! The rules, one by one and in every order of events, are the core's tests (`ipamd/core/src/core/tests/pod_network.rs`).
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "writes kubeconfigs and reads the policies")]

mod bed;
mod names;
mod packets;
mod trouble;
