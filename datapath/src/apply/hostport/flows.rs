// SPDX-License-Identifier: Apache-2.0
//! UDP flows that go on as they were decided before a port was opened or closed: the kernel tracks them as one connection for
//! as long as somebody sends, and only a connection's first packet is asked about NAT.
//!
//! | when | what is forgotten |
//! |---|---|
//! | ports were opened | flows to these ports of the node that are not led to the pod |
//! | ports were closed | flows to these ports that are led to the pod |
//!
//! TCP needs none of it: a connection to a closed port has ended with its first answer. One list of the connection table a port,
//! filtered by the kernel (5.8 and later; an older one gives the whole table, and the filter here does the same).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::apply::conntrack::{self, COUNT};
use crate::apply::error::ApplyError;
use crate::apply::netlink::{Socket, read};
use crate::plan::Family;
use crate::plan::hostport::{Mapping, Protocol};

/// After the pod's ports were opened.
pub(super) fn forget_unled(socket: &mut Socket, mapping: &Mapping) -> Result<(), ApplyError> {
    let ports: Vec<_> = mapping.ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() || !Path::new(COUNT).exists() {
        return Ok(());
    }
    let local = addresses()?;
    let is_here = |address: IpAddr| address.is_loopback() || local.contains(&address);
    for port in ports {
        let at = port.host_address.map(IpAddr::from);
        conntrack::forget_udp(socket, port.host_port, |to, by| {
            at.map_or_else(|| is_here(to), |at| at == to) && by != IpAddr::from(mapping.address)
        })?;
    }
    Ok(())
}

/// After ports were closed: each with the pod that had it.
pub(super) fn forget_led(socket: &mut Socket, closed: impl Iterator<Item = (u16, Ipv4Addr)>) -> Result<(), ApplyError> {
    if !Path::new(COUNT).exists() {
        return Ok(());
    }
    for (port, pod) in closed {
        let pod = IpAddr::from(pod);
        // By its own address the pod stays reachable at the same port.
        conntrack::forget_udp(socket, port, |to, by| by == pod && to != pod)?;
    }
    Ok(())
}

/// The node's, but for loopback.
fn addresses() -> Result<BTreeSet<IpAddr>, ApplyError> {
    let found = read::addresses(&mut Socket::route()?, Family::V4, None)?;
    Ok(found.into_iter().map(|(_, address, _)| address.address.addr()).collect())
}
