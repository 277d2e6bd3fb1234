// SPDX-License-Identifier: Apache-2.0
//! Versions of a thing over time, so that readers can be behind.
//!
//! Answers "what was it, as seen with this lag"; who lags how much is a setting. EC2 and IMDS are eventually consistent
//! (EC2 developer guide, "Eventual consistency"), and every reader here sees *some* former truth, never a mixture.
//!
//! Invariant: with a lag of zero the newest version is seen. Versions older than [`MAX_LAG`] are dropped, save the newest
//! of them.
//!
//! Worked example: made at 1 s, changed at 5 s, lag 3 s: unseen until 4 s, then the first version, from 8 s the second.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest lag that is kept versions for.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug)]
struct Version<T> {
    /// `None`: from before the start, seen by everybody.
    since: Option<Duration>,
    /// `None`: the thing is gone.
    value: Option<T>,
}

/// The versions of one thing, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    versions: VecDeque<Version<T>>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { versions: VecDeque::new() }
    }
}

impl<T> History<T> {
    /// Adds the version that is true from `since` on.
    pub(crate) fn push(&mut self, since: Option<Duration>, value: Option<T>) {
        self.versions.push_back(Version { since, value });
        let Some(now) = since else { return };
        while self.versions.get(1).is_some_and(|next| next.since.is_none_or(|s| s + MAX_LAG < now)) {
            self.versions.pop_front();
        }
    }

    /// What a reader with this lag sees.
    pub(crate) fn seen(&self, now: Duration, lag: Duration) -> Option<&T> {
        let seen = |version: &&Version<T>| version.since.is_none_or(|since| since + lag <= now);
        self.versions.iter().rev().find(seen).and_then(|version| version.value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_newest_version_that_is_older_than_its_lag() {
        let second = Duration::from_secs;
        let mut history = History::default();
        history.push(Some(second(1)), Some("made"));
        history.push(Some(second(5)), Some("changed"));
        history.push(Some(second(9)), None);
        let lag = second(3);
        for (now, seen) in [(3, None), (4, Some("made")), (7, Some("made")), (8, Some("changed")), (12, None)] {
            assert_eq!(history.seen(second(now), lag).copied(), seen, "at {now} s");
        }
        assert_eq!(history.seen(second(5), Duration::ZERO), Some(&"changed"));
    }

    #[test]
    fn what_was_there_from_the_start_is_seen_at_once() {
        let mut history = History::default();
        history.push(None, Some(1));
        assert_eq!(history.seen(Duration::ZERO, MAX_LAG), Some(&1));
    }
}
