// SPDX-License-Identifier: Apache-2.0
//! How full the kernel's table of connections is, and when operators are told.
//!
//! Decides nothing about connections, and changes none. Once from 80 % on, once below 70 %: between the two nothing is said, so
//! that a level that goes to and fro does not fill the log.

use crate::event::TrackedConnections;
use crate::reason::{NoticeLevel, ReasonCode};

use super::Turn;

/// Per cent from which on, and below which, something is said.
const FILLING: u64 = 80;
const FINE: u64 = 70;

/// What is known of the table.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// As last read.
    pub(crate) last: Option<TrackedConnections>,
    /// Operators know that it is nearly full, and not yet that it is not.
    told: bool,
}

impl Connections {
    /// `has_option`: plain traffic is left untracked already, or must not be.
    pub(super) fn counted(&mut self, turn: &mut Turn, found: TrackedConnections, has_option: bool) {
        self.last = Some(found);
        let TrackedConnections { count, max } = found;
        let is_at = |percent: u64| max > 0 && count.saturating_mul(100) >= max.saturating_mul(percent);
        if !self.told && is_at(FILLING) {
            self.told = true;
            let other = if has_option { "" } else { ", or leave traffic inside the VPC untracked (ENID_NOTRACK)" };
            let text = format!(
                "the kernel tracks {count} of {max} connections at most; when it is full new ones of everybody on the node are \
                 dropped: raise net.netfilter.nf_conntrack_max (kube-proxy: conntrack.maxPerCore){other}"
            );
            turn.notice(NoticeLevel::Warn, Some(ReasonCode::ConntrackFilling), text);
        } else if self.told && !is_at(FINE) {
            self.told = false;
            let text = format!("the kernel tracks {count} of {max} connections again, less than {FINE} %");
            turn.notice(NoticeLevel::Info, Some(ReasonCode::ConntrackFilling), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{BootTime, Now};

    /// Levels of what was said, one text a reading.
    fn told(readings: &[(u64, u64)]) -> Vec<Vec<NoticeLevel>> {
        let mut connections = Connections::default();
        let said = readings.iter().map(|(count, max)| {
            let mut turn = Turn::new(Now { boot: BootTime(Duration::ZERO), unix_nanos: 0 });
            connections.counted(&mut turn, TrackedConnections { count: *count, max: *max }, false);
            assert!(turn.fx.notices.iter().all(|notice| notice.code == Some(ReasonCode::ConntrackFilling)));
            turn.fx.notices.iter().map(|notice| notice.level).collect()
        });
        said.collect()
    }

    #[test]
    fn it_is_said_once_from_80_per_cent_on_and_once_below_70() {
        let (warn, info) = (vec![NoticeLevel::Warn], vec![NoticeLevel::Info]);
        assert_eq!(
            told(&[(79, 100), (80, 100), (99, 100), (70, 100), (85, 100), (69, 100), (10, 100), (800, 1000)]),
            [vec![], warn.clone(), vec![], vec![], vec![], info, vec![], warn]
        );
    }

    #[test]
    fn the_option_is_not_advised_where_it_is_set() {
        for has_option in [false, true] {
            let mut turn = Turn::new(Now { boot: BootTime(Duration::ZERO), unix_nanos: 0 });
            Connections::default().counted(&mut turn, TrackedConnections { count: 9, max: 10 }, has_option);
            assert_eq!(turn.fx.notices[0].text.contains("ENID_NOTRACK"), !has_option);
        }
    }

    #[test]
    fn a_table_without_a_limit_is_never_full() {
        assert_eq!(told(&[(5, 0), (u64::MAX, 0), (u64::MAX, u64::MAX)]), [vec![], vec![], vec![NoticeLevel::Warn]]);
    }
}
