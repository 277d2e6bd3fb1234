// SPDX-License-Identifier: Apache-2.0
//! The runtime's witness: which sandboxes are ready, where the runtime may be asked (`ENID_RUNTIME_ENDPOINT`).
//!
//! It speaks only of allocations that the kernel shows nothing of ([`super::kernel`]); what the kernel has is never released on its
//! word. It is asked when an answer is needed, never otherwise.
//!
//! | the runtime | host veth gone for 60 s | taken over without pod name, and nothing in the kernel |
//! |---|---|---|
//! | is not to be asked | released | stays: only a DEL ends it |
//! | has the sandbox ready | stays: somebody took a living pod's link | stays |
//! | has none, or a stopped one | released | released, when the list is so much newer that it was made by then |
//! | does not answer | waits, for ten minutes since its last answer at most: then as if it was not to be asked | stays |
//!
//! A runtime lists a sandbox only when its network is there, so a list that lacks one proves nothing of an ADD under way: its
//! allocation is younger than the minute that it would have to be without link, or than [`MADE_WITHIN`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::action::ActionKind;
use crate::event::{Failure, Outcome};
use crate::ids::{AllocationKey, BootTime};
use crate::reads::Read;
use crate::reason::ReasonCode;

use super::ended::unexpected;
use super::kernel::pod_name;
use super::state::{MADE_WITHIN, Purpose};
use super::{Core, Turn};

/// So old a list still decides of an allocation whose link is gone.
const LIST_LASTS: Duration = Duration::from_secs(60);
/// So old a list still decides of what the kernel cannot testify of: these stay for days.
const LIST_LASTS_LONG: Duration = Duration::from_secs(600);
/// A runtime that does not answer holds an address back for so long.
const SILENT_AFTER: Duration = Duration::from_secs(600);

/// What the runtime listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sandboxes {
    pub(crate) read: Read,
    /// Ids of those that were ready.
    ready: BTreeSet<String>,
    /// An answer is needed that is newer than the last.
    wanted: bool,
    /// Allocations without link that are kept for its word.
    spared: BTreeSet<Ipv4Addr>,
}

/// What the runtime says of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It may not be asked.
    NotAsked,
    /// Nothing new enough yet; it is asked.
    Silent,
    /// There, and not stopped.
    Ready,
    /// Not in the list that was begun then.
    Gone(BootTime),
}

impl Core {
    /// Asks for the list when someone waits for it.
    pub(super) fn drive_sandboxes(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if !self.sandboxes.wanted || self.sandboxes.read.running.is_some() {
            return;
        }
        if now < self.sandboxes.read.not_before {
            self.alarm(self.sandboxes.read.not_before);
            return;
        }
        let id = self.start(turn, Purpose::Sandboxes, ActionKind::ListSandboxes);
        self.sandboxes.read.running = Some((id, now));
    }

    pub(super) fn sandboxes_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        ended: (BootTime, Result<Outcome, Failure>),
    ) {
        let (began, outcome) = ended;
        let failure = match outcome {
            Ok(Outcome::SandboxesListed { ready }) => {
                self.sandboxes.read.succeeded(began, turn.boot());
                self.sandboxes.ready = ready;
                self.sandboxes.wanted = false;
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.read_failed(turn, what, failure, |core| &mut core.sandboxes.read);
    }

    fn word_of(&mut self, key: &AllocationKey, now: BootTime, lasts: Duration) -> Word {
        if self.config.runtime.is_none() {
            return Word::NotAsked;
        }
        match self.sandboxes.read.last.filter(|began| now.since(*began) <= lasts) {
            Some(_) if self.sandboxes.ready.contains(&key.container_id) => Word::Ready,
            Some(began) => Word::Gone(began),
            None => {
                self.sandboxes.wanted = true;
                Word::Silent
            }
        }
    }

    /// An allocation whose host veth has been gone since `since`, long enough; `now`: when the kernel was seen without it.
    pub(super) fn end_orphan(&mut self, turn: &mut Turn, address: Ipv4Addr, since: BootTime, now: BootTime) {
        let Some(key) = self.store.allocation(address).map(|allocation| allocation.key.clone()) else { return };
        let gone = now.since(since);
        // Also of one that it has spoken of before.
        let unheard = now.since(self.sandboxes.read.last.map_or(since, |last| last.max(since)));
        let word = self.word_of(&key, now, LIST_LASTS);
        let addition = match word {
            Word::NotAsked => "",
            Word::Gone(_) => ", and the runtime has no such sandbox",
            Word::Silent if unheard >= SILENT_AFTER => ", and the runtime has not answered for ten minutes",
            Word::Silent => return,
            Word::Ready => {
                if self.sandboxes.spared.insert(address) {
                    let text = format!(
                        "{address} of {key} stays: its host veth has been gone for {} s, but the runtime has the sandbox: \
                         something removed the link of a living pod, which must be started anew",
                        gone.as_secs()
                    );
                    turn.warn(ReasonCode::SandboxUnplugged, text);
                }
                return;
            }
        };
        self.release_orphan(turn, address, &format!("its host veth has been gone for {} s{addition}", gone.as_secs()));
    }

    /// What no kernel object can testify of, and none does; `now`: when the kernel was seen without it.
    pub(super) fn end_unwitnessed(&mut self, turn: &mut Turn, address: Ipv4Addr, now: BootTime) {
        let Some(allocation) = self.store.allocation(address) else { return };
        let (key, granted_at) = (allocation.key.clone(), allocation.granted_at);
        if let Word::Gone(began) = self.word_of(&key, now, LIST_LASTS_LONG)
            && began >= granted_at
            && began.since(granted_at) >= MADE_WITHIN
        {
            self.release_orphan(turn, address, "the runtime has no such sandbox");
        }
    }

    fn release_orphan(&mut self, turn: &mut Turn, address: Ipv4Addr, why: &str) {
        self.sandboxes.spared.remove(&address);
        if let Some(allocation) = self.store.release(address, turn.boot(), self.config.cooldown) {
            let pod = pod_name(&allocation.pod);
            let text = format!("{address} of {} ({pod}) is released: {why}", allocation.key);
            turn.warn(ReasonCode::OrphanReleased, text);
            self.look_soon(turn.boot());
        }
    }

    /// The kernel has these again, or they were released by a DEL: nothing is to be said of them any more.
    pub(super) fn forget_spared(&mut self, missing: &BTreeSet<Ipv4Addr>) {
        self.sandboxes.spared.retain(|address| missing.contains(address));
    }
}
