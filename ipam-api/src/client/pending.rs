// SPDX-License-Identifier: Apache-2.0
//! One call, which may be begun before its caller can do nothing but wait: the request is sent, if the daemon is there, and what is to be
//! done meanwhile is done while the daemon works. Where the daemon is not there yet, or is lost, [`Pending::answer`] is the whole call: it
//! connects, and tries again, within the budget.
#![expect(clippy::disallowed_methods, reason = "this edge waits for a daemon that is not there yet, inside its budget")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use prost::Message;
use tonic::Code;

use super::connection::{Broken, Connection};
use super::exchange::Exchange;
use super::grpc::{self, Failure};
use super::{CallError, Client, Pauses};

/// A call on its way. Dropped, it is given up, and the daemon may have carried it out or not.
#[must_use = "a call is nothing without its answer"]
pub struct Pending<'c, R> {
    client: &'c Client,
    /// Makes the request of one try, by what is left of the budget.
    request: Box<dyn Fn(Duration) -> Exchange>,
    started: Instant,
    budget: Duration,
    begun: Option<(Connection, Exchange)>,
    reply: PhantomData<R>,
}

impl<R> fmt::Debug for Pending<'_, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, started, budget, begun, .. } = self;
        let is_begun = begun.is_some();
        write!(formatter, "Pending {{ {}, {started:?}, {budget:?}, begun: {is_begun} }}", client.socket.display())
    }
}

impl<'c, R: Message + Default> Pending<'c, R> {
    pub(super) fn new(client: &'c Client, budget: Duration, request: Box<dyn Fn(Duration) -> Exchange>) -> Self {
        Self { client, request, started: Instant::now(), budget, begun: None, reply: PhantomData }
    }

    /// Sends the whole request, if the daemon takes it at once.
    pub(super) fn begin(mut self) -> Self {
        self.begun = self.sent((self.request)(self.left()));
        self
    }

    fn sent(&self, mut exchange: Exchange) -> Option<(Connection, Exchange)> {
        // What goes wrong here goes wrong again in `answer`, or does not.
        let connection = Connection::open(&self.client.socket, Instant::now()).ok()?;
        connection.send(exchange.outgoing()).ok()?;
        Some((connection, exchange))
    }

    fn left(&self) -> Duration {
        (self.started + self.budget).saturating_duration_since(Instant::now())
    }

    /// Waits for the answer, for what is left of the budget.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn answer(mut self) -> Result<R, CallError> {
        let deadline = self.started + self.budget;
        let mut pauses = Pauses::new(self.started + self.budget.min(self.client.patience));
        loop {
            let (connection, mut exchange) = match self.begun.take() {
                Some(begun) => begun,
                None => {
                    let connection = self.connect(&mut pauses)?;
                    (connection, (self.request)(self.left()))
                }
            };
            let failure = match connection.carry_out(&mut exchange, deadline) {
                Ok(response) => match grpc::reply(response) {
                    Ok(reply) => {
                        self.client.spend(connection);
                        return Ok(reply);
                    }
                    Err(failure) => failure,
                },
                Err(Broken::TimedOut) => return Err(self.timed_out()),
                Err(Broken::Lost(error)) => lost(&error),
                Err(Broken::Failed(failure)) => failure,
            };
            if failure.code != Code::Unavailable || !pauses.wait() {
                return Err(self.failed(failure));
            }
        }
    }

    fn connect(&self, pauses: &mut Pauses) -> Result<Connection, CallError> {
        loop {
            match Connection::open(&self.client.socket, pauses.deadline) {
                Ok(connection) => return Ok(connection),
                Err(source) => {
                    if !is_worth_another_try(&source) || !pauses.wait() {
                        return Err(CallError::NoDaemon { socket: self.client.socket.clone(), source });
                    }
                }
            }
        }
    }

    fn failed(&self, failure: Failure) -> CallError {
        let Failure { code, message } = failure;
        match code {
            Code::FailedPrecondition => CallError::VersionMismatch { message },
            // Timers at the other end report Cancelled, too.
            Code::DeadlineExceeded | Code::Cancelled => self.timed_out(),
            code => CallError::Failed { code, message },
        }
    }

    fn timed_out(&self) -> CallError {
        CallError::TimedOut { socket: self.client.socket.clone(), budget: self.budget }
    }
}

/// The daemon went away under the call.
fn lost(error: &io::Error) -> Failure {
    Failure { code: Code::Unavailable, message: format!("the connection was lost: {error}") }
}

/// No file yet, or nobody listening any more; or a signal came while the server's queue was full (signal(7): with a time limit the kernel
/// does not go on by itself).
fn is_worth_another_try(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | Interrupted)
}
