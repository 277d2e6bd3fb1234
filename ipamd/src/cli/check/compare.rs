// SPDX-License-Identifier: Apache-2.0
//! What the witnesses say, side by side: pure, and so tested row by row.
//!
//! | witnesses | compared | no difference while |
//! |---|---|---|
//! | journal, kernel | each pod's host veth, alias, route, rules, neighbour; objects and veths that nobody has; ENIs' links and set-up, the node's | the ADD is younger than 2 s; the ENI is not in service |
//! | journal, EC2 | attached ENIs; their addresses and prefixes, one by one | the ENI is on its way, addresses are being assigned to it or given back; of ENIs that nobody knows, while no daemon runs: which are left alone is in no file |
//! | EC2, IMDS | ENIs, addresses, prefixes | - (it lags: told, no mismatch) |
//! | journal, runtime | each pod's sandbox is ready | the ADD is younger than 60 s: it is ready after its containers' set-up only |
//! | journal, kernel | an address has one owner | - |
//!
//! What must be in the kernel is not said here but by `datapath::plan`: what a repair would write is what differs. Whatever else is under
//! way is left out by the caller, who looks twice.

mod ec2;
mod kernel;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use datapath::plan::pods::NodeState;
use ipamd_core::Snapshot;
use ipamd_core::config::Layout;
use ipamd_core::event::EniView;
use ipamd_core::ids::EniId;
use ipamd_core::snapshot::{EniSnapshot, PodSnapshot};
use serde::Serialize;

use crate::cli::pod_name;
use crate::cli::pods::container;

/// An ADD has plumbed its pod by then, or is undone; as the daemon's own repair has it.
const YOUNG_NANOS: i64 = 2_000_000_000;

/// A sandbox is ready by then: only after its ADD, other plugins of the list and what else the runtime does.
const STARTED_NANOS: i64 = 60_000_000_000;

/// What a witness says.
#[derive(Clone, Debug)]
pub(super) enum Word<T> {
    /// This.
    Said(T),
    /// Nothing, for this reason.
    Silent(String),
    /// It is not to be asked, for this reason.
    Unwanted(String),
}

impl<T> Word<T> {
    pub(super) fn said(&self) -> Option<&T> {
        match self {
            Self::Said(word) => Some(word),
            Self::Silent(_) | Self::Unwanted(_) => None,
        }
    }
}

/// The kernel's word.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelWord {
    /// Links, routes, rules, neighbours.
    pub(super) node: NodeState,
    /// What the set-up of the node and of its ENIs lacks.
    pub(super) plans: Vec<PlanWord>,
}

/// What one set-up lacks.
#[derive(Clone, Debug)]
pub(super) struct PlanWord {
    /// Whose; `None`: the node's own.
    pub(super) eni_id: Option<EniId>,
    /// As commands; or why that is not known.
    pub(super) missing: Result<Vec<String>, String>,
}

/// All words, and what is needed to understand them.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub(super) journal: Snapshot,
    /// Where the journal is from.
    pub(super) source: &'static str,
    /// Whether it knows of the ENIs that are left alone: files do not.
    pub(super) knows_others: bool,
    pub(super) kernel: Word<KernelWord>,
    pub(super) ec2: Word<Vec<EniView>>,
    pub(super) imds: Word<Vec<EniView>>,
    /// Container ids of sandboxes that are ready.
    pub(super) runtime: Word<BTreeSet<String>>,
    pub(super) layout: Layout,
    pub(super) eni_mark_mask: u32,
    pub(super) veth_prefix: String,
    /// The daemon goes by metadata, and never asks EC2.
    pub(super) is_imds_authority: bool,
    pub(super) unix_nanos: i64,
}

impl Views {
    fn is_young(&self, pod: &PodSnapshot) -> bool {
        self.unix_nanos - pod.allocated_unix_nanos < YOUNG_NANOS
    }

    fn may_be_starting(&self, pod: &PodSnapshot) -> bool {
        self.unix_nanos - pod.allocated_unix_nanos < STARTED_NANOS
    }
}

/// How much a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// Somebody is wrong.
    Mismatch,
    /// Somebody is late; time mends it.
    Lag,
}

/// One thing of which two witnesses say different things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    /// What kind of difference: a stable name.
    pub(super) kind: &'static str,
    /// What it is about.
    pub(super) object: String,
    pub(super) weight: Weight,
    /// Who says what.
    words: Vec<(&'static str, String)>,
    /// What to do.
    todo: String,
}

impl Difference {
    pub(super) fn new(kind: &'static str, object: impl Into<String>, weight: Weight) -> Self {
        Self { kind, object: object.into(), weight, words: Vec::new(), todo: String::new() }
    }

    pub(super) fn word(mut self, witness: &'static str, says: impl Into<String>) -> Self {
        self.words.push((witness, says.into()));
        self
    }

    pub(super) fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: todo.into(), ..self }
    }

    /// Whether one of these is among those who say something of it.
    pub(super) fn is_by(&self, witnesses: &[&str]) -> bool {
        self.words.iter().any(|(witness, _)| witnesses.contains(witness))
    }

    /// The same difference at another look has the same.
    pub(super) fn identity(&self) -> (&'static str, String) {
        (self.kind, self.object.clone())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|(witness, says)| format!("{witness} says {says}")).collect();
        write!(f, "{}: {}; do: {}", self.object, words.join("; "), self.todo)
    }
}

/// Everything that differs, by kind and object.
pub(super) fn differences(views: &Views) -> Vec<Difference> {
    let mut all = duplicates(views);
    if let Some(word) = views.kernel.said() {
        all.extend(kernel::differences(views, word));
    }
    match (views.ec2.said(), views.imds.said()) {
        (Some(enis), imds) => {
            all.extend(ec2::against_journal(views, ("EC2", enis, Weight::Mismatch)));
            all.extend(imds.map(|imds| ec2::lag(enis, imds)).unwrap_or_default());
        }
        (None, Some(enis)) => {
            let weight = if views.is_imds_authority { Weight::Mismatch } else { Weight::Lag };
            all.extend(ec2::against_journal(views, ("IMDS", enis, weight)));
        }
        (None, None) => {}
    }
    if let Some(ready) = views.runtime.said() {
        all.extend(sandboxes(views, ready));
    }
    all.sort_by(|a, b| (a.weight, a.kind, &a.object).cmp(&(b.weight, b.kind, &b.object)));
    all.dedup_by(|a, b| a.identity() == b.identity());
    all
}

/// `default/web-0`, or the sandbox where the pod has no name.
fn named(pod: &PodSnapshot) -> String {
    if pod.pod.name.is_empty() { format!("sandbox {}", container(&pod.key)) } else { pod_name(&pod.pod) }
}

/// `10.0.1.23 (default/web-0)`.
fn object(pod: &PodSnapshot) -> String {
    format!("{} ({})", pod.address, named(pod))
}

/// Whether the daemon holds an ENI, and its set-up, to be as it should be.
pub(super) fn is_served(eni: &EniSnapshot) -> bool {
    ["Ready", "Draining"].contains(&eni.state.as_str())
}

/// Addresses that two pods of the journal have.
fn duplicates(views: &Views) -> Vec<Difference> {
    let mut owners: BTreeMap<Ipv4Addr, Vec<&PodSnapshot>> = BTreeMap::new();
    for pod in &views.journal.pods {
        owners.entry(pod.address).or_default().push(pod);
    }
    let twice = owners.into_iter().filter(|(_, pods)| pods.len() > 1);
    let difference = |(address, pods): (Ipv4Addr, Vec<&PodSnapshot>)| {
        let names: Vec<_> = pods.iter().map(|pod| named(pod)).collect();
        Difference::new("duplicate-address", address.to_string(), Weight::Mismatch)
            .word("journal", format!("it is of {}", names.join(" and of ")))
            .todo("delete all but one of these pods, and report it with `ipamd support-bundle`: this must not happen")
    };
    twice.map(difference).collect()
}

fn sandboxes(views: &Views, ready: &BTreeSet<String>) -> Vec<Difference> {
    let started = views.journal.pods.iter().filter(|pod| !views.may_be_starting(pod));
    let gone = started.filter(|pod| !ready.contains(container(&pod.key)));
    let difference = |pod: &PodSnapshot| {
        Difference::new("sandbox-gone", object(pod), Weight::Mismatch)
            .word("journal", format!("it is of sandbox {}", container(&pod.key)))
            .word("runtime", "no such sandbox is ready")
            .todo("nothing if it was just ended; else end it (`crictl rmp -f`), or once its host veth is gone the daemon takes it back by itself")
    };
    gone.map(difference).collect()
}
