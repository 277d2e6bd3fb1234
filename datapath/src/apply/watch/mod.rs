// SPDX-License-Identifier: Apache-2.0
//! The kernel's notifications: whether something that is ours may have changed by another hand. Blocks; for a thread of its
//! own.
//!
//! What the plugin does all day is left out ([`classify`]): links, routes, rules and neighbours of ours that come. What it
//! removes cannot be told from what others remove, so the addresses are named, and who knows which of them are in use decides.
//!
//! It also tells which links came and went, so that nobody else has to listen ([`LinkNews`]).
//!
//! Each ADD and DEL is half a dozen notifications while it is under way. So what has come is not read at once, which would take the
//! processor from the call, but together with what comes in the next 20 ms.
//!
//! Only a hint: notifications can be lost (ENOBUFS, netlink(7)); that is said, and to be answered by looking at everything.

mod classify;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::error::ApplyError;
use super::netlink::{self, Socket as Requests, read};
use crate::plan::repair::Object;
pub use classify::LinkNews;
use classify::Links;

/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, _IPV6_RULE, _IPV4_NETCONF, _IPV6_NETCONF (`include/uapi/linux/rtnetlink.h`).
const ROUTE_GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 11, 19, 24, 25];
/// NFNLGRP_NFTABLES (`include/uapi/linux/netfilter/nfnetlink.h`).
const NFT_GROUP: u32 = 7;
/// What some thousand rules take that are flushed between two reads; half of it is the kernel's own book-keeping.
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// Once something has come, it is read after each of these: one flush is one change, and little of it is to fill the buffer.
const GATHER: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(15)];
/// Reading ends after so many datagrams: an endless stream is told of too.
const MOST_DATAGRAMS: usize = 4096;
/// Writers beyond so many are not named.
const MOST_WRITERS: usize = 8;

/// What may have changed by another hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Addresses of which a rule, a route or a neighbour was removed or bent.
    pub addresses: BTreeSet<IpAddr>,
    /// Kinds of other objects that were touched.
    pub objects: BTreeSet<Object>,
    /// Notifications were lost.
    pub lost: bool,
    /// Netlink ports that the changes came from: mostly the process's id (`netlink_autobind`, `net/netlink/af_netlink.c`).
    pub writers: BTreeSet<u32>,
}

impl Changes {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.objects.is_empty() && !self.lost
    }
}

/// Listens in the namespace that its maker was in.
#[derive(Debug)]
pub struct Watcher {
    route: netlink_sys::Socket,
    netfilter: netlink_sys::Socket,
    links: Links,
}

impl Watcher {
    /// Listens from now on.
    ///
    /// # Errors
    /// The sockets cannot be had, or the links not be listed.
    pub fn start() -> Result<Self, ApplyError> {
        let route = listener(NETLINK_ROUTE, &ROUTE_GROUPS)?;
        let netfilter = listener(NETLINK_NETFILTER, &[NFT_GROUP])?;
        let mut watcher = Self { route, netfilter, links: Links::default() };
        watcher.list_links()?;
        Ok(watcher)
    }

    fn list_links(&mut self) -> Result<(), ApplyError> {
        self.links = Links::of(&read::links(&mut Requests::route()?)?);
        Ok(())
    }

    /// Waits until something of ours may have changed, or links came or went.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn wait(&mut self) -> Result<Changes, ApplyError> {
        loop {
            let changes = self.wait_until(None)?;
            if !changes.is_empty() || !self.links.news.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// Links that came and went since this was asked last. All that there are came when it began to listen, and come anew when
    /// notifications were lost.
    pub fn take_links(&mut self) -> LinkNews {
        std::mem::take(&mut self.links.news)
    }

    /// What comes within a time, and what comes with it; nothing of ours may be in it.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn wait_at_most(&mut self, time: Duration) -> Result<Changes, ApplyError> {
        self.wait_until(Some(time))
    }

    #[expect(clippy::disallowed_methods, reason = "lets notifications gather")]
    fn wait_until(&mut self, time: Option<Duration>) -> Result<Changes, ApplyError> {
        let mut changes = Changes::default();
        if self.sleep(time)? {
            for pause in GATHER {
                std::thread::sleep(pause);
                self.read(&mut changes)?;
            }
        }
        if changes.lost {
            self.list_links()?;
        }
        Ok(changes)
    }

    /// Whether there is something to read; `None`: waits as long as it takes.
    fn sleep(&self, time: Option<Duration>) -> Result<bool, ApplyError> {
        let mut sockets = [PollFd::new(&self.route, PollFlags::IN), PollFd::new(&self.netfilter, PollFlags::IN)];
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut sockets, time.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(netlink::failed("waiting for notifications", errno.into())),
        }
    }

    /// All that is there.
    fn read(&mut self, changes: &mut Changes) -> Result<(), ApplyError> {
        let mut left = MOST_DATAGRAMS;
        while left > 0 && self.read_route(changes)? | self.read_netfilter(changes)? {
            left -= 1;
        }
        Ok(())
    }

    /// Whether there was a datagram.
    fn read_route(&mut self, changes: &mut Changes) -> Result<bool, ApplyError> {
        let Some(bytes) = receive(&self.route, changes)? else { return Ok(false) };
        for message in classify::messages(&bytes) {
            let found = self.links.route_change(&message);
            note(changes, found, message.port);
        }
        Ok(true)
    }

    fn read_netfilter(&mut self, changes: &mut Changes) -> Result<bool, ApplyError> {
        let Some(bytes) = receive(&self.netfilter, changes)? else { return Ok(false) };
        for message in classify::messages(&bytes) {
            note(changes, classify::nft_change(&message), message.port);
        }
        Ok(true)
    }
}

fn note(changes: &mut Changes, found: Option<classify::Change>, port: u32) {
    match found {
        Some(classify::Change::Address(address)) => changes.addresses.insert(address),
        Some(classify::Change::Object(object)) => changes.objects.insert(object),
        None => return,
    };
    // Port 0 is the kernel; high ones are second sockets, whose number names nobody.
    if (1..=i32::MAX.cast_unsigned()).contains(&port) && changes.writers.len() < MOST_WRITERS {
        changes.writers.insert(port);
    }
}

fn listener(protocol: isize, groups: &[u32]) -> Result<netlink_sys::Socket, ApplyError> {
    let failed = |source| netlink::failed("listening for notifications", source);
    let mut socket = netlink_sys::Socket::new(protocol).map_err(failed)?;
    // Beyond net.core.rmem_max; where that is refused, as much as that.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER));
    socket.bind_auto().map_err(failed)?;
    for group in groups {
        socket.add_membership(*group).map_err(failed)?;
    }
    Ok(socket)
}

/// A datagram; `None`: there is none. An overrun is noted, and what is still there is read.
fn receive(socket: &netlink_sys::Socket, changes: &mut Changes) -> Result<Option<Vec<u8>>, ApplyError> {
    let mut buffer = Vec::with_capacity(netlink::RECEIVE_BYTES);
    loop {
        match socket.recv(&mut buffer, netlink::RECEIVE_FLAGS) {
            Ok(_) => return Ok(Some(buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                changes.lost = true;
            }
            Err(source) => return Err(netlink::failed("reading notifications", source)),
        }
    }
}
