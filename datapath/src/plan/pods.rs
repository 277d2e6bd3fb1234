// SPDX-License-Identifier: Apache-2.0
//! Plumbed pods: what of theirs is missing in the node's namespace, and what of ours belongs to no pod any more.
//!
//! What a pod's objects *are* is not said here: they are the node's part of [`pod::attach`], so that another layout of the
//! attach is repaired without a change here. [`diff`] takes them one by one and looks for each.
//!
//! Whose a link is is told by its alias; a live host veth without one, found by its name, is a pod of the reference, of
//! which only link, route and rules are known. Nothing inside the pod is looked at.
//!
//! ```text
//! alias names the pod, group not dead ─► live: its objects are put back, in the layout it is to have
//! no such link, or in the dead group  ─► nothing: there is no pod to put them back for
//! the same, when others were written  ─► what was written goes again (ended)
//! own object, address spared by nobody ─► orphan (orphans): goes when the caller says so
//! ```
//!
//! A pod that is plumbed in the other layout changes over: all of its new objects are made first, then the group changes and the old
//! ones go, so that every packet finds the one or the other. It waits with that until the rules of the node and of its ENI
//! are there. A pod of the reference keeps the reference's layout.
//!
//! Invariants: no write when nothing is missing; the writes leave nothing to write (property test); nothing that is not
//! ours is removed, except what stands where a live pod's own object must be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::addresses::PodAddresses;
use super::alias::VethAlias;
use super::eni;
use super::ids;
use super::model::{Family, LinkRef, LinkSet, Neighbour, Op, Route, Rule};
use super::name::{LinkName, MacAddr, RouteTable};
use super::pod::{self, PodAttachment, PodLayout};
use super::repair::{Fault, Repair};

pub mod check;

/// A pod that must be reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePod {
    /// The allocation key, `network/containerid/ifname`.
    pub owner: String,
    /// Its host veth's name, where it can be known without the alias.
    pub host_veth: Option<LinkName>,
    /// Its addresses.
    pub addresses: PodAddresses,
    /// Route table of the ENI that holds the addresses; `None` or main: the primary ENI.
    pub eni_table: Option<RouteTable>,
    /// How it is to be plumbed.
    pub layout: PodLayout,
}

/// One reading of the node's namespace. Links in it are [`LinkRef::Index`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// All links.
    pub links: Vec<NodeLink>,
    /// Unicast routes of all tables.
    pub routes: Vec<Route>,
    /// Rules with their protocol.
    pub rules: Vec<(Rule, u8)>,
    /// Permanent neighbours that carry our protocol.
    pub neighbours: Vec<Neighbour>,
    /// Whether pods keep the layout that they have: something that another one needs could not be set up.
    pub keeps_layouts: bool,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLink {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Its group.
    pub group: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Its alias, if it is one of ours.
    pub alias: Option<VethAlias>,
    /// Whether it is one end of a veth that has no alias at all, and no ADD of ours is making it.
    pub is_bare_veth: bool,
}

impl NodeLink {
    fn is_live(&self) -> bool {
        self.group != ids::DEAD_GROUP
    }
}

/// What is read of a node, arranged for looking up.
struct View<'a> {
    state: &'a NodeState,
    by_owner: BTreeMap<&'a str, &'a NodeLink>,
    by_name: BTreeMap<&'a LinkName, &'a NodeLink>,
    by_index: BTreeMap<u32, &'a NodeLink>,
    rules: BTreeSet<&'a Rule>,
    routes: BTreeMap<(RouteTable, IpNet), Vec<&'a Route>>,
    neighbours: BTreeSet<&'a Neighbour>,
}

impl<'a> View<'a> {
    fn of(state: &'a NodeState) -> Self {
        let live = || state.links.iter().filter(|link| link.is_live());
        let mut routes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for route in &state.routes {
            routes.entry((route.table, route.destination)).or_default().push(route);
        }
        Self {
            state,
            by_owner: live().filter_map(|link| Some((link.alias.as_ref()?.owner.as_str(), link))).collect(),
            by_name: live().map(|link| (&link.name, link)).collect(),
            by_index: live().map(|link| (link.index, link)).collect(),
            rules: state.rules.iter().map(|(rule, _)| rule).collect(),
            routes,
            neighbours: state.neighbours.iter().collect(),
        }
    }

    /// The pod's live host veth, and whether its alias vouches for it.
    fn link_of(&self, pod: &LivePod) -> Option<(&'a NodeLink, bool)> {
        if let Some(link) = self.by_owner.get(pod.owner.as_str()) {
            // An alias that names other addresses than the journal does: nobody knows which is right.
            return link
                .alias
                .as_ref()
                .is_some_and(|alias| alias.addresses.of_vpc() == pod.addresses)
                .then_some((link, true));
        }
        let link = self.by_name.get(pod.host_veth.as_ref()?)?;
        link.is_bare_veth.then_some((link, false))
    }

    /// A live pod's addresses.
    fn addresses_of(&self, pod: &LivePod) -> impl Iterator<Item = IpAddr> {
        let link = self.link_of(pod);
        link.into_iter().flat_map(|(link, vouched)| addresses(pod, link, vouched).iter())
    }
}

/// Only the alias knows of an egress address: the plugin has chosen it.
fn addresses(pod: &LivePod, link: &NodeLink, vouched: bool) -> PodAddresses {
    link.alias.as_ref().filter(|_| vouched).map_or(pod.addresses, |alias| alias.addresses)
}

/// Everything a pod has in the node's namespace, as the writes that would make it, in order. The link is the pod's host
/// veth.
#[must_use]
pub fn objects(pod: &LivePod, link: &NodeLink) -> Vec<Op> {
    let plan = pod::attach(&attachment(pod, link));
    plan.node.into_iter().chain(plan.rules).map(|op| with_index(op, link)).collect()
}

fn attachment(pod: &LivePod, link: &NodeLink) -> PodAttachment {
    PodAttachment {
        host_veth: link.name.clone(),
        // Inside the pod, where nothing is written.
        pod_link: LinkName::loopback(),
        addresses: pod.addresses,
        mtu: 0,
        eni_table: pod.eni_table,
        layout: pod.layout,
        owner: pod.owner.clone(),
        host_mac: MacAddr::of_host_end(&pod.owner),
        pod_mac: MacAddr::of_pod_end(&pod.owner),
    }
}

/// The operation with its link known by index, as the kernel was read.
fn with_index(mut op: Op, link: &NodeLink) -> Op {
    if let Some(named) = op.link_mut() {
        *named = LinkRef::Index(link.index);
    }
    op
}

/// What must be written so that every live pod has its objects, pod by pod, each pod's in the order of an attach.
#[must_use]
pub fn diff(pods: &[LivePod], state: &NodeState) -> Vec<Repair> {
    let view = View::of(state);
    let mut repairs = Vec::new();
    for pod in pods {
        let Some((link, vouched)) = view.link_of(pod) else { continue };
        let mut pod = LivePod { addresses: addresses(pod, link, vouched), ..pod.clone() };
        pod.layout = view.layout(&pod, link, vouched);
        repairs.extend(view.repairs_of(&pod, link, vouched));
    }
    repairs
}

/// The group makes the mark: it comes when the rules of the new layout are there, and before those of the old one go.
fn group_repair(link: &NodeLink, wanted: u32, vouched: bool) -> Option<Repair> {
    let group = Some(wanted).filter(|group| vouched && *group != link.group);
    group.map(|_| Op::LinkSet(LinkSet { group, ..LinkSet::of(LinkRef::Index(link.index)) }).into())
}

/// What differs of a host veth: down, another MAC (the pod's permanent neighbour has the one it was made with). It is wanted by two
/// writes: one gives it its name, as it were, the other brings it up.
fn link_repair(pod: &LivePod, link: &NodeLink, wanted: &LinkSet, vouched: bool) -> Option<Repair> {
    let mac = MacAddr::of_host_end(&pod.owner);
    let set = LinkSet {
        up: wanted.up && !link.up,
        mac: (wanted.alias.is_some() && vouched && link.mac != Some(mac)).then_some(mac),
        ..LinkSet::of(LinkRef::Index(link.index))
    };
    (set != LinkSet::of(LinkRef::Index(link.index))).then(|| Op::LinkSet(set).into())
}

impl View<'_> {
    /// What one pod lacks, or must not have, in the layout that it is given.
    fn repairs_of(&self, pod: &LivePod, link: &NodeLink, vouched: bool) -> Vec<Repair> {
        let mut repairs: Vec<Repair> = Vec::new();
        for op in objects(pod, link) {
            match op {
                Op::LinkSet(set) => repairs.extend(link_repair(pod, link, &set, vouched)),
                Op::RouteAdd(route) => repairs.extend(self.route_repair(route)),
                Op::NeighbourSet(neighbour) if vouched => {
                    // A new MAC on the link, or its way up, costs it its neighbours (`neigh_changeaddr`, `neigh_ifdown`,
                    // net/core/neighbour.c).
                    let set_link = repairs.first().is_some_and(|first| matches!(first.op, Op::LinkSet(_)));
                    if set_link || !self.neighbours.contains(&neighbour) {
                        repairs.push(Op::NeighbourSet(neighbour).into());
                    }
                }
                Op::RuleAdd(rule) if !self.rules.contains(&rule) => repairs.push(Op::RuleAdd(rule).into()),
                _ => {}
            }
        }
        let wanted = attachment(pod, link).objects();
        repairs.extend(group_repair(link, wanted.group, vouched));
        repairs.extend(pod.addresses.iter().flat_map(|address| self.stale_rules(address, &wanted.rules)));
        repairs.extend(wanted.routes.iter().flat_map(|route| self.stale_routes(link, route)));
        repairs
    }

    /// A route to the same block that leads elsewhere gives way, unless it leads to a live pod with this very address.
    fn route_repair(&self, wanted: Route) -> Option<Repair> {
        let there = self.routes.get(&(wanted.table, wanted.destination));
        let there = there.map(Vec::as_slice).unwrap_or_default();
        let is_same = |found: &&Route| found.link == wanted.link && found.via == wanted.via;
        if there.iter().any(is_same) {
            return None;
        }
        let Some(other) = there.first() else { return Some(Op::RouteAdd(wanted).into()) };
        let holder = match other.link {
            LinkRef::Index(index) => self.by_index.get(&index),
            _ => None,
        };
        let address = wanted.destination.addr();
        let is_pods =
            holder.and_then(|link| link.alias.as_ref()).is_some_and(|alias| alias.addresses.contains(address));
        (!is_pods).then(|| Repair::because(Fault::Changed, Op::RouteReplace(wanted)))
    }

    /// The layout that a pod gets now: the wanted one, unless what it needs is not there yet.
    fn layout(&self, pod: &LivePod, link: &NodeLink, vouched: bool) -> PodLayout {
        if !vouched {
            return PodLayout::Classic;
        }
        let is_routed = |table| pod.addresses.iter().any(|address| self.has_route(table, address, link));
        let has = match pod.layout {
            PodLayout::Flat { table, .. } if is_routed(table) => PodLayout::Flat { table, group: link.group },
            PodLayout::Classic if is_routed(ids::POD_TABLE) => {
                PodLayout::Flat { table: ids::POD_TABLE, group: link.group }
            }
            PodLayout::Flat { .. } | PodLayout::Classic => PodLayout::Classic,
        };
        let may_change = !self.state.keeps_layouts && self.is_steered(pod);
        if has == pod.layout || may_change { pod.layout } else { has }
    }

    fn has_route(&self, table: RouteTable, address: IpAddr, link: &NodeLink) -> bool {
        let there = self.routes.get(&(table, IpNet::from(address)));
        there.is_some_and(|routes| routes.iter().any(|route| route.link == LinkRef::Index(link.index)))
    }

    /// Whether the node's and the ENI's rules for a pod's layout are there, of each of its families.
    fn is_steered(&self, pod: &LivePod) -> bool {
        pod.addresses.iter().all(|address| self.is_address_steered(pod, address))
    }

    fn is_address_steered(&self, pod: &LivePod, address: IpAddr) -> bool {
        let PodLayout::Flat { table, group } = pod.layout else { return true };
        let eni_table = pod.eni_table.filter(|table| *table != RouteTable::MAIN);
        let family = Family::of(address);
        let all = || self.state.rules.iter().map(|(rule, _)| rule).filter(|rule| rule.family == family);
        let to_pods = all().any(|rule| (rule.from, rule.to, rule.mark, rule.table) == (None, None, None, Some(table)));
        let steers = |rule: &Rule| {
            let by_prefix = rule.from.is_some_and(|from| from.contains(&address));
            let by_mark = group != ids::DEFAULT_GROUP && rule.mark.is_some();
            rule.table == eni_table && eni::is_steering(rule) && (by_mark || by_prefix)
        };
        to_pods && (eni_table.is_none() || ids::is_egress(address) || all().any(steers))
    }

    /// Rules of a pod's address that it must not have: those of the other layout, and those to a table that is not its ENI's,
    /// for of two rules with one selector the older wins.
    fn stale_rules(&self, address: IpAddr, wanted: &[Rule]) -> Vec<Repair> {
        let of_pod: Vec<Rule> = pod::rules_of(address).collect();
        let selector = |rule: &Rule| (rule.priority, rule.from, rule.to, rule.mark);
        let is_of_pod = |rule: &&Rule| of_pod.iter().any(|any_table| selector(any_table) == selector(rule));
        let stale = self.state.rules.iter().map(|(rule, _)| rule).filter(is_of_pod);
        let stale = stale.filter(|rule| !wanted.contains(rule));
        stale.cloned().map(|rule| Op::RuleDelete(rule).into()).collect()
    }

    /// Host routes to the pod's own link in another table than its layout's.
    fn stale_routes(&self, link: &NodeLink, wanted: &Route) -> Vec<Repair> {
        let tables = pod::HOST_ROUTE_TABLES.into_iter().filter(|table| *table != wanted.table);
        let there = tables.filter_map(|table| self.routes.get(&(table, wanted.destination))).flatten();
        let stale = there.filter(|route| route.link == LinkRef::Index(link.index));
        stale.map(|route| Op::RouteDelete((*route).clone()).into()).collect()
    }
}

/// Objects of pods that have ended between two readings: each has a live host veth in the first of them and none in the second.
#[must_use]
pub fn ended(pods: &[LivePod], before: &NodeState, now: &NodeState) -> BTreeMap<IpAddr, Vec<Op>> {
    let (before, after) = (View::of(before), View::of(now));
    let ended = pods.iter().filter(|pod| after.link_of(pod).is_none());
    let ended: BTreeSet<IpAddr> = ended.flat_map(|pod| before.addresses_of(pod)).collect();
    let mut left = orphans(now, &BTreeSet::new());
    left.retain(|address, _| ended.contains(address));
    left
}

/// Addresses that objects of ours are about although nobody needs them: not in `spared`, and on no live host veth.
///
/// Rules of a pod (`to`, `from`) and of an ENI's address, host routes and neighbours are looked at; what is about more than one
/// address is never an orphan.
#[must_use]
pub fn orphans(state: &NodeState, spared: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Vec<Op>> {
    let live: BTreeSet<IpAddr> = live_addresses(state);
    let mut orphans: BTreeMap<IpAddr, Vec<Op>> = BTreeMap::new();
    let mut add = |address: IpAddr, op: Op| {
        if !spared.contains(&address) && !live.contains(&address) {
            orphans.entry(address).or_default().push(op);
        }
    };
    for (rule, protocol) in &state.rules {
        if let (Some(address), ids::PROTOCOL) = (address_of_rule(rule), *protocol) {
            add(address, Op::OwnRuleDelete(rule.clone()));
        }
    }
    for route in state.routes.iter().filter(|route| route.protocol == ids::PROTOCOL && pod::is_host_route(route)) {
        add(route.destination.addr(), Op::RouteDelete(route.clone()));
    }
    for neighbour in &state.neighbours {
        add(neighbour.address, Op::NeighbourDelete(neighbour.clone()));
    }
    orphans
}

/// Addresses of sandboxes that live by the kernel's word, known to the journal or not.
fn live_addresses(state: &NodeState) -> BTreeSet<IpAddr> {
    let live = state.links.iter().filter(|link| link.is_live());
    live.filter_map(|link| link.alias.as_ref()).flat_map(|alias| alias.addresses.iter()).collect()
}

/// The one address that a rule of ours is about.
pub(crate) fn address_of_rule(rule: &Rule) -> Option<IpAddr> {
    let net = match rule.priority {
        ids::PRIORITY_TO_POD => rule.to?,
        ids::PRIORITY_FROM_POD | ids::PRIORITY_FROM_ENI => rule.from?,
        _ => return None,
    };
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests;
