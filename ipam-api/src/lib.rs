// SPDX-License-Identifier: Apache-2.0
//! The contract between CNI plugin, IPAM daemon and network policy agent: gRPC on a unix socket, wire-compatible with
//! amazon-vpc-cni-k8s 1.23 (the reference). Its plugin works against our daemon, and ours against its.
//!
//! Holds the messages ([`rpc`], [`health`], and of a container runtime's interface what is called of it, [`cri`]), the plugin's end
//! ([`client`], a blocking call with a deadline; tonic's and a runtime's caller beside it, the feature `channel`) and the daemon's end
//! ([`server`], peer credentials and health). Does *not* decide anything about addresses (that is
//! `ipamd-core`) and does not know what a CNI result looks like (that is `cni-plugin`).
//!
//! Invariants: every call has a deadline on both ends; a peer whose uid is not allowed never reaches a handler; a peer
//! that does not know fields 100 and above, or does not send them, is served all the same.
//!
//! ```text
//! plugin                                             daemon
//! Client::add_network(request, 20 s)
//!   connect, again while missing or refused ───────► accept, SO_PEERCRED, uid allowed?  no: closed, counted
//!   WaitBudgetMs = what is left ───────────────────► CniBackend::add_network
//!   waits until the budget ends                      answers ANSWER_MARGIN before that, with a reason
//! ```

use std::time::Duration;

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod http2;
#[cfg(any(feature = "client", feature = "server"))]
mod message;
#[cfg(feature = "server")]
pub mod server;
pub mod state;
#[cfg(any(feature = "server", fuzzing))]
mod whole;

#[rustfmt::skip]
#[path = "generated/rpc.rs"]
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all, clippy::too_many_lines,
        clippy::allow_attributes_without_reason, reason = "generated")]
pub mod rpc;

#[rustfmt::skip]
#[path = "generated/cri.rs"]
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all, clippy::too_many_lines,
        clippy::allow_attributes_without_reason, reason = "generated")]
pub mod cri;

#[rustfmt::skip]
#[path = "generated/health.rs"]
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all, clippy::too_many_lines,
        clippy::allow_attributes_without_reason, reason = "generated")]
pub mod health;

#[cfg(feature = "client")]
pub use client::{CallError, Client, Pending};
pub use tonic::Code;

/// Where the daemon listens by default: the reference's path since 1.23.
pub const DEFAULT_SOCKET: &str = "/var/run/aws-node/ipamd.sock";

/// File name of the network policy agent's socket, in the same folder as the daemon's.
pub const AGENT_SOCKET: &str = "npa.sock";

/// How long an ADD may take from the start of the plugin's process, the wait for the socket included. kubelet gives a
/// sandbox 2 minutes (`--runtime-request-timeout`), so a refusal with its reason arrives long before that.
pub const ADD_BUDGET: Duration = Duration::from_secs(20);

/// The daemon answers this long before the caller's budget is over, so that a reason arrives rather than a time-out.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// The version that the plugin sends: the reference's daemon compares it with its own and released images of it have
/// an empty one.
pub const CLIENT_VERSION: &str = "";

/// What a DEL's error text contains when the reference's daemon does not know the sandbox; its plugin takes that as
/// success.
pub const UNKNOWN_POD: &str = "datastore: unknown pod";

/// Names under which `grpc.health.v1.Health` answers SERVING.
pub const HEALTH_SERVICES: [&str; 2] = ["", "grpc.health.v1.aws-node"];

/// No message of this contract comes near this size (an AddNetworkReply with 50 VPC blocks is under 2 KiB).
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

impl rpc::AddNetworkRequest {
    /// The DEL of the sandbox that this asks an address for.
    #[must_use]
    pub fn del(&self) -> rpc::DelNetworkRequest {
        rpc::DelNetworkRequest {
            client_version: self.client_version.clone(),
            k8s_pod_name: self.k8s_pod_name.clone(),
            k8s_pod_namespace: self.k8s_pod_namespace.clone(),
            k8s_pod_infra_container_id: self.k8s_pod_infra_container_id.clone(),
            container_id: self.container_id.clone(),
            if_name: self.if_name.clone(),
            network_name: self.network_name.clone(),
            ..rpc::DelNetworkRequest::default()
        }
    }
}

/// Whether a caller's `ClientVersion` is one we work with: the reference's empty one, or our own.
#[must_use]
pub fn is_known_version(client_version: &str) -> bool {
    client_version == CLIENT_VERSION || client_version == env!("CARGO_PKG_VERSION")
}
