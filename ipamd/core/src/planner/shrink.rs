// SPDX-License-Identifier: Apache-2.0
//! What a surplus is taken from: the emptiest ENI, whole when that is possible, else some of its free addresses.
//!
//! Only free addresses count, cooling ones never. With an ENI target only whole ENIs are given back. This says what could
//! go; whether it goes is decided by the three witnesses (journal, kernel, EC2) that the core asks afterwards.
//!
//! Worked example: W = 5, M = 0, three ENIs with 9, 4 and 0 pods and 0, 5 and 6 free ones: surplus 6, and the third ENI's
//! 6 free addresses fit into it, so that ENI goes as a whole.

use super::Addresses;
use crate::ids::{DeviceIndex, EniId};

/// One ENI in service, as shrinking sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) eni_id: EniId,
    pub(crate) device_index: DeviceIndex,
    /// Bound to a sandbox.
    pub(crate) allocated: Addresses,
    /// Free, not cooling.
    pub(crate) free: Addresses,
    /// Whether it may go as a whole: made by us, secondary, old enough, nothing allocated, cooling or held on it, and no
    /// call for it under way.
    pub(crate) can_go: bool,
}

/// One step of shrinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shrinkage {
    Release { eni_id: EniId, free: Addresses },
    Unassign { eni_id: EniId, count: Addresses },
}

/// `None`: nothing can go. An ENI without any address goes even when there is no surplus.
pub(crate) fn plan(shares: &[Share], surplus: Addresses, by_whole_enis: bool) -> Option<Shrinkage> {
    let mut emptiest: Vec<&Share> = shares.iter().collect();
    emptiest.sort_by_key(|share| (share.allocated, std::cmp::Reverse(share.device_index)));
    if let Some(share) = emptiest.iter().find(|share| share.can_go && share.free <= surplus) {
        return Some(Shrinkage::Release { eni_id: share.eni_id.clone(), free: share.free });
    }
    if by_whole_enis || surplus == Addresses::ZERO {
        return None;
    }
    let share = emptiest.iter().find(|share| share.free > Addresses::ZERO)?;
    Some(Shrinkage::Unassign { eni_id: share.eni_id.clone(), count: share.free.min(surplus) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, device_index: u32, allocated: u32, free: u32) -> Share {
        Share {
            eni_id: EniId::from(name),
            device_index: DeviceIndex(device_index),
            allocated: Addresses(allocated),
            free: Addresses(free),
            can_go: device_index > 0 && allocated == 0,
        }
    }

    #[test]
    fn the_emptiest_eni_goes_as_a_whole_when_the_rest_meets_the_target() {
        let shares = [share("primary", 0, 9, 0), share("b", 1, 4, 5), share("c", 2, 0, 6)];
        let whole = Shrinkage::Release { eni_id: EniId::from("c"), free: Addresses(6) };
        assert_eq!(plan(&shares, Addresses(6), false), Some(whole.clone()));
        assert_eq!(plan(&shares, Addresses(6), true), Some(whole));
        let part = Shrinkage::Unassign { eni_id: EniId::from("c"), count: Addresses(5) };
        assert_eq!(plan(&shares, Addresses(5), false), Some(part));
        assert_eq!(plan(&shares, Addresses(5), true), None);
    }

    #[test]
    fn a_primary_eni_only_loses_addresses() {
        let shares = [share("primary", 0, 0, 9)];
        assert_eq!(plan(&shares, Addresses(9), true), None);
        let part = Shrinkage::Unassign { eni_id: EniId::from("primary"), count: Addresses(4) };
        assert_eq!(plan(&shares, Addresses(4), false), Some(part));
    }

    #[test]
    fn an_eni_without_addresses_goes_without_a_surplus() {
        let shares = [share("primary", 0, 3, 1), share("b", 1, 0, 0)];
        let gone = Shrinkage::Release { eni_id: EniId::from("b"), free: Addresses::ZERO };
        assert_eq!(plan(&shares, Addresses::ZERO, false), Some(gone));
    }
}
