// SPDX-License-Identifier: Apache-2.0
//! What the memory of translated flows ([`crate::plan::notrack`]) must hold when its table is made: flows of the connections
//! that are translated already, from the kernel's list of connections.
//!
//! Run when the rules that remember are in place and the one that leaves untracked is not: what is opened meanwhile is
//! remembered by its packets. Translated is what is not answered from where it was opened to, whoever did it (IPVS, too).
//! Constants: `include/uapi/linux/netfilter/nf_tables.h`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::apply::conntrack::message::{self, Flow};
use crate::apply::error::ApplyError;
use crate::apply::netlink::raw::{Message, attribute, nested};
use crate::apply::netlink::{Request, Socket};
use crate::plan::mss::VPC;
use crate::plan::nft::{NftTable, Transport};
use crate::plan::notrack::{LONGEST, NAT_FLOWS, NAT_OVERFLOW};

/// NFNL_SUBSYS_NFTABLES; NFT_MSG_NEWSETELEM; AF_INET; NLM_F_CREATE.
const SUBSYSTEM: u16 = 10;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const INET: u8 = 2;
const CREATE: u16 = 0x400;
/// An element takes 44 bytes of a list, which holds less than 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 1000;
/// Seconds that a flow stays at least: none is to go before its connection, whose time was read a moment ago.
const SHORTEST: u32 = 130;
/// A list that changed meanwhile is read again; flows come together.
const READINGS: usize = 3;

/// Keeps the flows of all translated connections; where there are too many, says so in the other memory.
pub(super) fn keep_translated(socket: &mut Socket, table: &NftTable) -> Result<(), ApplyError> {
    let blocks = table.sets.iter().find(|set| set.name == VPC).map(|set| set.blocks.as_slice()).unwrap_or_default();
    let mut flows = BTreeMap::new();
    for _ in 0..READINGS {
        let interrupted = socket.dump_each(message::list(INET), "conntrack -L", |entry| {
            let seconds = message::seconds(&entry).clamp(SHORTEST, LONGEST);
            flows.extend(translated(&entry, blocks).map(|flow| (key(&flow), seconds)));
        })?;
        if !interrupted {
            break;
        }
    }
    let room = table.memories.iter().find(|memory| memory.name == NAT_FLOWS).map_or(0, |memory| memory.size);
    let elements: Vec<_> = flows.into_iter().collect();
    if u32::try_from(elements.len()).is_ok_and(|count| count <= room) {
        return add(socket, table.name, NAT_FLOWS, &elements);
    }
    let all = [Transport::Tcp, Transport::Udp, Transport::Sctp].map(|transport| (vec![transport as u8], LONGEST));
    add(socket, table.name, NAT_OVERFLOW, &all)
}

/// The flows of a connection that is translated, those of them that stay inside the VPC.
fn translated(entry: &Message, blocks: &[IpNet]) -> impl Iterator<Item = Flow> {
    let is_inside = |flow: &Flow| {
        let within = |address: std::net::Ipv4Addr| {
            blocks.iter().any(|block| block.contains(&IpNet::from(std::net::IpAddr::V4(address))))
        };
        within(flow.source.0) && within(flow.destination.0)
    };
    let both = message::flows(entry).filter(|(original, reply)| original.back() != *reply);
    both.into_iter().flat_map(|(original, reply)| [original, reply]).filter(is_inside)
}

/// As `Key::Flow` lies in registers.
fn key(flow: &Flow) -> Vec<u8> {
    let port = |port: u16| [port.to_be_bytes(), [0, 0]].concat();
    let end = |(address, number): (std::net::Ipv4Addr, u16)| [address.octets().to_vec(), port(number)].concat();
    [vec![flow.transport, 0, 0, 0], end(flow.source), end(flow.destination)].concat()
}

/// Adds elements, each for its seconds.
fn add(socket: &mut Socket, table: &str, set: &str, elements: &[(Vec<u8>, u32)]) -> Result<(), ApplyError> {
    let text = |value: &str| [value.as_bytes(), &[0]].concat();
    for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
        // NFTA_SET_ELEM_KEY 1 with NFTA_DATA_VALUE 1, NFTA_SET_ELEM_TIMEOUT 4 (milliseconds); NFTA_SET_ELEM_LIST_ELEMENTS 3.
        let element = |(key, seconds): &(Vec<u8>, u32)| {
            let time = u64::from(*seconds) * 1000;
            nested(1, &[nested(1, &[attribute(1, key)]), attribute(4, &time.to_be_bytes())])
        };
        let mut message = Message::new(NEW_ELEMENT, INET, 0).with(1, &text(table)).with(2, &text(set));
        message.body.extend(nested(3, &some.iter().map(element).collect::<Vec<_>>()));
        let request = Request { message, flags: CREATE, doing: format!("nft add element ip {table} {set}") };
        // NFNL_MSG_BATCH_BEGIN and _END.
        let (begin, end) = (Message::new(0x10, 0, SUBSYSTEM), Message::new(0x11, 0, SUBSYSTEM));
        socket.batch(begin, vec![request], end)?;
    }
    Ok(())
}
