// SPDX-License-Identifier: Apache-2.0
//! What the Node's conditions say: pure. A [`Wanted`] is what one should show; [`Level`] decides it for [`TYPE`]:
//!
//! ```text
//!          short for 5 s                     enough for 30 s
//! (none) ───────────────► False ─────────────────────────────► True ── short for 5 s, 30 s after the last change ─► False
//!    └──────── enough ────────────────────────────────────────►
//! ```
//!
//! So the status changes no more than twice a minute. While it is `False` another code is told after 10 s, other numbers after a
//! minute. Level-triggered: what the Node shows is compared with what it should, so what somebody else removed comes back.

use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::reason::ReasonCode;
use ipamd_core::snapshot::SupplySnapshot;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edge::layers::{self, Verdict};

/// Whether the next pod gets an address.
pub(super) const TYPE: &str = "EnidAddressesAvailable";
/// Whether the file of settings and the Node's annotations that are settings have no mistake.
pub(super) const SETTINGS: &str = "EnidConfigurationValid";

const SHORT: Duration = Duration::from_secs(5);
const ENOUGH: Duration = Duration::from_secs(30);
/// Between two changes of the status.
const HOLD: Duration = Duration::from_secs(30);
const OTHER_CODE: Duration = Duration::from_secs(10);
const OTHER_TEXT: Duration = Duration::from_secs(60);

/// A condition as the Node shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Shown {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) last_transition_time: Option<String>,
}

/// What one should show. All are named so that `True` is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name on the Node; those of ours begin with [`PREFIX`].
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) code: ReasonCode,
    pub(super) text: String,
}

/// Of the names of conditions of ours.
pub(super) const PREFIX: &str = "Enid";

impl Wanted {
    pub(super) fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    /// Whether the Node shows it.
    pub(super) fn is(&self, shown: Option<&Shown>) -> bool {
        shown.is_some_and(|shown| {
            shown.status == self.status() && shown.reason == self.code.to_string() && shown.message == self.text
        })
    }

    /// The condition as it is written, in place of what is shown.
    pub(super) fn write(&self, shown: Option<&Shown>, stamp: &str) -> Value {
        let since = shown.filter(|shown| shown.status == self.status());
        let since = since.and_then(|shown| shown.last_transition_time.as_deref()).unwrap_or(stamp);
        json!({
            "type": self.kind, "status": self.status(), "reason": self.code.to_string(), "message": self.text,
            "lastHeartbeatTime": stamp, "lastTransitionTime": since,
        })
    }
}

/// What the Node should show of its settings. `verdict`: `None` where nothing but the environment is in use; then nothing is shown, unless
/// something is there from a time when it was otherwise.
pub(super) fn of_settings(verdict: Option<Verdict>, is_shown: bool) -> Option<Wanted> {
    let Verdict { is_valid, text } = verdict.or_else(|| is_shown.then(|| layers::verdict(&[])))?;
    let code = if is_valid { ReasonCode::ConfigurationValid } else { ReasonCode::ConfigurationInvalid };
    Some(Wanted { kind: SETTINGS, holds: is_valid, code, text })
}

/// What the pool was, as far as it decides.
#[derive(Debug, Default)]
pub(super) struct Level {
    wanted: Option<Wanted>,
    /// Since when it has been otherwise than `wanted` says.
    otherwise: Option<BootTime>,
    changed: Option<BootTime>,
    /// When code or text last changed.
    refreshed: BootTime,
}

impl Level {
    /// `None`: not known yet.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Takes the present state; whether the status changes by it.
    pub(super) fn look(&mut self, supply: &SupplySnapshot, now: BootTime) -> bool {
        let present = read(supply);
        let same = match &self.wanted {
            None => present.holds,
            Some(wanted) => wanted.holds == present.holds,
        };
        if same && self.wanted.is_some() {
            self.otherwise = None;
            self.refresh(present, now);
            return false;
        }
        let since = *self.otherwise.get_or_insert(now);
        if now < self.turns_at(since, present.holds) {
            return false;
        }
        let changes = self.wanted.is_some() || !present.holds;
        self.otherwise = None;
        self.changed = Some(now).filter(|_| changes);
        self.refreshed = now;
        self.wanted = Some(present);
        changes
    }

    /// When to look again at the latest, if something is going to turn.
    pub(super) fn next(&self) -> Option<BootTime> {
        let to_available = self.wanted.as_ref().is_some_and(|wanted| !wanted.holds);
        self.otherwise.map(|since| self.turns_at(since, to_available))
    }

    fn turns_at(&self, since: BootTime, to_available: bool) -> BootTime {
        let stands = match (to_available, &self.wanted) {
            (true, None) => Duration::ZERO,
            (true, Some(_)) => ENOUGH,
            (false, _) => SHORT,
        };
        (since + stands).max(self.changed.map_or(since, |changed| changed + HOLD))
    }

    fn refresh(&mut self, present: Wanted, now: BootTime) {
        let Some(wanted) = &mut self.wanted else { return };
        let after = if wanted.code == present.code { OTHER_TEXT } else { OTHER_CODE };
        if *wanted != present && now >= self.refreshed + after {
            self.refreshed = now;
            *wanted = present;
        }
    }
}

fn read(supply: &SupplySnapshot) -> Wanted {
    match supply.code {
        Some(code) => Wanted { kind: TYPE, holds: false, code, text: supply.text.clone() },
        None => Wanted {
            kind: TYPE,
            holds: true,
            code: ReasonCode::AddressesAvailable,
            text: "the next pod gets an address".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn short(code: ReasonCode, text: &str) -> SupplySnapshot {
        SupplySnapshot { code: Some(code), text: text.to_owned() }
    }

    fn full() -> SupplySnapshot {
        short(ReasonCode::NodeFull, "9 of 9")
    }

    fn enough() -> SupplySnapshot {
        SupplySnapshot::default()
    }

    fn status(level: &Level) -> Option<&'static str> {
        level.wanted().map(Wanted::status)
    }

    #[test]
    fn short_for_a_moment_is_nothing_and_for_5_seconds_is_told() {
        let mut level = Level::default();
        assert!(!level.look(&enough(), at(0)), "the first word is no change");
        assert_eq!(status(&level), Some("True"));
        level.look(&full(), at(10));
        assert_eq!(level.next(), Some(at(15)));
        level.look(&enough(), at(14));
        assert_eq!(level.next(), None);
        level.look(&full(), at(20));
        assert!(!level.look(&full(), at(24)));
        assert!(level.look(&full(), at(25)));
        assert_eq!(level.wanted().map(|wanted| wanted.code), Some(ReasonCode::NodeFull));
    }

    #[test]
    fn it_clears_by_itself_and_changes_no_more_than_twice_a_minute() {
        let mut level = Level::default();
        level.look(&full(), at(0));
        assert_eq!(status(&level), None, "a start is not told as a shortage");
        assert!(level.look(&full(), at(5)));
        level.look(&enough(), at(6));
        assert!(!level.look(&enough(), at(35)));
        assert!(level.look(&enough(), at(36)));
        assert_eq!(status(&level), Some("True"));
        level.look(&full(), at(40));
        assert!(!level.look(&full(), at(65)));
        assert!(level.look(&full(), at(66)));
    }

    #[test]
    fn settings_are_shown_where_there_are_any_or_something_is_there_still() {
        let wrong = layers::verdict(&["the file: no such key `x`".to_owned()]);
        let shown = of_settings(Some(wrong), false).unwrap();
        assert_eq!((shown.status(), shown.code), ("False", ReasonCode::ConfigurationInvalid));
        assert!(shown.text.starts_with("the file: no such key `x`"), "{}", shown.text);
        assert_eq!(of_settings(None, false), None);
        assert_eq!(of_settings(None, true).map(|wanted| wanted.code), Some(ReasonCode::ConfigurationValid));
    }

    #[test]
    fn any_order_of_looks_changes_at_most_twice_a_minute() {
        for pattern in 1_u64..64 {
            let mut level = Level::default();
            let mut changes: Vec<u64> = Vec::new();
            for second in 0..600 {
                let supply = if (second / (1 + second % 7)) * pattern % 5 < 2 { full() } else { enough() };
                if level.look(&supply, at(second)) {
                    changes.push(second);
                }
            }
            assert!(changes.windows(3).all(|three| three[2] - three[0] >= 60), "{pattern}: {changes:?}");
        }
    }

    #[test]
    fn another_code_is_told_sooner_than_other_numbers() {
        let mut level = Level::default();
        level.look(&full(), at(0));
        level.look(&full(), at(5));
        level.look(&short(ReasonCode::NodeFull, "8 of 8"), at(60));
        assert_eq!(level.wanted().unwrap().text, "9 of 9");
        level.look(&short(ReasonCode::SubnetExhausted, "subnet-1"), at(61));
        assert_eq!(level.wanted().unwrap().code, ReasonCode::SubnetExhausted);
        level.look(&short(ReasonCode::SubnetExhausted, "subnet-2"), at(120));
        assert_eq!(level.wanted().unwrap().text, "subnet-1");
        level.look(&short(ReasonCode::SubnetExhausted, "subnet-2"), at(121));
        assert_eq!(level.wanted().unwrap().text, "subnet-2");
    }
}
