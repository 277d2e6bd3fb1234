// SPDX-License-Identifier: Apache-2.0
//! Limits of an instance type that neither the table nor EC2 tells: found out from EC2's own refusals.
//!
//! Two numbers are looked for, ENIs of the instance and addresses of an ENI, each between what there has been (it fits) and
//! what was refused (it does not). As long as nothing was refused the next try is twice what fits, then halfway between the
//! two, until they are neighbours. So a number n costs about 2 log n calls, once: the journal keeps it.
//!
//! Worked example: an ENI of 9 addresses: 4 fit, 8 fit, 16 are refused, 12 are, 10 are, 9 fit, and nothing more is tried.

use instance_limits::{CardLimits, Hypervisor, InstanceLimits, Trunking};
use serde::{Deserialize, Serialize};

/// Addresses that the first try asks for: the least of any current type but one (t3.nano has 1 besides its own).
const FIRST_ADDRESSES: u32 = 4;
/// ENIs are tried for one at a time: a refused one is made and deleted in vain.
const ENI_STEP: u32 = 1;

/// What is known of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// So many there have been.
    pub fits: u32,
    /// So many were refused.
    pub refused: Option<u32>,
}

/// What is known of an unknown type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guess {
    /// ENIs of the instance.
    pub enis: Bounds,
    /// Addresses of an ENI besides its own.
    pub addresses: Bounds,
}

impl Bounds {
    pub(crate) fn saw(&mut self, count: u32) {
        self.fits = self.fits.max(count);
        if self.refused.is_some_and(|refused| refused <= self.fits) {
            self.refused = None;
        }
    }

    pub(crate) fn was_refused(&mut self, count: u32) {
        let count = count.max(self.fits + 1);
        self.refused = Some(self.refused.map_or(count, |refused| refused.min(count)));
    }

    fn limit(&self, next: u32) -> u32 {
        match self.refused {
            None => next,
            Some(refused) => next.min(self.fits + refused.saturating_sub(self.fits) / 2).max(self.fits),
        }
    }
}

impl Guess {
    /// Whether more can still turn out to fit.
    pub(crate) fn is_open(&self) -> bool {
        let limits = self.limits();
        limits.secondary_slots_per_eni() > self.addresses.fits || limits.max_enis() > self.enis.fits
    }

    /// The limits to go by now.
    pub(crate) fn limits(&self) -> InstanceLimits {
        let addresses = self.addresses.limit(self.addresses.fits.saturating_mul(2).max(FIRST_ADDRESSES));
        let enis = self.enis.limit(self.enis.fits + ENI_STEP).max(1);
        let small = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        InstanceLimits {
            cards: vec![CardLimits { index: 0, max_enis: small(enis) }].into(),
            default_card: 0,
            ipv4_per_eni: small(addresses.saturating_add(1)),
            ipv6_per_eni: None,
            hypervisor: Hypervisor::Unknown,
            bare_metal: false,
            trunking: Trunking::Unknown,
            vcpus: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asks as the pool does when it wants all it can have; returns what was asked for.
    fn search(most: u32, tries: u32) -> (Vec<u32>, u32) {
        let mut guess = Guess::default();
        let mut asked = Vec::new();
        for _ in 0..tries {
            let limit = guess.limits().secondary_slots_per_eni();
            if limit <= guess.addresses.fits {
                break;
            }
            asked.push(limit);
            if limit > most { guess.addresses.was_refused(limit) } else { guess.addresses.saw(limit) }
        }
        (asked, guess.limits().secondary_slots_per_eni())
    }

    #[test]
    fn nine_addresses_are_found_in_six_tries() {
        assert_eq!(search(9, 50), (vec![4, 8, 16, 12, 10, 9], 9));
    }

    #[test]
    fn enis_are_tried_for_one_at_a_time_and_the_refused_one_not_again() {
        let mut guess = Guess::default();
        guess.enis.saw(1);
        assert_eq!(guess.limits().max_enis(), 2);
        guess.enis.saw(2);
        assert_eq!(guess.limits().max_enis(), 3);
        guess.enis.was_refused(3);
        assert_eq!(guess.limits().max_enis(), 2);
    }

    proptest! {
        #[test]
        fn every_limit_is_found_in_a_few_tries(most in 1_u32..250) {
            let (asked, found) = search(most, 100);
            prop_assert_eq!(found, most);
            prop_assert!(asked.len() <= 20, "{asked:?}");
        }
    }
}
