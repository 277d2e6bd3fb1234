// SPDX-License-Identifier: Apache-2.0
//! The world: one account's VPC (the strict model), nodes with daemon, kernel and runtime, and the clock.
//!
//! Everything that happens is an entry of one queue; the world takes the next, lets it happen, and puts in what follows. A
//! daemon's steps are worked off in order at the moment of its turn; between any two of them it may be killed. A call to
//! EC2 has its effect when it arrives, in the middle of its latency; one that has left arrives whether its caller still
//! lives or not.
//!
//! ```text
//!   queue ─► happening ─► feed(input) ─► steps ─► Write ► disk     AddReply ► runtime     Ec2 ► client ► Leave ► Arrive ► Return
//!     ▲                                                                                             (the model)        │
//!     └──────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: the same seed, nodes, pods and blows give the same run, step by step.

mod blows;
mod calls;
mod kubelet;
mod node;
mod runtime;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::event::Failure;
use ipamd_core::ids::{MacAddr, Now};
use ipnet::Ipv4Net;
use vpc_model::imds::ImdsView;
use vpc_model::{EniId, FabricEvent, InstanceId, Vpc};

use crate::allocator::{Allocator, CallId, Found, Input, KernelAnswer, KernelCall, Step, Strategy, Turn};
use crate::check::Checker;
use crate::client::{Client, Ec2Call, Return};
use crate::pace::Pace;
use crate::queue::Queue;
use crate::rng::{Rng, Stream};
use crate::trace::Trace;

pub use blows::{Blow, CallFault};
pub use node::{Node, NodeId};
pub use runtime::PodPlan;

use kubelet::Kubelet;
use node::Life;
use runtime::{Pod, PodMoment};

/// Wall clock when a world's own clock stands at zero: 2026-01-01T00:00:00Z, the model's.
const EPOCH_NANOS: i64 = 1_767_225_600_000_000_000;
/// How often the daemon looks for tombstones (`ipamd/src/driver.rs`).
const SCAN: Duration = Duration::from_secs(5);
/// The boot that never ends: nodes are not rebooted.
pub(crate) const BOOT_ID: &str = "boot-1";

/// Something that happens.
#[derive(Debug)]
enum Happening {
    /// A daemon starts.
    Boot(NodeId),
    Tick(NodeId, Life),
    /// An attempt of an EC2 call leaves the node,
    Leave(NodeId, Life, CallId),
    /// reaches EC2,
    Arrive(NodeId, Life, CallId, Rc<Ec2Call>),
    /// and its answer the node.
    Return(NodeId, Life, CallId, Box<Return>),
    Imds(NodeId, Life, CallId),
    ImdsReturn(NodeId, Life, CallId, Result<Box<ImdsView>, Failure>),
    /// The kernel is looked at or changed, and when the caller hears of it.
    Kernel(NodeId, Life, CallId, (KernelCall, BootTime)),
    KernelReturn(NodeId, Life, CallId, Result<KernelAnswer, Failure>),
    /// The VPC changes by itself.
    VpcWake,
    LinkSeen(NodeId, Life, MacAddr),
    /// The daemon looks for tombstones.
    Scan(NodeId, Life),
    Pod(usize, PodMoment),
    Blow(Blow),
}

/// The world.
#[derive(Debug)]
pub struct World<S: Strategy> {
    vpc: Vpc,
    queue: Queue<Happening>,
    nodes: Vec<Node<S::Allocator>>,
    strategies: Vec<Rc<S>>,
    by_instance: HashMap<InstanceId, NodeId>,
    eni_owners: HashMap<EniId, NodeId>,
    pods: Vec<Pod>,
    kubelet: Kubelet,
    faults: Vec<CallFault>,
    /// ENIs of somebody else that only take addresses.
    squeezers: Vec<String>,
    pace: Pace,
    latency: Rng,
    runtime: Rng,
    seed: u64,
    vpc_wake: Option<BootTime>,
    next_request: u64,
    checker: Checker,
    trace: Trace,
    eager: bool,
}

impl<S: Strategy> World<S> {
    /// A world without nodes on this VPC, its clock at zero.
    #[must_use]
    pub fn new(vpc: Vpc, pace: Pace, seed: u64) -> Self {
        Self {
            vpc,
            queue: Queue::new(BootTime::default()),
            nodes: Vec::new(),
            strategies: Vec::new(),
            by_instance: HashMap::new(),
            eni_owners: HashMap::new(),
            pods: Vec::new(),
            kubelet: Kubelet::Eager,
            faults: Vec::new(),
            squeezers: Vec::new(),
            pace,
            latency: Rng::new(seed, Stream::Latency),
            runtime: Rng::new(seed, Stream::Runtime),
            seed,
            vpc_wake: None,
            next_request: 0,
            checker: Checker::default(),
            trace: Trace::default(),
            eager: false,
        }
    }

    /// A world for figures: kubelet is as it is in life, and nothing is checked.
    #[must_use]
    pub fn for_figures(vpc: Vpc, pace: Pace, seed: u64) -> Self {
        let mut world = Self::new(vpc, pace, seed);
        world.kubelet = Kubelet::Real;
        world.checker.look_away();
        world
    }

    /// Keeps the lines of what happens from now on.
    pub fn keep_trace(&mut self) {
        self.trace.keep();
    }

    /// Has files written at every step, and not only when a kill is near.
    pub fn write_eagerly(&mut self, eager: bool) {
        (0..self.nodes.len()).for_each(|index| self.read_disk(NodeId(index)));
        self.eager = eager;
    }

    /// Whether files are written at every step.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.eager
    }

    /// Puts the bytes of files that were written into [`Node::disk`]. The daemon must be between two turns.
    pub fn read_disk(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let Some(daemon) = &node.daemon else { return };
        for file in std::mem::take(&mut node.unread) {
            node.disk.insert(file, daemon.file(file));
        }
    }

    /// The lines of what happened.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// An instance of the VPC as a node whose daemon starts at `joins`.
    pub fn add_node(&mut self, strategy: Rc<S>, instance: &InstanceId, joins: BootTime) -> NodeId {
        let id = NodeId(self.nodes.len());
        let rng = Rng::new(self.seed.wrapping_add(id.0 as u64), Stream::Latency);
        let mut node = Node::new(instance.clone(), Client::new(strategy.manners(), rng));
        let held = |eni: &&vpc_model::Eni| eni.attachment().is_some_and(|attachment| attachment.instance == *instance);
        node.enis = self.vpc.enis().filter(held).map(|eni| eni.id.clone()).collect();
        self.eni_owners.extend(node.enis.iter().map(|eni| (eni.clone(), id)));
        self.by_instance.insert(instance.clone(), id);
        self.checker.add_node(strategy.cooldown());
        self.nodes.push(node);
        self.strategies.push(strategy);
        self.queue.put(joins, Happening::Boot(id));
        id
    }

    /// Something goes wrong at that time.
    pub fn order(&mut self, at: BootTime, blow: Blow) {
        self.queue.put(at, Happening::Blow(blow));
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.queue.now()
    }

    /// When something happens next.
    #[must_use]
    pub fn next_time(&self) -> Option<BootTime> {
        self.queue.next_time()
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node<S::Allocator>] {
        &self.nodes
    }

    /// Slots besides the primary address that EC2 allows an ENI of this node.
    #[must_use]
    pub fn slots_per_eni(&self, id: NodeId) -> usize {
        let instance = &self.nodes[id.0].instance;
        let limits = self.vpc.instances().find(|other| other.id == *instance).map(|instance| instance.limits);
        limits.map_or(0, |limits| limits.secondary_slots_per_eni() as usize)
    }

    /// The VPC as it really is.
    #[must_use]
    pub fn vpc(&self) -> &Vpc {
        &self.vpc
    }

    /// The invariants' ledger.
    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.checker
    }

    /// The ledger, to be told of what only its user sees.
    pub fn checker_mut(&mut self) -> &mut Checker {
        &mut self.checker
    }

    /// Lets the next thing happen; `false`: there is none.
    pub fn step(&mut self) -> bool {
        let Some(happening) = self.queue.take() else { return false };
        self.checker.time_is(self.queue.now());
        self.happen(happening);
        true
    }

    /// Lets everything happen until then. Stops early when an invariant is broken.
    pub fn run_until(&mut self, end: BootTime) {
        while self.queue.next_time().is_some_and(|next| next <= end) && self.checker.violation().is_none() {
            self.step();
        }
        self.queue.wait_until(end);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Boot(id) => self.boot(id),
            Happening::Tick(id, life) => self.tick(id, life),
            Happening::Leave(id, life, call) => self.leave(id, life, call),
            Happening::Arrive(id, life, call, request) => self.arrive((id, life, call), &request),
            Happening::Return(id, life, call, returned) => self.returned((id, life, call), *returned),
            Happening::Imds(id, life, call) => self.read_imds(id, life, call),
            Happening::ImdsReturn(id, life, call, answer) => {
                if self.lives(id, life) {
                    self.feed(id, Input::Imds { call, answer });
                }
            }
            Happening::Kernel(id, life, call, (request, ends)) => self.call_kernel((id, life, call), &request, ends),
            Happening::KernelReturn(id, life, call, answer) => {
                if self.lives(id, life) {
                    self.feed(id, Input::Kernel { call, answer });
                }
            }
            Happening::VpcWake => {
                self.vpc_wake = None;
                self.vpc_changed();
            }
            Happening::LinkSeen(id, life, mac) => {
                if self.lives(id, life) {
                    self.feed(id, Input::LinkAppeared { mac });
                }
            }
            Happening::Scan(id, life) => self.scan_tombstones(id, life),
            Happening::Pod(pod, moment) => self.pod_moment(pod, moment),
            Happening::Blow(blow) => self.strike(blow),
        }
    }

    fn lives(&self, id: NodeId, life: Life) -> bool {
        self.nodes[id.0].life == life && self.nodes[id.0].daemon.is_some()
    }

    fn both_clocks(&self) -> Now {
        let boot = self.queue.now();
        Now { boot, unix_nanos: EPOCH_NANOS.saturating_add(i64::try_from(boot.0.as_nanos()).unwrap_or(i64::MAX)) }
    }

    fn turn(&self, id: NodeId) -> Turn {
        let mut turn = Turn::new(self.both_clocks());
        turn.disk_full = self.nodes[id.0].disk_full;
        turn.eager = self.eager || self.nodes[id.0].dies_in.is_some();
        turn.log = self.trace.is_kept().then(Vec::new);
        turn
    }

    /// Starts the daemon with what disk and kernel say.
    fn boot(&mut self, id: NodeId) {
        // Links and whatever else the VPC has for it are there before the daemon is.
        self.vpc_changed();
        let strategy = Rc::clone(&self.strategies[id.0]);
        let node = &mut self.nodes[id.0];
        if node.daemon.is_some() {
            return;
        }
        let found = Found {
            own: node.disk.get(&crate::allocator::File::Own).cloned(),
            reference: node.disk.get(&crate::allocator::File::Reference).cloned(),
            kernel: node.kernel.view(),
            boot_id: BOOT_ID.to_owned(),
        };
        node.tick_at = None;
        let life = node.life;
        let mut turn = self.turn(id);
        self.trace.note(self.queue.now(), id, || "the daemon starts".to_owned());
        let daemon = strategy.start(found, &mut turn);
        self.nodes[id.0].daemon = Some(daemon);
        self.checker.started(id);
        self.work_off(id, turn);
        if self.lives(id, life) {
            self.queue.put(self.now() + Duration::from_millis(1), Happening::Scan(id, life));
            self.serve_socket(id);
        }
    }

    /// Feeds the daemon, when it runs, and works off what follows.
    fn feed(&mut self, id: NodeId, input: Input) {
        let mut turn = self.turn(id);
        let Some(daemon) = self.nodes[id.0].daemon.as_mut() else { return };
        daemon.handle(input, &mut turn);
        self.checker.fed(id);
        self.work_off(id, turn);
        self.look_for_network(id);
    }

    fn work_off(&mut self, id: NodeId, turn: Turn) {
        for line in turn.log.into_iter().flatten() {
            self.trace.note(self.queue.now(), id, || line);
        }
        let life = self.nodes[id.0].life;
        for step in turn.steps {
            if self.nodes[id.0].dies_in == Some(0) {
                self.kill(id);
                return;
            }
            if let Some(left) = &mut self.nodes[id.0].dies_in {
                *left -= 1;
            }
            self.carry_out(id, step);
        }
        if self.lives(id, life) {
            self.wind(id);
        }
    }

    /// Puts the daemon's next tick into the queue.
    fn wind(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let Some(due) = node.daemon.as_ref().and_then(Allocator::next_deadline) else { return };
        let now = self.queue.now();
        self.checker.deadline_is(id, due, now);
        if node.tick_at.is_none_or(|at| due < at || at < now) {
            node.tick_at = Some(due);
            self.queue.put(due, Happening::Tick(id, node.life));
        }
    }

    fn tick(&mut self, id: NodeId, life: Life) {
        let now = self.queue.now();
        let node = &mut self.nodes[id.0];
        if node.life != life || node.tick_at != Some(now) {
            return;
        }
        node.tick_at = None;
        if node.daemon.as_ref().and_then(Allocator::next_deadline).is_some_and(|due| due <= now) {
            self.feed(id, Input::Tick);
        } else {
            self.wind(id);
        }
    }

    fn carry_out(&mut self, id: NodeId, step: Step) {
        let now = self.queue.now();
        match step {
            Step::Write { file, bytes } => {
                let node = &mut self.nodes[id.0];
                if !node.disk_full {
                    node.unread.remove(&file);
                    node.disk.insert(file, bytes);
                }
            }
            Step::WriteLater { file } => {
                let node = &mut self.nodes[id.0];
                if !node.disk_full {
                    node.unread.insert(file);
                }
            }
            Step::AddReply { request, result } => self.add_replied(id, request, result),
            Step::DelReply { request } => {
                self.nodes[id.0].dels.remove(&request);
            }
            Step::ForgetTombstone { key } => {
                let node = &mut self.nodes[id.0];
                node.tombstones.remove(&key);
                node.told.remove(&key);
            }
            Step::Ec2 { call, request } => self.call_ec2(id, call, request),
            Step::Imds { call } => {
                let life = self.nodes[id.0].life;
                let took = self.latency.latency(self.pace.imds);
                self.queue.put(now + took, Happening::Imds(id, life, call));
            }
            Step::Kernel { call, request } => {
                let took = self.latency.latency(self.pace.kernel);
                let node = &mut self.nodes[id.0];
                let begins = node.kernel.free_at.max(now);
                node.kernel.free_at = begins + took;
                // Somewhere between its begin and its end it looks at the kernel, or changes it.
                let looks = begins + took.mul_f64(self.latency.fraction());
                self.queue.put(looks, Happening::Kernel(id, node.life, call, (request, node.kernel.free_at)));
            }
        }
    }

    /// kill -9: what was written stays, what has left arrives, nobody hears of either.
    fn kill(&mut self, id: NodeId) {
        let now = self.queue.now();
        let restart = self.latency.latency(self.pace.restart);
        let node = &mut self.nodes[id.0];
        node.dies_in = None;
        if node.daemon.take().is_none() {
            return;
        }
        node.life.0 += 1;
        node.calls.clear();
        node.told.clear();
        node.kernel.free_at = now;
        node.stats.restarts += 1;
        self.trace.note(now, id, || "the daemon is killed".to_owned());
        self.checker.died(id);
        self.hang_up(id);
        self.queue.put(now + restart, Happening::Boot(id));
    }

    /// Hands the VPC's news to kernels, and looks when there is more.
    fn vpc_changed(&mut self) {
        let now = self.queue.now();
        for event in self.vpc.advance(now.0) {
            match event {
                FabricEvent::EniAttached(eni) => {
                    let Some(id) = self.by_instance.get(&eni.instance).copied() else { continue };
                    let mac = MacAddr(eni.mac.0);
                    let node = &mut self.nodes[id.0];
                    node.kernel.link_came(mac);
                    node.kernel.came(eni.secondary_addresses.iter().copied().chain(inside(&eni.prefixes)));
                    let life = node.life;
                    self.trace.note(now, id, || format!("the link of {} ({mac}) appears", eni.eni));
                    let told = self.latency.latency(Duration::from_millis(4));
                    self.queue.put(now + told, Happening::LinkSeen(id, life, mac));
                }
                FabricEvent::EniDetached { eni, instance, mac } => {
                    let Some(id) = self.by_instance.get(&instance).copied() else { continue };
                    self.nodes[id.0].kernel.link_went(MacAddr(mac.0));
                    self.trace.note(now, id, || format!("the link of {eni} goes"));
                }
                FabricEvent::AddressAssigned { eni, address } => {
                    let Some(id) = self.eni_owners.get(&eni) else { continue };
                    self.nodes[id.0].kernel.came(inside(&[address.block()]));
                }
                FabricEvent::AddressUnassigned { .. }
                | FabricEvent::SourceDestCheckSet { .. }
                | FabricEvent::SecurityGroupsSet { .. } => {}
            }
        }
        if let Some(at) = self.vpc.next_deadline().map(BootTime)
            && self.vpc_wake.is_none_or(|wake| at < wake || wake < now)
        {
            self.vpc_wake = Some(at);
            self.queue.put(at, Happening::VpcWake);
        }
    }
}

fn inside(blocks: &[Ipv4Net]) -> impl Iterator<Item = Ipv4Addr> {
    let range = |block: &Ipv4Net| u32::from(block.network())..=u32::from(block.broadcast());
    blocks.iter().flat_map(range).map(Ipv4Addr::from)
}
