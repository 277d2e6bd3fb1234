// SPDX-License-Identifier: Apache-2.0
//! The state machine of the daemon: events in; state to keep, replies and actions out.
//!
//! Every event is handled in two steps. First it is *noted*: what it says is written into the state (`calls`, `ended`,
//! `learn`, `kernel`). Then the state is *advanced*: everything that can be done now is started, everything that waits for
//! time registers when (`advance`, `drive`, `pool`, `waiting`). The second step looks at the state alone, never at which
//! event came, so a lost, doubled or late event changes when something happens and not whether.
//!
//! ```text
//!   event ──► note ──► state ──► advance ──► persist, replies, actions, notices
//!                        ▲          └──► next deadline
//!                        └── restore: journal + kernel
//! ```
//!
//! Invariants, each a property test: an address has at most one owner and a key at most one address; nothing allocated,
//! cooling or seen in the kernel is unassigned, detached or deleted; no address is given out before its cooldown ends,
//! nor before the kernel has forgotten its last owner (or failed to for ten seconds);
//! slots and addresses stay within the limits, calls under way counted; every ADD is answered once, by its deadline;
//! advancing twice at one time does nothing the second time; whenever the journal would differ, the effects say persist.
//!
//! What it does not: no clock, no IO, no log. The driver does those.

mod advance;
pub(crate) mod allowances;
mod announced;
mod calls;
mod capacity;
mod drive;
mod ended;
mod flush;
mod garbage;
mod journal;
pub(crate) mod kernel;
pub(crate) mod leaked;
pub(crate) mod learn;
mod limits;
mod outlook;
mod patience;
mod places;
pub(crate) mod pod_network;
mod pool;
pub(crate) mod record;
pub(crate) mod repair;
pub(crate) mod requests;
mod ruling;
mod sandboxes;
mod settings;
mod show;
mod shrinking;
mod slow;
pub(crate) mod state;
mod steering;
mod supply;
pub(crate) mod tracked;
mod unassigning;
mod undurable;
mod upkeep;
mod urgency;
mod waiting;

#[cfg(test)]
mod tests;

use instance_limits::InstanceLimits;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::action::{Action, ActionKind, Effects};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::event::{EniView, Event, Failure, FailureClass, InstanceFacts};
use crate::faults::Fault;
use crate::ids::{ActionId, AllocationKey, BootTime, EniId, Now, SubnetId};
use crate::lifecycle::{Eni, Request};
use crate::metrics::lived::Lived;
use crate::planner::adaptive::Adaptive;
use crate::planner::guess::Guess;
use crate::reads::Read;
use crate::reason::{Notice, NoticeLevel, ReasonCode, reason_of};
use crate::restore::{self, Restored};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::waiters::Waiters;
pub(crate) use state::Purpose;
use state::{
    Drift, Flight, Growing, Hold, Host, KernelWitness, LastFailure, Other, Shrinking, Subnet, Undurable, Zone,
};

/// The pure core: owned by the driver, fed with events, never blocking.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// A mistake put back on purpose, to show that it is found; the daemon has none.
    pub(crate) fault: Option<Fault>,
    pub(crate) boot_id: String,
    /// Part of client tokens that no earlier run can have used.
    pub(crate) token_stem: String,
    pub(crate) facts: Option<InstanceFacts>,
    pub(crate) facts_failure: Option<Failure>,
    pub(crate) limits: Option<InstanceLimits>,
    pub(crate) store: Store,
    /// What was observed of ADDs and ENIs, for a node without warm targets.
    pub(crate) adaptive: Adaptive,
    /// ENIs that serve pods, or will.
    pub(crate) enis: BTreeMap<EniId, Eni>,
    /// Attached ENIs that are left alone.
    pub(crate) others: BTreeMap<EniId, Other>,
    /// Create calls, by token.
    pub(crate) requests: BTreeMap<String, Request>,
    pub(crate) waiters: Waiters,
    /// Whether any waited when the state was last advanced.
    pub(crate) waited: bool,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) zone: Zone,
    pub(crate) pod_networking: pod_network::PodNetworking,
    /// Limits that nobody tells, as far as EC2's refusals have taught them.
    pub(crate) guess: Option<Guess>,
    pub(crate) sweep: leaked::Sweep,
    pub(crate) flushes: flush::Flushes,
    /// Something changed then that a description must show.
    pub(crate) describe_after: Option<BootTime>,
    pub(crate) announced: announced::Announced,
    /// Whether Kubernetes may put pods here: the node is not cordoned.
    pub(crate) schedulable: bool,
    pub(crate) describe: Read,
    /// What the last DescribeEnis showed.
    pub(crate) described: BTreeMap<EniId, EniView>,
    /// Whether EC2 was read once since the start: before, nothing is asked for.
    pub(crate) learned: bool,
    /// From when on a read shows all that an earlier process wrote: the first one may lag, so another is due then.
    pub(crate) settled_at: BootTime,
    pub(crate) observe: Read,
    pub(crate) kernel: KernelWitness,
    pub(crate) sandboxes: sandboxes::Sandboxes,
    pub(crate) host: Host,
    pub(crate) repairs: repair::Repairs,
    pub(crate) connections: tracked::Connections,
    pub(crate) allowances: allowances::Allowances,
    /// How long ENIs were in each state, for who measures.
    pub(crate) lived: Lived,
    pub(crate) shrinking: Shrinking,
    /// What is missing is asked for a little later than it was noticed.
    pub(crate) growing: Growing,
    /// Addresses (as /32) and prefixes given back a moment ago, which a lagging read may still show.
    pub(crate) unassigned: BTreeMap<Ipv4Net, BootTime>,
    /// ENIs let go a moment ago, which a lagging read may still show.
    pub(crate) departed: BTreeMap<EniId, BootTime>,
    pub(crate) tombstones_done: VecDeque<AllocationKey>,
    /// Tombstones on disk that can go.
    pub(crate) forgets: Vec<AllocationKey>,
    /// The journal does not say what cools: addresses of the first read rest until then.
    pub(crate) quarantine: Option<BootTime>,
    /// Where EC2's word differs from ours about what is in use.
    pub(crate) drift: Drift,
    /// What the start had to report of the journal, for operators.
    pub(crate) journal_report: Vec<String>,
    /// ENIs the instance takes by EC2's own word, and until when we believe that.
    pub(crate) learned_enis: Option<(u32, BootTime)>,
    pub(crate) creates_held: Option<Hold>,
    /// The last ENI that was made was never attached, for its addresses.
    pub(crate) unattachable: bool,
    pub(crate) in_flight: BTreeMap<ActionId, Flight>,
    pub(crate) failures: BTreeMap<&'static str, LastFailure>,
    pub(crate) next_action: u64,
    pub(crate) next_serial: u64,
    /// Something besides the store changed that the journal must show.
    pub(crate) changed: bool,
    /// The journal as text, as far as it was asked for.
    pub(crate) journal: journal::Journal,
    pub(crate) undurable: Option<Undurable>,
    /// When to be woken at the latest.
    pub(crate) wake: Option<BootTime>,
    /// Whether some ENI with addresses was proven since the start.
    pub(crate) serving: bool,
}

/// One call into the core: the time, and what comes of it.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) now: Now,
    pub(crate) fx: Effects,
}

impl Turn {
    pub(crate) fn new(now: Now) -> Self {
        Self { now, fx: Effects::default() }
    }

    pub(crate) fn boot(&self) -> BootTime {
        self.now.boot
    }

    pub(crate) fn notice(&mut self, level: NoticeLevel, code: Option<ReasonCode>, text: impl Into<String>) {
        self.fx.notices.push(Notice { level, text: text.into(), code });
    }

    pub(crate) fn info(&mut self, text: impl Into<String>) {
        self.notice(NoticeLevel::Info, None, text);
    }

    /// Degraded: never without the code of its cause.
    pub(crate) fn warn(&mut self, code: ReasonCode, text: impl Into<String>) {
        self.notice(NoticeLevel::Warn, Some(code), text);
    }

    pub(crate) fn error(&mut self, code: ReasonCode, text: impl Into<String>) {
        self.notice(NoticeLevel::Error, Some(code), text);
    }

    pub(crate) fn debug(&mut self, text: impl Into<String>) {
        self.notice(NoticeLevel::Debug, None, text);
    }
}

impl Core {
    /// Starts from what was found on disk and in the kernel. The effects are worked off like those of [`Core::handle`].
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Now) -> (Self, Effects) {
        let mut turn = Turn::new(now);
        let mut core = restore::build(config, restored, &mut turn);
        core.changed = true;
        let effects = core.finish(turn);
        (core, effects)
    }

    /// With a mistake put back, to show that the simulation finds it.
    #[doc(hidden)]
    #[must_use]
    pub fn with_fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn makes(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Takes one event. `now` never runs backwards.
    ///
    /// The effects are worked off, or handed back by [`Event::PersistFailed`], before the driver waits for anything; those of calls in a
    /// row may be joined before ([`Effects::join`]).
    pub fn handle(&mut self, event: Event, now: Now) -> Effects {
        if self.is_no_news(&event) {
            return Effects::default();
        }
        let mut turn = Turn::new(now);
        self.note(&mut turn, event);
        self.finish(turn)
    }

    /// What the kernel tells of every ADD and DEL: the state is the same with it and without, so nothing can follow.
    fn is_no_news(&self, event: &Event) -> bool {
        match event {
            Event::LinkAppeared { mac } => self.is_strange_link(*mac),
            Event::KernelChanged(change) => self.hurts_nobody(change),
            _ => false,
        }
    }

    fn note(&mut self, turn: &mut Turn, event: Event) {
        match event {
            Event::FactsLearned(facts) => self.facts_learned(turn, facts),
            Event::FactsUnavailable(failure) => self.facts_unavailable(turn, failure),
            Event::LimitsLearned(limits) => self.limits_learned(turn, limits),
            Event::LimitsUnavailable(failure) => self.limits_unavailable(turn, &failure),
            Event::NatBlocksChanged(blocks) => self.config.snat.blocks = blocks,
            Event::SettingsChanged(live) => self.settings_changed(turn, *live),
            Event::EnisChanged => self.describe_after = Some(turn.boot()),
            Event::NodeSchedulable(schedulable) => self.schedulable = schedulable,
            Event::PodsBound(pods) => self.announced.bound = pods,
            Event::PodNetworkChanged(said) => self.pod_network_changed(turn, said),
            Event::PodNetworkRefused(said) => self.pod_network_refused(turn, said),
            Event::SweeperElected(elected) => self.sweeper_elected(turn, elected),
            Event::AddRequested { request, key, pod, deadline } => {
                self.add_requested(turn, key, pod, crate::waiters::Call { request, deadline });
            }
            Event::RequestAbandoned { request } => {
                self.waiters.abandon(request);
            }
            Event::DelRequested { request, key } => self.del_requested(turn, request, &key),
            Event::GcRequested { request, garbage } => self.gc_requested(turn, request, &garbage),
            Event::TombstoneFound { key } => self.tombstone_found(turn, key),
            Event::ActionEnded { id, outcome } => self.ended(turn, id, outcome),
            Event::LinkAppeared { mac } => self.link_appeared(turn.boot(), mac),
            Event::KernelChanged(change) => self.kernel_changed(turn, change),
            Event::ConnectionsCounted(found) => self.connections.counted(turn, found, self.config.notrack),
            Event::AllowancesCounted(found) => self.allowances_counted(turn, found),
            Event::PersistFailed { effects, message } => self.persist_failed(turn, *effects, message),
            Event::Tick => {}
        }
    }

    fn finish(&mut self, mut turn: Turn) -> Effects {
        self.wake = None;
        self.advance(&mut turn);
        self.look_at_states(turn.boot());
        self.serving |= self.has_addresses();
        let durable = self.undurable.is_none();
        let changed = self.store.take_changed() | std::mem::take(&mut self.changed);
        turn.fx.persist = changed && durable;
        if changed && !durable {
            self.changed = true;
        }
        turn.fx
    }

    /// When [`Event::Tick`] must be fed at the latest; `None`: nothing waits for time. Always later than the last `now`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        self.wake
    }

    /// Whether the last write of the journal failed and is yet to be tried again.
    #[must_use]
    pub fn is_undurable(&self) -> bool {
        self.undurable.is_some()
    }

    /// Both journal files of the present state, rendered whole and in order: for who has no earlier text ([`Core::journal`]).
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        self.record()
    }

    /// The states that ENIs have left since this was last asked, and how long they were in them.
    pub fn take_lived(&mut self) -> Vec<(&'static str, Duration)> {
        self.lived.take()
    }

    fn look_at_states(&mut self, now: BootTime) {
        let enis = self.enis.values().map(|eni| (eni.eni_id.as_str(), eni.phase.name(), eni.since));
        let requests = self.requests.values().map(|request| (request.token.as_str(), "Requested", request.since));
        self.lived.look(now, enis.chain(requests));
    }

    /// The state for operators.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        self.show(now)
    }

    /// The configuration it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Asks to be woken at `at`.
    pub(crate) fn alarm(&mut self, at: BootTime) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Marks the journal as behind.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
        self.journal.touch();
    }

    /// Starts an action; its outcome comes back under the id.
    pub(crate) fn start(&mut self, turn: &mut Turn, purpose: Purpose, kind: ActionKind) -> ActionId {
        self.next_action += 1;
        let id = ActionId(self.next_action);
        turn.debug(format!("starting {purpose}"));
        let priority = self.priority(&purpose);
        self.in_flight.insert(id, slow::flight(purpose, turn.boot()));
        turn.fx.actions.push(Action { id, priority, kind });
        id
    }

    /// Spreads this node's retries away from other nodes'.
    pub(crate) fn salt(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| crate::backoff::salt(facts.instance_id.as_str()))
    }

    /// Whether an ADD may be answered with an address: an ENI of this boot that has some was proven, and the host is set up.
    /// Once true it stays so.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving && self.host.applied.is_some()
    }

    /// Records a failure for operators, reports it, and says when to try again.
    pub(crate) fn failed(&mut self, turn: &mut Turn, what: &Purpose, failure: &Failure, attempt: u32) -> BootTime {
        let wait = crate::backoff::delay(failure, attempt, self.salt());
        let at = turn.boot();
        let reason = reason_of(failure, Some(what));
        // A denied call is about the right, not about the ENI.
        let eni_id = what.eni_id().filter(|_| failure.class != FailureClass::Denied).cloned();
        let last =
            LastFailure { what: what.to_string(), failure: failure.clone(), reason, at, eni_id, recovered: None };
        self.failures.insert(what.kind(), last);
        let level = state::loudness(failure.class);
        let text =
            format!("{what} failed ({}: {}); next try in {} ms", failure.code, failure.message, wait.as_millis());
        turn.notice(level, Some(reason), text);
        at + wait
    }

    /// The same for a read, which is tried again then.
    pub(crate) fn read_failed(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        failure: Failure,
        read: fn(&mut Self) -> &mut Read,
    ) {
        let attempts = read(self).attempts + 1;
        let retry = self.failed(turn, what, &failure, attempts);
        let read = read(self);
        read.attempts = attempts;
        read.failed(failure, retry);
    }
}
