// SPDX-License-Identifier: Apache-2.0
//! Our nft table as read.

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv4Subnets};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage, SetMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use rustix::io::Errno;

use super::message;
use crate::apply::error::ApplyError;
use crate::apply::netlink::{Request, Socket};
use crate::plan::host::{NftChainState, NftState, hook_text};

/// The table; `None`: there is none.
pub(crate) fn observe(socket: &mut Socket, table: &str) -> Result<Option<NftState>, ApplyError> {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    let get = message(NfTablesMessage::GetTable(TableMessage { attributes }));
    match socket.request(Request { message: get, flags: 0, doing: format!("nft list table ip {table}") }) {
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => return Ok(None),
        other => other.map(|_| ())?,
    }
    let mut state = NftState { sets: Vec::new(), chains: chains(socket, table)? };
    for (name, is_interval) in sets(socket, table)? {
        let blocks = if is_interval { blocks(socket, table, &name)? } else { None };
        state.sets.push((name, blocks));
    }
    Ok(Some(state))
}

/// A list of family `ip`; what it holds of other tables is left out by the caller.
fn dump(socket: &mut Socket, inner: NfTablesMessage, doing: &str) -> Result<Vec<NfTablesMessage>, ApplyError> {
    let answers: Vec<NetfilterMessage> = socket.dump(message(inner), doing)?;
    let inner = answers.into_iter().filter_map(|answer| match answer.inner {
        NetfilterMessageInner::NfTables(inner) => Some(inner),
        _ => None,
    });
    Ok(inner.collect())
}

fn chains(socket: &mut Socket, table: &str) -> Result<Vec<NftChainState>, ApplyError> {
    let get = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let mut chains = Vec::new();
    for answer in dump(socket, get, "nft list chains ip")? {
        if let NfTablesMessage::NewChain(chain) = answer
            && chain.attributes.contains(&ChainAttribute::Table(table.to_owned()))
        {
            chains.push(chain_of(&chain));
        }
    }
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    let get = NfTablesMessage::GetRule(RuleMessage { attributes });
    for answer in dump(socket, get, &format!("nft list table ip {table}"))? {
        let NfTablesMessage::NewRule(rule) = answer else { continue };
        if !rule.attributes.contains(&RuleAttribute::Table(table.to_owned())) {
            continue;
        }
        let of_chain = |chain: &&mut NftChainState| rule.attributes.contains(&RuleAttribute::Chain(chain.name.clone()));
        if let Some(chain) = chains.iter_mut().find(of_chain) {
            chain.comments.push(comment(&rule));
        }
    }
    Ok(chains)
}

fn chain_of(message: &ChainMessage) -> NftChainState {
    let (mut name, mut kind, mut hook, mut policy) = (String::new(), String::new(), None, 0);
    for attribute in &message.attributes {
        match attribute {
            ChainAttribute::Name(found) => name.clone_from(found),
            ChainAttribute::Type(found) => kind.clone_from(found),
            ChainAttribute::Policy(found) => policy = *found,
            ChainAttribute::Hook(attributes) => hook = hook_of(attributes),
            _ => {}
        }
    }
    let hook = hook.map_or_else(String::new, |(number, priority)| hook_text(&kind, number, priority, policy));
    NftChainState { name, hook, comments: Vec::new() }
}

fn hook_of(attributes: &[Hook]) -> Option<(u32, i32)> {
    let number = attributes.iter().find_map(|attribute| match attribute {
        Hook::Number(HookNumber::Inet(number)) => Some(u32::from(*number)),
        _ => None,
    });
    let priority = attributes.iter().find_map(|attribute| match attribute {
        Hook::Priority(priority) => Some(priority.cast_signed()),
        _ => None,
    });
    number.zip(priority)
}

/// The comment in a rule's user data (type 0, length, text with its NUL); empty when there is none.
fn comment(rule: &RuleMessage) -> String {
    let userdata = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::UserData(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    match userdata {
        Some([0, length, text @ ..]) => {
            let text = text.get(..usize::from(*length)).unwrap_or(text);
            String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
        }
        _ => String::new(),
    }
}

/// Names of the table's sets, and whether each is an interval set.
fn sets(socket: &mut Socket, table: &str) -> Result<Vec<(String, bool)>, ApplyError> {
    let attributes = vec![SetAttribute::Table(table.to_owned())];
    let get = NfTablesMessage::GetSet(SetMessage { attributes });
    let mut sets = Vec::new();
    for answer in dump(socket, get, &format!("nft list sets table ip {table}"))? {
        let NfTablesMessage::NewSet(set) = answer else { continue };
        if !set.attributes.contains(&SetAttribute::Table(table.to_owned())) {
            continue;
        }
        let (mut name, mut is_interval) = (String::new(), false);
        for attribute in set.attributes {
            match attribute {
                SetAttribute::Name(found) => name = found,
                SetAttribute::Flags(flags) => {
                    is_interval = flags.contains(netlink_packet_netfilter::nftables::SetFlags::Interval)
                }
                _ => {}
            }
        }
        sets.push((name, is_interval));
    }
    Ok(sets)
}

/// The blocks of an interval set, merged and sorted; `None` when its elements are no IPv4 ranges.
fn blocks(socket: &mut Socket, table: &str, set: &str) -> Result<Option<Vec<Ipv4Net>>, ApplyError> {
    let attributes = vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
    let get = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let mut edges = Vec::new();
    for answer in dump(socket, get, &format!("nft list set ip {table} {set}"))? {
        let NfTablesMessage::NewSetElement(list) = answer else { continue };
        for attribute in list.attributes {
            let SetElementList::Elements(elements) = attribute else { continue };
            for element in elements {
                let ListAttribute::Element(attributes) = element else { continue };
                let Some(edge) = edge(&attributes) else { return Ok(None) };
                edges.push(edge);
            }
        }
    }
    Ok(Some(merge(edges)))
}

/// The address of an element, and whether it is the end of a range.
fn edge(attributes: &[SetElementAttribute]) -> Option<(u32, bool)> {
    let (mut key, mut is_end) = (None, false);
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(bytes)) => key = <[u8; 4]>::try_from(bytes.as_slice()).ok(),
            SetElementAttribute::Flags(flags) => is_end = flags.contains(SetElementFlags::IntervalEnd),
            _ => {}
        }
    }
    Some((u32::from_be_bytes(key?), is_end))
}

/// Ranges from their edges: a start reaches to the next end, or to the end of the address space. `nft` itself puts an
/// end at 0.0.0.0 before the first range; it ends nothing.
fn merge(mut edges: Vec<(u32, bool)>) -> Vec<Ipv4Net> {
    // At one address the end of a range comes before the start of the next.
    edges.sort_by_key(|(address, is_end)| (*address, !*is_end));
    let (mut blocks, mut start) = (Vec::new(), None);
    let range = |first: u32, last: u32| Ipv4Subnets::new(Ipv4Addr::from(first), Ipv4Addr::from(last), 0);
    for (address, is_end) in edges {
        match (start, is_end) {
            (Some(first), true) => {
                blocks.extend(range(first, address.saturating_sub(1)));
                start = None;
            }
            (None, false) => start = Some(address),
            _ => {}
        }
    }
    blocks.extend(start.into_iter().flat_map(|first| range(first, u32::MAX)));
    let mut blocks = Ipv4Net::aggregate(&blocks);
    blocks.sort();
    blocks
}
