// SPDX-License-Identifier: Apache-2.0
//! Uninstall: what is ours goes out of the kernel, but for what living pods need ([`crate::plan::uninstall`]).
//!
//! Does not stop a daemon that would put it all back; the caller does. Can be repeated, and should be once the pods are gone
//! that something was kept for. A reading that fails removes nothing that pods may need.

use super::error::ApplyError;
use super::netlink::Socket;
use super::netlink::read;
use super::{execute, garbage, hostport, nftables, repair};
use crate::plan::nft::family_text;
pub use crate::plan::uninstall::Counted;
use crate::plan::uninstall::{self as plan, KeptPod, Uninstall};
use crate::plan::{Family, Op, hostport as ports, ids};

/// What stayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Pods that live on, by address.
    pub pods: Vec<KeptPod>,
    /// What stays for them: rules, routes, neighbours and addresses as the commands that would make them, and nft tables by
    /// name.
    pub objects: Vec<String>,
    /// Whether another CNI of the reference's kind has the node now.
    pub has_others: bool,
}

/// Takes away the links of the dead group, our rules, routes, neighbours, addresses and nft tables, as far as no living pod
/// needs them. Goes on after an error.
///
/// # Errors
/// All that went wrong.
pub fn remove(counted: Counted) -> Result<Kept, Vec<ApplyError>> {
    let mut errors = Vec::new();
    errors.extend(garbage::delete_dead_group().err());
    let mut kept = Kept::default();
    match remove_objects(&mut kept, counted) {
        Ok((refused, needed)) => {
            errors.extend(refused);
            match remove_tables(&needed) {
                Ok(tables) => kept.objects.extend(tables),
                Err(error) => errors.push(error),
            }
        }
        Err(error) => errors.push(error),
    }
    if errors.is_empty() { Ok(kept) } else { Err(errors) }
}

/// What could not be removed, and the families of which the nft table stays.
fn remove_objects(kept: &mut Kept, counted: Counted) -> Result<(Vec<ApplyError>, Vec<Family>), ApplyError> {
    let mut socket = Socket::route()?;
    let mut addresses = Vec::new();
    for family in Family::ALL {
        let found = read::addresses(&mut socket, family, None)?;
        addresses.extend(found.into_iter().map(|(_, address, protocol)| (address, protocol)));
    }
    let state = repair::observe(&mut socket)?;
    let names = repair::names(&state);
    let Uninstall { removals, kept: objects, pods, has_ipv6, has_others } = plan::plan(&state, &addresses, counted);
    let v4 = (!pods.is_empty()).then_some(Family::V4);
    let needed = v4.into_iter().chain(has_ipv6.then_some(Family::V6)).collect();
    let text = |op: Op| repair::named(op, &names).to_string();
    (kept.pods, kept.objects) = (pods, objects.into_iter().map(text).collect());
    kept.has_others = has_others;
    let outcomes = execute::try_all(&mut socket, &removals, repair::index)?;
    Ok((outcomes.into_iter().filter_map(Result::err).collect(), needed))
}

/// The nft tables that stay. That of host ports stays while a living pod has one.
fn remove_tables(needed: &[Family]) -> Result<Vec<String>, ApplyError> {
    let has_ports = needed.contains(&Family::V4) && {
        hostport::sweep()?;
        hostport::has_any()?
    };
    let mut kept = Vec::new();
    let ours = Family::ALL.map(|family| (family, ids::NFT_TABLE, needed.contains(&family)));
    for (family, table, stays) in ours.into_iter().chain([(Family::V4, ports::TABLE, has_ports)]) {
        let mut socket = Socket::netfilter()?;
        if !stays {
            nftables::remove(&mut socket, family, table)?;
        } else if nftables::observe(&mut socket, family, table)?.is_some() {
            kept.push(format!("nft table {} {table}", family_text(family)));
        }
    }
    Ok(kept)
}
