// SPDX-License-Identifier: Apache-2.0
//! What the host thread does besides the core's actions, when it is awake: on an idle node the core's look at the kernel wakes it once a
//! minute, and then it does all of this.
//!
//! | what | when |
//! |---|---|
//! | the dead link group (host ends of detached pods) is deleted | after [`APART`], at the latest after [`LATEST`] |
//! | tracked connections are counted ([`Tracked`]), and what EC2 held back ([`Allowances`]) | whenever it is awake, after 30 s |
//! | host ports without a live pod are closed, lost ones opened | at the start; [`PORTS_PERIOD`] after host veths came or went; so often while a living pod has some |
//!
//! A sandbox that ends takes its host veth along, so that is told by the kernel, and a node without host ports looks for none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapath::apply;
use ipamd_core::config::Config;
use ipamd_core::ids::BootTime;
use ipamd_core::reason::ReasonCode;

use super::ports;
use crate::clock;
use crate::edge::allowances::{Allowances, Ethtool};
use crate::edge::tracked::Tracked;
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// From one deletion of the dead link group to the next, when the thread is awake anyway. Deleting links waits for a grace period of the
/// kernel, so it is done in groups and never in an ADD or DEL.
const APART: Duration = Duration::from_secs(45);
/// When it is not: it wakes for that.
const LATEST: Duration = Duration::from_secs(75);

/// How long host ports without a live pod stay open at most: a plugin was killed, or a sandbox ended without a DEL.
const PORTS_PERIOD: Duration = Duration::from_secs(20);

/// What is due when.
#[derive(Debug)]
pub(super) struct Chores {
    collected: BootTime,
    /// `None`: nobody has any.
    ports: Option<BootTime>,
    /// Lowered before host ports are looked at: who changes a link from then on says it again.
    told: Arc<AtomicBool>,
    tracked: Tracked,
    allowances: Allowances<Ethtool>,
}

impl Chores {
    pub(super) fn new(told: Arc<AtomicBool>) -> Self {
        let now = clock::boot();
        Self { collected: now, ports: Some(now), told, tracked: Tracked::default(), allowances: Allowances::default() }
    }

    /// When the thread has to wake for them at the latest.
    pub(super) fn due(&self) -> BootTime {
        let garbage = self.collected + LATEST;
        self.ports.map_or(garbage, |ports| ports.min(garbage))
    }

    /// Host veths came or went: not looked at at once, for there will be more.
    pub(super) fn links_changed(&mut self) {
        self.ports.get_or_insert(clock::boot() + PORTS_PERIOD);
    }

    /// Does what is due.
    pub(super) fn work(&mut self, config: &Config, inbox: &Inbox) {
        self.tracked.look(inbox);
        self.allowances.look(inbox);
        if self.ports.is_some_and(|due| due <= clock::boot()) {
            // An ADD writes its ports down after it has made its link: one that is between the two is seen the next time.
            let has_changed = self.told.swap(false, Ordering::SeqCst);
            let is_some = settle_ports(config);
            self.ports = (is_some || has_changed).then(|| clock::boot() + PORTS_PERIOD);
        }
        if self.collected + APART <= clock::boot() {
            self.collected = clock::boot();
            collect_garbage();
        }
    }
}

/// Whether there is anything to look at again.
fn settle_ports(config: &Config) -> bool {
    match ports(config) {
        Ok(settled) => {
            if settled.closed > 0 || !settled.restored.is_empty() || !settled.failures.is_empty() {
                tracing::info!(
                    ?settled,
                    "host ports: what pods that are gone had is closed, what was lost is open again"
                );
            }
            settled.pods > 0
        }
        Err(error) => {
            tracing::warn!(
                code = %ReasonCode::HostPortsUnreadable, error = %chain(&error),
                "host ports cannot be looked at, trying again in 20 s"
            );
            true
        }
    }
}

fn collect_garbage() {
    if let Err(error) = apply::garbage::delete_dead_group() {
        tracing::warn!(
            code = %ReasonCode::VethsNotCollected, error = %chain(&error),
            "host ends of detached pods cannot be deleted, trying again in a minute"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ports_are_looked_at_a_while_after_links_changed_and_not_while_nobody_has_any() {
        let mut chores = Chores::new(Arc::default());
        assert!(chores.due() <= clock::boot(), "once at the start");
        chores.ports = None;
        assert_eq!(chores.due(), chores.collected + LATEST);
        let now = clock::boot();
        chores.links_changed();
        let due = chores.due();
        assert!(due >= now + PORTS_PERIOD && due < now + LATEST);
        chores.links_changed();
        assert_eq!(chores.due(), due, "not later for further links");
    }
}
