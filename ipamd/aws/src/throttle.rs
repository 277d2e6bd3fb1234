// SPDX-License-Identifier: Apache-2.0
//! All buckets of the node, and the waiting in front of a call.
//!
//! Invariant: the lock is held for arithmetic only, never across an await.
//!
//! The numbers are in `ipamd_core::ec2::Ceiling`.

#![expect(clippy::disallowed_methods, reason = "the edge that waits its turn")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipamd_core::action::Priority;
use ipamd_core::ec2::{Bucket, Ceiling};
use ipamd_core::ids::BootTime;
use ipamd_core::reason::ReasonCode;

use crate::watch::{By, Watch, Watcher};

/// The buckets, shared by all calls of the node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    buckets: Arc<Mutex<HashMap<String, Bucket>>>,
    clock: fn() -> BootTime,
    watcher: Watcher,
}

impl Throttle {
    pub(crate) fn new(clock: fn() -> BootTime) -> Self {
        Self { buckets: Arc::default(), clock, watcher: None }
    }

    pub(crate) fn watched_by(self, watcher: Watcher) -> Self {
        Self { watcher, ..self }
    }

    pub(crate) fn watcher(&self) -> Option<&dyn Watch> {
        self.watcher.as_deref()
    }

    pub(crate) fn clock(&self) -> fn() -> BootTime {
        self.clock
    }

    /// Waits for this action's turn. `Err`: the turn is further away than we wait here.
    pub(crate) async fn turn(&self, action: &'static str, priority: Priority) -> Result<(), Duration> {
        let turn = self.with(action, |bucket, now| bucket.reserve(priority, now));
        if let Some(watcher) = self.watcher().filter(|_| turn != Ok(Duration::ZERO)) {
            watcher.held_back(action, By::Bucket);
        }
        let wait = turn?;
        if !wait.is_zero() {
            tracing::debug!(action, ?priority, wait_ms = %wait.as_millis(), "waiting for our own request bucket");
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How long a request of this action and priority would have to wait now.
    pub(crate) fn wait(&self, action: &str, priority: Priority) -> Duration {
        self.with(action, |bucket, now| bucket.wait(priority, now))
    }

    /// A retry of this action has left.
    pub(crate) fn charge(&self, action: &str) {
        self.with(action, |bucket, now| bucket.charge(now));
    }

    /// EC2 took a request of this action.
    pub(crate) fn succeeded(&self, action: &str) {
        self.with(action, |bucket, now| bucket.succeeded(now));
    }

    /// EC2 throttled this action.
    pub(crate) fn slow_down(&self, action: &str) {
        let roll = roll();
        let rate = self.with(action, |bucket, now| {
            bucket.slow_down(now, roll);
            bucket.rate()
        });
        if let Some(watcher) = self.watcher() {
            watcher.held_back(action, By::Ec2);
        }
        tracing::warn!(
            code = %ReasonCode::Ec2Throttled, action, requests_per_second = rate,
            "EC2 throttles us, asking less often"
        );
    }

    /// The present rate of an action's bucket.
    #[cfg(test)]
    pub(crate) fn rate(&self, action: &str) -> f64 {
        self.with(action, |bucket, now| {
            bucket.charge(now);
            bucket.rate()
        })
    }

    fn with<T>(&self, action: &str, act: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let now = (self.clock)().0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        act(buckets.entry(action.to_owned()).or_insert_with(|| Bucket::new(Ceiling::of(action), now)), now)
    }
}

/// A random number from 0 to 1.
fn roll() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without randomness there is no jitter; the middle stands.
    getrandom::fill(&mut bytes).map_or(0.5, |()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}
