// SPDX-License-Identifier: Apache-2.0
//! What will happen, in order: by time, and what happens at one time in the order in which it was put in.
//!
//! Invariant: time never runs backwards; the same puts give the same order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ipamd_core::BootTime;

#[derive(Debug)]
struct Entry<T> {
    at: BootTime,
    sequence: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// The queue, and with it the clock.
#[derive(Debug)]
pub struct Queue<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
    now: BootTime,
}

impl<T> Queue<T> {
    /// Nothing, at this time.
    #[must_use]
    pub fn new(now: BootTime) -> Self {
        Self { entries: BinaryHeap::new(), sequence: 0, now }
    }

    /// The time of what was taken last.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.now
    }

    /// Puts something in; what is due already happens now.
    pub fn put(&mut self, at: BootTime, what: T) {
        self.sequence += 1;
        self.entries.push(Reverse(Entry { at: at.max(self.now), sequence: self.sequence, what }));
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_time(&self) -> Option<BootTime> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next thing, and carries the clock to it.
    pub fn take(&mut self) -> Option<T> {
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }

    /// Lets time pass in which nothing happens. Not beyond the next thing.
    pub fn wait_until(&mut self, at: BootTime) {
        let limit = self.next_time().unwrap_or(at);
        self.now = self.now.max(at.min(limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_they_were_put_in() {
        let at = |seconds| BootTime(Duration::from_secs(seconds));
        let mut queue = Queue::new(at(10));
        for (time, what) in [(12, 'c'), (11, 'a'), (12, 'd'), (11, 'b'), (5, 'x')] {
            queue.put(at(time), what);
        }
        let mut order = Vec::new();
        while let Some(what) = queue.take() {
            order.push((queue.now(), what));
        }
        assert_eq!(order, [(at(10), 'x'), (at(11), 'a'), (at(11), 'b'), (at(12), 'c'), (at(12), 'd')]);
    }
}
