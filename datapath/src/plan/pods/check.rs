// SPDX-License-Identifier: Apache-2.0
//! Is a pod's network as it was attached? The judge of CNI's CHECK, which has the kernel and the pod's result and nobody to ask.
//!
//! What must be there is what repair puts back ([`View::repairs_of`], the node's part of [`pod::attach`]) and what an attach writes
//! inside the pod. Only what breaks a pod counts: a route or rule too many is repair's alone, unless the rule goes before the pod's and
//! leads elsewhere. What a repair is told by the daemon is found out here:
//!
//! | | by |
//! |---|---|
//! | host veth | its alias; of a pod of the reference its name |
//! | addresses | the alias, whose own (egress apart) must be among the result's; without one the result's first, and its first of the other family where that is routed to the host veth. The rest are later plugins' |
//! | layout | the table of the host route; where none is left, link group and rules |
//! | ENI's table | `classic`: the pod's `from` rule; `flat`: the rule of its link group's mark or of its prefix |
//!
//! Not seen, of a pod on a secondary ENI: a `from` rule (`classic`: the pod's, `flat`: its prefix's) that is gone altogether, and a link
//! group that was set back to the default one. They look like a pod on the primary ENI: nothing but the daemon's journal tells on which
//! it is. Nor the node's nft table (marks by link group, SNAT) and its rules for marks (1024, 1025), which are no pod's. The daemon sees
//! all of them and puts them back. Nor is seen what later plugins of the chain may change: a smaller MTU in the
//! pod, routes in other tables, links and addresses beside ours.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{LivePod, NodeLink, NodeState, View, attachment};
use crate::plan::addresses::PodAddresses;
use crate::plan::eni;
use crate::plan::host::HostSetup;
use crate::plan::ids::{self, Place};
use crate::plan::marks;
use crate::plan::model::{Family, LinkRef, LinkSet, Neighbour, Op, Route, Rule};
use crate::plan::name::{LinkName, MacAddr, RouteTable};
use crate::plan::pod::{self, PodLayout};
use crate::plan::repair::{Fault, Repair};

/// A pod as the runtime remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCheck {
    /// The allocation key, `network/containerid/ifname`.
    pub owner: String,
    /// Names that its host veth may have, where no alias tells.
    pub host_veths: Vec<LinkName>,
    /// Name of the pod's link.
    pub pod_link: LinkName,
    /// All addresses of that link by the result, in its order: later plugins append theirs.
    pub addresses: Vec<IpAddr>,
}

/// One reading of a pod's namespace. Links in it are [`LinkRef::Index`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// The pod's link; `None`: there is none of that name.
    pub link: Option<PodLink>,
    /// Addresses of that link.
    pub addresses: Vec<IpAddr>,
    /// Unicast routes of all tables.
    pub routes: Vec<Route>,
    /// Permanent neighbours, whoever made them.
    pub neighbours: Vec<Neighbour>,
}

/// The pod's end of its veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Its index.
    pub index: u32,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Index of the other end, in the other end's namespace.
    pub peer: Option<u32>,
}

/// One thing that is not as it was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// In the node's namespace; the write would put it right.
    Node(Repair),
    /// In the pod's.
    Pod(Repair),
    /// What no single write would put right.
    Other(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Repair { object, fault, op }) => write!(f, "on the node, {object} {fault}: {op}"),
            Self::Pod(Repair { object, fault, op }) => write!(f, "in the pod, {object} {fault}: {op}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// All that differs; empty: the pod's network is whole.
#[must_use]
pub fn check(wanted: &PodCheck, node: &NodeState, inside: &PodState) -> Vec<Difference> {
    let view = View::of(node);
    let Some((link, vouched)) = view.host_veth_of(wanted) else {
        let missing = Difference::Other(format!("on the node, there is no live host veth of {}", wanted.owner));
        return std::iter::once(missing).chain(inside.link.is_none().then(|| no_link(wanted))).collect();
    };
    let mut differences = Vec::new();
    let alias = link.alias.as_ref().filter(|_| vouched);
    let ours = alias.map(|alias| alias.addresses).or_else(|| view.addresses_of_unnamed(wanted, link));
    let Some(addresses) = ours else {
        return vec![Difference::Other(format!("the result of the ADD names no address of {}", wanted.pod_link))];
    };
    if !addresses.of_vpc().iter().all(|address| wanted.addresses.contains(&address)) {
        let (name, found) = (&link.name, addresses.of_vpc());
        let said: Vec<_> = wanted.addresses.iter().map(ToString::to_string).collect();
        let text = format!("the alias of host veth {name} names {found}, the result of the ADD {}", said.join(" and "));
        differences.push(Difference::Other(text));
    }
    let pod = LivePod {
        owner: wanted.owner.clone(),
        host_veth: Some(link.name.clone()),
        addresses,
        eni_table: addresses.iter().find_map(|address| view.source_table(address)),
        layout: view.layout_found(addresses, link, vouched),
    };
    let repairs = view.repairs_of(&pod, link, vouched).into_iter().filter(|repair| view.breaks(&pod, link, &repair.op));
    differences.extend(repairs.map(Difference::Node));
    differences.extend(view.misled(&pod, link));
    differences.extend(view.unsteered(&pod));
    differences.extend(inside_differences(wanted, &pod, (link, vouched), inside));
    differences
}

fn no_link(wanted: &PodCheck) -> Difference {
    Difference::Other(format!("in the pod, there is no link {}", wanted.pod_link))
}

impl<'a> View<'a> {
    /// The live host veth, and whether its alias vouches for it.
    fn host_veth_of(&self, wanted: &PodCheck) -> Option<(&'a NodeLink, bool)> {
        if let Some(link) = self.by_owner.get(wanted.owner.as_str()) {
            return Some((link, true));
        }
        let named = wanted.host_veths.iter().filter_map(|name| self.by_name.get(name));
        named.copied().find(|link| link.is_bare_veth).map(|link| (link, false))
    }

    /// The addresses of a pod whose host veth names none.
    fn addresses_of_unnamed(&self, wanted: &PodCheck, link: &NodeLink) -> Option<PodAddresses> {
        let (first, rest) = wanted.addresses.split_first()?;
        let ours = match *first {
            IpAddr::V4(v4) => PodAddresses::V4(v4),
            IpAddr::V6(v6) => PodAddresses::V6(v6),
        };
        let other = rest.iter().find(|other| Family::of(**other) != Family::of(*first));
        let routed = other.filter(|other| self.has_route(RouteTable::MAIN, **other, link));
        Some(routed.map_or(ours, |other| ours.and(*other)))
    }

    /// Whether the pod suffers from what this write would put right: not from a route that its packets do not need, nor from a rule
    /// that comes after its own or leads nowhere.
    fn breaks(&self, pod: &LivePod, link: &NodeLink, op: &Op) -> bool {
        let stale = match op {
            Op::RouteDelete(_) => return false,
            Op::RuleDelete(stale) => stale,
            _ => return true,
        };
        let selector = |rule: &Rule| (rule.priority, rule.from, rule.to, rule.mark);
        let place = |wanted: &Rule| self.state.rules.iter().position(|(rule, _)| rule == wanted);
        let wanted = attachment(pod, link).objects().rules.into_iter().find(|rule| selector(rule) == selector(stale));
        let comes_first = wanted.is_some_and(|wanted| place(stale) < place(&wanted));
        let leads_on = |table| {
            let hosts = stale.to.is_some_and(|to| self.routes.contains_key(&(table, to)));
            hosts || self.has_way_out(stale.family, table)
        };
        comes_first && stale.table.is_some_and(leads_on)
    }

    /// How the pod is plumbed.
    fn layout_found(&self, addresses: PodAddresses, link: &NodeLink, vouched: bool) -> PodLayout {
        let flat = PodLayout::Flat { table: ids::POD_TABLE, group: link.group };
        let is_routed = |table| addresses.iter().any(|address| self.has_route(table, address, link));
        let has_rule = |rule: &Rule| self.rules.contains(rule);
        if !vouched {
            PodLayout::Classic
        } else if is_routed(ids::POD_TABLE) {
            flat
        } else if is_routed(RouteTable::MAIN) {
            PodLayout::Classic
        } else if link.group != ids::DEFAULT_GROUP {
            flat
        } else if addresses.iter().any(|address| has_rule(&Rule::to_pod(address))) {
            PodLayout::Classic
        } else if addresses.iter().any(|address| has_rule(&HostSetup::pod_rule(Family::of(address)))) {
            flat
        } else {
            PodLayout::Classic
        }
    }

    /// Where the address' `from` rule leads.
    fn source_table(&self, address: IpAddr) -> Option<RouteTable> {
        let any = Rule::from_pod(address, None);
        let is_of_pod =
            |rule: &&Rule| (rule.priority, rule.from, rule.to, rule.mark) == (any.priority, any.from, None, None);
        self.state.rules.iter().map(|(rule, _)| rule).find(is_of_pod)?.table
    }

    /// Addresses whose host route leads to another live pod that claims them: nothing for a repair, which does not know which is right.
    fn misled(&self, pod: &LivePod, link: &NodeLink) -> Vec<Difference> {
        let objects = attachment(pod, link).objects();
        let others = objects.routes.iter().filter_map(|route| {
            let there = self.routes.get(&(route.table, route.destination))?.first()?;
            let LinkRef::Index(index) = there.link else { return None };
            let other = self.by_index.get(&index).filter(|other| other.index != link.index)?;
            let claims = other.alias.as_ref().is_some_and(|alias| alias.addresses.contains(route.destination.addr()));
            claims.then(|| {
                let (address, name) = (route.destination.addr(), &other.name);
                Difference::Other(format!("on the node, {address} leads to the pod of host veth {name}"))
            })
        });
        others.collect()
    }

    /// What of the node's and the ENI's rules the pod's packets need and lack.
    fn unsteered(&self, pod: &LivePod) -> Vec<Difference> {
        let by_source = |address| match pod.layout {
            PodLayout::Classic => self.source_table(address),
            PodLayout::Flat { .. } => self.prefix_table(address),
        };
        let led = pod.addresses.iter().filter_map(|address| Some((address, by_source(address)?)));
        let astray = led.filter(|(address, table)| !self.has_way_out(Family::of(*address), *table));
        let text = |(address, table)| {
            format!("on the node, packets from {address} go by table {table}, which has no default route")
        };
        let mut differences: Vec<_> = astray.map(text).map(Difference::Other).collect();
        if let PodLayout::Flat { group, .. } = pod.layout {
            let to_pods = pod.addresses.iter().map(|address| HostSetup::pod_rule(Family::of(address)));
            let missing = to_pods.filter(|rule| !self.rules.contains(rule));
            differences.extend(missing.map(|rule| Difference::Node(Op::RuleAdd(rule).into())));
            let of_vpc = pod.addresses.iter().filter(|address| !ids::is_egress(*address)).map(Family::of);
            for family in of_vpc.filter(|family| group != ids::DEFAULT_GROUP && !self.is_group_steered(group, *family))
            {
                let version = if family == Family::V4 { "IPv4" } else { "IPv6" };
                let what = format!("no {version} rule takes packets of link group {group} (its ENI's)");
                differences.push(Difference::Other(format!("on the node, {what} to a table with a default route")));
            }
        }
        differences
    }

    /// Where the rule of the prefix that holds the address leads.
    fn prefix_table(&self, address: IpAddr) -> Option<RouteTable> {
        let holds = |rule: &&Rule| eni::is_steering(rule) && rule.from.is_some_and(|from| from.contains(&address));
        self.state.rules.iter().map(|(rule, _)| rule).find(holds)?.table
    }

    /// Whether a rule of this family for the mark of the group's ENI leads to a default route.
    fn is_group_steered(&self, group: u32, family: Family) -> bool {
        let is_groups = |rule: &&Rule| {
            let eni = rule.mark.filter(|_| marks::is_rule(rule)).and_then(marks::place);
            rule.family == family && eni.and_then(Place::group) == Some(group)
        };
        let mut rules = self.state.rules.iter().map(|(rule, _)| rule).filter(is_groups);
        rules.any(|rule| rule.table.is_some_and(|table| self.has_way_out(rule.family, table)))
    }

    fn has_way_out(&self, family: Family, table: RouteTable) -> bool {
        self.routes.contains_key(&(table, family.everything()))
    }
}

/// What an attach has written inside the pod, and is not there.
fn inside_differences(
    wanted: &PodCheck,
    pod: &LivePod,
    (host, vouched): (&NodeLink, bool),
    inside: &PodState,
) -> Vec<Difference> {
    let Some(link) = &inside.link else { return vec![no_link(wanted)] };
    let name = &wanted.pod_link;
    let mut differences = Vec::new();
    if link.peer != Some(host.index) {
        let text = format!("in the pod, link {name} is not the other end of host veth {}", host.name);
        differences.push(Difference::Other(text));
    }
    if link.mtu > host.mtu {
        let (mtu, of_host) = (link.mtu, host.mtu);
        let text = format!("the MTU of {name} in the pod is {mtu}, over that of host veth {}, {of_host}", host.name);
        differences.push(Difference::Other(text));
    }
    // The reference's MACs are the kernel's own.
    let mut attachment = pod::PodAttachment { pod_link: name.clone(), ..attachment(pod, host) };
    if !vouched {
        attachment.host_mac = host.mac.unwrap_or(attachment.host_mac);
    } else if link.mac != Some(attachment.pod_mac) {
        let set = LinkSet { mac: Some(attachment.pod_mac), ..LinkSet::of(name.clone().into()) };
        differences.push(Difference::Pod(Op::LinkSet(set).into()));
    }
    let is_missing = |op: &Op| !stands(op, link, inside);
    let missing = pod::attach(&attachment).pod.into_iter().filter(is_missing);
    differences.extend(missing.map(|op| match op {
        op @ Op::NeighbourSet(_) if has_neighbour(&op, inside) => Difference::Pod(Repair::because(Fault::Changed, op)),
        op => Difference::Pod(op.into()),
    }));
    let others = wanted.addresses.iter().filter(|address| !pod.addresses.contains(**address));
    let others = others.filter(|address| !inside.addresses.contains(address));
    let text =
        |address| Difference::Other(format!("in the pod, link {name} has not the address {address} of the result"));
    differences.extend(others.map(text));
    differences
}

/// Whether what a write makes is there. Whose it is and in which table does not matter: later plugins may have moved it.
fn stands(op: &Op, link: &PodLink, inside: &PodState) -> bool {
    let here = LinkRef::Index(link.index);
    match op {
        Op::LinkSet(_) => link.up,
        Op::AddressAdd(added) => inside.addresses.contains(&IpNet::addr(&added.address)),
        Op::NeighbourSet(wanted) => {
            let same =
                |found: &Neighbour| (found.address, found.mac, &found.link) == (wanted.address, wanted.mac, &here);
            inside.neighbours.iter().any(same)
        }
        // The kernel makes it itself when it gets to it.
        Op::RouteAdd(wanted) if wanted.table == RouteTable::LOCAL => true,
        Op::RouteAdd(wanted) => {
            let same =
                |found: &Route| (found.destination, found.via, &found.link) == (wanted.destination, wanted.via, &here);
            inside.routes.iter().any(same)
        }
        _ => true,
    }
}

/// Whether the neighbour is there with another MAC.
fn has_neighbour(op: &Op, inside: &PodState) -> bool {
    let Op::NeighbourSet(wanted) = op else { return false };
    inside.neighbours.iter().any(|found| found.address == wanted.address)
}

#[cfg(test)]
mod tests;
