// SPDX-License-Identifier: Apache-2.0
//! How a shortfall is spread: attached ENIs with room first, then as many new ENIs at once as it takes.
//!
//! One assign call an ENI at a time, sized to the whole need. The room of ENIs that are busy (a call under way, resting
//! after a failure) or asked for but not made yet is waited for, so that the need is not met by yet another ENI instead.
//! New ENIs carry their addresses in the create call. With an ENI target every ENI is filled to the brim; with address
//! targets exactly what is missing is asked for.
//!
//! Worked example: m5.large (3 ENIs of 9), W = 5, nothing held, 12 ADDs wait: shortfall 17; the primary ENI is assigned 9,
//! one new ENI is created with 8.

use super::{Addresses, EniCount};
use crate::ids::EniId;

/// An ENI that could hold more, and can be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) eni_id: EniId,
    /// Further addresses it can hold, those under way taken off.
    pub(crate) addresses: Addresses,
    /// Whether its subnet is the one that new ENIs are created in.
    pub(crate) in_main_subnet: bool,
}

/// What growth can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrowView {
    pub(crate) shortfall: Addresses,
    pub(crate) by_whole_enis: bool,
    /// Most preferred first; ENIs of exhausted subnets are left out.
    pub(crate) rooms: Vec<Room>,
    /// Room that can be used later: on busy ENIs, and on ENIs asked for.
    pub(crate) later: Addresses,
    /// Addresses an ENI can hold.
    pub(crate) per_eni: Addresses,
    /// ENIs that can still be created.
    pub(crate) new_enis: EniCount,
    /// Addresses left in the subnet of new ENIs, when it is nearly exhausted; `None`: enough.
    pub(crate) subnet_left: Option<Addresses>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Assign { eni_id: EniId, count: Addresses },
    Create { secondary: Addresses },
}

pub(crate) fn plan(view: &GrowView) -> Vec<Growth> {
    let mut plan = Vec::new();
    let mut missing = view.shortfall;
    let mut left = view.subnet_left;
    for room in &view.rooms {
        if missing == Addresses::ZERO {
            return plan;
        }
        let limit = if room.in_main_subnet { left } else { None };
        let wanted = if view.by_whole_enis { room.addresses } else { room.addresses.min(missing) };
        let count = limit.map_or(wanted, |limit| wanted.min(limit));
        if count > Addresses::ZERO {
            plan.push(Growth::Assign { eni_id: room.eni_id.clone(), count });
            missing = missing.less(count);
            if limit.is_some() {
                left = left.map(|left| left.less(count));
            }
        }
    }
    missing = missing.less(view.later);
    for _ in 0..view.new_enis.0 {
        let wanted = if view.by_whole_enis { view.per_eni } else { view.per_eni.min(missing) };
        // An ENI's primary address comes from the same subnet.
        let secondary = left.map_or(wanted, |left| wanted.min(left.less(Addresses(1))));
        if missing == Addresses::ZERO || secondary == Addresses::ZERO {
            break;
        }
        plan.push(Growth::Create { secondary });
        missing = missing.less(secondary);
        left = left.map(|left| left.less(secondary + Addresses(1)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(name: &str, addresses: u32) -> Room {
        Room { eni_id: EniId::from(name), addresses: Addresses(addresses), in_main_subnet: true }
    }

    fn view(shortfall: u32, rooms: Vec<Room>) -> GrowView {
        GrowView {
            shortfall: Addresses(shortfall),
            by_whole_enis: false,
            rooms,
            later: Addresses::ZERO,
            per_eni: Addresses(9),
            new_enis: EniCount(2),
            subnet_left: None,
        }
    }

    fn assign(name: &str, count: u32) -> Growth {
        Growth::Assign { eni_id: EniId::from(name), count: Addresses(count) }
    }

    fn create(secondary: u32) -> Growth {
        Growth::Create { secondary: Addresses(secondary) }
    }

    #[test]
    fn attached_enis_are_filled_before_new_ones_are_created() {
        assert_eq!(plan(&view(17, vec![room("a", 9)])), [assign("a", 9), create(8)]);
        assert_eq!(plan(&view(4, vec![room("a", 3), room("b", 5)])), [assign("a", 3), assign("b", 1)]);
    }

    #[test]
    fn room_that_can_be_used_later_is_waited_for() {
        let later = |shortfall| GrowView { later: Addresses(5), ..view(shortfall, vec![]) };
        assert_eq!(plan(&later(3)), []);
        assert_eq!(plan(&later(7)), [create(2)]);
    }

    #[test]
    fn a_need_larger_than_the_limits_fills_them_all_at_once() {
        assert_eq!(plan(&view(100, vec![])), [create(9), create(9)]);
    }

    #[test]
    fn an_eni_target_fills_enis_to_the_brim() {
        let mut whole = view(1, vec![room("a", 6)]);
        whole.by_whole_enis = true;
        assert_eq!(plan(&whole), [assign("a", 6)]);
        whole.rooms.clear();
        assert_eq!(plan(&whole), [create(9)]);
    }

    #[test]
    fn what_a_nearly_empty_subnet_has_left_is_taken_and_no_more() {
        let mut short = view(9, vec![room("a", 2)]);
        short.subnet_left = Some(Addresses(6));
        assert_eq!(plan(&short), [assign("a", 2), create(3)], "one of the four left is the new ENI's own");
        short.subnet_left = Some(Addresses(3));
        assert_eq!(plan(&short), [assign("a", 2)], "an ENI without pod addresses helps nobody");
    }

    proptest! {
        #[test]
        fn a_plan_keeps_every_limit_and_never_asks_for_more_than_a_whole_eni_beyond_the_need(
            shortfall in 0_u32..300, rooms in proptest::collection::vec(0_u32..15, 0..6), later in 0_u32..40,
            new_enis in 0_u32..8, whole in any::<bool>(), left in proptest::option::of(0_u32..60)
        ) {
            let rooms: Vec<Room> =
                rooms.into_iter().enumerate().map(|(index, free)| room(&format!("eni-{index}"), free)).collect();
            let view = GrowView {
                shortfall: Addresses(shortfall), by_whole_enis: whole, rooms: rooms.clone(), later: Addresses(later), per_eni: Addresses(14),
                new_enis: EniCount(new_enis), subnet_left: left.map(Addresses),
            };
            let mut got = 0;
            let mut from_subnet = 0;
            let mut created = 0;
            for growth in plan(&view) {
                match growth {
                    Growth::Assign { eni_id, count } => {
                        let room = rooms.iter().find(|room| room.eni_id == eni_id).expect("a room given");
                        prop_assert!(count <= room.addresses && count.0 > 0);
                        got += count.0;
                        from_subnet += count.0;
                    }
                    Growth::Create { secondary } => {
                        prop_assert!(secondary.0 > 0 && secondary.0 <= 14);
                        got += secondary.0;
                        from_subnet += secondary.0 + 1;
                        created += 1;
                    }
                }
            }
            prop_assert!(created <= new_enis);
            prop_assert!(left.is_none_or(|left| from_subnet <= left));
            let most = if whole { shortfall + 14 } else { shortfall };
            prop_assert!(got <= most);
            prop_assert!(shortfall > 0 || got == 0);
        }
    }
}
