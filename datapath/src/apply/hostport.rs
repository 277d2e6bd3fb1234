// SPDX-License-Identifier: Apache-2.0
//! Host ports written, taken back, swept and restored ([`crate::plan::hostport`]).
//!
//! All of a pod's elements come in one transaction and go in one, and each carries its owner. A port that another pod has is
//! refused, unless that pod is dead: without a live host veth of that owner nobody serves it, and it is taken over in the
//! same transaction. A repeated ADD finds its own.
//!
//! ```text
//! ADD     veth with alias ─► file ─► elements ─► UDP flows of before forgotten
//! DEL     file ─► elements ─► UDP flows to the pod forgotten ─► the veth and the rest
//! daemon  at each look of its repair, and at most every 20 s while a live pod has some or host veths came or went: files and elements
//!         without a live veth go; what a file with a live veth says and the table lacks comes, the table itself too
//! ```
//!
//! Why files ([`records`]): the daemon must know the mappings to restore them, also when the table went while it was down, and
//! also for a DEL that came while it was down. A file is the sandbox's: there before its elements, gone before them, both by
//! whoever makes them, so neither a restart nor a call between plugin and daemon can be missed. Invariant: an element is there only
//! while its owner has a live veth (20 s after it at most), and always while the owner has a file and a live veth (a look later
//! at most). Files, elements and restoration are under one lock, so that nothing is restored of which the DEL is at work.
//!
//! Whoever is cut off in between leaves a file or elements whose owner has no live veth, or none. Elements and files are listed
//! before veths: an owner's veth is there before either.

mod encode;
mod flows;
pub(super) mod portmap;
mod records;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::raw::Message;
use super::netlink::{Request, Socket, read};
use super::sysctl;
use crate::plan::hostport::Mapping;
use crate::plan::{Family, LinkName, Sysctl, ids};
use encode::{Element, Set};
use records::Records;

pub use portmap::{Sandbox, legacy_cleanup as portmap_legacy_cleanup};

/// More does not fit into an element's comment with its NUL (its length is one byte).
const LONGEST_OWNER: usize = 250;
/// Two writers that need each other's table or take over the same port: one more try each.
const ATTEMPTS: u32 = 3;

/// What [`settle`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Live pods that have host ports.
    pub pods: usize,
    /// Elements of dead pods that were closed.
    pub closed: usize,
    /// What was opened again, as nft commands.
    pub restored: Vec<String>,
    /// Pods whose ports could not be, and why.
    pub failures: Vec<String>,
}

/// What the kernel has of the table.
#[derive(Debug, Default)]
struct View {
    elements: Vec<Element>,
    is_there: bool,
    /// All rules are there and no others, and all sets.
    is_whole: bool,
}

/// Opens the pod's ports on the node; `folder` is where plugin and daemon keep what is open.
///
/// # Errors
/// [`ApplyError::Invalid`] when another pod has one of them; the kernel's refusal; the folder. Nothing is open then, but what
/// was.
pub fn publish(folder: &Path, mapping: &Mapping) -> Result<(), ApplyError> {
    if mapping.ports.is_empty() {
        return Ok(());
    }
    if mapping.owner.len() > LONGEST_OWNER || mapping.owner.contains('\n') {
        return Err(ApplyError::Invalid { reason: format!("the key {} cannot own host ports", mapping.owner) });
    }
    let records = Records::lock(folder, true)?;
    let before = records.write(mapping)?;
    let mut socket = Socket::netfilter()?;
    let opened = open(&mut socket, std::slice::from_ref(mapping));
    let opened = opened.and_then(|opened| opened.refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error)));
    if let Err(error) = opened {
        records.put_back(&mapping.owner, before)?;
        return Err(error);
    }
    flows::forget_unled(&mut socket, mapping)
}

/// What [`open`] did.
#[derive(Debug, Default)]
struct Opened {
    /// Writes, as nft commands.
    commands: Vec<String>,
    /// Places of the mappings that lacked something.
    changed: Vec<usize>,
    /// Mappings that cannot be opened, for another pod has one of the ports.
    refused: Vec<(usize, ApplyError)>,
}

/// Makes it so in the kernel, in one transaction.
fn open(socket: &mut Socket, mappings: &[Mapping]) -> Result<Opened, ApplyError> {
    for mapping in mappings {
        // Connections from 127.0.0.1 are routed out by this link (see the plan for the guard).
        let path = format!("net/ipv4/conf/{}/route_localnet", mapping.host_veth);
        sysctl::ensure(&Sysctl { path, value: "1".to_owned() })?;
    }
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut view = look(socket)?;
        let mut requests = whole(&view);
        // Not told as damage: Services come and go.
        let bound = services(&view)?;
        let mut opened = Opened::default();
        for (place, mapping) in mappings.iter().enumerate() {
            match missing(&mut view.elements, mapping) {
                Ok(writes) if writes.is_empty() => {}
                Ok(writes) => {
                    opened.changed.push(place);
                    requests.extend(writes);
                }
                Err(error) => opened.refused.push((place, error)),
            }
        }
        opened.commands = requests.iter().map(|request| request.doing.clone()).collect();
        requests.extend(bound);
        match commit(socket, requests) {
            Ok(()) => return Ok(opened),
            Err(error) if is_outrun(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| ApplyError::Invalid { reason: "host ports changed meanwhile".to_owned() }))
}

/// What a mapping lacks, and `elements` as they are with it.
fn missing(elements: &mut Vec<Element>, mapping: &Mapping) -> Result<Vec<Request<Message>>, ApplyError> {
    let wanted = encode::elements(&mapping.owner, mapping.address, &mapping.ports);
    let gone = replaced(elements, &wanted, mapping)?;
    elements.retain(|element| !gone.contains(element));
    let new: Vec<Element> = wanted.into_iter().filter(|element| !elements.contains(element)).collect();
    let writes = gone.iter().map(encode::delete).chain(new.iter().map(encode::add)).collect();
    elements.extend(new);
    Ok(writes)
}

/// What makes the table whole, all that is in it kept: nothing, or all of it anew.
fn whole(view: &View) -> Vec<Request<Message>> {
    if view.is_whole {
        return Vec::new();
    }
    let mut requests = if view.is_there { vec![encode::delete_table()] } else { Vec::new() };
    requests.extend(encode::skeleton());
    requests.extend(view.elements.iter().map(encode::add));
    requests
}

/// What makes the set of IPVS's addresses as it must be.
fn services(view: &View) -> Result<Vec<Request<Message>>, ApplyError> {
    let wanted: Vec<Element> = bound_by_ipvs()?.into_iter().map(encode::service).collect();
    let present = || view.elements.iter().filter(|element| element.set == Set::Services);
    let gone = present().filter(|element| !wanted.contains(element)).map(encode::delete);
    let new = wanted.iter().filter(|element| !present().any(|other| other == *element)).map(encode::add);
    Ok(gone.chain(new).collect())
}

/// Addresses of kube-proxy's link for IPVS that no other link has.
fn bound_by_ipvs() -> Result<BTreeSet<Ipv4Addr>, ApplyError> {
    let mut socket = Socket::route()?;
    let Ok(name) = LinkName::new(ids::IPVS_LINK) else { return Ok(BTreeSet::new()) };
    let Some(link) = read::link_by_name(&mut socket, &name)? else { return Ok(BTreeSet::new()) };
    let addresses = read::addresses(&mut socket, Family::V4, None)?;
    let of = |is_ipvs: bool| {
        let found = addresses.iter().filter(move |(index, ..)| (*index == link.index) == is_ipvs);
        found.filter_map(|(_, address, _)| ipv4(address.address.addr())).collect::<BTreeSet<_>>()
    };
    Ok(of(true).difference(&of(false)).copied().collect())
}

fn ipv4(address: std::net::IpAddr) -> Option<Ipv4Addr> {
    match address {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    }
}

/// Elements in the way: this owner's of another address or port, and those of dead pods.
fn replaced(present: &[Element], wanted: &[Element], mapping: &Mapping) -> Result<Vec<Element>, ApplyError> {
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
            let port = mapping.ports.get(index).map(ToString::to_string).unwrap_or_default();
            let reason = format!("host port {port} of this node is taken by the pod of {}", other.owner);
            return Err(ApplyError::Invalid { reason });
        }
        gone.push(other.clone());
    }
    Ok(gone)
}

/// What of the owner's ports is not open, as nft commands; none, and no file, is fine. Writes nothing.
///
/// # Errors
/// [`ApplyError::Invalid`] when another living pod has one of them; elements or the file that cannot be read.
pub fn missing_ports(folder: &Path, owner: &str) -> Result<Vec<String>, ApplyError> {
    let Some(mapping) = records::read(folder, owner)? else { return Ok(Vec::new()) };
    let mut view = look(&mut Socket::netfilter()?)?;
    let table = whole(&view);
    let elements = missing(&mut view.elements, &mapping)?;
    Ok(table.into_iter().chain(elements).map(|request| request.doing).collect())
}

/// Closes what the owner has; how many elements went. None, and no table, is fine.
///
/// # Errors
/// The kernel's refusal, or the file that cannot be removed: then the sweep does it.
pub fn withdraw(folder: &Path, owner: &str) -> Result<usize, ApplyError> {
    withdraw_by(&mut Socket::netfilter()?, folder, owner, &mut |_| Ok(true))
}

/// What of a sandbox was closed.
#[derive(Debug)]
pub struct Withdrawn {
    /// Elements of ours.
    pub closed: Result<usize, ApplyError>,
    /// What a chained portmap had ([`portmap`]), as nft commands.
    pub of_portmap: Result<Vec<String>, ApplyError>,
}

/// As [`withdraw`], and what portmap has opened for the sandbox. The kernel is asked once what there is of either, which for most
/// sandboxes is nothing.
///
/// # Errors
/// The socket cannot be had.
pub fn withdraw_all(folder: &Path, owner: &str, sandbox: Sandbox<'_>) -> Result<Withdrawn, ApplyError> {
    let mut socket = Socket::netfilter()?;
    let mut has_portmap = [true; 2];
    let closed = withdraw_by(&mut socket, folder, owner, &mut |socket| {
        let [ours, of_portmap @ ..] = present(socket)?;
        has_portmap = of_portmap;
        Ok(ours)
    });
    let families = portmap::FAMILIES.into_iter().zip(has_portmap).filter(|(_, has)| *has);
    let of_portmap = portmap::remove(&mut socket, families.map(|(family, _)| family), sandbox);
    Ok(Withdrawn { closed, of_portmap })
}

/// `is_there`: whether the table need be looked at; asked when nobody restores it any more.
fn withdraw_by(
    socket: &mut Socket,
    folder: &Path,
    owner: &str,
    is_there: &mut dyn FnMut(&mut Socket) -> Result<bool, ApplyError>,
) -> Result<usize, ApplyError> {
    // Whoever has the lock all the time must not hold a DEL up: then the sweep has the last word.
    let records = Records::lock(folder, false)?;
    let removed = records.remove(owner);
    let closed = match is_there(socket)? {
        true => remove(socket, || Ok(BTreeSet::new()), |element, _| element.owner == owner)?,
        false => 0,
    };
    removed.map(|()| closed)
}

/// Whether there is our table, and portmap's chain in each family; asked in one send.
fn present(socket: &mut Socket) -> Result<[bool; 3], ApplyError> {
    let [v4, v6] = portmap::FAMILIES.map(portmap::get_chain);
    let requests = [encode::get_table(), v4, v6];
    let doing = requests.each_ref().map(|request| request.doing.clone());
    let mut there = [true; 3];
    for (place, answer) in socket.transact(requests.into())?.into_iter().enumerate() {
        match answer {
            Err(refusal) if refusal.errno == Errno::NOENT.raw_os_error() => there[place] = false,
            Err(source) => return Err(ApplyError::Refused { doing: doing[place].clone(), source }),
            Ok(_) => {}
        }
    }
    Ok(there)
}

/// Closes what has no owner with a live host veth; how many elements went. Files stay.
///
/// # Errors
/// The kernel's refusal, or veths that cannot be listed.
pub fn sweep() -> Result<usize, ApplyError> {
    remove(&mut Socket::netfilter()?, owners, |element, live| !live.contains(&element.owner))
}

/// Closes what has no owner with a live host veth, and opens what the files of living pods say and the table lacks.
///
/// # Errors
/// The kernel's refusal, veths that cannot be listed, or the folder.
pub fn settle(folder: &Path) -> Result<Settled, ApplyError> {
    let records = Records::lock(folder, true)?;
    let files = records.list()?;
    let mut socket = Socket::netfilter()?;
    let mut settled = Settled { closed: sweep()?, ..Settled::default() };
    if files.is_empty() {
        return Ok(settled);
    }
    let live = owners()?;
    let (files, dead): (Vec<_>, Vec<_>) = files.into_iter().partition(|mapping| live.contains(&mapping.owner));
    dead.iter().try_for_each(|mapping| records.remove(&mapping.owner))?;
    if files.is_empty() {
        return Ok(settled);
    }
    settled.pods = files.len();
    let opened = open(&mut socket, &files)?;
    settled.restored = opened.commands;
    for mapping in opened.changed.iter().filter_map(|place| files.get(*place)) {
        flows::forget_unled(&mut socket, mapping)?;
    }
    let owner = |place: usize| files.get(place).map(|mapping| mapping.owner.as_str()).unwrap_or_default();
    let refused = opened.refused.iter().map(|(place, error)| format!("host ports of {}: {error}", owner(*place)));
    settled.failures = refused.collect();
    Ok(settled)
}

/// Whether a port is open.
///
/// # Errors
/// The elements cannot be listed.
pub fn has_any() -> Result<bool, ApplyError> {
    let present = look(&mut Socket::netfilter()?)?.elements;
    Ok(present.iter().any(|element| element.set != Set::Services))
}

/// `look` is asked only when there are elements, and after they were read.
fn remove(
    socket: &mut Socket,
    look_at: impl Fn() -> Result<BTreeSet<String>, ApplyError>,
    goes: impl Fn(&Element, &BTreeSet<String>) -> bool,
) -> Result<usize, ApplyError> {
    for _ in 0..ATTEMPTS {
        let mut present = look(socket)?.elements;
        present.retain(|element| element.set != Set::Services);
        if present.is_empty() {
            return Ok(0);
        }
        let known = look_at()?;
        let gone: Vec<&Element> = present.iter().filter(|element| goes(element, &known)).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        match commit(socket, gone.iter().map(|element| encode::delete(element)).collect()) {
            Ok(()) => {
                flows::forget_led(socket, gone.iter().filter_map(|element| encode::udp(element)))?;
                return Ok(gone.len());
            }
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

/// Everything in the table.
fn look(socket: &mut Socket) -> Result<View, ApplyError> {
    let absent = |error: &ApplyError| error.errno() == Some(Errno::NOENT.raw_os_error());
    match socket.request(encode::get_table()) {
        Err(error) if absent(&error) => return Ok(View::default()),
        answer => answer?,
    };
    let mut view = View { is_there: true, is_whole: true, ..View::default() };
    for set in Set::ALL {
        match socket.dump(encode::list(set), &format!("nft list set ip enid_hostports {}", set.name())) {
            // Somebody took this one away, or the table is an older version's.
            Err(error) if absent(&error) => view.is_whole = false,
            answers => view.elements.extend(answers?.iter().flat_map(|answer| encode::listed(set, answer))),
        }
    }
    let rules = socket.dump(encode::list_rules(), "nft list table ip enid_hostports")?;
    let mut rules: Vec<_> = rules.iter().filter_map(encode::listed_rule).collect();
    // Chains come in the kernel's order; the rules of one in theirs.
    let mut wanted = encode::wanted_rules();
    let by_chain = |a: &(String, String), b: &(String, String)| a.0.cmp(&b.0);
    rules.sort_by(by_chain);
    wanted.sort_by(by_chain);
    view.is_whole &= rules == wanted;
    Ok(view)
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
