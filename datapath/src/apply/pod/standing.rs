// SPDX-License-Identifier: Apache-2.0
//! Is a pod plumbed already? Reads only. Runtimes give every attempt a new sandbox, so an ADD for a key that is attached
//! is rare; but it must neither cut the living pod's network (attach would replace the veth) nor give its address back.
//!
//! | the live link whose alias names this owner | standing |
//! |---|---|
//! | is not there | [`Standing::Absent`] |
//! | has these addresses, with host routes, rules, and link and addresses in this namespace, in either layout | [`Standing::Plumbed`] |
//! | lacks something of that | [`Standing::Partial`] |
//!
//! Whatever its name is: that has a prefix of the configuration's, which may be another by now. It is looked for by name first, as it
//! mostly is so, and then as the peer of the pod's own link: a list of all links costs the kernel too much beside an ADD.
//!
//! An attach asks this where the kernel refuses the names of the veth's ends, and only then.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::attach::host_route;
use crate::apply::error::ApplyError;
use crate::apply::netlink::Socket;
use crate::apply::netlink::read::{self, Link};
use crate::apply::netns::Netns;
use crate::plan::pod::{PodAttachment, PodLayout};
use crate::plan::{Family, LinkName, LinkRef, PodAddresses, RouteTable, ids};

/// What of a pod is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing live of this owner.
    Absent,
    /// Some of it.
    Partial,
    /// All of it.
    Plumbed,
}

/// Whether a sandbox lives by the kernel's word: a live host veth of whatever name has its owner in the alias. Its address is not to
/// be given to anybody else.
///
/// # Errors
/// The kernel cannot be read: then it may.
pub fn is_living(owner: &str) -> Result<bool, ApplyError> {
    Ok(link_of(&mut Socket::route()?, owner)?.is_some())
}

fn link_of(node: &mut Socket, owner: &str) -> Result<Option<Link>, ApplyError> {
    Ok(read::links(node)?.into_iter().find(|link| is_own(link, owner)))
}

/// The owner's live host veth, by the link in the pod's namespace: without that there is none.
fn peer_of(node: &mut Socket, netns: &Path, pod: &PodAttachment) -> Result<Option<Link>, ApplyError> {
    let mut inside = Netns::open(netns)?.inside(Socket::route)?;
    let Some(peer) = read::link_by_name(&mut inside, &pod.pod_link)?.and_then(|link| link.peer) else {
        return Ok(None);
    };
    Ok(read::link_by_index(node, peer)?.filter(|link| is_own(link, &pod.owner)))
}

fn is_own(link: &Link, owner: &str) -> bool {
    link.group != ids::DEAD_GROUP && link.alias().is_some_and(|alias| alias.owner == owner)
}

/// Looks for all that [`super::attach`] would make; the owner's live host veth with it.
///
/// # Errors
/// Whatever keeps the kernel from being read. A pod's namespace that cannot be used is no error but [`Standing::Partial`].
pub(super) fn look(netns: &Path, pod: &PodAttachment) -> Result<(Standing, Option<Link>), ApplyError> {
    let mut node = Socket::route()?;
    let link = match read::link_by_name(&mut node, &pod.host_veth)?.filter(|link| is_own(link, &pod.owner)) {
        Some(link) => Some(link),
        None => peer_of(&mut node, netns, pod)?,
    };
    let standing = match &link {
        Some(link) if is_whole(&mut node, netns, pod, link)? => Standing::Plumbed,
        Some(_) => Standing::Partial,
        None => Standing::Absent,
    };
    Ok((standing, link))
}

/// The same without the link.
#[cfg(test)]
pub(crate) fn standing(netns: &Path, pod: &PodAttachment) -> Result<Standing, ApplyError> {
    look(netns, pod).map(|(standing, _)| standing)
}

fn is_whole(node: &mut Socket, netns: &Path, pod: &PodAttachment, link: &Link) -> Result<bool, ApplyError> {
    let alias = link.alias().filter(|alias| alias.addresses.of_vpc() == pod.addresses.of_vpc());
    let Some(alias) = alias else { return Ok(false) };
    // With the egress address that it was given.
    let pod = &PodAttachment { addresses: alias.addresses, ..pod.clone() };
    let mut tables = BTreeSet::new();
    for address in pod.addresses.iter() {
        let route = host_route(node, address)?.filter(|route| route.link == LinkRef::Index(link.index));
        tables.insert(route.map(|route| route.table));
    }
    Ok(link.up
        && has_rules(node, pod, &tables, link.group)?
        && pod_side_stands(netns, &pod.pod_link, pod.addresses, link.peer)?)
}

/// Whether routes, rules and group are those of a layout. It may be another than the daemon would choose now: the pod is alive
/// all the same, and the daemon changes its layout without a gap.
fn has_rules(
    node: &mut Socket,
    pod: &PodAttachment,
    tables: &BTreeSet<Option<RouteTable>>,
    group: u32,
) -> Result<bool, ApplyError> {
    let layout = match tables.iter().collect::<Vec<_>>().as_slice() {
        [Some(RouteTable::MAIN)] => PodLayout::Classic,
        [Some(table)] => PodLayout::Flat { table: *table, group },
        _ => return Ok(false),
    };
    let mut there = Vec::new();
    for address in pod.addresses.iter() {
        there.extend(read::rules(node, Family::of(address))?);
    }
    let wanted = PodAttachment { layout, ..pod.clone() }.objects().rules;
    Ok(wanted.iter().all(|rule| there.iter().any(|(found, _)| found == rule)))
}

fn pod_side_stands(netns: &Path, link: &LinkName, wanted: PodAddresses, peer: Option<u32>) -> Result<bool, ApplyError> {
    let Ok(netns) = Netns::open(netns) else { return Ok(false) };
    let mut inside = netns.inside(Socket::route)?;
    let Some(link) = read::link_by_name(&mut inside, link)? else { return Ok(false) };
    let mut there = Vec::new();
    for address in wanted.iter() {
        there.extend(read::addresses(&mut inside, Family::of(address), Some(link.index))?);
    }
    let has = |address: IpAddr| there.iter().any(|(_, found, _)| found.address == address.into());
    Ok(link.up && Some(link.index) == peer && wanted.iter().all(has))
}
