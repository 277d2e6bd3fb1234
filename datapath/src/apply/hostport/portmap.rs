// SPDX-License-Identifier: Apache-2.0
//! What the CNI project's `portmap` has for one sandbox in the tables of iptables-nft. A runtime runs DEL by the configuration of
//! now: who opened ports by a chained `portmap` that is no longer in it would keep them after the sandbox's end.
//!
//! | object, in tables `ip nat` and `ip6 nat` | told by |
//! |---|---|
//! | rule of chain CNI-HOSTPORT-DNAT | its whole comment `dnat name: "<network>" id: "<container>"`, and a jump to the next |
//! | chain CNI-DN-<hash>, with all in it | the jump |
//!
//! Another network's or sandbox's have another comment and stay, as do the chains that portmap has for all. iptables-legacy
//! keeps its rules out of our reach: [`legacy_cleanup`] is what an operator runs. Names: containernetworking/plugins,
//! `plugins/meta/portmap/portmap.go`; a match in a rule of iptables-nft: `nf_tables_compat.h`.

use rustix::io::Errno;

use crate::apply::error::ApplyError;
use crate::apply::netlink::raw::{Message, find, walk};
use crate::apply::netlink::{Request, Socket};

/// NFT_MSG_GETCHAIN, _DELCHAIN, _GETRULE, _DELRULE in NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const DELETE_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
/// AF_INET, AF_INET6, with nft's words.
pub(super) const FAMILIES: [Family; 2] = [(2, "ip"), (10, "ip6")];
type Family = (u8, &'static str);
const TABLE: &str = "nat";
const CHAIN: &str = "CNI-HOSTPORT-DNAT";
const OWN_CHAINS: &str = "CNI-DN-";

/// A sandbox, as portmap names it.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The container's id.
    pub container: &'a str,
}

/// Asks for the chain that entries are in: a node without portmap has none.
pub(super) fn get_chain((family, word): Family) -> Request<Message> {
    let message = Message::new(GET_CHAIN, family, 0).with(1, &text(TABLE)).with(3, &text(CHAIN));
    Request { message, flags: 0, doing: format!("nft list chain {word} {TABLE} {CHAIN}") }
}

/// Takes it away, all in one transaction a family; what was found, as nft commands.
pub(super) fn remove(
    socket: &mut Socket,
    families: impl Iterator<Item = Family>,
    sandbox: Sandbox<'_>,
) -> Result<Vec<String>, ApplyError> {
    let comment = format!("dnat name: \"{}\" id: \"{}\"", sandbox.network, sandbox.container);
    let mut found = Vec::new();
    for family in families {
        let requests = removals(socket, family, &comment)?;
        let commands: Vec<_> = requests.iter().map(|request| request.doing.clone()).collect();
        socket.batch(Message::new(0x10, 0, SUBSYSTEM), requests, Message::new(0x11, 0, SUBSYSTEM))?;
        found.extend(commands);
    }
    Ok(found)
}

/// Takes a sandbox's rules out of iptables-legacy. For operators: nothing of ours runs it.
#[must_use]
pub fn legacy_cleanup(container: &str) -> String {
    format!("iptables-legacy-save -c -t nat | grep -vF 'id: \\\"{container}\\\"' | iptables-legacy-restore -c -T nat")
}

fn removals(socket: &mut Socket, (family, word): Family, comment: &str) -> Result<Vec<Request<Message>>, ApplyError> {
    // NFTA_RULE_TABLE 1, _CHAIN 2, _HANDLE 3; NFTA_CHAIN_TABLE 1, _NAME 3.
    let of = |kind, chain: &str| Message::new(kind, family, 0).with(1, &text(TABLE)).with(2, &text(chain));
    let doing = format!("nft list chain {word} {TABLE} {CHAIN}");
    let rules = match socket.dump(of(GET_RULE, CHAIN), &doing) {
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => return Ok(Vec::new()),
        rules => rules?,
    };
    let mut requests = Vec::new();
    let mut add = |message, doing| requests.push(Request { message, flags: 0, doing });
    for rule in rules {
        let Some((handle, own)) = entry(&rule, comment) else { continue };
        let number = u64::from_be_bytes(handle);
        add(of(DELETE_RULE, CHAIN).with(3, &handle), format!("nft delete rule {word} {TABLE} {CHAIN} handle {number}"));
        add(of(DELETE_RULE, &own), format!("nft flush chain {word} {TABLE} {own}"));
        let chain = Message::new(DELETE_CHAIN, family, 0).with(1, &text(TABLE)).with(3, &text(&own));
        add(chain, format!("nft delete chain {word} {TABLE} {own}"));
    }
    Ok(requests)
}

/// Handle of the sandbox's entry, and the chain that it jumps to; `None`: another's rule.
pub(in crate::apply) fn entry(rule: &Message, comment: &str) -> Option<([u8; 8], String)> {
    let value = |kind| rule.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value);
    if plain(value(1)?) != TABLE || plain(value(2)?) != CHAIN {
        return None;
    }
    let handle = value(3)?.try_into().ok()?;
    // NFTA_LIST_ELEM; in each NFTA_EXPR_NAME 1 and NFTA_EXPR_DATA 2.
    let expressions =
        || walk(value(4).unwrap_or_default()).filter_map(|(_, parts)| Some((plain(find(parts, 1)?), find(parts, 2)?)));
    // NFTA_MATCH_NAME 1, _INFO 3.
    let says_so = |(name, data): (String, &[u8])| {
        name == "match"
            && find(data, 1).map(plain).as_deref() == Some("comment")
            && find(data, 3).map(plain).as_deref() == Some(comment)
    };
    // NFTA_IMMEDIATE_DATA 2, NFTA_DATA_VERDICT 2, NFTA_VERDICT_CHAIN 2.
    let target = |(name, data): (String, &[u8])| {
        (name == "immediate").then(|| find(find(find(data, 2)?, 2)?, 2).map(plain)).flatten()
    };
    let own = expressions().find_map(target).filter(|chain| chain.starts_with(OWN_CHAINS))?;
    expressions().any(says_so).then_some((handle, own))
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

/// Up to the first zero.
fn plain(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
