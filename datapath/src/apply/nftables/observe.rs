// SPDX-License-Identifier: Apache-2.0
//! Our nft table as read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute,
    SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use rustix::io::Errno;

use super::message;
use crate::apply::error::ApplyError;
use crate::apply::netlink::raw::{Message, find, walk};
use crate::apply::netlink::{Request, Socket};
use crate::plan::Family;
use crate::plan::host::{NftChainState, NftState, hook_text};
use crate::plan::nft::family_text;

/// NFT_MSG_GETSETELEM in NFNL_SUBSYS_NFTABLES; AF_INET, AF_INET6.
const GET_ELEMENT: u16 = 10 << 8 | 13;
const INET: u8 = 2;
const INET6: u8 = 10;

/// The table; `None`: there is none.
pub(crate) fn observe(socket: &mut Socket, family: Family, table: &str) -> Result<Option<NftState>, ApplyError> {
    if !table_is_there(socket, family, table)? {
        return Ok(None);
    }
    let mut list = List { socket, family, table };
    let mut state = NftState { sets: Vec::new(), chains: list.chains()? };
    for (name, is_interval) in list.sets()? {
        let blocks = if is_interval { list.blocks(&name)? } else { None };
        state.sets.push((name, blocks));
    }
    Ok(Some(state))
}

/// Whether there is such a table.
pub(super) fn table_is_there(socket: &mut Socket, family: Family, table: &str) -> Result<bool, ApplyError> {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    let get = message(family, NfTablesMessage::GetTable(TableMessage { attributes }));
    let doing = format!("nft list table {} {table}", family_text(family));
    match socket.request(Request { message: get, flags: 0, doing }) {
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Reads lists of one table.
pub(super) struct List<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) family: Family,
    pub(super) table: &'a str,
}

impl List<'_> {
    /// A list of the family; what it holds of other tables is left out by the caller.
    pub(super) fn dump(&mut self, inner: NfTablesMessage, doing: &str) -> Result<Vec<NfTablesMessage>, ApplyError> {
        let doing = format!("nft list {doing} {} {}", family_text(self.family), self.table);
        let answers: Vec<NetfilterMessage> = self.socket.dump(message(self.family, inner), &doing)?;
        let inner = answers.into_iter().filter_map(|answer| match answer.inner {
            NetfilterMessageInner::NfTables(inner) => Some(inner),
            _ => None,
        });
        Ok(inner.collect())
    }

    fn chains(&mut self) -> Result<Vec<NftChainState>, ApplyError> {
        let table = self.table.to_owned();
        let get = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let mut chains = Vec::new();
        for answer in self.dump(get, "chains")? {
            if let NfTablesMessage::NewChain(chain) = answer
                && chain.attributes.contains(&ChainAttribute::Table(table.clone()))
            {
                chains.push(chain_of(&chain));
            }
        }
        let attributes = vec![RuleAttribute::Table(table.clone())];
        let get = NfTablesMessage::GetRule(RuleMessage { attributes });
        for answer in self.dump(get, "table")? {
            let NfTablesMessage::NewRule(rule) = answer else { continue };
            if !rule.attributes.contains(&RuleAttribute::Table(table.clone())) {
                continue;
            }
            let of_chain =
                |chain: &&mut NftChainState| rule.attributes.contains(&RuleAttribute::Chain(chain.name.clone()));
            if let Some(chain) = chains.iter_mut().find(of_chain) {
                chain.comments.push(comment(&rule));
            }
        }
        Ok(chains)
    }

    /// Names of the table's sets, and whether each is an interval set.
    fn sets(&mut self) -> Result<Vec<(String, bool)>, ApplyError> {
        let table = SetAttribute::Table(self.table.to_owned());
        let get = NfTablesMessage::GetSet(SetMessage { attributes: vec![table.clone()] });
        let mut sets = Vec::new();
        for answer in self.dump(get, "sets table")? {
            let NfTablesMessage::NewSet(set) = answer else { continue };
            if !set.attributes.contains(&table) {
                continue;
            }
            let (mut name, mut is_interval) = (String::new(), false);
            for attribute in set.attributes {
                match attribute {
                    SetAttribute::Name(found) => name = found,
                    SetAttribute::Flags(flags) => is_interval = flags.contains(SetFlags::Interval),
                    _ => {}
                }
            }
            sets.push((name, is_interval));
        }
        Ok(sets)
    }

    /// The blocks of an interval set, merged and sorted; `None` when its elements are no addresses. Bytes and no typed messages:
    /// for every element of a list those print the whole of it, in case it cannot be parsed.
    fn blocks(&mut self, set: &str) -> Result<Option<Vec<IpNet>>, ApplyError> {
        let text = |value: &str| [value.as_bytes(), &[0]].concat();
        let family = if self.family == Family::V4 { INET } else { INET6 };
        // NFTA_SET_ELEM_LIST_TABLE 1, _SET 2, _ELEMENTS 3.
        let get = Message::new(GET_ELEMENT, family, 0).with(1, &text(self.table)).with(2, &text(set));
        let doing = format!("nft list set {set} of {} {}", family_text(self.family), self.table);
        let answers = self.socket.dump(get, &doing)?;
        let lists = answers.iter().flat_map(Message::attributes).filter(|(kind, _)| *kind == 3);
        let edges: Option<Vec<_>> = lists.flat_map(|(_, list)| walk(list)).map(|(_, parts)| edge(parts)).collect();
        Ok(edges.and_then(merge))
    }
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

/// The address of an element, and whether it is the end of a range: NFTA_SET_ELEM_KEY 1 with NFTA_DATA_VALUE 1,
/// NFTA_SET_ELEM_FLAGS 3 with NFT_SET_ELEM_INTERVAL_END 1.
pub(in crate::apply) fn edge(parts: &[u8]) -> Option<(IpAddr, bool)> {
    let flags = find(parts, 3).and_then(|flags| <[u8; 4]>::try_from(flags).ok()).map_or(0, u32::from_be_bytes);
    Some((address(find(find(parts, 1)?, 1)?)?, flags & 1 != 0))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Ranges from their edges: a start reaches to the next end, or to the end of the address space. `nft` itself puts an
/// end at 0.0.0.0 before the first range; it ends nothing. `None`: addresses of both families.
pub(in crate::apply) fn merge(mut edges: Vec<(IpAddr, bool)>) -> Option<Vec<IpNet>> {
    let is_mixed = edges.windows(2).any(|two| two[0].0.is_ipv4() != two[1].0.is_ipv4());
    if is_mixed {
        return None;
    }
    // At one address the end of a range comes before the start of the next.
    edges.sort_by_key(|(address, is_end)| (*address, !*is_end));
    let (mut blocks, mut start) = (Vec::new(), None);
    for (address, is_end) in edges {
        match (start, is_end) {
            (Some(first), true) => {
                blocks.extend(range(first, before(address))?);
                start = None;
            }
            (None, false) => start = Some(address),
            _ => {}
        }
    }
    if let Some(first) = start {
        let last = if first.is_ipv4() { Ipv4Addr::BROADCAST.into() } else { Ipv6Addr::from(u128::MAX).into() };
        blocks.extend(range(first, last)?);
    }
    let mut blocks = IpNet::aggregate(&blocks);
    blocks.sort();
    Some(blocks)
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).saturating_sub(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).saturating_sub(1)).into(),
    }
}

/// The blocks from `first` to `last`.
fn range(first: IpAddr, last: IpAddr) -> Option<Vec<IpNet>> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Some(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(texts: &[(&str, bool)]) -> Vec<(IpAddr, bool)> {
        texts.iter().map(|(text, is_end)| (text.parse().unwrap(), *is_end)).collect()
    }

    #[test]
    fn ranges_are_merged_to_blocks_and_elements_of_both_families_to_none() {
        let blocks = |texts: &[(&str, bool)]| {
            let blocks = merge(edges(texts))?;
            Some(blocks.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let one = [("0.0.0.0", true), ("10.0.0.0", false), ("10.1.0.0", true), ("224.0.0.0", false)];
        assert_eq!(blocks(&one).unwrap(), ["10.0.0.0/16", "224.0.0.0/3"]);
        assert_eq!(blocks(&[]).unwrap(), Vec::<String>::new());
        for mixed in [
            [("10.0.0.0", false), ("fd00::", false)],
            [("10.0.0.0", false), ("fd00::", true)],
            [("10.0.0.0", true), ("fd00::", false)],
        ] {
            assert_eq!(blocks(&mixed), None, "{mixed:?}");
        }
    }
}
