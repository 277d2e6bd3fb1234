// SPDX-License-Identifier: Apache-2.0
//! The reference's retry helper: waits that double, with a jitter that only adds, and none after the last try.
//!
//! Worked example: 12 tries from 100 ms, doubling, 0.15: waits of 100-115 ms, 200-230 ms, … up to a minute, some 160 s in all
//! (with the 60 s cap: 0.1 × (2^10 − 1) + 60 s, and a little for the jitter).

use std::time::Duration;

use vpc_model::IdSource;

/// How often something is tried and how long it waits in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) tries: u32,
    pub(super) first: Duration,
    /// In hundredths.
    pub(super) jitter: u32,
}

/// Longest wait.
const MOST: Duration = Duration::from_secs(60);

/// Waiting until IMDS shows a new ENI.
pub(super) const NEW_ENI: Retry = Retry { tries: 12, first: Duration::from_millis(100), jitter: 15 };
/// DetachNetworkInterface.
pub(super) const DETACH: Retry = Retry { tries: 12, first: Duration::from_millis(200), jitter: 15 };
/// DeleteNetworkInterface.
pub(super) const DELETE: Retry = Retry { tries: 12, first: Duration::from_millis(500), jitter: 15 };
/// CreateTags.
pub(super) const TAG: Retry = Retry { tries: 5, first: Duration::from_millis(500), jitter: 30 };

impl Retry {
    /// How long to wait after this try (1 for the first) failed; `None`: it was the last.
    pub(super) fn wait(&self, attempt: u32, dice: &mut IdSource) -> Option<Duration> {
        if attempt >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MOST);
        // A ten-thousandth is fine enough.
        let added = doubled * self.jitter * dice.below(10_000) / 1_000_000;
        Some(doubled + added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_jitter_only_adds() {
        let mut dice = IdSource::new(1);
        for (attempt, least) in [(1, 100), (2, 200), (9, 25_600), (10, 51_200), (11, 60_000)] {
            for _ in 0..50 {
                let wait = NEW_ENI.wait(attempt, &mut dice).unwrap();
                let least = Duration::from_millis(least);
                assert!(wait >= least && wait <= least.mul_f64(1.15), "after try {attempt}: {wait:?}");
            }
        }
        assert_eq!(NEW_ENI.wait(12, &mut dice), None);
    }

    #[test]
    fn waiting_for_a_new_eni_ends_after_some_160_seconds() {
        let mut dice = IdSource::new(2);
        let sum: Duration = (1..12).map(|attempt| NEW_ENI.wait(attempt, &mut dice).unwrap()).sum();
        assert!(sum > Duration::from_secs(155) && sum < Duration::from_secs(190), "{sum:?}");
    }
}
