// SPDX-License-Identifier: Apache-2.0
//! The container that the reference's daemon runs in: the process while it lives, its ADD and DEL, and its restarts.
//!
//! Carries questions of the process's two goroutines to the world and answers back, keeps their sleep, answers ADD and DEL
//! from the store at once, and does what kubelet does with a process that ends or does not come up.
//!
//! ```text
//!  Running ─ its start fails, or the socket is not there 80 s on ─► Ended{next start} ─ at once, 10 s, 20 s, … 300 s ─► Running
//! ```
//! Invariant: an address is in the checkpoint before the ADD is answered.
//!
//! Source: kubelet's crash-loop back-off (10 s doubling to 5 min, back to nothing after 10 min), the reference's DaemonSet
//! (liveness after 60 s, every 10 s, three failures).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::action::{Allocated, Plumbing};
use ipamd_core::checkpoint::{
    REFERENCE_VERSION, ReferenceAllocation, ReferenceJournal, ReferenceMetadata, parse_reference,
};
use ipamd_core::ids::{AllocationKey, DeviceIndex, EniId, Now, PodRef, RequestId, RouteTable};
use ipamd_core::reason::{ReasonCode, Refusal};
use vpc_model::IdSource;

use super::Settings;
use super::agent::{self, State};
use super::program::{Answer, Ask, Program};
use super::store::Store;
use crate::allocator::{Allocator, CallId, File, Found, Holdings, Input, Step, Turn};

/// From the start to the third failed probe: 60 s, then one every 10 s.
const LIVENESS: Duration = Duration::from_secs(80);
/// First and longest back-off of a container that ended a second time.
const CRASH_LOOP: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Running this long, it starts from nothing again.
const STEADY: Duration = Duration::from_secs(600);
/// What kubelet needs to notice and start a container.
const RESTART: Duration = Duration::from_secs(1);

/// What a goroutine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    For(CallId),
    Until(BootTime),
    Ended,
}

/// The process, while it lives.
#[derive(Debug)]
struct Process {
    state: Rc<RefCell<State>>,
    /// The main one and the one that looks for leaks.
    goroutines: [(Program, Waits); 2],
    started: BootTime,
}

/// The container of one node.
#[derive(Debug)]
pub struct Container {
    settings: Settings,
    process: Option<Process>,
    /// When the process is started again, while there is none.
    next_start: BootTime,
    /// Ends in a row.
    ends: u32,
    starts: u64,
    next_call: u64,
    /// `ipam.json`.
    journal: BTreeMap<AllocationKey, ReferenceAllocation>,
}

impl Container {
    pub(super) fn start(settings: Settings, found: &Found, turn: &mut Turn) -> Self {
        let journal = found.reference.as_deref().and_then(|bytes| parse_reference(bytes).ok());
        let alive = |entry: &ReferenceAllocation| found.kernel.held.iter().any(|held| Some(held.address) == entry.ipv4);
        let allocations = journal.map(|journal| journal.allocations).unwrap_or_default();
        let kept = allocations.into_iter().filter(alive).map(|entry| (entry.key(), entry));
        let mut container = Self {
            settings,
            process: None,
            next_start: turn.boot(),
            ends: 0,
            starts: 0,
            next_call: 0,
            journal: kept.collect(),
        };
        container.advance(turn);
        container
    }

    /// Whether ADD and DEL are answered.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.state.borrow().serving)
    }

    /// Starts of the process.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Does everything that is due.
    fn advance(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        if self.liveness().is_some_and(|end| end <= now) {
            turn.note(|| "kubelet kills the container: its socket is not there".to_owned());
            self.ended(now);
        }
        if self.process.is_none() && self.next_start <= now {
            self.run(turn);
        }
        for at in 0..2 {
            let due = |process: &&Process| matches!(process.goroutines[at].1, Waits::Until(time) if time <= now);
            if self.process.as_ref().filter(due).is_some() {
                self.resume(at, Some(Answer::Slept), turn);
            }
        }
    }

    fn run(&mut self, turn: &mut Turn) {
        self.starts += 1;
        let settings = &self.settings;
        let state = Rc::new(RefCell::new(State {
            now: turn.boot().0,
            store: Store::new(settings.mode, settings.cooldown),
            dice: IdSource::new(settings.seed ^ self.starts.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            serving: false,
            last_action: Duration::ZERO,
            last_shrink: Duration::ZERO,
            out_of_space_until: Duration::ZERO,
            freed: BTreeMap::new(),
            checkpoint: self.journal.iter().filter_map(|(key, entry)| Some((key.clone(), entry.ipv4?))).collect(),
        }));
        let main = Program::new(|desk| agent::run(desk, settings.clone(), state.clone()));
        let leaks = Program::new(|desk| agent::watch_leaks(desk, settings.clone(), state.clone()));
        let goroutines = [(main, Waits::Ended), (leaks, Waits::Ended)];
        self.process = Some(Process { state, goroutines, started: turn.boot() });
        self.resume(0, None, turn);
        self.resume(1, None, turn);
    }

    /// Lets a goroutine go on.
    fn resume(&mut self, at: usize, answer: Option<Answer>, turn: &mut Turn) {
        let Some(process) = &mut self.process else { return };
        process.state.borrow_mut().now = turn.boot().0;
        let (program, waits) = &mut process.goroutines[at];
        let mut number = || {
            self.next_call += 1;
            CallId(self.next_call)
        };
        *waits = match program.resume(answer) {
            Some(Ask::Sleep(time)) => Waits::Until(turn.boot() + time),
            Some(Ask::Ec2(request)) => {
                let call = number();
                turn.steps.push(Step::Ec2 { call, request });
                Waits::For(call)
            }
            Some(Ask::Imds) => {
                let call = number();
                turn.steps.push(Step::Imds { call });
                Waits::For(call)
            }
            Some(Ask::Kernel(request)) => {
                let call = number();
                turn.steps.push(Step::Kernel { call, request });
                Waits::For(call)
            }
            None => Waits::Ended,
        };
        if at == 0 && process.goroutines[0].1 == Waits::Ended {
            turn.note(|| "the process ended: its start failed".to_owned());
            self.ended(turn.boot());
        }
    }

    fn answered(&mut self, call: CallId, answer: Answer, turn: &mut Turn) {
        let waiting = |process: &Process| process.goroutines.iter().position(|(_, waits)| *waits == Waits::For(call));
        if let Some(at) = self.process.as_ref().and_then(waiting) {
            self.resume(at, Some(answer), turn);
        }
    }

    /// The process is gone: kubelet will start it again.
    fn ended(&mut self, now: BootTime) {
        let Some(process) = self.process.take() else { return };
        if now.since(process.started) >= STEADY {
            self.ends = 0;
        }
        let (first, most) = CRASH_LOOP;
        let wait = match self.ends {
            0 => Duration::ZERO,
            ends => first.saturating_mul(1 << (ends - 1).min(10)).min(most),
        };
        self.ends += 1;
        self.next_start = now + wait.max(RESTART);
    }

    /// When kubelet kills a process that does not serve.
    fn liveness(&self) -> Option<BootTime> {
        let process = self.process.as_ref()?;
        (!process.state.borrow().serving).then(|| process.started + LIVENESS)
    }

    fn add(&mut self, key: &AllocationKey, pod: &PodRef, turn: &mut Turn) -> Result<Allocated, Refusal> {
        let Some(process) = self.process.as_ref().filter(|process| process.state.borrow().serving) else {
            return Err(refusal(ReasonCode::Starting, "the daemon's socket is not there"));
        };
        let assigned = {
            let state = &mut *process.state.borrow_mut();
            state.now = turn.boot().0;
            let assigned = state.store.assign(key, state.now, &mut state.dice);
            if turn.disk_full && assigned.is_some() {
                state.store.forget(key);
                return Err(refusal(ReasonCode::StateNotDurable, "the checkpoint cannot be written"));
            }
            assigned.ok_or_else(|| refusal(ReasonCode::BudgetSpent, "no available IP/Prefix addresses"))?
        };
        let metadata =
            ReferenceMetadata { namespace: pod.namespace.clone(), name: pod.name.clone(), interfaces_count: 1 };
        self.journal.insert(
            key.clone(),
            ReferenceAllocation {
                network_name: key.network.clone(),
                container_id: key.container_id.clone(),
                if_name: key.ifname.clone(),
                ipv4: Some(assigned.address),
                ipv6: None,
                allocation_timestamp: i64::try_from(turn.boot().0.as_nanos()).unwrap_or(i64::MAX),
                metadata,
            },
        );
        self.write(turn);
        let device_index = DeviceIndex(assigned.device_index);
        Ok(Allocated {
            address: assigned.address,
            eni_id: EniId(assigned.eni.to_string()),
            device_index,
            network_card: 0,
            table: RouteTable::of_eni(0, device_index),
            plumbing: Plumbing::OwnRules,
        })
    }

    fn del(&mut self, key: &AllocationKey, turn: &mut Turn) {
        if let Some(process) = &self.process {
            process.state.borrow_mut().store.unassign(key, turn.boot().0);
        }
        if self.journal.remove(key).is_some() {
            self.write(turn);
        }
    }

    fn write(&self, turn: &mut Turn) {
        let allocations = self.journal.values().cloned().collect();
        let journal = ReferenceJournal { version: REFERENCE_VERSION.to_owned(), allocations };
        let bytes = serde_json::to_vec(&journal).unwrap_or_default();
        turn.steps.push(Step::Write { file: File::Reference, bytes });
    }

    fn add_reply(&mut self, request: RequestId, key: &AllocationKey, pod: &PodRef, turn: &mut Turn) {
        let result = self.add(key, pod, turn);
        turn.steps.push(Step::AddReply { request, result });
    }
}

impl Allocator for Container {
    fn handle(&mut self, input: Input, turn: &mut Turn) {
        match input {
            Input::Add { request, key, pod, .. } => self.add_reply(request, &key, &pod, turn),
            Input::Del { request, key } => {
                self.del(&key, turn);
                turn.steps.push(Step::DelReply { request });
            }
            Input::Tombstone { key } => {
                self.del(&key, turn);
                turn.steps.push(Step::ForgetTombstone { key });
            }
            Input::Ec2 { call, answer } => self.answered(call, Answer::Ec2(answer), turn),
            Input::Imds { call, answer } => self.answered(call, Answer::Imds(answer), turn),
            Input::Kernel { call, answer } => self.answered(call, Answer::Kernel(answer.map(|_| ())), turn),
            Input::Abandoned { .. } | Input::LinkAppeared { .. } | Input::Tick => {}
        }
        self.advance(turn);
    }

    fn next_deadline(&self) -> Option<BootTime> {
        let Some(process) = &self.process else { return Some(self.next_start) };
        let sleeps = process.goroutines.iter().filter_map(|(_, waits)| match waits {
            Waits::Until(time) => Some(*time),
            Waits::For(_) | Waits::Ended => None,
        });
        sleeps.chain(self.liveness()).min()
    }

    fn holdings(&self, now: Now) -> Holdings {
        let Some(process) = &self.process else { return Holdings::default() };
        let state = process.state.borrow();
        let counts = state.store.counts();
        let cooling = state.store.cooling(now.boot.0);
        let free = counts.total.saturating_sub(counts.assigned + cooling);
        Holdings { total: counts.total, allocated: counts.assigned, free }
    }

    /// Its entrypoint writes the configuration when the socket answers, addresses or not.
    fn is_ready(&self, _: Now) -> bool {
        self.is_serving()
    }
}

fn refusal(code: ReasonCode, cause: &str) -> Refusal {
    Refusal { code, cause: cause.to_owned(), retry_after: None }
}
