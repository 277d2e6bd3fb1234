// SPDX-License-Identifier: Apache-2.0
//! Is a pod plumbed already? Reads only. Runtimes give every attempt a new sandbox, so an ADD for a key that is attached
//! is rare; but it must neither cut the living pod's network (attach would replace the veth) nor give its address back.
//!
//! | the link of the host veth's name | standing |
//! |---|---|
//! | is not there, is dead, or is another's | [`Standing::Absent`] |
//! | is live and carries this owner and addresses, with host routes, rules, and link and addresses in this namespace, in either layout | [`Standing::Plumbed`] |
//! | is live and carries this owner, and something of that is missing | [`Standing::Partial`] |
//!
//! An attach asks this where the kernel refuses the host veth's name; before it asks only an ADD with egress, one request in the usual
//! case, `Absent`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::attach::host_route;
use crate::apply::error::ApplyError;
use crate::apply::netlink::Socket;
use crate::apply::netlink::read;
use crate::apply::netns::Netns;
use crate::plan::pod::{PodAttachment, PodLayout};
use crate::plan::{Family, LinkName, LinkRef, PodAddresses, RouteTable, ids};

/// What of a pod is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing live of this owner.
    Absent,
    /// Some of it.
    Partial,
    /// All of it.
    Plumbed,
}

/// Looks for all that [`super::attach`] would make.
///
/// # Errors
/// Whatever keeps the kernel from being read. A pod's namespace that cannot be used is no error but [`Standing::Partial`].
pub fn standing(netns: &Path, pod: &PodAttachment) -> Result<Standing, ApplyError> {
    let mut node = Socket::route()?;
    let Some(link) = read::link_by_name(&mut node, &pod.host_veth)? else { return Ok(Standing::Absent) };
    let Some(alias) = link.alias().filter(|alias| alias.owner == pod.owner) else { return Ok(Standing::Absent) };
    if link.group == ids::DEAD_GROUP {
        return Ok(Standing::Absent);
    }
    if alias.addresses.of_vpc() != pod.addresses.of_vpc() {
        return Ok(Standing::Partial);
    }
    // With the egress address that it was given.
    let pod = &PodAttachment { addresses: alias.addresses, ..pod.clone() };
    let mut tables = BTreeSet::new();
    for address in pod.addresses.iter() {
        let route = host_route(&mut node, address)?.filter(|route| route.link == LinkRef::Index(link.index));
        tables.insert(route.map(|route| route.table));
    }
    let is_whole = link.up
        && has_rules(&mut node, pod, &tables, link.group)?
        && pod_side_stands(netns, &pod.pod_link, pod.addresses, link.peer)?;
    Ok(if is_whole { Standing::Plumbed } else { Standing::Partial })
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
