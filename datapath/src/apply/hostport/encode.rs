// SPDX-License-Identifier: Apache-2.0
//! The host port table ([`crate::plan::hostport`]) as nf_tables messages.
//!
//! Constants: `include/uapi/linux/netfilter/nf_tables.h`; numbers of nft's own types (for its listing only):
//! `include/datatype.h` of nftables.

use std::net::Ipv4Addr;

use crate::apply::netlink::Request;
use crate::apply::netlink::raw::{Message, NESTED, attribute, find, nested, walk};
use crate::plan::hostport::{HostPort, Protocol, TABLE};
use crate::plan::ids::IPVS_LINK;

/// NFNL_SUBSYS_NFTABLES, and it in the upper byte of a type.
const SUBSYSTEM: u16 = 10;
const NFT: u16 = SUBSYSTEM << 8;
/// NFT_MSG_*.
const NEW_TABLE: u16 = NFT;
const GET_TABLE: u16 = NFT | 1;
const DELETE_TABLE: u16 = NFT | 2;
const NEW_CHAIN: u16 = NFT | 3;
const NEW_RULE: u16 = NFT | 6;
const GET_RULE: u16 = NFT | 7;
const NEW_SET: u16 = NFT | 9;
const NEW_ELEMENT: u16 = NFT | 12;
const GET_ELEMENT: u16 = NFT | 13;
const DELETE_ELEMENT: u16 = NFT | 14;
/// AF_INET.
const INET: u8 = 2;
/// NLM_F_CREATE, NLM_F_EXCL, NLM_F_APPEND.
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;
/// Registers: NFT_REG_VERDICT, NFT_REG32_00 to _02.
const VERDICT: u32 = 0;
const R0: u32 = 8;
const R1: u32 = 9;
const R2: u32 = 10;
/// Types of nft: ipv4_addr, inet_proto, inet_service; six bits each in a concatenation.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
/// NFT_SET_MAP.
const MAP: u32 = 8;
/// NFTNL_UDATA_SET_ELEM_COMMENT and NFTNL_UDATA_RULE_COMMENT.
const COMMENT: u8 = 0;

/// A map or set of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    Ports,
    PortsAt,
    Hairpins,
    Services,
}

impl Set {
    pub(super) const ALL: [Self; 4] = [Self::Services, Self::Hairpins, Self::PortsAt, Self::Ports];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::PortsAt => "ports_at",
            Self::Hairpins => "hairpins",
            Self::Services => "services",
        }
    }

    fn types(self) -> &'static [u32] {
        match self {
            Self::Ports => &[PROTOCOL, SERVICE],
            Self::PortsAt => &[ADDRESS, PROTOCOL, SERVICE],
            Self::Hairpins => &[ADDRESS, ADDRESS],
            Self::Services => &[ADDRESS],
        }
    }

    fn is_map(self) -> bool {
        matches!(self, Self::Ports | Self::PortsAt)
    }
}

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: Set,
    pub(super) key: Vec<u8>,
    /// Empty in a set.
    pub(super) data: Vec<u8>,
    pub(super) owner: String,
}

/// Everything of one pod.
pub(super) fn elements(owner: &str, address: Ipv4Addr, ports: &[HostPort]) -> Vec<Element> {
    let word = |bytes: &[u8]| {
        let mut word = bytes.to_vec();
        word.resize(4, 0);
        word
    };
    let ip = address.octets();
    let mut elements: Vec<Element> = ports
        .iter()
        .map(|port| {
            let own = [word(&[port.protocol as u8]), word(&port.host_port.to_be_bytes())].concat();
            let (set, key) = match port.host_address {
                Some(host) => (Set::PortsAt, [host.octets().to_vec(), own].concat()),
                None => (Set::Ports, own),
            };
            let data = [ip.to_vec(), word(&port.pod_port.to_be_bytes())].concat();
            Element { set, key, data, owner: owner.to_owned() }
        })
        .collect();
    elements.push(Element { set: Set::Hairpins, key: [ip, ip].concat(), data: Vec::new(), owner: owner.to_owned() });
    elements
}

/// An address that IPVS answers; nobody's but the table's.
pub(super) fn service(address: Ipv4Addr) -> Element {
    let key = address.octets().to_vec();
    Element { set: Set::Services, key, data: Vec::new(), owner: IPVS_LINK.to_owned() }
}

/// A UDP port that an element opens, and the address of the pod that has it.
pub(super) fn udp(element: &Element) -> Option<(u16, Ipv4Addr)> {
    let own = match element.set {
        Set::Ports => element.key.as_slice(),
        Set::PortsAt => element.key.get(4..)?,
        Set::Hairpins | Set::Services => return None,
    };
    let (&[protocol, _, _, _, high, low, ..], &[a, b, c, d, ..]) = (own, element.data.as_slice()) else { return None };
    (protocol == Protocol::Udp as u8).then(|| (u16::from_be_bytes([high, low]), Ipv4Addr::new(a, b, c, d)))
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn message(kind: u16) -> Message {
    // NFTA_TABLE_NAME, and the table in every other message, are 1.
    Message::new(kind, INET, 0).with(1, &text(TABLE))
}

fn request(message: Message, flags: u16, doing: String) -> Request<Message> {
    Request { message, flags, doing }
}

/// NFNL_MSG_BATCH_BEGIN and _END.
pub(super) fn frame() -> (Message, Message) {
    (Message::new(0x10, 0, SUBSYSTEM), Message::new(0x11, 0, SUBSYSTEM))
}

fn comment(owner: &str) -> Vec<u8> {
    let text = text(owner);
    // A longer one is refused before it comes here.
    [&[COMMENT, u8::try_from(text.len()).unwrap_or(u8::MAX)], text.as_slice()].concat()
}

/// The comment in user data; empty: there is none.
fn comment_text(userdata: Option<&[u8]>) -> String {
    let Some([COMMENT, length, text @ ..]) = userdata else { return String::new() };
    let text = text.get(..usize::from(*length)).unwrap_or(text);
    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
}

fn list_of(element: &Element, with_data: bool) -> Vec<u8> {
    // NFTA_SET_ELEM_KEY 1, _DATA 2, _USERDATA 6; NFTA_DATA_VALUE 1.
    let mut parts = vec![nested(1, &[attribute(1, &element.key)])];
    if with_data {
        if !element.data.is_empty() {
            parts.push(nested(2, &[attribute(1, &element.data)]));
        }
        parts.push(attribute(6, &comment(&element.owner)));
    }
    nested(3, &[nested(1, &parts)])
}

/// Adds it; refused when its key is taken.
pub(super) fn add(element: &Element) -> Request<Message> {
    let mut message = message(NEW_ELEMENT).with(2, &text(element.set.name()));
    message.body.extend(list_of(element, true));
    request(message, CREATE | EXCLUSIVE, format!("nft add element ip {TABLE} {}", element.set.name()))
}

pub(super) fn delete(element: &Element) -> Request<Message> {
    let mut message = message(DELETE_ELEMENT).with(2, &text(element.set.name()));
    message.body.extend(list_of(element, false));
    request(message, 0, format!("nft delete element ip {TABLE} {}", element.set.name()))
}

/// Asks for all elements of a set.
pub(super) fn list(set: Set) -> Message {
    message(GET_ELEMENT).with(2, &text(set.name()))
}

/// Elements of an answer.
pub(super) fn listed(set: Set, answer: &Message) -> Vec<Element> {
    let lists = answer.attributes().filter(|(kind, _)| *kind == 3).flat_map(|(_, list)| walk(list));
    let element = |(_, parts): (u16, &[u8])| {
        let value = |kind| find(parts, kind).and_then(|data| find(data, 1)).map(<[u8]>::to_vec);
        Some(Element { set, key: value(1)?, data: value(2).unwrap_or_default(), owner: comment_text(find(parts, 6)) })
    };
    lists.filter_map(element).collect()
}

/// Asks whether there is a table.
pub(super) fn get_table() -> Request<Message> {
    request(message(GET_TABLE), 0, format!("nft list table ip {TABLE}"))
}

pub(super) fn delete_table() -> Request<Message> {
    request(message(DELETE_TABLE), 0, format!("nft delete table ip {TABLE}"))
}

/// Asks for all rules.
pub(super) fn list_rules() -> Message {
    message(GET_RULE)
}

/// Chain and purpose of a rule of an answer, if it is one of the table's.
pub(super) fn listed_rule(answer: &Message) -> Option<(String, String)> {
    let value = |kind| answer.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value);
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    (plain(value(1)?) == TABLE).then(|| (plain(value(2).unwrap_or_default()), comment_text(value(7))))
}

/// What [`listed_rule`] says of every rule of a whole table, in order of chains.
pub(super) fn wanted_rules() -> Vec<(String, String)> {
    rules().iter().map(|(chain, purpose, _)| ((*chain).to_owned(), (*purpose).to_owned())).collect()
}

/// The table with maps, chains and rules; refused when it is there.
pub(super) fn skeleton() -> Vec<Request<Message>> {
    let mut requests = vec![request(message(NEW_TABLE), CREATE | EXCLUSIVE, format!("nft create table ip {TABLE}"))];
    requests.extend(Set::ALL.iter().zip(1..).map(|(set, id)| new_set(*set, id)));
    for (name, kind, hook, priority) in [
        ("loopback_guard", "filter", 0, -300),
        ("host_ports", "nat", 0, -105),
        ("host_ports_local", "nat", 3, -105),
        ("host_ports_back", "nat", 4, 95),
    ] {
        requests.push(new_chain(name, kind, (hook, priority)));
    }
    requests.extend(rules().iter().map(|(chain, purpose, expressions)| rule(chain, purpose, expressions)));
    requests
}

/// Chain, purpose and expressions of every rule. A table is known by the purposes: another rule needs another one.
fn rules() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let mut rules = vec![("loopback_guard", "from outside nothing reaches loopback", guard())];
    for chain in ["host_ports", "host_ports_local"] {
        rules.push((chain, "ports of one address", translation(Set::PortsAt)));
        rules.push((chain, "ports of any address of the node, Services' not among them", translation(Set::Ports)));
    }
    rules.push(("host_ports_back", "from loopback", from_loopback()));
    rules.push(("host_ports_back", "pods that reach themselves", hairpin()));
    rules
}

fn new_set(set: Set, id: u32) -> Request<Message> {
    let types = |types: &[u32]| types.iter().fold(0, |all, one| all << 6 | one);
    let length = |types: &[u32]| 4 * u32::try_from(types.len()).unwrap_or_default();
    let data = [ADDRESS, SERVICE];
    let mut message = message(NEW_SET).with(2, &text(set.name()));
    // NFTA_SET_FLAGS 3, KEY_TYPE 4, KEY_LEN 5, DATA_TYPE 6, DATA_LEN 7, ID 10.
    message.body.extend(number(3, if set.is_map() { MAP } else { 0 }));
    message.body.extend([number(4, types(set.types())), number(5, length(set.types()))].concat());
    if set.is_map() {
        message.body.extend([number(6, types(&data)), number(7, length(&data))].concat());
    }
    message.body.extend(number(10, id));
    request(message, CREATE, format!("nft add set ip {TABLE} {}", set.name()))
}

fn new_chain(name: &str, kind: &str, (hook, priority): (u32, i32)) -> Request<Message> {
    // NFTA_CHAIN_NAME 3, HOOK 4 (HOOKNUM 1, PRIORITY 2), TYPE 7.
    let mut message = message(NEW_CHAIN).with(3, &text(name));
    message.body.extend(nested(4, &[number(1, hook), number(2, priority.cast_unsigned())]));
    message.body.extend(attribute(7, &text(kind)));
    request(message, CREATE, format!("nft add chain ip {TABLE} {name}"))
}

fn rule(chain: &str, purpose: &str, expressions: &[Vec<u8>]) -> Request<Message> {
    // NFTA_RULE_CHAIN 2, EXPRESSIONS 4, USERDATA 7.
    let mut message = message(NEW_RULE).with(2, &text(chain));
    message.body.extend(nested(4, expressions));
    message.body.extend(attribute(7, &comment(purpose)));
    request(message, CREATE | APPEND, format!("nft add rule ip {TABLE} {chain}"))
}

/// NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, &text(name)), nested(2, parts)])
}

/// payload: DREG 1, BASE 2, OFFSET 3, LEN 4.
fn payload(register: u32, base: u32, (offset, length): (u32, u32)) -> Vec<u8> {
    expression("payload", &[number(1, register), number(2, base), number(3, offset), number(4, length)])
}

/// Source and destination in the network header (base 1), the destination port in the transport header (base 2).
fn source(register: u32) -> Vec<u8> {
    payload(register, 1, (12, 4))
}

fn destination(register: u32) -> Vec<u8> {
    payload(register, 1, (16, 4))
}

/// cmp: SREG 1, OP 2 (0 equal, 1 not), DATA 3.
fn compare(register: u32, operation: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, register), number(2, operation), nested(3, &[attribute(1, value)])])
}

/// `register & mask`; bitwise: SREG 1, DREG 2, LEN 3, MASK 4, XOR 5.
fn masked(register: u32, mask: &[u8; 4]) -> Vec<u8> {
    let mask = nested(4, &[attribute(1, mask)]);
    expression(
        "bitwise",
        &[number(1, register), number(2, register), number(3, 4), mask, nested(5, &[attribute(1, &[0; 4])])],
    )
}

/// lookup: SET 1, SREG 2, DREG 3.
fn lookup(set: Set, into: Option<u32>) -> Vec<u8> {
    let mut parts = vec![attribute(1, &text(set.name())), number(2, R0)];
    parts.extend(into.map(|register| number(3, register)));
    expression("lookup", &parts)
}

/// lookup: FLAGS 5, NFT_LOOKUP_F_INV.
fn outside(set: Set) -> Vec<u8> {
    expression("lookup", &[attribute(1, &text(set.name())), number(2, R0), number(5, 1)])
}

/// `fib daddr type local dnat ip to … map`; for all addresses of the node with `ip daddr != @services` before it.
fn translation(set: Set) -> Vec<Vec<u8>> {
    let next = if set == Set::PortsAt { (R1, R2) } else { (R0, R1) };
    let mut parts = if set == Set::PortsAt { Vec::new() } else { vec![destination(R0), outside(Set::Services)] };
    // fib: DREG 1, RESULT 2 (address type: 3), FLAGS 3 (destination: 2). RTN_LOCAL is 2.
    parts.extend([
        expression("fib", &[number(1, R0), number(2, 3), number(3, 2)]),
        compare(R0, 0, &2_u32.to_ne_bytes()),
    ]);
    if set == Set::PortsAt {
        parts.push(destination(R0));
    }
    // meta: DREG 1, KEY 2 (l4proto: 16). nat: TYPE 1 (1 = destination), FAMILY 2, REG_ADDR_MIN 3, REG_PROTO_MIN 5.
    parts.push(expression("meta", &[number(1, next.0), number(2, 16)]));
    parts.push(payload(next.1, 2, (2, 2)));
    parts.push(lookup(set, Some(R0)));
    parts.push(expression("nat", &[number(1, 1), number(2, INET.into()), number(3, R0), number(5, R1)]));
    parts
}

/// The connection was translated: IPS_DST_NAT, bit 5. ct: DREG 1, KEY 2 (status: 2).
fn translated() -> [Vec<u8>; 3] {
    [expression("ct", &[number(1, R0), number(2, 2)]), masked(R0, &32_u32.to_ne_bytes()), compare(R0, 1, &[0; 4])]
}

fn from_loopback() -> Vec<Vec<u8>> {
    let mut parts = translated().to_vec();
    parts.extend([source(R0), masked(R0, &[255, 0, 0, 0]), compare(R0, 0, &[127, 0, 0, 0])]);
    parts.push(expression("masq", &[]));
    parts
}

fn hairpin() -> Vec<Vec<u8>> {
    let mut parts = translated().to_vec();
    parts.extend([source(R0), destination(R1), lookup(Set::Hairpins, None), expression("masq", &[])]);
    parts
}

fn guard() -> Vec<Vec<u8>> {
    let mut loopback = b"lo".to_vec();
    loopback.resize(16, 0);
    // meta iifname: 6. immediate: DREG 1, DATA 2 with NFTA_DATA_VERDICT 2, NFTA_VERDICT_CODE 1; NF_DROP is 0.
    let drop = attribute(2 | NESTED, &nested(2, &[number(1, 0)]));
    vec![
        destination(R0),
        masked(R0, &[255, 0, 0, 0]),
        compare(R0, 0, &[127, 0, 0, 0]),
        expression("meta", &[number(1, 1), number(2, 6)]),
        compare(1, 1, &loopback),
        expression("immediate", &[number(1, VERDICT), drop]),
    ]
}
