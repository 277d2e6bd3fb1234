// SPDX-License-Identifier: Apache-2.0
//! Detach. Who holds what decides:
//!
//! | link of that name | its alias | address | what is done |
//! |---|---|---|---|
//! | there, live | this owner | the alias's | link to the dead group; route, neighbour, rules go |
//! | there, dead group | this owner | the alias's | done before: route and rules only if no other live link has the address |
//! | there | another owner | as given | link untouched; route and rules only if no other live link has the address |
//! | there | none (the reference's) | as given, if routed to it | as for this owner |
//! | not there | | as given | route and rules only if no other live link has the address |

use std::net::IpAddr;

use rustix::io::Errno;

use super::attach::host_route;
use crate::apply::error::ApplyError;
use crate::apply::execute::{self, Done};
use crate::apply::netlink::read::{self, Link};
use crate::apply::netlink::{Socket, message};
use crate::plan::pod::{self as plan, PodDetachment};
use crate::plan::{LinkRef, LinkSet, Op, ids};

/// What a detach found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Addresses whose routes and rules are gone now; empty: none was known, or other owners hold them.
    pub addresses: Vec<IpAddr>,
    /// Whether a live host veth of this owner was there and is in the dead group now.
    pub was_live: bool,
}

/// Takes a pod down: route, rules, neighbour, host end to the dead group. The veth is left to the end of the pod's
/// namespace. Missing things are fine, and so is a repetition.
///
/// # Errors
/// All that went wrong; everything that could be done was done.
pub fn detach(pod: &PodDetachment) -> Result<Detached, Vec<ApplyError>> {
    let mut node = Socket::route().map_err(|error| vec![error])?;
    let link = read::link_by_name(&mut node, &pod.host_veth).map_err(|error| vec![error])?;
    let alias = link.as_ref().and_then(Link::alias);
    match (&link, &alias) {
        (Some(link), Some(alias)) if alias.owner == pod.owner && link.group != ids::DEAD_GROUP => {
            take_down(&mut node, pod, link.index, alias.addresses.iter().collect())
        }
        (_, Some(alias)) if alias.owner == pod.owner => release(&mut node, pod, alias.addresses.iter()),
        (Some(link), None) if link.is_veth() && link.alias_text.is_none() => {
            take_down_unnamed(&mut node, pod, link.index)
        }
        _ => release(&mut node, pod, pod.addresses.iter().copied()),
    }
}

/// Takes back an attach that came to nothing after all: as [`detach`], and the veth is deleted, so that the pod's namespace
/// is as it was too (but for `lo`, which stays up). Waits for a grace period; not for a DEL.
///
/// # Errors
/// All that went wrong; everything that could be done was done.
pub fn take_back(pod: &PodDetachment) -> Result<Detached, Vec<ApplyError>> {
    let detached = detach(pod)?;
    let gone = Socket::route().and_then(|mut node| {
        let link = read::link_by_name(&mut node, &pod.host_veth)?;
        match link.filter(|link| link.alias().is_some_and(|alias| alias.owner == pod.owner)) {
            Some(link) => node.request(message::delete_link(link.index, &link.name)).map(|_| ()),
            None => Ok(()),
        }
    });
    match gone {
        Err(error) if error.errno() != Some(Errno::NODEV.raw_os_error()) => Err(vec![error]),
        _ => Ok(detached),
    }
}

/// The link is this owner's: everything goes, in one send.
fn take_down(
    node: &mut Socket,
    pod: &PodDetachment,
    index: u32,
    addresses: Vec<IpAddr>,
) -> Result<Detached, Vec<ApplyError>> {
    let plan = plan::detach(&PodDetachment { addresses: addresses.clone(), ..pod.clone() });
    run(node, &plan.ops, index)?;
    Ok(Detached { addresses, was_live: true })
}

/// A veth that names nobody: only what is routed to it proves that it is this owner's.
fn take_down_unnamed(node: &mut Socket, pod: &PodDetachment, index: u32) -> Result<Detached, Vec<ApplyError>> {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for address in pod.addresses.iter().copied() {
        let route = host_route(node, address).map_err(|error| vec![error])?;
        let leads_here = route.is_some_and(|route| route.link == LinkRef::Index(index));
        if leads_here { here.push(address) } else { elsewhere.push(address) }
    }
    let released = release(node, pod, elsewhere.into_iter());
    let taken = if here.is_empty() { Ok(Detached::default()) } else { take_down(node, pod, index, here) };
    match (taken, released) {
        (Ok(mut detached), Ok(released)) => {
            detached.addresses.extend(released.addresses);
            Ok(detached)
        }
        (taken, released) => Err([taken.err(), released.err()].into_iter().flatten().flatten().collect()),
    }
}

/// The link is gone, dead or another's: routes and rules of the addresses go, unless somebody else has them.
fn release(
    node: &mut Socket,
    pod: &PodDetachment,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Detached, Vec<ApplyError>> {
    let (mut freed, mut errors) = (Vec::new(), Vec::new());
    for address in addresses {
        match release_one(node, pod, address) {
            Ok(true) => freed.push(address),
            Ok(false) => {}
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(Detached { addresses: freed, was_live: false }) } else { Err(errors) }
}

/// Whether nobody else has the address.
fn release_one(node: &mut Socket, pod: &PodDetachment, address: IpAddr) -> Result<bool, Vec<ApplyError>> {
    let route = host_route(node, address).map_err(|error| vec![error])?;
    let mut ops: Vec<_> = plan::rules_of(address).map(Op::RuleDelete).collect();
    let mut index = 0;
    if let Some(route) = route {
        let LinkRef::Index(holder) = route.link else { return Ok(false) };
        let link = read::link_by_index(node, holder).map_err(|error| vec![error])?;
        if link.as_ref().is_some_and(|link| !is_given_up(link, pod)) {
            return Ok(false);
        }
        // A live link of this owner under another name (its prefix was changed): it must be silent too.
        if link.is_some_and(|link| link.group != ids::DEAD_GROUP) {
            ops.insert(0, Op::LinkSet(LinkSet { group: Some(ids::DEAD_GROUP), ..LinkSet::of(route.link.clone()) }));
        }
        index = holder;
        ops.push(Op::RouteDelete(route));
    }
    run(node, &ops, index)?;
    Ok(true)
}

/// Whether a link that has the address's route is this owner's or dead.
fn is_given_up(link: &Link, pod: &PodDetachment) -> bool {
    link.group == ids::DEAD_GROUP || link.alias().is_some_and(|alias| alias.owner == pod.owner)
}

fn run(node: &mut Socket, ops: &[Op], index: u32) -> Result<(), Vec<ApplyError>> {
    let mut errors = Vec::new();
    let mut ops = ops.to_vec();
    // A message removes one rule; there are two when a pod of the reference was adopted, whose rules have another protocol.
    while !ops.is_empty() {
        let outcomes = execute::try_all(node, &ops, |_| Ok(index)).map_err(|error| vec![error])?;
        let mut outcomes = outcomes.into_iter();
        ops.retain(|op| match outcomes.next() {
            Some(Ok(done)) => done == Done::Changed && matches!(op, Op::RuleDelete(_)),
            Some(Err(error)) => {
                errors.push(error);
                false
            }
            None => false,
        });
    }
    // A link that went away under our hands (its namespace ended) is as good as one in the dead group.
    errors.retain(|error| error.errno() != Some(Errno::NODEV.raw_os_error()));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
