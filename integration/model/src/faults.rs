// SPDX-License-Identifier: Apache-2.0
//! Faults on order: which call fails, how, and whether it had its effect.
//!
//! Decides only which fault meets a call. What a call answers otherwise, and what an attach that shows no link does to the
//! guest, is decided by the machine.
//!
//! Invariant: a fault with a count meets exactly that many calls, after letting `skip` of them pass; the oldest one wins.
//!
//! Worked example: `{"action":"AttachNetworkInterface","code":"InternalError","effect":"after","count":1}`: the next
//! attach takes place, but its caller is told that it failed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A fault of the EC2 API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The action it meets; `*` for any.
    pub action: String,
    /// Only calls that have these parameters with these values.
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// The code of the answer.
    #[serde(default = "default_code")]
    pub code: String,
    /// The text of the answer.
    #[serde(default)]
    pub message: Option<String>,
    /// The HTTP status of the answer; that of the code when absent.
    #[serde(default)]
    pub status: Option<u16>,
    /// How many calls it meets; `None`: all, until it is taken away.
    #[serde(default)]
    pub count: Option<u32>,
    /// How many calls pass before it meets one.
    #[serde(default)]
    pub skip: u32,
    /// Whether the call takes place.
    #[serde(default)]
    pub effect: Effect,
    /// Whether the caller hears of it.
    #[serde(default)]
    pub delivery: Delivery,
}

impl Fault {
    /// The next call of `action` (`*` for any) fails with `code`, before it has an effect, and the caller is told.
    pub fn once(action: &str, code: &str) -> Self {
        Self { count: Some(1), ..Self::always(action, code) }
    }

    /// Every call of `action` (`*` for any) fails like that until the fault is taken away.
    pub fn always(action: &str, code: &str) -> Self {
        Self {
            action: action.to_owned(),
            when: BTreeMap::new(),
            code: code.to_owned(),
            message: None,
            status: None,
            count: None,
            skip: 0,
            effect: Effect::default(),
            delivery: Delivery::default(),
        }
    }
}

/// Whether a failing call takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It fails before it has an effect.
    #[default]
    Before,
    /// It has its effect, and the answer says that it failed (unless it was refused anyway).
    After,
    /// It has none, and the answer is a success without content: a description shows nothing.
    Empty,
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The answer.
    #[default]
    Answer,
    /// Nothing, on a connection that stays open.
    Hang,
    /// Nothing: the connection is closed.
    Close,
}

/// A fault of attaching.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachFault {
    /// Only for this instance (`i-…`).
    #[serde(default)]
    pub instance: Option<String>,
    /// How many attaches it meets; `None`: all, until it is taken away.
    #[serde(default)]
    pub count: Option<u32>,
    /// What goes wrong.
    pub kind: AttachFaultKind,
}

/// What goes wrong with an attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachFaultKind {
    /// EC2 and IMDS say `attached`, but no link shows up in the guest.
    NoLink,
    /// The attachment stays `attaching`.
    NeverAttached,
    /// The link shows up this much later, in milliseconds.
    LateLink(u64),
}

/// A fault of IMDS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImdsFault {
    /// Only for this instance (`i-…`).
    #[serde(default)]
    pub instance: Option<String>,
    /// Paths that start with this, `/latest/…`; empty for any.
    #[serde(default)]
    pub path_prefix: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// How many reads it meets; `None`: all, until it is taken away.
    #[serde(default)]
    pub count: Option<u32>,
}

fn default_code() -> String {
    "InternalError".to_owned()
}

/// The faults on order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) calls: Vec<Fault>,
    pub(crate) attaches: Vec<AttachFault>,
    pub(crate) imds: Vec<ImdsFault>,
}

impl Faults {
    /// The fault that meets this call.
    pub(crate) fn meet_call(&mut self, action: &str, pairs: &[(String, String)]) -> Option<Fault> {
        let at = self.calls.iter_mut().position(|fault| {
            let meets = (fault.action == "*" || fault.action == action)
                && fault.when.iter().all(|(name, value)| pairs.iter().any(|(n, v)| n == name && v == value));
            let skipped = meets && fault.skip > 0;
            if skipped {
                fault.skip -= 1;
            }
            meets && !skipped
        })?;
        let fault = self.calls[at].clone();
        if used_up(&mut self.calls[at].count) {
            self.calls.remove(at);
        }
        Some(fault)
    }

    /// The fault that meets this attach.
    pub(crate) fn meet_attach(&mut self, instance: &str) -> Option<AttachFaultKind> {
        let at = self.attaches.iter().position(|fault| fault.instance.as_deref().is_none_or(|id| id == instance))?;
        let kind = self.attaches[at].kind;
        if used_up(&mut self.attaches[at].count) {
            self.attaches.remove(at);
        }
        Some(kind)
    }

    /// The status that meets this read of IMDS.
    pub(crate) fn meet_imds(&mut self, instance: &str, path: &str) -> Option<u16> {
        let at = self.imds.iter().position(|fault| {
            fault.instance.as_deref().is_none_or(|id| id == instance) && path.starts_with(&fault.path_prefix)
        })?;
        let status = self.imds[at].status;
        if used_up(&mut self.imds[at].count) {
            self.imds.remove(at);
        }
        Some(status)
    }
}

/// Counts one meeting; `true`: that was the last.
fn used_up(count: &mut Option<u32>) -> bool {
    match count {
        None => false,
        Some(left) => {
            *left = left.saturating_sub(1);
            *left == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_fault_lets_calls_pass_and_then_meets_its_count() {
        let mut faults = Faults::default();
        faults.calls.push(fault(r#"{"action":"CreateTags","skip":1,"count":2}"#));
        let met: Vec<bool> = (0..5).map(|_| faults.meet_call("CreateTags", &[]).is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
    }

    #[test]
    fn a_fault_meets_only_calls_with_its_parameters() {
        let mut faults = Faults::default();
        faults.calls.push(fault(r#"{"action":"*","when":{"InstanceId":"i-1"}}"#));
        let call = |id: &str| vec![("InstanceId".to_owned(), id.to_owned())];
        assert!(faults.meet_call("AttachNetworkInterface", &call("i-2")).is_none());
        assert!(faults.meet_call("AttachNetworkInterface", &call("i-1")).is_some());
    }
}
