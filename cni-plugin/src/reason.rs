// SPDX-License-Identifier: Apache-2.0
//! Why, in one word: what the plugin says itself, in the terms of `docs/reasons.md`.
//!
//! The daemon's own codes come as text and go out as they came, for a daemon of another version has others. Ours stand at the
//! beginning of `msg`, where those stand, and in the log's field `code`.

use std::fmt;

/// A cause that the plugin finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing listens on the daemon's socket.
    DaemonUnreachable,
    /// It took the call and did not answer in time.
    DaemonSilent,
    /// It went away during the call.
    DaemonWentAway,
    /// It is of another version.
    VersionMismatch,
    /// It answered with an error, or with nonsense.
    DaemonFailed,
    /// It refused without a reason.
    NoReasonGiven,
    /// Its answer is more than this version does.
    ReplyUnsupported,
    /// The pod asks for what can never be served.
    InvalidRequest,
    /// The kernel did not take the pod's link, routes or rules.
    PlumbingFailed,
    /// The node has no way out in the other family.
    EgressImpossible,
    /// Another call for the sandbox is in progress.
    SandboxBusy,
    /// Host ports could not be opened.
    HostPortsFailed,
    /// The network policy agent did not do its part.
    PolicyAgentUnavailable,
    /// Environment variables.
    ParametersInvalid,
    /// The network configuration.
    NetworkConfigInvalid,
    /// Its version.
    CniVersionUnsupported,
    /// Standard input.
    StdioFailed,
    /// CHECK found differences.
    NotAsAttached,
    /// CHECK or GC cannot read the kernel.
    KernelUnreadable,
    /// No address of this boot is proven.
    NothingProven,
    /// Something could not be taken down.
    GarbageLeft,
    /// Rules of portmap's could not be taken away.
    LeftoversRemain,
    /// The daemon has not confirmed a DEL.
    DelUnconfirmed,
    /// A file of the state folder could not be written.
    StateNotDurable,
    /// A mistake of our own.
    PluginAborted,
}

impl Reason {
    /// The code.
    pub(crate) fn name(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is the daemon's; ours must be in it.
    #[test]
    fn every_reason_is_a_code_of_the_documentation() {
        let page = include_str!("../../docs/reasons.md");
        let source = include_str!("reason.rs");
        let body = source.split("pub(crate) enum Reason {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        let names = body
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("///"))
            .filter_map(|line| line.strip_suffix(','));
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(page.contains(&format!("\n## {name}\n")), "{name} is not in docs/reasons.md");
        }
        assert_eq!(Reason::DaemonSilent.name(), "DaemonSilent");
    }
}
