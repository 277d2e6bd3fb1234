// SPDX-License-Identifier: Apache-2.0
//! What must hold of messages of the kernel ([`crate::fuzzing`] has the table). Others choose much of what is in them: names, aliases,
//! comments, rules.
//!
//! Not here: what netlink-packet-netfilter makes of rules (`nftables::{observe, leftovers}`). It trusts the lengths that attributes within
//! attributes have, which the kernel checks before it keeps a rule, and panics at bytes that no kernel sends.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};

use super::conntrack::message as conntrack;
use super::netlink::link_filter;
use super::netlink::raw::{Message, attribute, walk};
use super::netlink::read;
use super::netlink::rtnl::RouteNetlinkMessage;
use super::nftables::observe;
use super::{hostport, watch};

pub(crate) use watch::fuzzing::notifications;

/// A message: type, then `struct nfgenmsg` and attributes.
fn message(data: &[u8]) -> Option<Message> {
    let (kind, body) = data.split_first_chunk::<2>()?;
    Some(Message { kind: u16::from_ne_bytes(*kind), body: body.to_vec() })
}

fn header(kind: u16) -> NetlinkHeader {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    header
}

/// Answers of conntrack and nf_tables.
pub(crate) fn tables(data: &[u8]) {
    let Some(message) = message(data) else { return };
    let addresses: Vec<_> = conntrack::addresses(&message).collect();
    // What is deleted is this entry: the same tuple, and so the same addresses.
    let delete = conntrack::delete(&message);
    assert_eq!(delete.family(), message.family());
    let of_delete: Vec<_> = conntrack::addresses(&delete).collect();
    assert!(of_delete.iter().all(|address| addresses.contains(address)), "{message:?} became {delete:?}");
    if let Some((there, back)) = conntrack::flows(&message) {
        assert_eq!(there.back().back(), there);
        assert!(addresses.contains(&there.source.0.into()) && addresses.contains(&back.source.0.into()), "{message:?}");
        let udp = conntrack::is_udp_to(&message, there.destination.1);
        assert_eq!(udp, there.transport == 17, "{message:?}");
    }
    conntrack::losses(&message);
    conntrack::seconds(&message);
    // Attributes written anew are the same ones.
    let anew: Vec<u8> = message.attributes().flat_map(|(kind, value)| attribute(kind, value)).collect();
    let pairs = |bytes: &[u8]| walk(bytes).map(|(kind, value)| (kind, value.to_vec())).collect::<Vec<_>>();
    assert_eq!(pairs(&anew), pairs(message.body.get(4..).unwrap_or_default()));
    let edges: Option<Vec<_>> = message.attributes().map(|(_, parts)| observe::edge(parts)).collect();
    if let Some(edges) = edges.filter(|edges| edges.len() < 64) {
        let starts: Vec<_> = edges.iter().filter(|(_, is_end)| !is_end).map(|(address, _)| *address).collect();
        let ends: Vec<_> = edges.iter().filter(|(_, is_end)| *is_end).map(|(address, _)| *address).collect();
        if let Some(blocks) = observe::merge(edges) {
            assert!(blocks.windows(2).all(|two| two[0] < two[1] && !two[0].contains(&two[1])), "{blocks:?}");
            // A range that ends where it begins is none.
            let lost =
                starts.iter().find(|start| !ends.contains(start) && !blocks.iter().any(|block| block.contains(*start)));
            assert_eq!(lost, None, "{blocks:?}");
        }
    }
    if let Some((_, chain)) = hostport::portmap::entry(&message, "dnat name: \"aws-cni\" id: \"c1\"") {
        assert!(chain.starts_with("CNI-DN-"), "{chain}");
    }
}

/// Answers of rtnetlink.
pub(crate) fn links(data: &[u8]) {
    let Some(message) = message(data) else { return };
    if message.kind == 16 {
        let needed = link_filter::needed(&message.body);
        assert!(needed.len() <= message.body.len() + 3, "{message:?}");
        assert_eq!(link_filter::needed(&needed), needed, "{message:?}");
    }
    if let Ok(typed) = RouteNetlinkMessage::deserialize(&header(message.kind), &message.body) {
        read::fuzzed(&typed);
    }
}
