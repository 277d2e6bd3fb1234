// SPDX-License-Identifier: Apache-2.0
//! What the layers have come to, for those who show it: introspection and the Node's condition. Reads
//! and decides nothing.

use ipamd_core::config::{ConfigSnapshot, Resolved};
use tokio::sync::watch;

/// Mistakes that the condition and the event name; the others are counted.
const MOST_NAMED: usize = 3;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) snapshot: ConfigSnapshot,
    /// What is different from what settings ask for.
    pub(super) notes: Vec<String>,
    /// Whether any layer above the environment is in use.
    pub(super) is_used: bool,
}

/// Whether the settings of the node are valid, and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_valid: bool,
    pub(crate) text: String,
}

/// The end that looks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Board(watch::Receiver<Shown>);

impl Board {
    pub(super) fn new(shown: watch::Receiver<Shown>) -> Self {
        Self(shown)
    }

    /// For `/v1/config`.
    pub(crate) fn snapshot(&self) -> ConfigSnapshot {
        self.0.borrow().snapshot.clone()
    }

    /// For `ipamd status`.
    pub(crate) fn notes(&self) -> Vec<String> {
        let shown = self.0.borrow();
        let wrong =
            shown.snapshot.mistakes.iter().map(|mistake| format!("settings: {mistake}; what was there before holds"));
        wrong.chain(shown.notes.iter().cloned()).collect()
    }

    /// `None`: nothing but the environment is in use.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let shown = self.0.borrow();
        let mistakes = &shown.snapshot.mistakes;
        (shown.is_used || !mistakes.is_empty()).then(|| verdict(mistakes))
    }
}

/// What the condition says of these mistakes.
pub(crate) fn verdict(mistakes: &[String]) -> Verdict {
    if mistakes.is_empty() {
        return Verdict { is_valid: true, text: "settings of this node are valid".to_owned() };
    }
    let mut text = mistakes.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join("; ");
    if mistakes.len() > MOST_NAMED {
        text.push_str(&format!("; and {} more, which `ipamd config` lists", mistakes.len() - MOST_NAMED));
    }
    text.push_str(". What was there before holds");
    Verdict { is_valid: false, text }
}

/// One line for each variable that is otherwise now: `WARM_IP_TARGET: 2 (environment) -> 20 (class large)`.
pub(super) fn told(before: &Resolved, now: &Resolved) -> Vec<String> {
    let mut names: Vec<&String> = before.values.keys().chain(now.values.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |resolved: &Resolved, name: &str| {
        let (value, origin) = resolved.value(name);
        format!("{} ({origin})", value.filter(|value| !value.is_empty()).unwrap_or("not set"))
    };
    let lines = names.into_iter().map(|name| (name, shown(before, name), shown(now, name)));
    lines.filter(|(_, old, new)| old != new).map(|(name, old, new)| format!("{name}: {old} -> {new}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mistakes_are_named_and_the_others_counted() {
        let mistakes: Vec<String> = (1..=5).map(|number| format!("m{number}")).collect();
        assert!(verdict(&[]).is_valid);
        let found = verdict(&mistakes);
        assert!(!found.is_valid);
        assert_eq!(found.text, "m1; m2; m3; and 2 more, which `ipamd config` lists. What was there before holds");
        assert_eq!(verdict(&mistakes[..1]).text, "m1. What was there before holds");
    }
}
