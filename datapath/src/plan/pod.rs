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
//! 3 pod, one send       IPv6 on, where it is needed; link up; of each family address, gateway neighbour, routes
//! 4 node, one send      host end up with its alias, in its own group; host routes; neighbours; IPv6 routes of a pod without IPv6 go. A
//!                       route is exclusive: an address that is still routed to another link belongs to that link's pod, and the
//!                       attach fails
//! 5 rules, one send     only now is it sure that the address is ours to make rules for; stale `from` rules go first,
//!                       since of two rules with one selector the older wins. In layout flat stale ones of both kinds
//!                       go and none is made: a `to` rule without its route sends the pod's packets to the subnet
//! 6 pod                 lo up; last, because it is the one step that deleting the veth does not undo
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::addresses::PodAddresses;
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
    /// The pod's addresses.
    pub addresses: PodAddresses,
    /// MTU of both ends.
    pub mtu: u32,
    /// Route table of the ENI that holds the addresses; `None` or main: the primary ENI, no `from` rule.
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
    /// Addresses as the daemon or prevResult has them; each is used only when no live link of another owner has it.
    pub addresses: Vec<IpAddr>,
}

/// Everything an attach writes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// The veth.
    pub veth: VethPair,
    /// Of the host end, before it is up; written only where they differ, missing ones are fine (a kernel without IPv6).
    pub sysctls: Vec<Sysctl>,
    /// Of the pod's link, before it is up; written only where they differ: runtimes make namespaces with IPv6 on or off.
    pub pod_sysctls: Vec<Sysctl>,
    /// In the pod's namespace, one send.
    pub pod: Vec<Op>,
    /// In the node's namespace, one send.
    pub node: Vec<Op>,
    /// In the node's namespace, one send, after the others; the removals are of stale rules and may find none.
    pub rules: Vec<Op>,
    /// Of the pod's `lo`, at the very end.
    pub last_sysctls: Vec<Sysctl>,
    /// In the pod's namespace, at the very end.
    pub pod_last: Op,
}

/// What a pod has in the kernel on the node's side, but for its link and what is about the link alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObjects {
    /// Its host routes, one an address.
    pub routes: Vec<Route>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Link group of its host end.
    pub group: u32,
}

/// The objects of a pod with these addresses and host end; `eni_table` as in [`PodAttachment`].
#[must_use]
pub fn objects(
    addresses: PodAddresses,
    link: &LinkRef,
    eni_table: Option<RouteTable>,
    layout: PodLayout,
) -> PodObjects {
    let routes = |table| addresses.iter().map(|address| host_route(address, link.clone(), table)).collect();
    match layout {
        PodLayout::Classic => {
            // An egress address needs no rules: nothing else is routed by it, and it leaves by main.
            let of_vpc = addresses.iter().filter(|address| !ids::is_egress(*address));
            let of_address = |address| {
                let from = from_table(eni_table).map(|table| Rule::from_pod(address, Some(table)));
                std::iter::once(Rule::to_pod(address)).chain(from)
            };
            let rules = of_vpc.flat_map(of_address).collect();
            PodObjects { routes: routes(RouteTable::MAIN), rules, group: ids::DEFAULT_GROUP }
        }
        PodLayout::Flat { table, group } => PodObjects { routes: routes(table), rules: Vec::new(), group },
    }
}

impl PodAttachment {
    /// What it has on the node's side.
    #[must_use]
    pub fn objects(&self) -> PodObjects {
        objects(self.addresses, &LinkRef::from(self.host_veth.clone()), self.eni_table, self.layout)
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
    let sysctl = |link: &LinkName, key: &str, value: &str| Sysctl {
        path: format!("net/ipv6/conf/{link}/{key}"),
        value: value.to_owned(),
    };
    let of_host = |key, value| sysctl(&pod.host_veth, key, value);
    let with_ipv6 = |settings: &[(&LinkName, &str, &'static str)]| {
        let settings = settings.iter().filter(|_| pod.addresses.v6().is_some());
        settings.map(|(link, key, value)| sysctl(link, key, value)).collect()
    };
    let up = |link: LinkName| Op::LinkSet(LinkSet { up: true, ..LinkSet::of(link.into()) });
    // A node whose default is off may have IPv6 on its ENI all the same; a route to a link without it is refused.
    let with_route = pod.addresses.v6().map(|_| of_host("disable_ipv6", "0"));
    let of_router = [of_host("accept_ra", "0"), of_host("accept_redirects", "1"), of_host("forwarding", "0")];
    PodPlan {
        veth,
        sysctls: with_route.into_iter().chain(of_router).collect(),
        // The link-local address needs no detection either: the other end of the veth is the node.
        pod_sysctls: with_ipv6(&[(&pod.pod_link, "disable_ipv6", "0"), (&pod.pod_link, "accept_dad", "0")]),
        pod: pod_ops(pod),
        rules: rule_ops(pod, objects.rules.clone()),
        node: node_ops(pod, objects),
        last_sysctls: with_ipv6(&[(&LinkName::loopback(), "disable_ipv6", "0")]),
        pod_last: up(LinkName::loopback()),
    }
}

/// The alias comes before the link is up. Whatever is set of a link that is up, the kernel looks through all IPv6 routes of the node for
/// it and reports its multicast groups anew (`addrconf_notify` of NETDEV_CHANGE, `net/ipv6/addrconf.c`): 0.3 ms beside 735 links with one
/// such route each. So the host end of a pod without IPv6 leaves none: it makes itself no address, and the route for multicast, which
/// it gets as it comes up, goes at once. (IPv6 switched off on the link would do the same, but by a file whose writer spins on RTNL,
/// `apply::sysctl`.)
fn node_ops(pod: &PodAttachment, PodObjects { routes, group, .. }: PodObjects) -> Vec<Op> {
    let link = LinkRef::from(pod.host_veth.clone());
    let alias = VethAlias { owner: pod.owner.clone(), addresses: pod.addresses };
    let named = LinkSet {
        alias: Some(alias),
        group: Some(group),
        no_ipv6_address: pod.addresses.v6().is_none(),
        ..LinkSet::of(link.clone())
    };
    let up = LinkSet { up: true, ..LinkSet::of(link.clone()) };
    let neighbour = |address| Op::NeighbourSet(Neighbour { address, mac: pod.pod_mac, link: link.clone() });
    let of_multicast = pod.addresses.v6().is_none().then(|| Op::RouteDelete(multicast_route(link.clone())));
    [named, up]
        .map(Op::LinkSet)
        .into_iter()
        .chain(routes.into_iter().map(Op::RouteAdd))
        .chain(pod.addresses.iter().map(neighbour))
        .chain(of_multicast)
        .collect()
}

/// The route for IPv6 multicast by a link, which the kernel makes itself (`addrconf_add_mroute`, `net/ipv6/addrconf.c`).
fn multicast_route(link: LinkRef) -> Route {
    let all = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
    Route {
        destination: all.into(),
        via: None,
        link,
        scope: RouteScope::Universe,
        table: RouteTable::LOCAL,
        protocol: 0,
    }
}

fn rule_ops(pod: &PodAttachment, wanted: Vec<Rule>) -> Vec<Op> {
    let stale = pod.addresses.iter().flat_map(|address| {
        let to = Some(Rule::to_pod(address)).filter(|to| !wanted.contains(to));
        std::iter::once(Rule::from_pod(address, None)).chain(to)
    });
    let stale: Vec<_> = stale.map(Op::RuleDelete).collect();
    stale.into_iter().chain(wanted.into_iter().map(Op::RuleAdd)).collect()
}

fn pod_ops(pod: &PodAttachment) -> Vec<Op> {
    let link = LinkRef::from(pod.pod_link.clone());
    let up = Op::LinkSet(LinkSet { up: true, ..LinkSet::of(link.clone()) });
    std::iter::once(up).chain(pod.addresses.iter().flat_map(|address| pod_address_ops(pod, &link, address))).collect()
}

fn pod_address_ops(pod: &PodAttachment, link: &LinkRef, address: IpAddr) -> Vec<Op> {
    let family = Family::of(address);
    let gateway = ids::pod_gateway(family);
    let route_in = |table, destination: IpNet, via, scope| {
        Op::RouteAdd(Route { destination, via, link: link.clone(), scope, table, protocol: ids::PROTOCOL })
    };
    let route = |destination, via, scope| route_in(RouteTable::MAIN, destination, via, scope);
    // The kernel itself lets an IPv6 address answer only when a worker of its gets to it; packets are lost until then.
    let own = (family == Family::V6).then(|| route_in(RouteTable::LOCAL, address.into(), None, on_link(family)));
    let add = Op::AddressAdd(Address { address: address.into(), link: link.clone(), without_prefix_route: false });
    let to_router = [
        Op::NeighbourSet(Neighbour { address: gateway, mac: pod.host_mac, link: link.clone() }),
        route(gateway.into(), None, on_link(family)),
        route(family.everything(), Some(gateway), RouteScope::Universe),
    ];
    std::iter::once(add).chain(own).chain(to_router).collect()
}

/// Tables in which a host route can be, whatever the layout.
pub const HOST_ROUTE_TABLES: [RouteTable; 2] = [ids::POD_TABLE, RouteTable::MAIN];

/// The scope of a route without a router: IPv6 has none.
pub(super) fn on_link(family: Family) -> RouteScope {
    match family {
        Family::V4 => RouteScope::Link,
        Family::V6 => RouteScope::Universe,
    }
}

/// `<address>/32 dev <veth> scope link` (IPv6: `/128 dev <veth>`) in a table.
#[must_use]
pub fn host_route(address: IpAddr, link: LinkRef, table: RouteTable) -> Route {
    Route {
        destination: address.into(),
        via: None,
        link,
        scope: on_link(Family::of(address)),
        table,
        protocol: ids::PROTOCOL,
    }
}

/// Whether a route is one to a pod: to one address, on a link, in a table of pods. Routes to routers are in the ENIs' tables.
#[must_use]
pub fn is_host_route(route: &Route) -> bool {
    let destination = route.destination;
    destination.prefix_len() == destination.max_prefix_len()
        && route.via.is_none()
        && HOST_ROUTE_TABLES.contains(&route.table)
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
    for address in pod.addresses.iter().copied() {
        let neighbour = Neighbour { address, mac: MacAddr([0; 6]), link: link.clone() };
        // Whoever made the route: a pod of the reference is taken down the same way.
        let route = |table| Route { protocol: 0, ..host_route(address, link.clone(), table) };
        ops.extend(HOST_ROUTE_TABLES.map(route).map(Op::RouteDelete));
        ops.push(Op::NeighbourDelete(neighbour));
        ops.extend(rules_of(address).map(Op::RuleDelete));
    }
    Plan { ops }
}

/// The rules that can exist for a pod's address: `to` main, and `from` whatever table.
pub fn rules_of(address: IpAddr) -> impl Iterator<Item = Rule> {
    [Rule::to_pod(address), Rule::from_pod(address, None)].into_iter()
}

impl PodPlan {
    /// For a host end without IPv6, which the kernel refuses what is about it.
    pub(crate) fn without_ipv6(&mut self) {
        self.node.retain(|op| !matches!(op, Op::RouteDelete(_)));
        for op in &mut self.node {
            if let Op::LinkSet(set) = op {
                set.no_ipv6_address = false;
            }
        }
    }
}

impl fmt::Display for PodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ip link add {}", self.veth)?;
        self.sysctls.iter().try_for_each(|sysctl| writeln!(f, "{sysctl}"))?;
        let sysctl_in_pod = |sysctl: &Sysctl| format!("ip netns exec $POD {sysctl}");
        self.pod_sysctls.iter().try_for_each(|sysctl| writeln!(f, "{}", sysctl_in_pod(sysctl)))?;
        let in_pod = |op: &Op| format!("ip -n $POD {}", op.to_string().trim_start_matches("ip "));
        self.pod.iter().try_for_each(|op| writeln!(f, "{}", in_pod(op)))?;
        self.node.iter().chain(&self.rules).try_for_each(|op| writeln!(f, "{op}"))?;
        self.last_sysctls.iter().try_for_each(|sysctl| writeln!(f, "{}", sysctl_in_pod(sysctl)))?;
        writeln!(f, "{}", in_pod(&self.pod_last))
    }
}

#[cfg(test)]
mod tests;
