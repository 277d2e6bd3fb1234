// SPDX-License-Identifier: Apache-2.0
//! An ENI's set-up in the kernel: read, write what [`crate::plan::eni::diff`] says, read again. `Ok` means that the second
//! reading left nothing to write. When the first one does, nothing is written at all.

use std::net::IpAddr;

use rustix::io::Errno;

use super::error::ApplyError;
use super::execute;
use super::ledger::Ledger;
use super::netlink::Socket;
use super::netlink::read::{self, Link, RouteFilter};
use super::sysctl;
use crate::plan::eni::{self as plan, EniSetup, EniState};
use crate::plan::{
    Address, Family, LinkName, LinkRef, LinkSet, MacAddr, Op, Plan, Route, RouteTable, Rule, Sysctl, ids,
};

/// RTPROT_KERNEL (`include/uapi/linux/rtnetlink.h`): routes that the kernel makes for addresses.
const PROTOCOL_KERNEL: u8 = 2;
/// RTPROT_RA: routes that a router has told of.
const PROTOCOL_RA: u8 = 9;

/// Sets an ENI up and proves it; what had to be written. Operations stop at the first that fails. What the primary ENI's
/// settings were before is in the ledger then.
///
/// # Errors
/// [`ApplyError::LinkMissing`] while the kernel has no link with the MAC; [`ApplyError::NotProven`] when everything was
/// written and still something differs; else the refusal.
pub fn setup_with(eni: &EniSetup, ledger: &mut Ledger) -> Result<Plan, ApplyError> {
    let mut socket = Socket::route()?;
    let (link, state) = observe(&mut socket, eni)?;
    let missing = plan::diff(eni, &state);
    if missing.is_empty() {
        return Ok(missing);
    }
    for op in &missing.ops {
        let mut write = || write(&mut socket, op, link.index, &link.name);
        if eni.is_primary() { ledger.around(op, write)? } else { write()? }
    }
    prove(&format!("ENI {}", eni.mac), &plan::diff(eni, &observe(&mut socket, eni)?.1))?;
    Ok(missing)
}

/// The same with nothing kept of what was before.
#[cfg(test)]
pub(crate) fn setup(eni: &EniSetup) -> Result<Plan, ApplyError> {
    setup_with(eni, &mut Ledger::nowhere())
}

/// The ENI's link and its group, where somebody else has put it into one and ours is needed ([`EniSetup::is_in_foreign_group`]).
///
/// # Errors
/// [`ApplyError::LinkMissing`], or the refusal.
pub fn foreign_group(eni: &EniSetup) -> Result<Option<(String, u32)>, ApplyError> {
    let (link, state) = observe(&mut Socket::route()?, eni)?;
    Ok(eni.is_in_foreign_group(&state).then_some((link.name, link.group)))
}

/// Removes an ENI's rules, routes and address, and takes its link out of its group; else the link stays as it is. Nothing there is
/// fine, and so is no link. The primary ENI has nothing of ours.
///
/// # Errors
/// The first refusal.
pub fn remove(eni: &EniSetup) -> Result<(), ApplyError> {
    if eni.is_primary() {
        return Ok(());
    }
    let mut socket = Socket::route()?;
    let mut all = Vec::new();
    for family in Family::ALL {
        all.extend(read::rules(&mut socket, family)?);
    }
    let of_address = plan::rule_removal(eni, &all);
    let steering = steering(all).into_iter();
    let own = steering.filter(|(rule, is_ours)| *is_ours && rule.table == Some(eni.table()));
    let rules: Vec<_> = own.map(|(rule, _)| Op::OwnRuleDelete(rule)).chain(of_address).collect();
    execute::all(&mut socket, &rules, execute::no_link)?;
    let (link, state) = match observe(&mut socket, eni) {
        Ok(found) => found,
        Err(error) if error.is_link_missing() => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_ours = |route: &&Route| route.protocol == ids::PROTOCOL && route.link == LinkRef::Mac(eni.mac);
    let routes = state.routes.iter().rev().filter(is_ours).cloned().map(Op::RouteDelete);
    let own_address = eni.address();
    let addresses = state.addresses.iter().filter(|found| found.address == own_address.address);
    let out_of_group = ids::is_eni_link_group(link.group)
        .then(|| Op::LinkSet(LinkSet { group: Some(ids::DEFAULT_GROUP), ..LinkSet::of(LinkRef::Mac(eni.mac)) }));
    let ops: Vec<_> = routes.chain(addresses.cloned().map(Op::AddressDelete)).chain(out_of_group).collect();
    execute::all(&mut socket, &ops, |_| Ok(link.index)).map(|_| ())
}

/// `Ok` when nothing is missing.
pub(super) fn prove(object: &str, missing: &Plan) -> Result<(), ApplyError> {
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.ops.iter().map(ToString::to_string).collect();
    Err(ApplyError::NotProven { object: object.to_owned(), missing })
}

/// Runs one rtnetlink operation.
pub(super) fn write(socket: &mut Socket, op: &Op, index: u32, name: &str) -> Result<(), ApplyError> {
    if let Op::Sysctl(setting) = op {
        return sysctl::ensure(setting).map(|_| ());
    }
    match (execute::all(socket, std::slice::from_ref(op), |_| Ok(index)), op) {
        (Ok(_), _) => Ok(()),
        (Err(error), Op::LinkSet(set)) if has_no_setting(&error) && set.rp_filter.is_some() => {
            without_af_spec(socket, set, index, name)
        }
        (Err(error), _) => Err(error),
    }
}

/// The refusals of a kernel that does not take IPv4 settings in IFLA_AF_SPEC.
fn has_no_setting(error: &ApplyError) -> bool {
    let known = [Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::INVAL];
    known.iter().any(|errno| error.errno() == Some(errno.raw_os_error()))
}

/// The same change with rp_filter written to its file.
fn without_af_spec(socket: &mut Socket, set: &LinkSet, index: u32, name: &str) -> Result<(), ApplyError> {
    let Some(rp_filter) = set.rp_filter else { return Ok(()) };
    let rest = LinkSet { rp_filter: None, ..set.clone() };
    if rest != LinkSet::of(set.link.clone()) {
        execute::all(socket, &[Op::LinkSet(rest)], |_| Ok(index))?;
    }
    let path = format!("net/ipv4/conf/{name}/rp_filter");
    sysctl::ensure(&Sysctl { path, value: rp_filter.to_string() }).map(|_| ())
}

/// The ENI's link and all that [`plan::diff`] compares. Links in it are [`LinkRef::Mac`].
pub(super) fn observe(socket: &mut Socket, eni: &EniSetup) -> Result<(Link, EniState), ApplyError> {
    let link = find(read::links(socket)?, eni.mac)?;
    let mut state = EniState {
        up: link.up,
        mtu: link.mtu,
        group: link.group,
        rp_filter: link.rp_filter.unwrap_or(0),
        rp_filter_all: rp_filter_all()?,
        ..EniState::default()
    };
    if eni.is_primary() {
        return Ok((link, state));
    }
    let named = |found: LinkRef| if found == LinkRef::Index(link.index) { LinkRef::Mac(eni.mac) } else { found };
    let addresses = read::addresses(socket, Family::V4, Some(link.index))?;
    state.addresses =
        addresses.into_iter().map(|(_, address, _)| Address { link: LinkRef::Mac(eni.mac), ..address }).collect();
    let families = || Family::ALL.into_iter().filter(|family| eni.ipv6 || *family == Family::V4);
    let mut rules = Vec::new();
    for family in families() {
        let own = read::routes(socket, RouteFilter::of(family, eni.table()))?.into_iter();
        state.routes.extend(own.map(|route| Route { link: named(route.link), ..route }));
        let by_router = (family == Family::V6).then_some(PROTOCOL_RA);
        for protocol in std::iter::once(PROTOCOL_KERNEL).chain(by_router) {
            let by_kernel = RouteFilter {
                protocol: Some(protocol),
                link: Some(link.index),
                ..RouteFilter::of(family, RouteTable::MAIN)
            };
            let made = read::routes(socket, by_kernel)?.into_iter().filter(|route| !is_of_link(route));
            state.kernel_routes.extend(made.map(|route| Route { link: named(route.link), ..route }));
        }
        rules.extend(read::rules(socket, family)?);
    }
    if eni.ipv6 {
        let heard = sysctl::read(&format!("net/ipv6/conf/{}/accept_ra", link.name))?;
        state.hears_routers = LinkName::new(&link.name).ok().filter(|_| heard.is_some_and(|value| value != "0"));
    }
    state.rules = rules.iter().filter(|(rule, _)| plan::is_of_address(rule, eni)).cloned().collect();
    state.steering_rules = steering(rules);
    for family in families() {
        state.has_flat_pods |= read::has_routes(socket, family, ids::POD_TABLE)?;
    }
    Ok((link, state))
}

/// IPv6 has one on every link, and needs it.
fn is_of_link(route: &Route) -> bool {
    matches!(route.destination.addr(), IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Rules for whole ENIs and prefixes, and whether each is ours.
fn steering(rules: Vec<(Rule, u8)>) -> Vec<(Rule, bool)> {
    let steering = rules.into_iter().filter(|(rule, _)| plan::is_of_eni(rule));
    steering.map(|(rule, protocol)| (rule, protocol == ids::PROTOCOL)).collect()
}

/// The link with a MAC. VLANs, bridges and the like repeat the MAC of the card below them: only a card (no kind) or a
/// veth (an emulated ENI) is taken.
pub(super) fn find(links: Vec<Link>, mac: MacAddr) -> Result<Link, ApplyError> {
    let is_card = |link: &Link| link.mac == Some(mac) && (link.kind.is_none() || link.is_veth());
    links.into_iter().find(is_card).ok_or(ApplyError::LinkMissing { mac })
}

/// net.ipv4.conf.all.rp_filter: the kernel takes the higher of it and the link's own (`IN_DEV_MAXCONF`,
/// `include/linux/inetdevice.h`).
fn rp_filter_all() -> Result<u8, ApplyError> {
    let text = sysctl::read("net/ipv4/conf/all/rp_filter")?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}
