// SPDX-License-Identifier: Apache-2.0
//! Interval sets of addresses and their elements, as nfnetlink messages.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage, SetFlags, SetMessage,
};

use super::{SET_USERDATA, TYPE_IPV4, TYPE_IPV6, destination_in_header, octets, request};
use crate::apply::netlink::Request;
use crate::plan::Family;
use crate::plan::nft::{NftSet, NftTable};

/// A list of elements is one attribute, of less than 64 KiB (`nla_len`); a block of IPv6 takes some 80 bytes of it.
const BLOCKS_PER_MESSAGE: usize = 500;

/// `id`: tells it apart from the transaction's other sets.
pub(super) fn new_set(table: &NftTable, set: &NftSet, id: u32) -> Request<NetfilterMessage> {
    let (key_type, (_, bytes)) = match table.family {
        Family::V4 => (TYPE_IPV4, destination_in_header(Family::V4)),
        Family::V6 => (TYPE_IPV6, destination_in_header(Family::V6)),
    };
    let attributes = vec![
        SetAttribute::Table(table.name.to_owned()),
        SetAttribute::Name(set.name.to_owned()),
        SetAttribute::Flags(SetFlags::Interval),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(bytes),
        SetAttribute::Id(id),
        SetAttribute::UserData(SET_USERDATA.to_vec()),
    ];
    let inner = NfTablesMessage::NewSet(SetMessage { attributes });
    request(table, inner, NLM_F_CREATE, ("add set", set.name))
}

pub(super) fn set_path(table: &NftTable, set: &NftSet) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.name.to_owned()), SetElementList::Set(set.name.to_owned())]
}

/// As many messages as it takes.
pub(super) fn elements(table: &NftTable, set: &NftSet) -> impl Iterator<Item = Request<NetfilterMessage>> {
    set.blocks.chunks(BLOCKS_PER_MESSAGE).map(move |blocks| {
        let mut attributes = set_path(table, set);
        attributes.push(SetElementList::Elements(blocks.iter().flat_map(interval).collect()));
        let inner = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
        request(table, inner, NLM_F_CREATE, ("add element", set.name))
    })
}

/// A block as its first address and, unless it reaches the end of the address space, the first address behind it.
fn interval(block: &IpNet) -> Vec<ListAttribute<SetElementAttribute>> {
    let key = |address: IpAddr| SetElementAttribute::Key(DataAttribute::Value(octets(address)));
    let start = ListAttribute::Element(vec![key(block.network())]);
    let behind = match block.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::V6(next.into())),
    };
    let end = behind.map(|address| {
        ListAttribute::Element(vec![key(address), SetElementAttribute::Flags(SetElementFlags::IntervalEnd)])
    });
    std::iter::once(start).chain(end).collect()
}
