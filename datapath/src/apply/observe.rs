// SPDX-License-Identifier: Apache-2.0
//! What the kernel says: who holds which address, which links there are, what of it is ours. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::error::ApplyError;
use super::netlink::Socket;
use super::netlink::read::{self, RouteFilter};
use super::nftables;
use crate::plan::pod as plan;
use crate::plan::{Address, Family, LinkName, LinkRef, MacAddr, Neighbour, Route, Rule, VethAlias, ids};

/// One reading of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Host veths, by name: veths with our prefix, any that has a host route (the prefix may have been another, and an address
    /// that leads to a link is in use, whosever it is), and any link with an alias of ours.
    pub pods: Vec<ObservedPod>,
    /// All links with a MAC: name, MAC, index.
    pub links: Vec<(LinkName, MacAddr, u32)>,
    /// Everything that carries our marks.
    pub ours: OwnObjects,
}

/// A host veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedPod {
    /// Its name.
    pub link: LinkName,
    /// Its index.
    pub index: u32,
    /// Its link group; [`ids::DEAD_GROUP`]: detached.
    pub group: u32,
    /// Its alias, if it is one of ours; a pod of the reference has none.
    pub alias: Option<VethAlias>,
    /// The addresses that main or [`ids::POD_TABLE`] routes to it, whoever made the route; IPv4 first.
    pub host_routes: Vec<IpAddr>,
}

/// Objects with our protocol (158), and our nft table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnObjects {
    /// Rules, in the kernel's order.
    pub rules: Vec<Rule>,
    /// Routes of all tables.
    pub routes: Vec<Route>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Addresses (Linux 5.18 and later remember whose they are).
    pub addresses: Vec<Address>,
    /// Whether one of our nft tables exists.
    pub has_nft_table: bool,
}

impl OwnObjects {
    /// Whether there is nothing of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads everything. Several lists, so not one moment: a pod that comes or goes meanwhile may be half in it.
///
/// # Errors
/// A list that cannot be had whole is an error, never a shorter list.
pub fn kernel(veth_prefix: &str) -> Result<KernelState, ApplyError> {
    let mut socket = Socket::route()?;
    let found = read::links(&mut socket)?;
    let names: BTreeMap<u32, LinkName> =
        found.iter().filter_map(|link| Some((link.index, LinkName::new(&link.name).ok()?))).collect();
    let mut host_routes: BTreeMap<LinkRef, BTreeSet<IpAddr>> = BTreeMap::new();
    for family in Family::ALL {
        for table in plan::HOST_ROUTE_TABLES {
            let routes = read::routes(&mut socket, RouteFilter::of(family, table))?.into_iter();
            for route in routes.filter(plan::is_host_route) {
                host_routes.entry(route.link).or_default().insert(route.destination.addr());
            }
        }
    }
    let mut state = KernelState { ours: own_objects(&mut socket, &names)?, ..KernelState::default() };
    for link in found {
        let Some(name) = names.get(&link.index) else { continue };
        state.links.extend(link.mac.map(|mac| (name.clone(), mac, link.index)));
        let alias = link.alias();
        let is_routed = host_routes.contains_key(&LinkRef::Index(link.index));
        if alias.is_some() || (link.is_veth() && (is_routed || link.name.starts_with(veth_prefix))) {
            state.pods.push(ObservedPod {
                link: name.clone(),
                index: link.index,
                group: link.group,
                alias,
                host_routes: host_routes.remove(&LinkRef::Index(link.index)).into_iter().flatten().collect(),
            });
        }
    }
    state.pods.sort_by(|a, b| a.link.cmp(&b.link));
    Ok(state)
}

fn own_objects(socket: &mut Socket, names: &BTreeMap<u32, LinkName>) -> Result<OwnObjects, ApplyError> {
    let named = |link: LinkRef| match &link {
        LinkRef::Index(index) => names.get(index).cloned().map_or(link, LinkRef::Name),
        _ => link,
    };
    let mut has_nft_table = false;
    for family in Family::ALL {
        has_nft_table |= nftables::observe(&mut Socket::netfilter()?, family, ids::NFT_TABLE)?.is_some();
    }
    let mut ours = OwnObjects { has_nft_table, ..OwnObjects::default() };
    let is_ours = |protocol: u8| protocol == ids::PROTOCOL;
    for family in Family::ALL {
        let rules = read::rules(socket, family)?.into_iter().filter(|(_, protocol)| is_ours(*protocol));
        ours.rules.extend(rules.map(|(rule, _)| rule));
        let filter = RouteFilter { family, protocol: Some(ids::PROTOCOL), ..RouteFilter::default() };
        let routes = read::routes(socket, filter)?.into_iter();
        ours.routes.extend(routes.map(|route| Route { link: named(route.link), ..route }));
        let neighbours = read::neighbours(socket, family, ids::PROTOCOL)?.into_iter();
        ours.neighbours.extend(neighbours.map(|found| Neighbour { link: named(found.link), ..found }));
        let addresses =
            read::addresses(socket, family, None)?.into_iter().filter(|(_, _, protocol)| is_ours(*protocol));
        ours.addresses.extend(addresses.map(|(_, found, _)| Address { link: named(found.link), ..found }));
    }
    Ok(ours)
}
