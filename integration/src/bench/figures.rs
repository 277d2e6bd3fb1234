// SPDX-License-Identifier: Apache-2.0
//! Medians and other percentiles of times.

use std::time::Duration;

/// Times of one kind of call.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Duration>);

impl Series {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The value that `percent` of the series do not exceed (nearest rank), in milliseconds; 0 of an empty series.
    pub(super) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut series = Series::default();
        for ms in [5, 1, 4, 2, 3, 10, 9, 8, 7, 6] {
            series.push(Duration::from_millis(ms));
        }
        assert!((series.percentile(50) - 5.0).abs() < 1e-9);
        assert!((series.percentile(90) - 9.0).abs() < 1e-9);
        assert!((series.percentile(100) - 10.0).abs() < 1e-9);
        assert!(Series::default().percentile(50).abs() < 1e-9);
    }
}
