// SPDX-License-Identifier: Apache-2.0
//! Calls by tonic, on a current-thread runtime of their own: for a process that lives, and for the floor that the plugin is measured
//! against. States, waiting and errors are those of [`super`]'s calls, but that a full queue is an error here, to be tried again, and that
//! any failure of the transport counts as a lost connection.
#![expect(clippy::disallowed_methods, reason = "this edge waits for a server that is not there yet, inside its budget")]

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

use super::{CallError, Pauses};

/// A way to the server behind one socket. Holds no connection: each call makes its own.
#[derive(Clone, Debug)]
pub struct Caller {
    socket: PathBuf,
}

impl Caller {
    /// A caller of the server that listens, or will listen, on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// One call: `one` makes it, over the connection and with what is left of `budget`; again when the connection was lost.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call<R>(
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
        let deadline = Instant::now() + budget;
        let mut pauses = Pauses::new(deadline.into_std());
        loop {
            let stream = self.connect(&mut pauses).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = async { one(channel_on(stream).await?, left).await };
            let status = match timeout_at(deadline, attempt).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(CallError::TimedOut { socket: self.socket.clone(), budget }),
            };
            if !is_connection_lost(&status) || !wait(&mut pauses).await {
                return Err(self.failed(&status, budget));
            }
        }
    }

    async fn connect(&self, pauses: &mut Pauses) -> Result<UnixStream, CallError> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(source) => {
                    if !is_worth_another_try(&source) || !wait(pauses).await {
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

/// Waits; false, at once, when the pause would end after the deadline.
async fn wait(pauses: &mut Pauses) -> bool {
    let Some(pause) = pauses.next() else { return false };
    sleep(pause).await;
    true
}

/// One HTTP/2 connection as a service that carries gRPC. Its work is a task of the runtime that this is called on.
///
/// # Errors
/// The handshake failed.
pub async fn channel_on(stream: UnixStream) -> Result<Channel, Status> {
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(|error| Status::from_error(Box::new(error)))?;
    // Ends with the connection, or with the runtime.
    tokio::spawn(connection);
    Ok(Channel(sender))
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Channel(SendRequest<Body>);

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

/// The `:authority` of every call (see `grpc`).
#[must_use]
pub fn origin() -> http::Uri {
    http::Uri::from_static("http://localhost")
}

/// A request with a time limit.
pub fn within<T>(left: Duration, message: T) -> Request<T> {
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
