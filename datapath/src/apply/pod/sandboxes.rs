// SPDX-License-Identifier: Apache-2.0
//! Who is attached by the kernel's word: every host veth with an alias of ours, and how long ago it was attached. Reads only.
//!
//! The kernel keeps no time of birth of a link. But the permanent neighbour of the pod's address, which an attach makes with the
//! alias in one send, carries the time of its last change (`neigh->updated`, NDA_CACHEINFO in rtnetlink(7); kept when it is
//! written again as it is: `__neigh_update`, net/core/neighbour.c). A repair that puts it back makes a pod look young; one
//! without it has no age.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::apply::error::ApplyError;
use crate::apply::netlink::Socket;
use crate::apply::netlink::read;
use crate::plan::{Family, LinkName, LinkRef, ids};

/// A host veth with an alias of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedSandbox {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub host_veth: LinkName,
    /// The allocation key, `network/containerid/ifname`.
    pub owner: String,
    /// Since when it has been as it is; `None`: the kernel does not tell.
    pub age: Option<Duration>,
    /// Whether it is detached: in the dead group.
    pub is_detached: bool,
}

/// All of them, by the kernel's order of links.
///
/// # Errors
/// Links or neighbours cannot be listed.
pub fn sandboxes() -> Result<Vec<AttachedSandbox>, ApplyError> {
    let mut node = Socket::route()?;
    let links = read::links(&mut node)?;
    attached(&mut node, links)
}

/// Whether the sandbox is what it was when it was read: the same link, live as then, and attached no later.
///
/// # Errors
/// Link or neighbours cannot be read.
pub fn is_as_read(before: &AttachedSandbox) -> Result<bool, ApplyError> {
    let mut node = Socket::route()?;
    let link = read::link_by_index(&mut node, before.index)?;
    let now = attached(&mut node, link.into_iter().collect())?;
    // An age only grows; one that is lost, or smaller, is of another attach.
    Ok(now
        .into_iter()
        .any(|now| AttachedSandbox { age: before.age, ..now.clone() } == *before && now.age >= before.age))
}

fn attached(node: &mut Socket, links: Vec<read::Link>) -> Result<Vec<AttachedSandbox>, ApplyError> {
    // After the links: a neighbour is there a moment after its link's alias.
    let mut ages: BTreeMap<u32, Duration> = BTreeMap::new();
    for family in Family::ALL {
        for found in read::permanent_neighbours(node, family)? {
            let LinkRef::Index(index) = found.neighbour.link else { continue };
            let (Some(age), ids::PROTOCOL) = (found.age, found.protocol) else { continue };
            ages.entry(index).and_modify(|youngest| *youngest = age.min(*youngest)).or_insert(age);
        }
    }
    let sandbox = |link: read::Link| {
        Some(AttachedSandbox {
            index: link.index,
            host_veth: LinkName::new(&link.name).ok()?,
            owner: link.alias()?.owner,
            age: ages.get(&link.index).copied(),
            is_detached: link.group == ids::DEAD_GROUP,
        })
    };
    Ok(links.into_iter().filter_map(sandbox).collect())
}
