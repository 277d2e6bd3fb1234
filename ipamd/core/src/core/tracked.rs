// SPDX-License-Identifier: Apache-2.0
//! How full the kernel's table of connections is, and when operators are told.
//!
//! Decides nothing about connections, and changes none. Once from 80 % on, once below 70 %: between the two nothing is said, so
//! that a level that goes to and fro does not fill the log. What the kernel lost is told when it has grown, once, then every ten
//! minutes at most while it grows; what was lost before the first reading is not.

use std::time::Duration;

use crate::event::{LostConnections, TrackedConnections};
use crate::ids::BootTime;
use crate::reason::{NoticeLevel, ReasonCode};

use super::Turn;

/// Per cent from which on, and below which, something is said.
pub(crate) const FILLING: u64 = 80;
const FINE: u64 = 70;
/// From one word about losses to the next.
const QUIET: Duration = Duration::from_mins(10);

/// What is known of the table.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// As last read.
    pub(crate) last: Option<TrackedConnections>,
    /// Operators know that it is nearly full, and not yet that it is not.
    told: bool,
    /// What operators know to be lost, or was when it was first read; and when they were last told.
    known: Option<LostConnections>,
    told_of_losses: Option<BootTime>,
}

impl Connections {
    /// `has_option`: plain traffic is left untracked already, or must not be.
    pub(super) fn counted(&mut self, turn: &mut Turn, found: TrackedConnections, has_option: bool) {
        self.last = Some(found);
        if let Some(lost) = found.lost {
            self.lost(turn, lost);
        }
        let TrackedConnections { count, max, .. } = found;
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

    fn lost(&mut self, turn: &mut Turn, now: LostConnections) {
        // Less than before: the kernel tracks connections anew, or a counter of 32 bits went round.
        let known = *self.known.get_or_insert(now);
        if now.total() <= known.total() {
            self.known = Some(now);
            return;
        }
        if self.told_of_losses.is_some_and(|told| turn.boot() < told + QUIET) {
            return;
        }
        (self.known, self.told_of_losses) = (Some(now), Some(turn.boot()));
        let grown = |part: fn(&LostConnections) -> u64| part(&now).saturating_sub(part(&known));
        let text = format!(
            "the kernel dropped packets of connections that it could not track: {} for want of room, {} because another \
             connection had their addresses and ports; {} without an answer gave way to new ones. Against the first and the \
             last raise net.netfilter.nf_conntrack_max (`conntrack -S` and `ipamd status` have the counters)",
            grown(|lost| lost.dropped),
            grown(|lost| lost.insert_failed),
            grown(|lost| lost.early_dropped),
        );
        turn.notice(NoticeLevel::Warn, Some(ReasonCode::ConntrackDropping), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Now;

    fn at(seconds: u64) -> Turn {
        Turn::new(Now { boot: BootTime(Duration::from_secs(seconds)), unix_nanos: 0 })
    }

    fn reading(count: u64, max: u64, dropped: u64) -> TrackedConnections {
        TrackedConnections { count, max, lost: Some(LostConnections { dropped, ..LostConnections::default() }) }
    }

    /// Levels of what was said, one text a reading.
    fn told(readings: &[(u64, u64)]) -> Vec<Vec<NoticeLevel>> {
        let mut connections = Connections::default();
        let said = readings.iter().map(|(count, max)| {
            let mut turn = at(0);
            connections.counted(&mut turn, reading(*count, *max, 0), false);
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
            let mut turn = at(0);
            Connections::default().counted(&mut turn, reading(9, 10, 0), has_option);
            assert_eq!(turn.fx.notices[0].text.contains("ENID_NOTRACK"), !has_option);
        }
    }

    #[test]
    fn losses_are_told_once_when_they_grow_and_then_every_ten_minutes_at_most() {
        let mut connections = Connections::default();
        // Seconds, packets dropped so far, and how many more are told of.
        let readings = [
            (0, 7, None),
            (30, 7, None),
            (60, 9, Some(2)),
            (90, 20, None),
            (650, 21, None),
            (660, 22, Some(13)),
            (2000, 22, None),
            (2030, 23, Some(1)),
            (2060, 3, None),
            (4000, 4, Some(1)),
        ];
        for (seconds, dropped, more) in readings {
            let mut turn = at(seconds);
            connections.counted(&mut turn, reading(1, 100, dropped), false);
            let told: Vec<_> = turn.fx.notices.iter().map(|notice| (notice.level, notice.code)).collect();
            let wanted = more.map(|_| (NoticeLevel::Warn, Some(ReasonCode::ConntrackDropping)));
            assert_eq!(told, Vec::from_iter(wanted), "at {seconds} s");
            let says = |more: u64| turn.fx.notices[0].text.contains(&format!("track: {more} for want of room"));
            assert!(more.is_none_or(says), "at {seconds} s: {:?}", turn.fx.notices);
        }
    }

    #[test]
    fn a_reading_without_losses_makes_old_ones_no_new_ones() {
        let mut connections = Connections::default();
        let unread = TrackedConnections { lost: None, ..reading(1, 100, 0) };
        for (seconds, found) in [(0, unread), (30, reading(1, 100, 7)), (60, unread), (90, reading(1, 100, 7))] {
            let mut turn = at(seconds);
            connections.counted(&mut turn, found, false);
            assert_eq!(turn.fx.notices.len(), 0, "at {seconds} s");
        }
        assert_eq!(connections.last.map(|last| last.count), Some(1));
    }

    #[test]
    fn a_table_without_a_limit_is_never_full() {
        assert_eq!(told(&[(5, 0), (u64::MAX, 0), (u64::MAX, u64::MAX)]), [vec![], vec![], vec![NoticeLevel::Warn]]);
    }
}
