// SPDX-License-Identifier: Apache-2.0
//! Connections put into the kernel for tests, and read back.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::*;
use crate::apply::netlink::{Request, Socket};

/// A UDP connection; source and destination ports are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) original: (IpAddr, IpAddr),
    pub(crate) reply: (IpAddr, IpAddr),
    pub(crate) port: u16,
}

/// IPCTNL_MSG_CT_NEW.
const NEW: u16 = SUBSYSTEM;

fn tuple(kind: u16, (source, destination): (IpAddr, IpAddr), port: u16) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let first = if source.is_ipv4() { 1 } else { 3 };
    let addresses = [attribute(first, &octets(source)), attribute(first + 1, &octets(destination))].concat();
    let port = port.to_be_bytes();
    let protocol = [attribute(1, &[UDP]), attribute(2, &port), attribute(3, &port)].concat();
    let parts = [attribute(ADDRESSES | NESTED, &addresses), attribute(2 | NESTED, &protocol)].concat();
    attribute(kind | NESTED, &parts)
}

/// Makes the kernel track these, for five minutes.
pub(crate) fn insert(flows: &[Flow]) {
    let mut socket = Socket::netfilter().unwrap();
    let requests = flows.iter().map(|flow| {
        let mut message = Message::new(NEW, family(&flow.original.0), 0);
        message.body.extend(tuple(ORIGINAL, flow.original, flow.port));
        message.body.extend(tuple(REPLY, flow.reply, flow.port));
        message.body.extend(attribute(7, &300_u32.to_be_bytes()));
        Request { message, flags: NLM_F_CREATE | NLM_F_EXCL, doing: format!("conntrack -I {flow:?}") }
    });
    for answer in socket.transact(requests.collect()).unwrap() {
        answer.unwrap();
    }
}

/// The connections that the kernel tracks.
pub(crate) fn listed() -> Vec<Flow> {
    let mut flows = Vec::new();
    for family in [INET, INET6] {
        let add = |entry: Message| {
            let addresses: Vec<IpAddr> = addresses(&entry).collect();
            let [a, b, c, d] = addresses[..] else { panic!("not two tuples: {entry:?}") };
            let original = entry.attributes().find(|(kind, _)| *kind == ORIGINAL).unwrap().1.to_vec();
            let protocol = walk(&original).find(|(kind, _)| *kind == 2).unwrap().1.to_vec();
            let port = walk(&protocol).find(|(kind, _)| *kind == 3).unwrap().1.to_vec();
            flows.push(Flow { original: (a, b), reply: (c, d), port: u16::from_be_bytes([port[0], port[1]]) });
        };
        Socket::netfilter().unwrap().dump_each(list(family), "conntrack -L", add).unwrap();
    }
    flows
}

#[test]
fn a_flush_names_the_tuple_the_address_and_the_filter() {
    let message = flush("10.0.0.7".parse().unwrap(), Place { tuple: REPLY, is_source: true });
    assert_eq!(addresses(&message).collect::<Vec<_>>(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    let kinds: Vec<u16> = message.attributes().map(|(kind, _)| kind).collect();
    assert_eq!((message.kind, kinds), (0x102, vec![REPLY, FILTER]));
}
