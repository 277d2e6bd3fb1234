// SPDX-License-Identifier: Apache-2.0
//! Who watches the daemon at work: turns what it does into records of the chronicle, and lets others look at them.
//!
//! Told by the driver (actions, notices, what is wanted next, the pool's numbers) and by the rpc edge (pods). Decides nothing,
//! waits for nobody: one lock, held for a push or a copy, never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipamd_core::Now;
use ipamd_core::action::{Action, Allocated};
use ipamd_core::chronicle::{Chronicle, Entry, Kind, Records, Sample};
use ipamd_core::event::Outcome;
use ipamd_core::ids::{ActionId, BootTime, EniId, PodRef};
use ipamd_core::reason::{Notice, NoticeLevel, ReasonCode, Refusal};
use ipamd_core::snapshot::{Rule, WhySnapshot};
use tokio::sync::watch;

use crate::clock;
use crate::metrics::{Metrics, Phase, Verb};

/// The end that is told and that shows. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    metrics: Metrics,
    /// Counts up with every record, and whenever the state may be another.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    chronicle: Chronicle,
    running: HashMap<ActionId, Running>,
    ruled: Option<(Rule, Option<ReasonCode>)>,
}

/// An action under way.
#[derive(Debug)]
struct Running {
    name: &'static str,
    eni_id: Option<EniId>,
    since: BootTime,
}

/// A pod's call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// `network/container/ifname`.
    pub(crate) key: &'a str,
    /// The pod; both names empty when the runtime names none.
    pub(crate) pod: &'a PodRef,
    /// From its arrival to its answer.
    pub(crate) took: Duration,
}

impl Call<'_> {
    fn entry(&self, level: NoticeLevel, kind: Kind, text: String) -> Entry {
        let pod = (!self.pod.name.is_empty()).then(|| self.pod.to_string());
        Entry {
            pod,
            key: Some(self.key.to_owned()),
            took_ms: Some(clock::millis(self.took)),
            ..Entry::new(level, kind, text)
        }
    }
}

impl Observer {
    /// Of a process that began then.
    pub(crate) fn new(began: Now) -> Self {
        let chronicle = Chronicle::new(began.unix_nanos / 1_000_000);
        let state = Mutex::new(State { chronicle, running: HashMap::new(), ruled: None });
        Self(Arc::new(Shared { state, metrics: Metrics::new(began), changed: watch::Sender::new(0) }))
    }

    /// What is counted and measured on the way.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// A pod was given an address.
    pub(crate) fn added(&self, call: &Call<'_>, allocated: &Allocated) {
        self.metrics().call(Verb::Add(None), Phase::Total, call.took);
        let Allocated { address, eni_id, device_index, .. } = allocated;
        let text = format!("{address} of {eni_id} (device {})", device_index.0);
        let entry = call.entry(NoticeLevel::Info, Kind::Added, text);
        self.tell(Entry { address: Some(*address), eni_id: named(eni_id), ..entry });
    }

    /// A pod was refused one.
    pub(crate) fn refused(&self, call: &Call<'_>, refusal: &Refusal) {
        self.metrics().call(Verb::Add(Some(refusal.code)), Phase::Total, call.took);
        self.metrics().refused(refusal.code);
        let retry =
            refusal.retry_after.map(|after| format!("; a retry can succeed in {} s", after.as_secs_f32().ceil()));
        let text = format!("{}{}", refusal.cause, retry.unwrap_or_default());
        let entry = call.entry(NoticeLevel::Warn, Kind::Refused, text);
        self.tell(Entry { code: Some(refusal.code), ..entry });
    }

    /// A pod gave its address back.
    pub(crate) fn released(&self, call: &Call<'_>, allocated: &Allocated) {
        let Allocated { address, eni_id, .. } = allocated;
        let entry = call.entry(NoticeLevel::Info, Kind::Released, format!("{address} of {eni_id}: it cools now"));
        self.tell(Entry { address: Some(*address), eni_id: named(eni_id), ..entry });
    }

    /// The core has something to say.
    pub(crate) fn noticed(&self, notice: &Notice) {
        // What is tried again and again is no news.
        if let Some(code) = notice.code.filter(|_| notice.level > NoticeLevel::Debug) {
            self.metrics().reason(code);
        }
        let kind = match (notice.level, notice.code) {
            (NoticeLevel::Debug, _) => Kind::Action,
            (_, Some(ReasonCode::HostRepaired | ReasonCode::HostContested | ReasonCode::OrphansSwept)) => Kind::Repair,
            (NoticeLevel::Info | NoticeLevel::Warn | NoticeLevel::Error, _) => Kind::State,
        };
        self.tell(Entry { code: notice.code, ..Entry::new(notice.level, kind, notice.text.clone()) });
    }

    /// An action is started.
    pub(crate) fn started(&self, action: &Action) {
        let (name, eni_id) = (action.kind.name(), action.kind.eni_id().cloned());
        self.lock().running.insert(action.id, Running { name, eni_id, since: clock::boot() });
    }

    /// An action has ended.
    pub(crate) fn ended(&self, id: ActionId, outcome: &Outcome) {
        let Some(Running { name, eni_id, since }) = self.lock().running.remove(&id) else { return };
        let took_ms = Some(clock::millis(clock::boot().since(since)));
        let of = eni_id.as_ref().map(|eni_id| format!(" of {eni_id}")).unwrap_or_default();
        let entry = match outcome {
            // Loudly it is told by the core, with its code and what comes of it.
            Outcome::Failed(failure) => {
                Entry::new(NoticeLevel::Debug, Kind::Failure, format!("{name}{of} failed: {}", failure.message))
            }
            _ => Entry::new(NoticeLevel::Debug, Kind::Action, format!("{name}{of} done")),
        };
        self.tell(Entry { eni_id, took_ms, ..entry });
    }

    /// What is wanted next; told when another rule decides or something else binds.
    pub(crate) fn ruled(&self, why: &WhySnapshot) {
        let ruled = Some((why.rule, why.bound_by));
        if std::mem::replace(&mut self.lock().ruled, ruled) != ruled {
            let entry = Entry::new(NoticeLevel::Info, Kind::Decision, why.text.clone());
            self.tell(Entry { code: why.bound_by, ..entry });
        }
    }

    /// The pool's numbers now; whoever shows the state shows it anew.
    pub(crate) fn sampled(&self, sample: Sample) {
        self.lock().chronicle.sample(sample);
        self.ring();
    }

    fn tell(&self, entry: Entry) {
        let unix_ms = clock::now().unix_nanos / 1_000_000;
        self.lock().chronicle.tell(unix_ms, entry);
        self.ring();
    }

    fn ring(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Records from this number on.
    pub(crate) fn since(&self, since: u64) -> Records {
        self.lock().chronicle.since(since)
    }

    /// The pool over the last hour.
    pub(crate) fn course(&self) -> Vec<Sample> {
        self.lock().chronicle.course()
    }

    /// Changes when there is something to show.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Nothing that holds it can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ENI, unless EC2 has not shown yet which it is.
fn named(eni_id: &EniId) -> Option<EniId> {
    (!eni_id.0.is_empty()).then(|| eni_id.clone())
}

#[cfg(test)]
mod tests;
