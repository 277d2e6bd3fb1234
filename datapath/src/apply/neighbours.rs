// SPDX-License-Identifier: Apache-2.0
//! What the node has learned of link-layer addresses for an address, forgotten: the next owner is somewhere else.
//!
//! Deleted is what the kernel learned or tries to learn by itself, and permanent entries of ours (protocol 158). A permanent
//! entry of another is its business. The list has an entry for every pod, and is read after every DEL: as bytes, without a tree of attributes
//! for each. Constants: `include/uapi/linux/{rtnetlink,neighbour}.h`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::raw::{self, Message};
use super::netlink::{Request, Socket};
use crate::plan::ids;

/// RTM_DELNEIGH, RTM_GETNEIGH.
const DELETE: u16 = 29;
const GET: u16 = 30;
/// Bytes of `struct ndmsg`: family, padding, link, state, flags, type.
const HEADER: usize = 12;
/// NDA_DST, NDA_PROTOCOL.
const DESTINATION: u16 = 1;
const PROTOCOL: u16 = 12;
/// NUD_NOARP, NUD_PERMANENT.
const IS_SET: u16 = 0x40 | 0x80;

/// Forgets the neighbours that have one of the addresses, on whatever link; how many there were.
///
/// # Errors
/// The kernel's refusal: some may be left.
pub fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, ApplyError> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::route()?;
    let list = socket.dump(Message { kind: GET, body: vec![0; HEADER] }, "ip neigh show")?;
    let hits: Vec<_> = list.iter().filter_map(|entry| deletion(&entry.body, addresses)).collect();
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
fn deletion(entry: &[u8], addresses: &BTreeSet<IpAddr>) -> Option<Request<Message>> {
    let (header, attributes) = entry.split_first_chunk::<HEADER>()?;
    let [family, _, _, _, a, b, c, d, low, high, _, _] = *header;
    let destination = raw::find(attributes, DESTINATION)?;
    let address = address_of(destination).filter(|address| addresses.contains(address))?;
    let is_ours = || raw::find(attributes, PROTOCOL).is_some_and(|protocol| protocol == [ids::PROTOCOL]);
    if u16::from_ne_bytes([low, high]) & IS_SET != 0 && !is_ours() {
        return None;
    }
    let mut body = vec![family, 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
    body.extend(raw::attribute(DESTINATION, destination));
    let doing = format!("ip neigh del {address} dev link#{}", u32::from_ne_bytes([a, b, c, d]));
    Some(Request { message: Message { kind: DELETE, body }, flags: 0, doing })
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
