// SPDX-License-Identifier: Apache-2.0
//! Versions of a thing over time, so that readers can be behind.
//!
//! Answers "what is it" and "what was it, as seen with this lag"; who lags how much is a setting. EC2 and IMDS are
//! eventually consistent (EC2 developer guide, "Eventual consistency"), and every reader here sees *some* former truth,
//! never a mixture.
//!
//! Invariant: with a lag of zero the newest version is seen. Only versions that a reader with the longest lag (`keep`) can
//! still see are kept; what has outlived them counts as seen by everybody, also when the lag is raised later. While nobody
//! lags there is one version, changed in place.
//!
//! Worked example: made at 1 s, changed at 5 s, lag 3 s: unseen until 4 s, then the first version, from 8 s the second.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Version<T> {
    /// `None`: seen by everybody.
    since: Option<Duration>,
    /// `None`: the thing is gone.
    value: Option<T>,
}

/// The versions of one thing, oldest first; never empty.
#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    newest: Version<T>,
    older: VecDeque<Version<T>>,
}

impl<T> History<T> {
    /// The thing as it is made. `since` is `None` for one that was there from the start.
    pub(crate) fn new(since: Option<Duration>, value: T) -> Self {
        Self { newest: Version { since, value: Some(value) }, older: VecDeque::new() }
    }

    /// What it is; `None`: it is gone.
    pub(crate) fn now(&self) -> Option<&T> {
        self.newest.value.as_ref()
    }

    /// Changes it at this time. `keep` is the longest lag there is.
    pub(crate) fn change(&mut self, at: Duration, keep: Duration, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        if self.newest.value.is_none() {
            return;
        }
        if !keep.is_zero() {
            let next = Version { since: Some(at), value: self.newest.value.clone() };
            self.push(next, at, keep);
        }
        if let Some(value) = &mut self.newest.value {
            change(value);
        }
    }

    /// It is gone from this time on.
    pub(crate) fn end(&mut self, at: Duration, keep: Duration) {
        self.push(Version { since: Some(at), value: None }, at, keep);
    }

    /// What a reader with this lag sees.
    pub(crate) fn seen(&self, now: Duration, lag: Duration) -> Option<&T> {
        let is_seen = |version: &&Version<T>| version.since.is_none_or(|since| since + lag <= now);
        let mut all = std::iter::once(&self.newest).chain(self.older.iter().rev());
        all.find(is_seen).and_then(|version| version.value.as_ref())
    }

    fn push(&mut self, version: Version<T>, now: Duration, keep: Duration) {
        self.older.push_back(std::mem::replace(&mut self.newest, version));
        let outlived = |next: Option<&Version<T>>| next.and_then(|n| n.since).is_some_and(|since| since + keep <= now);
        while outlived(self.older.get(1).or(Some(&self.newest))) {
            self.older.pop_front();
            let Some(front) = self.older.front_mut() else {
                self.newest.since = None;
                return;
            };
            front.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(3_600);

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_reader_sees_the_newest_version_that_is_older_than_its_lag() {
        let mut history = History::new(Some(second(1)), "made");
        history.change(second(5), KEEP, |value| *value = "changed");
        history.end(second(9), KEEP);
        let lag = second(3);
        for (now, seen) in [(3, None), (4, Some("made")), (7, Some("made")), (8, Some("changed")), (12, None)] {
            assert_eq!(history.seen(second(now), lag).copied(), seen, "at {now} s");
        }
        assert_eq!(history.seen(second(5), Duration::ZERO), Some(&"changed"));
        assert_eq!(history.now(), None);
    }

    #[test]
    fn what_was_there_from_the_start_is_seen_at_once() {
        assert_eq!(History::new(None, 1).seen(Duration::ZERO, KEEP), Some(&1));
    }

    #[test]
    fn versions_that_nobody_can_see_any_more_are_not_kept() {
        let mut history = History::new(Some(second(0)), 0);
        for at in 1..1_000 {
            history.change(second(at), second(10), |value| *value = at);
        }
        assert_eq!(history.older.len(), 10);
        assert_eq!(history.seen(second(999), second(10)), Some(&989));
        assert_eq!(history.seen(second(999), second(500)), Some(&989), "a lag raised later finds the oldest one kept");
    }

    #[test]
    fn while_nobody_lags_there_is_one_version() {
        let mut history = History::new(Some(second(1)), 0);
        history.change(second(5), Duration::ZERO, |value| *value = 1);
        assert_eq!((history.now(), history.older.len()), (Some(&1), 0));
        history.end(second(6), Duration::ZERO);
        assert_eq!((history.now(), history.older.len()), (None, 0));
    }
}
