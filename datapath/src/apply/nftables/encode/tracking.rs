// SPDX-License-Identifier: Apache-2.0
//! Sets that rules fill, and what rules ask of connections, as nfnetlink messages. Constants: as in [`super`].
//!
//! A flow takes five 32-bit registers, one a part; all else register 1.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    Expressions, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, SetAttribute, SetDescription,
    SetFlags, SetMessage,
};

use super::{
    CT_MARK, CT_STATE, LOOKUP_INVERTED, NETWORK_HEADER, REGISTER, SET_USERDATA, TRANSPORT_HEADER, TYPE_IPV4, bits,
    compare, destination_in_header, load, load_connection, local_address, other, request, source_in_header,
};
use crate::apply::netlink::Request;
use crate::plan::Family;
use crate::plan::nft::tracking::{Key, Memory, Tracking};
use crate::plan::nft::{NftTable, Within};

/// nft's numbers of `inet_proto` and `inet_service`, and bits of a number in a concatenation.
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_BITS: u32 = 6;
/// IPPROTO_ICMP.
const ICMP: u8 = 1;
/// NFT_CT_DIRECTION, NFT_CT_STATUS, NFT_CT_EXPIRATION (milliseconds), NFT_CT_DST_IP; IP_CT_DIR_ORIGINAL.
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_EXPIRATION: u32 = 5;
const CT_DESTINATION: u32 = 20;
const ORIGINAL: u8 = 0;
/// NF_CT_STATE_INVALID_BIT, NF_CT_STATE_UNTRACKED_BIT.
const STATE_INVALID: u32 = 1;
const STATE_UNTRACKED: u32 = 1 << 6;
/// IPS_CONFIRMED, IPS_SRC_NAT with IPS_DST_NAT.
const STATUS_CONFIRMED: u32 = 1 << 3;
const STATUS_NAT: u32 = 1 << 4 | 1 << 5;
/// NFTA_FIB_F_SADDR.
const FIB_SOURCE: u32 = 1;
/// NFT_DYNSET_OP_UPDATE.
const UPDATE: u32 = 1;
/// NFT_BYTEORDER_HTON.
const TO_NETWORK: u32 = 1;

/// `id`: as of a set.
pub(super) fn new_memory(table: &NftTable, memory: &Memory, id: u32) -> Request<NetfilterMessage> {
    let types: &[u32] = match memory.key {
        Key::Flow | Key::FlowBack => &[TYPE_PROTOCOL, TYPE_IPV4, TYPE_SERVICE, TYPE_IPV4, TYPE_SERVICE],
        Key::Transport => &[TYPE_PROTOCOL],
    };
    let bytes = if let [_] = types { 1 } else { 4 * u32::try_from(types.len()).unwrap_or_default() };
    let attributes = vec![
        SetAttribute::Table(table.name.to_owned()),
        SetAttribute::Name(memory.name.to_owned()),
        SetAttribute::Flags(SetFlags::Timeout | SetFlags::Eval),
        SetAttribute::KeyType(types.iter().fold(0, |all, one| all << TYPE_BITS | one)),
        SetAttribute::KeyLen(bytes),
        SetAttribute::Id(id),
        SetAttribute::Description(vec![SetDescription::Size(memory.size)]),
        SetAttribute::GarbageCollectionInterval(memory.cleared_every * 1000),
        SetAttribute::UserData(SET_USERDATA.to_vec()),
    ];
    let inner = NfTablesMessage::NewSet(SetMessage { attributes });
    request(table, inner, NLM_F_CREATE, ("add set", memory.name))
}

pub(super) fn condition(condition: &Tracking) -> Vec<Expressions> {
    let number = |value: u32| value.to_ne_bytes().to_vec();
    let state = |bit| vec![load_connection(CT_STATE), bits(bit, 0), compare(Operator::NotEqual, number(0))];
    let no_status = |mask| vec![load_connection(CT_STATUS), bits(mask, 0), compare(Operator::Equal, number(0))];
    match condition {
        Tracking::Remembered(key, set) => [loaded(*key), vec![lookup(set, false)]].concat(),
        Tracking::Icmp => vec![load(MetaKey::L4Proto), compare(Operator::Equal, vec![ICMP])],
        Tracking::Invalid => state(STATE_INVALID),
        Tracking::Untracked => state(STATE_UNTRACKED),
        Tracking::NotTranslated => no_status(STATUS_NAT),
        Tracking::NotConfirmed => no_status(STATUS_CONFIRMED),
        Tracking::OpenedTo(Within::Inside(set)) => vec![opened_to(), lookup(set, false)],
        Tracking::OpenedTo(Within::Outside(set)) => vec![opened_to(), lookup(set, true)],
        Tracking::NotMarked(mark) => vec![
            load_connection(CT_MARK),
            bits(mark.mask, 0),
            compare(Operator::NotEqual, number(mark.value & mark.mask)),
        ],
        Tracking::Request => vec![load_connection(CT_DIRECTION), compare(Operator::Equal, vec![ORIGINAL])],
        Tracking::ForgottenWithin(seconds) => expiration(Operator::LessThanEqual, *seconds),
        Tracking::ForgottenAfter(seconds) => expiration(Operator::GreaterThan, *seconds),
        Tracking::SourceLocal => local_address(FIB_SOURCE, Operator::Equal),
        // fib: result 2 = name of the link, flags 2 = by destination.
        Tracking::LeadsTo(prefix) => {
            let link = other("fib", &[(1, REGISTER), (2, 2), (3, 2)]);
            vec![link, compare(Operator::Equal, prefix.as_bytes().to_vec())]
        }
    }
}

/// dynset: 1 name of the set, 3 operation, 4 register, 6 time in milliseconds (64 bits).
pub(super) fn remember(memory: &str, key: Key, seconds: u32) -> Vec<Expressions> {
    let milliseconds = u64::from(seconds) * 1000;
    let attributes = vec![
        DefaultNla::new(1, [memory.as_bytes(), &[0]].concat()),
        DefaultNla::new(3, UPDATE.to_be_bytes().to_vec()),
        DefaultNla::new(4, REGISTER.to_be_bytes().to_vec()),
        DefaultNla::new(6, milliseconds.to_be_bytes().to_vec()),
    ];
    let mut expressions = loaded(key);
    expressions.push(Expressions::Other { expression_type: "dynset".to_owned(), attributes });
    expressions
}

/// The key, from register 1 on.
fn loaded(key: Key) -> Vec<Expressions> {
    let part = |register, base, (offset, length)| {
        Expressions::Payload(vec![
            Payload::DestinationRegister(register),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ])
    };
    let (source, destination) = (source_in_header(Family::V4), destination_in_header(Family::V4));
    let (near, far) = match key {
        Key::Transport => return vec![load(MetaKey::L4Proto)],
        Key::Flow => ((source, (0, 2)), (destination, (2, 2))),
        Key::FlowBack => ((destination, (2, 2)), (source, (0, 2))),
    };
    vec![
        Expressions::Meta(vec![Meta::Key(MetaKey::L4Proto), Meta::DestinationRegister(Register::Reg32_00)]),
        part(Register::Reg32_01, NETWORK_HEADER, near.0),
        part(Register::Reg32_02, TRANSPORT_HEADER, near.1),
        part(Register::Reg32_03, NETWORK_HEADER, far.0),
        part(Register::Reg32_04, TRANSPORT_HEADER, far.1),
    ]
}

fn lookup(set: &str, inverted: bool) -> Expressions {
    let mut lookup = vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(Register::Reg1)];
    lookup.extend(inverted.then_some(Lookup::Flags(LOOKUP_INVERTED)));
    Expressions::Lookup(lookup)
}

/// ct: 1 register, 2 key, 3 direction (one byte).
fn opened_to() -> Expressions {
    let number = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    let attributes = vec![number(1, REGISTER), number(2, CT_DESTINATION), DefaultNla::new(3, vec![ORIGINAL])];
    Expressions::Other { expression_type: "ct".to_owned(), attributes }
}

/// Compared byte by byte, so it is turned round first. byteorder: 1 from and 2 to register, 3 operation, 4 length, 5 size.
fn expiration(operator: Operator, seconds: u32) -> Vec<Expressions> {
    vec![
        load_connection(CT_EXPIRATION),
        other("byteorder", &[(1, REGISTER), (2, REGISTER), (3, TO_NETWORK), (4, 4), (5, 4)]),
        compare(operator, (seconds * 1000).to_be_bytes().to_vec()),
    ]
}
