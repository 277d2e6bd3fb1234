// SPDX-License-Identifier: Apache-2.0
//! The node's own set-up in the kernel. As for an ENI: read, write what [`crate::plan::host::diff`]
//! says, read again; nothing is written, and no counter reset, when it is so already.

use super::error::ApplyError;
use super::ledger::Ledger;
use super::netlink::Socket;
use super::netlink::read::{self, Link};
use super::{conntrack, eni, nftables, sysctl};
use crate::plan::egress::EGRESS;
use crate::plan::host::{self as plan, HostSetup, HostState, Ipv6State};
use crate::plan::nft::NftTable;
use crate::plan::settings::Setting;
use crate::plan::{Family, LinkName, MacAddr, Op, Plan, ids, marks};

/// Sets the node up and proves it; what had to be written. What settings of the node were before is in the ledger then.
///
/// # Errors
/// [`ApplyError::Invalid`] when there is no VPC block to keep from SNAT; [`ApplyError::LinkMissing`] without the primary
/// ENI's link; [`ApplyError::NotWritable`] when a setting must be changed and cannot be from here (a container with
/// /proc/sys read-only); [`ApplyError::Record`] when what it was cannot be kept, and it is left as it is.
pub fn setup_with(host: &HostSetup, ledger: &mut Ledger) -> Result<Plan, ApplyError> {
    if host.vpc_cidrs.is_empty() && !host.external_snat {
        let reason = "no VPC block is known: SNAT would hide every pod from the VPC".to_owned();
        return Err(ApplyError::Invalid { reason });
    }
    let mut route = Socket::route()?;
    let mut netfilter = Socket::netfilter()?;
    let (link, state) = observe(&mut route, &mut netfilter, host, ledger)?;
    if !host.disables_early_demux && !state.early_demux_off {
        ledger.forget(Setting::TcpEarlyDemux)?;
    }
    let missing = plan::diff(host, &state);
    let mut written = Plan::default();
    for op in &missing.ops {
        let done = ledger.around(op, || match op {
            Op::Sysctl(setting) => sysctl::ensure(setting).map(|_| ()),
            Op::NftReplace(table) => nftables::replace(&mut netfilter, table),
            Op::NftSetReplace(table) => nftables::replace_set(&mut netfilter, table),
            Op::NftDelete(family, table) => nftables::remove(&mut netfilter, *family, table),
            _ => eni::write(&mut route, op, link.index, &link.name),
        });
        match done {
            // The node works without it: who asked for it is told by `early_demux_is_off`.
            Err(ApplyError::NotWritable { .. }) if is_optional(op) => {}
            done => {
                done?;
                written.ops.push(op.clone());
            }
        }
    }
    if written.is_empty() {
        return Ok(written);
    }
    for table in written.ops.iter().filter_map(made_anew) {
        forget_what_changes(host, &state, table)?;
    }
    let mut left = plan::diff(host, &observe(&mut route, &mut netfilter, host, ledger)?.1);
    left.ops.retain(|op| !is_optional(op));
    eni::prove("host", &left)?;
    Ok(written)
}

/// What of the node's set-up is below /proc/sys and not so yet: a daemon without privileges finds it read-only, so the install step
/// writes it. `ipv6`: the MAC of the primary ENI, where pods use IPv6.
///
/// # Errors
/// A setting or the links cannot be read, or no link has that MAC.
pub fn missing_settings(disables_early_demux: bool, ipv6: Option<MacAddr>) -> Result<Plan, ApplyError> {
    let mut ops = Vec::new();
    if sysctl::value(Setting::IpForward)?.as_deref() != Some("1") {
        ops.push(Setting::IpForward.to(1));
    }
    if let Some(mac) = ipv6 {
        let link = eni::find(read::links(&mut Socket::route()?)?, mac)?;
        ops.extend(plan::ipv6_forwarding(&forwarding_of(&link.name)?));
    }
    if disables_early_demux && !early_demux_is_off()? {
        ops.push(Setting::TcpEarlyDemux.to(0));
    }
    Ok(Plan { ops })
}

/// Writes settings that are missing; what they were is in the ledger before.
///
/// # Errors
/// [`ApplyError::NotWritable`] where /proc/sys is read-only; [`ApplyError::Record`] when what it was cannot be kept, and it is
/// left as it is.
pub fn write_settings(missing: &Plan, ledger: &mut Ledger) -> Result<(), ApplyError> {
    for op in &missing.ops {
        let Op::Sysctl(setting) = op else { continue };
        ledger.around(op, || sysctl::ensure(setting).map(|_| ()))?;
    }
    Ok(())
}

/// Whether a node serves without it.
fn is_optional(op: &Op) -> bool {
    Setting::changed_by(op).is_some_and(|(setting, _)| setting == Setting::TcpEarlyDemux)
}

/// Whether the kernel does not look for a packet's socket before it routes the packet; it may lack the setting.
///
/// # Errors
/// The setting cannot be read.
pub fn early_demux_is_off() -> Result<bool, ApplyError> {
    Ok(sysctl::value(Setting::TcpEarlyDemux)?.is_none_or(|value| value == "0"))
}

/// What is not so yet; what a node serves without is left out.
pub(super) fn missing(host: &HostSetup, ledger: &Ledger) -> Result<Plan, ApplyError> {
    let (_, state) = observe(&mut Socket::route()?, &mut Socket::netfilter()?, host, ledger)?;
    let mut missing = plan::diff(host, &state);
    missing.ops.retain(|op| !is_optional(op));
    Ok(missing)
}

fn made_anew(op: &Op) -> Option<&NftTable> {
    if let Op::NftReplace(table) = op { Some(table) } else { None }
}

/// Connections that the kernel would go on treating as before the table was made.
fn forget_what_changes(host: &HostSetup, before: &HostState, table: &NftTable) -> Result<(), ApplyError> {
    if table.sets.iter().any(|set| set.name == EGRESS) {
        // What began while the table was away stays untranslated as long as the kernel knows it, and is dropped for that.
        conntrack::forget_untranslated(ids::egress_range(table.family))?;
    }
    let had_memories =
        || before.nft.as_ref().is_some_and(|found| found.sets.iter().any(|(_, blocks)| blocks.is_none()));
    if table.family == Family::V4 && (!table.memories.is_empty() || had_memories()) {
        // What is left untracked moves on, and its entry does not: tracked again, its packets would lie outside the windows that
        // the entry knows, and be invalid. Without an entry it is taken up where it is.
        conntrack::forget_plain(&host.vpc_cidrs, host.primary_address)?;
    }
    Ok(())
}

/// The same with nothing kept of what was before.
#[cfg(test)]
pub(crate) fn setup(host: &HostSetup) -> Result<Plan, ApplyError> {
    setup_with(host, &mut Ledger::nowhere())
}

fn observe(
    route: &mut Socket,
    netfilter: &mut Socket,
    host: &HostSetup,
    ledger: &Ledger,
) -> Result<(Link, HostState), ApplyError> {
    let (link, primary) = eni::observe(route, &host.primary_eni())?;
    let of_host = [ids::PRIORITY_MARK, ids::PRIORITY_EXTERNAL_SERVICE];
    let (mut rules, mut mark_rules, mut has_flat_pods) = (Vec::new(), Vec::new(), false);
    for family in Family::ALL {
        let (of_marks, others): (Vec<_>, Vec<_>) =
            read::rules(route, family)?.into_iter().partition(|(rule, _)| marks::is_rule(rule));
        let pod_rule = HostSetup::pod_rule(family);
        rules.extend(others.into_iter().filter(|(rule, _)| of_host.contains(&rule.priority) || *rule == pod_rule));
        mark_rules.extend(of_marks);
        has_flat_pods |= read::has_routes(route, family, ids::POD_TABLE)?;
    }
    let state = HostState {
        primary,
        ip_forward: sysctl::value(Setting::IpForward)?.as_deref() == Some("1"),
        early_demux_off: early_demux_is_off()?,
        early_demux_found: ledger.found(Setting::TcpEarlyDemux),
        rules,
        mark_rules,
        has_flat_pods,
        nft: nftables::observe(netfilter, Family::V4, ids::NFT_TABLE)?,
        ipv6: observe_ipv6(route, netfilter, &link.name)?,
    };
    Ok((link, state))
}

/// Of IPv6, what is below /proc/sys.
fn forwarding_of(primary: &str) -> Result<Ipv6State, ApplyError> {
    let accept_ra = sysctl::read(&format!("net/ipv6/conf/{primary}/accept_ra"))?;
    let hears_as_host = accept_ra.as_deref() == Some("1");
    Ok(Ipv6State {
        forwards: sysctl::value(Setting::Ipv6Forwarding)?.is_none_or(|value| value == "1"),
        hears_routers_as_host: LinkName::new(primary).ok().filter(|_| hears_as_host),
        ..Ipv6State::default()
    })
}

fn observe_ipv6(route: &mut Socket, netfilter: &mut Socket, primary: &str) -> Result<Ipv6State, ApplyError> {
    // By the alias: a route that somebody has removed proves nothing.
    let of_pod =
        |link: &Link| link.group != ids::DEAD_GROUP && link.alias().is_some_and(|alias| alias.addresses.v6().is_some());
    Ok(Ipv6State {
        has_pods: read::links(route)?.iter().any(of_pod),
        nft: nftables::observe(netfilter, Family::V6, ids::NFT_TABLE)?,
        ..forwarding_of(primary)?
    })
}

/// Takes away what the reference has left in nf_tables, once ours is there: its table, chains and rules, known by their names
/// and comments (`nftables::leftovers`). What was found, as nft commands; nothing is the usual answer.
///
/// # Errors
/// The kernel refuses, and nothing was changed; or its rules cannot be read.
pub fn remove_leftovers() -> Result<Vec<String>, ApplyError> {
    nftables::leftovers::remove(&mut Socket::netfilter()?)
}

pub use nftables::leftovers::{LEGACY_CLEANUP, has_legacy_tables};
