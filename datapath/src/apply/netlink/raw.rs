// SPDX-License-Identifier: Apache-2.0
//! A nfnetlink message as bytes, for what typed messages do not have (ctnetlink's filters, nft maps of concatenations) or
//! where a tree of attributes for each of a hundred thousand entries would be a waste.
//!
//! Not here: what the bytes mean. Constants: `include/uapi/linux/netlink.h`, `netfilter/nfnetlink.h`.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

/// NLA_F_NESTED.
pub(crate) const NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `struct nfgenmsg` and of an attribute's header.
const HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// A message: its type, `struct nfgenmsg` and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Subsystem in the upper byte.
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Without attributes; `resource` is in network byte order on the wire.
    pub(crate) fn new(kind: u16, family: u8, resource: u16) -> Self {
        let [high, low] = resource.to_be_bytes();
        // Version NFNETLINK_V0.
        Self { kind, body: vec![family, 0, high, low] }
    }

    /// With an attribute more.
    #[must_use]
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.extend(attribute(kind, value));
        self
    }

    /// Its family.
    pub(crate) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or_default()
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        walk(self.body.get(HEADER..).unwrap_or_default())
    }
}

/// Attributes and their values; bytes that are no attributes end it.
pub(crate) fn walk(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[a, b, c, d, ..] = rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

/// The value of the first attribute of a kind.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    walk(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An attribute as bytes.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Ours are far below 64 KiB, the kernel's were attributes before.
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds attributes.
pub(crate) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
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
