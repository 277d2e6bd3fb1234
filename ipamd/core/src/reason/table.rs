// SPDX-License-Identifier: Apache-2.0
//! The table of codes: kind, numbers, remedy, and where each shows. `docs/reasons.md` and `ipamd reasons` are made of it.
//!
//! Invariant, checked when this is compiled: every code has exactly one entry. What a code means stands at the code
//! (`super::code`). Remedies name what an operator can type, set or allow; they promise nothing that the code does not do.

use serde::Serialize;

use super::ReasonCode;

mod configuration;
mod ec2;
mod host;
mod kubernetes;
mod plugin;
mod pods;
mod state;

/// What of: a code is of one kind, whatever place it shows at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasonKind {
    /// A request did not get what it asked for.
    Refusal,
    /// Something works less well than it should, and is tried again or waits for somebody.
    Degraded,
    /// Something was put right.
    Repair,
    /// A degraded state is over.
    Recovery,
    /// Nothing is wrong: it goes by.
    Passing,
}

impl ReasonKind {
    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Degraded => "degraded",
            Self::Repair => "repair",
            Self::Recovery => "recovery",
            Self::Passing => "passing",
        }
    }
}

/// Where a code can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Surface {
    /// `msg` of the CNI error, and so in the pod's `FailedCreatePodSandBox`.
    CniError,
    /// The plugin's log.
    PluginLog,
    /// The daemon's log, field `code`; `ipamd events` has the same lines.
    Log,
    /// `ipamd_reason_total{code}`.
    Metric,
    /// A Kubernetes Event of the pod.
    PodEvent,
    /// A Kubernetes Event of the Node.
    NodeEvent,
    /// `reason` of a condition of the Node.
    Condition,
    /// `ipamd status`: why the pool is as it is, what ADDs wait for, last failures.
    Status,
}

impl Surface {
    /// For a reader of the documentation.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::CniError => "the CNI error (and so the pod's `FailedCreatePodSandBox`)",
            Self::PluginLog => "the plugin's log",
            Self::Log => "the daemon's log (field `code`) and `ipamd events`",
            Self::Metric => "`ipamd_reason_total`",
            Self::PodEvent => "an Event of the pod",
            Self::NodeEvent => "an Event of the Node",
            Self::Condition => "a condition of the Node",
            Self::Status => "`ipamd status`",
        }
    }
}

/// What there is to know of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonEntry {
    /// Which.
    pub code: ReasonCode,
    /// Of what kind.
    pub kind: ReasonKind,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// The figures and names that its text carries.
    pub numbers: &'static str,
    /// What an operator does; Markdown without headings.
    pub remedy: &'static str,
    /// Where it can be seen.
    pub shows: &'static [Surface],
}

impl ReasonEntry {
    /// Its section in `docs/reasons.md`, without the `#`.
    #[must_use]
    pub fn anchor(&self) -> String {
        self.code.name().to_ascii_lowercase()
    }
}

impl ReasonCode {
    /// What there is to know of it.
    #[must_use]
    pub fn entry(self) -> &'static ReasonEntry {
        INDEX[self as usize]
    }
}

const TABLES: [&[ReasonEntry]; 7] = [
    pods::ENTRIES,
    ec2::ENTRIES,
    host::ENTRIES,
    state::ENTRIES,
    configuration::ENTRIES,
    kubernetes::ENTRIES,
    plugin::ENTRIES,
];

/// By code.
static INDEX: [&ReasonEntry; ReasonCode::ALL.len()] = index();

/// Does not compile when a code has no entry, or two.
const fn index() -> [&'static ReasonEntry; ReasonCode::ALL.len()] {
    let mut index: [Option<&'static ReasonEntry>; ReasonCode::ALL.len()] = [None; ReasonCode::ALL.len()];
    let mut table = 0;
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            let entry = &TABLES[table][row];
            assert!(index[entry.code as usize].is_none(), "a reason code has two entries");
            index[entry.code as usize] = Some(entry);
            row += 1;
        }
        table += 1;
    }
    let mut whole = [&TABLES[0][0]; ReasonCode::ALL.len()];
    let mut code = 0;
    while code < whole.len() {
        whole[code] = match index[code] {
            Some(entry) => entry,
            None => panic!("a reason code has no entry in reason/table"),
        };
        code += 1;
    }
    whole
}

/// One row.
const fn row(
    code: ReasonCode,
    kind: ReasonKind,
    shows: &'static [Surface],
    numbers: &'static str,
    remedy: &'static str,
) -> ReasonEntry {
    ReasonEntry { code, kind, meaning: code.meaning(), numbers, remedy, shows }
}

use Surface::{CniError, Condition, Log, Metric, NodeEvent, PluginLog, PodEvent, Status};

/// It is between programs.
const NOWHERE: &[Surface] = &[];
/// An ADD was refused; when the next one would be, too, the Node's condition says so.
const REFUSED: &[Surface] = &[CniError, PodEvent, Condition, Status, Log, Metric];
/// An ADD was refused in passing, or for what the pod itself asks.
const REFUSED_ALONE: &[Surface] = &[CniError, PluginLog, Log, Metric];
/// An ADD was refused, or a call failed that no ADD waits for.
const FAILED: &[Surface] = &[CniError, PodEvent, NodeEvent, Condition, Status, Log, Metric];
/// The daemon said so of the node.
const NOTICED: &[Surface] = &[NodeEvent, Log, Metric];
/// The same, and it is part of the state.
const STANDING: &[Surface] = &[NodeEvent, Status, Log, Metric];
/// Said, not worth an Event.
const LOGGED: &[Surface] = &[Log, Metric];
/// A condition of the Node.
const SHOWN: &[Surface] = &[Condition];
/// The plugin's word.
const OF_PLUGIN: &[Surface] = &[CniError, PluginLog];
/// The same, before it has read where its log is.
const UNLOGGED: &[Surface] = &[CniError];
/// The plugin's log alone.
const PLUGIN_LOG: &[Surface] = &[PluginLog];
