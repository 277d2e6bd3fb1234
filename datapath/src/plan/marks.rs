// SPDX-License-Identifier: Apache-2.0
//! Which ENI a pod's packets leave by, in layout `flat` and secondary-IP mode: the pod's host veth is in its ENI's link
//! group, the group gives the packet the ENI's mark, and one policy rule an ENI takes the mark to the ENI's table. So
//! neither rules nor nft rules grow with the number of pods, and an ADD writes none of either.
//!
//! ```text
//! veth of a pod on eth2 ── group 158002 ── eni_marks: mark 0x2/0x7f ── rule 1536 fwmark 0x2/0x7f ── table 3 ── eth2
//! any other link        ── another group ─ untouched
//! ```
//!
//! The rules are the same whatever ENIs there are, for all places that have a number ([`ids::Place`]: those of card 0): the table is
//! not replaced when an ENI comes or goes. What belongs to no ENI's group (everything that comes in from outside, the primary ENI's pods, pods inside
//! prefixes) is done after the first rule; ENIs are asked about lowest first, which is the order in which they are filled.
//!
//! The packet also may get the mark of connections of the primary ENI ([`super::snat`]): its rule, 1024, goes first. An answer to who
//! asked at a secondary ENI's own address gets that ENI's instead, a little later ([`super::answers`]).
//!
//! Known gap, only here: a TCP reset that the *node* makes in a pod's name (`reject with tcp reset` in a forward chain, as network
//! policies have it) came in by no link, so it has no mark, and leaves by the primary ENI with the pod's address, where the VPC's
//! source check drops it. Effect: who connects from outside the node to a port that such a rule rejects, in a pod on a secondary
//! ENI, waits for its time-out instead of reading "connection refused"; nothing is let through. Pods of the same node get theirs,
//! and ICMP errors have the node's own address. Layout `classic` and prefixes are not concerned: a rule by source finds the ENI.
//! There is no rule by source here, since the addresses of two ENIs of one subnet lie in no two blocks, and an nft element for each
//! pod is what this layout is to do without. What would close it at a constant price: a connection mark by the ENI that a
//! connection comes in by, given back in an output chain of type `route`; it takes bits of others' connection marks.
//!
//! Another mask (`ENID_ENI_MARK_MASK`, or a connection mark that moves it) changes under live pods: the rules of the new marks come
//! before the chain that gives them, and those of the old marks go after it ([`Move`]). For the moment between, a packet is led
//! astray only where one number is one ENI's mark by the old mask and another's by the new one; and an ENI that does not fit into
//! the new mask has no mark until its pods get rules of their own.
//!
//! Invariant: only bits of the mask are written; two ENIs never share a mark.

use super::answers;
use super::eni;
use super::host::{HostSetup, Layout};
use super::ids::{self, Place};
use super::model::{Mark, Rule};
use super::nft::{ChainType, Hook, Match, NftChain, NftRule, Statement};

/// The mark of the ENI at a place; `None`: it has none, for the place has no number ([`Place::number`]) or one that does not fit into
/// the mask.
#[must_use]
pub fn of_eni(mask: u32, place: Place) -> Option<Mark> {
    of_number(mask, place.number()?)
}

/// A number in the bits of a mask; `None`: it does not fit.
pub(super) fn of_number(mask: u32, number: u32) -> Option<Mark> {
    let shift = mask.trailing_zeros();
    let value = number.checked_shl(shift)?;
    (value >> shift == number && value & !mask == 0).then_some(Mark { value, mask })
}

/// The ENI's place by its mark; `None`: no ENI's.
pub(super) fn place(mark: Mark) -> Option<Place> {
    Place::with_numbers().find(|place| of_eni(mark.mask, *place) == Some(mark))
}

/// What the rules of ENIs' marks need when the node's mask is another than the one that they were made by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// Rules of the new marks, to the tables of the old ones: before the chain changes.
    pub missing: Vec<Rule>,
    /// Ours of the old ones: after it.
    pub stale: Vec<Rule>,
}

impl Move {
    /// By the rules of ENIs' marks that there are, with the protocol of each.
    #[must_use]
    pub fn of(host: &HostSetup, found: &[(Rule, u8)]) -> Self {
        let is_old = |rule: &Rule| rule.mark.is_some_and(|mark| mark.mask != host.eni_mark_mask);
        let is_ours = |protocol: u8| protocol == ids::PROTOCOL;
        let old = found.iter().filter(|(rule, protocol)| is_ours(*protocol) && is_rule(rule) && is_old(rule));
        let mut moved = Self { missing: Vec::new(), stale: old.map(|(rule, _)| rule.clone()).collect() };
        for rule in &moved.stale {
            let mark = rule.mark.and_then(|mark| moved_mark(host, rule, mark));
            let all = || found.iter().map(|(rule, _)| rule).chain(&moved.missing);
            let is_there = |mark| all().any(|other| (other.family, other.mark) == (rule.family, mark));
            if mark.is_some() && !is_there(mark) {
                moved.missing.push(Rule { mark, ..rule.clone() });
            }
        }
        moved
    }
}

/// The mark of the node's mask that is for what the rule's is for; `None`: there is none, or nothing needs it.
fn moved_mark(host: &HostSetup, rule: &Rule, mark: Mark) -> Option<Mark> {
    if eni::is_answer(rule) {
        let place = answers::place(mark).filter(|_| host.serves_node_ports)?;
        answers::of_eni(host.eni_mark_mask, place)
    } else {
        let place = place(mark).filter(|_| host.layout == Layout::Flat)?;
        of_eni(host.eni_mark_mask, place)
    }
}

/// Whether a rule is one of an ENI's marks: of its pods or of answers.
#[must_use]
pub fn is_rule(rule: &Rule) -> bool {
    rule.mark.is_some() && eni::is_of_eni(rule)
}

/// The chain; `None` in layout `classic`.
#[must_use]
pub fn chain(host: &HostSetup) -> Option<NftChain> {
    if host.layout == Layout::Classic {
        return None;
    }
    let mut rules = vec![NftRule {
        purpose: "no pod of a secondary ENI",
        matches: vec![Match::InputGroupBits(Mark { value: 0, mask: ids::POD_GROUP_BIT })],
        statements: vec![Statement::Accept],
    }];
    rules.extend(Place::with_numbers().filter_map(|place| rule(host.eni_mark_mask, place)));
    Some(NftChain { name: "eni_marks", kind: ChainType::Filter, hook: Hook::Prerouting, priority: -155, rules })
}

fn rule(mask: u32, place: Place) -> Option<NftRule> {
    let (group, mark) = (place.group()?, of_eni(mask, place)?);
    Some(NftRule {
        purpose: "pods leave by their ENI",
        matches: vec![Match::InputGroup(group)],
        statements: vec![Statement::SetPacketMark(mark), Statement::Accept],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_eni_that_has_a_group_has_a_mark_of_its_own_by_default() {
        let mask = ids::DEFAULT_ENI_MARK_MASK;
        let beyond = Place::new(0, ids::MOST_MARKED_ENIS + 1).unwrap();
        assert_eq!((of_eni(mask, Place::PRIMARY), of_eni(mask, beyond)), (None, None));
        let marks: BTreeSet<_> = Place::with_numbers().map(|place| of_eni(mask, place).unwrap().value).collect();
        assert_eq!(marks.len(), ids::MOST_MARKED_ENIS as usize);
    }

    #[test]
    fn groups_are_apart_from_each_other_and_from_the_dead_one() {
        let groups: BTreeSet<_> = Place::with_numbers().filter_map(Place::group).collect();
        assert_eq!(groups.len(), ids::MOST_MARKED_ENIS as usize);
        let others = Place::with_numbers().filter_map(Place::link_group);
        let others: BTreeSet<_> =
            [ids::DEAD_GROUP, ids::MAKING_GROUP, ids::DEFAULT_GROUP].into_iter().chain(others).collect();
        assert_eq!(others.len(), 3 + ids::MOST_MARKED_ENIS as usize);
        assert!(groups.iter().all(|group| group & ids::POD_GROUP_BIT != 0));
        assert!(others.iter().all(|group| group & ids::POD_GROUP_BIT == 0));
        assert!(others.iter().all(|group| ids::is_eni_link_group(*group) == (58_001..=58_023).contains(group)));
    }

    #[test]
    fn an_eni_that_does_not_fit_a_narrow_mask_has_no_mark() {
        let of = |mask, device| of_eni(mask, Place::new(0, device).unwrap());
        assert_eq!(of(0x3000, 3), Some(Mark { value: 0x3000, mask: 0x3000 }));
        assert_eq!(of(0x3000, 4), None);
        assert_eq!(of(0, 1), None);
    }

    proptest! {
        #[test]
        fn a_mark_keeps_to_its_mask_and_is_never_none_s(width in 1u32..24, shift in 0u32..9, index in 0u32..40) {
            let mask = ((1u32 << width) - 1) << shift;
            if let Some(mark) = of_eni(mask, Place::new(0, index).unwrap()) {
                prop_assert_eq!(mark.value & !mask, 0);
                prop_assert_ne!(mark.value, 0);
                prop_assert_eq!(mark.value >> shift, index);
            }
        }
    }
}
