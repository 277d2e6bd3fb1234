// SPDX-License-Identifier: Apache-2.0
//! What a surplus is taken from: the emptiest ENI, whole when that is possible, else some of its free slots.
//!
//! Only free addresses count, cooling ones never, and a prefix goes only when all its 16 addresses are free. An ENI stays,
//! empty perhaps, as long as the room on it is wanted. With an ENI
//! target only whole ENIs are given back. With a prefix target so many prefixes without a pod are kept, however many
//! addresses are free elsewhere (the reference's rule). Where prefixes and single addresses are mixed, single ones go
//! first. Slots of the kind that the node does not fill any more go before all, surplus or not: they meet no target. This
//! says what could go; whether it goes is decided by the three witnesses (journal, kernel, EC2) that the core asks
//! afterwards.
//!
//! Worked example: W = 5, M = 0, three ENIs with 9, 4 and 0 pods and 0, 5 and 6 free ones: surplus 6, and the third ENI's
//! 6 free addresses fit into it, so that ENI goes as a whole. With W = 5, 20 pods on two ENIs of one prefix each: 12 are
//! free, surplus 7, less than a prefix, so nothing goes.

use super::{Addresses, Slots};
use crate::action::Fill;
use crate::ids::{DeviceIndex, EniId};
use crate::store::Slot;

/// One ENI in service, as shrinking sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) eni_id: EniId,
    pub(crate) device_index: DeviceIndex,
    /// Bound to a sandbox.
    pub(crate) allocated: Addresses,
    /// Free, not cooling, of the kinds that count for the target.
    pub(crate) free: Addresses,
    /// Of these, single ones.
    pub(crate) singles: Slots,
    /// Prefixes free as a whole, where they count for the target.
    pub(crate) prefixes: Slots,
    /// Slots of the kind on its way out that could go, and which kind that is.
    pub(crate) outgoing: (Slot, Slots),
    /// What its slots could hold, free addresses included.
    pub(crate) room: Addresses,
    /// Whether it may go as a whole: made by us, secondary, old enough, nothing allocated, cooling or held on it, and no
    /// call for it under way.
    pub(crate) can_go: bool,
}

/// How much may go, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) surplus: Addresses,
    /// Room that is not needed: no ENI with more goes.
    pub(crate) room: Addresses,
    pub(crate) by_whole_enis: bool,
    /// Prefixes without a pod that stay.
    pub(crate) kept_prefixes: u32,
    /// Slots of the kind on its way out that may go.
    pub(crate) outgoing: Slots,
}

/// One step of shrinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shrinkage {
    Release {
        eni_id: EniId,
        free: Addresses,
        room: Addresses,
    },
    /// `counted`: addresses of it that count for the target.
    Unassign {
        eni_id: EniId,
        fill: Fill,
        counted: Addresses,
    },
}

/// `None`: nothing can go. An ENI without any address goes even when there is no surplus.
pub(crate) fn plan(shares: &[Share], allowance: Allowance) -> Option<Shrinkage> {
    let surplus = allowance.surplus;
    let whole: u32 = shares.iter().map(|share| share.prefixes.0).sum();
    let spare = Slots(whole.saturating_sub(allowance.kept_prefixes));
    let mut emptiest: Vec<&Share> = shares.iter().collect();
    emptiest.sort_by_key(|share| (share.allocated, std::cmp::Reverse(share.device_index)));
    let goes = |share: &&&Share| {
        share.can_go && share.free <= surplus && share.prefixes <= spare && share.room <= allowance.room
    };
    if let Some(share) = emptiest.iter().find(goes) {
        return Some(Shrinkage::Release { eni_id: share.eni_id.clone(), free: share.free, room: share.room });
    }
    let part = |share: &Share, slot: Slot, count: Slots, counted: Addresses| {
        Some(Shrinkage::Unassign { eni_id: share.eni_id.clone(), fill: slot.fill(count.0), counted })
    };
    if let Some(share) = emptiest.iter().find(|share| share.outgoing.1.min(allowance.outgoing) > Slots::ZERO) {
        let (slot, count) = share.outgoing;
        return part(share, slot, count.min(allowance.outgoing), Addresses::ZERO);
    }
    if allowance.by_whole_enis || surplus == Addresses::ZERO {
        return None;
    }
    if let Some(share) = emptiest.iter().find(|share| share.singles > Slots::ZERO) {
        let count = share.singles.min(Slots::filled_by(surplus, Slot::Single));
        return part(share, Slot::Single, count, count.of(Slot::Single));
    }
    let most = Slots::filled_by(surplus, Slot::Prefix).min(spare);
    let share = emptiest.iter().find(|share| share.prefixes.min(most) > Slots::ZERO)?;
    let count = share.prefixes.min(most);
    part(share, Slot::Prefix, count, count.of(Slot::Prefix))
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
            singles: Slots(free),
            prefixes: Slots::ZERO,
            outgoing: (Slot::Prefix, Slots::ZERO),
            room: Addresses(9),
            can_go: device_index > 0 && allocated == 0,
        }
    }

    fn prefixes(name: &str, device_index: u32, allocated: u32, whole: u32) -> Share {
        let free = whole * 16 + if allocated == 0 { 0 } else { 16 - allocated };
        let singles = Slots::ZERO;
        Share { singles, prefixes: Slots(whole), ..share(name, device_index, allocated, free) }
    }

    fn surplus(surplus: u32) -> Allowance {
        Allowance { surplus: Addresses(surplus), room: Addresses(u32::MAX), ..Allowance::default() }
    }

    fn by_enis(count: u32) -> Allowance {
        Allowance { by_whole_enis: true, ..surplus(count) }
    }

    fn part(name: &str, fill: Fill) -> Shrinkage {
        Shrinkage::Unassign { eni_id: EniId::from(name), fill, counted: Addresses(fill.addresses()) }
    }

    #[test]
    fn the_emptiest_eni_goes_as_a_whole_when_the_rest_meets_the_target() {
        let shares = [share("primary", 0, 9, 0), share("b", 1, 4, 5), share("c", 2, 0, 6)];
        let whole = Shrinkage::Release { eni_id: EniId::from("c"), free: Addresses(6), room: Addresses(9) };
        assert_eq!(plan(&shares, surplus(6)), Some(whole.clone()));
        assert_eq!(plan(&shares, by_enis(6)), Some(whole));
        assert_eq!(plan(&shares, surplus(5)), Some(part("c", Fill::Addresses(5))));
        assert_eq!(plan(&shares, by_enis(5)), None);
    }

    #[test]
    fn a_primary_eni_only_loses_addresses() {
        let shares = [share("primary", 0, 0, 9)];
        assert_eq!(plan(&shares, by_enis(9)), None);
        assert_eq!(plan(&shares, surplus(4)), Some(part("primary", Fill::Addresses(4))));
    }

    #[test]
    fn an_eni_without_addresses_goes_without_a_surplus() {
        let shares = [share("primary", 0, 3, 1), share("b", 1, 0, 0)];
        let gone = Shrinkage::Release { eni_id: EniId::from("b"), free: Addresses::ZERO, room: Addresses(9) };
        assert_eq!(plan(&shares, surplus(0)), Some(gone));
    }

    #[test]
    fn a_prefix_goes_only_as_a_whole_and_not_below_the_prefix_target() {
        let shares = [prefixes("primary", 0, 3, 2)];
        assert_eq!(plan(&shares, surplus(15)), None);
        assert_eq!(plan(&shares, surplus(31)), Some(part("primary", Fill::Prefixes(1))));
        assert_eq!(plan(&shares, surplus(32)), Some(part("primary", Fill::Prefixes(2))));
        let kept = |kept_prefixes| Allowance { kept_prefixes, ..surplus(40) };
        assert_eq!(plan(&shares, kept(1)), Some(part("primary", Fill::Prefixes(1))));
        assert_eq!(plan(&shares, kept(2)), None);
        let empty = [prefixes("primary", 0, 3, 0), prefixes("b", 1, 0, 1)];
        assert_eq!(plan(&empty, kept(1)), None, "the ENI has the prefix that is to stay");
    }

    #[test]
    fn single_addresses_go_before_prefixes() {
        let mixed = Share { singles: Slots(4), ..prefixes("primary", 0, 3, 2) };
        assert_eq!(plan(&[mixed], surplus(36)), Some(part("primary", Fill::Addresses(4))));
    }

    #[test]
    fn slots_of_the_other_kind_go_without_a_surplus_as_far_as_they_may() {
        let left = Share { outgoing: (Slot::Single, Slots(4)), ..prefixes("primary", 0, 3, 1) };
        let some = |most| Allowance { outgoing: Slots(most), ..surplus(0) };
        let gone = |count| Shrinkage::Unassign {
            eni_id: EniId::from("primary"),
            fill: Fill::Addresses(count),
            counted: Addresses::ZERO,
        };
        let shares = [left];
        assert_eq!(plan(&shares, some(9)), Some(gone(4)));
        assert_eq!(plan(&shares, some(1)), Some(gone(1)));
        assert_eq!(plan(&shares, some(0)), None);
    }
}
