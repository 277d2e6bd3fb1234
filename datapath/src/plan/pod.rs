// SPDX-License-Identifier: Apache-2.0
//! Attach and detach of a pod, in either layout.
//!
//! | layout | host route in | rules | link group of the host end |
//! |---|---|---|---|
//! | classic | main | `to` the pod; `from` it, when its address is on a secondary ENI | default |
//! | flat | [`ids::POD_TABLE`] | none | its ENI's, for a single address of a secondary ENI |
//!
//! Layout `classic` has names, priorities and tables of the reference, so its pods and ours can live on one node and each side
//! can take the other's down. In layout `flat` the rules are the node's ([`super::host`]) and the ENI's ([`super::eni`]), so
//! their number does not grow with the pods. Pods of both live side by side; a detach is the same for both.
//!
//! Does not choose the address, the ENI or the layout (`ipamd`), and does not know whether the kernel agrees (`apply::pod`).
//!
//! Order of an attach, and why:
//!
//! ```text
//! 1 veth, one message   names, MACs, MTU, one queue each; peer born in the pod's namespace; host end down, in the group
//!                       of those being made, so that no repair takes it for a pod of the reference
//! 2 sysctls             accept_ra=0 before the host end can hear the pod (a pod must not give the node an IPv6 router)
//! 3 pod, one send       link up, address, gateway neighbour, routes
//! 4 node, one send      host end up with its alias, in its own group; host route; neighbour. The route is exclusive: an address that is
//!                       still routed to another link belongs to that link's pod, and the attach fails
//! 5 rules, one send     only now is it sure that the address is ours to make rules for; stale `from` rules go first,
//!                       since of two rules with one selector the older wins. In layout flat stale ones of both kinds
//!                       go and none is made: a `to` rule without its route sends the pod's packets to the subnet
//! 6 pod                 lo up; last, because it is the one step that deleting the veth does not undo
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::alias::VethAlias;
use super::ids;
use super::model::{Address, Family, LinkRef, LinkSet, Neighbour, Op, Plan, Route, RouteScope, Rule, Sysctl, VethPair};
use super::name::{LinkName, MacAddr, RouteTable};

/// How a pod is plumbed on the node's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodLayout {
    /// With rules of its own.
    Classic,
    /// With none.
    Flat {
        /// Table of its host route.
        table: RouteTable,
        /// Link group of its host end: its ENI's mark comes of it.
        group: u32,
    },
}

/// A pod to plumb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAttachment {
    /// Name of the host end, [`LinkName::host_veth`].
    pub host_veth: LinkName,
    /// Name of the pod's link, CNI_IFNAME.
    pub pod_link: LinkName,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// MTU of both ends.
    pub mtu: u32,
    /// Route table of the ENI that holds the address; `None` or main: the primary ENI, no `from` rule.
    pub eni_table: Option<RouteTable>,
    /// How it is plumbed.
    pub layout: PodLayout,
    /// The allocation key, `network/containerid/ifname`.
    pub owner: String,
    /// MAC of the host end, [`MacAddr::of_host_end`].
    pub host_mac: MacAddr,
    /// MAC of the pod's link; another one.
    pub pod_mac: MacAddr,
}

/// A pod to take down. The owner key decides, never the address alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDetachment {
    /// Name of the host end.
    pub host_veth: LinkName,
    /// The allocation key.
    pub owner: String,
    /// The address as the daemon or prevResult has it; used only when no live link of another owner has it.
    pub address: Option<Ipv4Addr>,
}

/// Everything an attach writes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// The veth.
    pub veth: VethPair,
    /// Of the host end, before it is up; written only where they differ, missing ones are fine (a kernel without IPv6).
    pub sysctls: Vec<Sysctl>,
    /// In the pod's namespace, one send.
    pub pod: Vec<Op>,
    /// In the node's namespace, one send.
    pub node: Vec<Op>,
    /// In the node's namespace, one send, after the others; the removals are of stale rules and may find none.
    pub rules: Vec<Op>,
    /// In the pod's namespace, at the very end.
    pub pod_last: Op,
}

/// What a pod has in the kernel on the node's side, but for its link and what is about the link alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObjects {
    /// Its host route.
    pub route: Route,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Link group of its host end.
    pub group: u32,
}

/// The objects of a pod with this address and host end; `eni_table` as in [`PodAttachment`].
#[must_use]
pub fn objects(address: Ipv4Addr, link: LinkRef, eni_table: Option<RouteTable>, layout: PodLayout) -> PodObjects {
    match layout {
        PodLayout::Classic => {
            let from = from_table(eni_table).map(|table| Rule::from_pod(address, Some(table)));
            let rules = std::iter::once(Rule::to_pod(address)).chain(from).collect();
            PodObjects { route: host_route(address, link, RouteTable::MAIN), rules, group: ids::DEFAULT_GROUP }
        }
        PodLayout::Flat { table, group } => {
            PodObjects { route: host_route(address, link, table), rules: Vec::new(), group }
        }
    }
}

impl PodAttachment {
    /// What it has on the node's side.
    #[must_use]
    pub fn objects(&self) -> PodObjects {
        objects(self.address, LinkRef::from(self.host_veth.clone()), self.eni_table, self.layout)
    }
}

/// The writes that attach a pod.
#[must_use]
pub fn attach(pod: &PodAttachment) -> PodPlan {
    let objects = pod.objects();
    let veth = VethPair {
        group: ids::MAKING_GROUP,
        host: pod.host_veth.clone(),
        host_mac: pod.host_mac,
        pod: pod.pod_link.clone(),
        pod_mac: pod.pod_mac,
        mtu: pod.mtu,
    };
    let sysctl = |key: &str, value| Sysctl { path: format!("net/ipv6/conf/{}/{key}", pod.host_veth), value };
    let sysctls = vec![sysctl("accept_ra", "0"), sysctl("accept_redirects", "1"), sysctl("forwarding", "0")];
    let up = |link: LinkName| Op::LinkSet(LinkSet { up: true, ..LinkSet::of(link.into()) });
    PodPlan {
        veth,
        sysctls,
        pod: pod_ops(pod),
        rules: rule_ops(pod, objects.rules.clone()),
        node: node_ops(pod, objects),
        pod_last: up(LinkName::loopback()),
    }
}

fn node_ops(pod: &PodAttachment, PodObjects { route, group, .. }: PodObjects) -> Vec<Op> {
    let link = LinkRef::from(pod.host_veth.clone());
    let alias = VethAlias { owner: pod.owner.clone(), address: pod.address };
    vec![
        Op::LinkSet(LinkSet { alias: Some(alias), group: Some(group), up: true, ..LinkSet::of(link.clone()) }),
        Op::RouteAdd(route),
        Op::NeighbourSet(Neighbour { address: pod.address.into(), mac: pod.pod_mac, link }),
    ]
}

fn rule_ops(pod: &PodAttachment, wanted: Vec<Rule>) -> Vec<Op> {
    let has_to = wanted.contains(&Rule::to_pod(pod.address));
    let mut ops = vec![Op::RuleDelete(Rule::from_pod(pod.address, None))];
    ops.extend((!has_to).then(|| Op::RuleDelete(Rule::to_pod(pod.address))));
    ops.extend(wanted.into_iter().map(Op::RuleAdd));
    ops
}

fn pod_ops(pod: &PodAttachment) -> Vec<Op> {
    let link = LinkRef::from(pod.pod_link.clone());
    let gateway = IpAddr::from(ids::POD_GATEWAY);
    let route = |destination: IpNet, via, scope| Route {
        destination,
        via,
        link: link.clone(),
        scope,
        table: RouteTable::MAIN,
        protocol: ids::PROTOCOL,
    };
    vec![
        Op::LinkSet(LinkSet { up: true, ..LinkSet::of(link.clone()) }),
        Op::AddressAdd(Address {
            address: IpAddr::from(pod.address).into(),
            link: link.clone(),
            without_prefix_route: false,
        }),
        Op::NeighbourSet(Neighbour { address: gateway, mac: pod.host_mac, link: link.clone() }),
        Op::RouteAdd(route(gateway.into(), None, RouteScope::Link)),
        Op::RouteAdd(route(Family::V4.everything(), Some(gateway), RouteScope::Universe)),
    ]
}

/// Tables in which a host route can be, whatever the layout.
pub const HOST_ROUTE_TABLES: [RouteTable; 2] = [ids::POD_TABLE, RouteTable::MAIN];

/// `<address>/32 dev <veth> scope link` in a table.
#[must_use]
pub fn host_route(address: Ipv4Addr, link: LinkRef, table: RouteTable) -> Route {
    Route {
        destination: IpAddr::from(address).into(),
        via: None,
        link,
        scope: RouteScope::Link,
        table,
        protocol: ids::PROTOCOL,
    }
}

/// The table of a `from` rule, if the pod needs one.
fn from_table(eni_table: Option<RouteTable>) -> Option<RouteTable> {
    eni_table.filter(|table| *table != RouteTable::MAIN)
}

/// The writes that take a pod down. The host end goes to the dead group, where nft drops what it still sends, and is
/// left to the end of the pod's namespace: deleting it here would wait for an RCU grace period of 15-20 ms. What the pod had
/// in one layout is not there in the other, which is fine: a DEL has nobody to ask which it was.
#[must_use]
pub fn detach(pod: &PodDetachment) -> Plan {
    let link = LinkRef::from(pod.host_veth.clone());
    let mut ops = vec![Op::LinkSet(LinkSet { group: Some(ids::DEAD_GROUP), ..LinkSet::of(link.clone()) })];
    if let Some(address) = pod.address {
        let neighbour = Neighbour { address: address.into(), mac: MacAddr([0; 6]), link: link.clone() };
        // Whoever made the route: a pod of the reference is taken down the same way.
        let route = |table| Route { protocol: 0, ..host_route(address, link.clone(), table) };
        ops.extend(HOST_ROUTE_TABLES.map(route).map(Op::RouteDelete));
        ops.push(Op::NeighbourDelete(neighbour));
        ops.extend(rules_of(address).map(Op::RuleDelete));
    }
    Plan { ops }
}

/// The rules that can exist for a pod's address: `to` main, and `from` whatever table.
pub fn rules_of(address: Ipv4Addr) -> impl Iterator<Item = Rule> {
    [Rule::to_pod(address), Rule::from_pod(address, None)].into_iter()
}

impl fmt::Display for PodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ip link add {}", self.veth)?;
        self.sysctls.iter().try_for_each(|sysctl| writeln!(f, "{sysctl}"))?;
        let in_pod = |op: &Op| format!("ip -n $POD {}", op.to_string().trim_start_matches("ip "));
        self.pod.iter().try_for_each(|op| writeln!(f, "{}", in_pod(op)))?;
        self.node.iter().chain(&self.rules).try_for_each(|op| writeln!(f, "{op}"))?;
        writeln!(f, "{}", in_pod(&self.pod_last))
    }
}

#[cfg(test)]
mod tests;
