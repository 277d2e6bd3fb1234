// SPDX-License-Identifier: Apache-2.0
//! The plugin's end: one blocking call with one time budget, over a connection of its own, without a runtime.
//!
//! The budget covers everything: waiting for a socket that is missing or refuses (the daemon restarts), connecting,
//! the call, and calls again when the daemon died under one (all calls are idempotent by their keys). Does *not*
//! interpret replies: `Success=false` is an `Ok` here.
//!
//! The daemon's own calls, to a container runtime, are tonic's (`channel`, a feature); a plugin is a new process for each call, so here
//! there is as little as the protocol allows ([`exchange`], [`grpc`], [`connection`]).
//!
//! Invariant: no call outlives its budget, whatever the daemon does (dead, stopped, slow, talking nonsense).
//!
//! ```text
//! Connecting ─missing, refused: again after a pause─► Connecting ─budget over─► NoDaemon
//!     │connected
//!     ▼
//! Calling ─connection lost, Unavailable─► Connecting        Calling ─budget over─► TimedOut
//!     │answer
//!     ▼
//! Ok(reply) | VersionMismatch (FailedPrecondition) | Failed{code, message}
//! ```
#![expect(clippy::disallowed_methods, reason = "this edge waits for a daemon that is not there yet, inside its budget")]

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use prost::Message;
use tonic::Code;

#[cfg(feature = "channel")]
pub mod channel;
mod connection;
mod exchange;
pub(crate) mod grpc;
mod pending;
#[cfg(feature = "channel")]
mod runtime;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

use connection::Connection;
pub use pending::Pending;
#[cfg(feature = "channel")]
pub use runtime::{RuntimeClient, RuntimeError};

use crate::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use crate::rpc::{
    AddNetworkReply, AddNetworkRequest, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply, DelNetworkRequest,
    DeleteNpReply, DeleteNpRequest, EnforceNpReply, EnforceNpRequest,
};

/// First pause before another try to connect; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// A restarting daemon is found this much after it listens, at the latest.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// Why a call brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing accepted a connection on the socket within the budget.
    #[error("connecting to the IPAM daemon at {}", socket.display())]
    NoDaemon {
        /// Where it was looked for.
        socket: PathBuf,
        /// The last attempt's error.
        source: io::Error,
    },
    /// A connection was there but no answer came within the budget.
    #[error("no answer from the IPAM daemon at {} within {} ms", socket.display(), budget.as_millis())]
    TimedOut {
        /// Where it was asked.
        socket: PathBuf,
        /// The whole budget of the call.
        budget: Duration,
    },
    /// The daemon does not work with this plugin's version.
    #[error("plugin and IPAM daemon do not match: {message}")]
    VersionMismatch {
        /// The daemon's words.
        message: String,
    },
    /// The call ended with another gRPC status.
    #[error("the IPAM daemon answered {code:?}: {message}")]
    Failed {
        /// gRPC status code.
        code: Code,
        /// The daemon's words, or the transport's.
        message: String,
    },
}

/// A way to the daemon (or the network policy agent) behind one socket. Each call makes a connection of its own, which is closed with the
/// client: the server wakes for that, and beside a caller that goes on would be in its way.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    /// How much of a call's budget may go by before a connection is there.
    patience: Duration,
    /// Of calls that are answered.
    spent: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client of the daemon that listens, or will listen, on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: Duration::MAX, spent: Mutex::default() }
    }

    /// The same, giving a server up that is not there after `patience`; one that is there has a call's whole budget to answer.
    #[must_use]
    pub fn connecting_within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks for an address. `WaitBudgetMs` is set to what is left of `budget` when the request leaves.
    ///
    /// # Errors
    /// See [`CallError`], as of all calls here.
    pub fn add_network(&self, request: AddNetworkRequest, budget: Duration) -> Result<AddNetworkReply, CallError> {
        self.adding(request, budget).answer()
    }

    /// The same, asked at once, if the daemon is there: the caller has other things to do before it waits.
    pub fn begin_add_network(&self, request: AddNetworkRequest, budget: Duration) -> Pending<'_, AddNetworkReply> {
        self.adding(request, budget).begin()
    }

    fn adding(&self, request: AddNetworkRequest, budget: Duration) -> Pending<'_, AddNetworkReply> {
        self.pending(budget, move |left| {
            let wait = Some(u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
            let request = AddNetworkRequest { wait_budget_ms: wait, ..request.clone() };
            grpc::request("/rpc.CNIBackend/AddNetwork", left, &request)
        })
    }

    /// Gives the addresses of a sandbox back.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn del_network(&self, request: DelNetworkRequest, budget: Duration) -> Result<DelNetworkReply, CallError> {
        self.pending(budget, move |left| grpc::request("/rpc.CNIBackend/DelNetwork", left, &request)).answer()
    }

    /// Gives the addresses back of all sandboxes of a network that are not to be kept. The reference's daemon does not know the
    /// call: [`Code::Unimplemented`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn collect_garbage(
        &self,
        request: CollectGarbageRequest,
        budget: Duration,
    ) -> Result<CollectGarbageReply, CallError> {
        self.pending(budget, move |left| grpc::request("/rpc.EnidBackend/CollectGarbage", left, &request)).answer()
    }

    /// Tells the network policy agent, when the socket is its, that a pod is up; the reply is its `Success`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn enforce_policy(&self, request: EnforceNpRequest, budget: Duration) -> Result<bool, CallError> {
        let reply: EnforceNpReply = self
            .pending(budget, move |left| grpc::request("/rpc.NPBackend/EnforceNpToPod", left, &request))
            .answer()?;
        Ok(reply.success)
    }

    /// Tells the network policy agent that a pod is gone; the reply is its `Success`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn delete_policy(&self, request: DeleteNpRequest, budget: Duration) -> Result<bool, CallError> {
        let reply: DeleteNpReply =
            self.pending(budget, move |left| grpc::request("/rpc.NPBackend/DeletePodNp", left, &request)).answer()?;
        Ok(reply.success)
    }

    /// Whether the daemon says SERVING for `service` (one of [`crate::HEALTH_SERVICES`]).
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn is_serving(&self, service: &str, budget: Duration) -> Result<bool, CallError> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let reply: HealthCheckResponse =
            self.pending(budget, move |left| grpc::request("/grpc.health.v1.Health/Check", left, &request)).answer()?;
        Ok(reply.status() == ServingStatus::Serving)
    }

    fn pending<R: Message + Default>(
        &self,
        budget: Duration,
        request: impl Fn(Duration) -> exchange::Exchange + 'static,
    ) -> Pending<'_, R> {
        Pending::new(self, budget, Box::new(request))
    }

    fn spend(&self, connection: Connection) {
        if let Ok(mut spent) = self.spent.lock() {
            spent.push(connection);
        }
    }
}

/// Growing pauses between tries, none beyond the deadline.
struct Pauses {
    next: Duration,
    deadline: Instant,
}

impl Pauses {
    fn new(deadline: Instant) -> Self {
        Self { next: FIRST_PAUSE, deadline }
    }

    /// The next one; none when it would end after the deadline.
    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        if Instant::now() + pause >= self.deadline {
            return None;
        }
        self.next = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    /// Waits; false, at once, when the pause would end after the deadline.
    fn wait(&mut self) -> bool {
        self.next().map(std::thread::sleep).is_some()
    }
}
