// SPDX-License-Identifier: Apache-2.0
//! Our nft table in the kernel, by nfnetlink: written in one transaction, read back as what [`crate::plan::host::diff`]
//! compares. Only the table of the name given is touched, never another.
//!
//! "As wanted" is told by what the kernel keeps without changing it: chains with hook and policy, the comment of every
//! rule in order (it holds a fingerprint of the rule's text), the set's ranges. The kernel's own form of expressions is
//! not compared: it differs between versions.

mod encode;
mod flows;
pub(crate) mod leftovers;
pub(super) mod observe;

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rustix::io::Errno;

use super::error::ApplyError;
use super::netlink::{Request, Socket};
use crate::plan::Family;
use crate::plan::nft::{NftChain, NftTable, family_text};

pub(crate) use observe::observe;
use observe::table_is_there;

/// NFNL_SUBSYS_NFTABLES (`include/uapi/linux/netfilter/nfnetlink.h`), the subsystem a transaction is for.
const SUBSYSTEM: u16 = 10;

/// Makes the table so, whatever was there: one transaction, counters start anew. One with memories takes three steps: the table
/// without its last chain, what the memories must hold of now, the chain that goes by them. It is as harmless without the last
/// ones, and the next look finds them missing.
pub(crate) fn replace(socket: &mut Socket, table: &NftTable) -> Result<(), ApplyError> {
    let (Some((last, others)), false) = (table.chains.split_last(), table.memories.is_empty()) else {
        return transaction(socket, encode::replacement(table));
    };
    let with = |chains: &[NftChain]| NftTable { chains: chains.to_vec(), ..table.clone() };
    transaction(socket, encode::replacement(&with(others)))?;
    flows::keep_translated(socket, table)?;
    transaction(socket, encode::addition(&with(std::slice::from_ref(last))))
}

/// Replaces the elements of the table's sets in one transaction; rules and counters stay.
pub(crate) fn replace_set(socket: &mut Socket, table: &NftTable) -> Result<(), ApplyError> {
    transaction(socket, encode::set_replacement(table))
}

/// Deletes the table; none there is fine.
pub(crate) fn remove(socket: &mut Socket, family: Family, table: &str) -> Result<(), ApplyError> {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    let message = message(family, NfTablesMessage::DeleteTable(TableMessage { attributes }));
    let doing = format!("nft delete table {} {table}", family_text(family));
    match transaction(socket, vec![Request { message, flags: 0, doing }]) {
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        other => other,
    }
}

fn transaction(socket: &mut Socket, requests: Vec<Request<NetfilterMessage>>) -> Result<(), ApplyError> {
    use netlink_packet_netfilter::none::ControlMessage;
    let header = || NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
    let begin = NetfilterMessage::new(header(), ControlMessage::BatchBegin);
    let end = NetfilterMessage::new(header(), ControlMessage::BatchEnd);
    socket.batch(begin, requests, end)
}

fn message(family: Family, inner: NfTablesMessage) -> NetfilterMessage {
    let family = match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
