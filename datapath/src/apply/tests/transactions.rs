// SPDX-License-Identifier: Apache-2.0
//! Transactions of thousands of messages and sets of thousands of blocks: the outcome is known, and it is the kernel's.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::host::{node, setup};
use crate::apply::netlink::raw::Message;
use crate::apply::netlink::{Request, Socket};
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, pod};
use crate::apply::{host, hostport};
use crate::plan::host::HostSetup;
use crate::plan::hostport::{HostPort, Mapping, Protocol};

/// NFT_MSG_NEWTABLE and _DELTABLE, the frame of a batch, NLM_F_CREATE.
const NEW_TABLE: u16 = 10 << 8;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const CREATE: u16 = 0x400;

fn tables(kind: u16, names: impl Iterator<Item = String>) -> Vec<Request<Message>> {
    let request = |name: String| Request {
        message: Message::new(kind, 2, 0).with(1, &[name.as_bytes(), &[0]].concat()),
        flags: if kind == NEW_TABLE { CREATE } else { 0 },
        doing: format!("{kind:#x} {name}"),
    };
    names.map(request).collect()
}

fn batch(requests: Vec<Request<Message>>) -> Result<(), crate::apply::ApplyError> {
    Socket::netfilter().unwrap().batch(Message::new(0x10, 0, 10), requests, Message::new(0x11, 0, 10))
}

#[test]
fn a_transaction_of_thousands_of_messages_is_known_to_be_committed() {
    let node = Space::enter_new();
    batch(tables(NEW_TABLE, (0..1_000).map(|n| format!("t{n}")))).unwrap();
    assert_eq!(node.nft("list tables ip").lines().count(), 1_000);
}

#[test]
fn a_transaction_that_is_refused_thousands_of_times_names_the_first_and_changes_nothing() {
    let node = Space::enter_new();
    let mut requests = tables(NEW_TABLE, ["mine".to_owned()].into_iter());
    requests.extend(tables(DELETE_TABLE, (0..1_000).map(|n| format!("t{n}"))));
    let error = batch(requests).unwrap_err();
    assert_eq!((error.errno(), error.to_string().as_str()), (Some(2), "0xa02 t0"));
    assert_eq!(node.nft("list tables ip"), "");
}

#[test]
fn a_pod_with_thousands_of_host_ports_has_all_of_them_and_they_go_at_once() {
    let node = Space::enter_new();
    let (server, space) = (pod("server", Ipv4Addr::new(10, 0, 0, 7), None), Space::new());
    attach(&space.path(), &server).unwrap();
    let port = |host_port| HostPort { protocol: Protocol::Tcp, host_address: None, host_port, pod_port: 8080 };
    let folder = tempfile::tempdir().unwrap();
    let mapping = Mapping {
        owner: server.owner.clone(),
        host_veth: server.host_veth.clone(),
        address: server.addresses.v4().unwrap(),
        ports: (30_000..34_000).map(port).collect(),
    };
    hostport::publish(folder.path(), &mapping).unwrap();
    let listing = node.nft("list map ip enid_hostports ports");
    assert_eq!(listing.matches("server-sandbox").count(), 4_000);
    hostport::publish(folder.path(), &mapping).unwrap();
    assert_eq!(hostport::withdraw(folder.path(), &server.owner).unwrap(), 4_001);
}

#[test]
fn lists_of_thousands_of_blocks_are_installed_changed_and_read_back() {
    let node = node();
    // Every other address: no two can be one block.
    let blocks = |count: u32| -> Vec<Ipv4Net> {
        (0..count).map(|n| Ipv4Net::from(Ipv4Addr::from(0xc612_0000 + 2 * n))).collect()
    };
    let with = |count| HostSetup { exclude_cidrs: blocks(count), ..setup() };
    host::setup(&with(4_000)).unwrap();
    assert!(host::setup(&with(4_000)).unwrap().ops.is_empty(), "it is as wanted");
    assert_eq!(host::setup(&with(2_000)).unwrap().ops.len(), 1);
    assert!(host::setup(&with(2_000)).unwrap().ops.is_empty(), "it is as wanted");
    assert_eq!(node.nft("list set ip enid not_translated").matches("198.").count(), 2_000);
}
