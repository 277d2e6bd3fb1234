// SPDX-License-Identifier: Apache-2.0
//! What is measured of a node: addresses held and pods over time, waits, EC2 calls by action.
//!
//! Held are the addresses that EC2 has assigned to the node's ENIs for pods: secondary ones, and sixteen a prefix; primary
//! addresses are not counted. Figures over time are weighted with how long each value stood.

use std::collections::BTreeMap;
use std::time::Duration;

use ipamd_core::BootTime;

/// A value over time: a step function.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: Vec<(BootTime, u32)>,
}

impl Series {
    /// The value is this from now on.
    pub fn set(&mut self, now: BootTime, value: u32) {
        match self.points.last_mut() {
            Some((_, last)) if *last == value => {}
            Some((at, last)) if *at == now => *last = value,
            _ => self.points.push((now, value)),
        }
    }

    /// The value now; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.points.last().map_or(0, |(_, value)| *value)
    }

    /// The steps, in order.
    #[must_use]
    pub fn points(&self) -> &[(BootTime, u32)] {
        &self.points
    }

    /// The value at a time.
    #[must_use]
    pub fn at(&self, time: BootTime) -> u32 {
        let after = self.points.partition_point(|(at, _)| *at <= time);
        after.checked_sub(1).and_then(|index| self.points.get(index)).map_or(0, |(_, value)| *value)
    }

    /// The greatest value.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.points.iter().map(|(_, value)| *value).max().unwrap_or(0)
    }

    /// The value that it does not exceed for this part of the time up to `end`, in hundredths.
    #[must_use]
    pub fn percentile(&self, hundredths: u32, end: BootTime) -> u32 {
        let mut stood: BTreeMap<u32, Duration> = BTreeMap::new();
        for (index, (at, value)) in self.points.iter().enumerate() {
            let until = self.points.get(index + 1).map_or(end, |(next, _)| *next).min(end);
            *stood.entry(*value).or_default() += until.since(*at);
        }
        let whole: Duration = stood.values().sum();
        let wanted = whole * hundredths / 100;
        let mut sum = Duration::ZERO;
        for (value, time) in stood {
            sum += time;
            if sum >= wanted {
                return value;
            }
        }
        self.last()
    }

    /// The integral up to `end`, in value-seconds.
    #[must_use]
    pub fn integral(&self, end: BootTime) -> f64 {
        let mut sum = 0.0;
        for (index, (at, value)) in self.points.iter().enumerate() {
            let until = self.points.get(index + 1).map_or(end, |(next, _)| *next).min(end);
            sum += f64::from(*value) * until.since(*at).as_secs_f64();
        }
        sum
    }
}

/// Times, of which percentiles are wanted.
#[derive(Clone, Debug, Default)]
pub struct Times {
    samples: Vec<Duration>,
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.samples.push(time);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// All of another.
    pub fn join(&mut self, other: &Self) {
        self.samples.extend_from_slice(&other.samples);
    }

    /// The least time that this part of the samples does not exceed, in hundredths; 100: the longest. Zero without samples.
    #[must_use]
    pub fn percentile(&self, hundredths: usize) -> Duration {
        self.percentile_among(self.samples.len(), hundredths).unwrap_or_default()
    }

    /// The same among `all`, of whom those without a sample took longer than any other; `None`: it is one of these.
    #[must_use]
    pub fn percentile_among(&self, all: usize, hundredths: usize) -> Option<Duration> {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (all * hundredths).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

/// What one node did.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Addresses held.
    pub held: Series,
    /// Pods that have an address.
    pub pods: Series,
    /// From the first ADD of a pod to its address, refusals and retries included.
    pub waits: Times,
    /// ADDs refused, by code.
    pub refusals: BTreeMap<String, u32>,
    /// EC2 requests that arrived, by action; retries included.
    pub calls: BTreeMap<&'static str, u32>,
    /// Of these, throttled.
    pub throttled: u32,
    /// ADD and DEL calls.
    pub pod_events: u32,
    /// Daemon starts after the first.
    pub restarts: u32,
}

impl Stats {
    /// EC2 requests of every kind.
    #[must_use]
    pub fn all_calls(&self) -> u32 {
        self.calls.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    #[test]
    fn percentiles_over_time_weigh_each_value_with_how_long_it_stood() {
        let mut series = Series::default();
        for (second, value) in [(0, 10), (90, 50), (100, 20)] {
            series.set(at(second), value);
        }
        let end = at(110);
        assert_eq!([50, 85, 95, 100].map(|part| series.percentile(part, end)), [10, 20, 50, 50]);
        assert_eq!((series.max(), series.at(at(95)), series.last()), (50, 50, 20));
        assert!((series.integral(end) - (900.0 + 500.0 + 200.0)).abs() < 1e-9);
    }

    #[test]
    fn percentiles_of_times_are_by_nearest_rank() {
        let mut times = Times::default();
        (1..=100).rev().for_each(|second| times.add(Duration::from_secs(second)));
        assert_eq!([50, 99, 100].map(|part| times.percentile(part).as_secs()), [50, 99, 100]);
        assert_eq!(Times::default().percentile(99), Duration::ZERO);
        assert_eq!(times.percentile_among(200, 50), Some(Duration::from_secs(100)));
        assert_eq!(times.percentile_among(200, 51), None, "half never got there");
    }
}
