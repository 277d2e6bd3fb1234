// SPDX-License-Identifier: Apache-2.0
//! Kernel objects and operations on them as data. Every operation prints as the command that would do it, in `ip`,
//! `sysctl` and `nft` syntax; a link known by its MAC only prints as a shell variable that the plan's first line sets.
//!
//! Does not decide anything (the sibling modules do) and does no IO (`apply` does). An address tells its family; where there
//! may be none, [`Family`] does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::alias::VethAlias;
use super::ids;
use super::name::{LinkName, MacAddr, RouteTable};
use super::nft::{NftTable, family_text};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Its default destination.
    #[must_use]
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => Ipv4Net::default().into(),
            Self::V6 => Ipv6Net::default().into(),
        }
    }

    /// Its address of all zeroes.
    #[must_use]
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// `ip`, or `ip -6` where the arguments may not tell the family.
    fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }
}

/// How a link is known before its index is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkRef {
    /// By name.
    Name(LinkName),
    /// By MAC: an ENI, whose name is the distribution's business.
    Mac(MacAddr),
    /// By index: a link that was there when the kernel was read and is gone now.
    Index(u32),
}

impl From<LinkName> for LinkRef {
    fn from(name: LinkName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => fmt::Display::fmt(name, f),
            Self::Mac(mac) => write!(f, "$LINK_{}", mac.to_string().replace(':', "")),
            Self::Index(index) => write!(f, "if{index}"),
        }
    }
}

/// A packet or connection mark with the bits that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Value of our bits; bits outside `mask` are ignored.
    pub value: u32,
    /// Which bits are ours.
    pub mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// Scope of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteScope {
    /// Via a router.
    Universe,
    /// On the link itself.
    Link,
}

/// A unicast route without a metric of ours (the kernel gives IPv6 routes 1024, `IP6_RT_PRIO_USER`). IPv6 routes have no scope:
/// theirs is always `Universe`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to; 0.0.0.0/0 or ::/0 is the default.
    pub destination: IpNet,
    /// Router, of the same family; `None`: on the link.
    pub via: Option<IpAddr>,
    /// Link it leaves by.
    pub link: LinkRef,
    /// Scope.
    pub scope: RouteScope,
    /// Table it is in.
    pub table: RouteTable,
    /// `rtm_protocol`; [`ids::PROTOCOL`] on all that we make. 0 in a removal: any.
    pub protocol: u8,
}

impl Route {
    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.destination.addr())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table == RouteTable::LOCAL {
            f.write_str("local ")?;
        }
        if self.destination.prefix_len() == 0 {
            f.write_str("default")?;
        } else {
            fmt::Display::fmt(&self.destination, f)?;
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.link)?;
        if self.scope == RouteScope::Link {
            f.write_str(" scope link")?;
        }
        write!(f, " table {}", self.table)?;
        if self.protocol == 0 { Ok(()) } else { write!(f, " proto {}", self.protocol) }
    }
}

/// A policy rule. Only the selectors we use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Which packets it is asked for.
    pub family: Family,
    /// Lower is looked at first; from [`ids`].
    pub priority: u32,
    /// Source.
    pub from: Option<IpNet>,
    /// Destination.
    pub to: Option<IpNet>,
    /// Packet mark.
    pub mark: Option<Mark>,
    /// Table to look up; `None` only in a removal, where it means any.
    pub table: Option<RouteTable>,
}

impl Rule {
    /// `to <address> lookup main`, priority 512.
    #[must_use]
    pub fn to_pod(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self {
            family: Family::of(address),
            priority: ids::PRIORITY_TO_POD,
            from: None,
            to: Some(address.into()),
            mark: None,
            table: Some(RouteTable::MAIN),
        }
    }

    /// `from <address> lookup <table>`, priority 1536.
    #[must_use]
    pub fn from_pod(address: impl Into<IpAddr>, table: Option<RouteTable>) -> Self {
        let address = address.into();
        Self {
            family: Family::of(address),
            priority: ids::PRIORITY_FROM_POD,
            from: Some(address.into()),
            to: None,
            mark: None,
            table,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} from ", self.priority)?;
        write_selector(f, self.from)?;
        if self.to.is_some() {
            f.write_str(" to ")?;
            write_selector(f, self.to)?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark}")?;
        }
        match self.table {
            Some(table) => write!(f, " lookup {table}"),
            None => Ok(()),
        }
    }
}

/// A host as its address, a block as a block, nothing as `all`: as `ip rule` prints them.
fn write_selector(f: &mut fmt::Formatter<'_>, net: Option<IpNet>) -> fmt::Result {
    match net {
        None => f.write_str("all"),
        Some(net) if net.prefix_len() == net.max_prefix_len() => fmt::Display::fmt(&net.addr(), f),
        Some(net) => fmt::Display::fmt(&net, f),
    }
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Address with the prefix length of its subnet. An IPv6 one is added without duplicate address detection, which takes over
    /// a second and finds nothing: EC2 gives an address to one ENI.
    pub address: IpNet,
    /// The link.
    pub link: LinkRef,
    /// IFA_F_NOPREFIXROUTE: the kernel makes no subnet route in main for it.
    pub without_prefix_route: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.address, self.link)?;
        if self.without_prefix_route {
            f.write_str(" noprefixroute")?;
        }
        if self.address.addr().is_ipv6() { f.write_str(" nodad") } else { Ok(()) }
    }
}

/// A permanent neighbour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: MacAddr,
    /// The link it is on.
    pub link: LinkRef,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lladdr {} dev {} nud permanent protocol {}", self.address, self.mac, self.link, ids::PROTOCOL)
    }
}

/// Both ends of a veth, made by one message: the host end here and down, the peer in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    /// Name of the host end.
    pub host: LinkName,
    /// MAC of the host end.
    pub host_mac: MacAddr,
    /// Name of the peer, in the pod's namespace.
    pub pod: LinkName,
    /// MAC of the peer.
    pub pod_mac: MacAddr,
    /// MTU of both.
    pub mtu: u32,
    /// Link group of the host end.
    pub group: u32,
}

impl fmt::Display for VethPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, host_mac, pod, pod_mac, mtu, group } = self;
        let group = if *group == ids::DEFAULT_GROUP { String::new() } else { format!(" group {group}") };
        let end = |mac: &MacAddr| format!("address {mac} mtu {mtu} numtxqueues 1 numrxqueues 1");
        write!(f, "{host} {}{group} type veth peer name {pod} {} netns $POD", end(host_mac), end(pod_mac))
    }
}

/// Changes to a link, all in one message. `None` leaves a setting alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSet {
    /// The link.
    pub link: LinkRef,
    /// MTU.
    pub mtu: Option<u32>,
    /// MAC.
    pub mac: Option<MacAddr>,
    /// Link group.
    pub group: Option<u32>,
    /// Alias.
    pub alias: Option<VethAlias>,
    /// Bring it up. Nothing here takes a link down.
    pub up: bool,
    /// IPv4 rp_filter of the link (IFLA_AF_SPEC, so that it works where /proc/sys is read-only).
    pub rp_filter: Option<u8>,
    /// It gets no IPv6 address of its own making when it comes up (IN6_ADDR_GEN_MODE_NONE). Refused by a link without IPv6.
    pub no_ipv6_address: bool,
}

impl LinkSet {
    /// Changes nothing yet.
    #[must_use]
    pub fn of(link: LinkRef) -> Self {
        Self {
            link,
            mtu: None,
            mac: None,
            group: None,
            alias: None,
            up: false,
            rp_filter: None,
            no_ipv6_address: false,
        }
    }
}

impl fmt::Display for LinkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_link_part = self.mtu.is_some()
            || self.mac.is_some()
            || self.group.is_some()
            || self.alias.is_some()
            || self.no_ipv6_address
            || self.up;
        if has_link_part {
            write!(f, "ip link set dev {}", self.link)?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(group) = self.group {
            write!(f, " group {group}")?;
        }
        if let Some(alias) = &self.alias {
            write!(f, " alias '{alias}'")?;
        }
        if self.no_ipv6_address {
            f.write_str(" addrgenmode none")?;
        }
        if self.up {
            f.write_str(" up")?;
        }
        if let Some(rp_filter) = self.rp_filter {
            let separator = if has_link_part { "\n" } else { "" };
            write!(f, "{separator}sysctl -w net.ipv4.conf.{}.rp_filter={rp_filter}", self.link)?;
        }
        Ok(())
    }
}

/// A file below /proc/sys, of the namespace that the writer is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below /proc/sys, with slashes.
    pub path: String,
    /// What it must hold.
    pub value: String,
}

impl Sysctl {
    /// The setting's own name, without where it is.
    #[must_use]
    pub fn key(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl -w {}={}", self.path.replace('/', "."), self.value)
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Change a link.
    LinkSet(LinkSet),
    /// Add an address; there already is fine.
    AddressAdd(Address),
    /// Remove an address.
    AddressDelete(Address),
    /// Add a route where there must be none to that destination.
    RouteAdd(Route),
    /// Add a route, in place of another to that destination if there is one.
    RouteReplace(Route),
    /// Remove a route.
    RouteDelete(Route),
    /// Add a rule; there already is fine.
    RuleAdd(Rule),
    /// Remove a rule, whoever made it.
    RuleDelete(Rule),
    /// Remove a rule that carries our protocol.
    OwnRuleDelete(Rule),
    /// Set a permanent neighbour.
    NeighbourSet(Neighbour),
    /// Remove a neighbour.
    NeighbourDelete(Neighbour),
    /// Read, and write if it differs.
    Sysctl(Sysctl),
    /// Make our nft table equal to this one.
    NftReplace(NftTable),
    /// Replace all elements of the sets in it, rules and counters untouched; it has no chains.
    NftSetReplace(NftTable),
    /// Delete our nft table of a family, by name.
    NftDelete(Family, &'static str),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkSet(set) => fmt::Display::fmt(set, f),
            Self::AddressAdd(address) => write!(f, "ip addr add {address}"),
            Self::AddressDelete(address) => write!(f, "ip addr del {} dev {}", address.address, address.link),
            Self::RouteAdd(route) => write!(f, "{} route add {route}", route.family().ip()),
            Self::RouteReplace(route) => write!(f, "{} route replace {route}", route.family().ip()),
            Self::RouteDelete(route) => write!(f, "{} route del {route}", route.family().ip()),
            Self::RuleAdd(rule) => write!(f, "{} rule add {rule} protocol {}", rule.family.ip(), ids::PROTOCOL),
            Self::RuleDelete(rule) => write!(f, "{} rule del {rule}", rule.family.ip()),
            Self::OwnRuleDelete(rule) => write!(f, "{} rule del {rule} protocol {}", rule.family.ip(), ids::PROTOCOL),
            Self::NeighbourSet(neighbour) => write!(f, "ip neigh replace {neighbour}"),
            Self::NeighbourDelete(neighbour) => write!(f, "ip neigh del {} dev {}", neighbour.address, neighbour.link),
            Self::Sysctl(sysctl) => fmt::Display::fmt(sysctl, f),
            Self::NftReplace(table) => write!(f, "nft -f - <<'EOF'\n{}EOF", table.transaction()),
            Self::NftDelete(family, table) => write!(f, "nft delete table {} {table}", family_text(*family)),
            Self::NftSetReplace(table) => write!(f, "nft -f - <<'EOF'\n{}EOF", table.set_transaction()),
        }
    }
}

/// Writes in the node's namespace, in order. Prints as a shell script, one command a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The writes.
    pub ops: Vec<Op>,
}

impl Plan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// MACs by which links are named, in order of appearance.
    fn macs(&self) -> Vec<MacAddr> {
        let mut macs = Vec::new();
        for op in &self.ops {
            if let Some(LinkRef::Mac(mac)) = op.link()
                && !macs.contains(mac)
            {
                macs.push(*mac);
            }
        }
        macs
    }
}

impl Op {
    /// The link it is about, if it is about one.
    #[must_use]
    pub fn link(&self) -> Option<&LinkRef> {
        match self {
            Self::LinkSet(set) => Some(&set.link),
            Self::AddressAdd(address) | Self::AddressDelete(address) => Some(&address.link),
            Self::RouteAdd(route) | Self::RouteReplace(route) | Self::RouteDelete(route) => Some(&route.link),
            Self::NeighbourSet(neighbour) | Self::NeighbourDelete(neighbour) => Some(&neighbour.link),
            Self::RuleAdd(_)
            | Self::RuleDelete(_)
            | Self::OwnRuleDelete(_)
            | Self::Sysctl(_)
            | Self::NftReplace(_)
            | Self::NftSetReplace(_)
            | Self::NftDelete(..) => None,
        }
    }
}

impl Op {
    /// The same, to be changed.
    pub fn link_mut(&mut self) -> Option<&mut LinkRef> {
        match self {
            Self::LinkSet(set) => Some(&mut set.link),
            Self::AddressAdd(address) | Self::AddressDelete(address) => Some(&mut address.link),
            Self::RouteAdd(route) | Self::RouteReplace(route) | Self::RouteDelete(route) => Some(&mut route.link),
            Self::NeighbourSet(neighbour) | Self::NeighbourDelete(neighbour) => Some(&mut neighbour.link),
            Self::RuleAdd(_)
            | Self::RuleDelete(_)
            | Self::OwnRuleDelete(_)
            | Self::Sysctl(_)
            | Self::NftReplace(_)
            | Self::NftSetReplace(_)
            | Self::NftDelete(..) => None,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mac in self.macs() {
            let variable = LinkRef::Mac(mac).to_string();
            let variable = variable.trim_start_matches('$');
            writeln!(f, r"{variable}=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* {mac} .*/\1/p' | head -n1)")?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
