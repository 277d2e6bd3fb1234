// SPDX-License-Identifier: Apache-2.0
//! How a shortfall is spread: attached ENIs with room first, then as many new ENIs at once as it takes.
//!
//! Where room is wanted as well (`adaptive`), ENIs are made for it, with one slot filled, when those that addresses need do
//! not bring it along.
//!
//! One assign call an ENI at a time, sized to the whole need, in slots: single addresses, or /28 prefixes of 16. The room of
//! ENIs that are busy (a call under way, resting after a failure) or asked for but not made yet is waited for, so that the
//! need is not met by yet another ENI instead; so is what a subnet may only be asked for one by one, its /28s being rare.
//! New ENIs carry their addresses or prefixes in the create call. With an ENI target every ENI is filled to the brim; with
//! other targets exactly what is missing is asked for, rounded up to whole prefixes.
//!
//! Worked example: m5.large (3 ENIs of 9 slots), W = 5, nothing held, 12 ADDs wait: shortfall 17; the primary ENI is
//! assigned 9, one new ENI is created with 8. The same in prefix mode: the primary ENI is assigned 2 prefixes. 200 ADDs in
//! prefix mode: shortfall 205, so 9 prefixes on the primary ENI (144) and a new one created with 4 (64).

use super::{Addresses, EniCount, Slots};
use crate::action::Fill;
use crate::ids::EniId;
use crate::store::Slot;

/// What slots can be filled with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) slot: Slot,
    /// No more than that in one call.
    pub(crate) most: Slots,
}

impl Ask {
    /// As many single addresses as there is room for.
    pub(crate) const ANY_SINGLE: Self = Self { slot: Slot::Single, most: Slots(u32::MAX) };
}

/// An ENI that could hold more, and can be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) eni_id: EniId,
    /// Further slots, those under way taken off.
    pub(crate) slots: Slots,
    pub(crate) ask: Ask,
    /// Whether its subnet is the one that new ENIs are created in.
    pub(crate) in_main_subnet: bool,
}

/// What growth can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrowView {
    pub(crate) shortfall: Addresses,
    /// Room for further addresses that is missing, whether or not addresses are.
    pub(crate) room_missing: Addresses,
    pub(crate) by_whole_enis: bool,
    /// Most preferred first; ENIs of exhausted subnets are left out.
    pub(crate) rooms: Vec<Room>,
    /// Room that can be used later: on busy ENIs, and on ENIs asked for.
    pub(crate) later: Addresses,
    /// Slots of an ENI.
    pub(crate) per_eni: Slots,
    /// What new ENIs are created with.
    pub(crate) ask: Ask,
    /// ENIs that can still be created.
    pub(crate) new_enis: EniCount,
    /// Addresses left in the subnet of new ENIs, when it is nearly exhausted; `None`: enough.
    pub(crate) subnet_left: Option<Addresses>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Assign { eni_id: EniId, fill: Fill },
    Create { fill: Fill },
}

pub(crate) fn plan(view: &GrowView) -> Vec<Growth> {
    let mut plan = Vec::new();
    let mut missing = view.shortfall;
    let mut left = view.subnet_left;
    for room in &view.rooms {
        if missing == Addresses::ZERO {
            break;
        }
        let limit = if room.in_main_subnet { left } else { None };
        let wanted = wanted(view, missing, room.slots, room.ask.slot);
        let count = allowed(wanted, room.ask, limit);
        if count > Slots::ZERO {
            plan.push(Growth::Assign { eni_id: room.eni_id.clone(), fill: room.ask.slot.fill(count.0) });
            missing = missing.less(settled(wanted, count, room.ask));
            if limit.is_some() {
                left = left.map(|left| left.less(count.of(room.ask.slot)));
            }
        }
    }
    missing = missing.less(view.later);
    let mut room = view.room_missing;
    for _ in 0..view.new_enis.0 {
        // One for the room that it has carries one slot: no ENI is made without.
        let least = Slots(u32::from(room > Addresses::ZERO));
        let filled = wanted(view, missing, view.per_eni, view.ask.slot);
        let wanted = if missing > Addresses::ZERO { filled } else { least };
        // An ENI's primary address comes from the same subnet.
        let count = allowed(wanted, view.ask, left.map(|left| left.less(Addresses(1))));
        if count == Slots::ZERO {
            break;
        }
        plan.push(Growth::Create { fill: view.ask.slot.fill(count.0) });
        missing = missing.less(settled(wanted, count, view.ask));
        room = room.less(view.per_eni.of(view.ask.slot));
        left = left.map(|left| left.less(count.of(view.ask.slot) + Addresses(1)));
    }
    plan
}

/// Slots of an ENI that the need asks for.
fn wanted(view: &GrowView, missing: Addresses, room: Slots, slot: Slot) -> Slots {
    if view.by_whole_enis { room } else { room.min(Slots::to_hold(missing, slot)) }
}

/// Of these, what one call may ask for.
fn allowed(wanted: Slots, ask: Ask, limit: Option<Addresses>) -> Slots {
    let limit = limit.map_or(wanted, |limit| Slots::filled_by(limit, ask.slot));
    wanted.min(ask.most).min(limit)
}

/// How much of the need a call settles: what a further call to the same ENI will ask for is not asked of another.
fn settled(wanted: Slots, count: Slots, ask: Ask) -> Addresses {
    if count == ask.most { wanted.of(ask.slot) } else { count.of(ask.slot) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SINGLES: Ask = Ask::ANY_SINGLE;
    const PREFIXES: Ask = Ask { slot: Slot::Prefix, most: Slots(u32::MAX) };

    fn room(name: &str, slots: u32) -> Room {
        Room { eni_id: EniId::from(name), slots: Slots(slots), ask: SINGLES, in_main_subnet: true }
    }

    fn with_prefixes(ask: Ask, shortfall: u32, rooms: &[(&str, u32)]) -> GrowView {
        let rooms = rooms.iter().map(|(name, slots)| Room { ask, ..room(name, *slots) }).collect();
        GrowView { ask, ..view(shortfall, rooms) }
    }

    fn view(shortfall: u32, rooms: Vec<Room>) -> GrowView {
        GrowView {
            shortfall: Addresses(shortfall),
            room_missing: Addresses::ZERO,
            by_whole_enis: false,
            rooms,
            later: Addresses::ZERO,
            per_eni: Slots(9),
            ask: SINGLES,
            new_enis: EniCount(2),
            subnet_left: None,
        }
    }

    fn assign(name: &str, count: u32) -> Growth {
        Growth::Assign { eni_id: EniId::from(name), fill: Fill::Addresses(count) }
    }

    fn create(secondary: u32) -> Growth {
        Growth::Create { fill: Fill::Addresses(secondary) }
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

    #[test]
    fn prefixes_are_asked_for_in_one_call_an_eni_and_on_as_many_new_enis_as_it_takes() {
        let prefixes = |count| Growth::Create { fill: Fill::Prefixes(count) };
        let first = Growth::Assign { eni_id: "a".into(), fill: Fill::Prefixes(9) };
        assert_eq!(plan(&with_prefixes(PREFIXES, 205, &[("a", 9)])), [first, prefixes(4)]);
        assert_eq!(plan(&with_prefixes(PREFIXES, 160, &[])), [prefixes(9), prefixes(1)]);
        let one = Growth::Assign { eni_id: "a".into(), fill: Fill::Prefixes(1) };
        assert_eq!(plan(&with_prefixes(PREFIXES, 1, &[("a", 9), ("b", 9)])), [one]);
    }

    #[test]
    fn a_subnet_whose_prefixes_are_rare_is_asked_for_one_at_a_time_and_no_other_eni_instead() {
        let rare = Ask { slot: Slot::Prefix, most: Slots(1) };
        let one = Growth::Assign { eni_id: "a".into(), fill: Fill::Prefixes(1) };
        assert_eq!(plan(&with_prefixes(rare, 40, &[("a", 9), ("b", 9)])), [one]);
    }

    #[test]
    fn a_nearly_empty_subnet_gives_whole_prefixes_or_none() {
        let mut short = with_prefixes(PREFIXES, 100, &[("a", 9)]);
        short.subnet_left = Some(Addresses(47));
        assert_eq!(plan(&short), [Growth::Assign { eni_id: "a".into(), fill: Fill::Prefixes(2) }]);
        short.subnet_left = Some(Addresses(15));
        assert_eq!(plan(&short), []);
    }

    proptest! {
        #[test]
        fn a_plan_keeps_every_limit_and_never_asks_for_more_than_a_whole_eni_beyond_the_need(
            shortfall in 0_u32..300, rooms in proptest::collection::vec((0_u32..15, any::<bool>()), 0..6),
            later in 0_u32..40, new_enis in 0_u32..8, whole in any::<bool>(), left in proptest::option::of(0_u32..60),
            most in prop_oneof![Just(u32::MAX), 1_u32..4], room_missing in 0_u32..120
        ) {
            let ask = |prefix: bool| {
                if prefix { Ask { slot: Slot::Prefix, most: Slots(most) } } else { SINGLES }
            };
            let rooms: Vec<Room> = rooms
                .into_iter()
                .enumerate()
                .map(|(index, (free, prefix))| Room { ask: ask(prefix), ..room(&format!("eni-{index}"), free) })
                .collect();
            let view = GrowView {
                shortfall: Addresses(shortfall), room_missing: Addresses(room_missing), by_whole_enis: whole, rooms: rooms.clone(), later: Addresses(later),
                per_eni: Slots(14), ask: ask(most != u32::MAX), new_enis: EniCount(new_enis), subnet_left: left.map(Addresses),
            };
            // What room takes comes after what addresses take, as ENIs of one slot, no more than the room asks for.
            let for_addresses = plan(&GrowView { room_missing: Addresses::ZERO, ..view.clone() });
            let whole_plan = plan(&view);
            prop_assert!(whole_plan.starts_with(&for_addresses));
            let for_room = &whole_plan[for_addresses.len()..];
            let one_slot = |growth: &Growth| matches!(growth, Growth::Create { fill } if fill.slots() == 1);
            prop_assert!(for_room.iter().all(one_slot));
            prop_assert!(for_room.len() <= Slots::to_hold(Addresses(room_missing), view.ask.slot).0.div_ceil(14) as usize);
            let mut got = 0;
            let mut from_subnet = 0;
            let mut created = 0;
            for (number, growth) in whole_plan.into_iter().enumerate() {
                let counts = u32::from(number < for_addresses.len());
                match growth {
                    Growth::Assign { eni_id, fill } => {
                        let room = rooms.iter().find(|room| room.eni_id == eni_id).expect("a room given");
                        prop_assert!(fill.slots() <= room.slots.0 && fill.slots() > 0 && fill.slots() <= room.ask.most.0);
                        got += fill.addresses();
                        from_subnet += fill.addresses();
                    }
                    Growth::Create { fill } => {
                        prop_assert!(fill.slots() > 0 && fill.slots() <= 14 && fill.slots() <= view.ask.most.0);
                        got += counts * fill.addresses();
                        from_subnet += fill.addresses() + 1;
                        created += 1;
                    }
                }
            }
            prop_assert!(created <= new_enis);
            prop_assert!(left.is_none_or(|left| from_subnet <= left));
            let most = if whole { shortfall + 14 * 16 } else { shortfall + 15 };
            prop_assert!(got <= most);
            prop_assert!(shortfall > 0 || got == 0);
        }
    }
}
