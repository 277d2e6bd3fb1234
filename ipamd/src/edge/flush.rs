// SPDX-License-Identifier: Apache-2.0
//! The flush edge: makes the kernel forget addresses, on a thread of its own, for a table of a hundred thousand connections
//! takes it a tenth of a second and more, which the set-up of an ENI should not wait for.
//!
//! Decides nothing. It touches connections and neighbours of addresses that nobody has; everything else in the kernel is the
//! host edge's.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use datapath::apply::conntrack::{self, Way};
use datapath::apply::{ApplyError, neighbours};
use ipamd_core::BootTime;
use ipamd_core::action::{Action, ActionKind};
use ipamd_core::event::Outcome;

use crate::clock;
use crate::edge::host;
use crate::edge::runner::log_end;
use crate::inbox::Inbox;

/// The thread's letter box.
#[derive(Clone, Debug)]
pub(crate) struct Flusher(Sender<Action>);

impl Flusher {
    /// Starts the thread.
    pub(crate) fn start(inbox: Inbox) -> io::Result<Self> {
        let (sender, jobs) = channel();
        std::thread::Builder::new().name("flush".to_owned()).spawn(move || work(&jobs, &inbox))?;
        Ok(Self(sender))
    }

    pub(crate) fn run(&self, action: Action) {
        // The thread lives as long as a sender does.
        let _ = self.0.send(action);
    }
}

fn work(jobs: &Receiver<Action>, inbox: &Inbox) {
    for action in jobs {
        let ActionKind::FlushAddresses { addresses, until } = &action.kind else { continue };
        let started = clock::boot();
        let addresses = addresses.iter().copied().map(IpAddr::from).collect();
        let outcome = match flush(&addresses, *until) {
            Ok((way, neighbours)) => {
                tracing::debug!(
                    action = action.id.0,
                    addresses = addresses.len(),
                    ?way,
                    neighbours,
                    "addresses flushed"
                );
                Outcome::Done
            }
            Err(error) => Outcome::Failed(host::failure(&error)),
        };
        log_end(action.id, &outcome, started);
        inbox.ended(action.id, outcome);
    }
}

/// Begins no delete after `until`: the addresses may be somebody's then.
fn flush(addresses: &BTreeSet<IpAddr>, until: BootTime) -> Result<(Way, usize), ApplyError> {
    let may_go_on = || clock::boot() < until;
    if !may_go_on() {
        return Err(ApplyError::OutOfTime { doing: "ip neigh del".to_owned() });
    }
    // Neighbours first: they cost nothing, and go even where connections cannot.
    let neighbours = neighbours::forget(addresses)?;
    Ok((conntrack::forget(addresses, &may_go_on)?, neighbours))
}
