// SPDX-License-Identifier: Apache-2.0
//! How much to keep ready when nobody says: as many addresses as come while EC2 answers a call, as many slots as are asked
//! for while an ENI is being made.
//!
//! A pool grows in two ways, and they differ twentyfold: an address on an attached ENI takes a call (a third of a second), an
//! ENI takes its create, its attach and its link (six seconds). So two things are kept ready, each for as long as what it
//! needs takes, and only the first costs addresses:
//!
//! ```text
//!   free addresses   for the time of a call  ──►  assigned to an attached ENI when fewer are free
//!   room             for the time of an ENI  ──►  another ENI when free ones and empty slots together are fewer
//! ```
//!
//! WARM_ENI_TARGET=1 keeps an ENI's worth of *addresses* for the second purpose. Slots without an address do the same, for a
//! burst that is met by calls meanwhile: they cost the ENI's own address.
//!
//! What is observed: when ADDs come, how long an assign call takes and how long an ENI takes from being asked for until it
//! gives addresses out. With n(t) the ADDs of the last t, `call` twice the longest assign call of late (and at least 1 s) and
//! `lead` an ENI's time:
//!
//! ```text
//! spurt    the highest n(call), halves every 30 min     largest burst within a call
//! burst    the highest n(lead), halves every hour       largest burst within an ENI's time
//!
//! wanted   max(spurt, n(call)), from floor to ceiling   free addresses: refilled when there are fewer
//! band     n(lead), from the floor to ceiling + floor   refilled to wanted + band, given back above it; where a call brings
//!                                                       a prefix, never more than the floor
//! ceiling  8 + 0.3 x pods
//! floor    min(8, half an ENI's worth)
//! minimum  an ENI's worth (a prefix in prefix mode) of all addresses, until ten minutes after the first ADD
//!
//! room     max(burst, 2 x rate x lead)                  free ones and empty slots: an ENI is asked for at once; of burst
//!                                                       no more than two ENIs' worth
//! spare    max(room, an ENI's worth)                    the same, but in its own time
//! rate     n(3 s) / 3 s of eight ADDs or more that have come for a second; 2 x rate x lead is at most n(lead) and an
//!          ENI's worth
//! ```
//!
//! What fades does so in steps of four, so that it is not given back one address and two calls at a time. The band keeps a
//! pod that comes or goes from costing a call, and makes the calls of a burst few: each asks for as many as came in an
//! ENI's time. The minimum is the expectation of a node that has seen nothing: one that joins gets its pods at once.
//!
//! Worked example, m5.4xlarge (29 addresses an ENI), lead 6 s, call 1 s. A fresh node holds 29. With its first pod the room
//! is 28, an ENI's worth is wanted: within a minute there is a second ENI, with one address. Ten minutes on, with 10 pods, 26
//! are held: 10, the floor of 8 and the band of 8; the room is 48. Then 50 jobs come in 20 s, 2.5 a second: wanted stays 8,
//! the band goes to 15, so four calls of 9 to 16 addresses bring what is needed. 2 x 2.5 x 6, some 32 of room, are wanted at
//! once, so a third ENI is asked for when 17 jobs have come, and is there when 32 have: six seconds before it is needed.
//!
//! Pure: time is an argument and never runs backwards. Constants: an attach "within 5 s" and a create call before it
//! (cilium #16494) for the first lead; floor, band and ceiling so that a node at rest holds at most 1.3 x its pods and 16
//! more.

use std::collections::VecDeque;
use std::time::Duration;

use super::Addresses;
use crate::ids::BootTime;

const FLOOR: u32 = 8;
const CEILING: u32 = 8;
/// What fades does so in steps of so many addresses.
const STEP: u32 = 4;
/// In hundredths of a pod.
const CEILING_PER_POD_PCT: u32 = 30;
const SPURT_HALVES: Duration = Duration::from_secs(1_800);
const BURST_HALVES: Duration = Duration::from_secs(3_600);
const START: Duration = Duration::from_secs(600);
const FIRST_LEAD: Duration = Duration::from_secs(6);
const SHORTEST_LEAD: Duration = Duration::from_secs(1);
const LONGEST_LEAD: Duration = Duration::from_secs(60);
const FIRST_CALL: Duration = Duration::from_millis(500);
const LONGEST_CALL: Duration = Duration::from_secs(5);
/// Over which time a rate is measured, and from which on it is one.
const PACE: Duration = Duration::from_secs(3);
const PACE_FROM: Duration = Duration::from_secs(1);
/// ADDs remembered one by one: more than a node has pods.
const MOST_ARRIVALS: usize = 1_024;
const MILLI: u64 = 1_000;

/// A quantity in thousandths that halves again and again; in between it falls in a straight line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fading {
    pub(crate) milli: u64,
    pub(crate) at: BootTime,
}

impl Fading {
    fn milli_at(self, now: BootTime, half_life: Duration) -> u64 {
        let (passed, half) = (now.since(self.at).as_nanos(), half_life.as_nanos().max(1));
        let halvings = u32::try_from(passed / half).unwrap_or(u32::MAX);
        let whole = self.milli.checked_shr(halvings).unwrap_or(0);
        let part = u128::from(whole) * (passed % half) / (2 * half);
        whole - u64::try_from(part).unwrap_or(whole)
    }

    /// In whole steps, rounded up.
    fn steps_at(self, now: BootTime, half_life: Duration) -> u32 {
        let whole = self.milli_at(now, half_life).div_ceil(MILLI);
        u32::try_from(whole).unwrap_or(u32::MAX).checked_next_multiple_of(STEP).unwrap_or(u32::MAX)
    }

    /// Remembers what is higher than what is left of it.
    fn saw(&mut self, count: u32, now: BootTime, half_life: Duration) {
        let milli = u64::from(count) * MILLI;
        if milli > self.milli_at(now, half_life) {
            *self = Self { milli, at: now };
        }
    }
}

/// What has been observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adaptive {
    /// The ADDs of the last [`LONGEST_LEAD`], oldest first.
    arrivals: VecDeque<BootTime>,
    seen: Memory,
}

/// What survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The most ADDs within the time of a call,
    pub(crate) spurt: Fading,
    /// and of an ENI.
    pub(crate) burst: Fading,
    /// The longest assign call of late.
    pub(crate) call: Duration,
    /// How long an ENI takes until it gives addresses out.
    pub(crate) lead: Duration,
    pub(crate) first_add: Option<BootTime>,
}

/// What a node is like, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Addresses bound to sandboxes.
    pub(crate) pods: Addresses,
    /// Single addresses that an ENI holds.
    pub(crate) per_eni: Addresses,
    /// What a fresh node holds: an ENI's worth, or a prefix.
    pub(crate) first: Addresses,
    /// What a slot holds.
    pub(crate) unit: Addresses,
}

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Free addresses: refilled when there are fewer.
    pub(crate) wanted: Addresses,
    /// Further free ones that are asked for with them, and not given back.
    pub(crate) band: Addresses,
    /// All addresses held.
    pub(crate) minimum: Addresses,
    /// Free addresses and empty slots: with fewer there is no time to lose.
    pub(crate) room: Addresses,
    /// The same, in its own time; never less.
    pub(crate) spare: Addresses,
}

impl Default for Memory {
    fn default() -> Self {
        let (spurt, burst) = (Fading::default(), Fading::default());
        Self { spurt, burst, call: FIRST_CALL, lead: FIRST_LEAD, first_add: None }
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::from(Memory::default())
    }
}

impl Adaptive {
    /// An ADD came.
    pub(crate) fn arrived(&mut self, now: BootTime) {
        let old = |at: &BootTime| now.since(*at) > LONGEST_LEAD;
        while self.arrivals.len() >= MOST_ARRIVALS || self.arrivals.front().is_some_and(old) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(now);
        let (spurt, burst) = (self.within(self.call(), now), self.within(self.seen.lead, now));
        self.seen.spurt.saw(spurt, now, SPURT_HALVES);
        self.seen.burst.saw(burst, now, BURST_HALVES);
        self.seen.first_add.get_or_insert(now);
    }

    /// An ENI gives addresses out, so long after it was asked for.
    pub(crate) fn eni_took(&mut self, lead: Duration) {
        self.seen.lead = (self.seen.lead * 3 + lead.clamp(SHORTEST_LEAD, LONGEST_LEAD)) / 4;
    }

    /// Addresses were assigned, so long after they were asked for.
    pub(crate) fn call_took(&mut self, took: Duration) {
        let took = took.min(LONGEST_CALL);
        self.seen.call = took.max((self.seen.call * 15 + took) / 16);
    }

    /// The time that an assign call is counted on to take.
    fn call(&self) -> Duration {
        (self.seen.call * 2).max(SHORTEST_LEAD)
    }

    /// ADDs of the last so long.
    fn within(&self, time: Duration, now: BootTime) -> u32 {
        let before = self.arrivals.partition_point(|at| now.since(*at) >= time);
        u32::try_from(self.arrivals.len() - before).unwrap_or(u32::MAX)
    }

    /// What will have come when an ENI asked for now is there, twice over; nothing while it may be a few at once.
    fn ahead(&self, node: &Node, now: BootTime) -> u32 {
        let before = self.arrivals.partition_point(|at| now.since(*at) >= PACE);
        let came_for = self.arrivals.get(before).map_or(Duration::ZERO, |first| now.since(*first));
        let count = self.within(PACE, now);
        if came_for < PACE_FROM || count < FLOOR {
            return 0;
        }
        let twice = (2 * u128::from(count) * self.seen.lead.as_millis()).div_ceil(PACE.as_millis());
        let most = self.within(self.seen.lead, now).saturating_add(node.per_eni.0);
        u32::try_from(twice).unwrap_or(u32::MAX).min(most)
    }

    pub(crate) fn wish(&self, node: &Node, now: BootTime) -> Wish {
        let floor = FLOOR.min(node.per_eni.0.div_ceil(2)).max(1);
        let least_band = FLOOR.min(node.per_eni.0 / 2);
        let ceiling = CEILING.saturating_add(node.pods.0.saturating_mul(CEILING_PER_POD_PCT) / 100);
        let spurt = self.seen.spurt.steps_at(now, SPURT_HALVES).max(self.within(self.call(), now));
        let lately = if node.unit.0 > 1 { 0 } else { self.within(self.seen.lead, now) };
        let burst = self.seen.burst.steps_at(now, BURST_HALVES).min(node.per_eni.0.saturating_mul(2));
        let room = burst.max(self.ahead(node, now));
        let starting = self.seen.first_add.is_none_or(|first| now.since(first) < START);
        Wish {
            wanted: Addresses(spurt.min(ceiling).max(floor)),
            band: Addresses(lately.min(ceiling.saturating_add(FLOOR)).max(least_band)),
            minimum: if starting { node.first } else { Addresses::ZERO },
            room: Addresses(room),
            spare: Addresses(room).max(node.per_eni),
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.seen
    }
}

impl From<Memory> for Adaptive {
    fn from(memory: Memory) -> Self {
        let lead = memory.lead.clamp(SHORTEST_LEAD, LONGEST_LEAD);
        let call = memory.call.min(LONGEST_CALL);
        Self { arrivals: VecDeque::new(), seen: Memory { lead, call, ..memory } }
    }
}

#[cfg(test)]
mod tests;
