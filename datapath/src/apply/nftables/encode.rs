// SPDX-License-Identifier: Apache-2.0
//! The plan's nft table as nfnetlink messages. The crate types the common expressions; `fib`, `ct`, `nat`, `exthdr` and
//! `counter` go as attributes by number (`include/uapi/linux/netfilter/nf_tables.h`, all values big-endian; marks, groups and
//! interface names as the kernel has them in memory).
//!
//! Masked marks are written as `(x & !mask) ^ value`: kernels before 6.13 have no "or" of two registers.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as KernelHook,
    HookNumber, Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload,
    Register, RuleAttribute, RuleMessage, SetElementMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::message;
use crate::apply::netlink::Request;
use crate::plan::nft::{
    Hook, Match, NftBranch, NftChain, NftRule, NftSet, NftTable, PortChoice, PortRange, Statement, Transport, Within,
    family_text,
};
use crate::plan::{Family, Mark};

mod sets;
mod tracking;

use sets::{elements, new_set, set_path};

/// nft's numbers of the types `ipv4_addr` and `ipv6_addr` (`enum datatypes`, nftables `include/datatype.h`): only `nft`
/// looks at them.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
/// NFT_LOOKUP_F_INV.
const LOOKUP_INVERTED: u32 = 1;
/// NFT_PAYLOAD_LL_HEADER: an Ethernet header begins with its destination.
const LINK_HEADER: u32 = 0;
const MAC_BYTES: u32 = 6;
/// ARPHRD_ETHER (`include/uapi/linux/if_arp.h`), as `meta iiftype` gives it.
const ETHERNET: u16 = 1;
/// NFT_PAYLOAD_NETWORK_HEADER.
const NETWORK_HEADER: u32 = 1;
/// NFT_PAYLOAD_TRANSPORT_HEADER; offset and length of TCP's flags, the bit SYN, and the option "maximum segment size" (RFC
/// 9293 §3.1, §3.2).
const TRANSPORT_HEADER: u32 = 2;
const TCP_FLAGS: (u32, u32) = (13, 1);
const TCP_SYN: u8 = 2;
const TCP_OPTION_SEGMENT_SIZE: u8 = 2;
/// NFTA_FIB_F_DADDR.
const FIB_DESTINATION: u32 = 2;
/// RTN_LOCAL (`include/uapi/linux/rtnetlink.h`), as `fib … type` gives it.
const ROUTE_TYPE_LOCAL: u32 = 2;
/// NFPROTO_IPV4, NFPROTO_IPV6.
const FAMILY_IPV4: u32 = 2;
const FAMILY_IPV6: u32 = 10;
/// NF_DROP, NF_ACCEPT.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// NF_NAT_RANGE_PROTO_RANDOM and _FULLY (`include/uapi/linux/netfilter/nf_nat.h`).
const NAT_RANDOM: u32 = 4;
const NAT_FULLY_RANDOM: u32 = 16;
/// NFT_CT_STATE, NFT_CT_MARK.
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
/// NF_CT_STATE_BIT(IP_CT_NEW) (`include/uapi/linux/netfilter/nf_conntrack_common.h`).
const STATE_NEW: u32 = 1 << 3;
/// Key big-endian (`nft` prints and takes addresses), no data; `NFTNL_UDATA_SET_KEYBYTEORDER`, libnftnl.
const SET_USERDATA: [u8; 6] = [0, 4, 2, 0, 0, 0];
/// `NFTNL_UDATA_RULE_COMMENT`, libnftnl.
const USERDATA_COMMENT: u8 = 0;

type Requests = Vec<Request<NetfilterMessage>>;

/// Add (so that there is one to delete), delete, add with everything in it.
pub(super) fn replacement(table: &NftTable) -> Requests {
    let name = table.name;
    let attributes = || TableMessage { attributes: vec![TableAttribute::Name(name.to_owned())] };
    let add = || request(table, NfTablesMessage::NewTable(attributes()), NLM_F_CREATE, ("add table", ""));
    let delete = request(table, NfTablesMessage::DeleteTable(attributes()), 0, ("delete table", ""));
    let mut requests = vec![add(), delete, add()];
    for (set, id) in table.sets.iter().zip(1..) {
        requests.push(new_set(table, set, id));
        requests.extend(elements(table, set));
    }
    requests.extend(
        table
            .memories
            .iter()
            .zip((1..).skip(table.sets.len()))
            .map(|(memory, id)| tracking::new_memory(table, memory, id)),
    );
    // A rule can only name a chain that is there.
    requests.extend(table.branches.iter().map(|branch| new_branch(table, branch)));
    requests.extend(table.branches.iter().flat_map(|branch| new_rules(table, branch.name, &branch.rules)));
    requests.extend(addition(table));
    requests
}

/// Adds the base chains of a table to what is there of it.
pub(super) fn addition(table: &NftTable) -> Requests {
    let chains = table.chains.iter().map(|chain| new_chain(table, chain));
    let rules = table.chains.iter().flat_map(|chain| new_rules(table, chain.name, &chain.rules));
    chains.chain(rules).collect()
}

fn new_rules(table: &NftTable, chain: &'static str, rules: &[NftRule]) -> Requests {
    rules.iter().map(|rule| new_rule(table, chain, rule)).collect()
}

/// Deletes all elements of the sets and adds the wanted ones.
pub(super) fn set_replacement(table: &NftTable) -> Requests {
    let flush = |set: &NftSet| {
        let flush = NfTablesMessage::DeleteSetElement(SetElementMessage { attributes: set_path(table, set) });
        request(table, flush, 0, ("flush set", set.name))
    };
    table.sets.iter().flat_map(|set| std::iter::once(flush(set)).chain(elements(table, set))).collect()
}

/// `doing`: nft's verb, and what it is about inside the table.
fn request(table: &NftTable, inner: NfTablesMessage, flags: u16, doing: (&str, &str)) -> Request<NetfilterMessage> {
    let (verb, what) = doing;
    let doing = format!("nft {verb} {} {} {what}", family_text(table.family), table.name).trim_end().to_owned();
    Request { message: message(table.family, inner), flags, doing }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address of the packet's header, looked up in a set.
fn address(place: (u32, u32), within: Within) -> Vec<Expressions> {
    let (set, flags) = match within {
        Within::Inside(set) => (set, None),
        Within::Outside(set) => (set, Some(Lookup::Flags(LOOKUP_INVERTED))),
    };
    let mut lookup = vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(Register::Reg1)];
    lookup.extend(flags);
    vec![header_bytes(NETWORK_HEADER, place), Expressions::Lookup(lookup)]
}

/// Offset and length of the source, as of the destination.
fn source_in_header(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    }
}

/// Offset and length of the destination (RFC 791 §3.1, RFC 8200 §3).
fn destination_in_header(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    }
}

fn new_chain(table: &NftTable, chain: &NftChain) -> Request<NetfilterMessage> {
    let hook = match chain.hook {
        Hook::Prerouting => InetHookNumber::PreRouting,
        Hook::Forward => InetHookNumber::Forward,
        Hook::Output => InetHookNumber::LocalOut,
        Hook::Postrouting => InetHookNumber::PostRouting,
    };
    let attributes = vec![
        ChainAttribute::Table(table.name.to_owned()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(vec![
            KernelHook::Number(HookNumber::Inet(hook)),
            KernelHook::Priority(chain.priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(ACCEPT),
        ChainAttribute::Type(chain.kind.text().to_owned()),
    ];
    let inner = NfTablesMessage::NewChain(ChainMessage { attributes });
    request(table, inner, NLM_F_CREATE, ("add chain", chain.name))
}

fn new_branch(table: &NftTable, branch: &NftBranch) -> Request<NetfilterMessage> {
    let attributes = vec![ChainAttribute::Table(table.name.to_owned()), ChainAttribute::Name(branch.name.to_owned())];
    let inner = NfTablesMessage::NewChain(ChainMessage { attributes });
    request(table, inner, NLM_F_CREATE, ("add chain", branch.name))
}

fn new_rule(table: &NftTable, chain: &'static str, rule: &NftRule) -> Request<NetfilterMessage> {
    let expressions = rule.matches.iter().flat_map(condition).chain(rule.statements.iter().flat_map(statement));
    let list: Vec<ListAttribute<ExpressionAttribute>> = expressions.map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(table.name.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(list),
        RuleAttribute::UserData(comment_userdata(&rule.comment())),
    ];
    let inner = NfTablesMessage::NewRule(RuleMessage { attributes });
    request(table, inner, NLM_F_CREATE | NLM_F_APPEND, ("add rule", &format!("{chain} {}", rule.body())))
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
        Match::InputGroupBits(Mark { value, mask }) => {
            vec![load(MetaKey::Iifgroup), bits(*mask, 0), compare(Operator::Equal, value.to_ne_bytes().to_vec())]
        }
        Match::InputMac(mac) => vec![
            load(MetaKey::Iftype),
            compare(Operator::Equal, ETHERNET.to_ne_bytes().to_vec()),
            header_bytes(LINK_HEADER, (0, MAC_BYTES)),
            compare(Operator::Equal, mac.0.to_vec()),
        ],
        Match::Transport(transport) => {
            vec![load(MetaKey::L4Proto), compare(Operator::Equal, vec![*transport as u8])]
        }
        Match::OutputPrefix(prefix) => {
            vec![load(MetaKey::Oifname), compare(Operator::Equal, prefix.as_bytes().to_vec())]
        }
        Match::TcpSyn => vec![
            load(MetaKey::L4Proto),
            compare(Operator::Equal, vec![Transport::Tcp as u8]),
            header_bytes(TRANSPORT_HEADER, TCP_FLAGS),
            masked_byte(TCP_SYN),
            compare(Operator::NotEqual, vec![0]),
        ],
        Match::Source(family, within) => address(source_in_header(*family), *within),
        Match::Destination(family, within) => address(destination_in_header(*family), *within),
        Match::DestinationLocal(true) => local_address(FIB_DESTINATION, Operator::Equal),
        Match::DestinationLocal(false) => local_address(FIB_DESTINATION, Operator::NotEqual),
        // The bit of the connection's state is set.
        Match::ConnectionNew => vec![
            load_connection(CT_STATE),
            bits(STATE_NEW, 0),
            compare(Operator::NotEqual, 0u32.to_ne_bytes().to_vec()),
        ],
        Match::ConnectionMark(mark) => vec![
            load_connection(CT_MARK),
            bits(mark.mask, 0),
            compare(Operator::Equal, (mark.value & mark.mask).to_ne_bytes().to_vec()),
        ],
        Match::Tracking(condition) => tracking::condition(condition),
    }
}

/// fib: 1 register, 2 result (3 = address type), 3 flags (by which address).
fn local_address(by: u32, operator: Operator) -> Vec<Expressions> {
    let local = ROUTE_TYPE_LOCAL.to_ne_bytes().to_vec();
    vec![other("fib", &[(1, REGISTER), (2, 3), (3, by)]), compare(operator, local)]
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
        Statement::ClampSegment(size) => {
            vec![immediate(Register::Reg1, size.to_be_bytes().to_vec()), write_segment_size()]
        }
        Statement::Snat { to, range, ports } => source_nat(*to, *range, *ports),
        Statement::Masquerade { range, ports } => masquerade(*range, *ports),
        Statement::Refuse(family) => vec![refuse(*family)],
        Statement::Untrack => vec![other("notrack", &[])],
        Statement::Remember(memory, key, seconds) => tracking::remember(memory, *key, *seconds),
        Statement::Drop => vec![verdict(DROP)],
        Statement::Accept => vec![verdict(ACCEPT)],
        Statement::Goto(branch) => vec![goto(branch)],
    }
}

fn goto(branch: &str) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![
            VerdictAttribute::Code(Verdict::Goto),
            VerdictAttribute::Chain(branch.to_owned()),
        ])),
    ])
}

fn verdict(code: u32) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(code))])),
    ])
}

/// nat: 1 type (0 = source), 2 family, 3 register of the address, 5 and 6 of the lowest and highest port, 7 flags.
fn source_nat(to: IpAddr, range: Option<PortRange>, ports: PortChoice) -> Vec<Expressions> {
    let family = if to.is_ipv4() { FAMILY_IPV4 } else { FAMILY_IPV6 };
    let mut attributes = vec![(1, 0), (2, family), (3, REGISTER)];
    let mut expressions = vec![immediate(Register::Reg1, octets(to))];
    expressions.extend(port_registers(range, &mut attributes, (5, 6)));
    attributes.extend(port_flags(ports).map(|flags| (7, flags)));
    expressions.push(other("nat", &attributes));
    expressions
}

/// masq: 1 flags, 2 and 3 register of the lowest and highest port.
fn masquerade(range: Option<PortRange>, ports: PortChoice) -> Vec<Expressions> {
    let mut attributes: Vec<_> = port_flags(ports).map(|flags| (1, flags)).into_iter().collect();
    let mut expressions = port_registers(range, &mut attributes, (2, 3));
    expressions.push(other("masq", &attributes));
    expressions
}

/// Loads the ends of a range, and names the registers in `attributes` by the two numbers.
fn port_registers(range: Option<PortRange>, attributes: &mut Vec<(u16, u32)>, of: (u16, u16)) -> Vec<Expressions> {
    let Some(PortRange { first, last }) = range else { return Vec::new() };
    let mut expressions = vec![immediate(Register::Reg2, first.to_be_bytes().to_vec())];
    attributes.push((of.0, REGISTER + 1));
    if first != last {
        expressions.push(immediate(Register::Reg3, last.to_be_bytes().to_vec()));
        attributes.push((of.1, REGISTER + 2));
    }
    expressions
}

/// reject: 1 type (0 = ICMP "unreachable"), 2 its code (one byte): "administratively prohibited" (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
fn refuse(family: Family) -> Expressions {
    let code = match family {
        Family::V4 => 13,
        Family::V6 => 1,
    };
    let attributes = vec![DefaultNla::new(1, 0u32.to_be_bytes().to_vec()), DefaultNla::new(2, vec![code])];
    Expressions::Other { expression_type: "reject".to_owned(), attributes }
}

/// exthdr: 2 kind of the option (one byte), 3 offset and 4 length of its value, 6 operation (1 = TCP option), 7 register.
fn write_segment_size() -> Expressions {
    let number = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    let attributes = vec![
        number(7, REGISTER),
        DefaultNla::new(2, vec![TCP_OPTION_SEGMENT_SIZE]),
        number(3, 2),
        number(4, 2),
        number(6, 1),
    ];
    Expressions::Other { expression_type: "exthdr".to_owned(), attributes }
}

/// `register = register & mask`, of one byte.
fn masked_byte(mask: u8) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(1),
        Bitwise::Mask(DataAttribute::Value(vec![mask])),
        Bitwise::Xor(DataAttribute::Value(vec![0])),
    ])
}

fn immediate(register: Register, value: Vec<u8>) -> Expressions {
    let data = DataAttribute::Value(value);
    Expressions::Immediate(vec![Immediate::DestinationRegister(register), Immediate::Data(data)])
}

fn header_bytes(header: u32, (offset, length): (u32, u32)) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(header),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn port_flags(ports: PortChoice) -> Option<u32> {
    match ports {
        PortChoice::Prng => Some(NAT_FULLY_RANDOM),
        PortChoice::HashRandom => Some(NAT_RANDOM),
        PortChoice::None => None,
    }
}

/// NFT_REG_1; the two behind it are used for ports only.
const REGISTER: u32 = 1;

fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

/// ct: 1 register, 2 key.
fn load_connection(key: u32) -> Expressions {
    other("ct", &[(1, REGISTER), (2, key)])
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
