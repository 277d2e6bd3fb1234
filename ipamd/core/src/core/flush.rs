// SPDX-License-Identifier: Apache-2.0
//! Addresses without a past: before one is given to another pod, the kernel forgets the connections and neighbours of the
//! one before. Otherwise a SYN repeated to a Service follows the NAT of its first try, to whoever has the address now.
//!
//! ```text
//!   release ──► Cooling ───── until ────► Flushing ── flushed ──► Free
//!                  └─ flushed once,          └── not in 10 s: told, and Free all the same
//!                     1 s after: nobody
//!                     waits for it
//! ```
//! An address that EC2 gave us is flushed, too, once its ENI is in service and before its first use: it may have been a pod's on another
//! node a moment ago, and pods of this one may have tried it since, through a Service or not. All that came together are flushed
//! together, so an ADD that waits for one waits for one walk over the table. After a restart the free ones that nobody had yet are
//! flushed once more; nothing says when they came. Those that pods have are not. That flush begins at once, is of all of them, and
//! until it has ended an ADD that finds no address but such waits for it: with more than four, for one list of the table (170 to 250 ms
//! at 100,000 connections).
//!
//! The flush that counts is the second one, begun after the cooldown: while an address cools, clients still try it. With a
//! cooldown of zero it is the only one. One flush at a time, of all addresses that are due: what comes while it runs goes
//! together into the next. No DEL waits for it, and the first one is not made beside it: [`GATHERS`].
//!
//! A flush that fails is tried again as any call to the kernel, 0.5 s later at first (of what still cools, 1 s). One that cannot succeed (no ctnetlink in
//! the kernel, no right to use it) must not block the pool for ever: after [`GIVE_UP_AFTER`] the address is used as if there
//! were no flush, and that is told with the code `AddressNotFlushed`. An ADD waits 19.5 s, so that one that waits for such an
//! address still gets it. It is not used while a flush of it may still be at work, which would hit the next pod's connections:
//! each flush is told until when it may delete ([`FLUSH_WITHIN`] from its start), and an address that it has is not given up
//! before that time, and [`FLUSH_MARGIN`], have passed, or the flush has ended. The journal says which addresses were flushed; the others are flushed anew after a restart.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::action::ActionKind;
use crate::event::{Failure, FailureClass, Outcome};
use crate::ids::BootTime;
use crate::reason::{NoticeLevel, ReasonCode};

use super::ended::unexpected;
use super::state::Purpose;
use super::{Core, Turn};

/// An address whose flush has not succeeded for so long is used all the same.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// A flush begins no delete later than this after its start. A table of 100,000 connections takes it 0.3 s.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The first flush of what was released begins so long after the first of the DELs, or after the flush that ran then. It is of all that
/// was released meanwhile, and does not take the processor from the DELs of a burst: an address is four walks over the table, 0.2 ms each where that is small.
pub(crate) const GATHERS: Duration = Duration::from_secs(1);

/// A delete that was begun has ended so long after: one walk over the table (20 to 30 ms at 100,000 connections), on a busy node.
const FLUSH_MARGIN: Duration = Duration::from_secs(1);

/// Flushes of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flushes {
    running: Option<Running>,
    /// Failures in a row.
    attempts: u32,
    /// After a failure: not before then.
    not_before: BootTime,
    /// When what was released is flushed, if nothing is earlier; `None`: nothing was.
    gathered: Option<BootTime>,
}

#[derive(Clone, Debug)]
struct Running {
    began: BootTime,
    addresses: Vec<Ipv4Addr>,
}

impl Running {
    /// From when on it can hit nobody any more, should it never end; `None`: it is not about this address.
    fn harmless_at(&self, address: Ipv4Addr) -> Option<BootTime> {
        self.addresses.binary_search(&address).is_ok().then_some(self.began + FLUSH_WITHIN + FLUSH_MARGIN)
    }
}

impl Core {
    /// Addresses that were waited for long enough are free.
    pub(super) fn give_flushes_up(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let over: Vec<Ipv4Addr> = self.waits().filter(|(_, end)| *end <= now).map(|(address, _)| address).collect();
        if let Some(first) = over.first() {
            let text = format!(
                "connections of {} addresses ({first} is the first) could not be flushed for {} s: they are used all the same, \
                 and what was meant for their last pods may reach the next ones",
                over.len(),
                GIVE_UP_AFTER.as_secs()
            );
            turn.notice(NoticeLevel::Warn, Some(ReasonCode::AddressNotFlushed), text);
        }
        over.into_iter().for_each(|address| self.store.flushed(address));
    }

    /// Addresses that wait for their flush, and when each is given up.
    fn waits(&self) -> impl Iterator<Item = (Ipv4Addr, BootTime)> {
        let fresh = self.store.fresh().filter_map(|(address, since, _)| Some((address, since?)));
        self.store.flushing().chain(fresh).map(|(address, since)| {
            let harmless = self.flushes.running.as_ref().and_then(|running| running.harmless_at(address));
            (address, harmless.unwrap_or_default().max(since + GIVE_UP_AFTER))
        })
    }

    pub(super) fn drive_flushes(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let newcomers = self.newcomers();
        // They wait from now on, also for a flush that cannot begin yet: one that hangs, or fails again and again, keeps them no longer.
        newcomers.iter().for_each(|address| self.store.await_flush(*address, now));
        if let Some(end) = self.waits().map(|(_, end)| end).min() {
            self.alarm(end);
        }
        if self.flushes.running.is_some()
            || !(self.store.is_waited_for() || self.has_gathered(now) || !newcomers.is_empty())
        {
            return;
        }
        if now < self.flushes.not_before {
            self.alarm(self.flushes.not_before);
            return;
        }
        let mut addresses: Vec<Ipv4Addr> = self.store.flushing().map(|(address, _)| address).collect();
        addresses.extend(self.store.take_released());
        self.flushes.gathered = None;
        addresses.extend(newcomers);
        addresses.sort_unstable();
        self.flushes.running = Some(Running { began: now, addresses: addresses.clone() });
        let purpose = Purpose::Flush { addresses: addresses.len() };
        self.start(turn, purpose, ActionKind::FlushAddresses { addresses, until: now + FLUSH_WITHIN });
    }

    /// Whether what was released has waited for more of it long enough; rings when it has.
    fn has_gathered(&mut self, now: BootTime) -> bool {
        if !self.store.has_released() {
            self.flushes.gathered = None;
            return false;
        }
        let at = *self.flushes.gathered.get_or_insert(now + GATHERS);
        if now < at {
            self.alarm(at);
        }
        now >= at
    }

    /// Addresses that nobody has had from us yet, of ENIs in service.
    pub(super) fn newcomers(&self) -> Vec<Ipv4Addr> {
        let serves = |entry: &crate::store::Address| {
            entry.eni.as_ref().and_then(|id| self.enis.get(id)).is_some_and(crate::lifecycle::Eni::gives_out)
        };
        self.store.fresh().filter(|(_, _, entry)| serves(entry)).map(|(address, _, _)| address).collect()
    }

    pub(super) fn flush_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        let Some(Running { began, addresses }) = self.flushes.running.take() else { return };
        let failure = match outcome {
            Ok(Outcome::Done) => {
                self.flushes.attempts = 0;
                self.flushed(&addresses, began);
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        addresses.into_iter().for_each(|address| self.store.put_back_released(address));
        if failure.class == FailureClass::Transient {
            // Handed back unrun: the journal could not be written. Nothing is given out meanwhile either.
            self.flushes.not_before = turn.boot() + failure.retry_after.unwrap_or_default();
            self.store.wait_anew(turn.boot());
            return;
        }
        self.flushes.attempts += 1;
        self.flushes.not_before = self.failed(turn, what, &failure, self.flushes.attempts);
    }

    /// A flush counts for the addresses that had ended cooling when it began.
    fn flushed(&mut self, addresses: &[Ipv4Addr], began: BootTime) {
        let fresh = self.store.fresh().filter_map(|(address, since, _)| Some((address, since?)));
        let waiting = self.store.flushing().chain(fresh).filter(|(_, since)| *since <= began);
        let waiting: Vec<Ipv4Addr> = waiting.map(|(address, _)| address).collect();
        for address in waiting.into_iter().filter(|address| addresses.binary_search(address).is_ok()) {
            self.store.flushed(address);
        }
    }
}
