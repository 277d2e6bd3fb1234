// SPDX-License-Identifier: Apache-2.0
//! Chance, by seed: the same seed and stream give the same draws on every machine.
//!
//! One stream a purpose (pods, latencies, faults, …), so that a run with other settings meets the same pods and the same
//! luck, and what differs is the settings' doing.
//!
//! Source: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

use std::time::Duration;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The shape of a run: instance type, settings, lengths.
    Shape = 1,
    /// Pods: when they come and go.
    Pods,
    /// How long calls and links take.
    Latency,
    /// What goes wrong with single calls.
    Faults,
    /// When the daemon dies, and where.
    Crashes,
    /// What runtime and plugin do.
    Runtime,
    /// What is looked at by sample.
    Samples,
}

/// A stream of draws.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = Self(seed ^ (stream as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
        // Seeds that differ by one bit must not give like streams.
        rng.draw();
        rng.draw();
        rng
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `most`; 0 when that is 0.
    pub fn below(&mut self, most: u64) -> u64 {
        if most == 0 { 0 } else { self.draw() % most }
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// Whether something of this probability happens, in thousandths.
    pub fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.below(of.len() as u64);
        of[usize::try_from(index).unwrap_or(0)]
    }

    /// A number from 0 to 1, 1 left out.
    pub fn fraction(&mut self) -> f64 {
        // 53 bits are what a double holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let numerator = (self.draw() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// A time between two.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.fraction())
    }

    /// Milliseconds between two.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.time(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// A waiting time with this mean, as between events that come independently; at most twenty times the mean.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64((-(1.0 - self.fraction()).ln()).min(20.0))
    }

    /// A latency around `typical`: a half to double, and one in a hundred takes up to ten times as long.
    pub fn latency(&mut self, typical: Duration) -> Duration {
        let factor =
            if self.chance(10) { 2.0 + 8.0 * self.fraction() } else { 2.0_f64.powf(2.0 * self.fraction() - 1.0) };
        typical.mul_f64(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws_and_streams_differ() {
        let draws = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            (0..8).map(|_| rng.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7, Stream::Pods), draws(7, Stream::Pods));
        assert_ne!(draws(7, Stream::Pods), draws(7, Stream::Faults));
        assert_ne!(draws(7, Stream::Pods), draws(8, Stream::Pods));
    }

    #[test]
    fn waiting_times_have_their_mean_and_latencies_their_bounds() {
        let mut rng = Rng::new(1, Stream::Latency);
        let mean = Duration::from_secs(10);
        let sum: Duration = (0..10_000).map(|_| rng.exponential(mean)).sum();
        let measured = sum / 10_000;
        assert!(measured > mean.mul_f64(0.95) && measured < mean.mul_f64(1.05), "{measured:?}");
        for _ in 0..10_000 {
            let took = rng.latency(Duration::from_millis(300));
            assert!(took >= Duration::from_millis(150) && took <= Duration::from_secs(3), "{took:?}");
        }
    }
}
