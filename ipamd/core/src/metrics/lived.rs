// SPDX-License-Identifier: Apache-2.0
//! How long ENIs were in each state, seen from outside: what one look at the state shows that the look before did not.
//!
//! An ENI that is gone has left its last state. A state that was entered and left between two looks is not seen; a look comes with
//! every event.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::BootTime;

/// Most that is kept for who asks; more is not remembered.
const MOST: usize = 256;

/// ENIs as they were last seen.
#[derive(Clone, Debug, Default)]
pub struct Lived {
    /// By ENI, or by the token of one that is asked for: its state, and since when.
    seen: BTreeMap<String, (&'static str, BootTime)>,
    left: Vec<(&'static str, Duration)>,
}

impl Lived {
    /// Takes a look. Nothing is allocated while nothing is otherwise.
    pub(crate) fn look<'a>(
        &mut self,
        now: BootTime,
        enis: impl Iterator<Item = (&'a str, &'static str, BootTime)> + Clone,
    ) {
        let same = |(id, state, since): (&str, &'static str, BootTime)| self.seen.get(id) == Some(&(state, since));
        if enis.clone().count() == self.seen.len() && enis.clone().all(same) {
            return;
        }
        let found: BTreeMap<String, (&'static str, BootTime)> =
            enis.map(|(id, state, since)| (id.to_owned(), (state, since))).collect();
        for (id, (state, since)) in std::mem::take(&mut self.seen) {
            if found.get(&id) != Some(&(state, since)) && self.left.len() < MOST {
                self.left.push((state, now.since(since)));
            }
        }
        self.seen = found;
    }

    /// The states that were left since this was last asked, and how long they took.
    pub fn take(&mut self) -> Vec<(&'static str, Duration)> {
        std::mem::take(&mut self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn looked(lived: &mut Lived, now: u64, enis: &[(&'static str, &'static str, u64)]) -> Vec<(&'static str, u64)> {
        lived.look(at(now), enis.iter().map(|(id, state, since)| (*id, *state, at(*since))));
        lived.take().into_iter().map(|(state, time)| (state, time.as_secs())).collect()
    }

    #[test]
    fn a_state_is_told_once_when_it_is_left_with_its_time() {
        let mut lived = Lived::default();
        assert_eq!(looked(&mut lived, 1, &[("a", "requested", 1)]), []);
        assert_eq!(looked(&mut lived, 2, &[("a", "requested", 1)]), []);
        assert_eq!(looked(&mut lived, 4, &[("eni-1", "attaching", 4), ("eni-2", "ready", 0)]), [("requested", 3)]);
        assert_eq!(looked(&mut lived, 6, &[("eni-1", "ready", 6), ("eni-2", "ready", 0)]), [("attaching", 2)]);
        assert_eq!(looked(&mut lived, 9, &[("eni-2", "ready", 0)]), [("ready", 3)]);
        assert_eq!(looked(&mut lived, 9, &[]), [("ready", 9)]);
    }

    #[test]
    fn a_state_that_is_entered_anew_was_left() {
        let mut lived = Lived::default();
        looked(&mut lived, 0, &[("eni-1", "ready", 0)]);
        assert_eq!(looked(&mut lived, 5, &[("eni-1", "ready", 5)]), [("ready", 5)]);
    }
}
