// SPDX-License-Identifier: Apache-2.0
//! One token bucket for one EC2 action: how long a request has to wait so that this node keeps to its share.
//!
//! Decides waiting times only; it does not wait (the EC2 edge does), draws no random number and knows no clock: `now` and
//! the roll are arguments.
//!
//! EC2 keeps one bucket per account, Region and action, shared by all nodes, and tells nobody how full it is. A node starts
//! at its [`Ceiling`], which a lone node never notices, and finds its share by additive increase and multiplicative
//! decrease: a throttled answer divides the rate by [`DECREASE`], down to the share of one of 5,000 nodes, and takes the
//! tokens; a good answer adds a [`STEP`]th of the ceiling; and a node that asks for nothing doubles its rate every
//! [`DOUBLING`], for what throttled it may be over. After a throttled answer the next request may leave at any moment of
//! the next two tokens' time (full jitter), so that nodes that were slowed together do not come back together.
//!
//! When tokens are scarce they go by [`Priority`]: each leaves a part of the bucket to those above it. A request below the
//! first class that would have to wait long is refused with the time at which it is worth asking again, and never borrows
//! from a token that a waiting ADD could use at once.
//!
//! ```text
//!   tokens   10 ┬ describes leave 6, releases 4, warm-ups 2 to those above
//!             1 ┼ nobody below a waiting ADD reserves past this
//!             0 ┴ a waiting ADD may borrow: it queues for up to two seconds
//! ```
//!
//! Invariants: over any span `t` no more than `burst + per_second * t` requests are let through; the rate stays between
//! floor and ceiling; time going backwards changes nothing.
//!
//! Worked example: ceiling 10 tokens and 1 a second. Ten requests of waiting ADDs go through at once, the eleventh waits
//! 1 s, the thirteenth is refused. After a throttled answer the rate is 1/4 a second: with a roll of 0.5 the next is refused for 4 s (a little less, for
//! the rate grows meanwhile), one that warms the pool, which leaves 2 tokens, for about 11 s.
//!
//! Simulated (`ipamd-simulate`, example `scale`, EC2's own buckets): all of 1,000 nodes that join within a minute have
//! their pods after 1.3 times the time that the bucket of assignments allows, all of 5,000 within five minutes after 1.1
//! times; for 10 requests that pass 14 and 18 are sent. With a doubling in two minutes it was 1.8 and 1.2 times, for 14 and
//! 16: nodes that lost several draws were late.

use std::time::Duration;

use crate::action::Priority;

/// What a throttled answer divides the rate by.
const DECREASE: f64 = 4.0;

/// A good answer adds this part of the ceiling to the rate.
const STEP: f64 = 1.0 / 64.0;

/// Time in which the rate doubles by itself.
const DOUBLING: Duration = Duration::from_secs(60);

/// Throttled answers within this time of the last decrease are one sign, not several: they left together.
const ONE_SIGN: Duration = Duration::from_secs(1);

/// Longest wait for our own bucket; beyond it the caller hears at once that the action is throttled, and until when.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nodes that must be able to share an account's bucket: as many as it may have ENIs in a Region (VPC user guide, "Amazon
/// VPC quotas": 5,000).
const MOST_NODES: f64 = 5_000.0;

/// What a node may use of an action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// Requests at once from a full bucket.
    pub burst: f64,
    /// Requests a second in the long run, at best.
    pub per_second: f64,
    /// Requests a second at worst.
    pub floor: f64,
}

impl Ceiling {
    /// The share of a node.
    ///
    /// Source of the account's numbers: EC2 developer guide, "Request throttling": bucket size and refill a second, by
    /// account, Region and action. At best a node takes ten at once and a fifth of the refill (a tenth of what reads have):
    /// a lone node is then never slowed, and ten nodes that start together still fit into a bucket of 100. At worst it
    /// takes what is left to each when 5,000 share the refill.
    #[must_use]
    pub fn of(action: &str) -> Self {
        let (refill, part) = match action {
            // 100 at once, 20 a second, as long as they are filtered or paged; ours all are.
            action if action.starts_with("Describe") => (20.0, 10.0),
            // 100 at once, 10 a second.
            "CreateTags" | "DeleteTags" => (10.0, 5.0),
            // Attach, detach: 50 at once, 5 a second. Create, delete, modify, assign, unassign: 100 at once, 5 a second.
            _ => (5.0, 5.0),
        };
        Self { burst: 10.0, per_second: refill / part, floor: refill / MOST_NODES }
    }
}

impl Priority {
    /// Part of a full bucket that is left to those above.
    fn leaves(self) -> f64 {
        match self {
            Self::Waiting => 0.0,
            Self::Warm => 0.2,
            Self::Release => 0.4,
            Self::Describe => 0.6,
        }
    }
}

/// The bucket. Tokens may be negative: reserved by requests of waiting ADDs.
#[derive(Clone, Debug)]
pub struct Bucket {
    ceiling: Ceiling,
    tokens: f64,
    rate: f64,
    at: Duration,
    decreased_at: Option<Duration>,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(ceiling: Ceiling, now: Duration) -> Self {
        Self { ceiling, tokens: ceiling.burst, rate: ceiling.per_second, at: now, decreased_at: None }
    }

    /// Takes one token and says how long to wait before the request may leave. When that is too long for its priority,
    /// nothing is taken and the error is the time after which it is worth asking again.
    pub fn reserve(&mut self, priority: Priority, now: Duration) -> Result<Duration, Duration> {
        self.refill(now);
        let wait = self.time_to(self.needs(priority));
        // A token that is reserved now is missing to an ADD that comes meanwhile, unless there is another one for it.
        let is_in_the_way = priority != Priority::Waiting && !wait.is_zero() && self.tokens < 2.0;
        if wait > PATIENCE || is_in_the_way {
            return Err(wait);
        }
        self.tokens -= 1.0;
        Ok(wait)
    }

    /// How long a request of this priority would have to wait now.
    #[must_use]
    pub fn wait(&mut self, priority: Priority, now: Duration) -> Duration {
        self.refill(now);
        self.time_to(self.needs(priority))
    }

    /// Takes one token for a request that has already left (a retry inside the SDK), but makes no debt: what EC2 threw
    /// out took no token there.
    pub fn charge(&mut self, now: Duration) {
        self.refill(now);
        self.tokens = (self.tokens - 1.0).max(self.tokens.min(0.0));
    }

    /// EC2 took the request: it may have been a good one or not, but it was not one too many.
    pub fn succeeded(&mut self, now: Duration) {
        self.refill(now);
        self.rate = (self.rate + self.ceiling.per_second * STEP).min(self.ceiling.per_second);
    }

    /// EC2 said that there were too many requests. `roll`: drawn from 0 to 1, another one at every node.
    pub fn slow_down(&mut self, now: Duration, roll: f64) {
        self.refill(now);
        if self.decreased_at.is_some_and(|at| now.saturating_sub(at) < ONE_SIGN) {
            return;
        }
        self.decreased_at = Some(now);
        self.rate = (self.rate / DECREASE).max(self.ceiling.floor);
        // From now to two tokens' time away, one on the average.
        self.tokens = self.tokens.min(1.0 - 2.0 * roll.clamp(0.0, 1.0));
    }

    /// The present rate in requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Tokens that must be there for a request to leave at once.
    fn needs(&self, priority: Priority) -> f64 {
        1.0 + self.ceiling.burst * priority.leaves()
    }

    /// Time until there are so many tokens, if nobody takes any.
    fn time_to(&self, tokens: f64) -> Duration {
        let missing = tokens - self.tokens;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let (climb, gained) = self.climb();
        let seconds = if missing <= gained {
            // The inverse of `accrued`.
            DOUBLING.as_secs_f64() * (1.0 + missing * growth() / self.rate).log2()
        } else {
            climb + (missing - gained) / self.ceiling.per_second
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Seconds until the rate is at its ceiling by itself, and the tokens gained on the way.
    fn climb(&self) -> (f64, f64) {
        let seconds = DOUBLING.as_secs_f64() * (self.ceiling.per_second / self.rate).log2().max(0.0);
        (seconds, self.accrued(seconds))
    }

    /// Tokens gained in so many seconds at a rate that doubles by itself, below the ceiling.
    fn accrued(&self, seconds: f64) -> f64 {
        self.rate * ((seconds / DOUBLING.as_secs_f64()).exp2() - 1.0) / growth()
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        if elapsed <= 0.0 {
            return;
        }
        let (climb, gained) = self.climb();
        if elapsed < climb {
            self.tokens += self.accrued(elapsed);
            self.rate = (self.rate * (elapsed / DOUBLING.as_secs_f64()).exp2()).min(self.ceiling.per_second);
        } else {
            self.tokens += gained + (elapsed - climb) * self.ceiling.per_second;
            self.rate = self.ceiling.per_second;
        }
        self.tokens = self.tokens.min(self.ceiling.burst);
        self.at = now;
    }
}

/// The relative growth of the rate a second.
fn growth() -> f64 {
    std::f64::consts::LN_2 / DOUBLING.as_secs_f64()
}

#[cfg(test)]
mod tests;
