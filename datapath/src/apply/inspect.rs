// SPDX-License-Identifier: Apache-2.0
//! What a look of the repair would see, without a write: for commands that compare, and for a bundle that somebody else reads.
//!
//! What must be there is said by `plan`, and what is read is what [`super::repair`] reads. Nothing is written, so nothing is kept either.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::error::ApplyError;
use super::ledger::Ledger;
use super::netlink::Socket;
use super::netlink::read::{self, Link, RouteFilter};
use super::{eni, host, nftables, repair};
use crate::plan::eni::EniSetup;
use crate::plan::host::{HostSetup, NftState};
use crate::plan::nft::family_text;
use crate::plan::pods::NodeState;
use crate::plan::{Family, LinkName, LinkRef, Op, Plan, ids};

/// One reading of the node's namespace.
///
/// # Errors
/// A list that cannot be had whole.
pub fn node() -> Result<NodeState, ApplyError> {
    repair::observe(&mut Socket::route()?)
}

/// What the node's own set-up lacks, or has too much.
///
/// # Errors
/// The kernel cannot be read, or has no link of the primary ENI.
pub fn host(setup: &HostSetup) -> Result<Plan, ApplyError> {
    host::missing(setup, &Ledger::nowhere())
}

/// What an ENI's set-up lacks, or has too much.
///
/// # Errors
/// The kernel cannot be read, or has no link with its MAC.
pub fn eni(setup: &EniSetup) -> Result<Plan, ApplyError> {
    let (_, state) = eni::observe(&mut Socket::route()?, setup)?;
    Ok(crate::plan::eni::diff(setup, &state))
}

/// Operations with links by name where they were read by index.
#[must_use]
pub fn named(op: &Op, state: &NodeState) -> Op {
    repair::named(op.clone(), &repair::names(state))
}

/// Links, addresses, rules, routes, neighbours and our nft tables as text, a part each: its name, and what it says or why it cannot be
/// read. Each is read once, and for itself: one that cannot be read takes no other with it.
#[must_use]
pub fn texts() -> Vec<(&'static str, Result<String, ApplyError>)> {
    let links = Socket::route().and_then(|mut socket| read::links(&mut socket));
    let name = |link: &Link| Some((link.index, LinkName::new(&link.name).ok()?));
    let names: Names = links.iter().flatten().filter_map(name).collect();
    vec![
        ("links", links.map(|links| lines(links.iter().map(link)))),
        ("addresses", addresses(&names)),
        ("rules", rules()),
        ("routes", routes(&names)),
        ("neighbours", neighbours(&names)),
        ("nft", nft()),
    ]
}

/// Links' names by index.
type Names = BTreeMap<u32, LinkName>;

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")
}

fn link(link: &Link) -> String {
    let Link { index, name, mac, mtu, up, group, alias_text, kind, peer, rp_filter, ipv6: _ } = link;
    let mut line = format!("{index}: {name} {}", if *up { "up" } else { "down" });
    let mac = mac.map(|mac| format!(" mac {mac}")).unwrap_or_default();
    let _ = write!(line, "{mac} mtu {mtu} group {group}");
    let _ = kind.iter().try_for_each(|kind| write!(line, " kind {kind}"));
    let _ = peer.iter().try_for_each(|peer| write!(line, " peer if{peer}"));
    let _ = rp_filter.iter().try_for_each(|value| write!(line, " rp_filter {value}"));
    let _ = alias_text.iter().try_for_each(|alias| write!(line, " alias '{alias}'"));
    line
}

fn addresses(names: &Names) -> Result<String, ApplyError> {
    let mut socket = Socket::route()?;
    let mut all = Vec::new();
    for family in Family::ALL {
        for (index, address, protocol) in read::addresses(&mut socket, family, None)? {
            let link = names.get(&index).map_or_else(|| format!("if{index}"), ToString::to_string);
            all.push(format!("{} dev {link} protocol {protocol}", address.address));
        }
    }
    Ok(lines(all))
}

fn rules() -> Result<String, ApplyError> {
    let mut socket = Socket::route()?;
    let mut all = Vec::new();
    for family in Family::ALL {
        let ip = if family == Family::V4 { "ip" } else { "ip -6" };
        let rules = read::rules(&mut socket, family)?;
        all.extend(rules.iter().map(|(rule, protocol)| format!("{ip} rule: {rule} protocol {protocol}")));
    }
    Ok(lines(all))
}

fn routes(names: &Names) -> Result<String, ApplyError> {
    let mut socket = Socket::route()?;
    let mut all = Vec::new();
    for family in Family::ALL {
        for mut route in read::routes(&mut socket, RouteFilter { family, ..RouteFilter::default() })? {
            if let LinkRef::Index(index) = route.link
                && let Some(name) = names.get(&index)
            {
                route.link = LinkRef::Name(name.clone());
            }
            all.push(route.to_string());
        }
    }
    Ok(lines(all))
}

fn neighbours(names: &Names) -> Result<String, ApplyError> {
    let mut socket = Socket::route()?;
    let mut all = Vec::new();
    for family in Family::ALL {
        let neighbours = read::neighbours(&mut socket, family, ids::PROTOCOL)?;
        all.extend(
            neighbours.into_iter().map(|neighbour| repair::named(Op::NeighbourSet(neighbour), names).to_string()),
        );
    }
    Ok(lines(all))
}

fn nft() -> Result<String, ApplyError> {
    let mut text = String::new();
    for family in Family::ALL {
        let table = format!("table {} {}", family_text(family), ids::NFT_TABLE);
        match nftables::observe(&mut Socket::netfilter()?, family, ids::NFT_TABLE)? {
            None => text.push_str(&format!("{table}: not there\n")),
            Some(state) => text.push_str(&format!("{table}\n{}", table_text(&state))),
        }
    }
    Ok(text)
}

/// Sets with their blocks, chains with their rules' comments, which say what each rule is.
fn table_text(state: &NftState) -> String {
    let mut text = String::new();
    for (name, blocks) in &state.sets {
        let blocks = blocks.as_ref().map_or_else(
            || "not of addresses".to_owned(),
            |blocks| blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        );
        text.push_str(&format!("  set {name}: {blocks}\n"));
    }
    for chain in &state.chains {
        text.push_str(&format!("  chain {} {}\n", chain.name, chain.hook));
        chain.comments.iter().for_each(|comment| text.push_str(&format!("    {comment}\n")));
    }
    text
}
