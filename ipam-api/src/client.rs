// SPDX-License-Identifier: Apache-2.0
//! The plugin's end: one blocking call with one time budget, on a current-thread runtime of its own.
//!
//! The budget covers everything: waiting for a socket that is missing or refuses (the daemon restarts), connecting,
//! the call, and calls again when the daemon died under one (all calls are idempotent by their keys). Does *not*
//! interpret replies: `Success=false` is an `Ok` here.
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
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Code, Request, Status};

mod runtime;

pub use runtime::{RuntimeClient, RuntimeError};

use crate::MAX_MESSAGE_BYTES;
use crate::health::health_client::HealthClient;
use crate::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use crate::rpc::cni_backend_client::CniBackendClient;
use crate::rpc::enid_backend_client::EnidBackendClient;
use crate::rpc::np_backend_client::NpBackendClient;
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

/// A way to the daemon (or the network policy agent) behind one socket. Holds no connection: each call makes its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// How much of a call's budget may go by before a connection is there.
    patience: Duration,
}

impl Client {
    /// A client of the daemon that listens, or will listen, on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: Duration::MAX }
    }

    /// The same, giving a server up that is not there after `patience`; one that is there has a call's whole budget to answer.
    #[must_use]
    pub fn connecting_within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks for an address. `WaitBudgetMs` is set to what is left of `budget` when the request leaves.
    pub fn add_network(&self, request: AddNetworkRequest, budget: Duration) -> Result<AddNetworkReply, CallError> {
        self.call(budget, async |channel, left| {
            let mut client =
                CniBackendClient::with_origin(channel, origin()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let mut request = request.clone();
            request.wait_budget_ms = Some(u32::try_from(left.as_millis()).unwrap_or(u32::MAX));
            client.add_network(within(left, request)).await
        })
    }

    /// Gives the addresses of a sandbox back.
    pub fn del_network(&self, request: DelNetworkRequest, budget: Duration) -> Result<DelNetworkReply, CallError> {
        self.call(budget, async |channel, left| {
            let mut client =
                CniBackendClient::with_origin(channel, origin()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            client.del_network(within(left, request.clone())).await
        })
    }

    /// Gives the addresses back of all sandboxes of a network that are not to be kept. The reference's daemon does not know the
    /// call: [`Code::Unimplemented`].
    pub fn collect_garbage(
        &self,
        request: CollectGarbageRequest,
        budget: Duration,
    ) -> Result<CollectGarbageReply, CallError> {
        self.call(budget, async |channel, left| {
            let mut client =
                EnidBackendClient::with_origin(channel, origin()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            client.collect_garbage(within(left, request.clone())).await
        })
    }

    /// Tells the network policy agent, when the socket is its, that a pod is up; the reply is its `Success`.
    pub fn enforce_policy(&self, request: EnforceNpRequest, budget: Duration) -> Result<bool, CallError> {
        let reply: EnforceNpReply = self.call(budget, async |channel, left| {
            NpBackendClient::with_origin(channel, origin()).enforce_np_to_pod(within(left, request.clone())).await
        })?;
        Ok(reply.success)
    }

    /// Tells the network policy agent that a pod is gone; the reply is its `Success`.
    pub fn delete_policy(&self, request: DeleteNpRequest, budget: Duration) -> Result<bool, CallError> {
        let reply: DeleteNpReply = self.call(budget, async |channel, left| {
            NpBackendClient::with_origin(channel, origin()).delete_pod_np(within(left, request.clone())).await
        })?;
        Ok(reply.success)
    }

    /// Whether the daemon says SERVING for `service` (one of [`crate::HEALTH_SERVICES`]).
    pub fn is_serving(&self, service: &str, budget: Duration) -> Result<bool, CallError> {
        let reply: HealthCheckResponse = self.call(budget, async |channel, left| {
            let mut client = HealthClient::with_origin(channel, origin()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            client.check(within(left, HealthCheckRequest { service: service.to_owned() })).await
        })?;
        Ok(reply.status() == ServingStatus::Serving)
    }

    fn call<R>(
        &self,
        budget: Duration,
        one: impl AsyncFn(Channel, Duration) -> Result<tonic::Response<R>, Status>,
    ) -> Result<R, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| CallError::NoDaemon { socket: self.socket.clone(), source })?;
        runtime.block_on(self.call_until_answered(budget, one))
    }

    async fn call_until_answered<R>(
        &self,
        budget: Duration,
        one: impl AsyncFn(Channel, Duration) -> Result<tonic::Response<R>, Status>,
    ) -> Result<R, CallError> {
        let started = Instant::now();
        let deadline = started + budget;
        let mut pauses = Pauses::new(started + budget.min(self.patience));
        loop {
            let stream = self.connect(&mut pauses).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = async { one(channel_on(stream).await?, left).await };
            let status = match timeout_at(deadline, attempt).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(CallError::TimedOut { socket: self.socket.clone(), budget }),
            };
            if !is_connection_lost(&status) || !pauses.wait().await {
                return Err(self.failed(&status, budget));
            }
        }
    }

    async fn connect(&self, pauses: &mut Pauses) -> Result<UnixStream, CallError> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(source) => {
                    if !is_worth_another_try(&source) || !pauses.wait().await {
                        return Err(CallError::NoDaemon { socket: self.socket.clone(), source });
                    }
                }
            }
        }
    }

    fn failed(&self, status: &Status, budget: Duration) -> CallError {
        match status.code() {
            Code::FailedPrecondition => CallError::VersionMismatch { message: status.message().to_owned() },
            // tonic's own timer, at either end, reports Cancelled.
            Code::DeadlineExceeded | Code::Cancelled => CallError::TimedOut { socket: self.socket.clone(), budget },
            code => CallError::Failed { code, message: with_sources(status) },
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

    /// Waits; false, at once, when the pause would end after the deadline.
    async fn wait(&mut self) -> bool {
        if Instant::now() + self.next >= self.deadline {
            return false;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}

/// One HTTP/2 connection as a service that carries gRPC.
async fn channel_on(stream: UnixStream) -> Result<Channel, Status> {
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(|error| Status::from_error(Box::new(error)))?;
    // Ends with the runtime, which ends with the call.
    tokio::spawn(connection);
    Ok(Channel(sender))
}

/// The sending half of a connection.
struct Channel(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// The `:authority` of every call. C-core's default, the socket's path, is refused by HTTP/2 servers in Rust.
fn origin() -> http::Uri {
    http::Uri::from_static("http://localhost")
}

fn within<T>(left: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

/// The status' words and, when this end made it, the transport's: `transport error: Broken pipe`.
fn with_sources(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = error.source();
    }
    text
}

/// No file yet, nobody listening any more, or the accept queue is full (EAGAIN, unix(7)).
fn is_worth_another_try(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}

/// The transport failed under the call (a status that carries a source was made at this end), or the daemon is going.
fn is_connection_lost(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}
