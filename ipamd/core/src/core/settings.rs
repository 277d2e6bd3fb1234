// SPDX-License-Identifier: Apache-2.0
//! Other settings while everything runs (`Event::SettingsChanged`).
//!
//! The core reads its configuration where it decides, so the next decision is by the new values, and nothing has to be told twice. Here
//! is only what remembers something of the old ones. What becomes of what is there: the head of `config::live`.

use crate::config::LiveSettings;

use super::{Core, Turn};

impl Core {
    pub(super) fn settings_changed(&mut self, turn: &mut Turn, live: LiveSettings) {
        let before = self.config.live();
        if before == live {
            return;
        }
        self.config.take_live(live);
        // What it keeps of the adaptive policy depends on whether that is in force.
        self.touch();
        let now = &self.config;
        if before.leaked_eni_age != now.leaked_eni_age {
            self.sweep.begin_anew();
        }
        let retagged = before.additional_eni_tags != now.additional_eni_tags;
        let by_target = before.warm != now.warm || before.address_mode != now.address_mode;
        if before.address_mode != now.address_mode {
            self.tell_mode(turn);
        }
        if retagged {
            let (views, now) = (std::mem::take(&mut self.described), turn.boot());
            views.values().for_each(|view| self.note_upkeep(view, now));
            self.described = views;
        }
        // It gives addresses out: that goes on while the zone is read, and nothing is excluded until that is done.
        self.zone.known |= before.subnets != self.config.subnets && self.is_serving();
        if by_target {
            // What was too much by another target has not stood yet.
            self.shrinking.rest();
        }
    }
}
