// SPDX-License-Identifier: Apache-2.0
//! What is written to the API server, one call after the other: conditions, taints, capacity, annotations, events.
//!
//! Decides nothing: it takes a snapshot when the bell rings (no more than three a second), every 3 s for a minute afterwards, at the driver's
//! slow beat, or when something is due, asks the pure parts what differs, and writes that. A call that fails makes its feature rest, longer
//! each time in a row, 10 min where the right is missing; nothing is queued for it, because what should be there is read from the state
//! again. To the Node nothing is written while its watch is down: a whole cluster would compare with what was there before, again and again.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ipamd_core::config::Taint;
use ipamd_core::reason::ReasonCode;
use ipamd_core::tags::rfc3339;
use ipamd_core::{BootTime, Now, Snapshot};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch as latest};
use tokio::time::timeout;

use super::annotation::{Annotate, Annotations, KEY};
use super::capacity::{Figures, Fits};
use super::condition::{self, Level, Wanted};
use super::demand::Pod;
use super::events::{About, Journal, News, Write};
use super::node::{Node, View};
use super::report::Told;
use super::status::{Status, Work};
use super::{Edge, SharedPods, pause};
use crate::clock;
use crate::edge::layers::Board;
use crate::inbox::Inbox;
use crate::telemetry::chain;

/// One call.
const CALL: Duration = Duration::from_secs(10);
/// Between two snapshots at least.
const LOOKS_APART: Duration = Duration::from_millis(300);
/// And at most, should the loop not beat.
const LOOKS_AT_LEAST: Duration = Duration::from_secs(300);
/// At most while something is under way: after whatever rang the bell, or was written, for as long as the longest of what follows it.
const LOOKS_AFTERWARDS: Duration = Duration::from_secs(3);
const AFTERWARDS: Duration = Duration::from_secs(60);
/// Between two writes that a condition is the same: what the watch shows may be older. None waits for another's turn, and one that
/// changes waits for nothing ([`Level`] and its like change seldom).
const CONDITION_APART: Duration = Duration::from_secs(10);
/// Between two writes of the full node's taint: what the watch shows may be older.
const TAINT_APART: Duration = Duration::from_secs(2);
/// How long a feature rests after a failure: doubling, from the first to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// And where the API server says that it may not.
const FORBIDDEN_REST: Duration = Duration::from_secs(600);

/// Who says it, in events.
const CONTROLLER: &str = "enid.dev/ipamd";
/// The API takes no longer note (events.k8s.io/v1, `note`: 1 kB).
const LONGEST_NOTE: usize = 1_000;

/// Why a call came to nothing.
enum Failed {
    /// 404.
    NotThere,
    /// 409: somebody was quicker, what the watch shows next decides.
    Conflict,
    Rests,
}

/// A feature that rests.
#[derive(Debug)]
struct Rest {
    until: BootTime,
    failures: u32,
}

pub(super) struct Writer {
    client: kube::Client,
    node: String,
    annotates: bool,
    startup_taint: Option<Taint>,
    full_taint: Option<Taint>,
    inbox: Inbox,
    status: Status,
    news: mpsc::Receiver<News>,
    bell: Arc<Notify>,
    view: latest::Receiver<Option<View>>,
    pods: SharedPods,
    journal: Journal,
    level: Level,
    board: Board,
    /// What the Node should show of its settings.
    settings: Option<Wanted>,
    fits: Fits,
    figures: Figures,
    annotations: Annotations,
    /// An address of this boot is there, and an ENI that it was proven on.
    proven: bool,
    rests: BTreeMap<Work, Rest>,
    looked: BootTime,
    /// The driver's slow beat.
    beats: latest::Receiver<()>,
    restless_until: BootTime,
    /// What each condition was written last, and when, by its kind.
    conditions_written: BTreeMap<&'static str, (Wanted, BootTime)>,
    taint_written: Option<BootTime>,
}

impl Writer {
    pub(super) fn new(
        edge: &Edge,
        client: kube::Client,
        told: Told,
        (view, pods): (latest::Receiver<Option<View>>, SharedPods),
    ) -> Self {
        Self {
            client,
            node: edge.node.clone(),
            annotates: edge.config.kubernetes.annotates_pods,
            startup_taint: edge.config.kubernetes.startup_taint.clone(),
            full_taint: edge.config.kubernetes.full_taint.clone(),
            inbox: edge.inbox.clone(),
            status: edge.status.clone(),
            news: told.news,
            bell: told.bell,
            view,
            pods,
            journal: Journal::new(clock::boot()),
            level: Level::default(),
            board: edge.settings.clone(),
            settings: None,
            fits: Fits::default(),
            figures: Figures::new(edge.config.kubernetes.extended_resource.clone()),
            annotations: Annotations::default(),
            proven: false,
            rests: BTreeMap::new(),
            looked: BootTime::default(),
            beats: edge.inbox.beats(),
            restless_until: clock::boot() + AFTERWARDS,
            conditions_written: BTreeMap::new(),
            taint_written: None,
        }
    }

    /// Runs until the daemon ends.
    pub(super) async fn run(mut self) {
        let (mut rung, mut beaten) = (true, false);
        loop {
            let now = clock::boot();
            if beaten || now >= self.looked + self.pace(rung, now) || self.turns_by(now) {
                let Some(snapshot) = self.inbox.snapshot().await else { return };
                self.look(&snapshot, clock::now());
                (rung, beaten) = (false, false);
            }
            if self.status.is_connected() {
                self.write().await;
            }
            let wait = self.next(rung).since(clock::boot()).max(Duration::from_millis(1));
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(news) => {
                        self.journal.add(news, clock::now());
                        // What is worth an event has changed something; of a subnet that is exhausted no bell tells.
                        rung = true;
                    }
                    None => return,
                },
                () = self.bell.notified() => rung = true,
                seen = self.view.changed() => match seen {
                    Ok(()) => self.stirred(),
                    Err(_) => return,
                },
                beat = self.beats.changed() => match beat {
                    Ok(()) => beaten = true,
                    Err(_) => return,
                },
                () = pause(wait) => {}
            }
            if rung {
                self.stirred();
            }
        }
    }

    /// Something happened: what follows from it is looked for more often for a while.
    fn stirred(&mut self) {
        self.restless_until = clock::boot() + AFTERWARDS;
    }

    /// From one look to the next.
    fn pace(&self, rung: bool, now: BootTime) -> Duration {
        match (rung, now < self.restless_until) {
            (true, _) => LOOKS_APART,
            (false, true) => LOOKS_AFTERWARDS,
            (false, false) => LOOKS_AT_LEAST,
        }
    }

    fn turns_by(&self, now: BootTime) -> bool {
        self.level.next().is_some_and(|at| at <= now)
    }

    /// When to go round again at the latest.
    fn next(&self, rung: bool) -> BootTime {
        let now = clock::boot();
        let look = self.looked + self.pace(rung, now);
        let rested = self.rests.get(&Work::Events).map_or(BootTime::default(), |rest| rest.until);
        let event = self.journal.next(now).filter(|_| self.status.is_connected()).map(|at| at.max(rested));
        let awake = self.rests.values().map(|rest| rest.until).filter(|until| *until > now).min();
        let due = [self.level.next(), event, awake];
        due.into_iter().flatten().fold(look, BootTime::min)
    }

    fn look(&mut self, snapshot: &Snapshot, now: Now) {
        self.looked = now.boot;
        self.proven = snapshot.serving && snapshot.pool.free + snapshot.pool.allocated > 0;
        let mut changes = Vec::new();
        if self.level.look(&snapshot.supply, now.boot) {
            changes.extend(self.level.wanted().cloned());
        }
        let on_host = self.pods.lock().on_host();
        if self.view.borrow().as_ref().is_some_and(|view| self.fits.look(snapshot, view, on_host, now.boot)) {
            changes.extend(self.fits.wanted().cloned());
        }
        for Wanted { holds, code, text, .. } in changes {
            self.journal.add(News { about: About::Node, code, warning: !holds, text }, now);
        }
        self.look_at_settings(now);
        self.figures.look(snapshot, now.boot);
        if self.annotates {
            self.annotations.look(&snapshot.pods);
        }
        self.status.given_up(self.journal.dropped());
        self.status.fails_by(self.wanted().filter(|wanted| !wanted.holds).map(|wanted| wanted.code).collect());
    }

    /// An event when they become wrong, when they are wrong otherwise, and when they are right again.
    fn look_at_settings(&mut self, now: Now) {
        let is_shown = self.view.borrow().as_ref().is_some_and(|view| view.shown(condition::SETTINGS).is_some());
        let wanted = condition::of_settings(self.board.verdict(), is_shown);
        let was_right = self.settings.as_ref().is_none_or(|settings| settings.holds);
        if let Some(Wanted { holds, code, text, .. }) = wanted.clone().filter(|wanted| !(was_right && wanted.holds))
            && wanted != self.settings
        {
            self.journal.add(News { about: About::Node, code, warning: !holds, text }, now);
        }
        self.settings = wanted;
    }

    /// All that is due now, as far as it is not resting.
    async fn write(&mut self) {
        let view = self.view.borrow_and_update().clone();
        // What a watch that is down showed last is no ground to write on: it may be hours old.
        if let Some(view) = view.as_ref().filter(|_| self.status.is_up(Work::WatchNode)) {
            self.publish_capacity(view).await;
            self.write_conditions(view).await;
            self.remove_taint(view).await;
            self.taint_full(view).await;
        }
        if self.annotates && self.may(Work::Annotations) {
            let due = self.annotations.due(&self.pods.lock());
            for annotate in due {
                self.annotate(annotate).await;
            }
        }
        while self.may(Work::Events)
            && let Some(write) = self.journal.due(clock::boot())
        {
            self.write_event(write, view.as_ref()).await;
        }
    }

    /// What the Node should show, one of each kind.
    fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.level.wanted().into_iter().chain(&self.settings).chain(self.fits.wanted())
    }

    /// Annotations of a Node may go with its status, so no right is needed but that of the condition.
    async fn publish_capacity(&mut self, view: &View) {
        let now = clock::boot();
        let Some(patch) = self.figures.due(view, now).filter(|_| self.may(Work::Capacity)) else { return };
        self.figures.wrote(now);
        let (api, node, parameters) = (self.nodes(), self.node.clone(), PatchParams::default());
        let _ = self.call(Work::Capacity, api.patch_status(&node, &parameters, &Patch::Merge(patch))).await;
    }

    /// All conditions that differ, in one call.
    async fn write_conditions(&mut self, view: &View) {
        let now = clock::now();
        if !self.may(Work::Condition) {
            return;
        }
        let stamp = rfc3339(now.unix_nanos);
        let early = |wanted: &Wanted| {
            let last = self.conditions_written.get(wanted.kind);
            last.is_some_and(|(same, at)| same == wanted && now.boot < *at + CONDITION_APART)
        };
        let differ = self.wanted().filter(|wanted| !wanted.is(view.shown(wanted.kind)) && !early(wanted));
        let differ: Vec<Wanted> = differ.cloned().collect();
        if differ.is_empty() {
            return;
        }
        let conditions: Vec<Value> =
            differ.iter().map(|wanted| wanted.write(view.shown(wanted.kind), &stamp)).collect();
        self.conditions_written.extend(differ.into_iter().map(|wanted| (wanted.kind, (wanted, now.boot))));
        let api = self.nodes();
        let patch = Patch::Strategic(json!({ "status": { "conditions": conditions } }));
        let (node, parameters) = (self.node.clone(), PatchParams::default());
        let _ = self.call(Work::Condition, api.patch_status(&node, &parameters, &patch)).await;
    }

    async fn remove_taint(&mut self, view: &View) {
        let Some(taint) = self.startup_taint.clone().filter(|_| self.proven && self.may(Work::Taint)) else { return };
        let Some(patch) = view.without(&taint) else { return };
        let (api, node, parameters) = (self.nodes(), self.node.clone(), PatchParams::default());
        if self.call(Work::Taint, api.patch(&node, &parameters, &Patch::Merge(patch))).await.is_ok() {
            tracing::info!(
                node,
                key = taint.key,
                effect = taint.effect,
                "an address is proven: the start-up taint is removed"
            );
        }
    }

    /// As the condition says, so it goes on and off no oftener.
    async fn taint_full(&mut self, view: &View) {
        let now = clock::boot();
        let early = self.taint_written.is_some_and(|at| now < at + TAINT_APART);
        let Some(taint) = self.full_taint.clone().filter(|_| !early && self.may(Work::FullTaint)) else { return };
        let Some(full) = self.level.wanted().map(|wanted| !wanted.holds) else { return };
        let Some(patch) = (if full { view.with(&taint) } else { view.without(&taint) }) else { return };
        self.taint_written = Some(now);
        let (api, node, parameters) = (self.nodes(), self.node.clone(), PatchParams::default());
        if self.call(Work::FullTaint, api.patch(&node, &parameters, &Patch::Merge(patch))).await.is_ok() {
            tracing::info!(node, key = taint.key, effect = taint.effect, full, "the taint of a full node follows");
        }
    }

    async fn annotate(&mut self, Annotate { pod, uid, value }: Annotate) {
        if !self.may(Work::Annotations) {
            return;
        }
        let resource = ApiResource::erase::<v1::Pod>(&());
        let api: Api<Pod> = Api::namespaced_with(self.client.clone(), &pod.namespace, &resource);
        let patch = Patch::Merge(json!({ "metadata": { "uid": uid, "annotations": { KEY: value } } }));
        match self.call(Work::Annotations, api.patch(&pod.name, &PatchParams::default(), &patch)).await {
            Ok(_) => self.pods.lock().annotated(&pod, value),
            Err(Failed::NotThere | Failed::Conflict) => self.pods.lock().forget(&pod),
            Err(Failed::Rests) => {}
        }
    }

    async fn write_event(&mut self, write: Write, view: Option<&View>) {
        let now = clock::boot();
        let namespace = match &write.key.0 {
            About::Node => "default",
            About::Pod(pod) => pod.namespace.as_str(),
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let outcome = match &write.name {
            Some(name) => {
                let patch = Patch::Merge(series(&write));
                let patched = self.call(Work::Events, api.patch(name, &PatchParams::default(), &patch)).await;
                patched.map(|_| name.clone())
            }
            None => {
                let uid = match &write.key.0 {
                    About::Node => view.map(|view| view.uid.clone()),
                    About::Pod(pod) => self.pods.lock().get(pod).map(|kept| kept.uid.clone()),
                };
                let (name, event) = event(&write, &self.node, uid);
                let Ok(event) = serde_json::from_value::<Event>(event) else { return self.journal.gone(&write) };
                self.call(Work::Events, api.create(&PostParams::default(), &event)).await.map(|_| name)
            }
        };
        match outcome {
            Ok(name) => self.journal.wrote(&write, name, now),
            Err(Failed::NotThere | Failed::Conflict) => self.journal.gone(&write),
            Err(Failed::Rests) => self.journal.failed(&write, now),
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<v1::Node>(&()))
    }

    fn may(&self, work: Work) -> bool {
        self.rests.get(&work).is_none_or(|rest| rest.until <= clock::boot())
    }

    /// One call, and what its failure means for the feature.
    async fn call<T: Debug>(&mut self, work: Work, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
        self.stirred();
        let (error, forbidden) = match timeout(CALL, call).await {
            Ok(Ok(answer)) => {
                self.rests.remove(&work);
                self.status.works(work);
                return Ok(answer);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || is_of_one_namespace(&status.message) => {
                return Err(Failed::NotThere);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                if matches!(work, Work::Taint | Work::FullTaint) {
                    self.conflicted(work);
                }
                return Err(Failed::Conflict);
            }
            Ok(Err(kube::Error::Api(status))) => (format!("{} ({})", status.message, status.code), status.code == 403),
            Ok(Err(error)) => (chain(&error), false),
            Err(_) => (format!("no answer for {} s", CALL.as_secs()), false),
        };
        let failures = self.rests.get(&work).map_or(0, |rest| rest.failures);
        let rest = if forbidden { FORBIDDEN_REST } else { longer(failures) };
        self.rests.insert(work, Rest { until: clock::boot() + rest, failures: failures + 1 });
        self.status.fails(work, error);
        Err(Failed::Rests)
    }

    /// The Node was changed meanwhile. Once is nothing; again and again, the watch is slower than we are.
    fn conflicted(&mut self, work: Work) {
        let failures = self.rests.get(&work).map_or(0, |rest| rest.failures);
        let rest = if failures == 0 { Duration::ZERO } else { longer(failures - 1) };
        self.rests.insert(work, Rest { until: clock::boot() + rest, failures: failures + 1 });
    }
}

/// How long a feature rests that has failed so many times in a row before.
fn longer(failures: u32) -> Duration {
    (FIRST_REST * 2_u32.pow(failures.min(6))).min(LONGEST_REST)
}

/// Refused for where the object is, not for a right that is missing: the next one may be taken (admission plugins NamespaceLifecycle and
/// ResourceQuota; both answer 403).
fn is_of_one_namespace(message: &str) -> bool {
    message.contains("because it is being terminated") || message.contains("exceeded quota")
}

/// The event's name, and the event.
fn event(write: &Write, node: &str, uid: Option<String>) -> (String, Value) {
    let (about, code) = &write.key;
    let (namespace, mut regarding) = match about {
        About::Node => ("default", json!({ "apiVersion": "v1", "kind": "Node", "name": node })),
        About::Pod(pod) => {
            let regarding = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": pod.namespace });
            (pod.namespace.as_str(), regarding)
        }
    };
    regarding["uid"] = json!(uid);
    let object = regarding["name"].as_str().unwrap_or_default();
    // As client-go has it: the object's name and a time in hexadecimal. The code beside it, for two of one moment.
    let name = format!("{object}.{:x}.{}", write.first_unix_nanos, code.to_string().to_ascii_lowercase());
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "eventTime": micros(write.first_unix_nanos),
        "reportingController": CONTROLLER, "reportingInstance": node,
        "action": action(about, *code), "reason": code.to_string(), "regarding": regarding,
        "note": note(&write.text), "type": if write.warning { "Warning" } else { "Normal" },
    });
    if write.count > 1 {
        event["series"] = series(write)["series"].clone();
    }
    (name, event)
}

fn action(about: &About, code: ReasonCode) -> &'static str {
    match (about, code) {
        (About::Pod(_), _) => "AllocateAddress",
        (About::Node, ReasonCode::HostRepaired | ReasonCode::HostContested | ReasonCode::OrphansSwept) => {
            "RepairNetwork"
        }
        (About::Node, ReasonCode::ConfigurationInvalid | ReasonCode::ConfigurationValid) => "ReadSettings",
        (About::Node, _) => "ManageAddresses",
    }
}

fn series(write: &Write) -> Value {
    json!({ "series": { "count": write.count, "lastObservedTime": micros(write.last_unix_nanos) } })
}

/// As the API reads times of this kind: with six digits of a second.
pub(super) fn micros(unix_nanos: i64) -> String {
    let micros = unix_nanos.rem_euclid(1_000_000_000) / 1_000;
    format!("{}.{micros:06}Z", rfc3339(unix_nanos).trim_end_matches('Z'))
}

fn note(text: &str) -> String {
    let end = (0..=LONGEST_NOTE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use ipamd_core::ids::PodRef;

    use super::*;

    #[test]
    fn a_namespace_that_ends_or_is_full_makes_nothing_rest() {
        let ends = "events.events.k8s.io \"web.1\" is forbidden: unable to create new content in namespace shop because it is being terminated";
        let full =
            "events.events.k8s.io \"web.1\" is forbidden: exceeded quota: few, requested: count/events.events.k8s.io=1";
        assert!(is_of_one_namespace(ends) && is_of_one_namespace(full));
        assert!(!is_of_one_namespace(
            "events.events.k8s.io is forbidden: User \"enid\" cannot create resource \"events\""
        ));
    }

    #[test]
    fn an_event_is_one_that_the_api_takes() {
        let write = Write {
            key: (About::Pod(PodRef { namespace: "shop".to_owned(), name: "web-0".to_owned() }), ReasonCode::NodeFull),
            warning: true,
            text: "é".repeat(700),
            count: 3,
            first_unix_nanos: 1_767_225_600_000_001_000,
            last_unix_nanos: 1_767_225_601_000_000_000,
            name: None,
        };
        let (name, event) = event(&write, "n1", Some("u".to_owned()));
        assert_eq!(name, "web-0.18867251edfa03e8.nodefull");
        let event: Event = serde_json::from_value(event).unwrap();
        let event = serde_json::to_value(event).unwrap();
        assert_eq!(event["eventTime"], "2026-01-01T00:00:00.000001Z");
        assert_eq!(event["series"], json!({ "count": 3, "lastObservedTime": "2026-01-01T00:00:01.000000Z" }));
        assert_eq!((&event["reason"], &event["type"]), (&json!("NodeFull"), &json!("Warning")));
        assert_eq!(event["note"].as_str().map(str::len), Some(1_000));
        assert_eq!(event["regarding"]["uid"], "u");
    }
}
