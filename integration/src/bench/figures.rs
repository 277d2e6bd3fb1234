// SPDX-License-Identifier: Apache-2.0
//! Percentiles of times, and ratios of two callees with their spread.
//!
//! Callees are called in turn, so in each round the machine was the same to both: how the ratio moves from round to round says how
//! far the ratio of all can be trusted.

use std::time::Duration;

/// Times of one kind of call.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<Duration>);

impl Series {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The value that `percent` of the series do not exceed (nearest rank), in milliseconds; 0 of an empty series.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(rank(sorted.len(), percent)).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }

    /// All of several as one.
    pub(super) fn joined(rounds: &[Self]) -> Self {
        Self(rounds.iter().flat_map(|round| round.0.iter().copied()).collect())
    }
}

impl From<Vec<Duration>> for Series {
    fn from(times: Vec<Duration>) -> Self {
        Self(times)
    }
}

/// Index of the nearest rank.
fn rank(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).saturating_sub(1)
}

/// How many times as long one callee takes as another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    /// Of the percentile of all calls of the one to that of all of the other; no number when the other has none.
    pub(super) of_all: f64,
    /// p25 and p75 of the ratios of single rounds.
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Ratio {
    /// Compares this percentile; the rounds of both in the same order.
    pub(super) fn of(percent: usize, ours: &[Series], theirs: &[Series]) -> Self {
        let divided = |ours: &Series, theirs: &Series| match theirs.percentile(percent) {
            theirs if theirs > 0.0 => Some(ours.percentile(percent) / theirs),
            _ => None,
        };
        let mut rounds: Vec<f64> = ours.iter().zip(theirs).filter_map(|(ours, theirs)| divided(ours, theirs)).collect();
        rounds.sort_by(f64::total_cmp);
        let quartile = |percent| rounds.get(rank(rounds.len(), percent)).copied().unwrap_or(f64::NAN);
        let of_all = divided(&Series::joined(ours), &Series::joined(theirs)).unwrap_or(f64::NAN);
        Self { of_all, low: quartile(25), high: quartile(75) }
    }

    /// `1.72`.
    pub(super) fn plain(&self) -> String {
        if self.of_all.is_nan() { "-".to_owned() } else { format!("{:.2}", self.of_all) }
    }

    /// `1.72 (1.65 to 1.80)`.
    pub(super) fn with_spread(&self) -> String {
        if self.low.is_nan() { self.plain() } else { format!("{} ({:.2} to {:.2})", self.plain(), self.low, self.high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(times: &[u64]) -> Series {
        times.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>().into()
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let series = series(&[5, 1, 4, 2, 3, 10, 9, 8, 7, 6]);
        for (percent, ms) in [(50, 5.0), (90, 9.0), (99, 10.0), (100, 10.0), (1, 1.0)] {
            assert!((series.percentile(percent) - ms).abs() < 1e-9, "p{percent}: {}", series.percentile(percent));
        }
        assert!(Series::default().percentile(50).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_that_of_all_calls_and_its_spread_that_of_the_rounds() {
        // By round 1, 2, 3, 4; of all the medians are 20 and 10.
        let ours = [series(&[10]), series(&[20]), series(&[30]), series(&[40])];
        let theirs = [series(&[10]), series(&[10]), series(&[10]), series(&[10])];
        let ratio = Ratio::of(50, &ours, &theirs);
        assert_eq!((ratio.of_all, ratio.low, ratio.high), (2.0, 1.0, 3.0));
        assert_eq!(ratio.with_spread(), "2.00 (1.00 to 3.00)");
        assert_eq!(ratio.plain(), "2.00");
    }

    #[test]
    fn a_machine_that_slows_down_from_round_to_round_does_not_spread_the_ratio() {
        let ours = [series(&[20, 40]), series(&[200, 400])];
        let theirs = [series(&[10, 20]), series(&[100, 200])];
        for percent in [50, 90] {
            assert_eq!(Ratio::of(percent, &ours, &theirs), Ratio { of_all: 2.0, low: 2.0, high: 2.0 });
        }
    }

    #[test]
    fn nothing_to_divide_by_is_no_number_and_is_shown_as_such() {
        assert_eq!(Ratio::of(50, &[series(&[1])], &[Series::default()]).with_spread(), "-");
        assert_eq!(Ratio::of(50, &[], &[]).plain(), "-");
    }
}
