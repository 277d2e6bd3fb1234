// SPDX-License-Identifier: Apache-2.0
//! How it stands with the API server, for the log and for `ipamd status`.
//!
//! Said once when it changes: a server that is away for an hour is one line, not a thousand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipamd_core::BootTime;
use ipamd_core::reason::ReasonCode;
use ipamd_core::snapshot::KubernetesSnapshot;

use crate::clock;

/// Something that is read from the API server, or written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Client,
    WatchNode,
    WatchPods,
    WatchEniConfig,
    Condition,
    Events,
    Annotations,
    Taint,
    FullTaint,
    Capacity,
    Sweeper,
}

impl Work {
    fn text(self) -> &'static str {
        match self {
            Self::Client => "making a client",
            Self::WatchNode => "watching the node",
            Self::WatchPods => "watching the node's pods",
            Self::WatchEniConfig => "watching the node's ENIConfig",
            Self::Condition => "writing the node condition",
            Self::Events => "writing events",
            Self::Annotations => "annotating pods",
            Self::Taint => "removing the start-up taint",
            Self::FullTaint => "tainting the full node",
            Self::Capacity => "publishing how many pods the node can have",
            Self::Sweeper => "electing the node that sweeps leaked ENIs",
        }
    }

    fn is_watch(self) -> bool {
        matches!(self, Self::WatchNode | Self::WatchPods | Self::WatchEniConfig)
    }
}

/// The state; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Status(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    dropped: Arc<AtomicU64>,
    given_up: AtomicU64,
}

#[derive(Debug)]
struct State {
    node: Option<String>,
    is_on: bool,
    /// Watches that run.
    up: Vec<Work>,
    since: BootTime,
    cordoned: Option<bool>,
    errors: BTreeMap<Work, String>,
    /// Of conditions that do not hold.
    failing: Vec<ReasonCode>,
    why_off: Option<&'static str>,
}

impl Status {
    /// On as soon as there is a node.
    pub(crate) fn new(node: Option<String>) -> Self {
        let (is_on, why_off) = (node.is_some(), node.is_none().then_some("MY_NODE_NAME is not set"));
        let state = State {
            node,
            is_on,
            up: Vec::new(),
            since: clock::boot(),
            cordoned: None,
            errors: BTreeMap::new(),
            failing: Vec::new(),
            why_off,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), dropped: Arc::default(), given_up: AtomicU64::new(0) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where news that did not fit are counted.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        self.0.dropped.clone()
    }

    /// So many news were given up after they had fitted.
    pub(super) fn given_up(&self, count: u64) {
        self.0.given_up.store(count, Ordering::Relaxed);
    }

    pub(super) fn off(&self, why: &'static str) {
        let mut state = self.state();
        (state.is_on, state.why_off, state.since) = (false, Some(why), clock::boot());
    }

    /// The conditions of the Node that do not hold have these reasons.
    pub(super) fn fails_by(&self, failing: Vec<ReasonCode>) {
        self.state().failing = failing;
    }

    /// Reasons of the Node's conditions that do not hold.
    pub(crate) fn failing(&self) -> Vec<ReasonCode> {
        self.state().failing.clone()
    }

    pub(super) fn cordoned(&self, cordoned: bool) {
        self.state().cordoned = Some(cordoned);
    }

    /// It works.
    pub(super) fn works(&self, work: Work) {
        let mut state = self.state();
        if work.is_watch() && !state.up.contains(&work) {
            if state.up.is_empty() {
                state.since = clock::boot();
            }
            state.up.push(work);
            tracing::info!("the API server answers: {}", work.text());
        }
        if state.errors.remove(&work).is_some() && !work.is_watch() {
            tracing::info!("{} works again", work.text());
        }
    }

    /// It does not.
    pub(super) fn fails(&self, work: Work, error: String) {
        let mut state = self.state();
        if work.is_watch() && state.up.contains(&work) {
            state.up.retain(|up| *up != work);
            if state.up.is_empty() {
                state.since = clock::boot();
            }
        }
        if state.errors.insert(work, error.clone()).is_none() {
            tracing::warn!(
                code = %ReasonCode::ApiServerUnavailable, error,
                "{} fails, trying again; pods are served all the same", work.text()
            );
        }
    }

    /// Whether this watch runs.
    pub(super) fn is_up(&self, work: Work) -> bool {
        self.state().up.contains(&work)
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.state().up.is_empty()
    }

    /// For the snapshot.
    pub(crate) fn show(&self) -> KubernetesSnapshot {
        let state = self.state();
        let text = match (state.is_on, state.up.is_empty()) {
            (false, _) => "off",
            (true, true) => "connecting",
            (true, false) => "connected",
        };
        let errors = state.errors.iter().map(|(work, error)| format!("{}: {error}", work.text()));
        KubernetesSnapshot {
            state: text.to_owned(),
            for_ms: clock::millis(clock::boot().since(state.since)),
            node: state.node.clone(),
            cordoned: state.cordoned,
            errors: state.why_off.map(str::to_owned).into_iter().chain(errors).collect(),
            dropped: self.0.dropped.load(Ordering::Relaxed) + self.0.given_up.load(Ordering::Relaxed),
        }
    }
}
