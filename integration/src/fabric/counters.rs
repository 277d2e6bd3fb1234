// SPDX-License-Identifier: Apache-2.0
//! What died at the router, and why: read from the counting sets of its nft table.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::FabricError;
use super::ruleset::{NO_DESTINATION, NO_PUBLIC_ADDRESS, WRONG_SOURCE};
use crate::netns::Namespace;
use crate::tools::Tools;

/// Why the router dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Source/destination check: it came from an ENI that its source address is not assigned to.
    WrongSource,
    /// Nobody has its destination address.
    NoDestination,
    /// It was for the internet, from an address without a public one.
    NoPublicAddress,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongSource => "source check",
            Self::NoDestination => "no such destination",
            Self::NoPublicAddress => "no public address",
        })
    }
}

/// One kind of dropped packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// The ENI it came from: its id, or the router's link when the ENI is gone.
    pub eni: String,
    /// Its source address; its destination for [`DropReason::NoDestination`].
    pub address: Ipv4Addr,
}

/// All drops -> packets. Empty: nothing was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops(pub BTreeMap<Dropped, u64>);

impl Drops {
    /// Packets dropped for this reason, of this address, from whatever ENI.
    #[must_use]
    pub fn of(&self, reason: DropReason, address: Ipv4Addr) -> u64 {
        self.0.iter().filter(|(drop, _)| drop.reason == reason && drop.address == address).map(|(_, n)| n).sum()
    }

    /// What was dropped since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |(drop, packets): (&Dropped, &u64)| {
            let more = packets.saturating_sub(earlier.0.get(drop).copied().unwrap_or(0));
            (more > 0).then(|| (drop.clone(), more))
        };
        Self(self.0.iter().filter_map(new).collect())
    }
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing dropped");
        }
        for (index, (drop, packets)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{packets} x {} {} from {}", drop.reason, drop.address, drop.eni)?;
        }
        Ok(())
    }
}

/// Reads all counters; `links`: router link -> ENI id.
pub(super) fn read(tools: &Tools, router: &Namespace, links: &BTreeMap<String, String>) -> Result<Drops, FabricError> {
    let mut drops = Drops::default();
    for (set, reason) in [
        (WRONG_SOURCE, DropReason::WrongSource),
        (NO_DESTINATION, DropReason::NoDestination),
        (NO_PUBLIC_ADDRESS, DropReason::NoPublicAddress),
    ] {
        let listing = tools.nft_json(router, &["list", "set", "ip", "fabric", set])?;
        for (link, address, packets) in elements(&listing) {
            let eni = links.get(&link).cloned().unwrap_or(link);
            *drops.0.entry(Dropped { reason, eni, address }).or_default() += packets;
        }
    }
    Ok(drops)
}

/// (link, address, packets) of every element in nft's JSON listing of one counting set.
fn elements(listing: &Value) -> Vec<(String, Ipv4Addr, u64)> {
    let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let elements = objects.iter().filter_map(|object| object["set"]["elem"].as_array()).flatten();
    elements
        .filter_map(|element| {
            let element = &element["elem"];
            let key = &element["val"]["concat"];
            let address = key[1].as_str()?.parse().ok()?;
            Some((key[0].as_str()?.to_owned(), address, element["counter"]["packets"].as_u64()?))
        })
        .collect()
}
