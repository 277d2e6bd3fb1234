// SPDX-License-Identifier: Apache-2.0
//! The reference's decisions: is the pool too low, by how much, is it too high, how much goes back, may an ENI go.
//!
//! Pure functions of counts. What is then done, in which order and when, is in `grow`, `shrink` and `agent`.
//!
//! Network card 0 and IPv4 only: further cards are off by default there, and IPv6 has no pool.
//!
//! ```text
//! A = T - U           free addresses, cooling ones included
//! short               max(W - A, 0, M - T) when W or M is set
//! ```
//! Worked example (t3.small, 3 addresses an ENI, WARM_ENI_TARGET 1): 5 pods on 6 addresses leave A = 1 < 3 = N * E: too low.
//!
//! Source: the reference (amazon-vpc-cni-k8s v1.23), its pool code and `docs/eni-and-ip-target.md`,
//! `docs/prefix-and-ip-target.md`.

/// Addresses in a prefix.
pub(crate) const PREFIX_ADDRESSES: u32 = 16;

/// What the pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Single secondary addresses.
    Addresses,
    /// /28 prefixes (`ENABLE_PREFIX_DELEGATION`).
    Prefixes,
}

/// The operator's wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// `WARM_ENI_TARGET`; used when neither IP target is set, and not with prefixes.
    pub warm_enis: u32,
    /// `WARM_IP_TARGET`; 0: not set.
    pub warm_addresses: u32,
    /// `MINIMUM_IP_TARGET`; 0: not set.
    pub minimum_addresses: u32,
    /// `WARM_PREFIX_TARGET`; always counts as set.
    pub warm_prefixes: u32,
}

impl Default for Targets {
    /// The manifest's.
    fn default() -> Self {
        Self { warm_enis: 1, warm_addresses: 0, minimum_addresses: 0, warm_prefixes: 1 }
    }
}

impl Targets {
    /// Whether an address target is set: it then overrides the ENI and prefix targets.
    pub(crate) fn in_addresses(self) -> bool {
        self.warm_addresses != 0 || self.minimum_addresses != 0
    }
}

/// How the node decides: mode, targets, and what the instance can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What the pool is made of.
    pub mode: Mode,
    /// The operator's wishes.
    pub targets: Targets,
    /// Secondary addresses or prefixes that an ENI takes.
    pub slots_per_eni: u32,
    /// ENIs that the instance takes, or `MAX_ENI`.
    pub max_enis: u32,
    /// Pods that the node takes.
    pub max_pods: u32,
}

/// The pool's counts, of the present mode's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Addresses held.
    pub(crate) total: u32,
    /// Of these, addresses of pods.
    pub(crate) assigned: u32,
    /// Prefixes held.
    pub(crate) prefixes: u32,
    /// Of these, prefixes without a pod.
    pub(crate) free_prefixes: u32,
}

impl Counts {
    fn available(self) -> u32 {
        self.total.saturating_sub(self.assigned)
    }
}

impl Rules {
    /// Addresses that an ENI can give to pods.
    pub(crate) fn addresses_per_eni(&self) -> u32 {
        match self.mode {
            Mode::Addresses => self.slots_per_eni,
            Mode::Prefixes => self.slots_per_eni * PREFIX_ADDRESSES,
        }
    }

    /// What is missing by the address targets, in addresses or in prefixes; 0 when none is set.
    pub(crate) fn short(&self, counts: Counts) -> u32 {
        if !self.targets.in_addresses() {
            return 0;
        }
        let warm = self.targets.warm_addresses.saturating_sub(counts.available());
        let short = warm.max(self.targets.minimum_addresses.saturating_sub(counts.total));
        match self.mode {
            Mode::Addresses => short,
            Mode::Prefixes => short.div_ceil(PREFIX_ADDRESSES),
        }
    }

    /// What is too much by the address targets, in addresses or in prefixes; 0 when none is set.
    fn over(&self, counts: Counts) -> u32 {
        let Targets { warm_addresses, minimum_addresses, .. } = self.targets;
        if !self.targets.in_addresses() {
            return 0;
        }
        match self.mode {
            Mode::Addresses => {
                let above_warm = counts.available().saturating_sub(warm_addresses);
                above_warm.min(counts.total.saturating_sub(minimum_addresses))
            }
            Mode::Prefixes => {
                let needed = (counts.assigned + warm_addresses).div_ceil(PREFIX_ADDRESSES);
                let above_warm = counts.free_prefixes.min(counts.prefixes.saturating_sub(needed));
                above_warm.min(counts.prefixes.saturating_sub(minimum_addresses.div_ceil(PREFIX_ADDRESSES)))
            }
        }
    }

    /// Whether the pool is too low.
    pub(crate) fn too_low(&self, counts: Counts) -> bool {
        if counts.total >= self.max_pods {
            return false;
        }
        if self.targets.in_addresses() {
            return self.short(counts) > 0;
        }
        let wanted = match self.mode {
            Mode::Addresses => self.targets.warm_enis * self.slots_per_eni,
            Mode::Prefixes => self.targets.warm_prefixes * PREFIX_ADDRESSES,
        };
        counts.available() < wanted.max(1)
    }

    /// How many addresses (or prefixes) are to be given back; 0: the pool is not too high.
    pub(crate) fn give_back(&self, counts: Counts) -> u32 {
        match (self.targets.in_addresses(), self.mode) {
            (true, _) => self.over(counts),
            (false, Mode::Addresses) => 0,
            (false, Mode::Prefixes) => counts.free_prefixes.saturating_sub(self.targets.warm_prefixes),
        }
    }

    /// Whether it is worth looking for an ENI to free. `an_eni_is_unused`: one has no pod.
    pub(crate) fn may_free_eni(&self, counts: Counts, an_eni_is_unused: bool) -> bool {
        if self.targets.in_addresses() {
            return true;
        }
        let spare = |enis: u32| counts.available() >= (enis + 1) * self.addresses_per_eni();
        match self.mode {
            Mode::Addresses => spare(self.targets.warm_enis),
            Mode::Prefixes => spare(self.targets.warm_prefixes) || an_eni_is_unused,
        }
    }

    /// How much to ask of an ENI with this many slots free, before what its room allows.
    pub(crate) fn wanted(&self, counts: Counts) -> u32 {
        match (self.targets.in_addresses(), self.mode) {
            (true, Mode::Addresses) => self.short(counts),
            (true, Mode::Prefixes) => self.short(counts).max(1),
            (false, Mode::Addresses) => self.slots_per_eni,
            (false, Mode::Prefixes) => self.targets.warm_prefixes.saturating_sub(counts.free_prefixes).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u32 = 0;

    fn rules(mode: Mode, slots: u32, (e, w, m): (u32, u32, u32)) -> Rules {
        let targets = Targets { warm_enis: e, warm_addresses: w, minimum_addresses: m, warm_prefixes: 1 };
        Rules { mode, targets, slots_per_eni: slots, max_enis: 4, max_pods: 110 }
    }

    fn addresses(total: u32, assigned: u32) -> Counts {
        Counts { total, assigned, ..Counts::default() }
    }

    fn prefixes(prefixes: u32, free_prefixes: u32, assigned: u32) -> Counts {
        Counts { total: prefixes * PREFIX_ADDRESSES, assigned, prefixes, free_prefixes }
    }

    /// The reference's unit table (`pkg/ipamd/ipamd_test.go`, pool too low); 14 or 3 addresses an ENI.
    #[test]
    fn the_reference_own_unit_table_of_a_pool_that_is_too_low() {
        for (slots, targets, counts, low) in [
            (14, (1, NONE, NONE), addresses(0, 0), true),
            (14, (0, NONE, NONE), addresses(0, 0), true),
            (14, (0, 3, NONE), addresses(0, 0), true),
            (3, (1, 1, NONE), addresses(3, 0), false),
            (3, (1, NONE, NONE), addresses(3, 1), true),
            (3, (0, NONE, NONE), addresses(3, 1), false),
            (3, (1, NONE, NONE), addresses(3, 3), true),
            (3, (0, NONE, NONE), addresses(3, 3), true),
            (14, (0, 5, NONE), addresses(110, 110), false),
            (14, (1, NONE, NONE), addresses(111, 111), false),
        ] {
            let rules = rules(Mode::Addresses, slots, targets);
            assert_eq!(rules.too_low(counts), low, "N {slots}, E W M {targets:?}, {counts:?}");
        }
    }

    /// `docs/eni-and-ip-target.md`: every row of its tables is a resting point: nothing more to get, nothing to give back.
    #[test]
    fn the_documented_address_tables_are_resting_points() {
        for (slots, targets, pods, total) in [
            (3, (1, NONE, NONE), 0, 3),
            (3, (1, NONE, NONE), 5, 9),
            (3, (NONE, 1, 1), 0, 1),
            (3, (NONE, 1, 1), 5, 6),
            (3, (NONE, 2, 5), 0, 5),
            (3, (NONE, 2, 5), 5, 7),
            (49, (1, NONE, NONE), 0, 49),
            (49, (1, NONE, NONE), 3, 98),
            (49, (1, NONE, NONE), 95, 147),
            (49, (NONE, 5, 10), 0, 10),
            (49, (NONE, 5, 10), 7, 12),
            (49, (NONE, 5, 10), 15, 20),
            (49, (NONE, 5, 10), 45, 50),
        ] {
            let rules = rules(Mode::Addresses, slots, targets);
            let counts = addresses(total, pods);
            assert!(!rules.too_low(counts), "N {slots}, E W M {targets:?}, {counts:?}: too low");
            assert_eq!(rules.give_back(counts), 0, "N {slots}, E W M {targets:?}, {counts:?}: too high");
            let one_fewer = addresses(total - if targets.0 == 0 { 1 } else { slots }, pods);
            assert!(rules.too_low(one_fewer), "N {slots}, E W M {targets:?}, {one_fewer:?}: would do too");
        }
    }

    /// `docs/prefix-and-ip-target.md`. Its row "0 pods, W 7, M 20" prints 1 prefix where the code's formula gives 2.
    #[test]
    fn the_documented_prefix_tables_are_resting_points() {
        for (targets, pods, held, free) in [
            ((NONE, NONE, NONE), 0, 1, 1),
            ((NONE, NONE, NONE), 5, 2, 1),
            ((NONE, NONE, NONE), 16, 2, 1),
            ((NONE, NONE, NONE), 17, 3, 1),
            ((NONE, NONE, NONE), 58, 5, 1),
            ((NONE, 1, 1), 0, 1, 1),
            ((NONE, 1, 1), 5, 1, 0),
            ((NONE, 1, 1), 17, 2, 0),
            ((NONE, 1, 1), 58, 4, 0),
            ((NONE, 7, 20), 0, 2, 2),
            ((NONE, 7, 20), 5, 2, 1),
            ((NONE, 7, 20), 17, 2, 0),
            ((NONE, 7, 20), 58, 5, 1),
            ((NONE, 5, 10), 0, 1, 1),
            ((NONE, 5, 10), 7, 1, 0),
            ((NONE, 5, 10), 15, 2, 1),
            ((NONE, 5, 10), 45, 4, 1),
        ] {
            let rules = rules(Mode::Prefixes, 3, targets);
            let counts = prefixes(held, free, pods);
            assert!(!rules.too_low(counts), "W M {targets:?}, {counts:?}: too low");
            assert_eq!(rules.give_back(counts), 0, "W M {targets:?}, {counts:?}: too high");
            let one_fewer = prefixes(held - 1, free.saturating_sub(1), pods);
            assert!(rules.too_low(one_fewer), "W M {targets:?}, {one_fewer:?}: would do too");
        }
    }

    #[test]
    fn what_is_asked_for_follows_the_target_in_force() {
        let ask = |mode, targets, counts| rules(mode, 9, targets).wanted(counts);
        assert_eq!(ask(Mode::Addresses, (1, NONE, NONE), addresses(0, 0)), 9, "an ENI's worth");
        assert_eq!(ask(Mode::Addresses, (1, 5, 10), addresses(0, 0)), 10, "up to the minimum");
        assert_eq!(ask(Mode::Addresses, (1, 5, 10), addresses(10, 8)), 3, "up to the warm target");
        assert_eq!(ask(Mode::Prefixes, (1, 5, 40), prefixes(0, 0, 0)), 3);
        assert_eq!(ask(Mode::Prefixes, (1, NONE, NONE), prefixes(2, 0, 32)), 1);
    }

    #[test]
    fn what_goes_back_is_what_exceeds_both_targets() {
        let back = |mode, targets, counts| rules(mode, 9, targets).give_back(counts);
        assert_eq!(back(Mode::Addresses, (1, NONE, NONE), addresses(27, 0)), 0, "an ENI target frees ENIs only");
        assert_eq!(back(Mode::Addresses, (1, 5, 10), addresses(27, 0)), 17, "down to the minimum");
        assert_eq!(back(Mode::Addresses, (1, 5, 10), addresses(27, 20)), 2, "down to the warm target");
        assert_eq!(back(Mode::Prefixes, (1, NONE, NONE), prefixes(4, 3, 4)), 2);
        assert_eq!(back(Mode::Prefixes, (1, 5, 10), prefixes(4, 3, 4)), 3, "16 addresses hold 4 pods and 5 spare");
        assert_eq!(back(Mode::Prefixes, (1, 5, 40), prefixes(4, 3, 4)), 1);
    }

    #[test]
    fn an_eni_may_go_when_one_more_than_the_target_is_free() {
        let may = |mode, targets, counts, unused| rules(mode, 9, targets).may_free_eni(counts, unused);
        assert!(!may(Mode::Addresses, (1, NONE, NONE), addresses(27, 10), true));
        assert!(may(Mode::Addresses, (1, NONE, NONE), addresses(27, 9), true));
        assert!(may(Mode::Addresses, (1, 5, 10), addresses(27, 27), false), "address targets always look");
        assert!(may(Mode::Prefixes, (1, NONE, NONE), prefixes(2, 1, 3), true));
        assert!(!may(Mode::Prefixes, (1, NONE, NONE), prefixes(2, 1, 3), false));
    }
}
