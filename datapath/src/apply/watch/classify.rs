// SPDX-License-Identifier: Apache-2.0
//! Which notifications may mean that something of ours was changed by another hand. Works on the bytes: what a parser makes
//! of others' rules, routes and tunnels must not keep us from hearing of our own.
//!
//! | notification | counts when |
//! |---|---|
//! | link | one that is known goes down, or its MAC, MTU or name changes; an ENI's carrier too, and the group of an ENI or a live pod. Never one that is in the dead group then |
//! | address | added by others, removed; not on `lo` nor on host veths |
//! | route | removed: ours, or to one address in a table of pods; added: the kernel's of IPv4 in main, or one in another's place |
//! | rule | removed: ours, or of our priorities |
//! | neighbour | ours is removed, or a host veth's has another MAC than its pod |
//! | settings | IPv4: rp_filter or forwarding of all links or of one that is no host veth. IPv6: forwarding of all links |
//! | nft | anything in our table; of host ports' the table, chains, sets and rules removed (elements are the plugin's all day) |
//!
//! Numbers are those of `include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,fib_rules,netconf}.h` and
//! `netfilter/nf_tables.h`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::apply::netlink::link_filter::walk;
use crate::apply::netlink::read::Link;
use crate::plan::repair::Object;
use crate::plan::{MacAddr, RouteTable, VethAlias, hostport, ids};

const NLMSG_HEADER: usize = 16;
const NLM_F_REPLACE: u16 = 0x100;

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const DEL_NEIGHBOUR: u16 = 29;
const DEL_RULE: u16 = 33;
const NEW_NETCONF: u16 = 80;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;
const LOOPBACK_INDEX: u32 = 1;
const TABLE_MAIN: u32 = RouteTable::MAIN.0;
/// Where pods have their routes, by layout.
const TABLES_OF_PODS: [u32; 2] = [TABLE_MAIN, ids::POD_TABLE.0];
const PROTOCOL_KERNEL: u8 = 2;
const UNICAST: u8 = 1;
const PERMANENT: u16 = 0x80;

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A rule, a route or a neighbour of one address.
    Address(IpAddr),
    /// Something else of this kind.
    Object(Object),
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    kind: u16,
    flags: u16,
    /// Port of the socket whose request led to it; 0: the kernel's own doing.
    pub(super) port: u32,
    body: &'a [u8],
}

/// The messages of a datagram, up to the first that is none.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(word(rest, 0)?).ok()?;
        let body = rest.get(NLMSG_HEADER..length)?;
        let message = Message { kind: half(rest, 4)?, flags: half(rest, 6)?, port: word(rest, 12)?, body };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn attribute(body: &[u8], header: usize, kind: u16) -> Option<&[u8]> {
    walk(body.get(header..)?).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into());
    v4().or_else(|| <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()))
}

fn mac(value: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(value).ok().map(MacAddr)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    mac: Option<MacAddr>,
    mtu: u32,
    up: bool,
    carrier: bool,
    group: u32,
    /// Whose host veth it is.
    alias: Option<VethAlias>,
}

impl Seen {
    fn is_dead(&self) -> bool {
        self.group == ids::DEAD_GROUP
    }

    /// Whether its group says where packets go. While an ADD is making a link it changes by the plugin's own hand.
    fn has_group_of_ours(&self) -> bool {
        let of_pod = self.alias.is_some() && self.group != ids::MAKING_GROUP;
        of_pod || ids::is_eni_link_group(self.group)
    }
}

/// Links that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkNews {
    /// MACs and names of links that are new or have another MAC than before, by index. Some may have gone again.
    pub appeared: BTreeMap<u32, (MacAddr, String)>,
    /// Names of links that went.
    pub gone: BTreeSet<String>,
    /// Others may have gone unheard: this is the start, or notifications were lost.
    pub anew: bool,
}

impl LinkNews {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.gone.is_empty() && !self.anew
    }
}

/// Links by index: the kernel repeats RTM_NEWLINK at every change.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    seen: HashMap<u32, Seen>,
    /// Since it was taken last.
    pub(super) news: LinkNews,
}

impl Links {
    /// As listed, and all are new. The carrier is not listed: the first notification of it counts as a change.
    pub(super) fn of(links: &[Link]) -> Self {
        let seen = |link: &Link| Seen {
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            carrier: link.up,
            group: link.group,
            alias: link.alias(),
        };
        let named = |link: &Link| Some((link.index, (link.mac?, link.name.clone())));
        let appeared = links.iter().filter_map(named).collect();
        let news = LinkNews { appeared, gone: BTreeSet::new(), anew: true };
        Self { seen: links.iter().map(|link| (link.index, seen(link))).collect(), news }
    }

    fn is_host_veth(&self, index: u32) -> bool {
        self.seen.get(&index).is_some_and(|seen| seen.is_dead() || seen.alias.is_some())
    }

    /// What an rtnetlink notification means.
    pub(super) fn route_change(&mut self, message: &Message<'_>) -> Option<Change> {
        let body = message.body;
        match message.kind {
            NEW_LINK => self.link(body),
            // A port that leaves its bridge is told under the bridge's own family.
            DEL_LINK if *body.first()? != 0 => None,
            DEL_LINK => {
                let seen = self.seen.remove(&word(body, 4)?)?;
                self.news.gone.insert(seen.name);
                None
            }
            NEW_ADDRESS | DEL_ADDRESS => self.address(message),
            NEW_ROUTE | DEL_ROUTE => self.named(word(attribute(body, 12, 4).unwrap_or_default(), 0), route(message)?),
            NEW_NEIGHBOUR | DEL_NEIGHBOUR => self.named(word(body, 4), self.neighbour(message)?),
            DEL_RULE => rule(body),
            NEW_NETCONF => self.setting(body),
            _ => None,
        }
    }

    fn link(&mut self, body: &[u8]) -> Option<Change> {
        const HEADER: usize = 16;
        // The bridge reports its ports under its own family.
        if *body.first()? != 0 {
            return None;
        }
        let (index, flags) = (word(body, 4)?, word(body, 8)?);
        let find = |kind| attribute(body, HEADER, kind);
        let alias = find(20).and_then(|alias| text(alias).parse::<VethAlias>().ok());
        let now = Seen {
            name: find(3).map(text).unwrap_or_default(),
            mac: find(1).and_then(mac),
            mtu: find(4).and_then(|value| word(value, 0)).unwrap_or(0),
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            group: find(27).and_then(|value| word(value, 0)).unwrap_or(ids::DEFAULT_GROUP),
            alias,
        };
        let before = self.seen.insert(index, now.clone());
        if let Some(mac) = now.mac.filter(|_| before.as_ref().is_none_or(|before| before.mac != now.mac)) {
            self.news.appeared.insert(index, (mac, now.name.clone()));
        }
        let before = before?;
        let fell = before.up && !now.up;
        let differs = (&before.name, before.mac, before.mtu) != (&now.name, now.mac, now.mtu);
        let carrier = before.carrier != now.carrier && now.alias.is_none();
        let regrouped = before.has_group_of_ours() && before.group != now.group;
        (!now.is_dead() && (fell || differs || carrier || regrouped)).then_some(Change::Object(Object::Link))
    }

    fn address(&self, message: &Message<'_>) -> Option<Change> {
        const HEADER: usize = 8;
        let index = word(message.body, 4)?;
        let protocol = attribute(message.body, HEADER, 11).and_then(|value| value.first().copied());
        let ours_comes = message.kind == NEW_ADDRESS && protocol == Some(ids::PROTOCOL);
        let elsewhere = index == LOOPBACK_INDEX || self.is_host_veth(index);
        (!ours_comes && !elsewhere).then_some(Change::Object(Object::Address))
    }

    fn neighbour(&self, message: &Message<'_>) -> Option<Change> {
        const HEADER: usize = 12;
        let body = message.body;
        let (index, state) = (word(body, 4)?, half(body, 8)?);
        let found = Change::Address(address(attribute(body, HEADER, 1)?)?);
        let protocol = attribute(body, HEADER, 12).and_then(|value| value.first().copied());
        if message.kind == DEL_NEIGHBOUR {
            return (protocol == Some(ids::PROTOCOL)).then_some(found);
        }
        // A change by others keeps our protocol on it: the MAC tells.
        let owner = &self.seen.get(&index).filter(|seen| !seen.is_dead())?.alias.as_ref()?.owner;
        let is_pods = attribute(body, HEADER, 2).and_then(mac) == Some(MacAddr::of_pod_end(owner));
        (state != PERMANENT || !is_pods).then_some(found)
    }

    /// A change by the name under which whoever listens knows the pod: only an alias tells whose an egress address is. Of a pod that is
    /// dead or gone it was a DEL. What was bent tells of another link than the pod's: then all are asked.
    fn named(&self, link: Option<u32>, change: Change) -> Option<Change> {
        let Change::Address(address) = change else { return Some(change) };
        if !ids::is_egress(address) {
            return Some(change);
        }
        let addresses_of = |seen: &Seen| {
            let alias = seen.alias.as_ref()?;
            alias.addresses.contains(address).then_some((seen.is_dead(), alias.addresses))
        };
        let told = link.and_then(|index| self.seen.get(&index)).and_then(addresses_of);
        let mut all = self.seen.values().filter_map(addresses_of);
        let (is_dead, addresses) = told.or_else(|| all.find(|(is_dead, _)| !is_dead))?;
        addresses.of_vpc().iter().next().filter(|_| !is_dead).map(Change::Address)
    }

    fn setting(&self, body: &[u8]) -> Option<Change> {
        /// NETCONFA_IFINDEX_ALL.
        const ALL: u32 = u32::MAX;
        const HEADER: usize = 4;
        let index = word(attribute(body, HEADER, 1)?, 0)?;
        // A new link tells all its settings at once.
        let (forwarding, rp_filter) = (attribute(body, HEADER, 2), attribute(body, HEADER, 3));
        let one = forwarding.is_some() != rp_filter.is_some();
        // Of IPv6 a new link tells forwarding alone.
        let of_link = body.first() == Some(&AF_INET) && self.seen.contains_key(&index) && !self.is_host_veth(index);
        let counts = index == ALL || of_link;
        (one && counts).then_some(Change::Object(Object::Sysctl))
    }
}

fn route(message: &Message<'_>) -> Option<Change> {
    const HEADER: usize = 12;
    let body = message.body;
    let [family, length, _, _, table, protocol, _, kind] = *body.first_chunk::<8>()?;
    let table = attribute(body, HEADER, 15).and_then(|value| word(value, 0)).unwrap_or(table.into());
    let destination = attribute(body, HEADER, 1).and_then(address);
    let is_one = |address: &IpAddr| length == if address.is_ipv4() { 32 } else { 128 };
    let is_of_pods = TABLES_OF_PODS.contains(&table) && attribute(body, HEADER, 5).is_none();
    let of_pod = destination.filter(is_one).filter(|_| is_of_pods);
    let replaces = message.flags & NLM_F_REPLACE != 0;
    let ours = protocol == ids::PROTOCOL;
    match (message.kind, of_pod) {
        (DEL_ROUTE, Some(pod)) => Some(Change::Address(pod)),
        (DEL_ROUTE, None) if ours => Some(Change::Object(Object::Route)),
        (NEW_ROUTE, Some(pod)) if !ours && replaces => Some(Change::Address(pod)),
        (NEW_ROUTE, _) if ours || kind != UNICAST => None,
        // Of IPv6 there is one for every link that comes up.
        (NEW_ROUTE, _) if protocol == PROTOCOL_KERNEL && table == TABLE_MAIN && family == AF_INET => {
            Some(Change::Object(Object::Route))
        }
        (NEW_ROUTE, _) if replaces && table != TABLE_MAIN => Some(Change::Object(Object::Route)),
        _ => None,
    }
}

fn rule(body: &[u8]) -> Option<Change> {
    const HEADER: usize = 12;
    let [_, to_length, from_length, ..] = *body.first_chunk::<4>()?;
    let priority = attribute(body, HEADER, 6).and_then(|value| word(value, 0)).unwrap_or(0);
    let protocol = attribute(body, HEADER, 21).and_then(|value| value.first().copied());
    let side = |kind, length| attribute(body, HEADER, kind).and_then(address).filter(|_| length == 32 || length == 128);
    let of_pod = match priority {
        ids::PRIORITY_TO_POD => side(1, to_length),
        ids::PRIORITY_FROM_POD => side(2, from_length),
        _ => None,
    };
    let known = [ids::PRIORITY_MARK, ids::PRIORITY_FROM_ENI].contains(&priority) || protocol == Some(ids::PROTOCOL);
    of_pod.map(Change::Address).or(known.then_some(Change::Object(Object::Rule)))
}

/// What an nf_tables notification means. Every kind of object names its table first, but the generation's.
pub(super) fn nft_change(message: &Message<'_>) -> Option<Change> {
    const HEADER: usize = 4;
    const TABLE: u16 = 1;
    const GENERATION: u16 = 15;
    /// NFT_MSG_DELTABLE, _DELCHAIN, _DELRULE, _DELSET.
    const REMOVALS: [u16; 4] = [2, 5, 8, 11];
    let kind = message.kind & 0xff;
    let table = text(attribute(message.body, HEADER, TABLE)?);
    let ours = kind != GENERATION && table == ids::NFT_TABLE;
    let ports = REMOVALS.contains(&kind) && table == hostport::TABLE;
    let object = if ours { Object::NftTable } else { Object::HostPort };
    (ours || ports).then_some(Change::Object(object))
}
