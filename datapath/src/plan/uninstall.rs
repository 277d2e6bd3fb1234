// SPDX-License-Identifier: Apache-2.0
//! What an uninstall takes out of the kernel, and what it leaves because pods live on. Pure; reading and writing is
//! `apply::uninstall`'s.
//!
//! A pod lives while its host veth is there and not in the dead group; one without an alias is the reference's, and counts when
//! something of ours names the address that is routed to it, or its rule leads to a table of ours, as it does after a takeover. Where
//! the node goes back to the reference, all of its pods count: nobody else serves them until it does. A living pod keeps all it has: the pods of the node, the VPC and
//! the internet, connections that are open and new ones.
//!
//! | of ours | stays while |
//! |---|---|
//! | host route, neighbour, `to` and `from` rule | its pod lives |
//! | rule 512 to the table of pod routes, of each family | a living pod's route is in that table |
//! | rule 1025 of an ENI's answers, its link's group | the ENI's own address does |
//! | rule 1536 of an ENI's mark | a living pod's host veth is in that ENI's link group |
//! | rule 1536 of a prefix | the address of a living pod in layout `flat` and the default link group is inside |
//! | an ENI's table, its own address and that address's rule | a rule that stays for a pod leads to the table |
//! | rules 1024 and 1535, nft table `ip enid` | any pod lives: its SNAT, its node ports, its ENI's mark |
//! | nft table `ip6 enid` | a pod with an IPv6 address lives |
//!
//! The ENI's own address stays because the kernel takes all routes by a link away with the link's last address
//! (`fib_disable_ip`, `net/ipv4/fib_frontend.c`), and asks the router's MAC from it. The nft table is one: which of its chains
//! pods depend on changes with the settings it was made by, which an uninstall does not read.
//!
//! Invariant: without a living pod nothing of ours stays; nothing of others' ever goes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::eni;
use super::host;
use super::ids;
use super::marks;
use super::model::{Address, Family, LinkRef, LinkSet, Op, Route, Rule};
use super::name::{LinkName, RouteTable};
use super::pod;
use super::pods::{self, NodeLink, NodeState};

/// A pod that lives on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptPod {
    /// Its address.
    pub address: IpAddr,
    /// Its host veth.
    pub link: LinkName,
    /// Its allocation key; `None`: a pod of the reference.
    pub owner: Option<String>,
}

impl fmt::Display for KeptPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_deref().unwrap_or("a pod of amazon-vpc-cni-k8s");
        write!(f, "{owner} {} ({})", self.address, self.link)
    }
}

/// Which pods of the reference count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Those that have something of ours, or go by it.
    Dependent,
    /// All.
    All,
}

/// What goes and what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uninstall {
    /// Removals in the order in which they must be made.
    pub removals: Vec<Op>,
    /// Rules, routes, addresses and link groups of ours that stay, as the writes that would make them.
    pub kept: Vec<Op>,
    /// The pods that they stay for, by address; without egress addresses. When there is one, the nft table of IPv4 stays too.
    pub pods: Vec<KeptPod>,
    /// Whether one has an IPv6 address: that of IPv6 stays, too.
    pub has_ipv6: bool,
    /// Whether somebody else has rules where the reference has its: another CNI of the kind has the node now.
    pub has_others: bool,
}

/// Decides by one reading of the node's namespace; `addresses` with the protocol of each.
#[must_use]
pub fn plan(state: &NodeState, addresses: &[(Address, u8)], counted: Counted) -> Uninstall {
    let living = living(state, counted);
    let needs = Needs::of(state, &living);
    let named = living.iter().map(|(_, pod)| pod).filter(|pod| !ids::is_egress(pod.address));
    let mut uninstall = Uninstall {
        pods: named.cloned().collect(),
        has_ipv6: living.iter().any(|(_, pod)| pod.address.is_ipv6()),
        has_others: state.rules.iter().any(is_others),
        ..Uninstall::default()
    };
    uninstall.pods.sort();
    let mut sort = |stays: bool, make: Op, remove: Op| {
        if stays { uninstall.kept.push(make) } else { uninstall.removals.push(remove) }
    };
    for (rule, _) in state.rules.iter().filter(|(_, protocol)| *protocol == ids::PROTOCOL) {
        sort(needs.rule(rule), Op::RuleAdd(rule.clone()), Op::OwnRuleDelete(rule.clone()));
    }
    // Routes via a router go before the route to the router.
    let mut routes: Vec<&Route> = state.routes.iter().filter(|route| route.protocol == ids::PROTOCOL).collect();
    routes.sort_by_key(|route| route.via.is_none());
    for route in routes {
        sort(needs.route(route), Op::RouteAdd(route.clone()), Op::RouteDelete(route.clone()));
    }
    for neighbour in &state.neighbours {
        let stays = needs.addresses.contains(&neighbour.address);
        sort(stays, Op::NeighbourSet(neighbour.clone()), Op::NeighbourDelete(neighbour.clone()));
    }
    let of_enis = state.links.iter().filter(|link| ids::is_eni_link_group(link.group));
    for (link, group) in of_enis.map(|link| (LinkRef::Index(link.index), link.group)) {
        let set = |group| Op::LinkSet(LinkSet { group: Some(group), ..LinkSet::of(link.clone()) });
        sort(needs.links.contains(&link), set(group), set(ids::DEFAULT_GROUP));
    }
    for (address, _) in addresses.iter().filter(|(_, protocol)| *protocol == ids::PROTOCOL) {
        let stays = needs.links.contains(&address.link);
        sort(stays, Op::AddressAdd(address.clone()), Op::AddressDelete(address.clone()));
    }
    uninstall
}

/// Not ours, and as the reference makes its own: for marked traffic, for one pod.
fn is_others((rule, protocol): &(Rule, u8)) -> bool {
    let of_pods = [ids::PRIORITY_TO_POD, ids::PRIORITY_FROM_POD].contains(&rule.priority);
    *protocol != ids::PROTOCOL && (host::is_mark_rule(rule) || (of_pods && pods::address_of_rule(rule).is_some()))
}

/// Living pods with their links.
fn living(state: &NodeState, counted: Counted) -> Vec<(&NodeLink, KeptPod)> {
    let counts = |address: &IpAddr| {
        names(state, *address)
            || goes_by_ours(state, *address)
            || (counted == Counted::All && has_reference_rule(state, *address))
    };
    let mut living = Vec::new();
    for link in state.links.iter().filter(|link| link.group != ids::DEAD_GROUP) {
        let pod = |address, owner| (link, KeptPod { address, link: link.name.clone(), owner });
        if let Some(alias) = &link.alias {
            living.extend(alias.addresses.iter().map(|address| pod(address, Some(alias.owner.clone()))));
        } else if link.is_bare_veth {
            let routed = state.routes.iter().filter(|route| route.link == LinkRef::Index(link.index));
            let addresses: BTreeSet<IpAddr> =
                routed.filter(|route| pod::is_host_route(route)).map(|route| route.destination.addr()).collect();
            living.extend(addresses.into_iter().filter(counts).map(|address| pod(address, None)));
        }
    }
    living
}

/// Whether something of ours is about the address.
fn names(state: &NodeState, address: IpAddr) -> bool {
    let of_rule = |(rule, protocol): &(Rule, u8)| {
        *protocol == ids::PROTOCOL && pods::address_of_rule(rule).is_some_and(|found| found == address)
    };
    let of_route = |route: &Route| route.protocol == ids::PROTOCOL && route.destination == address.into();
    state.rules.iter().any(of_rule) || state.routes.iter().any(of_route)
}

/// Whether the address's rule, whoever made it, leads to a table that we have filled.
fn goes_by_ours(state: &NodeState, address: IpAddr) -> bool {
    let rules = state.rules.iter().map(|(rule, _)| rule).filter(|rule| rule.priority == ids::PRIORITY_FROM_POD);
    let mut tables = rules.filter(|rule| pods::address_of_rule(rule) == Some(address)).filter_map(|rule| rule.table);
    tables.any(|table| {
        let ours = |route: &Route| route.table == table && route.protocol == ids::PROTOCOL;
        table != RouteTable::MAIN && state.routes.iter().any(ours)
    })
}

/// Whether there is the rule that the reference makes for each of its pods.
fn has_reference_rule(state: &NodeState, address: IpAddr) -> bool {
    let to_pod = |rule: &Rule| rule.priority == ids::PRIORITY_TO_POD && pods::address_of_rule(rule) == Some(address);
    state.rules.iter().any(|(rule, _)| to_pod(rule))
}

/// What living pods need, as far as it can be told one from another.
struct Needs {
    addresses: BTreeSet<IpAddr>,
    /// Link groups of their host veths.
    groups: BTreeSet<u32>,
    /// Tables of their ENIs.
    tables: BTreeSet<RouteTable>,
    /// Links of those ENIs.
    links: BTreeSet<LinkRef>,
    /// Families in which one is plumbed in layout `flat`.
    flat: BTreeSet<Family>,
    /// Addresses of those that no link group steers: a prefix's rule does, or the primary ENI's main table.
    unmarked: BTreeSet<IpAddr>,
}

impl Needs {
    fn of(state: &NodeState, living: &[(&NodeLink, KeptPod)]) -> Self {
        let in_pod_table = |(link, pod): &&(&NodeLink, KeptPod)| {
            state.routes.iter().any(|route| {
                (route.table, &route.link) == (ids::POD_TABLE, &LinkRef::Index(link.index))
                    && route.destination == pod.address.into()
            })
        };
        let flat = living.iter().filter(in_pod_table);
        let unmarked = flat.clone().filter(|(link, _)| link.group == ids::DEFAULT_GROUP);
        let mut needs = Self {
            addresses: living.iter().map(|(_, pod)| pod.address).collect(),
            groups: living.iter().map(|(link, _)| link.group).collect(),
            flat: flat.clone().map(|(_, pod)| Family::of(pod.address)).collect(),
            unmarked: unmarked.map(|(_, pod)| pod.address).collect(),
            tables: BTreeSet::new(),
            links: BTreeSet::new(),
        };
        // Whoever made the rule: one that the reference made may lead to a table of ours.
        let rules = state.rules.iter().map(|(rule, _)| rule).filter(|rule| rule.priority == ids::PRIORITY_FROM_POD);
        let tables = rules.filter(|rule| needs.rule(rule)).filter_map(|rule| rule.table);
        needs.tables = tables.filter(|table| *table != RouteTable::MAIN).collect();
        let of_enis = state.routes.iter().filter(|route| needs.tables.contains(&route.table));
        needs.links = of_enis.map(|route| route.link.clone()).collect();
        needs
    }

    fn rule(&self, rule: &Rule) -> bool {
        if self.addresses.is_empty() {
            return false;
        }
        match rule.priority {
            ids::PRIORITY_TO_POD if rule.to.is_none() => self.flat.contains(&rule.family),
            _ if eni::is_answer(rule) => rule.table.is_some_and(|table| self.tables.contains(&table)),
            ids::PRIORITY_FROM_ENI => rule.table.is_some_and(|table| self.tables.contains(&table)),
            ids::PRIORITY_MARK | ids::PRIORITY_EXTERNAL_SERVICE => true,
            _ if eni::is_steering(rule) => match (rule.mark, rule.from) {
                (Some(mark), _) => {
                    let group = marks::place(mark).and_then(ids::Place::group);
                    group.is_some_and(|group| self.groups.contains(&group))
                }
                (None, Some(from)) => self.unmarked.iter().any(|address| from.contains(address)),
                (None, None) => false,
            },
            _ => pods::address_of_rule(rule).is_some_and(|address| self.addresses.contains(&address)),
        }
    }

    fn route(&self, route: &Route) -> bool {
        self.tables.contains(&route.table) || self.addresses.contains(&route.destination.addr())
    }
}

#[cfg(test)]
mod tests;
