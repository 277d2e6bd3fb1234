// SPDX-License-Identifier: Apache-2.0
//! The kernel's notifications: whether something that is ours may have changed by another hand. Blocks; for a thread of its
//! own.
//!
//! What the plugin does all day is left out ([`classify`]): links, routes, rules and neighbours of ours that come. What it
//! removes cannot be told from what others remove, so the addresses are named, and who knows which of them are in use decides.
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

use super::error::ApplyError;
use super::netlink::{self, Socket as Requests, read};
use crate::plan::repair::Object;
use classify::Links;

/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, _IPV6_RULE, _IPV4_NETCONF, _IPV6_NETCONF (`include/uapi/linux/rtnetlink.h`).
const ROUTE_GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 11, 19, 24, 25];
/// NFNLGRP_NFTABLES (`include/uapi/linux/netfilter/nfnetlink.h`).
const NFT_GROUP: u32 = 7;
/// What a flush of a few hundred rules takes; half of it is the kernel's own book-keeping.
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// How long more is waited for once something has come: one flush is one change.
const GATHER: Duration = Duration::from_millis(20);
/// Gathering ends after so many datagrams: an endless stream is told of too.
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

    /// Waits until something of ours may have changed.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn wait(&mut self) -> Result<Changes, ApplyError> {
        loop {
            let changes = self.wait_until(None)?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// What comes within a time; nothing of ours may be in it.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn wait_at_most(&mut self, time: Duration) -> Result<Changes, ApplyError> {
        self.wait_until(Some(time))
    }

    fn wait_until(&mut self, time: Option<Duration>) -> Result<Changes, ApplyError> {
        let mut changes = Changes::default();
        self.sleep(time)?;
        for _ in 0..MOST_DATAGRAMS {
            let read = self.read_route(&mut changes)? | self.read_netfilter(&mut changes)?;
            if !read && !self.sleep(Some(GATHER))? {
                break;
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
    // Refused beyond net.core.rmem_max: then it is as much as that.
    let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER);
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
