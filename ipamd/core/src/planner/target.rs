// SPDX-License-Identifier: Apache-2.0
//! How much the pool lacks, or has too much of.
//!
//! With W = WARM_IP_TARGET, M = MINIMUM_IP_TARGET, E = WARM_ENI_TARGET, N = addresses an ENI holds, D = max pods, T = all
//! addresses held or coming, F = those that are free, *cooling ones not counted*, Q = waiting ADDs:
//!
//! ```text
//! wanted free    W                     address targets
//!                max(E x N, 1)         ENI target (E = 0 still wants one, as the reference does)
//! shortfall      max(wanted + Q - F, M - T, 0)      warm part dropped once T >= D
//! surplus        max(min(F - wanted, T - M), 0)     only when nothing is short
//! ```
//!
//! Worked example: t3.small, W = 2, M = 5, five pods on seven addresses: F = 2, T = 7, so nothing is missing and nothing is
//! too much. One more pod starts: F = 1, shortfall 1. The formulas are the reference's (`pkg/ipamd`, decision functions)
//! except that cooling addresses are not free and waiting pods are demand.

use super::Addresses;
use crate::config::WarmTargets;

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolView {
    /// Addresses held or coming, in every state.
    pub(crate) total: Addresses,
    /// Free now or free when they come; not cooling.
    pub(crate) free: Addresses,
    /// ADDs without an address.
    pub(crate) waiting: Addresses,
}

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) warm: WarmTargets,
    /// Addresses an ENI can hold.
    pub(crate) per_eni: Addresses,
    /// Warm targets grow the pool no further than this.
    pub(crate) max_pods: Option<Addresses>,
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
            WarmTargets::Addresses { warm, .. } => Addresses(warm),
        }
    }

    fn minimum(&self) -> Addresses {
        match self.warm {
            WarmTargets::Enis(_) => Addresses::ZERO,
            WarmTargets::Addresses { minimum, .. } => Addresses(minimum),
        }
    }

    /// Whether the pool grows and shrinks by whole ENIs.
    pub(crate) fn by_whole_enis(&self) -> bool {
        matches!(self.warm, WarmTargets::Enis(_))
    }
}

pub(crate) fn target(view: &PoolView, policy: &Policy) -> Target {
    let full = policy.max_pods.is_some_and(|most| view.total >= most);
    let wanted = policy.wanted_free();
    let demand = view.waiting.less(view.free);
    let shortfall =
        if full { demand } else { (wanted + view.waiting).less(view.free).max(policy.minimum().less(view.total)) };
    let surplus = if shortfall > Addresses::ZERO || view.waiting > Addresses::ZERO {
        Addresses::ZERO
    } else {
        view.free.less(wanted).min(view.total.less(policy.minimum()))
    };
    Target { shortfall, surplus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn low(warm: WarmTargets, held: (u32, u32), max_pods: Option<u32>, per_eni: u32) -> bool {
        let (total, pods) = held;
        let view = PoolView { total: Addresses(total), free: Addresses(total - pods), waiting: Addresses::ZERO };
        let policy = Policy { warm, per_eni: Addresses(per_eni), max_pods: max_pods.map(Addresses) };
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

    #[test]
    fn a_minimum_alone_still_serves_waiting_pods() {
        let policy = Policy {
            warm: WarmTargets::Addresses { warm: 0, minimum: 2 },
            per_eni: Addresses(9),
            max_pods: Some(Addresses(2)),
        };
        let view = PoolView { total: Addresses(2), free: Addresses(0), waiting: Addresses(3) };
        assert_eq!(target(&view, &policy), Target { shortfall: Addresses(3), surplus: Addresses::ZERO });
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let warm = prop_oneof![
            (0_u32..4).prop_map(WarmTargets::Enis),
            (0_u32..40, 0_u32..40).prop_map(|(warm, minimum)| WarmTargets::Addresses { warm, minimum }),
        ];
        (warm, 1_u32..50, proptest::option::of(0_u32..250)).prop_map(|(warm, per_eni, max_pods)| Policy {
            warm,
            per_eni: Addresses(per_eni),
            max_pods: max_pods.map(Addresses),
        })
    }

    proptest! {
        #[test]
        fn shortfall_and_surplus_are_never_both_above_zero_and_filling_either_ends_it(
            total in 0_u32..200, used in 0_u32..200, waiting in 0_u32..50, policy in policies()
        ) {
            let view = PoolView {
                total: Addresses(total),
                free: Addresses(total.saturating_sub(used)),
                waiting: Addresses(waiting),
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
