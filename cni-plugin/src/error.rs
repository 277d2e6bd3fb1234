// SPDX-License-Identifier: Apache-2.0
//! What a failed verb prints: the CNI error object, with the codes of the CNI specification ("Error"). `msg` says what to
//! do and begins with the cause's code (docs/reasons.md), `details` carries the chain of causes. A runtime shows both in the pod's event.
//!
//! | code | here |
//! |---|---|
//! | 1 | a version of the configuration that we do not speak |
//! | 4 | parameters missing or not valid |
//! | 5, 6 | standard input cannot be read; it is not JSON |
//! | 7 | a key of the network configuration is not valid; `msg` names it |
//! | 11 | no address now: the runtime tries again |
//! | 50 | STATUS: an ADD would not succeed |
//! | 101 | CHECK: something of the pod's network is not as it was attached; `details` names all of it (100 and above are plugins' own) |
//! | 999 | anything else, such as a kernel that refuses |

use std::error::Error;
use std::fmt;

use ipam_api::CallError;
use ipam_api::rpc::Refusal;
use serde::Serialize;

use crate::reason::Reason;

/// Codes of the CNI specification that we give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration's version is none of ours.
    IncompatibleVersion = 1,
    /// Environment variables; the message names them.
    Environment = 4,
    /// Reading standard input.
    Io = 5,
    /// Standard input is not JSON.
    Decode = 6,
    /// The network configuration; the message names the key.
    Config = 7,
    /// Worth another try later.
    TryAgainLater = 11,
    /// STATUS: ADD cannot be served.
    NotAvailable = 50,
    /// CHECK: the pod's network is not whole.
    NotAsAttached = 101,
    /// Not one of the above.
    Internal = 999,
}

/// A failed verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CniError {
    /// What kind.
    pub code: Code,
    /// The cause's code of docs/reasons.md; the daemon's as it came.
    pub reason: String,
    /// What happened and what to do; begins with the reason.
    pub message: String,
    /// The chain of causes; empty when there is none.
    pub details: String,
}

impl CniError {
    /// An error without causes.
    pub(crate) fn new(code: Code, reason: Reason, message: impl fmt::Display) -> Self {
        Self { code, reason: reason.name(), message: format!("{reason}: {message}"), details: String::new() }
    }

    /// The same with its causes.
    pub(crate) fn because(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// An ADD that the daemon answered with `Success=false`. The reference's daemon gives no reason.
    pub(crate) fn refused(refusal: Option<&Refusal>) -> Self {
        let Some(refusal) = refusal else {
            let message = "the IPAM daemon has no address for this pod and gave no reason: see its log on this node";
            return Self::new(Code::TryAgainLater, Reason::NoReasonGiven, message)
                .because("AddNetwork answered Success=false");
        };
        let hint = match refusal.retry_after_ms {
            Some(after) => format!(" (a retry can succeed in {} s)", after.div_ceil(1000)),
            None => String::new(),
        };
        Self {
            code: Code::TryAgainLater,
            reason: refusal.code.clone(),
            message: format!("{}: {}{hint}", refusal.code, refusal.cause),
            details: format!("the IPAM daemon refused with {}", refusal.code),
        }
    }

    /// An ADD that brought no reply.
    pub(crate) fn call(error: &CallError) -> Self {
        let (code, reason, message) = match error {
            CallError::NoDaemon { socket, .. } => (
                Code::TryAgainLater,
                Reason::DaemonUnreachable,
                format!("the IPAM daemon is not there ({}): is its pod running on this node?", socket.display()),
            ),
            CallError::TimedOut { .. } => (
                Code::TryAgainLater,
                Reason::DaemonSilent,
                "the IPAM daemon did not answer in time: see its log on this node".to_owned(),
            ),
            CallError::VersionMismatch { .. } => (
                Code::TryAgainLater,
                Reason::VersionMismatch,
                "this plugin and the IPAM daemon are of different versions: install the plugin that came with the daemon"
                    .to_owned(),
            ),
            CallError::Failed { code: ipam_api::Code::Unavailable, .. } => (
                Code::TryAgainLater,
                Reason::DaemonWentAway,
                "the IPAM daemon went away during the call: is it restarting?".to_owned(),
            ),
            CallError::Failed { .. } => (
                Code::Internal,
                Reason::DaemonFailed,
                "the IPAM daemon failed to serve the call: see its log on this node".to_owned(),
            ),
        };
        Self::new(code, reason, message).because(chain(error))
    }

    /// The CNI error object. `version` is the configuration's, when that much was understood.
    pub(crate) fn to_json(&self, version: &str) -> String {
        let object =
            Object { cni_version: version, code: self.code as u32, msg: &self.message, details: &self.details };
        serde_json::to_string(&object).unwrap_or_default()
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

/// An error and its causes: `a: b: c`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_the_specification_s() {
        let error = CniError::new(Code::TryAgainLater, Reason::SandboxBusy, "as it is").because("a: b");
        let expected = r#"{"cniVersion":"1.0.0","code":11,"msg":"SandboxBusy: as it is","details":"a: b"}"#;
        assert_eq!(error.to_json("1.0.0"), expected);
        let error = CniError::new(Code::Config, Reason::NetworkConfigInvalid, "mtu \"x\"");
        let expected = r#"{"cniVersion":"1.1.0","code":7,"msg":"NetworkConfigInvalid: mtu \"x\""}"#;
        assert_eq!(error.to_json("1.1.0"), expected);
    }

    #[test]
    fn a_refusal_names_its_code_its_cause_and_when_to_retry() {
        let mut refusal = Refusal { code: "NodeFull".into(), cause: "27 of 27 taken".into(), retry_after_ms: None };
        assert_eq!(CniError::refused(Some(&refusal)).message, "NodeFull: 27 of 27 taken");
        refusal.retry_after_ms = Some(4_200);
        let error = CniError::refused(Some(&refusal));
        assert_eq!(error.message, "NodeFull: 27 of 27 taken (a retry can succeed in 5 s)");
        assert_eq!(error.code, Code::TryAgainLater);
    }

    #[test]
    fn a_refusal_of_the_reference_s_daemon_has_code_11_too() {
        let error = CniError::refused(None);
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.message.starts_with("NoReasonGiven: ") && error.message.contains("gave no reason"));
    }

    #[test]
    fn calls_without_a_reply_have_code_11_and_their_cause_unless_the_daemon_failed() {
        let socket = std::path::PathBuf::from("/run/s");
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let table = [
            (
                CallError::NoDaemon { socket: socket.clone(), source: missing() },
                Code::TryAgainLater,
                "DaemonUnreachable",
                "entity not found",
            ),
            (
                CallError::TimedOut { socket, budget: std::time::Duration::from_secs(3) },
                Code::TryAgainLater,
                "DaemonSilent",
                "3000 ms",
            ),
            (CallError::VersionMismatch { message: "v1".into() }, Code::TryAgainLater, "VersionMismatch", "v1"),
            (
                CallError::Failed { code: ipam_api::Code::Unavailable, message: "m".into() },
                Code::TryAgainLater,
                "DaemonWentAway",
                "m",
            ),
            (
                CallError::Failed { code: ipam_api::Code::Internal, message: "m".into() },
                Code::Internal,
                "DaemonFailed",
                "m",
            ),
        ];
        for (error, code, reason, detail) in table {
            let mapped = CniError::call(&error);
            assert_eq!((mapped.code, mapped.reason.as_str()), (code, reason), "{error}");
            assert!(mapped.message.starts_with(&format!("{reason}: ")), "{mapped}");
            assert!(mapped.details.contains(detail), "{mapped}");
        }
    }
}
