// SPDX-License-Identifier: Apache-2.0
//! How long the pool waits before it asks for more or gives back, so that pods that come and go one by one share calls.
//!
//! What and how much is the planner's; here is only when. Invariant: what an ADD waits for never waits here, beyond the few
//! milliseconds in which a burst of calls comes in.
//!
//! | | asks for more | gives back |
//! |---|---|---|
//! | an ADD waits | after 10 ms | not |
//! | a bound pod has not asked yet | after 10 ms | beyond what it takes, as below |
//! | ENI or prefix target, prefixes | after 10 ms | what has been too much for 30 s |
//! | address target W | after 10 ms when W / 2 or fewer are free, else after 5 to 10 s | what has been too much for 1 min, if it is 2 W or more; less after 4 min |
//! | none set: addresses | after 10 ms | what has been too much for 2.5 min, if it is 12 or more; less after 7.5 min |
//! | none set: ENIs | after 10 ms when there is less room than a burst takes, else within a minute | what has been too much room for half an hour |
//!
//! Worked example: W = 5, and one pod every 7 s for 30 s, each in the place of one that goes. Asked for one by one, and given
//! back one by one, that is 4 + 4 calls. Here the first two are asked for together after 7 s, the third and the fourth a
//! moment later, and what the old ones leave goes by one call.

use std::time::Duration;

use crate::backoff;
use crate::config::WarmTargets;
use crate::ids::BootTime;
use crate::planner::Addresses;
use crate::planner::target::Policy;
use crate::store::Slot;

use super::Core;
use super::state::SURPLUS_STANDS;

/// ADDs that come together are met by one call: growth waits that long for more of them. A thirtieth of what an EC2 call
/// takes, and longer than a burst of calls takes to come in.
const COALESCE: Duration = Duration::from_millis(10);
/// How long the refill of an address target waits for more to be missing, and up to as much again: the reference looks every
/// 5 s.
const REFILL: Duration = Duration::from_secs(5);
/// Nobody waits for a spare ENI, and all nodes of a fleet that joins want one: each asks at a moment of its own.
const SPARE: Duration = Duration::from_secs(60);
/// How long there must have been room for more than is wanted before an ENI goes.
const ROOM_STANDS: Duration = Duration::from_secs(1_800);

/// When a surplus goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hysteresis {
    /// The least it was in so long a time may go,
    pub(super) stands: Duration,
    /// if it is so many,
    pub(super) batch: u32,
    /// or some of it has been too much for so long.
    pub(super) at_most: Duration,
}

impl Core {
    /// How long what is missing on attached ENIs waits for more to be missing.
    pub(super) fn refill_waits(&self, now: BootTime) -> Duration {
        match self.warm_targets() {
            WarmTargets::Addresses { warm, .. } if self.mode() == Slot::Single && !self.is_expected() => {
                if self.pool_view(now).free.0 <= warm / 2 {
                    COALESCE
                } else {
                    REFILL + backoff::jitter(REFILL, 0, self.salt())
                }
            }
            WarmTargets::Adaptive | WarmTargets::Enis(_) | WarmTargets::Prefixes(_) | WarmTargets::Addresses { .. } => {
                COALESCE
            }
        }
    }

    /// How long an ENI that is missing may wait, with so much room there is.
    pub(super) fn make_waits(&self, policy: &Policy, room: Addresses, now: BootTime) -> Duration {
        let in_time = self.adapts() && !self.is_expected() && room >= policy.room && room > Addresses::ZERO;
        if in_time { backoff::jitter(SPARE, 1, self.salt()) } else { self.refill_waits(now) }
    }

    pub(super) fn hysteresis(&self) -> Hysteresis {
        let (stands, batch, at_most) = match self.warm_targets() {
            WarmTargets::Adaptive => (150, 12, 450),
            WarmTargets::Addresses { warm, .. } if self.mode() == Slot::Single => (60, warm.saturating_mul(2), 240),
            WarmTargets::Enis(_) | WarmTargets::Prefixes(_) | WarmTargets::Addresses { .. } => {
                return Hysteresis { stands: SURPLUS_STANDS, batch: 0, at_most: SURPLUS_STANDS };
            }
        };
        Hysteresis { stands: Duration::from_secs(stands), batch, at_most: Duration::from_secs(at_most) }
    }

    /// Whether what can go has been able to for long enough, and is worth the calls.
    pub(super) fn has_stood(&mut self, surplus: u32, now: BootTime) -> bool {
        let hysteresis = self.hysteresis();
        let first = *self.shrinking.first.get_or_insert(now);
        match self.shrinking.since {
            None => self.shrinking.watch(surplus, now),
            Some(_) => self.shrinking.floor = self.shrinking.floor.min(surplus),
        }
        let stands = if self.shrinking.round.is_some() { Duration::ZERO } else { hysteresis.stands };
        let at = (self.shrinking.since.unwrap_or(now) + stands).max(self.shrinking.not_before);
        if now < at {
            self.alarm(at);
            return false;
        }
        let few = (1..hysteresis.batch).contains(&self.shrinking.floor) && now < first + hysteresis.at_most;
        if self.shrinking.round.is_none() && few {
            self.shrinking.watch(surplus, now);
            self.alarm(now + hysteresis.stands);
            return false;
        }
        self.shrinking.round.get_or_insert(now);
        true
    }

    /// Room that has not been needed for long; all there is where only addresses are aimed at.
    pub(super) fn room_to_spare(&mut self, now: BootTime) -> Addresses {
        let (Some(view), Some(policy), true) = (self.grow_view(now), self.policy(now), self.adapts()) else {
            return Addresses(u32::MAX);
        };
        let unneeded = self.room(&view, now).less(self.spare(&policy, now));
        if unneeded == Addresses::ZERO {
            self.shrinking.room = None;
            return unneeded;
        }
        let (since, least) = self.shrinking.room.unwrap_or((now, unneeded));
        let least = least.min(unneeded);
        self.shrinking.room = Some((since, least));
        if now < since + ROOM_STANDS {
            self.alarm(since + ROOM_STANDS);
            return Addresses::ZERO;
        }
        if least < policy.per_eni {
            // Not an ENI's worth all the time: what there is now has to stand anew.
            self.shrinking.room = Some((now, unneeded));
            self.alarm(now + ROOM_STANDS);
        }
        least
    }
}
