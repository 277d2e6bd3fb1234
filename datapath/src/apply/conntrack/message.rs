// SPDX-License-Identifier: Apache-2.0
//! Messages of ctnetlink, as far as we speak it: delete by filter, list, delete one, and the tuples of what is listed.
//!
//! Bytes and no tree of attributes: a table has a hundred thousand entries, and of each we need four addresses.
//! Constants: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, `nfnetlink.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

/// NFNL_SUBSYS_CTNETLINK in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE.
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
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
/// AF_INET, AF_INET6.
const INET: u8 = 2;
const INET6: u8 = 10;
/// NLA_F_NESTED, and NLA_TYPE_MASK.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `struct nfgenmsg` and of an attribute's header.
const HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

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

/// A message: header and attributes as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    kind: u16,
    body: Vec<u8>,
}

/// The kernel's number of an address's family.
pub(crate) fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => INET,
        IpAddr::V6(_) => INET6,
    }
}

impl Message {
    fn new(kind: u16, family: u8) -> Self {
        // Version NFNETLINK_V0, no resource.
        Self { kind, body: vec![family, 0, 0, 0] }
    }

    /// Deletes whatever has the address in that place.
    pub(crate) fn flush(address: IpAddr, place: Place) -> Self {
        let number = |v4: u16| if address.is_ipv4() { v4 } else { v4 + 2 };
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // CTA_IP_V4_SRC, V4_DST, V6_SRC, V6_DST.
        let inner = attribute(number(if place.is_source { 1 } else { 2 }), &octets);
        let flags = if place.is_source { FILTER_SOURCE } else { FILTER_DESTINATION };
        let (original, reply) = if place.tuple == ORIGINAL { (flags, 0) } else { (0, flags) };
        let filter =
            [attribute(FILTER_ORIGINAL, &original.to_ne_bytes()), attribute(FILTER_REPLY, &reply.to_ne_bytes())];
        let mut message = Self::new(DELETE, family(&address));
        message.body.extend(attribute(place.tuple | NESTED, &attribute(ADDRESSES | NESTED, &inner)));
        message.body.extend(attribute(FILTER | NESTED, &filter.concat()));
        message
    }

    /// Asks for all connections of a family.
    pub(crate) fn list(family: u8) -> Self {
        Self::new(GET, family)
    }

    /// Deletes this entry of a list, and not another that has come to have its tuple since.
    pub(crate) fn delete(&self) -> Self {
        let mut message = Self::new(DELETE, self.body.first().copied().unwrap_or_default());
        for (kind, value) in self.attributes() {
            match kind {
                ORIGINAL => message.body.extend(attribute(ORIGINAL | NESTED, value)),
                ID | ZONE => message.body.extend(attribute(kind, value)),
                _ => {}
            }
        }
        message
    }

    /// The addresses of both tuples.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let tuples = self.attributes().filter(|(kind, _)| [ORIGINAL, REPLY].contains(kind));
        let parts = tuples.flat_map(|(_, tuple)| walk(tuple).filter(|(kind, _)| *kind == ADDRESSES));
        parts.flat_map(|(_, part)| walk(part)).filter_map(|(_, value)| match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
            _ => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        })
    }

    fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        walk(self.body.get(HEADER..).unwrap_or_default())
    }
}

fn walk(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[a, b, c, d, ..] = rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Ours are a few bytes, the kernel's were attributes before.
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.body.len()].copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self { kind: header.message_type, body: payload.to_vec() })
    }
}

#[cfg(test)]
pub(crate) mod tests;
