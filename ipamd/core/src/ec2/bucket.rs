// SPDX-License-Identifier: Apache-2.0
//! One token bucket for one EC2 action: how long a request has to wait so that this node keeps to its share.
//!
//! Decides waiting times only; it does not wait (the EC2 edge does) and knows no clock: `now` is an argument.
//!
//! EC2 keeps one bucket per account, Region and action, shared by all nodes. A node therefore starts with a small share
//! (its [`Ceiling`]) and adapts: each sign of throttling empties the bucket and halves the rate, down to a sixty-fourth of
//! the ceiling; afterwards the rate grows back linearly and is at its ceiling again after `RECOVERY` at the latest.
//!
//! Invariants: over any span `t` no more than `burst + per_second * t` requests are let through; the rate is never above
//! the ceiling nor zero; time going backwards changes nothing.
//!
//! Worked example: ceiling 10 tokens and 1 a second. Ten requests at once go through, the eleventh waits 1 s. After a
//! throttled answer the rate is 0.5 a second and the bucket is empty: the next request waits 2 s (a little less, for the
//! rate grows meanwhile).

use std::time::Duration;

/// Time in which a halved rate climbs from zero to the ceiling.
const RECOVERY: Duration = Duration::from_secs(300);

/// Throttled answers within this time of the last halving are one sign, not several: they left together.
const ONE_SIGN: Duration = Duration::from_secs(1);

/// The rate never falls below this part of the ceiling.
const FLOOR: f64 = 1.0 / 64.0;

/// Longest wait for our own bucket; beyond it the caller hears at once that the action is throttled, and until when.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a node may use of an action at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// Requests at once from a full bucket.
    pub burst: f64,
    /// Requests a second in the long run.
    pub per_second: f64,
}

impl Ceiling {
    /// The ceiling of an action.
    ///
    /// Source of the numbers: EC2 developer guide, "Request throttling": per account, Region and action, bucket size and
    /// refill a second. Mutating actions refill 5 a second (100 or 50 at once), filtered or paginated describes 20 (100 at
    /// once). A node takes a tenth of the burst, a fifth of a mutating refill and a tenth of a describing one as its
    /// ceiling: a lone node is then never slowed, and a fleet that restarts together adapts downwards.
    #[must_use]
    pub fn of(action: &str) -> Self {
        match action {
            action if action.starts_with("Describe") => Self { burst: 10.0, per_second: 2.0 },
            "AttachNetworkInterface" | "DetachNetworkInterface" => Self { burst: 10.0, per_second: 1.0 },
            // Create, delete, modify, assign, unassign: 100 at once and 5 a second for the account.
            _ => Self { burst: 10.0, per_second: 1.0 },
        }
    }
}

/// The bucket. Tokens may be negative: reserved by requests that are waiting.
#[derive(Clone, Debug)]
pub struct Bucket {
    ceiling: Ceiling,
    tokens: f64,
    rate: f64,
    at: Duration,
    halved_at: Option<Duration>,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(ceiling: Ceiling, now: Duration) -> Self {
        Self { ceiling, tokens: ceiling.burst, rate: ceiling.per_second, at: now, halved_at: None }
    }

    /// Takes one token and says how long to wait before the request may leave. When that is longer than `patience`,
    /// nothing is taken and the time is the error.
    pub fn reserve(&mut self, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        self.refill(now);
        let missing = 1.0 - self.tokens;
        let wait = if missing <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(missing / self.rate) };
        if wait > patience {
            return Err(wait);
        }
        self.tokens -= 1.0;
        Ok(wait)
    }

    /// Takes one token for a request that has already left (a retry inside the SDK), but makes no debt: what EC2 threw
    /// out took no token there.
    pub fn charge(&mut self, now: Duration) {
        self.refill(now);
        self.tokens = (self.tokens - 1.0).max(self.tokens.min(0.0));
    }

    /// EC2 said that there were too many requests.
    pub fn slow_down(&mut self, now: Duration) {
        self.refill(now);
        if self.halved_at.is_some_and(|at| now.saturating_sub(at) < ONE_SIGN) {
            return;
        }
        self.halved_at = Some(now);
        self.rate = (self.rate / 2.0).max(self.ceiling.per_second * FLOOR);
        self.tokens = self.tokens.min(0.0);
    }

    /// The present rate in requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Accrues tokens at the mean of the rates before and after: exact while the rate climbs, an underestimate when it
    /// reached its ceiling on the way.
    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed.is_zero() {
            return;
        }
        let climbed = self.ceiling.per_second * (elapsed.as_secs_f64() / RECOVERY.as_secs_f64());
        let rate = (self.rate + climbed).min(self.ceiling.per_second);
        let accrued = elapsed.as_secs_f64() * f64::midpoint(self.rate, rate);
        self.tokens = (self.tokens + accrued).min(self.ceiling.burst);
        self.rate = rate;
        self.at = now;
    }
}

#[cfg(test)]
mod tests;
