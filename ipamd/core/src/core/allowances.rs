// SPDX-License-Identifier: Apache-2.0
//! What EC2 held back of ENIs because the instance was over an allowance, and when operators are told.
//!
//! Decides nothing and changes nothing: the allowances are the instance type's. Told when the counters of an ENI have grown, once,
//! then every ten minutes at most while they grow; what was held back before the first reading is not, and counters that are lower
//! than before begin anew (the driver was loaded again). Said of all ENIs in one word, for the allowances are the instance's and not
//! an ENI's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Exceeded;
use crate::ids::{BootTime, MacAddr};
use crate::reason::{NoticeLevel, ReasonCode};

use super::{Core, Turn};

/// From one word to the next.
const QUIET: Duration = Duration::from_mins(10);

/// What is known of the counters.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    /// As operators know them, or as they were when first read.
    known: BTreeMap<MacAddr, Exceeded>,
    told: Option<BootTime>,
}

impl Core {
    pub(super) fn allowances_counted(&mut self, turn: &mut Turn, mut found: BTreeMap<MacAddr, Exceeded>) {
        // Cards of others are theirs to watch.
        found.retain(|mac, _| self.enis.values().any(|eni| eni.mac == *mac));
        let name = |mac: &MacAddr| {
            let eni = self.enis.values().find(|eni| eni.mac == *mac);
            eni.map_or_else(|| mac.to_string(), |eni| eni.eni_id.to_string())
        };
        self.allowances.counted(turn, found, name);
    }
}

impl Allowances {
    fn counted(&mut self, turn: &mut Turn, found: BTreeMap<MacAddr, Exceeded>, name: impl Fn(&MacAddr) -> String) {
        let mut grown: Vec<String> = Vec::new();
        for (mac, now) in &found {
            let known = self.known.entry(*mac).or_insert_with(|| now.clone());
            if now.iter().any(|(allowance, packets)| known.get(allowance).is_some_and(|known| known > packets)) {
                known.clone_from(now);
            }
            let parts = now.iter().filter_map(|(allowance, packets)| {
                let more = packets.saturating_sub(known.get(allowance).copied().unwrap_or(0));
                (more > 0).then(|| format!("{more} over {}", words(allowance)))
            });
            let parts: Vec<String> = parts.collect();
            if !parts.is_empty() {
                grown.push(format!("{}: {}", name(mac), parts.join(", ")));
            }
        }
        self.known.retain(|mac, _| found.contains_key(mac));
        if grown.is_empty() || self.told.is_some_and(|told| turn.boot() < told + QUIET) {
            return;
        }
        (self.known, self.told) = (found, Some(turn.boot()));
        let text = format!(
            "EC2 queued or dropped packets because this instance was over an allowance of its type ({}): a larger instance, or pods \
             that send less; for link-local services a DNS cache on the node, for connections security groups that need not track",
            grown.join("; ")
        );
        turn.notice(NoticeLevel::Warn, Some(ReasonCode::AllowanceExceeded), text);
    }
}

fn words(allowance: &str) -> &str {
    match allowance {
        "bw_in" => "the bandwidth inwards",
        "bw_out" => "the bandwidth outwards",
        "pps" => "the packets a second",
        "conntrack" => "the connections that security groups track",
        "linklocal" => "the packets a second to DNS, metadata and time",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Now;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn told(allowances: &mut Allowances, seconds: u64, of_eni: &[(&'static str, u64)]) -> Option<String> {
        let mut turn = Turn::new(Now { boot: BootTime(Duration::from_secs(seconds)), unix_nanos: 0 });
        let found = BTreeMap::from([(MAC, of_eni.iter().copied().collect())]);
        allowances.counted(&mut turn, found, |_| "eni-1".to_owned());
        let notice = turn.fx.notices.pop()?;
        assert_eq!((notice.level, notice.code), (NoticeLevel::Warn, Some(ReasonCode::AllowanceExceeded)));
        assert!(turn.fx.notices.is_empty());
        Some(notice.text)
    }

    #[test]
    fn growth_is_told_once_with_its_numbers_and_then_every_ten_minutes_at_most() {
        let mut allowances = Allowances::default();
        assert_eq!(told(&mut allowances, 0, &[("pps", 7), ("linklocal", 0)]), None, "from before");
        assert_eq!(told(&mut allowances, 30, &[("pps", 7), ("linklocal", 0)]), None);
        let text = told(&mut allowances, 60, &[("pps", 9), ("linklocal", 5)]).unwrap();
        assert!(
            text.contains("eni-1: 5 over the packets a second to DNS, metadata and time, 2 over the packets a second"),
            "{text}"
        );
        assert_eq!(told(&mut allowances, 90, &[("pps", 20), ("linklocal", 5)]), None);
        let text = told(&mut allowances, 660, &[("pps", 22), ("linklocal", 5)]).unwrap();
        assert!(text.contains("eni-1: 13 over the packets a second)"), "{text}");
        assert_eq!(told(&mut allowances, 2000, &[("pps", 22), ("linklocal", 5)]), None);
    }

    #[test]
    fn counters_that_are_lower_begin_anew_and_one_that_is_new_counts_from_nought() {
        let mut allowances = Allowances::default();
        assert_eq!(told(&mut allowances, 0, &[("pps", 100)]), None);
        assert_eq!(told(&mut allowances, 30, &[("pps", 3)]), None, "the driver was loaded again");
        assert!(told(&mut allowances, 60, &[("pps", 4)]).is_some_and(|text| text.contains("1 over the packets")));
        assert!(
            told(&mut allowances, 700, &[("pps", 4), ("bw_in", 2)])
                .is_some_and(|text| text.contains("2 over the bandwidth in"))
        );
    }

    #[test]
    fn a_card_whose_driver_tells_nothing_is_none() {
        let mut allowances = Allowances::default();
        assert_eq!(told(&mut allowances, 0, &[]), None);
    }
}
