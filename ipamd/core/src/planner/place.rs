// SPDX-License-Identifier: Apache-2.0
//! In which subnet the next ENI is made: what a subnet's tags say of it, and which of the usable ones goes first.
//!
//! Pure: what EC2 said of the subnets, what was asked of them since, and what they refused are arguments (`core/places`
//! keeps them). The tags are the reference's (amazon-vpc-cni-k8s README, "ENABLE_SUBNET_DISCOVERY"), first match wins:
//!
//! | `kubernetes.io/role/cni` | `cni.networking.k8s.aws/cluster/…` | the primary ENI's subnet | another one |
//! |---|---|---|---|
//! | `0` | any | excluded | excluded |
//! | none, or empty | any | usable | not offered |
//! | anything else | none, or one of our cluster, or we have no name | usable | usable |
//! | anything else | other clusters' only | excluded | excluded |
//!
//! Order: subnets that refused nothing lately, first those with enough free addresses, most of them first (in prefix mode
//! before all those that have /28s as far as we know), then those with two at least, then those with fewer; then one whose
//! rest after a refusal is over (half open: one call at a time finds out whether it gives again); then the one that was
//! said to have most left; then the one whose rest ends first.
//!
//! A policy (custom networking) puts subnets in an order of its own: the next one's turn comes when none before it can take the
//! ENI (too few free, refused and resting, or half open). Among subnets of one order each gets its share by weight, by the
//! quota method (Balinski and Young, 1975): of those whose share, rounded up, is not reached, the one with the least
//! (ENIs + 1) / weight. So after any number of ENIs each is within one of its share. Tags mean nothing then.
//!
//! Worked example of weights 3 and 1: a, a, a, b, and again. Of tags: a /24 with 3 free addresses and a /23 with 400, an ENI
//! with 9 wanted: the /23. It refuses: the /24, at
//! once, for what it has left.

use std::cmp::Ordering;

use crate::checkpoint::PlaceStanding as Standing;
use crate::ids::{BootTime, SubnetId};

/// Whether a subnet is offered for pods.
const ROLE_TAG: &str = "kubernetes.io/role/cni";
/// Followed by the name of a cluster that it is offered to.
const CLUSTER_TAG_PREFIX: &str = "cni.networking.k8s.aws/cluster/";

/// `primary`: it is the primary ENI's subnet.
pub(crate) fn standing(tags: &[(String, String)], primary: bool, cluster: Option<&str>) -> Standing {
    let role = tags.iter().find(|(key, _)| key == ROLE_TAG).map(|(_, value)| value.as_str());
    match role {
        Some("0") => Standing::Excluded,
        None | Some("") if primary => Standing::Usable,
        None | Some("") => Standing::NotOffered,
        Some(_) => {
            let mut clusters = tags.iter().filter_map(|(key, _)| key.strip_prefix(CLUSTER_TAG_PREFIX)).peekable();
            let open = cluster.is_none() || clusters.peek().is_none();
            if open || clusters.any(|name| Some(name) == cluster) { Standing::Usable } else { Standing::Excluded }
        }
    }
}

/// One usable subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) subnet_id: SubnetId,
    /// Free addresses as EC2 last counted them, what was asked for since taken off.
    pub(crate) free: u32,
    pub(crate) patience: Patience,
    /// It gives what the node fills slots with: prefixes in prefix mode, as long as it has not refused them lately.
    pub(crate) fits: bool,
    /// Of subnets that could take the ENI those with the lowest are used. 0 without a policy.
    pub(crate) order: u32,
    /// What it is to have beside others of its order; `None`: no policy says so, and the one with most free goes first.
    pub(crate) share: Option<Share>,
}

/// What asking a subnet for more is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It refused nothing lately.
    Ready,
    /// It refused, and has rested: one call finds out whether it gives again.
    HalfOpen {
        /// That call is under way.
        probed: bool,
    },
    /// It refused, and is left alone until then, but for what it was said to have left.
    Resting { until: BootTime, left: u32 },
}

/// What is to be made where a policy gives subnets of one order their shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// At least 1.
    pub(crate) weight: u32,
    /// ENIs of ours there, those asked for among them.
    pub(crate) enis: u32,
}

/// The subnet of the next ENI that wants so many addresses, its own included; `None`: there is no usable one.
pub(crate) fn choose(places: &[Place], wanted: u32) -> Option<&Place> {
    let best = places.iter().map(|place| rank(place, wanted)).min()?;
    let equal = || places.iter().filter(|place| rank(place, wanted) == best);
    let shares = || equal().filter_map(|place| place.share);
    let next = 1 + shares().map(|share| u64::from(share.enis)).sum::<u64>();
    let weights = shares().map(|share| u64::from(share.weight)).sum::<u64>();
    // With one more it would have no more than its share, rounded up.
    let is_due = |place: &&Place| {
        place.share.is_none_or(|share| u64::from(share.enis) * weights < u64::from(share.weight) * next)
    };
    equal().filter(is_due).min_by(|one, other| {
        let by_share = match (one.share, other.share) {
            (Some(one), Some(other)) => after(one, other).cmp(&after(other, one)),
            _ => Ordering::Equal,
        };
        by_share.then_with(|| (tie(one), &one.subnet_id).cmp(&(tie(other), &other.subnet_id)))
    })
}

/// (ENIs + 1) / weight of one, to be compared with the other's: both times both weights.
fn after(one: Share, other: Share) -> u64 {
    (u64::from(one.enis) + 1) * u64::from(other.weight)
}

/// What counts before free addresses and shares; the least is best.
fn rank(place: &Place, wanted: u32) -> (u8, u32, bool) {
    // Two at least: an ENI's own address and one for a pod.
    let class = match place.patience {
        Patience::Ready if place.free >= wanted => 0,
        Patience::Ready if place.free > 1 => 1,
        Patience::Ready => 2,
        Patience::HalfOpen { probed: false } => 3,
        Patience::Resting { left, .. } if left > 1 => 4,
        Patience::HalfOpen { probed: true } => 5,
        Patience::Resting { .. } => 6,
    };
    (class, place.order, !place.fits)
}

/// Most free addresses first; of those that rest, the one that has most left, or rests no longer soonest.
fn tie(place: &Place) -> u64 {
    let most_first = |count: u32| u64::from(u32::MAX - count);
    match place.patience {
        Patience::Ready | Patience::HalfOpen { .. } => most_first(place.free),
        Patience::Resting { left, .. } if left > 1 => most_first(left),
        Patience::Resting { until, .. } => u64::try_from(until.0.as_millis()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const ROLE: &str = "kubernetes.io/role/cni";
    const BLUE: &str = "cni.networking.k8s.aws/cluster/blue";
    const RED: &str = "cni.networking.k8s.aws/cluster/red";

    /// Rows of the rules as the reference documents them; the last three are of its own suite "eni-subnet-discovery".
    #[test]
    fn tags_say_whether_a_subnet_is_usable_not_offered_or_excluded() {
        use Standing::{Excluded, NotOffered, Usable};
        let none: &[(&str, &str)] = &[];
        for (tags, as_primary, as_other) in [
            (none, Usable, NotOffered),
            (&[("Name", "a")], Usable, NotOffered),
            (&[(ROLE, "")], Usable, NotOffered),
            (&[(ROLE, "1")], Usable, Usable),
            (&[(ROLE, "yes")], Usable, Usable),
            (&[(ROLE, "0")], Excluded, Excluded),
            (&[(ROLE, "0"), (BLUE, "")], Excluded, Excluded),
            (&[(ROLE, "1"), (BLUE, "")], Usable, Usable),
            (&[(ROLE, "1"), (BLUE, "shared"), (RED, "")], Usable, Usable),
            (&[(ROLE, "1"), (RED, "")], Excluded, Excluded),
            // An untagged primary subnet with a foreign cluster's tag is used all the same.
            (&[(RED, "")], Usable, NotOffered),
            // The tag's former prefix means nothing.
            (&[(ROLE, "1"), ("kubernetes.io/cluster/red", "shared")], Usable, Usable),
        ] {
            let tags: Vec<(String, String)> =
                tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(standing(&tags, true, Some("blue")), as_primary, "primary {tags:?}");
            assert_eq!(standing(&tags, false, Some("blue")), as_other, "other {tags:?}");
        }
    }

    #[test]
    fn a_cluster_without_a_name_takes_every_offered_subnet() {
        let tags = [(ROLE.to_owned(), "1".to_owned()), (RED.to_owned(), String::new())];
        assert_eq!(standing(&tags, false, None), Standing::Usable);
        assert_eq!(standing(&tags, true, None), Standing::Usable);
    }

    fn place(name: &str, free: u32, patience: Patience) -> Place {
        Place { subnet_id: name.into(), free, patience, fits: true, order: 0, share: None }
    }

    fn chosen(places: &[Place], wanted: u32) -> &str {
        choose(places, wanted).map_or("none", |place| place.subnet_id.as_str())
    }

    #[test]
    fn the_subnet_with_most_free_addresses_goes_first_and_refusing_ones_last() {
        let later = BootTime(Duration::from_secs(60));
        let soon = BootTime(Duration::from_secs(20));
        let resting = |until, left| Patience::Resting { until, left };
        let mut places = vec![
            place("a", 3, Patience::Ready),
            place("b", 400, Patience::Ready),
            place("c", 900, Patience::HalfOpen { probed: false }),
            place("d", 0, resting(later, 5)),
            place("e", 0, resting(soon, 0)),
            place("f", 9, resting(later, 1)),
        ];
        let mut order = Vec::new();
        while let Some(next) = choose(&places, 10).map(|place| place.subnet_id.clone()) {
            places.retain(|place| place.subnet_id != next);
            order.push(next.0);
        }
        assert_eq!(order, ["b", "a", "c", "d", "e", "f"]);
        assert_eq!(chosen(&[], 1), "none");
        let probed = place("c", 900, Patience::HalfOpen { probed: true });
        assert_eq!(chosen(&[probed, place("d", 0, resting(later, 5))], 10), "d", "one probe at a time");
    }

    #[test]
    fn in_prefix_mode_a_sibling_with_prefixes_goes_before_a_larger_one_without() {
        let without = Place { fits: false, ..place("a", 400, Patience::Ready) };
        assert_eq!(chosen(&[without.clone(), place("b", 40, Patience::Ready)], 10), "b");
        assert_eq!(chosen(&[without, place("b", 4, Patience::Ready)], 10), "a", "one with too few is no help");
    }

    fn by_policy(name: &str, free: u32, order: u32, weight: u32, enis: u32) -> Place {
        Place { order, share: Some(Share { weight, enis }), ..place(name, free, Patience::Ready) }
    }

    #[test]
    fn the_next_order_comes_when_no_subnet_of_the_first_can_take_the_eni() {
        let resting = |name: &str, order| Place {
            patience: Patience::Resting { until: BootTime(Duration::from_secs(60)), left: 0 },
            ..by_policy(name, 400, order, 1, 0)
        };
        let half_open = |name: &str, order| Place {
            patience: Patience::HalfOpen { probed: false },
            ..by_policy(name, 400, order, 1, 0)
        };
        let first = by_policy("a", 20, 0, 1, 3);
        let second = by_policy("b", 400, 1, 1, 0);
        assert_eq!(chosen(&[first.clone(), second.clone()], 10), "a", "whatever is free elsewhere");
        assert_eq!(chosen(&[first.clone(), second.clone()], 30), "b", "too few");
        assert_eq!(chosen(&[resting("a", 0), second.clone()], 10), "b");
        assert_eq!(chosen(&[half_open("a", 0), second], 10), "b", "nobody waits for a probe");
        assert_eq!(
            chosen(&[first, by_policy("b", 12, 1, 1, 0), by_policy("c", 12, 2, 1, 0)], 30),
            "a",
            "by order all the same"
        );
        let none = [by_policy("a", 0, 0, 1, 0), by_policy("b", 5, 1, 1, 0)];
        assert_eq!(chosen(&none, 10), "b", "one that is empty is asked last");
        assert_eq!(chosen(&[resting("a", 0), half_open("b", 1)], 10), "b");
    }

    #[test]
    fn enis_are_shared_by_weight_and_ties_go_to_the_roomier_subnet() {
        let mut places = [by_policy("a", 99, 0, 3, 0), by_policy("b", 99, 0, 1, 0)];
        let mut order = String::new();
        for _ in 0..8 {
            let next = choose(&places, 10).expect("one").subnet_id.clone();
            order.push_str(next.as_str());
            let share = places.iter_mut().find(|place| place.subnet_id == next).and_then(|place| place.share.as_mut());
            share.expect("a share").enis += 1;
        }
        assert_eq!(order, "aaabaaab");
        assert_eq!(chosen(&[by_policy("a", 50, 0, 2, 1), by_policy("b", 60, 0, 2, 1)], 10), "b");
        assert_eq!(chosen(&[by_policy("b", 50, 0, 2, 1), by_policy("a", 50, 0, 2, 1)], 10), "a");
    }

    proptest! {
        #[test]
        fn after_any_number_of_enis_each_subnet_of_an_order_is_within_one_of_its_share(
            weights in proptest::collection::vec(1_u32..1_000, 1..7), enis in 1_u32..40
        ) {
            let mut places: Vec<Place> = weights
                .iter()
                .enumerate()
                .map(|(index, weight)| by_policy(&format!("subnet-{index}"), 999, 0, *weight, 0))
                .collect();
            let all: u32 = weights.iter().sum();
            for made in 1..=enis {
                let next = choose(&places, 10).expect("one").subnet_id.clone();
                let share = places.iter_mut().find(|place| place.subnet_id == next).and_then(|place| place.share.as_mut());
                share.expect("a share").enis += 1;
                for share in places.iter().filter_map(|place| place.share) {
                    let quota = f64::from(made) * f64::from(share.weight) / f64::from(all);
                    prop_assert!((f64::from(share.enis) - quota).abs() < 1.0, "{share:?} of {made} ENIs, {quota}");
                }
            }
        }

        #[test]
        fn an_order_is_passed_over_only_when_none_of_it_can_take_the_eni(
            subnets in proptest::collection::vec((0_u32..30, 0_u32..3, 1_u32..5, 0_u32..5, any::<bool>()), 1..7)
        ) {
            let places: Vec<Place> = subnets
                .iter()
                .enumerate()
                .map(|(index, (free, order, weight, enis, rests))| {
                    let patience = Patience::Resting { until: BootTime(Duration::from_secs(9)), left: 0 };
                    let ready = by_policy(&format!("subnet-{index}"), *free, *order, *weight, *enis);
                    if *rests { Place { patience, ..ready } } else { ready }
                })
                .collect();
            let can = |place: &&Place| place.patience == Patience::Ready && place.free >= 10;
            let first = places.iter().filter(can).map(|place| place.order).min();
            let chosen = choose(&places, 10).expect("there is one");
            prop_assert!(first.is_none_or(|first| can(&chosen) && chosen.order == first));
        }

        #[test]
        fn one_is_chosen_whenever_there_is_one_and_the_order_of_the_list_does_not_matter(
            free in proptest::collection::vec((0_u32..50, 0_u8..4), 1..6), wanted in 1_u32..30
        ) {
            let patience = |kind: u8| match kind {
                0 => Patience::Ready,
                1 => Patience::HalfOpen { probed: false },
                2 => Patience::HalfOpen { probed: true },
                _ => Patience::Resting { until: BootTime(Duration::from_secs(9)), left: 2 },
            };
            let places: Vec<Place> = free
                .iter()
                .enumerate()
                .map(|(index, (free, kind))| place(&format!("subnet-{index}"), *free, patience(*kind)))
                .collect();
            let reversed: Vec<Place> = places.iter().rev().cloned().collect();
            let first = choose(&places, wanted);
            prop_assert!(first.is_some());
            prop_assert_eq!(first, choose(&reversed, wanted));
            let ready = |place: &Place| place.patience == Patience::Ready && place.free >= wanted;
            prop_assert_eq!(places.iter().any(ready), first.is_some_and(ready));
        }
    }
}
