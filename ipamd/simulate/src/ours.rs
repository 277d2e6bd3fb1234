// SPDX-License-Identifier: Apache-2.0
//! Our own daemon in the simulation: the real core, with what stands around it in `ipamd` (driver, facts edge, runner) done
//! in the same order.
//!
//! Work-off order is the driver's: journal (`enid.json`, then `ipam.json`), replies, actions; a journal that cannot be
//! written hands the effects back. Facts come from IMDS: asked for until it answers, then at the driver's slow beat, which comes when the
//! daemon turns anyway, 45 to 75 s apart.

mod facts;
mod translate;

use std::collections::BTreeMap;
use std::time::Duration;

use ipamd_core::action::{Action, ActionKind, Effects, Priority, Reply};
use ipamd_core::event::{Failure, InstanceFacts, Outcome};
use ipamd_core::faults::Fault;
use ipamd_core::ids::{ActionId, Now};
use ipamd_core::repair::RepairReport;
use ipamd_core::{BootTime, Config, Core, Event, Restored};

use crate::allocator::{
    Allocator, CallId, File, Found, Holdings, Input, KernelAnswer, KernelCall, Step, Strategy, Turn,
};
use crate::client::Manners;
use translate::{Next, Operation};

/// Tries while IMDS does not answer: the pause doubles from the first to the longest (`ipamd/src/edge/facts.rs`).
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// From one slow beat to the next, when the daemon turns anyway, and when it does not (`ipamd/src/driver.rs`); facts are read again at it.
const BEAT: Duration = Duration::from_secs(45);
const LATEST_BEAT: Duration = Duration::from_secs(75);
/// How often effects are handed back when the journal fails (`ipamd/src/driver.rs`).
const PERSIST_ATTEMPTS: u32 = 3;

/// Our daemon with these settings.
#[derive(Clone, Debug)]
pub struct Ours {
    name: String,
    config: Config,
    fault: Option<Fault>,
}

impl Ours {
    /// The daemon with this configuration.
    #[must_use]
    pub fn new(name: impl Into<String>, config: Config) -> Self {
        Self { name: name.into(), config, fault: None }
    }

    /// With a mistake put back into the core.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Strategy for Ours {
    type Allocator = Daemon;

    fn name(&self) -> &str {
        &self.name
    }

    fn manners(&self) -> Manners {
        Manners::ours(self.config.http_timeout)
    }

    fn cooldown(&self) -> Duration {
        self.config.cooldown
    }

    fn start(&self, found: Found, turn: &mut Turn) -> Daemon {
        let Found { own, reference, kernel, boot_id } = found;
        let restored = Restored::read(reference.as_deref(), own.as_deref(), kernel, boot_id);
        let (core, effects) = Core::new(self.config.clone(), restored, turn.now);
        let mut daemon = Daemon {
            core: core.with_fault(self.fault),
            calls: BTreeMap::new(),
            next_call: 0,
            facts: None,
            facts_call: None,
            facts_due: turn.boot(),
            pause: FIRST_PAUSE,
            beat: turn.boot(),
        };
        daemon.work_off(effects, turn);
        daemon.read_facts(turn);
        daemon
    }
}

/// What a call was for.
#[derive(Debug)]
enum Purpose {
    Action(ActionId, Priority, Operation),
    Kernel(ActionId),
}

/// Our daemon.
#[derive(Debug)]
pub struct Daemon {
    core: Core,
    calls: BTreeMap<CallId, Purpose>,
    next_call: u64,
    facts: Option<InstanceFacts>,
    /// A read of IMDS under way.
    facts_call: Option<CallId>,
    /// When IMDS is read next, while it has not answered.
    facts_due: BootTime,
    pause: Duration,
    /// The last slow beat.
    beat: BootTime,
}

impl Daemon {
    /// The core.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    fn feed(&mut self, event: Event, turn: &mut Turn) {
        let effects = self.core.handle(event, turn.now);
        self.work_off(effects, turn);
    }

    /// Keeps the journal's texts up, as the driver does at each write.
    pub fn keep_journal(&mut self) {
        let _ = self.core.journal();
    }

    fn work_off(&mut self, mut effects: Effects, turn: &mut Turn) {
        for _ in 0..PERSIST_ATTEMPTS {
            if !effects.persist {
                break;
            }
            if !turn.disk_full {
                if turn.eager {
                    let written = self.core.checkpoint();
                    turn.steps.push(Step::Write { file: File::Own, bytes: written.own_json });
                    turn.steps.push(Step::Write { file: File::Reference, bytes: written.reference_json });
                } else {
                    turn.steps.extend([File::Own, File::Reference].map(|file| Step::WriteLater { file }));
                }
                break;
            }
            let message = "writing the journal: no space left on device".to_owned();
            let failed = Event::PersistFailed { effects: Box::new(effects), message };
            effects = self.core.handle(failed, turn.now);
        }
        for notice in &effects.notices {
            turn.note(|| format!("{:?}: {}", notice.level, notice.text));
        }
        for reply in effects.replies {
            turn.steps.push(match reply {
                Reply::Add { request, result } => Step::AddReply { request, result },
                Reply::Del { request, .. } | Reply::Gc { request, .. } => Step::DelReply { request },
            });
        }
        for action in effects.actions {
            self.start(action, turn);
        }
    }

    fn number(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    fn start(&mut self, action: Action, turn: &mut Turn) {
        let request = match &action.kind {
            ActionKind::ForgetTombstone { key } => {
                turn.steps.push(Step::ForgetTombstone { key: key.clone() });
                return;
            }
            ActionKind::ConfigureEni(plan) => KernelCall::SetUpLink { mac: plan.mac },
            ActionKind::DeconfigureEni(plan) => KernelCall::TearDownLink { mac: plan.mac },
            ActionKind::ConfigureHost(_) => KernelCall::Host,
            ActionKind::Repair(plan) => KernelCall::Repair {
                spared: plan.spared.iter().copied().collect(),
                sweep: plan.sweep.iter().copied().collect(),
            },
            ActionKind::ObserveKernel => KernelCall::Observe,
            ActionKind::FlushAddresses { addresses, .. } => KernelCall::Flush { addresses: addresses.clone() },
            kind => {
                let Some((operation, request)) = Operation::start(kind, turn.boot()) else { return };
                let call = self.number();
                self.calls.insert(call, Purpose::Action(action.id, action.priority, operation));
                turn.steps.push(Step::Ec2 { call, request: request.at(action.priority) });
                return;
            }
        };
        let call = self.number();
        self.calls.insert(call, Purpose::Kernel(action.id));
        turn.steps.push(Step::Kernel { call, request });
    }

    fn ec2_answered(&mut self, call: CallId, answer: Result<String, Failure>, turn: &mut Turn) {
        let Some(Purpose::Action(id, priority, mut operation)) = self.calls.remove(&call) else { return };
        match operation.answered(answer) {
            Next::Call(request) => {
                let call = self.number();
                self.calls.insert(call, Purpose::Action(id, priority, operation));
                turn.steps.push(Step::Ec2 { call, request: request.at(priority) });
            }
            Next::Ended(outcome) => self.feed(Event::ActionEnded { id, outcome }, turn),
        }
    }

    fn kernel_answered(&mut self, call: CallId, answer: Result<KernelAnswer, Failure>, turn: &mut Turn) {
        let Some(Purpose::Kernel(id)) = self.calls.remove(&call) else { return };
        let outcome = match answer {
            Ok(KernelAnswer::Observed(view)) => Outcome::KernelObserved(view),
            Ok(KernelAnswer::Repaired { swept, orphans }) => Outcome::Repaired(Box::new(RepairReport {
                swept: swept.iter().map(|address| format!("ip rule del to {address}")).collect(),
                orphans: orphans.into_iter().collect(),
                ..RepairReport::default()
            })),
            Ok(KernelAnswer::Configured) => Outcome::EniConfigured,
            Ok(KernelAnswer::Done) => Outcome::Done,
            Err(failure) => Outcome::Failed(failure),
        };
        self.feed(Event::ActionEnded { id, outcome }, turn);
    }

    /// Every turn may be one.
    fn beat(&mut self, turn: &mut Turn) {
        if turn.boot() < self.beat + BEAT {
            return;
        }
        self.beat = turn.boot();
        if self.facts.is_some() {
            self.facts_due = self.beat;
            self.read_facts(turn);
        }
    }

    fn read_facts(&mut self, turn: &mut Turn) {
        if self.facts_call.is_none() && self.facts_due <= turn.boot() {
            let call = self.number();
            self.facts_call = Some(call);
            turn.steps.push(Step::Imds { call });
        }
    }

    fn facts_answered(&mut self, answer: Result<InstanceFacts, Failure>, turn: &mut Turn) {
        self.facts_call = None;
        match answer {
            Ok(facts) => {
                if self.facts.as_ref() != Some(&facts) {
                    let kind = facts.instance_type.clone();
                    let first = self.facts.replace(facts.clone()).is_none();
                    self.feed(Event::FactsLearned(facts), turn);
                    if let Some(limits) = instance_limits::lookup(&kind).filter(|_| first) {
                        self.feed(Event::LimitsLearned(limits.clone()), turn);
                    }
                }
            }
            Err(failure) if self.facts.is_none() => {
                self.facts_due = turn.boot() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.feed(Event::FactsUnavailable(failure), turn);
            }
            Err(_) => {}
        }
    }
}

impl Allocator for Daemon {
    fn handle(&mut self, input: Input, turn: &mut Turn) {
        self.beat(turn);
        match input {
            Input::Add { request, key, pod, deadline } => {
                self.feed(Event::AddRequested { request, key, pod, deadline }, turn);
            }
            Input::Abandoned { request } => self.feed(Event::RequestAbandoned { request }, turn),
            Input::Del { request, key } => self.feed(Event::DelRequested { request, key }, turn),
            Input::Tombstone { key } => self.feed(Event::TombstoneFound { key }, turn),
            Input::Ec2 { call, answer } => self.ec2_answered(call, answer, turn),
            Input::Kernel { call, answer } => self.kernel_answered(call, answer, turn),
            Input::Imds { call, answer } if self.facts_call == Some(call) => {
                self.facts_answered(answer.and_then(|view| facts::of(&view)), turn);
            }
            Input::Imds { .. } => {}
            Input::LinkAppeared { mac } => self.feed(Event::LinkAppeared { mac }, turn),
            Input::Tick => {
                if self.facts.is_none() {
                    self.read_facts(turn);
                }
                if self.core.next_deadline().is_some_and(|due| due <= turn.boot()) {
                    self.feed(Event::Tick, turn);
                }
            }
        }
    }

    fn file(&self, file: File) -> Vec<u8> {
        let written = self.core.checkpoint();
        match file {
            File::Own => written.own_json,
            File::Reference => written.reference_json,
        }
    }

    fn next_deadline(&self) -> Option<BootTime> {
        let facts = (self.facts.is_none() && self.facts_call.is_none()).then_some(self.facts_due);
        facts.into_iter().chain(self.core.next_deadline()).chain([self.beat + LATEST_BEAT]).min()
    }

    fn holdings(&self, now: Now) -> Holdings {
        let pool = self.core.snapshot(now).pool;
        Holdings { total: pool.total, allocated: pool.allocated, free: pool.free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simulation cannot depend on the daemon: its text says the same.
    #[test]
    fn the_slow_beat_is_the_drivers() {
        let driver = include_str!("../../src/driver.rs");
        for (name, beat) in [("BEAT", BEAT), ("LATEST_BEAT", LATEST_BEAT)] {
            let line = format!("\nconst {name}: Duration = Duration::from_secs({});\n", beat.as_secs());
            assert!(driver.contains(&line), "not in ipamd/src/driver.rs: {line}");
        }
    }

    /// A daemon that turns every `pace` seconds for an hour, besides when it has to: seconds between its reads of IMDS.
    fn reads(pace: Option<u64>) -> Vec<u64> {
        let vpc = crate::layout::Layout::one("m5.large", 22).build(1).unwrap();
        let instance = vpc.instance_named("n0").unwrap().id.clone();
        let at = |seconds: u64| Now { boot: BootTime(Duration::from_secs(seconds)), ..Now::default() };
        let mut turn = Turn::new(at(0));
        let mut daemon = Ours::new("ours", Config::default()).start(Found::default(), &mut turn);
        let (mut reads, mut answers) = (Vec::new(), Vec::new());
        for second in 0..3_600 {
            let call =
                turn.steps.iter().find_map(|step| if let Step::Imds { call } = step { Some(*call) } else { None });
            answers.extend(call);
            reads.extend(call.map(|_| second));
            turn = Turn::new(at(second));
            if let Some(call) = answers.pop() {
                let answer = Ok(Box::new(vpc.imds_view(&instance, turn.now.boot.0).unwrap()));
                daemon.handle(Input::Imds { call, answer }, &mut turn);
            } else if pace.is_some_and(|pace| second % pace == 0)
                || daemon.next_deadline().is_some_and(|due| due <= turn.boot())
            {
                daemon.handle(Input::Tick, &mut turn);
            }
        }
        reads.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn facts_are_read_again_about_once_a_minute_as_the_daemon_does() {
        for pace in [None, Some(1), Some(50)] {
            let between = reads(pace);
            assert!(between.len() > 40, "{pace:?}: {between:?}");
            assert!(between.iter().all(|seconds| (45..=76).contains(seconds)), "{pace:?}: {between:?}");
        }
    }
}
