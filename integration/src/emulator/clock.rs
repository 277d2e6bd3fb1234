// SPDX-License-Identifier: Apache-2.0
//! Where the emulator has its time from.

#![expect(clippy::disallowed_methods, reason = "this is the edge that reads the clock")]

use std::time::{Duration, Instant, SystemTime};

/// The time since some start.
pub trait Clock: Send + Sync {
    /// Never goes back.
    fn now(&self) -> Duration;

    /// Wall-clock time at the start, in seconds since 1970. `None`: the model's own default.
    fn unix_seconds_at_zero(&self) -> Option<u64> {
        None
    }
}

/// Real time, from when it was made.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    start: Instant,
}

impl WallClock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for WallClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_seconds_at_zero(&self) -> Option<u64> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(since_1970.as_secs().saturating_sub(self.start.elapsed().as_secs()))
    }
}
