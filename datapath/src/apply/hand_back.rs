// SPDX-License-Identifier: Apache-2.0
//! The node goes back to the reference: pods into its layout while nobody serves, our nft table away once its rules are there.
//!
//! ```text
//! convert ─► classic pods, flat rules gone, nft table ip enid stays ─► aws-node starts ─► finish ─► nft table gone
//! ```
//! Both can be repeated. Whether aws-node has set the node up by then the caller must know: its rule for marked packets may be an old one
//! that has stayed, and its chains of iptables-legacy cannot be read from here.

use super::error::ApplyError;
use super::netlink::Socket;
use super::{eni, execute, nftables, repair};
use crate::plan::hand_back as plan;
use crate::plan::pods::{self, LivePod};
use crate::plan::{Family, Plan, ids};

/// Every live pod of ours is plumbed as the reference plumbs one, new objects before old ones; what was written, as commands, and the
/// pods.
///
/// # Errors
/// The kernel cannot be read, refuses something, or has it otherwise afterwards.
pub fn convert() -> Result<(Vec<LivePod>, Vec<String>), ApplyError> {
    let mut socket = Socket::route()?;
    let state = repair::observe(&mut socket)?;
    let (live, names) = (plan::pods(&state), repair::names(&state));
    let repairs = pods::diff(&live, &state);
    let ops: Vec<_> = repairs.into_iter().map(|repair| repair.op).collect();
    if ops.is_empty() {
        return Ok((live, Vec::new()));
    }
    execute::all(&mut socket, &ops, repair::index)?;
    let left = pods::diff(&live, &repair::observe(&mut socket)?);
    let left = left.into_iter().map(|repair| repair.op).collect();
    eni::prove("pods", &Plan { ops: left })?;
    Ok((live, ops.into_iter().map(|op| repair::named(op, &names).to_string()).collect()))
}

/// Takes the nft table away that has translated for living pods until now. Whether there was one.
///
/// # Errors
/// The kernel refuses.
pub fn finish() -> Result<bool, ApplyError> {
    let mut socket = Socket::netfilter()?;
    let found = nftables::observe(&mut socket, Family::V4, ids::NFT_TABLE)?.is_some();
    nftables::remove(&mut socket, Family::V4, ids::NFT_TABLE)?;
    Ok(found)
}
