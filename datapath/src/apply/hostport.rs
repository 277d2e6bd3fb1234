// SPDX-License-Identifier: Apache-2.0
//! Host ports written, taken back and swept ([`crate::plan::hostport`]).
//!
//! All of a pod's elements come in one transaction and go in one, and each carries its owner. A port that another pod has is
//! refused, unless that pod is dead: without a live host veth of that owner nobody serves it, and it is taken over in the
//! same transaction. A repeated ADD finds its own.
//!
//! ```text
//! ADD   veth with alias ─► publish      DEL   withdraw ─► the rest      daemon, every 20 s   sweep: owners without live veth
//! ```
//! Whoever is cut off in between leaves elements whose owner has no live veth, or none. The sweep lists elements before it
//! looks for veths: an owner's veth is there before its elements are.

mod encode;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::raw::Message;
use super::netlink::{Request, Socket, read};
use super::sysctl;
use crate::plan::hostport::HostPort;
use crate::plan::{LinkName, Sysctl, ids};
use encode::{Element, Set};

/// More does not fit into an element's comment with its NUL (its length is one byte).
const LONGEST_OWNER: usize = 250;
/// Two ADDs that need each other's table or take over the same port: one more try each.
const ATTEMPTS: u32 = 3;

/// Opens the pod's ports on the node.
///
/// # Errors
/// [`ApplyError::Invalid`] when another pod has one of them; the kernel's refusal. Nothing is open then.
pub fn publish(owner: &str, link: &LinkName, address: Ipv4Addr, ports: &[HostPort]) -> Result<(), ApplyError> {
    if ports.is_empty() {
        return Ok(());
    }
    if owner.len() > LONGEST_OWNER {
        return Err(ApplyError::Invalid { reason: format!("the key {owner} is too long to own host ports") });
    }
    // Connections from 127.0.0.1 are routed out by this link (see the plan for the guard).
    let path = format!("net/ipv4/conf/{link}/route_localnet");
    sysctl::ensure(&Sysctl { path, value: "1" })?;
    let wanted = encode::elements(owner, address, ports);
    let mut socket = Socket::netfilter()?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (present, is_table_there) = match elements(&mut socket)? {
            Some(present) => (present, true),
            None => (Vec::new(), false),
        };
        let mut requests = if is_table_there { Vec::new() } else { encode::skeleton() };
        requests.extend(replaced(&present, &wanted, ports)?.iter().map(encode::delete));
        requests.extend(wanted.iter().filter(|element| !present.contains(element)).map(encode::add));
        if requests.is_empty() {
            return Ok(());
        }
        match commit(&mut socket, requests) {
            Ok(()) => return Ok(()),
            Err(error) if is_outrun(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| ApplyError::Invalid { reason: "host ports changed meanwhile".to_owned() }))
}

/// Elements in the way: this owner's of another address or port, and those of dead pods.
fn replaced(present: &[Element], wanted: &[Element], ports: &[HostPort]) -> Result<Vec<Element>, ApplyError> {
    let same_key = |a: &Element, b: &Element| a.set == b.set && a.key == b.key;
    let mut live = None;
    let mut gone = Vec::new();
    for (index, element) in wanted.iter().enumerate() {
        let Some(other) = present.iter().find(|other| same_key(other, element)).filter(|other| *other != element)
        else {
            continue;
        };
        let live = match &live {
            Some(live) => live,
            None => live.insert(owners()?),
        };
        if other.owner != element.owner && live.contains(&other.owner) {
            let port = ports.get(index).map(ToString::to_string).unwrap_or_default();
            let reason = format!("host port {port} of this node is taken by the pod of {}", other.owner);
            return Err(ApplyError::Invalid { reason });
        }
        gone.push(other.clone());
    }
    Ok(gone)
}

/// Closes what the owner has; how many elements went. None, and no table, is fine.
///
/// # Errors
/// The kernel's refusal.
pub fn withdraw(owner: &str) -> Result<usize, ApplyError> {
    remove(&mut Socket::netfilter()?, |_| Ok(BTreeSet::new()), |element, _| element.owner == owner)
}

/// Closes what has no owner with a live host veth; how many elements went.
///
/// # Errors
/// The kernel's refusal, or veths that cannot be listed.
pub fn sweep() -> Result<usize, ApplyError> {
    remove(&mut Socket::netfilter()?, |_| owners(), |element, live| !live.contains(&element.owner))
}

/// Whether a port is open.
///
/// # Errors
/// The elements cannot be listed.
pub fn has_any() -> Result<bool, ApplyError> {
    Ok(elements(&mut Socket::netfilter()?)?.is_some_and(|present| !present.is_empty()))
}

/// `look` is asked only when there are elements, and after they were read.
fn remove(
    socket: &mut Socket,
    look: impl Fn(&[Element]) -> Result<BTreeSet<String>, ApplyError>,
    goes: impl Fn(&Element, &BTreeSet<String>) -> bool,
) -> Result<usize, ApplyError> {
    for _ in 0..ATTEMPTS {
        let Some(present) = elements(socket)?.filter(|present| !present.is_empty()) else { return Ok(0) };
        let known = look(&present)?;
        let gone: Vec<&Element> = present.iter().filter(|element| goes(element, &known)).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        match commit(socket, gone.iter().map(|element| encode::delete(element)).collect()) {
            Ok(()) => return Ok(gone.len()),
            // Somebody else removed some: look again.
            Err(error) if is_outrun(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// Whether the table changed between our reading and our writing.
fn is_outrun(error: &ApplyError) -> bool {
    let outrun = [Errno::EXIST, Errno::NOENT, Errno::BUSY].map(Errno::raw_os_error);
    error.errno().is_some_and(|errno| outrun.contains(&errno))
}

/// Everything in the table; `None`: there is no table.
fn elements(socket: &mut Socket) -> Result<Option<Vec<Element>>, ApplyError> {
    let mut found = Vec::new();
    for set in Set::ALL {
        let answers = match socket.dump(encode::list(set), &format!("nft list set ip enid_hostports {}", set.name())) {
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => return Ok(None),
            answers => answers?,
        };
        found.extend(answers.iter().flat_map(|answer| encode::listed(set, answer)));
    }
    Ok(Some(found))
}

/// Owners with a live host veth.
fn owners() -> Result<BTreeSet<String>, ApplyError> {
    let links = read::links(&mut Socket::route()?)?;
    let live = links.into_iter().filter(|link| link.group != ids::DEAD_GROUP);
    Ok(live.filter_map(|link| link.alias()).map(|alias| alias.owner).collect())
}

fn commit(socket: &mut Socket, requests: Vec<Request<Message>>) -> Result<(), ApplyError> {
    let (begin, end) = encode::frame();
    socket.batch(begin, requests, end)
}
