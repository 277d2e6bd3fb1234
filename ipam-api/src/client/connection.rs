// SPDX-License-Identifier: Apache-2.0
//! A connection to a unix socket that waits by poll(2), and for nothing longer than its caller says.
//!
//! Connecting waits in the kernel too (SO_SNDTIMEO, unix(7)): when many plugins are there at once and the server's queue is full, each
//! goes on as soon as there is room.
#![expect(clippy::disallowed_methods, reason = "this edge reads the clock for its caller's time limit")]

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::exchange::{Exchange, Response};
use super::grpc::Failure;

/// Of one read; an answer of the daemon's is some hundred bytes.
const RECEIVE_BYTES: usize = 4_096;

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The time is over.
    TimedOut,
    /// The connection is.
    Lost(io::Error),
    /// The peer broke the protocol, or ended the call by its means.
    Failed(Failure),
}

/// A connected socket, of one exchange.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl Connection {
    /// Connects; gives up, with an error of the kind `WouldBlock`, when the server has not had room until `end`.
    pub(super) fn open(path: &Path, end: Instant) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // None at all would be no limit.
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::from(socket))
    }

    /// Sends the request and takes what comes, until the response is whole or `end`.
    pub(super) fn carry_out<'a>(&self, exchange: &'a mut Exchange, end: Instant) -> Result<&'a Response, Broken> {
        let mut received = Vec::with_capacity(RECEIVE_BYTES);
        while exchange.response().is_none() {
            self.send(exchange.outgoing()).map_err(Broken::Lost)?;
            self.wait(!exchange.outgoing().is_empty(), end)?;
            received.clear();
            match recv(&self.0, spare_capacity(&mut received), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Broken::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => exchange.receive(&received).map_err(|error| Broken::Failed(error.into()))?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(Broken::Lost(errno.into())),
            }
        }
        exchange.response().ok_or_else(|| Broken::Lost(io::ErrorKind::UnexpectedEof.into()))
    }

    /// As much as the peer's buffer takes now. A peer that is gone may have answered before: what it sent is read first.
    pub(super) fn send(&self, outgoing: &mut Vec<u8>) -> io::Result<()> {
        while !outgoing.is_empty() {
            match send(&self.0, outgoing, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(outgoing.drain(..sent)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => outgoing.clear(),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Until there is something to read, or room to send; a peer that is gone is something to read.
    fn wait(&self, has_more_to_send: bool, end: Instant) -> Result<(), Broken> {
        let send = if has_more_to_send { PollFlags::OUT } else { PollFlags::empty() };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Asked here and not of poll: a peer that always has something to say would be read for ever.
            if left.is_zero() {
                return Err(Broken::TimedOut);
            }
            let limit = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN | send)], Some(&limit)) {
                Ok(0) => return Err(Broken::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Broken::Lost(errno.into())),
            }
        }
    }
}
