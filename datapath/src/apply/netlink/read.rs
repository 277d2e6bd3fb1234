// SPDX-License-Identifier: Apache-2.0
//! Reads of the kernel's network as the plan's types. Lists are asked for with the kernel's own filters where it has
//! them; what cannot be one of ours (metrics, several next hops, unreachable, another family) is left out here, and only
//! here.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope as KernelScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rustix::io::Errno;

use super::message::family as kernel_family;
use super::rtnl::RouteNetlinkMessage;
use super::{DUMP_ATTEMPTS, Request, Socket, Watch};
use crate::apply::ApplyError;
use crate::plan::{
    Address, Family, LinkName, LinkRef, MacAddr, Mark, Neighbour, Route, RouteScope, RouteTable, Rule, VethAlias,
};

/// A link as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) group: u32,
    /// The alias as it is.
    pub(crate) alias_text: Option<String>,
    /// `veth`, `vlan`, …; `None` for a network card and `lo`.
    pub(crate) kind: Option<String>,
    /// IFLA_LINK: for a veth its peer's index in the peer's namespace.
    pub(crate) peer: Option<u32>,
    /// rp_filter of the link; `None` when it has no IPv4.
    pub(crate) rp_filter: Option<u8>,
    /// What it does as a host of IPv6; `None` when it has none.
    pub(crate) ipv6: Option<Ipv6Settings>,
}

/// Settings of a link below `net/ipv6/conf`, as the kernel tells them with the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6Settings {
    disable_ipv6: i32,
    accept_ra: i32,
    accept_redirects: i32,
    forwarding: i32,
}

impl Ipv6Settings {
    /// Whether the link does IPv6 at all.
    pub(crate) fn is_on(self) -> bool {
        self.disable_ipv6 == 0
    }

    /// The text that the setting's file would have; `None`: not one of these.
    pub(crate) fn value(self, key: &str) -> Option<String> {
        let value = match key {
            "disable_ipv6" => self.disable_ipv6,
            "accept_ra" => self.accept_ra,
            "accept_redirects" => self.accept_redirects,
            "forwarding" => self.forwarding,
            _ => return None,
        };
        Some(value.to_string())
    }
}

impl Link {
    /// The alias, if it is one of ours.
    pub(crate) fn alias(&self) -> Option<VethAlias> {
        self.alias_text.as_ref()?.parse().ok()
    }

    /// Whether it is one end of a veth.
    pub(crate) fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }

    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            group: 0,
            alias_text: None,
            kind: None,
            peer: None,
            rp_filter: None,
            ipv6: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::IfAlias(alias) => link.alias_text = Some(alias.clone()),
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind_text),
                LinkAttribute::AfSpecUnspec(specs) => {
                    link.rp_filter = specs.iter().find_map(rp_filter);
                    link.ipv6 = specs.iter().find_map(ipv6);
                }
                _ => {}
            }
        }
        link
    }
}

fn kind_text(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn rp_filter(spec: &AfSpecUnspec) -> Option<u8> {
    let AfSpecUnspec::Inet(settings) = spec else { return None };
    settings.iter().find_map(|setting| match setting {
        AfSpecInet::DevConf(values) => u8::try_from(values.rp_filter).ok(),
        _ => None,
    })
}

fn ipv6(spec: &AfSpecUnspec) -> Option<Ipv6Settings> {
    let AfSpecUnspec::Inet6(settings) = spec else { return None };
    settings.iter().find_map(|setting| match setting {
        AfSpecInet6::DevConf(values) => Some(Ipv6Settings {
            disable_ipv6: values.disable_ipv6,
            accept_ra: values.accept_ra,
            accept_redirects: values.accept_redirects,
            forwarding: values.forwarding,
        }),
        _ => None,
    })
}

/// The link of an answer to a request that has one.
pub(crate) fn link_of(answer: Option<RouteNetlinkMessage>) -> Option<Link> {
    match answer {
        Some(RouteNetlinkMessage::NewLink(message)) => Some(Link::of(&message)),
        _ => None,
    }
}

/// One link by name; `None`: there is none.
pub(crate) fn link_by_name(socket: &mut Socket, name: &LinkName) -> Result<Option<Link>, ApplyError> {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    one_link(socket, message, name.as_str())
}

/// One link by index; `None`: there is none.
pub(crate) fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, ApplyError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    one_link(socket, message, &format!("if{index}"))
}

fn one_link(socket: &mut Socket, message: LinkMessage, name: &str) -> Result<Option<Link>, ApplyError> {
    let message = RouteNetlinkMessage::GetLink(message);
    match socket.request(Request { message, flags: 0, doing: format!("ip link show dev {name}") }) {
        Ok(answer) => Ok(link_of(answer)),
        Err(error) if error.errno() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links. Quadratic in veths for the kernel: not for the ADD path.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, ApplyError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    let answers = socket.dump(RouteNetlinkMessage::GetLink(message), "ip link show")?;
    Ok(answers.into_iter().filter_map(|answer| link_of(Some(answer))).collect())
}

/// Global addresses with the index of their link and their protocol; of one link or of all.
pub(crate) fn addresses(
    socket: &mut Socket,
    family: Family,
    index: Option<u32>,
) -> Result<Vec<(u32, Address, u8)>, ApplyError> {
    let mut message = AddressMessage::default();
    message.header.family = kernel_family(family);
    message.header.index = index.unwrap_or(0);
    let doing = format!("ip {} addr show", option(family));
    let answers = socket.dump(RouteNetlinkMessage::GetAddress(message), &doing)?;
    Ok(answers.iter().filter_map(address_of).filter(|found| index.is_none_or(|index| index == found.0)).collect())
}

fn address_of(answer: &RouteNetlinkMessage) -> Option<(u32, Address, u8)> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut local, mut flags, mut protocol) = (None, AddressFlags::empty(), 0);
    for attribute in &message.attributes {
        match attribute {
            // An IPv6 address without a peer is told as IFA_ADDRESS only.
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address @ IpAddr::V6(_)) if local.is_none() => local = Some(*address),
            AddressAttribute::Flags(found) => flags = *found,
            AddressAttribute::Protocol(found) => protocol = <u8 as From<AddressProtocol>>::from(*found),
            _ => {}
        }
    }
    let index = message.header.index;
    let address = IpNet::new(local?, message.header.prefix_len).ok()?;
    let without_prefix_route = flags.contains(AddressFlags::Noprefixroute);
    Some((index, Address { address, link: LinkRef::Index(index), without_prefix_route }, protocol))
}

/// What the kernel is asked to filter routes by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteFilter {
    pub(crate) family: Family,
    pub(crate) table: Option<RouteTable>,
    pub(crate) protocol: Option<u8>,
    pub(crate) link: Option<u32>,
}

/// Unicast routes of a family with one next hop and no metric of somebody's; links by index. A table that does not exist has none.
pub(crate) fn routes(socket: &mut Socket, filter: RouteFilter) -> Result<Vec<Route>, ApplyError> {
    let mut message = RouteMessage::default();
    message.header.address_family = kernel_family(filter.family);
    message.header.protocol = RouteProtocol::from(filter.protocol.unwrap_or(0));
    message.attributes.extend(filter.table.map(|table| RouteAttribute::Table(table.0)));
    message.attributes.extend(filter.link.map(RouteAttribute::Oif));
    let table = filter.table.map_or_else(|| "all".to_owned(), |table| table.to_string());
    match socket
        .dump(RouteNetlinkMessage::GetRoute(message), &format!("ip {} route show table {table}", option(filter.family)))
    {
        Ok(answers) => Ok(answers.iter().filter_map(route_of).filter(|route| filter.passes(route)).collect()),
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl RouteFilter {
    /// Routes of a family's table.
    pub(crate) fn of(family: Family, table: RouteTable) -> Self {
        Self { family, table: Some(table), ..Self::default() }
    }

    /// The same filter here: a kernel that ignored one would otherwise give us others' routes.
    fn passes(&self, route: &Route) -> bool {
        self.table.is_none_or(|table| table == route.table)
            && self.protocol.is_none_or(|protocol| protocol == route.protocol)
            && self.link.is_none_or(|link| LinkRef::Index(link) == route.link)
    }
}

fn route_of(answer: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let family = match message.header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let scope = match message.header.scope {
        KernelScope::Universe => RouteScope::Universe,
        KernelScope::Link => RouteScope::Link,
        _ => return None,
    };
    let (mut destination, mut via, mut link, mut table) =
        (family.unspecified(), None, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => via = Some(ip(address)?),
            RouteAttribute::Oif(index) => link = Some(LinkRef::Index(*index)),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(metric) if *metric != no_metric(family) => return None,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    let protocol = u8::from(message.header.protocol);
    Some(Route { destination, via, link: link?, scope, table: RouteTable(table), protocol })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The metric of a route that was made without one: IP6_RT_PRIO_USER (`include/uapi/linux/ipv6_route.h`).
fn no_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// The option of `ip` for a family.
fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

/// The multicast group that hears of a family's rules (RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE), and the index of `lo`.
fn rule_group(family: Family) -> u32 {
    match family {
        Family::V4 => 8,
        Family::V6 => 19,
    }
}
/// The route that the node's own packets to an address would take, by all rules; `None`: they are local, or go nowhere.
pub(crate) fn route_to(socket: &mut Socket, address: IpAddr) -> Result<Option<Route>, ApplyError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::from(address);
    message.header.destination_prefix_length = IpNet::from(address).max_prefix_len();
    // IPv4's answer says main, whatever the table, without the second flag (`inet_rtm_getroute`, net/ipv4/route.c); IPv6
    // refuses it (`inet6_rtm_valid_getroute_req`, net/ipv6/route.c) and says the table anyway.
    message.header.flags = RouteFlags::FibMatch;
    if address.is_ipv4() {
        message.header.flags |= RouteFlags::LookupTable;
    }
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address))];
    let doing = format!("ip route get fibmatch {address}");
    let message = RouteNetlinkMessage::GetRoute(message);
    match socket.request(Request { message, flags: 0, doing }) {
        Ok(answer) => Ok(answer.as_ref().and_then(route_of)),
        Err(error) if error.errno().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a table has a unicast route; `false` also when there is no such table.
pub(crate) fn has_routes(socket: &mut Socket, family: Family, table: RouteTable) -> Result<bool, ApplyError> {
    Ok(!routes(socket, RouteFilter::of(family, table))?.is_empty())
}

const LOOPBACK_INDEX: u32 = 1;

/// A family's rules that look up a table, with their protocol. Rules with a selector that we never use are left out.
///
/// The kernel resumes a list of rules by position and does not mark it as interrupted (`dump_rules`,
/// `net/core/fib_rules.c`): between two datagrams a rule added at the front doubles one, a removal hides one. So changes
/// are listened for, and a list that was read beside one is read again. A request before the list lets the kernel use
/// its largest datagrams (some 400 rules, hence mostly one); one after it waits for RTNL, so that a change that was
/// under way has been announced.
pub(crate) fn rules(socket: &mut Socket, family: Family) -> Result<Vec<(Rule, u8)>, ApplyError> {
    let doing = format!("ip {} rule show", option(family));
    let mut message = RuleMessage::default();
    message.header.family = kernel_family(family);
    for _ in 0..DUMP_ATTEMPTS {
        let watch = Watch::start(rule_group(family))?;
        link_by_index(socket, LOOPBACK_INDEX)?;
        let answers = match socket.dump(RouteNetlinkMessage::GetRule(message.clone()), &doing) {
            // A kernel that was booted with `ipv6.disable=1` has no such rules.
            Err(error) if error.errno() == Some(Errno::AFNOSUPPORT.raw_os_error()) => return Ok(Vec::new()),
            answers => answers?,
        };
        link_by_index(socket, LOOPBACK_INDEX)?;
        if !watch.has_heard() {
            return Ok(answers.iter().filter_map(|answer| rule_of(answer, family)).collect());
        }
    }
    Err(ApplyError::Interrupted { doing, attempts: DUMP_ATTEMPTS })
}

fn rule_of(answer: &RouteNetlinkMessage, family: Family) -> Option<(Rule, u8)> {
    let RouteNetlinkMessage::NewRule(message) = answer else { return None };
    if message.header.action != RuleAction::ToTable
        || message.header.tos != 0
        || message.header.flags.contains(RuleFlags::Invert)
    {
        return None;
    }
    let table = Some(RouteTable(message.header.table.into()));
    let mut rule = Rule { family, priority: 0, from: None, to: None, mark: None, table };
    let (mut protocol, mut mark, mut mask) = (0, None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => rule.from = IpNet::new(*address, message.header.src_len).ok(),
            RuleAttribute::Destination(address) => rule.to = IpNet::new(*address, message.header.dst_len).ok(),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Table(table) => rule.table = Some(RouteTable(*table)),
            RuleAttribute::Protocol(found) => protocol = u8::from(*found),
            RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::TunId(_) => return None,
            _ => {}
        }
    }
    rule.mark = mark.map(|value| Mark { value, mask });
    Some((rule, protocol))
}

/// Permanent neighbours of a family that carry a protocol.
pub(crate) fn neighbours(socket: &mut Socket, family: Family, protocol: u8) -> Result<Vec<Neighbour>, ApplyError> {
    let all = permanent_neighbours(socket, family)?.into_iter();
    Ok(all.filter(|found| found.protocol == protocol).map(|found| found.neighbour).collect())
}

/// A permanent neighbour as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundNeighbour {
    pub(crate) neighbour: Neighbour,
    pub(crate) protocol: u8,
    /// Since its last change.
    pub(crate) age: Option<Duration>,
}

/// Permanent neighbours of a family, whoever made them.
pub(crate) fn permanent_neighbours(socket: &mut Socket, family: Family) -> Result<Vec<FoundNeighbour>, ApplyError> {
    let mut message = NeighbourMessage::default();
    message.header.family = kernel_family(family);
    let doing = format!("ip {} neigh show", option(family));
    let answers = socket.dump(RouteNetlinkMessage::GetNeighbour(message), &doing)?;
    Ok(answers.iter().filter_map(neighbour_of).collect())
}

/// What the kernel counts times of neighbours in for us (USER_HZ, the same on every machine that EC2 has).
const TICKS_PER_SECOND: u64 = 100;

fn neighbour_of(answer: &RouteNetlinkMessage) -> Option<FoundNeighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac, mut protocol, mut age) = (None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::from(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::from(*found)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
            }
            NeighbourAttribute::Protocol(found) => protocol = u8::from(*found),
            NeighbourAttribute::CacheInfo(info) => {
                age = Some(Duration::from_millis(u64::from(info.updated) * (1_000 / TICKS_PER_SECOND)));
            }
            _ => {}
        }
    }
    let neighbour = Neighbour { address: address?, mac: mac?, link: LinkRef::Index(message.header.ifindex) };
    Some(FoundNeighbour { neighbour, protocol, age })
}

/// Whatever an answer is read as (`apply::fuzzing`).
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(answer: &RouteNetlinkMessage) {
    if let Some(link) = link_of(Some(answer.clone())) {
        assert!(link.alias().is_none_or(|alias| link.alias_text.is_some_and(|text| text.contains(&alias.owner))));
    }
    if let Some((index, address, _)) = address_of(answer) {
        assert_eq!(address.link, LinkRef::Index(index));
    }
    if let Some(route) = route_of(answer) {
        let family = if route.destination.addr().is_ipv4() { Family::V4 } else { Family::V6 };
        assert!(route.destination.prefix_len() <= if family == Family::V4 { 32 } else { 128 }, "{route:?}");
    }
    for family in [Family::V4, Family::V6] {
        rule_of(answer, family);
    }
    neighbour_of(answer);
}
