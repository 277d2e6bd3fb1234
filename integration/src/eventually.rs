// SPDX-License-Identifier: Apache-2.0
//! Waiting for what comes by itself: asked again until it is true or the time is over, with the last answer in the failure.
#![expect(clippy::disallowed_methods, reason = "waits on real time for real processes")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks: short against every latency that is emulated.
const STEP: Duration = Duration::from_millis(20);

/// It did not come true.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {within:?}; last seen: {last}")]
pub struct NotYet {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub within: Duration,
    /// Why not, the last time.
    pub last: String,
}

/// Asks `look` until it is `Ok`, at least once, for at most `within`.
///
/// # Errors
/// The last `Err` of `look`, with `what`.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, NotYet> {
    let end = Instant::now() + within;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= end => return Err(NotYet { what: what.to_owned(), within, last }),
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

/// Lets `time` pass: for what must *not* happen meanwhile.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Raises a flag when it goes, also when a test has failed: whoever works beside the test ends by it.
#[derive(Debug)]
pub struct RaisedOnDrop<'a>(pub &'a AtomicBool);

impl Drop for RaisedOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
