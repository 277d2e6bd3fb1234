// SPDX-License-Identifier: Apache-2.0
//! What EC2 held back of the instance's network cards, read from their driver: for a scrape when there is one, and now and then for the
//! core, which tells operators when it grows.
//!
//! Decides only when: on the host thread, when that wakes for something else (every 75 s at the latest), and not again within 30 s.
//! A list of the links and three calls a card; only ENA's driver has an answer, so elsewhere nothing is ever told. Where the reading
//! comes from is a trait, for there is no such driver in a test.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use datapath::apply::{ApplyError, ethtool};
use ipamd_core::event::Exceeded;
use ipamd_core::ids::MacAddr;
use ipamd_core::reason::ReasonCode;
use ipamd_core::{BootTime, Event};

use crate::clock;
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// Not more often.
const PERIOD: Duration = Duration::from_secs(30);

/// Reads the counters of all cards that have some, by MAC.
pub(crate) trait Cards: Debug {
    /// What was held back so far.
    fn exceeded(&self) -> Result<BTreeMap<MacAddr, Exceeded>, ApplyError>;
}

/// The kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ethtool;

impl Cards for Ethtool {
    fn exceeded(&self) -> Result<BTreeMap<MacAddr, Exceeded>, ApplyError> {
        let named = |exceeded: ethtool::Exceeded| exceeded.into_iter().map(|(of, count)| (of.name(), count)).collect();
        Ok(ethtool::exceeded()?.into_iter().map(|(mac, exceeded)| (MacAddr(mac.0), named(exceeded))).collect())
    }
}

/// When the next reading for the core is due.
#[derive(Debug, Default)]
pub(crate) struct Allowances<C = Ethtool> {
    cards: C,
    due: BootTime,
    /// A failure was told; the next is not.
    failed: bool,
}

impl<C: Cards> Allowances<C> {
    /// Reads, when it is time.
    pub(crate) fn look(&mut self, inbox: &Inbox) {
        let now = clock::boot();
        if self.due <= now {
            self.due = now + PERIOD;
            self.read(inbox);
        }
    }

    fn read(&mut self, inbox: &Inbox) {
        match self.cards.exceeded() {
            Ok(found) => {
                self.failed = false;
                if !found.is_empty() {
                    inbox.event(Event::AllowancesCounted(found));
                }
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                tracing::warn!(
                    code = %ReasonCode::KernelUnreadable, error = %chain(&error),
                    "it cannot be told what EC2 held back of the network cards, trying on"
                );
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::inbox::Input;

    /// Readings that are told one after the other.
    #[derive(Debug, Default)]
    struct Told(RefCell<Vec<Result<BTreeMap<MacAddr, Exceeded>, ApplyError>>>);

    impl Cards for Told {
        fn exceeded(&self) -> Result<BTreeMap<MacAddr, Exceeded>, ApplyError> {
            self.0.borrow_mut().remove(0)
        }
    }

    #[test]
    fn what_is_read_reaches_the_core_and_no_counters_are_no_event() {
        let found = BTreeMap::from([(MacAddr([2, 0, 0, 0, 0, 1]), Exceeded::from([("pps", 7)]))]);
        let failure = || Err(ApplyError::Invalid { reason: "no".to_owned() });
        let cards = Told(RefCell::new(vec![Ok(BTreeMap::new()), failure(), failure(), Ok(found.clone())]));
        let mut allowances = Allowances { cards, due: BootTime::default(), failed: false };
        let (inbox, mut receiver) = Inbox::new();
        for is_failed in [false, true, true] {
            allowances.read(&inbox);
            assert_eq!(allowances.failed, is_failed);
            assert!(receiver.try_recv().is_err(), "nothing was counted");
        }
        allowances.read(&inbox);
        assert!(!allowances.failed);
        let Ok(Input::Event(Event::AllowancesCounted(told))) = receiver.try_recv() else { panic!("no event") };
        assert_eq!(told, found);
    }

    #[test]
    fn it_is_not_read_again_at_once() {
        let cards = Told(RefCell::new(vec![Ok(BTreeMap::new())]));
        let mut allowances = Allowances { cards, due: BootTime::default(), failed: false };
        let (inbox, _receiver) = Inbox::new();
        allowances.look(&inbox);
        // There is no second reading to be had.
        allowances.look(&inbox);
    }

    #[test]
    fn the_kernel_is_asked_for_real_and_has_no_such_card_here() {
        assert!(Ethtool.exceeded().is_ok_and(|found| found.values().all(|exceeded| !exceeded.is_empty())));
    }
}
