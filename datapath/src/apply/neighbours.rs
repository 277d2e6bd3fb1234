// SPDX-License-Identifier: Apache-2.0
//! What the node has learned of link-layer addresses for an address, forgotten: the next owner is somewhere else.
//!
//! Deleted is what the kernel learned or tries to learn by itself, and permanent entries of ours (protocol 158). A permanent
//! entry of another is its business.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::rtnl::RouteNetlinkMessage;
use super::netlink::{Request, Socket};
use crate::plan::ids;

/// Forgets the neighbours that have one of the addresses, on whatever link; how many there were.
///
/// # Errors
/// The kernel's refusal: some may be left.
pub fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, ApplyError> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::route()?;
    let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let list = socket.dump(all, "ip neigh show")?;
    let hits: Vec<_> = list.into_iter().filter_map(|answer| deletion(answer, addresses)).collect();
    let (found, doing): (_, Vec<_>) = (hits.len(), hits.iter().map(|request| request.doing.clone()).collect());
    for (answer, doing) in socket.transact(hits)?.into_iter().zip(doing) {
        match answer {
            // Gone by itself meanwhile, or with its link.
            Err(refusal) if [Errno::NOENT, Errno::NODEV].map(Errno::raw_os_error).contains(&refusal.errno) => {}
            Err(source) => return Err(ApplyError::Refused { doing, source }),
            Ok(_) => {}
        }
    }
    Ok(found)
}

/// The request that deletes an entry, if it is one to go.
fn deletion(answer: RouteNetlinkMessage, addresses: &BTreeSet<IpAddr>) -> Option<Request<RouteNetlinkMessage>> {
    let RouteNetlinkMessage::NewNeighbour(found) = answer else { return None };
    let (mut address, mut protocol) = (None, 0);
    for attribute in &found.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => address = Some(IpAddr::from(*inet)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(inet)) => address = Some(IpAddr::from(*inet)),
            NeighbourAttribute::Protocol(number) => protocol = u8::from(*number),
            _ => {}
        }
    }
    let address = address.filter(|address| addresses.contains(address))?;
    let is_set = matches!(found.header.state, NeighbourState::Permanent | NeighbourState::Noarp);
    if is_set && protocol != ids::PROTOCOL {
        return None;
    }
    let mut message = NeighbourMessage::default();
    message.header.family = found.header.family;
    message.header.ifindex = found.header.ifindex;
    message.attributes = found
        .attributes
        .into_iter()
        .filter(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)))
        .collect();
    let doing = format!("ip neigh del {address} dev link#{}", message.header.ifindex);
    Some(Request { message: RouteNetlinkMessage::DelNeighbour(message), flags: 0, doing })
}
