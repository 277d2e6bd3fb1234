// SPDX-License-Identifier: Apache-2.0
//! The plan's nft table as nfnetlink messages. The crate types the common expressions; `fib`, `ct`, `nat` and `counter`
//! go as attributes by number (`include/uapi/linux/netfilter/nf_tables.h`, all values big-endian; marks, groups and
//! interface names as the kernel has them in memory).
//!
//! Masked marks are written as `(x & !mask) ^ value`: kernels before 6.13 have no "or" of two registers.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as KernelHook,
    HookNumber, Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload,
    Register, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::message;
use crate::apply::netlink::Request;
use crate::plan::Mark;
use crate::plan::nft::{Hook, Match, NftChain, NftRule, NftSet, NftTable, PortChoice, Statement};

/// nft's number of the type `ipv4_addr` (`enum datatypes`, nftables `include/datatype.h`): only `nft` looks at it.
const TYPE_IPV4: u32 = 7;
/// NFT_LOOKUP_F_INV.
const LOOKUP_INVERTED: u32 = 1;
/// NFT_PAYLOAD_NETWORK_HEADER, and where the destination is in an IPv4 header (RFC 791 §3.1).
const NETWORK_HEADER: u32 = 1;
const DESTINATION_OFFSET: u32 = 16;
const ADDRESS_BYTES: u32 = 4;
/// IFNAMSIZ: exact interface names are compared whole, zeros included.
const NAME_BYTES: usize = 16;
/// RTN_LOCAL (`include/uapi/linux/rtnetlink.h`), as `fib … type` gives it.
const ROUTE_TYPE_LOCAL: u32 = 2;
/// NFPROTO_IPV4.
const FAMILY_IPV4: u32 = 2;
/// NF_DROP, NF_ACCEPT.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// NF_NAT_RANGE_PROTO_RANDOM and _FULLY (`include/uapi/linux/netfilter/nf_nat.h`).
const NAT_RANDOM: u32 = 4;
const NAT_FULLY_RANDOM: u32 = 16;
/// NFT_CT_STATE, NFT_CT_STATUS, NFT_CT_MARK.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
/// NF_CT_STATE_BIT(IP_CT_NEW) and IPS_DST_NAT (`include/uapi/linux/netfilter/nf_conntrack_common.h`).
const STATE_NEW: u32 = 1 << 3;
const STATUS_DST_NAT: u32 = 1 << 5;
/// Key big-endian (`nft` prints and takes addresses), no data; `NFTNL_UDATA_SET_KEYBYTEORDER`, libnftnl.
const SET_USERDATA: [u8; 6] = [0, 4, 2, 0, 0, 0];
/// `NFTNL_UDATA_RULE_COMMENT`, libnftnl.
const USERDATA_COMMENT: u8 = 0;

type Requests = Vec<Request<NetfilterMessage>>;

/// Add (so that there is one to delete), delete, add with everything in it.
pub(super) fn replacement(table: &NftTable) -> Requests {
    let name = table.name;
    let attributes = || TableMessage { attributes: vec![TableAttribute::Name(name.to_owned())] };
    let add = || request(NfTablesMessage::NewTable(attributes()), NLM_F_CREATE, format!("nft add table ip {name}"));
    let delete = request(NfTablesMessage::DeleteTable(attributes()), 0, format!("nft delete table ip {name}"));
    let mut requests = vec![add(), delete, add()];
    if let Some(set) = &table.set {
        requests.push(new_set(name, set));
        requests.extend(elements(name, set));
    }
    requests.extend(table.chains.iter().map(|chain| new_chain(name, chain)));
    requests.extend(table.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| new_rule(name, chain, rule))));
    requests
}

/// Deletes all elements and adds the wanted ones.
pub(super) fn set_replacement(table: &NftTable) -> Requests {
    let Some(set) = &table.set else { return Vec::new() };
    let attributes = set_path(table.name, set.name);
    let flush = NfTablesMessage::DeleteSetElement(SetElementMessage { attributes });
    let mut requests = vec![request(flush, 0, format!("nft flush set ip {} {}", table.name, set.name))];
    requests.extend(elements(table.name, set));
    requests
}

fn request(inner: NfTablesMessage, flags: u16, doing: String) -> Request<NetfilterMessage> {
    Request { message: message(inner), flags, doing }
}

fn new_set(table: &str, set: &NftSet) -> Request<NetfilterMessage> {
    let attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name.to_owned()),
        SetAttribute::Flags(SetFlags::Interval),
        SetAttribute::KeyType(TYPE_IPV4),
        SetAttribute::KeyLen(ADDRESS_BYTES),
        SetAttribute::Id(1),
        SetAttribute::UserData(SET_USERDATA.to_vec()),
    ];
    let inner = NfTablesMessage::NewSet(SetMessage { attributes });
    request(inner, NLM_F_CREATE, format!("nft add set ip {table} {}", set.name))
}

fn set_path(table: &str, set: &str) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())]
}

/// `None`: no block, nothing to add.
fn elements(table: &str, set: &NftSet) -> Option<Request<NetfilterMessage>> {
    if set.blocks.is_empty() {
        return None;
    }
    let mut attributes = set_path(table, set.name);
    attributes.push(SetElementList::Elements(set.blocks.iter().flat_map(interval).collect()));
    let inner = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
    Some(request(inner, NLM_F_CREATE, format!("nft add element ip {table} {}", set.name)))
}

/// A block as its first address and, unless it reaches the end of the address space, the first address behind it.
fn interval(block: &Ipv4Net) -> Vec<ListAttribute<SetElementAttribute>> {
    let key = |address: Ipv4Addr| SetElementAttribute::Key(DataAttribute::Value(address.octets().to_vec()));
    let start = ListAttribute::Element(vec![key(block.network())]);
    let behind = u32::from(block.broadcast()).checked_add(1).map(Ipv4Addr::from);
    let end = behind.map(|address| {
        ListAttribute::Element(vec![key(address), SetElementAttribute::Flags(SetElementFlags::IntervalEnd)])
    });
    std::iter::once(start).chain(end).collect()
}

fn new_chain(table: &str, chain: &NftChain) -> Request<NetfilterMessage> {
    let hook = match chain.hook {
        Hook::Prerouting => InetHookNumber::PreRouting,
        Hook::Postrouting => InetHookNumber::PostRouting,
    };
    let attributes = vec![
        ChainAttribute::Table(table.to_owned()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(vec![
            KernelHook::Number(HookNumber::Inet(hook)),
            KernelHook::Priority(chain.priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(ACCEPT),
        ChainAttribute::Type(chain.kind.text().to_owned()),
    ];
    let inner = NfTablesMessage::NewChain(ChainMessage { attributes });
    request(inner, NLM_F_CREATE, format!("nft add chain ip {table} {}", chain.name))
}

fn new_rule(table: &str, chain: &NftChain, rule: &NftRule) -> Request<NetfilterMessage> {
    let expressions = rule.matches.iter().flat_map(condition).chain(rule.statements.iter().flat_map(statement));
    let list: Vec<ListAttribute<ExpressionAttribute>> = expressions.map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(chain.name.to_owned()),
        RuleAttribute::Expressions(list),
        RuleAttribute::UserData(comment_userdata(&rule.comment())),
    ];
    let inner = NfTablesMessage::NewRule(RuleMessage { attributes });
    let doing = format!("nft add rule ip {table} {} {}", chain.name, rule.body());
    request(inner, NLM_F_CREATE | NLM_F_APPEND, doing)
}

/// Type, length, text with its NUL.
fn comment_userdata(comment: &str) -> Vec<u8> {
    let text = comment.as_bytes();
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut userdata = vec![USERDATA_COMMENT, length];
    userdata.extend_from_slice(text.get(..usize::from(length) - 1).unwrap_or(text));
    userdata.push(0);
    userdata
}

fn condition(condition: &Match) -> Vec<Expressions> {
    match condition {
        Match::InputPrefix(prefix) => {
            vec![load(MetaKey::Iifname), compare(Operator::Equal, prefix.as_bytes().to_vec())]
        }
        Match::InputGroup(group) => {
            vec![load(MetaKey::Iifgroup), compare(Operator::Equal, group.to_ne_bytes().to_vec())]
        }
        Match::OutputNot(name) => {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(NAME_BYTES, 0);
            vec![load(MetaKey::Oifname), compare(Operator::NotEqual, padded)]
        }
        Match::OutputNotPrefix(prefix) => {
            vec![load(MetaKey::Oifname), compare(Operator::NotEqual, prefix.as_bytes().to_vec())]
        }
        Match::DestinationOutside(set) => vec![
            Expressions::Payload(vec![
                Payload::DestinationRegister(Register::Reg1),
                Payload::Base(NETWORK_HEADER),
                Payload::Offset(DESTINATION_OFFSET),
                Payload::Len(ADDRESS_BYTES),
            ]),
            Expressions::Lookup(vec![
                Lookup::Set((*set).to_owned()),
                Lookup::SourceRegister(Register::Reg1),
                Lookup::Flags(LOOKUP_INVERTED),
            ]),
        ],
        // fib: 1 register, 2 result (3 = address type), 3 flags (2 = by destination).
        Match::DestinationNotLocal => vec![
            other("fib", &[(1, REGISTER), (2, 3), (3, 2)]),
            compare(Operator::NotEqual, ROUTE_TYPE_LOCAL.to_ne_bytes().to_vec()),
        ],
        Match::ConnectionNew => connection_bit(CT_STATE, STATE_NEW),
        Match::DestinationTranslated => connection_bit(CT_STATUS, STATUS_DST_NAT),
        Match::ConnectionMark(mark) => vec![
            load_connection(CT_MARK),
            bits(mark.mask, 0),
            compare(Operator::Equal, (mark.value & mark.mask).to_ne_bytes().to_vec()),
        ],
    }
}

fn statement(statement: &Statement) -> Vec<Expressions> {
    match statement {
        Statement::Counter => vec![other("counter", &[])],
        Statement::SetConnectionMark(mark) => {
            // ct: 2 key, 4 source register.
            vec![load_connection(CT_MARK), our_bits(*mark), other("ct", &[(2, CT_MARK), (4, REGISTER)])]
        }
        Statement::SetPacketMark(mark) => vec![
            load(MetaKey::Mark),
            our_bits(*mark),
            Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(Register::Reg1)]),
        ],
        Statement::Snat { to, ports } => {
            let address = DataAttribute::Value(to.octets().to_vec());
            // nat: 1 type (0 = source), 2 family, 3 register of the address, 7 flags.
            let mut attributes = vec![(1, 0), (2, FAMILY_IPV4), (3, REGISTER)];
            attributes.extend(port_flags(*ports).map(|flags| (7, flags)));
            vec![
                Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Reg1), Immediate::Data(address)]),
                other("nat", &attributes),
            ]
        }
        Statement::Drop => vec![Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(DROP))])),
        ])],
    }
}

fn port_flags(ports: PortChoice) -> Option<u32> {
    match ports {
        PortChoice::Prng => Some(NAT_FULLY_RANDOM),
        PortChoice::HashRandom => Some(NAT_RANDOM),
        PortChoice::None => None,
    }
}

/// NFT_REG_1, the one register we use.
const REGISTER: u32 = 1;

fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

/// ct: 1 register, 2 key.
fn load_connection(key: u32) -> Expressions {
    other("ct", &[(1, REGISTER), (2, key)])
}

/// The bit of a connection's state or status is set.
fn connection_bit(key: u32, bit: u32) -> Vec<Expressions> {
    vec![load_connection(key), bits(bit, 0), compare(Operator::NotEqual, 0u32.to_ne_bytes().to_vec())]
}

fn compare(operator: Operator, data: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(data)),
    ])
}

/// `register = (register & mask) ^ xor`.
fn bits(mask: u32, xor: u32) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(4),
        Bitwise::Mask(DataAttribute::Value(mask.to_ne_bytes().to_vec())),
        Bitwise::Xor(DataAttribute::Value(xor.to_ne_bytes().to_vec())),
    ])
}

fn our_bits(mark: Mark) -> Expressions {
    bits(!mark.mask, mark.value & mark.mask)
}

fn other(name: &str, attributes: &[(u16, u32)]) -> Expressions {
    let attributes = attributes.iter().map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()));
    Expressions::Other { expression_type: name.to_owned(), attributes: attributes.collect() }
}
