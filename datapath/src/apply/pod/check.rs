// SPDX-License-Identifier: Apache-2.0
//! Reads what [`crate::plan::pods::check`] judges: the node's namespace as repair reads it, and the pod's. Writes nothing.

use std::path::Path;

use crate::apply::error::ApplyError;
use crate::apply::netlink::Socket;
use crate::apply::netlink::read::{self, RouteFilter};
use crate::apply::netns::Netns;
use crate::apply::repair;
use crate::plan::pods::check::{self as judge, Difference, PodCheck, PodLink, PodState};
use crate::plan::repair::Repair;
use crate::plan::{Family, LinkName};

/// What of the pod's network is not as it was attached; empty: nothing. A namespace that cannot be entered is a difference too.
///
/// # Errors
/// The kernel cannot be read.
pub fn check(netns: &Path, pod: &PodCheck) -> Result<Vec<Difference>, ApplyError> {
    let inside = match Netns::open(netns).and_then(|netns| netns.inside(Socket::route)) {
        Ok(mut socket) => Ok(look_inside(&mut socket, &pod.pod_link)?),
        Err(error) => Err(error),
    };
    // After the pod: what an ADD makes last is looked for first.
    let node = repair::observe(&mut Socket::route()?)?;
    let names = repair::names(&node);
    let named = |difference| match difference {
        Difference::Node(repair) => Difference::Node(Repair { op: repair::named(repair.op, &names), ..repair }),
        other => other,
    };
    let differences = judge::check(pod, &node, inside.as_ref().unwrap_or(&PodState::default()));
    let mut differences: Vec<_> = differences.into_iter().map(named).collect();
    if let Err(error) = inside {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        differences.push(Difference::Other(format!("{error}{}", cause.unwrap_or_default())));
    }
    Ok(differences)
}

fn look_inside(socket: &mut Socket, name: &LinkName) -> Result<PodState, ApplyError> {
    let Some(link) = read::link_by_name(socket, name)? else { return Ok(PodState::default()) };
    let (index, mac, mtu, up, peer) = (link.index, link.mac, link.mtu, link.up, link.peer);
    let mut state = PodState { link: Some(PodLink { index, mac, mtu, up, peer }), ..PodState::default() };
    for family in Family::ALL {
        let addresses = read::addresses(socket, family, Some(index))?;
        state.addresses.extend(addresses.iter().map(|(_, found, _)| found.address.addr()));
        state.routes.extend(read::routes(socket, RouteFilter { family, ..RouteFilter::default() })?);
        state.neighbours.extend(read::permanent_neighbours(socket, family)?.into_iter().map(|found| found.neighbour));
    }
    Ok(state)
}
