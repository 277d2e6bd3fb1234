// SPDX-License-Identifier: Apache-2.0
//! Which one of many nodes does a thing for all of them: the holder of a lease that every node can read and write. Pure.
//!
//! Decides when to look at the lease and when to write it, and how long this node may believe that it holds it. It talks to
//! nobody: an edge makes the calls ([`Call`]) and tells how they ended ([`Answer`]), each with the time. What the holder does
//! is not its business.
//!
//! ```text
//!               it has not changed, or not been there, for its duration           written
//!  looking ───────────────────────────────────────────────────────────► (write) ─────────► holding ──renewed──┐
//!     ▲  └── somebody else's: look again                                                     │  ▲─────────────┘
//!     └──────────── somebody else's by now, or not renewed for two thirds of its duration ◄───┘
//! ```
//!
//! Invariant: no two nodes believe that they hold it at once. Nobody compares clocks: the times in the lease are for people.
//! A holder believes for two thirds of the duration from the moment that it *sent* its last write; another node takes the lease
//! over when it has *received* the same version twice, a whole duration apart, and only if that version is still the last one
//! (`resourceVersion`, which the API server compares). A write happens after its sending and before every reading of it, so a
//! third of the duration is left between the two: for clocks that run at different speeds, and for what the holder has under
//! way. Time is that of the boot clock, which goes on while a machine sleeps.
//!
//! Worked example ([`Pace`] with a duration of 180 s): the holder writes every 60 s and stops believing 120 s after its last
//! write that was answered; the others look every 225 to 375 s. When it is killed right after a write at 0:00, a node that
//! looked at 0:10 and sees at 5:10 what it saw then takes over. 5,000 nodes make 17 reads a second of one small object, from
//! the API server's cache, and one write a minute; their kubelets renew 500 leases a second.

use std::time::Duration;

use crate::ids::BootTime;

/// A lease that has not changed for so many looks beyond its duration is nobody's: nobody can or may take it.
const LOOKS_TOO_MANY: u32 = 2;
/// The least and the most that a duration is: one slow call must not cost the lease, and a take-over must come.
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(180);
/// What is believed of a duration that somebody else wrote.
const BELIEVABLE: Duration = Duration::from_secs(3_600);

/// How quick an election is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a lease stands that nobody renews; whole seconds.
    pub duration: Duration,
    /// Between two writes of the holder.
    pub renew: Duration,
    /// Before what failed is tried again by the holder.
    pub retry: Duration,
    /// How long the holder believes in a write.
    pub believe: Duration,
    /// Between two looks of the others; each node has its own spread, a quarter of it either way.
    pub look: Duration,
}

impl Pace {
    /// For a sweep of what is as old as `age`: a duration of six tenths of it, from 3 s to 3 min.
    #[must_use]
    pub fn of_age(age: Duration) -> Self {
        let duration = age.saturating_mul(6) / 10;
        let duration = Duration::from_secs(duration.clamp(SHORTEST, LONGEST).as_secs());
        Self { duration, renew: duration / 3, retry: duration / 18, believe: duration * 2 / 3, look: duration * 5 / 3 }
    }
}

/// A lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What the API server compares (`resourceVersion`): another with every write.
    pub version: String,
    /// Who holds it; empty: it was given up.
    pub holder: String,
    /// How long it stands without a write.
    pub duration: Duration,
}

/// What to ask the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read it.
    Look,
    /// Make it, with this node as its holder.
    Create,
    /// Write that this node holds it, unless it is another version by now.
    Renew {
        /// The version that is meant.
        version: String,
        /// Whether it was somebody else's.
        takes_over: bool,
    },
    /// Write that nobody holds it, unless it is another version by now.
    GiveUp {
        /// The version that is meant.
        version: String,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is this; after the write, if it was one.
    Lease(Lease),
    /// There is none.
    Missing,
    /// It is another version, or is there already: nothing was written.
    Conflict,
    /// A refusal, or no word: a write may have been made, or be made yet.
    Failed,
}

/// Who does it, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elected {
    /// There is no election, or nothing is heard of it.
    #[default]
    Nobody,
    /// This node.
    ThisNode {
        /// Not a moment longer, whatever is heard.
        until: BootTime,
    },
    /// Another one, or one that is to be found.
    AnotherNode,
}

/// What was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing, or nothing since this node held it.
    Nothing,
    /// That there is no lease. Nobody may make one before a duration has passed: it may have been there a moment ago.
    Missing,
    Lease(Lease),
}

#[derive(Clone, Debug)]
enum State {
    Looking {
        last: Last,
        /// When that was read first.
        since: BootTime,
    },
    Holding {
        version: String,
        until: BootTime,
    },
}

/// One node's part in an election.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    pace: Pace,
    salt: u64,
    state: State,
    due: BootTime,
    /// What is due, where the state alone does not say it.
    next: Option<Call>,
    /// This node takes nothing over until then.
    stands_down_until: BootTime,
    has_heard: bool,
    calls: u64,
}

impl Election {
    /// `me` must be no other node's name; `salt` spreads nodes that start together. The first look is due within a quarter of the
    /// time between two.
    #[must_use]
    pub fn new(me: String, pace: Pace, salt: u64, now: BootTime) -> Self {
        Self {
            me,
            pace,
            salt,
            state: State::Looking { last: Last::Nothing, since: now },
            due: now + part(pace.look / 4, mixed(salt, 0)),
            next: None,
            stands_down_until: BootTime::default(),
            has_heard: false,
            calls: 0,
        }
    }

    /// When the next call is to be made.
    #[must_use]
    pub fn due(&self) -> BootTime {
        self.due
    }

    /// Who does it.
    #[must_use]
    pub fn elected(&self, now: BootTime) -> Elected {
        match &self.state {
            State::Holding { until, .. } if now < *until => Elected::ThisNode { until: *until },
            State::Holding { .. } => Elected::AnotherNode,
            State::Looking { last, since } => {
                let patience = self.stands(last) + self.pace.look * LOOKS_TOO_MANY;
                let is_new = now.since(*since) < patience;
                if self.has_heard && is_new { Elected::AnotherNode } else { Elected::Nobody }
            }
        }
    }

    /// The call that is due.
    pub fn call(&mut self, now: BootTime) -> Call {
        if matches!(self.state, State::Holding { until, .. } if until <= now) {
            self.lose(now);
        }
        let planned = self.next.take();
        match (&self.state, planned) {
            (_, Some(call)) => call,
            (State::Holding { version, .. }, None) => Call::Renew { version: version.clone(), takes_over: false },
            (State::Looking { .. }, None) => Call::Look,
        }
    }

    /// How a call ended that was sent at the first time and answered at the second.
    pub fn ended(&mut self, call: &Call, answer: Answer, (sent, now): (BootTime, BootTime)) {
        self.calls += 1;
        match (call, answer) {
            (Call::Look, Answer::Lease(lease)) => self.looked(Last::Lease(lease), now),
            (Call::Look, Answer::Missing) => self.looked(Last::Missing, now),
            (Call::Create | Call::Renew { .. }, Answer::Lease(lease)) if lease.holder == self.me => {
                self.state = State::Holding { version: lease.version, until: sent + self.pace.believe };
                self.due = sent + self.pace.renew;
            }
            // A write whose answer was lost makes the next one meet this: whose it is, is to be seen.
            (_, Answer::Conflict | Answer::Missing | Answer::Lease(_)) if self.holds(now) => {
                self.next = Some(Call::Look);
                self.due = now + self.pace.retry;
            }
            (_, Answer::Failed) if self.holds(now) => self.due = now + self.pace.retry,
            (_, Answer::Conflict | Answer::Missing | Answer::Lease(_) | Answer::Failed) => {
                self.due = self.next_look(now);
            }
        }
    }

    /// This node cannot do it: it lets go of what it holds, and takes nothing over until then.
    pub fn stand_down(&mut self, until: BootTime, now: BootTime) {
        self.stands_down_until = until;
        if let State::Holding { version, .. } = &self.state {
            let version = version.clone();
            self.lose(now);
            self.next = Some(Call::GiveUp { version });
            self.due = now;
        }
    }

    fn looked(&mut self, seen: Last, now: BootTime) {
        self.has_heard = true;
        let mine = matches!(&seen, Last::Lease(lease) if lease.holder == self.me);
        if let (State::Holding { version, .. }, true, Last::Lease(lease)) = (&mut self.state, mine, &seen) {
            version.clone_from(&lease.version);
            self.due = now;
            return;
        }
        let since = match &self.state {
            State::Looking { last, since } if *last == seen => *since,
            State::Looking { .. } | State::Holding { .. } => now,
        };
        let given_up = matches!(&seen, Last::Lease(lease) if lease.holder.is_empty());
        let is_free = mine || given_up || now.since(since) >= self.stands(&seen);
        let call = match &seen {
            Last::Lease(lease) => Call::Renew { version: lease.version.clone(), takes_over: !mine },
            Last::Missing | Last::Nothing => Call::Create,
        };
        self.state = State::Looking { last: seen, since };
        if is_free && now >= self.stands_down_until {
            self.next = Some(call);
            self.due = now;
        } else {
            self.due = self.next_look(now);
        }
    }

    /// How long nobody else may take it.
    fn stands(&self, last: &Last) -> Duration {
        match last {
            Last::Lease(lease) => lease.duration.min(BELIEVABLE).max(self.pace.duration),
            Last::Missing | Last::Nothing => self.pace.duration,
        }
    }

    fn holds(&self, now: BootTime) -> bool {
        matches!(self.elected(now), Elected::ThisNode { .. })
    }

    fn lose(&mut self, now: BootTime) {
        self.state = State::Looking { last: Last::Nothing, since: now };
        self.next = None;
    }

    fn next_look(&self, now: BootTime) -> BootTime {
        now + self.pace.look * 3 / 4 + part(self.pace.look / 2, mixed(self.salt, self.calls))
    }
}

/// Some of it, by the salt.
fn part(time: Duration, salt: u64) -> Duration {
    let thousandths = u32::try_from(salt % 1_000).unwrap_or(0);
    time * thousandths / 1_000
}

/// Numbers that look like no other for every pair: SplitMix64's finaliser (Steele, Lea, Flood, 2014).
fn mixed(salt: u64, count: u64) -> u64 {
    let mut mixed = salt ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
