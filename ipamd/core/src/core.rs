// SPDX-License-Identifier: Apache-2.0
//! The state machine.

use crate::action::Effects;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::event::Event;
use crate::ids::{BootTime, Now};
use crate::restore::Restored;
use crate::snapshot::Snapshot;

/// The pure core: owned by the driver, fed with events, never blocking.
#[derive(Debug)]
pub struct Core {
    config: Config,
}

impl Core {
    /// Starts from what was found on disk and in the kernel. The effects are worked off like those of [`Core::handle`].
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Now) -> (Self, Effects) {
        let _ = (restored, now);
        (Self { config }, Effects::default())
    }

    /// Takes one event. `now` never runs backwards.
    pub fn handle(&mut self, event: Event, now: Now) -> Effects {
        let _ = (event, now);
        Effects::default()
    }

    /// When [`Event::Tick`] must be fed at the latest; `None`: nothing waits for time. Always later than the last `now`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        None
    }

    /// Both journal files of the present state: what must be durable when [`Effects::persist`] says so.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { reference_json: Vec::new(), own_json: Vec::new() }
    }

    /// The state for operators.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let _ = (now, &self.config);
        panic!("being written")
    }

    /// The configuration it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}
