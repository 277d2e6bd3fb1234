// SPDX-License-Identifier: Apache-2.0
//! Operations of a plan as rtnetlink messages, and which refusals of each are as good as success.
//!
//! Links are resolved to indexes by the caller: a name may come to mean another link between two messages, an index
//! never does.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope as KernelScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rustix::io::Errno;

use super::Request;
use super::rtnl::RouteNetlinkMessage;
use crate::apply::ApplyError;
use crate::plan::{
    Address, Family, LinkRef, LinkSet, Neighbour, Op, Route, RouteScope, RouteTable, Rule, VethPair, ids,
};

/// IFLA_IFALIAS (`include/uapi/linux/if_link.h`). The typed attribute appends a NUL that the kernel would count.
const IFLA_IFALIAS: u16 = 20;

/// The request for an operation. `index` resolves the operation's link.
pub(crate) fn request(
    op: &Op,
    index: impl Fn(&LinkRef) -> Result<u32, ApplyError>,
) -> Result<Request<RouteNetlinkMessage>, ApplyError> {
    let (message, flags) = match op {
        Op::LinkSet(set) => (RouteNetlinkMessage::SetLink(link_set(set, index(&set.link)?)), 0),
        Op::AddressAdd(address) => (
            RouteNetlinkMessage::NewAddress(address_message(address, index(&address.link)?)),
            NLM_F_CREATE | NLM_F_EXCL,
        ),
        Op::AddressDelete(address) => {
            (RouteNetlinkMessage::DelAddress(address_message(address, index(&address.link)?)), 0)
        }
        Op::RouteAdd(route) => {
            (RouteNetlinkMessage::NewRoute(new_route(route, index(&route.link)?)), NLM_F_CREATE | NLM_F_EXCL)
        }
        Op::RouteReplace(route) => {
            (RouteNetlinkMessage::NewRoute(new_route(route, index(&route.link)?)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Op::RouteDelete(route) => (RouteNetlinkMessage::DelRoute(old_route(route, index(&route.link)?)), 0),
        Op::RuleAdd(rule) => (RouteNetlinkMessage::NewRule(own_rule(rule)), NLM_F_CREATE | NLM_F_EXCL),
        Op::RuleDelete(rule) => (RouteNetlinkMessage::DelRule(rule_message(rule)), 0),
        Op::OwnRuleDelete(rule) => (RouteNetlinkMessage::DelRule(own_rule(rule)), 0),
        Op::NeighbourSet(neighbour) => (
            RouteNetlinkMessage::NewNeighbour(new_neighbour(neighbour, index(&neighbour.link)?)),
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
        Op::NeighbourDelete(neighbour) => {
            (RouteNetlinkMessage::DelNeighbour(neighbour_message(neighbour, index(&neighbour.link)?)), 0)
        }
        Op::Sysctl(_) | Op::NftReplace(_) | Op::NftSetReplace(_) | Op::NftDelete(..) => {
            return Err(ApplyError::Invalid { reason: format!("`{op}` is no rtnetlink operation") });
        }
    };
    Ok(Request { message, flags, doing: op.to_string() })
}

/// Whether a refusal means that things are as wanted already.
pub(crate) fn is_tolerable(op: &Op, errno: i32) -> bool {
    let tolerable: &[Errno] = match op {
        Op::AddressAdd(_) | Op::RuleAdd(_) => &[Errno::EXIST],
        Op::AddressDelete(_) => &[Errno::ADDRNOTAVAIL, Errno::NODEV],
        Op::RouteDelete(_) => &[Errno::SRCH, Errno::NODEV, Errno::NOENT],
        Op::RuleDelete(_) | Op::OwnRuleDelete(_) => &[Errno::NOENT, Errno::SRCH],
        Op::NeighbourDelete(_) => &[Errno::NOENT, Errno::NODEV],
        _ => &[],
    };
    tolerable.iter().any(|known| known.raw_os_error() == errno)
}

/// The kernel's word for a family.
pub(super) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Makes both ends of a veth; the kernel echoes the host end, which carries both indexes (Linux 6.2).
pub(crate) fn veth(pair: &VethPair, pod_netns: BorrowedFd<'_>) -> Request<RouteNetlinkMessage> {
    let end = |name: &str, mac: &[u8; 6]| {
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            // One queue asked for: otherwise the kernel registers one for each possible CPU and cuts them to one, with
            // an RCU grace period under RTNL for each end (veth_init_queues, drivers/net/veth.c).
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
        ]
    };
    let mut peer = LinkMessage::default();
    peer.attributes = end(pair.pod.as_str(), &pair.pod_mac.0);
    peer.attributes.push(LinkAttribute::NetNsFd(pod_netns.as_raw_fd()));
    let mut message = LinkMessage::default();
    message.attributes = end(pair.host.as_str(), &pair.host_mac.0);
    message.attributes.push(LinkAttribute::Group(pair.group));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
        doing: format!("ip link add {pair}"),
    }
}

/// Deletes a link by index; waits for a grace period in the kernel.
pub(crate) fn delete_link(index: u32, name: &str) -> Request<RouteNetlinkMessage> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0, doing: format!("ip link del dev {name}") }
}

/// Deletes every link of a group.
pub(crate) fn delete_group(group: u32) -> Request<RouteNetlinkMessage> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::Group(group)];
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0, doing: format!("ip link del group {group}") }
}

fn link_set(set: &LinkSet, index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if set.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes.extend(set.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(set.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(set.group.map(LinkAttribute::Group));
    message.attributes.extend(
        set.alias
            .as_ref()
            .map(|alias| LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, alias.to_string().into_bytes()))),
    );
    let of_ipv4 = set.rp_filter.map(|value| {
        let mut settings = InetDevConf::default();
        settings.rp_filter = i32::from(value);
        AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(settings)])
    });
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let of_families: Vec<_> = of_ipv4.into_iter().chain(set.no_ipv6_address.then_some(no_address)).collect();
    if !of_families.is_empty() {
        message.attributes.push(LinkAttribute::AfSpecUnspec(of_families));
    }
    message
}

fn address_message(address: &Address, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    let ip = address.address.addr();
    message.header.family = AddressFamily::from(ip);
    message.header.prefix_len = address.address.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Protocol(AddressProtocol::from(ids::PROTOCOL)),
    ];
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, address.without_prefix_route);
    flags.set(AddressFlags::Nodad, ip.is_ipv6());
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    message
}

fn route_message(route: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::from(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::from(route.protocol);
    if route.destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.push(RouteAttribute::Table(route.table.0));
    message
}

fn new_route(route: &Route, index: u32) -> RouteMessage {
    let mut message = route_message(route, index);
    message.header.kind = if route.table == RouteTable::LOCAL { RouteType::Local } else { RouteType::Unicast };
    message.header.scope = match route.scope {
        RouteScope::Universe => KernelScope::Universe,
        RouteScope::Link => KernelScope::Link,
    };
    message
}

/// A removal: scope `nowhere` and type 0 match any (`fib_table_delete`, `net/ipv4/fib_trie.c`), and so does protocol 0.
fn old_route(route: &Route, index: u32) -> RouteMessage {
    let mut message = route_message(route, index);
    message.header.scope = KernelScope::NoWhere;
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.family);
    message.header.action = RuleAction::ToTable;
    let prefix_len = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let address = |net: Option<IpNet>| -> Option<IpAddr> { net.map(|net| net.addr()) };
    message.header.src_len = prefix_len(rule.from);
    message.header.dst_len = prefix_len(rule.to);
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.extend(address(rule.from).map(RuleAttribute::Source));
    message.attributes.extend(address(rule.to).map(RuleAttribute::Destination));
    if let Some(mark) = rule.mark {
        message.attributes.extend([RuleAttribute::FwMark(mark.value), RuleAttribute::FwMask(mark.mask)]);
    }
    message.attributes.extend(rule.table.map(|table| RuleAttribute::Table(table.0)));
    message
}

fn own_rule(rule: &Rule) -> RuleMessage {
    let mut message = rule_message(rule);
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::from(ids::PROTOCOL)));
    message
}

fn neighbour_message(neighbour: &Neighbour, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::from(neighbour.address);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(neighbour.address.into())];
    message
}

fn new_neighbour(neighbour: &Neighbour, index: u32) -> NeighbourMessage {
    let mut message = neighbour_message(neighbour, index);
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(ids::PROTOCOL)));
    message
}
