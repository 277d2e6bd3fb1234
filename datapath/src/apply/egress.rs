// SPDX-License-Identifier: Apache-2.0
//! Egress addresses ([`crate::plan::egress`]): chosen where a pod is attached, from those that no pod of the node is routed by.
//!
//! Nothing is written down: a host route is the claim, and the kernel refuses a second one. Two ADDs at once that choose the same
//! address begin at different places of the range, so that is rare; the later one chooses again. The address is in the host
//! veth's alias, so repair and DEL know it, and it is free when its route is gone.
//!
//! Connections by it are forgotten when its pod is detached ([`forget`]).
//!
//! Not seen: the address of a pod whose host route somebody has just removed, until the daemon puts it back within a second.
//!
//! Invariant: no two live pods with one egress address, but for that.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::conntrack;
use super::error::ApplyError;
use super::netlink::Socket;
use super::netlink::read::{self, RouteFilter};
use super::pod::{Attached, Site};
use crate::plan::pod::{HOST_ROUTE_TABLES, PodAttachment, is_host_route};
use crate::plan::{Family, LinkRef, RouteTable, ids};

/// How often an address is chosen before the pod goes without: ADDs of other pods may be quicker every time.
const TRIES: usize = 5;

/// RFC 8200 §5. The kernel has no IPv6 on a link with less (`IPV6_MIN_MTU`).
const IPV6_SMALLEST_MTU: u32 = 1280;

/// What became of a pod's way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By this address.
    By(IpAddr),
    /// It has none, because of this.
    None(String),
    /// It was attached before, with or without.
    AsBefore,
}

/// Attaches a pod that is to get out in `family`, too. A way out is nothing that a pod is refused for: where it cannot be had, the
/// pod is attached without.
///
/// # Errors
/// As of [`Site::attach`], of the pod without egress.
pub fn attach(site: &mut Site, pod: &PodAttachment, family: Family) -> Result<(Attached, Egress), ApplyError> {
    let cause = match with_egress(site, pod, family) {
        Ok(Some(attached)) => return Ok(attached),
        Ok(None) if family == Family::V6 && pod.mtu < IPV6_SMALLEST_MTU => {
            format!("its MTU, {}, is below IPv6's smallest, {IPV6_SMALLEST_MTU}", pod.mtu)
        }
        Ok(None) => "the node has no default route of that family by a link with a global address".to_owned(),
        Err(error) => {
            // A list that was read half-way keeps the old one from being asked for another.
            site.node = Socket::route()?;
            error.to_string()
        }
    };
    Ok(told(site.attach(pod)?, Egress::None(cause)))
}

fn told(attached: Attached, egress: Egress) -> (Attached, Egress) {
    match attached {
        Attached::Now(_) => (attached, egress),
        Attached::Before(_) => (attached, Egress::AsBefore),
    }
}

/// `None`: there can be no way out.
fn with_egress(site: &mut Site, pod: &PodAttachment, family: Family) -> Result<Option<(Attached, Egress)>, ApplyError> {
    let node = &mut site.node;
    let is_too_small = family == Family::V6 && pod.mtu < IPV6_SMALLEST_MTU;
    if is_too_small || !has_way_out(node, family)? {
        return Ok(None);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(address) = choose(&pod.owner, family, &taken(&mut site.node, family)?) else {
            return Err(ApplyError::Invalid { reason: "all egress addresses of the node are taken".to_owned() });
        };
        let with_egress = PodAttachment { addresses: pod.addresses.and(address), ..pod.clone() };
        match site.attach(&with_egress) {
            Err(ApplyError::AddressInUse { address: taken, .. }) if taken == address && tries < TRIES => {}
            other => return other.map(|attached| Some(told(attached, Egress::By(address)))),
        }
    }
}

/// Forgets the connections of those of a detached pod's addresses that are egress addresses; the daemon does it for the others. A DEL
/// that never came leaves them, but the next sandbox begins at another place of the range.
///
/// # Errors
/// The kernel's refusal, or [`ApplyError::OutOfTime`].
pub fn forget(addresses: &[IpAddr], may_go_on: &dyn Fn() -> bool) -> Result<(), ApplyError> {
    let of_egress = addresses.iter().copied().filter(|address| ids::is_egress(*address)).collect();
    conntrack::forget(&of_egress, may_go_on).map(|_| ())
}

/// Whether pods could get out in a family: as [`attach`] looks at it.
///
/// # Errors
/// The kernel cannot be read.
pub fn is_possible(family: Family) -> Result<bool, ApplyError> {
    has_way_out(&mut Socket::route()?, family)
}

/// Whether main has a default route by a link that has an address which others may answer.
fn has_way_out(node: &mut Socket, family: Family) -> Result<bool, ApplyError> {
    let routes = read::routes(node, RouteFilter::of(family, RouteTable::MAIN))?;
    for route in routes.iter().filter(|route| route.destination == family.everything()) {
        let LinkRef::Index(index) = route.link else { continue };
        let addresses = read::addresses(node, family, Some(index))?;
        if addresses.iter().any(|(_, found, _)| is_global(found.address.addr())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Neither of the link nor of egress. (Whether the internet knows it is the VPC's business.)
fn is_global(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !ids::is_egress(address)
}

/// Egress addresses that pods are routed by.
fn taken(node: &mut Socket, family: Family) -> Result<BTreeSet<IpAddr>, ApplyError> {
    let mut taken = BTreeSet::new();
    for table in HOST_ROUTE_TABLES {
        let routes = read::routes(node, RouteFilter::of(family, table))?;
        let addresses = routes.iter().filter(|route| is_host_route(route)).map(|route| route.destination.addr());
        taken.extend(addresses.filter(|address| ids::is_egress(*address)));
    }
    Ok(taken)
}

/// The first free one from a place that the owner decides; neither the range's first nor its last, which some take for more than
/// a host's.
fn choose(owner: &str, family: Family, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    use sha1::{Digest, Sha1};
    let range = ids::egress_range(family);
    let usable = (1u32 << (range.max_prefix_len() - range.prefix_len())) - 2;
    let start = Sha1::digest(owner.as_bytes()).iter().take(4).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    let at = |offset: u32| {
        let place = 1 + start.wrapping_add(offset) % usable;
        match range.network() {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) + place)),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) + u128::from(place))),
        }
    };
    (0..usable).map(at).find(|address| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_range_but_the_ends_is_given_once_and_then_none() {
        for (family, first, last) in
            [(Family::V4, "169.254.172.1", "169.254.175.254"), (Family::V6, "fd00::ac:1", "fd00::ac:3fe")]
        {
            let mut taken = BTreeSet::new();
            while let Some(address) = choose(&format!("aws-cni/c{}/eth0", taken.len()), family, &taken) {
                assert!(ids::is_egress(address) && taken.insert(address), "{address}");
            }
            assert_eq!(taken.len(), 1_022);
            assert_eq!(taken.first(), Some(&first.parse().unwrap()));
            assert_eq!(taken.last(), Some(&last.parse().unwrap()));
        }
    }

    #[test]
    fn pods_begin_at_places_of_their_own_so_that_adds_at_once_seldom_choose_the_same() {
        let chosen: BTreeSet<_> = (0..100)
            .filter_map(|pod| choose(&format!("aws-cni/{pod:064}/eth0"), Family::V6, &BTreeSet::new()))
            .collect();
        assert!(chosen.len() > 85, "{}", chosen.len());
    }
}
