// SPDX-License-Identifier: Apache-2.0
//! The loop: wait for an event or the core's deadline, feed the core, work off what follows.
//!
//! Owns the core; decides nothing. The order is the promise: first the journal, then the answers, then the actions. When
//! the journal cannot be written neither of the others happens: the core takes its effects back
//! (`Event::PersistFailed`) and says what to answer instead.
//!
//! ```text
//!  wait(input | deadline | slow tick) ─► core.handle ─► journal ──ok──► replies ─► actions ─► notices
//!                                            ▲            │failed
//!                                            └─PersistFailed
//! ```
//!
//! Invariant: no await between taking effects from the core and having worked them off.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipamd_core::action::{Action, ActionKind, Effects, Reply};
use ipamd_core::ids::{BootTime, RequestId};
use ipamd_core::reason::{Notice, NoticeLevel, ReasonCode, Refusal};
use ipamd_core::{Core, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::clock;
use crate::edge::kube::Reporter;
use crate::edge::ready::ReadyMarker;
use crate::edge::runner::Runner;
use crate::edge::store::Store;
use crate::edge::tombstones::Tombstones;
use crate::inbox::Input;
use crate::observer::Observer;

/// At least this often the loop turns: tombstones are looked for, the heartbeat beats.
const SLOW_TICK: Duration = Duration::from_secs(5);

/// A loop that has not turned for this long is not healthy: three slow ticks.
const HEALTHY: Duration = Duration::from_secs(15);

/// How often effects are handed back when the journal fails; the core's answer to a failure should not need it again.
const PERSIST_ATTEMPTS: u32 = 3;

/// When the loop last turned; read by the probe without asking the loop.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat(AtomicU64);

impl Heartbeat {
    fn beat(&self, now: BootTime) {
        self.0.store(u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time since the last turn, and whether that is healthy.
    pub(crate) fn age(&self, now: BootTime) -> (Duration, bool) {
        let last = BootTime(Duration::from_millis(self.0.load(Ordering::Relaxed)));
        let age = now.since(last);
        (age, age < HEALTHY)
    }
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
    /// Kubernetes, as far as it is told.
    pub(crate) reporter: Reporter,
    /// Who shows what is done.
    pub(crate) observer: Observer,
    /// Calls without an answer yet.
    pub(crate) waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
}

impl Driver {
    /// Works off the effects of the start, then loops until [`Input::Stop`].
    pub(crate) async fn run(mut self, effects: Effects) {
        self.work_off(effects);
        let mut next_slow_tick = BootTime::default();
        loop {
            let now = clock::boot();
            self.heartbeat.beat(now);
            if now >= next_slow_tick {
                next_slow_tick = now + SLOW_TICK;
                self.slow_tick();
            }
            let due = self.core.next_deadline().map_or(next_slow_tick, |due| due.min(next_slow_tick));
            let wait = due.since(clock::boot());
            match timeout(wait, self.inbox.recv()).await {
                Ok(Some(Input::Stop) | None) => break,
                Ok(Some(input)) => self.take(input),
                Err(_) => {}
            }
            // Also after an input: many that feed nothing to the core (questions for its state) must not keep it waiting.
            self.tick();
        }
        self.stop();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.feed(event),
            Input::Call { request, event, reply } => {
                self.waiting.insert(request, reply);
                self.feed(event);
            }
            Input::Snapshot(answer) => {
                let _ = answer.send(self.core.snapshot(clock::now()));
            }
            Input::Stop => {}
        }
    }

    fn tick(&mut self) {
        if self.core.next_deadline().is_some_and(|due| due <= clock::boot()) {
            self.feed(Event::Tick);
        }
    }

    fn slow_tick(&mut self) {
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
        }
        let effects = self.core.handle(event, clock::now());
        self.work_off(effects);
    }

    fn work_off(&mut self, mut effects: Effects) {
        for _ in 0..PERSIST_ATTEMPTS {
            let written = if effects.persist { self.store.write(&self.core.checkpoint()) } else { Ok(()) };
            let Err(error) = written else { return self.carry_out(effects) };
            let message = crate::telemetry::chain(&error);
            tracing::error!(error = %message, "the journal cannot be written: nothing is allocated until it can");
            let failed = Event::PersistFailed { effects: Box::new(effects), message };
            effects = self.core.handle(failed, clock::now());
        }
        tracing::error!(?effects, "the journal failed again and again, effects are dropped");
    }

    fn carry_out(&mut self, effects: Effects) {
        let changed = effects.persist || !effects.replies.is_empty();
        let decided = !(effects.actions.is_empty() && effects.notices.is_empty() && effects.replies.is_empty());
        for reply in effects.replies {
            self.reply(reply);
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
        if changed {
            self.reporter.changed();
        }
        self.show(changed, decided);
    }

    fn show(&self, changed: bool, decided: bool) {
        if changed || decided {
            self.observer.sampled(self.core.sample(clock::now()));
        }
        if decided {
            self.observer.ruled(&self.core.why(clock::now()));
        }
    }

    fn reply(&mut self, reply: Reply) {
        let (Reply::Add { request, .. } | Reply::Del { request, .. } | Reply::Gc { request, .. }) = &reply;
        if let Some(waiting) = self.waiting.remove(request) {
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
        for (request, answer) in waiting {
            self.feed(Event::RequestAbandoned { request });
            let _ = answer.send(Reply::Add { request, result: Err(refusal.clone()) });
        }
        match self.store.write(&self.core.checkpoint()) {
            Ok(()) => tracing::info!("journal written, stopping; the pods' network stays as it is"),
            Err(error) => tracing::error!(error = %crate::telemetry::chain(&error), "stopping with an old journal"),
        }
    }
}

fn log_notice(notice: &Notice) {
    let Notice { level, text, code } = notice;
    let code = code.map(|code| code.to_string());
    let code = code.as_deref();
    match level {
        NoticeLevel::Debug => tracing::debug!(code, "{text}"),
        NoticeLevel::Info => tracing::info!(code, "{text}"),
        NoticeLevel::Warn => tracing::warn!(code, "{text}"),
        NoticeLevel::Error => tracing::error!(code, "{text}"),
    }
}
