// SPDX-License-Identifier: Apache-2.0
//! Target, growth and shrinking as one loop on a model of a node, from a million random states, its calls failing at random.
//!
//! States are drawn from a number, not by proptest, which would take minutes for so many; a state that breaks something is
//! named by its number, and `Node::drawn(number)` is that state again.

use super::grow::{self, Ask, GrowView, Growth, Room};
use super::shrink::{self, Allowance, Share, Shrinkage};
use super::target::{self, Policy, PoolView, Target};
use super::{Addresses, EniCount, Slots};
use crate::config::WarmTargets;
use crate::ids::{DeviceIndex, EniId};
use crate::store::Slot;

const STATES: u64 = 1_000_000;

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators").
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`, both included.
    fn up_to(&mut self, most: u32) -> u32 {
        u32::try_from(self.draw() % (u64::from(most) + 1)).unwrap()
    }
}

/// Addresses of an ENI by state. Free ones of prefixes are together: as many as make up whole prefixes could go.
#[derive(Clone, Debug)]
struct Eni {
    slots: u32,
    allocated: u32,
    cooling: u32,
    free: u32,
}

#[derive(Debug)]
struct Node {
    slot: Slot,
    per_eni: u32,
    max_enis: u32,
    policy: Policy,
    waiting: u32,
    enis: Vec<Eni>,
    dice: Dice,
    /// Calls that will fail yet.
    failures: u32,
    failed: u32,
    created: u32,
}

impl Node {
    fn drawn(number: u64) -> Self {
        let mut dice = Dice(number);
        let slot = if dice.up_to(1) == 0 { Slot::Single } else { Slot::Prefix };
        let (per_eni, max_enis) = (1 + dice.up_to(48), 1 + dice.up_to(14));
        let warm = match dice.up_to(2) {
            0 => WarmTargets::Enis(dice.up_to(3)),
            1 => WarmTargets::Prefixes(dice.up_to(3)),
            _ => WarmTargets::Addresses { warm: dice.up_to(60), minimum: dice.up_to(120) },
        };
        // An ENI target means nothing in prefix mode, nor a prefix target without prefixes.
        let warm = match (slot, warm) {
            (Slot::Single, WarmTargets::Prefixes(count)) => WarmTargets::Enis(count),
            (Slot::Prefix, WarmTargets::Enis(count)) => WarmTargets::Prefixes(count),
            (_, warm) => warm,
        };
        let max_pods = (dice.up_to(1) == 0).then(|| Addresses(dice.up_to(250)));
        let policy = Policy {
            warm,
            per_eni: Slots(per_eni).of(slot),
            max_pods,
            band: Addresses(if matches!(warm, WarmTargets::Addresses { .. }) { dice.up_to(8) } else { 0 }),
            ..Policy::default()
        };
        let enis = 1 + dice.up_to(max_enis - 1);
        let enis = (0..enis).map(|_| Eni::drawn(&mut dice, slot, per_eni)).collect();
        let (waiting, failures) = (dice.up_to(3) * dice.up_to(60), dice.up_to(1) * dice.up_to(6));
        Self { slot, per_eni, max_enis, policy, waiting, enis, dice, failures, failed: 0, created: 0 }
    }

    fn pool(&self) -> PoolView {
        let sum = |of: fn(&Eni) -> u32| Addresses(self.enis.iter().map(of).sum());
        PoolView {
            total: sum(|eni| eni.allocated + eni.cooling + eni.free),
            free: sum(|eni| eni.free),
            outgoing: Addresses::ZERO,
            waiting: Addresses(self.waiting),
            announced: Addresses::ZERO,
        }
    }

    fn target(&self) -> Target {
        target::target(&self.pool(), &self.policy)
    }

    fn id(index: usize) -> EniId {
        EniId::from(index.to_string().as_str())
    }

    fn ask(&self) -> Ask {
        Ask { slot: self.slot, most: Slots(u32::MAX) }
    }

    fn view(&self) -> GrowView {
        let rooms = self.enis.iter().enumerate().filter(|(_, eni)| eni.slots < self.per_eni);
        let mut rooms: Vec<(usize, u32)> = rooms.map(|(index, eni)| (index, self.per_eni - eni.slots)).collect();
        rooms.sort_by_key(|(index, room)| (*room, *index));
        let room =
            |(index, room)| Room { eni_id: Self::id(index), slots: Slots(room), ask: self.ask(), in_main_subnet: true };
        GrowView {
            shortfall: self.target().shortfall,
            room_missing: Addresses::ZERO,
            by_whole_enis: self.policy.by_whole_enis(),
            rooms: rooms.into_iter().map(room).collect(),
            later: Addresses::ZERO,
            per_eni: Slots(self.per_eni),
            ask: self.ask(),
            new_enis: EniCount(self.max_enis - u32::try_from(self.enis.len()).unwrap()),
            subnet_left: None,
        }
    }

    /// What EC2 does: all of it, nothing, or less of an assignment than was asked for.
    fn does(&mut self, slots: u32) -> u32 {
        if self.failures == 0 || self.dice.up_to(1) == 0 {
            return slots;
        }
        self.failures -= 1;
        self.failed += 1;
        self.dice.up_to(slots - 1)
    }

    /// One step of growth; `false`: nothing was asked for.
    fn grow(&mut self) -> bool {
        let plan = grow::plan(&self.view());
        let before = self.enis.len();
        for growth in &plan {
            match growth {
                Growth::Assign { eni_id, fill } => {
                    let index: usize = eni_id.as_str().parse().unwrap();
                    assert!(index < before && fill.slots() > 0);
                    let got = self.does(fill.slots());
                    self.enis[index].comes(got, self.slot);
                }
                Growth::Create { fill } => {
                    assert!(fill.slots() > 0);
                    // With all its addresses or not at all.
                    if self.does(fill.slots()) == fill.slots() {
                        self.created += 1;
                        let mut eni = Eni { slots: 0, allocated: 0, cooling: 0, free: 0 };
                        eni.comes(fill.slots(), self.slot);
                        self.enis.push(eni);
                    }
                }
            }
            assert!(self.enis.iter().all(|eni| eni.slots <= self.per_eni), "an ENI over its limit");
            assert!(self.enis.len() <= self.max_enis as usize, "more ENIs than the limit");
        }
        !plan.is_empty()
    }

    /// One step of shrinking; `false`: nothing goes.
    fn shrink(&mut self) -> bool {
        let shares: Vec<Share> = self.enis.iter().zip(0_u32..).map(|(eni, index)| self.share(eni, index)).collect();
        let allowance = Allowance {
            surplus: self.target().surplus,
            room: Addresses(u32::MAX),
            by_whole_enis: self.policy.by_whole_enis(),
            kept_prefixes: self.policy.kept_prefixes(),
            outgoing: Slots::ZERO,
        };
        let at = |id: &EniId| id.as_str().parse::<usize>().unwrap();
        match shrink::plan(&shares, allowance) {
            None => return false,
            Some(Shrinkage::Release { eni_id, .. }) => {
                let gone = self.enis.remove(at(&eni_id));
                assert!(gone.allocated == 0 && gone.cooling == 0, "an ENI in use goes");
            }
            Some(Shrinkage::Unassign { eni_id, fill, .. }) => {
                let eni = &mut self.enis[at(&eni_id)];
                assert!(fill.slots() > 0 && fill.addresses() <= eni.free, "addresses in use go");
                eni.slots -= fill.slots();
                eni.free -= fill.addresses();
            }
        }
        true
    }

    fn share(&self, eni: &Eni, index: u32) -> Share {
        let (singles, prefixes) = match self.slot {
            Slot::Single => (eni.free, 0),
            Slot::Prefix => (0, eni.free / 16),
        };
        Share {
            eni_id: Self::id(index as usize),
            device_index: DeviceIndex(index),
            allocated: Addresses(eni.allocated),
            free: Addresses(eni.free),
            singles: Slots(singles),
            prefixes: Slots(prefixes),
            outgoing: (Slot::Single, Slots::ZERO),
            room: Slots(self.per_eni).of(self.slot),
            can_go: index > 0 && eni.allocated == 0 && eni.cooling == 0,
        }
    }

    /// ENIs that what is missing needs, beyond the room of those there are.
    fn enis_needed(&self) -> u32 {
        let room: u32 = self.enis.iter().map(|eni| self.per_eni - eni.slots).sum();
        let beyond = self.target().shortfall.less(Slots(room).of(self.slot));
        beyond.0.div_ceil(self.policy.per_eni.0)
    }

    /// Waiting ADDs take what is free.
    fn serve(&mut self) {
        for eni in &mut self.enis {
            let served = eni.free.min(self.waiting);
            (eni.free, eni.allocated, self.waiting) =
                (eni.free - served, eni.allocated + served, self.waiting - served);
        }
    }
}

impl Eni {
    fn drawn(dice: &mut Dice, slot: Slot, per_eni: u32) -> Self {
        let slots = dice.up_to(per_eni);
        let all = Slots(slots).of(slot).0;
        let allocated = dice.up_to(all);
        let cooling = dice.up_to(all - allocated);
        Self { slots, allocated, cooling, free: all - allocated - cooling }
    }

    fn comes(&mut self, slots: u32, slot: Slot) {
        self.slots += slots;
        self.free += Slots(slots).of(slot).0;
    }
}

#[test]
fn from_any_of_a_million_states_the_target_is_reached_with_no_eni_too_many_or_every_slot_is_taken() {
    let (mut feasible, mut failed, mut created) = (0, 0, 0);
    for number in 0..STATES {
        let mut node = Node::drawn(number);
        let needed = node.enis_needed();
        let mut steps = 0;
        while node.grow() {
            node.serve();
            steps += 1;
            assert!(steps <= 1 + node.failed, "state {number}: step {steps} with {} failures: {node:?}", node.failed);
        }
        assert!(node.created <= needed, "state {number}: {needed} ENIs would do: {node:?}");
        let full = node.enis.len() == node.max_enis as usize && node.enis.iter().all(|eni| eni.slots == node.per_eni);
        let met = node.target().shortfall == Addresses::ZERO;
        assert!(met || full, "state {number}: growth stops short of the target: {node:?}");
        feasible += u64::from(met);
        failed += node.failed;
        created += node.created;
    }
    // That the draw is not all of one kind.
    assert!(
        (STATES / 2..STATES).contains(&feasible) && failed > 100_000 && created > 100_000,
        "{feasible} {failed} {created}"
    );
}

#[test]
fn what_shrinking_takes_from_any_of_as_many_states_growth_does_not_bring_back() {
    let mut steps = 0_u64;
    for number in 0..STATES {
        let mut node = Node::drawn(number);
        node.failures = 0;
        while node.grow() {
            node.serve();
        }
        let most = 2 * node.enis.len();
        let mut taken = 0;
        while node.shrink() {
            taken += 1;
            assert!(taken <= most, "state {number}: shrinking does not end: {node:?}");
        }
        assert!(!node.grow(), "state {number}: growth brings back what shrinking took: {node:?}");
        steps += taken as u64;
    }
    assert!(steps > STATES / 10, "{steps}");
}
