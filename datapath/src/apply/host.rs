// SPDX-License-Identifier: Apache-2.0
//! The node's own set-up in the kernel, and its removal. As for an ENI: read, write what [`crate::plan::host::diff`]
//! says, read again; nothing is written, and no counter reset, when it is so already.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::error::ApplyError;
use super::execute::{self, Done};
use super::netlink::Socket;
use super::netlink::read::{self, Link, RouteFilter};
use super::{eni, garbage, nftables, sysctl};
use crate::plan::host::{self as plan, HostSetup, HostState};
use crate::plan::hostport;
use crate::plan::{Family, LinkRef, Op, Plan, VethAlias, ids};

/// Sets the node up and proves it; what had to be written.
///
/// # Errors
/// [`ApplyError::Invalid`] when there is no VPC block to keep from SNAT; [`ApplyError::LinkMissing`] without the primary
/// ENI's link; [`ApplyError::Sysctl`] when forwarding is off and cannot be switched on from here (a container with
/// /proc/sys read-only: set `net.ipv4.ip_forward=1` on the node).
pub fn setup(host: &HostSetup) -> Result<Plan, ApplyError> {
    if host.vpc_cidrs.is_empty() && !host.external_snat {
        let reason = "no VPC block is known: SNAT would hide every pod from the VPC".to_owned();
        return Err(ApplyError::Invalid { reason });
    }
    let mut route = Socket::route()?;
    let mut netfilter = Socket::netfilter()?;
    let (link, state) = observe(&mut route, &mut netfilter, host)?;
    let missing = plan::diff(host, &state);
    if missing.is_empty() {
        return Ok(missing);
    }
    for op in &missing.ops {
        match op {
            Op::Sysctl(setting) => sysctl::ensure(setting).map(|_| ())?,
            Op::NftReplace(table) => nftables::replace(&mut netfilter, table)?,
            Op::NftSetReplace(table) => nftables::replace_set(&mut netfilter, table)?,
            _ => eni::write(&mut route, &Plan { ops: vec![op.clone()] }, link.index, &link.name)?,
        }
    }
    eni::prove("host", &plan::diff(host, &observe(&mut route, &mut netfilter, host)?.1))?;
    Ok(missing)
}

fn observe(route: &mut Socket, netfilter: &mut Socket, host: &HostSetup) -> Result<(Link, HostState), ApplyError> {
    let (link, primary) = eni::observe(route, &host.primary_eni())?;
    let of_host = [ids::PRIORITY_MARK, ids::PRIORITY_EXTERNAL_SERVICE];
    let pod_rule = HostSetup::pod_rule();
    let rules = read::rules(route, Family::V4)?.into_iter();
    let rules = rules.filter(|(rule, _)| of_host.contains(&rule.priority) || *rule == pod_rule);
    let state = HostState {
        primary,
        ip_forward: sysctl::read("net/ipv4/ip_forward")?.as_deref() == Some("1"),
        rules: rules.collect(),
        has_flat_pods: read::has_routes(route, ids::POD_TABLE)?,
        nft: nftables::observe(netfilter, Family::V4, ids::NFT_TABLE)?,
    };
    Ok((link, state))
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

/// What an uninstall left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Pods that are still plumbed: their links, routes and rules stay, so that they go on inside the VPC.
    pub kept: Vec<VethAlias>,
}

/// Uninstall: our nft table, rules, routes and addresses (by protocol), and the links of the dead group. What belongs to
/// a pod that is still plumbed (a live host veth with our alias) stays and is reported: it goes on inside the VPC, but
/// without the nft table it reaches nothing outside. Goes on after an error.
///
/// # Errors
/// All that went wrong.
pub fn remove() -> Result<Removed, Vec<ApplyError>> {
    let mut errors = Vec::new();
    errors.extend(garbage::delete_dead_group().err());
    for table in [ids::NFT_TABLE, hostport::TABLE] {
        let removed = Socket::netfilter().and_then(|mut socket| nftables::remove(&mut socket, Family::V4, table));
        errors.extend(removed.err());
    }
    let mut kept = Vec::new();
    let removed = Socket::route().and_then(|mut socket| {
        kept = live_pods(&mut socket)?;
        let mut outcomes = Vec::new();
        for family in Family::ALL {
            outcomes.extend(remove_objects(&mut socket, family, &kept)?);
        }
        Ok(outcomes)
    });
    match removed {
        Ok(outcomes) => errors.extend(outcomes.into_iter().filter_map(Result::err)),
        Err(error) => errors.push(error),
    }
    if errors.is_empty() { Ok(Removed { kept }) } else { Err(errors) }
}

fn live_pods(socket: &mut Socket) -> Result<Vec<VethAlias>, ApplyError> {
    let live = read::links(socket)?.into_iter().filter(|link| link.group != ids::DEAD_GROUP);
    Ok(live.filter_map(|link| link.alias()).collect())
}

/// What became of each removal.
type Outcomes = Vec<Result<Done, ApplyError>>;

fn remove_objects(socket: &mut Socket, family: Family, kept: &[VethAlias]) -> Result<Outcomes, ApplyError> {
    let kept: BTreeSet<IpAddr> = kept.iter().map(|alias| alias.address.into()).collect();
    let ours = |protocol: u8| protocol == ids::PROTOCOL;
    let rules = read::rules(socket, family)?.into_iter().filter(|(rule, protocol)| {
        let address = rule.to.or(rule.from).map(|net| net.addr());
        ours(*protocol) && address.is_none_or(|address| !kept.contains(&address))
    });
    let filter = RouteFilter { family, protocol: Some(ids::PROTOCOL), ..RouteFilter::default() };
    let mut routes = read::routes(socket, filter)?;
    // A kept pod on a secondary ENI needs that ENI's table; routes via a router go before the route to the router.
    let tables: BTreeSet<_> = read::rules(socket, family)?
        .into_iter()
        .filter(|(rule, _)| rule.from.is_some_and(|from| kept.contains(&from.addr())))
        .filter_map(|(rule, _)| rule.table)
        .collect();
    routes.retain(|route| !kept.contains(&route.destination.addr()) && !tables.contains(&route.table));
    routes.sort_by_key(|route| route.via.is_none());
    let addresses = read::addresses(socket, family, None)?.into_iter().filter(|(_, _, protocol)| ours(*protocol));
    let ops: Vec<_> = rules
        .map(|(rule, _)| Op::OwnRuleDelete(rule))
        .chain(routes.into_iter().map(Op::RouteDelete))
        .chain(addresses.map(|(_, address, _)| Op::AddressDelete(address)))
        .collect();
    let index = |link: &LinkRef| match link {
        LinkRef::Index(index) => Ok(*index),
        other => execute::no_link(other),
    };
    execute::try_all(socket, &ops, index)
}
