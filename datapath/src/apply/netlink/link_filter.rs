// SPDX-License-Identifier: Apache-2.0
//! Cuts a link message down to what [`super::read::Link`] takes, before it is parsed. Links of others are in every list:
//! what the parser makes of a tunnel's settings, of an attribute that a newer kernel adds, or of a name that is no UTF-8
//! (the kernel takes any bytes) must not keep us from reading our own.
//!
//! Invariant: what is left out is never one of the attributes that `Link` is made of.

/// Bytes of `struct ifinfomsg`, and of an attribute's header (`include/uapi/linux/rtnetlink.h`, `netlink.h`).
const LINK_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// NLA_TYPE_MASK: without the flags for nesting and byte order.
const TYPE_MASK: u16 = 0x3fff;

/// IFLA_IFNAME and IFLA_IFALIAS: text.
const TEXTS: [u16; 2] = [3, 20];
/// IFLA_ADDRESS, IFLA_MTU, IFLA_LINK, IFLA_GROUP (`include/uapi/linux/if_link.h`).
const WHOLE: [u16; 4] = [1, 4, 5, 27];
/// IFLA_LINKINFO with IFLA_INFO_KIND, IFLA_AF_SPEC with AF_INET and AF_INET6: the attribute and what of it.
const NESTED: [(u16, &[u16]); 2] = [(18, &[1]), (AF_SPEC, &[2, AF_INET6])];
const AF_SPEC: u16 = 26;
/// Of which IFLA_INET6_CONF alone: the rest is counters.
const AF_INET6: u16 = 10;
const INET6_CONF: u16 = 2;

/// The message without the rest; bytes that are no attributes end it.
pub(crate) fn needed(message: &[u8]) -> Vec<u8> {
    let Some((header, attributes)) = message.split_at_checked(LINK_HEADER) else { return message.to_vec() };
    let mut kept = header.to_vec();
    for (kind, value) in walk(attributes) {
        if TEXTS.contains(&kind) {
            push(&mut kept, kind, &text(value));
        } else if WHOLE.contains(&kind) {
            push(&mut kept, kind, value);
        } else if let Some((_, inner)) = NESTED.iter().find(|(outer, _)| *outer == kind) {
            let mut part = Vec::new();
            for (inner, value) in walk(value).filter(|(kind, _)| inner.contains(kind)) {
                if (kind, inner) == (AF_SPEC, AF_INET6) {
                    push(&mut part, inner, &only(value, INET6_CONF));
                } else {
                    push(&mut part, inner, value);
                }
            }
            push(&mut kept, kind, &part);
        }
    }
    kept
}

/// The attributes of one kind.
fn only(attributes: &[u8], kind: u16) -> Vec<u8> {
    let mut kept = Vec::new();
    walk(attributes).filter(|(found, _)| *found == kind).for_each(|(kind, value)| push(&mut kept, kind, value));
    kept
}

/// The attributes of a message: type without its flags, value.
pub(crate) fn walk(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[a, b, c, d, ..] = rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // The value was part of a message of at most 64 KiB, whose attributes have the same header.
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// As it is if it is UTF-8; otherwise somebody else's, with a mark for each byte that is not ASCII.
fn text(value: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(value) {
        Ok(_) => value.to_vec(),
        Err(_) => value.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect(),
    }
}
