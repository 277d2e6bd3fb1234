// SPDX-License-Identifier: Apache-2.0
//! How much the pool lacks, or has too much of.
//!
//! With W = WARM_IP_TARGET, M = MINIMUM_IP_TARGET, E = WARM_ENI_TARGET, X = WARM_PREFIX_TARGET, N = addresses an ENI holds,
//! D = max pods, T = all addresses held or coming, F = those that are free, *cooling ones not counted*, Q = waiting ADDs,
//! B = pods that are bound to the node, have no address and do not ask for one yet:
//!
//! ```text
//! wanted free    W                     address targets, both modes
//!                max(E x N, 1)         ENI target (E = 0 still wants one, as the reference does)
//!                max(X x 16, 1)        prefix target (the same for X = 0)
//! shortfall      max(wanted + Q + B - F, M - T, 0)      wanted and M dropped once T >= D
//! surplus        max(min(F - wanted - B, T - M), 0)     only when nothing is short and nobody waits
//! ```
//!
//! With a band (the adaptive policy has one, see `adaptive`) a shortfall is met to wanted + band, and only what is free above
//! that is too much.
//!
//! Both are counts of addresses; that a prefix comes and goes as 16 is the business of `grow` and `shrink`. Only addresses
//! of the kinds that the node fills slots with now are counted: free ones of the other kind (left by another mode, or by a
//! time without prefixes) are on their way out. Those in use count in T.
//!
//! Worked example: t3.small, W = 2, M = 5, five pods on seven addresses: F = 2, T = 7, so nothing is missing and nothing is
//! too much. One more pod starts: F = 1, shortfall 1. With X = 1 and five pods on one prefix: F = 11, shortfall 5, met by
//! a second prefix. The formulas are the reference's (`pkg/ipamd`, decision functions) except that cooling addresses are not
//! free and waiting pods are demand.

use super::Addresses;
use crate::action::PREFIX_ADDRESSES;
use crate::config::WarmTargets;

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolView {
    /// Addresses held or coming, in every state; free ones of the kind on its way out not counted.
    pub(crate) total: Addresses,
    /// Free now or free when they come; not cooling.
    pub(crate) free: Addresses,
    /// Free ones of the kind on its way out: they serve who waits, and nothing else.
    pub(crate) outgoing: Addresses,
    /// ADDs without an address.
    pub(crate) waiting: Addresses,
    /// Pods that are going to ask for one.
    pub(crate) announced: Addresses,
}

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) warm: WarmTargets,
    /// Addresses an ENI can hold.
    pub(crate) per_eni: Addresses,
    /// Warm targets grow the pool no further than this.
    pub(crate) max_pods: Option<Addresses>,
    /// Free addresses beyond the wanted ones that are asked for with them, and not given back.
    pub(crate) band: Addresses,
    /// Free addresses and empty slots: with fewer, another ENI is asked for at once,
    pub(crate) room: Addresses,
    /// and with fewer than these, in its own time; an ENI goes only when as many remain.
    pub(crate) spare: Addresses,
}

impl Default for Policy {
    fn default() -> Self {
        let (zero, warm) = (Addresses::ZERO, WarmTargets::Adaptive);
        Self { warm, per_eni: zero, max_pods: None, band: zero, room: zero, spare: zero }
    }
}

/// The difference between the two; never both above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) shortfall: Addresses,
    pub(crate) surplus: Addresses,
}

impl Policy {
    /// Free addresses to keep.
    pub(crate) fn wanted_free(&self) -> Addresses {
        match self.warm {
            WarmTargets::Enis(enis) => Addresses(enis.saturating_mul(self.per_eni.0).max(1)),
            WarmTargets::Prefixes(prefixes) => Addresses(prefixes.saturating_mul(PREFIX_ADDRESSES).max(1)),
            WarmTargets::Addresses { warm, .. } => Addresses(warm),
            WarmTargets::Adaptive => Addresses(1),
        }
    }

    fn minimum(&self) -> Addresses {
        match self.warm {
            WarmTargets::Adaptive | WarmTargets::Enis(_) | WarmTargets::Prefixes(_) => Addresses::ZERO,
            WarmTargets::Addresses { minimum, .. } => Addresses(minimum),
        }
    }

    /// Whether the pool grows and shrinks by whole ENIs.
    pub(crate) fn by_whole_enis(&self) -> bool {
        matches!(self.warm, WarmTargets::Enis(_))
    }

    /// Whole prefixes without a pod that shrinking leaves alone.
    pub(crate) fn kept_prefixes(&self) -> u32 {
        match self.warm {
            WarmTargets::Prefixes(prefixes) => prefixes,
            WarmTargets::Adaptive | WarmTargets::Enis(_) | WarmTargets::Addresses { .. } => 0,
        }
    }
}

pub(crate) fn target(view: &PoolView, policy: &Policy) -> Target {
    let full = policy.max_pods.is_some_and(|most| view.total >= most);
    let wanted = policy.wanted_free();
    let waiting = view.waiting.less(view.outgoing);
    let demand = waiting + view.announced;
    let shortfall = if full {
        demand.less(view.free)
    } else {
        let warm = (wanted + demand).less(view.free);
        let warm = if warm > Addresses::ZERO { warm + policy.band } else { warm };
        warm.max(policy.minimum().less(view.total))
    };
    let surplus = if shortfall > Addresses::ZERO || view.waiting > Addresses::ZERO {
        Addresses::ZERO
    } else {
        view.free.less(wanted + view.announced + policy.band).min(view.total.less(policy.minimum()))
    };
    Target { shortfall, surplus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn low(warm: WarmTargets, held: (u32, u32), max_pods: Option<u32>, per_eni: u32) -> bool {
        let (total, pods) = held;
        let view = PoolView { total: Addresses(total), free: Addresses(total - pods), ..PoolView::default() };
        let policy =
            Policy { warm, per_eni: Addresses(per_eni), max_pods: max_pods.map(Addresses), ..Policy::default() };
        target(&view, &policy).shortfall > Addresses::ZERO
    }

    /// Rows of the reference's unit table of its pool decision (`pkg/ipamd/ipamd_test.go`, N = 14 or 3).
    #[test]
    fn low_is_what_the_reference_calls_low() {
        let addresses = |warm| WarmTargets::Addresses { warm, minimum: 0 };
        assert!(low(WarmTargets::Enis(1), (0, 0), None, 14), "an empty store is low with E = 1");
        assert!(low(WarmTargets::Enis(0), (0, 0), None, 14), "and with E = 0");
        assert!(low(addresses(3), (0, 0), None, 14), "and with W = 3");
        assert!(!low(addresses(1), (3, 0), None, 3), "three free of three");
        assert!(low(WarmTargets::Enis(1), (3, 1), None, 3), "one pod of three with E = 1");
        assert!(!low(WarmTargets::Enis(0), (3, 1), None, 3), "one pod of three with E = 0");
        assert!(low(WarmTargets::Enis(1), (3, 3), None, 3), "three pods of three with E = 1");
        assert!(low(WarmTargets::Enis(0), (3, 3), None, 3), "three pods of three with E = 0");
        assert!(!low(addresses(5), (3, 3), Some(3), 3), "never low from max pods on");
    }

    /// The prefix rows of the reference's documentation, docs/prefix-and-ip-target.md: with so many pods, the fewest prefixes
    /// that are not low.
    #[test]
    fn a_prefix_target_asks_for_what_the_reference_asks_for() {
        let fewest = |warm, pods: u32| {
            (pods.div_ceil(16)..).find(|prefixes| !low(warm, (prefixes * 16, pods), None, 48)).expect("some are enough")
        };
        for (pods, prefixes) in [(0, 1), (5, 2), (16, 2), (17, 3), (58, 5)] {
            assert_eq!(fewest(WarmTargets::Prefixes(1), pods), prefixes, "X = 1 with {pods} pods");
        }
        let rows = [
            (1, 1, [(0, 1), (5, 1), (17, 2), (58, 4)].as_slice()),
            (7, 20, &[(0, 2), (5, 2), (17, 2), (58, 5)]),
            (5, 10, &[(0, 1), (7, 1), (15, 2), (45, 4)]),
        ];
        for (warm, minimum, rows) in rows {
            for (pods, prefixes) in rows {
                let got = fewest(WarmTargets::Addresses { warm, minimum }, *pods);
                assert_eq!(got, *prefixes, "W = {warm}, M = {minimum} with {pods} pods");
            }
        }
        assert_eq!(fewest(WarmTargets::Prefixes(0), 0), 1, "X = 0 still wants one free address, as E = 0 does");
        assert_eq!(fewest(WarmTargets::Prefixes(0), 16), 2);
    }

    #[test]
    fn free_addresses_on_their_way_out_serve_who_waits_and_meet_no_target() {
        let policy = Policy { warm: WarmTargets::Prefixes(1), per_eni: Addresses(144), ..Policy::default() };
        let view = PoolView { outgoing: Addresses(4), waiting: Addresses(6), ..PoolView::default() };
        assert_eq!(target(&view, &policy).shortfall, Addresses(18));
    }

    #[test]
    fn a_minimum_alone_still_serves_waiting_pods() {
        let policy = Policy {
            warm: WarmTargets::Addresses { warm: 0, minimum: 2 },
            per_eni: Addresses(9),
            max_pods: Some(Addresses(2)),
            ..Policy::default()
        };
        let view = PoolView { total: Addresses(2), free: Addresses(0), waiting: Addresses(3), ..PoolView::default() };
        assert_eq!(target(&view, &policy), Target { shortfall: Addresses(3), surplus: Addresses::ZERO });
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let warm = prop_oneof![
            (0_u32..4).prop_map(WarmTargets::Enis),
            (0_u32..4).prop_map(WarmTargets::Prefixes),
            (0_u32..40, 0_u32..40).prop_map(|(warm, minimum)| WarmTargets::Addresses { warm, minimum }),
        ];
        let max_pods = proptest::option::of(0_u32..250);
        (warm, 1_u32..50, max_pods, 0_u32..9).prop_map(|(warm, per_eni, max_pods, band)| Policy {
            warm,
            per_eni: Addresses(per_eni),
            max_pods: max_pods.map(Addresses),
            band: Addresses(band),
            ..Policy::default()
        })
    }

    proptest! {
        #[test]
        fn shortfall_and_surplus_are_never_both_above_zero_and_filling_either_ends_it(
            total in 0_u32..200, used in 0_u32..200, waiting in 0_u32..50, outgoing in 0_u32..9, announced in 0_u32..9,
            policy in policies()
        ) {
            let view = PoolView {
                total: Addresses(total),
                free: Addresses(total.saturating_sub(used)),
                waiting: Addresses(waiting),
                outgoing: Addresses(outgoing),
                announced: Addresses(announced),
            };
            let first = target(&view, &policy);
            prop_assert!(first.shortfall == Addresses::ZERO || first.surplus == Addresses::ZERO);
            let grown = PoolView { total: view.total + first.shortfall, free: view.free + first.shortfall, ..view };
            prop_assert_eq!(target(&grown, &policy).shortfall, Addresses::ZERO);
            let shrunk = PoolView { total: view.total.less(first.surplus), free: view.free.less(first.surplus), ..view };
            let second = target(&shrunk, &policy);
            if first.surplus > Addresses::ZERO {
                prop_assert_eq!(second, Target::default());
            }
        }
    }
}
