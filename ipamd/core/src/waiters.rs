// SPDX-License-Identifier: Apache-2.0
//! The queue of ADDs that wait for an address: first come, first served.
//!
//! Keeps who waits, for which sandbox and until when; it does not decide who is served or refused (the core does). One entry
//! a key: a second ADD for a key that waits already joins it, and both get the same answer. Every call leaves the queue
//! exactly once: served, refused, or abandoned.

use std::collections::VecDeque;

use crate::ids::{AllocationKey, BootTime, PodRef, RequestId};

/// One sandbox that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) key: AllocationKey,
    pub(crate) pod: PodRef,
    pub(crate) since: BootTime,
    /// The calls that wait for it, never empty.
    pub(crate) calls: Vec<Call>,
}

/// One ADD call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) request: RequestId,
    pub(crate) deadline: BootTime,
}

impl Waiter {
    /// When the last of its calls must be answered.
    pub(crate) fn deadline(&self) -> BootTime {
        self.calls.iter().map(|call| call.deadline).max().unwrap_or_default()
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<Waiter>,
}

impl Waiters {
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// First come first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.iter()
    }

    /// Puts a call at the end, or to the sandbox's call that waits already.
    pub(crate) fn join(&mut self, key: AllocationKey, pod: PodRef, call: Call, now: BootTime) {
        match self.queue.iter_mut().find(|waiter| waiter.key == key) {
            Some(waiter) => waiter.calls.push(call),
            None => self.queue.push_back(Waiter { key, pod, since: now, calls: vec![call] }),
        }
    }

    /// Takes a sandbox out, with all its calls.
    pub(crate) fn take(&mut self, key: &AllocationKey) -> Option<Waiter> {
        let index = self.queue.iter().position(|waiter| waiter.key == *key)?;
        self.queue.remove(index)
    }

    /// Takes one call out; its sandbox with it when that was the last.
    pub(crate) fn abandon(&mut self, request: RequestId) -> bool {
        let before: usize = self.queue.iter().map(|waiter| waiter.calls.len()).sum();
        for waiter in &mut self.queue {
            waiter.calls.retain(|call| call.request != request);
        }
        self.queue.retain(|waiter| !waiter.calls.is_empty());
        self.queue.iter().map(|waiter| waiter.calls.len()).sum::<usize>() < before
    }

    /// Takes out the calls whose deadline has come.
    pub(crate) fn take_expired(&mut self, now: BootTime) -> Vec<Call> {
        let mut expired = Vec::new();
        for waiter in &mut self.queue {
            waiter.calls.retain(|call| {
                let over = call.deadline <= now;
                if over {
                    expired.push(*call);
                }
                !over
            });
        }
        self.queue.retain(|waiter| !waiter.calls.is_empty());
        expired
    }

    /// When the next call must be answered.
    pub(crate) fn next_deadline(&self) -> Option<BootTime> {
        self.queue.iter().flat_map(|waiter| waiter.calls.iter().map(|call| call.deadline)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(container: &str) -> AllocationKey {
        AllocationKey { network: "aws-cni".into(), container_id: container.into(), ifname: "eth0".into() }
    }

    fn call(request: u64, seconds: u64) -> Call {
        Call { request: RequestId(request), deadline: BootTime(Duration::from_secs(seconds)) }
    }

    #[test]
    fn a_second_call_for_a_waiting_sandbox_joins_it_in_its_place() {
        let mut waiters = Waiters::default();
        waiters.join(key("a"), PodRef::default(), call(1, 20), BootTime::default());
        waiters.join(key("b"), PodRef::default(), call(2, 20), BootTime::default());
        waiters.join(key("a"), PodRef::default(), call(3, 30), BootTime::default());
        let order: Vec<&str> = waiters.iter().map(|waiter| waiter.key.container_id.as_str()).collect();
        assert_eq!(order, ["a", "b"]);
        assert_eq!(waiters.take(&key("a")).expect("waits").calls, [call(1, 20), call(3, 30)]);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn each_call_leaves_once_by_its_own_deadline_or_when_abandoned() {
        let mut waiters = Waiters::default();
        waiters.join(key("a"), PodRef::default(), call(1, 20), BootTime::default());
        waiters.join(key("a"), PodRef::default(), call(2, 30), BootTime::default());
        assert_eq!(waiters.next_deadline(), Some(BootTime(Duration::from_secs(20))));
        assert_eq!(waiters.take_expired(BootTime(Duration::from_secs(20))), [call(1, 20)]);
        assert!(waiters.abandon(RequestId(2)));
        assert!(!waiters.abandon(RequestId(2)));
        assert!(waiters.is_empty());
    }
}
