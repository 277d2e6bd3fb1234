// SPDX-License-Identifier: Apache-2.0
//! Messages of ctnetlink, as far as we speak it: delete by filter, list, delete one, and the tuples of what is listed.
//!
//! Bytes and no tree of attributes: a table has a hundred thousand entries, and of each we need four addresses.
//! Constants: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, `nfnetlink.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::apply::netlink::raw::{Message, NESTED, attribute, find, nested, walk};

/// NFNL_SUBSYS_CTNETLINK in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET_STATS_CPU.
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_COUNTERS: u16 = SUBSYSTEM | 4;
/// CTA_STATS_INSERT_FAILED, CTA_STATS_DROP, CTA_STATS_EARLY_DROP.
const INSERT_FAILED: u16 = 9;
const DROP: u16 = 10;
const EARLY_DROP: u16 = 11;
/// CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// CTA_TUPLE_IP.
const ADDRESSES: u16 = 1;
/// CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS, and in them CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_F_CTA_IP_DST.
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const FILTER_SOURCE: u32 = 1;
const FILTER_DESTINATION: u32 = 2;
/// CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT (`net/netfilter/nf_conntrack_netlink.c`).
const FILTER_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
/// CTA_TUPLE_PROTO; in it CTA_PROTO_NUM and CTA_PROTO_DST_PORT; IPPROTO_UDP.
const PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_TO_PORT: u16 = 3;
const UDP: u8 = 17;
/// AF_INET, AF_INET6.
const INET: u8 = 2;
const INET6: u8 = 10;

/// Where in a connection an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    tuple: u16,
    is_source: bool,
}

impl Place {
    /// The one most often met first.
    pub(crate) const ALL: [Self; 4] = [
        Self { tuple: ORIGINAL, is_source: true },
        Self { tuple: REPLY, is_source: true },
        Self { tuple: ORIGINAL, is_source: false },
        Self { tuple: REPLY, is_source: false },
    ];

    /// conntrack(8)'s word for it.
    pub(crate) fn option(self) -> &'static str {
        match (self.tuple, self.is_source) {
            (ORIGINAL, true) => "--orig-src",
            (ORIGINAL, false) => "--orig-dst",
            (_, true) => "--reply-src",
            (_, false) => "--reply-dst",
        }
    }
}

/// The kernel's number of an address's family.
pub(crate) fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => INET,
        IpAddr::V6(_) => INET6,
    }
}

/// Deletes whatever has the address in that place.
pub(crate) fn flush(address: IpAddr, place: Place) -> Message {
    let number = |v4: u16| if address.is_ipv4() { v4 } else { v4 + 2 };
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // CTA_IP_V4_SRC, V4_DST, V6_SRC, V6_DST.
    let inner = attribute(number(if place.is_source { 1 } else { 2 }), &octets);
    let flags = if place.is_source { FILTER_SOURCE } else { FILTER_DESTINATION };
    let (original, reply) = if place.tuple == ORIGINAL { (flags, 0) } else { (0, flags) };
    let filter = [attribute(FILTER_ORIGINAL, &original.to_ne_bytes()), attribute(FILTER_REPLY, &reply.to_ne_bytes())];
    let mut message = Message::new(DELETE, family(&address), 0);
    message.body.extend(attribute(place.tuple | NESTED, &attribute(ADDRESSES | NESTED, &inner)));
    message.body.extend(attribute(FILTER | NESTED, &filter.concat()));
    message
}

/// Asks for all connections of a family.
pub(crate) fn list(family: u8) -> Message {
    Message::new(GET, family, 0)
}

/// Asks for the counters of each processor.
pub(crate) fn counters() -> Message {
    Message::new(GET_COUNTERS, 0, 0)
}

/// Of a processor: insertions that failed, packets dropped for want of room or in a clash, connections that gave way to others. 32
/// bits each in the kernel.
pub(crate) fn losses(entry: &Message) -> [u64; 3] {
    [INSERT_FAILED, DROP, EARLY_DROP].map(|wanted| {
        let value = entry.attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        value.and_then(|value| <[u8; 4]>::try_from(value).ok()).map_or(0, |value| u32::from_be_bytes(value).into())
    })
}

/// Asks for IPv4 connections that were opened to a UDP port; a kernel that does not know the filter gives all.
pub(crate) fn list_udp(port: u16) -> Message {
    let parts = [attribute(PROTOCOL_NUMBER, &[UDP]), attribute(PROTOCOL_TO_PORT, &port.to_be_bytes())];
    let filter = attribute(FILTER_ORIGINAL, &FILTER_PROTOCOL_AND_PORT.to_ne_bytes());
    let mut message = list(INET);
    message.body.extend(nested(ORIGINAL, &[nested(PROTOCOL, &parts)]));
    message.body.extend(nested(FILTER, &[filter]));
    message
}

/// Whether a connection was opened to a UDP port.
pub(crate) fn is_udp_to(entry: &Message, port: u16) -> bool {
    let original = entry.attributes().find(|(kind, _)| *kind == ORIGINAL).map(|(_, tuple)| tuple);
    let protocol = original.and_then(|tuple| find(tuple, PROTOCOL)).unwrap_or_default();
    find(protocol, PROTOCOL_NUMBER) == Some(&[UDP]) && find(protocol, PROTOCOL_TO_PORT) == Some(&port.to_be_bytes())
}

/// Deletes this entry of a list, and not another that has come to have its tuple since.
pub(crate) fn delete(entry: &Message) -> Message {
    let mut message = Message::new(DELETE, entry.family(), 0);
    for (kind, value) in entry.attributes() {
        match kind {
            ORIGINAL => message.body.extend(attribute(ORIGINAL | NESTED, value)),
            ID | ZONE => message.body.extend(attribute(kind, value)),
            _ => {}
        }
    }
    message
}

/// A flow of IPv4 as a tuple of a connection says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) transport: u8,
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
}

impl Flow {
    fn of(tuple: &[u8]) -> Option<Self> {
        let (addresses, protocol) = (find(tuple, ADDRESSES)?, find(tuple, PROTOCOL)?);
        // CTA_IP_V4_SRC 1, _DST 2; CTA_PROTO_SRC_PORT 2, _DST_PORT 3.
        let address = |kind| find(addresses, kind).and_then(|octets| <[u8; 4]>::try_from(octets).ok());
        let port = |kind| find(protocol, kind).and_then(|octets| <[u8; 2]>::try_from(octets).ok());
        Some(Self {
            transport: <[u8; 1]>::try_from(find(protocol, PROTOCOL_NUMBER)?).ok()?[0],
            source: (address(1)?.into(), u16::from_be_bytes(port(2)?)),
            destination: (address(2)?.into(), u16::from_be_bytes(port(PROTOCOL_TO_PORT)?)),
        })
    }

    /// That of its answer.
    pub(crate) fn back(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

/// Both flows of a connection with ports, as it came and as its answers come; `None`: of another.
pub(crate) fn flows(entry: &Message) -> Option<(Flow, Flow)> {
    let flow = |wanted| entry.attributes().find(|(kind, _)| *kind == wanted).and_then(|(_, tuple)| Flow::of(tuple));
    flow(ORIGINAL).zip(flow(REPLY))
}

/// After how many seconds without a packet it is forgotten (CTA_TIMEOUT).
pub(crate) fn seconds(entry: &Message) -> u32 {
    let value = entry.attributes().find(|(kind, _)| *kind == 7).and_then(|(_, value)| <[u8; 4]>::try_from(value).ok());
    value.map_or(0, u32::from_be_bytes)
}

/// The addresses of both tuples.
pub(crate) fn addresses(entry: &Message) -> impl Iterator<Item = IpAddr> {
    let tuples = entry.attributes().filter(|(kind, _)| [ORIGINAL, REPLY].contains(kind));
    let parts = tuples.flat_map(|(_, tuple)| walk(tuple).filter(|(kind, _)| *kind == ADDRESSES));
    parts.flat_map(|(_, part)| walk(part)).filter_map(|(_, value)| match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        _ => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
    })
}

#[cfg(test)]
pub(crate) mod tests;
