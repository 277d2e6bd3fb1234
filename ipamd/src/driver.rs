// SPDX-License-Identifier: Apache-2.0
//! The loop: wait for an event or the core's deadline, feed the core, work off what follows.
//!
//! Owns the core; decides nothing. The order is the promise: first the journal, then the answers, then the actions. When
//! the journal cannot be written neither of the others happens: the core takes its effects back
//! (`Event::PersistFailed`) and says what to answer instead.
//!
//! ```text
//!  wait(inputs | deadline | slow beat) ─► core.handle ─► journal ──ok──► replies ─► actions ─► notices
//!                                             ▲            │failed
//!                                             └─PersistFailed
//! ```
//! What lies in the inbox together is worked off together: one write of the journal serves all the calls of a burst. Who watches (the
//! pool's course, what is wanted next, the node's state for Kubernetes) is told when the answers have left and nobody waits for the next.
//!
//! Once a minute, when it turns anyway, it gives the slow beat, which carries what others look at now and then: an idle node's threads wake
//! together and once.
//!
//! Invariant: no await between taking effects from the core and having worked them off.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipamd_core::action::{Action, ActionKind, Effects, Reply};
use ipamd_core::event::Outcome;
use ipamd_core::ids::{BootTime, RequestId};
use ipamd_core::reason::{Notice, NoticeLevel, ReasonCode, Refusal};
use ipamd_core::{Core, Event};
use tokio::sync::{mpsc, oneshot, watch};

use crate::alarm::Alarm;
use crate::clock;
use crate::edge::kube::Reporter;
use crate::edge::ready::ReadyMarker;
use crate::edge::runner::Runner;
use crate::edge::store::Store;
use crate::edge::tombstones::Tombstones;
use crate::inbox::Input;
use crate::metrics::{Phase, Verb};
use crate::observer::Observer;

/// From one slow beat to the next, when the loop turns anyway (the core looks at the kernel once a minute): tombstones that nobody told
/// of are looked for, and who waits for [`Inbox::beats`](crate::inbox::Inbox::beats) has his turn.
const BEAT: Duration = Duration::from_secs(45);
/// When it does not: it turns for that.
const LATEST_BEAT: Duration = Duration::from_secs(75);

/// A loop that is this much behind the time by which it had to turn is not healthy.
const HEALTHY: Duration = Duration::from_secs(15);

/// So many inputs are worked off together at most: the first of them waits for the others.
const TOGETHER: usize = 64;

/// Who watches is told so long after the first thing that he was not, however many calls come.
const UNTOLD: Duration = Duration::from_millis(50);

/// How often effects are handed back when the journal fails; the core's answer to a failure should not need it again.
const PERSIST_ATTEMPTS: u32 = 3;

/// By when the loop has to turn: at once while it works or has something in its inbox, at its next deadline while it waits. Read by the
/// probe without asking the loop.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    due: AtomicU64,
    /// The slow beat.
    slow: watch::Sender<()>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { due: AtomicU64::new(clock::millis(clock::boot().0)), slow: watch::Sender::default() }
    }
}

impl Heartbeat {
    /// Changes at every slow beat.
    pub(crate) fn slow(&self) -> watch::Receiver<()> {
        self.slow.subscribe()
    }

    fn turns_by(&self, at: BootTime) {
        self.due.store(clock::millis(at.0), Ordering::SeqCst);
    }

    /// Something lies in the inbox: it has to turn now.
    pub(crate) fn called(&self) {
        self.due.fetch_min(clock::millis(clock::boot().0), Ordering::SeqCst);
    }

    /// How far it is behind that, and whether that is healthy.
    pub(crate) fn lag(&self, now: BootTime) -> (Duration, bool) {
        let due = BootTime(Duration::from_millis(self.due.load(Ordering::SeqCst)));
        let lag = now.since(due);
        (lag, lag < HEALTHY)
    }
}

/// When the journal was to be written before an answer, and how long that took; `None`: it was as it should be.
#[derive(Clone, Copy, Debug)]
struct Written {
    began: BootTime,
    took: Option<Duration>,
}

/// What those who watch were not told yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untold {
    since: BootTime,
    /// The pool's numbers may be others, or calls wait that did not.
    sampled: bool,
    /// Another rule may decide what is wanted next.
    ruled: bool,
    /// The node's state may be another for Kubernetes.
    reported: bool,
}

/// The loop and everything it works effects off with.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) core: Core,
    pub(crate) inbox: mpsc::UnboundedReceiver<Input>,
    pub(crate) store: Store,
    pub(crate) tombstones: Tombstones,
    pub(crate) runner: Runner,
    pub(crate) ready: ReadyMarker,
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// Rings at the core's deadline.
    pub(crate) alarm: Alarm,
    /// Kubernetes, as far as it is told.
    pub(crate) reporter: Reporter,
    /// Who shows what is done.
    pub(crate) observer: Observer,
    /// Calls without an answer yet, and when each came.
    pub(crate) waiting: HashMap<RequestId, (oneshot::Sender<Reply>, BootTime)>,
    /// What follows from the inputs that were taken, and is not worked off yet.
    pub(crate) pending: Effects,
    pub(crate) untold: Option<Untold>,
}

impl Driver {
    /// Works off the effects of the start, then loops until [`Input::Stop`].
    pub(crate) async fn run(mut self) {
        self.work_off();
        let mut beat: Option<BootTime> = None;
        loop {
            let now = clock::boot();
            self.heartbeat.turns_by(now);
            if beat.is_none_or(|beat| now >= beat + BEAT) {
                beat = Some(now);
                self.find_tombstones();
                self.work_off();
                self.heartbeat.slow.send_replace(());
            }
            if self.untold.is_some() {
                // The answers leave: their tasks are polled before this one is again.
                tokio::task::yield_now().await;
                self.tell();
            }
            let latest = beat.unwrap_or(now) + LATEST_BEAT;
            let due = self.core.next_deadline().map_or(latest, |due| due.min(latest));
            self.heartbeat.turns_by(due);
            let mut inputs = Vec::new();
            // None is taken where it is `due`, or the alarm rang for an earlier wait.
            let is_open = tokio::select! {
                biased;
                taken = self.inbox.recv_many(&mut inputs, TOGETHER) => taken > 0,
                () = self.alarm.by(due) => true,
            };
            self.heartbeat.turns_by(clock::boot());
            if !is_open || !self.take_all(inputs) {
                break;
            }
            // Also after an input: many that feed nothing to the core (questions for its state) must not keep it waiting.
            self.tick();
        }
        self.stop();
    }

    /// Takes inputs, and works off what follows from them together; `false`: it is to end.
    fn take_all(&mut self, inputs: Vec<Input>) -> bool {
        let (mut goes_on, mut calls) = (true, Vec::new());
        for input in inputs {
            if matches!(input, Input::Stop) {
                goes_on = false;
                break;
            }
            calls.extend(self.take(input));
        }
        self.work_off();
        // They wait, and nothing may have followed from that: who shows the state, or judges it, has to know all the same.
        if calls.iter().any(|request| self.waiting.contains_key(request)) {
            self.owe(true, false, true);
        }
        goes_on
    }

    /// The call that it was, if it was one.
    fn take(&mut self, input: Input) -> Option<RequestId> {
        match input {
            Input::Event(event) => self.feed(event),
            Input::Call { request, event, reply } => {
                self.waiting.insert(request, (reply, clock::boot()));
                self.feed(event);
                return Some(request);
            }
            // Asked while the loop did not turn, by somebody who has gone on without.
            Input::Snapshot(answer) if answer.is_closed() => {}
            Input::Snapshot(answer) => {
                // Nobody is shown what is not durable.
                self.work_off();
                let _ = answer.send(self.core.snapshot(clock::now()));
            }
            Input::Tombstones => self.find_tombstones(),
            Input::Stop => {}
        }
        None
    }

    fn tick(&mut self) {
        if self.core.next_deadline().is_some_and(|due| due <= clock::boot()) {
            self.feed(Event::Tick);
            self.work_off();
        }
    }

    fn find_tombstones(&mut self) {
        for key in self.tombstones.scan() {
            tracing::info!(%key, "found the tombstone of a DEL that came while the daemon was away");
            self.feed(Event::TombstoneFound { key });
        }
    }

    fn feed(&mut self, event: Event) {
        if let Event::RequestAbandoned { request } = &event {
            self.waiting.remove(request);
        }
        if let Event::ActionEnded { id, outcome } = &event {
            self.observer.ended(*id, outcome);
            if matches!(outcome, Outcome::Failed(_)) {
                self.reporter.changed();
            }
        }
        self.pending.join(self.core.handle(event, clock::now()));
    }

    fn work_off(&mut self) {
        let mut effects = std::mem::take(&mut self.pending);
        for _ in 0..PERSIST_ATTEMPTS {
            let began = clock::boot();
            let written = if effects.persist { self.store.write(&self.core.journal()) } else { Ok(()) };
            let took = effects.persist.then(|| clock::boot().since(began));
            if let Some(took) = took {
                self.observer.metrics().journal(written.is_ok(), took);
            }
            let Err(error) = written else { return self.carry_out(effects, &Written { began, took }) };
            let message = crate::telemetry::chain(&error);
            tracing::error!(
                code = %ReasonCode::StateNotDurable, error = %message,
                "the journal cannot be written: nothing is allocated until it can"
            );
            let failed = Event::PersistFailed { effects: Box::new(effects), message };
            effects = self.core.handle(failed, clock::now());
        }
        tracing::error!(
            code = %ReasonCode::StateNotDurable, ?effects,
            "the journal failed again and again, effects are dropped"
        );
    }

    fn carry_out(&mut self, effects: Effects, written: &Written) {
        let changed = effects.persist || !effects.replies.is_empty();
        // What stands in the way of the next ADD may be another thing now.
        let loud = |notice: &Notice| notice.level > NoticeLevel::Debug;
        let may_matter = effects.notices.iter().any(loud) || effects.actions.iter().any(|action| action.kind.is_ec2());
        let decided = !(effects.actions.is_empty() && effects.notices.is_empty() && effects.replies.is_empty());
        for reply in effects.replies {
            self.reply(reply, written);
        }
        for (state, took) in self.core.take_lived() {
            self.observer.metrics().lived(state, took);
        }
        for action in effects.actions {
            self.start(action);
        }
        for notice in &effects.notices {
            log_notice(notice);
            self.reporter.noticed(notice);
            self.observer.noticed(notice);
        }
        self.ready.update(&self.core);
        self.owe(changed || decided, decided, changed || may_matter);
    }

    fn owe(&mut self, sampled: bool, ruled: bool, reported: bool) {
        if !(sampled || ruled || reported) {
            return;
        }
        let since = clock::boot();
        let untold = self.untold.get_or_insert(Untold { since, sampled: false, ruled: false, reported: false });
        untold.sampled |= sampled;
        untold.ruled |= ruled;
        untold.reported |= reported;
    }

    /// Tells who watches, unless calls wait to be taken.
    fn tell(&mut self) {
        let is_late = |untold: &mut Untold| untold.since + UNTOLD <= clock::boot();
        let Some(untold) = self.untold.take_if(|untold| self.inbox.is_empty() || is_late(untold)) else { return };
        if untold.reported {
            self.reporter.changed();
        }
        if untold.sampled {
            self.observer.sampled(self.core.sample(clock::now()));
        }
        if untold.ruled {
            self.observer.ruled(&self.core.why(clock::now()));
        }
    }

    fn reply(&mut self, reply: Reply, written: &Written) {
        let (request, verb) = match &reply {
            Reply::Add { request, result } => {
                (request, Some(Verb::Add(result.as_ref().err().map(|refusal| refusal.code))))
            }
            Reply::Del { request, .. } => (request, Some(Verb::Del)),
            Reply::Gc { request, .. } => (request, None),
        };
        if let Some((waiting, came)) = self.waiting.remove(request) {
            if let Some(verb) = verb {
                let metrics = self.observer.metrics();
                metrics.call(verb, Phase::Address, written.began.since(came));
                if let Some(took) = written.took {
                    metrics.call(verb, Phase::Journal, took);
                }
            }
            // A caller that went away meanwhile sends a DEL: the runtime does that for every ADD it gave up.
            let _ = waiting.send(reply);
        }
    }

    fn start(&mut self, action: Action) {
        if let ActionKind::ForgetTombstone { key } = &action.kind {
            self.tombstones.forget(key);
        } else {
            self.observer.started(&action);
            self.runner.start(action);
        }
    }

    /// Sends who waits to the next daemon (`edge::rpc` answers "unavailable", and the plugin asks again), and leaves a journal without them.
    fn stop(&mut self) {
        let refusal = Refusal {
            code: ReasonCode::Stopping,
            cause: "the daemon is stopping; try again when it is back".to_owned(),
            retry_after: Some(Duration::from_secs(1)),
        };
        let waiting: Vec<_> = self.waiting.drain().collect();
        for (request, (answer, _)) in waiting {
            self.feed(Event::RequestAbandoned { request });
            let _ = answer.send(Reply::Add { request, result: Err(refusal.clone()) });
        }
        self.work_off();
        let written = self.store.write(&self.core.journal());
        self.store.close();
        match written {
            Ok(()) => tracing::info!("journal written, stopping; the pods' network stays as it is"),
            Err(error) => {
                tracing::error!(
                    code = %ReasonCode::StateNotDurable, error = %crate::telemetry::chain(&error),
                    "stopping with an old journal"
                )
            }
        }
    }
}

fn log_notice(notice: &Notice) {
    let Notice { level, text, code } = notice;
    let code = code.map(ReasonCode::name);
    match level {
        NoticeLevel::Debug => tracing::debug!(code, "{text}"),
        NoticeLevel::Info => tracing::info!(code, "{text}"),
        NoticeLevel::Warn => tracing::warn!(code, "{text}"),
        NoticeLevel::Error => tracing::error!(code, "{text}"),
    }
}
