// SPDX-License-Identifier: Apache-2.0
//! Netlink with as little between the program and the kernel as there can be: messages appended to one buffer, sent with
//! one call, acknowledged once. For the floor only; the product's socket is in crate `datapath`.
//!
//! Numbers are those of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/neighbour.h.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NLMSG_ERROR: u16 = 2;
const NEWLINK: u16 = 16;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEIGH: u16 = 28;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ECHO: u16 = 8;
const REPLACE: u16 = 0x100;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const HEADER: usize = 16;
/// Main table, scopes and protocol of a route (linux/rtnetlink.h).
const TABLE_MAIN: u8 = 254;
const SCOPE_LINK: u8 = 253;
const PROTOCOL_BOOT: u8 = 3;

/// Messages to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    last: usize,
}

/// Both ends of a veth pair to make.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) pod_netns: i32,
    pub(crate) host_mac: [u8; 6],
    pub(crate) pod_mac: [u8; 6],
    pub(crate) mtu: u32,
}

impl Batch {
    fn begin(&mut self, kind: u16, flags: u16) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
    }

    fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.last).unwrap_or(u32::MAX);
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind | 0x8000, &[]);
        inside(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn link_header(&mut self, index: i32, up: bool) {
        let up = u32::from(up);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&up.to_ne_bytes());
        self.bytes.extend_from_slice(&up.to_ne_bytes());
    }

    fn end_of_veth(&mut self, name: &str, mac: [u8; 6], mtu: u32) {
        self.text(3, name); // IFLA_IFNAME
        self.attribute(1, &mac); // IFLA_ADDRESS
        self.attribute(4, &mtu.to_ne_bytes()); // IFLA_MTU
        self.attribute(31, &1u32.to_ne_bytes()); // IFLA_NUM_TX_QUEUES
        self.attribute(32, &1u32.to_ne_bytes()); // IFLA_NUM_RX_QUEUES
    }

    /// The pair in one message, the host end up, the pod end born in its namespace; the answer carries both indexes.
    pub(crate) fn veth(&mut self, veth: &Veth<'_>) {
        self.begin(NEWLINK, CREATE | EXCL | ECHO);
        self.link_header(0, true);
        self.end_of_veth(veth.host, veth.host_mac, veth.mtu);
        self.nest(18, |info| {
            info.attribute(1, b"veth");
            info.nest(2, |data| {
                data.nest(1, |peer| {
                    peer.link_header(0, false);
                    peer.end_of_veth(veth.pod, veth.pod_mac, veth.mtu);
                    peer.attribute(28, &veth.pod_netns.to_ne_bytes()); // IFLA_NET_NS_FD
                });
            });
        });
        self.end();
    }

    pub(crate) fn link_up(&mut self, index: i32) {
        self.begin(NEWLINK, 0);
        self.link_header(index, true);
        self.end();
    }

    pub(crate) fn address(&mut self, index: i32, address: Ipv4Addr) {
        self.begin(NEWADDR, CREATE | EXCL);
        self.bytes.extend_from_slice(&[2, 32, 0, 0]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.attribute(2, &address.octets());
        self.attribute(1, &address.octets());
        self.end();
    }

    fn route(&mut self, kind: u16, flags: u16, to: Option<Ipv4Addr>, scope: u8) {
        self.begin(kind, flags);
        let length = if to.is_some() { 32 } else { 0 };
        self.bytes.extend_from_slice(&[2, length, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, scope, 1, 0, 0, 0, 0]);
        if let Some(to) = to {
            self.attribute(1, &to.octets());
        }
    }

    /// `to/32 dev index scope link`.
    pub(crate) fn host_route(&mut self, to: Ipv4Addr, index: i32) {
        self.route(NEWROUTE, CREATE | REPLACE, Some(to), SCOPE_LINK);
        self.attribute(4, &index.to_ne_bytes());
        self.end();
    }

    pub(crate) fn default_route(&mut self, gateway: Ipv4Addr, index: i32) {
        self.route(NEWROUTE, CREATE | REPLACE, None, 0);
        self.attribute(5, &gateway.octets());
        self.attribute(4, &index.to_ne_bytes());
        self.end();
    }

    pub(crate) fn delete_host_route(&mut self, to: Ipv4Addr) {
        self.route(DELROUTE, 0, Some(to), SCOPE_LINK);
        self.end();
    }

    pub(crate) fn permanent_neighbour(&mut self, index: i32, address: Ipv4Addr, mac: [u8; 6]) {
        self.begin(NEWNEIGH, CREATE | REPLACE);
        self.bytes.extend_from_slice(&[2, 0, 0, 0]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&0x80u16.to_ne_bytes()); // NUD_PERMANENT
        self.bytes.extend_from_slice(&[0, 1]);
        self.attribute(1, &address.octets());
        self.attribute(2, &mac);
        self.end();
    }
}

/// A socket of the namespace it was made in.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// Index of a new link and of its peer.
pub(crate) type Indexes = (i32, i32);

impl Socket {
    pub(crate) fn new() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self(fd))
    }

    /// Sends the batch, asking an acknowledgement of its last message; the first error of any message is returned.
    /// The indexes are those of the last link the kernel echoed.
    pub(crate) fn run(&self, mut batch: Batch) -> io::Result<Indexes> {
        batch.bytes[batch.last + 6] |= u8::try_from(ACK).unwrap_or_default();
        batch.bytes[batch.last + 8] = 1; // the sequence number that ends the wait
        send(&self.0, &batch.bytes, SendFlags::empty())?;
        let mut indexes = (0, 0);
        let mut buffer = [0u8; 8192];
        loop {
            let (length, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some(message) = take(&mut rest) {
                match u16_at(message, 4) {
                    NLMSG_ERROR => match i32_at(message, HEADER) {
                        0 => return Ok(indexes),
                        errno => return Err(io::Error::from_raw_os_error(-errno)),
                    },
                    NEWLINK => indexes = link_indexes(message),
                    _ => {}
                }
            }
        }
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(i32_at(rest.get(..HEADER)?, 0)).ok()?;
    let message = rest.get(..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(message)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

/// Own index from the link header, the peer's from IFLA_LINK.
fn link_indexes(message: &[u8]) -> Indexes {
    let (own, mut peer) = (i32_at(message, HEADER + 4), 0);
    let mut at = HEADER + 16;
    while at + 4 <= message.len() {
        let length = usize::from(u16_at(message, at)).max(4);
        if u16_at(message, at + 2) & 0x3fff == 5 {
            peer = i32_at(message, at + 4);
        }
        at += length.next_multiple_of(4);
    }
    (own, peer)
}
