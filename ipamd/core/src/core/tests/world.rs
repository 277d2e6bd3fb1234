// SPDX-License-Identifier: Apache-2.0
//! A node's outside in memory: EC2, kernel, disk, plugin, clock. It runs the core's actions with a latency each, can fail
//! them before or after their effect, and holds the core to its invariants after every single call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::action::{Action, ActionKind, CLIENT_TOKEN_TAG, Effects, Reply};
use crate::config::{Config, WarmTargets};
use crate::core::Core;
use crate::event::{
    AttachmentView, EniView, Event, Failure, FailureClass, HeldAddress, InstanceFacts, KernelView, Outcome,
};
use crate::ids::{
    ActionId, AllocationKey, AttachmentId, BootTime, DeviceIndex, EniId, MacAddr, Now, PodRef, RequestId,
};
use crate::reason::{Notice, ReasonCode};
use crate::restore::Restored;
use crate::{Checkpoint, Snapshot};

pub(super) const BOOT: &str = "boot-1";
const INSTANCE: &str = "i-1";

/// What a fault does to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing happens.
    Before(FailureClass),
    /// It happens, but nobody hears of it.
    After,
    /// It happens, and its outcome is delivered twice.
    Twice,
}

/// An ENI as EC2 holds it.
#[derive(Clone, Debug)]
pub(super) struct FakeEni {
    pub(super) view: EniView,
    /// When its link appears in the kernel.
    pub(super) link_at: BootTime,
}

/// What the test believes of an address, from replies and DELs alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) owner: BTreeMap<AllocationKey, Ipv4Addr>,
    pub(super) resting_until: BTreeMap<Ipv4Addr, BootTime>,
    /// Sandboxes that are gone although the journal may still have them: no DEL came, or its release was not written.
    pub(super) ghosts: BTreeMap<AllocationKey, Ipv4Addr>,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) config: Config,
    pub(super) facts: InstanceFacts,
    pub(super) now: Now,
    pub(super) enis: BTreeMap<EniId, FakeEni>,
    tokens: BTreeMap<String, EniId>,
    pub(super) subnet_free: BTreeSet<Ipv4Addr>,
    pub(super) max_enis: usize,
    pub(super) per_eni: usize,
    pub(super) faults: BTreeMap<&'static str, VecDeque<Fault>>,
    pub(super) link_delay: Duration,
    pub(super) latency: Duration,
    pub(super) observe_takes: Duration,
    /// Actions under way, and when they end.
    pub(super) pending: Vec<(BootTime, Action)>,
    late: Vec<(BootTime, ActionId, Outcome)>,
    pub(super) pods: BTreeMap<AllocationKey, Ipv4Addr>,
    /// Whether the plugin makes a veth at once when an ADD succeeds.
    pub(super) plumbs: bool,
    pub(super) replies: BTreeMap<RequestId, Result<Ipv4Addr, ReasonCode>>,
    last_refusal: String,
    pub(super) deadlines: BTreeMap<RequestId, (AllocationKey, BootTime)>,
    pub(super) answered_at: BTreeMap<RequestId, BootTime>,
    pub(super) ledger: Ledger,
    pub(super) disk: Option<Checkpoint>,
    pub(super) disk_full: bool,
    pub(super) notices: Vec<Notice>,
    pub(super) calls: BTreeMap<&'static str, u32>,
    proven: BTreeSet<EniId>,
    /// Reads until then show these ENIs.
    lagging: Option<(BootTime, BTreeMap<EniId, FakeEni>)>,
    squeezed: BTreeSet<Ipv4Addr>,
    tombstones: BTreeSet<AllocationKey>,
    next_request: u64,
    next_eni: u32,
}

pub(super) fn key(container: &str) -> AllocationKey {
    AllocationKey { network: "aws-cni".into(), container_id: container.into(), ifname: "eth0".into() }
}

pub(super) fn warm_addresses(warm: u32, minimum: u32) -> Config {
    Config { warm: WarmTargets::Addresses { warm, minimum }, ..Config::default() }
}

pub(super) fn warm_enis(enis: u32) -> Config {
    Config { warm: WarmTargets::Enis(enis), ..Config::default() }
}

fn facts(instance_type: &str) -> InstanceFacts {
    InstanceFacts {
        instance_id: INSTANCE.into(),
        instance_type: instance_type.into(),
        availability_zone: "us-east-1a".into(),
        region: "us-east-1".into(),
        vpc_id: "vpc-1".into(),
        vpc_cidrs: vec!["10.0.0.0/16".parse().expect("block")],
        primary_eni_id: "eni-0".into(),
        primary_mac: MacAddr([2, 0, 0, 0, 0, 0]),
        primary_address: [10, 0, 0, 4].into(),
        subnet_id: "subnet-1".into(),
        subnet_cidr: "10.0.0.0/20".parse().expect("block"),
        security_group_ids: vec!["sg-1".into()],
    }
}

pub(super) fn failure(class: FailureClass) -> Failure {
    Failure { class, code: format!("{class:?}"), message: format!("injected {class:?}"), retry_after: None }
}

pub(super) fn kind_name(kind: &ActionKind) -> &'static str {
    match kind {
        ActionKind::CreateEni { .. } => "create",
        ActionKind::AttachEni { .. } => "attach",
        ActionKind::SetDeleteOnTermination { .. } => "termination",
        ActionKind::AssignAddresses { .. } => "assign",
        ActionKind::UnassignAddresses { .. } => "unassign",
        ActionKind::DetachEni { .. } => "detach",
        ActionKind::DeleteEni { .. } => "delete",
        ActionKind::DescribeEnis { .. } => "describe",
        ActionKind::DescribeSubnet { .. } => "subnet",
        ActionKind::ConfigureEni(_) => "configure",
        ActionKind::DeconfigureEni(_) => "deconfigure",
        ActionKind::ConfigureHost { .. } => "host",
        ActionKind::ObserveKernel => "observe",
        ActionKind::ForgetTombstone { .. } => "forget",
    }
}

impl World {
    /// A node with only its primary ENI; the core is started but has not heard of IMDS yet.
    pub(super) fn unborn(instance_type: &str, config: Config) -> Self {
        let limits = instance_limits::lookup(instance_type).expect("a known type");
        let facts = facts(instance_type);
        let now = Now { boot: BootTime(Duration::from_secs(100)), unix_nanos: 1_756_684_800_000_000_000 };
        let restored = Restored::read(None, None, KernelView::default(), BOOT);
        let (core, effects) = Core::new(config.clone(), restored, now);
        let mut world = Self {
            core,
            config,
            facts,
            now,
            enis: BTreeMap::new(),
            tokens: BTreeMap::new(),
            subnet_free: (10..4_000).map(|host| Ipv4Addr::from(0x0a00_0000 + host)).collect(),
            max_enis: limits.max_enis_on_default_card() as usize,
            per_eni: limits.secondary_slots_per_eni() as usize,
            faults: BTreeMap::new(),
            link_delay: Duration::from_millis(500),
            latency: Duration::from_millis(300),
            observe_takes: Duration::from_millis(5),
            pending: Vec::new(),
            late: Vec::new(),
            pods: BTreeMap::new(),
            plumbs: true,
            replies: BTreeMap::new(),
            last_refusal: String::new(),
            deadlines: BTreeMap::new(),
            answered_at: BTreeMap::new(),
            ledger: Ledger::default(),
            disk: None,
            disk_full: false,
            notices: Vec::new(),
            calls: BTreeMap::new(),
            proven: BTreeSet::new(),
            lagging: None,
            squeezed: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            next_request: 0,
            next_eni: 1,
        };
        world.add_primary();
        world.take(effects);
        world
    }

    /// A node whose core has been told who it is.
    pub(super) fn new(instance_type: &str, config: Config) -> Self {
        let mut world = Self::unborn(instance_type, config);
        let facts = world.facts.clone();
        world.feed(Event::FactsLearned(facts));
        world
    }

    fn add_primary(&mut self) {
        let mut view = self.blank_view(self.facts.primary_eni_id.clone(), self.facts.primary_address);
        view.mac = self.facts.primary_mac;
        view.attachment = Some(attachment(&view.eni_id, DeviceIndex(0)));
        self.enis.insert(view.eni_id.clone(), FakeEni { view, link_at: BootTime::default() });
    }

    pub(super) fn blank_view(&self, eni_id: EniId, primary_address: Ipv4Addr) -> EniView {
        EniView {
            eni_id,
            mac: MacAddr([2, 0, 0, 0, 0, 0]),
            subnet_id: self.facts.subnet_id.clone(),
            primary_address,
            secondary_addresses: vec![],
            prefixes: vec![],
            attachment: None,
            status: "available".into(),
            interface_type: "interface".into(),
            foreign: false,
            description: String::new(),
            tags: vec![],
        }
    }

    /// Puts an ENI of someone else onto the instance.
    pub(super) fn attach_stranger(&mut self, id: &str, index: u32, change: impl FnOnce(&mut EniView)) {
        let address = self.subnet_free.pop_first().expect("an address");
        let mut view = self.blank_view(id.into(), address);
        view.mac = MacAddr([6, 0, 0, 0, 0, u8::try_from(index).expect("small")]);
        view.attachment = Some(attachment(&view.eni_id, DeviceIndex(index)));
        change(&mut view);
        self.enis.insert(view.eni_id.clone(), FakeEni { view, link_at: BootTime::default() });
    }

    /// Fails the next call of a kind.
    pub(super) fn fault(&mut self, kind: &'static str, fault: Fault) {
        self.faults.entry(kind).or_default().push_back(fault);
    }

    /// Feeds an event now.
    pub(super) fn feed(&mut self, event: Event) {
        let effects = self.core.handle(event, self.now);
        self.take(effects);
    }

    /// What the driver does with effects: persist, replies, actions.
    fn take(&mut self, effects: Effects) {
        if effects.persist && self.disk_full {
            let failed = Event::PersistFailed { effects: Box::new(effects), message: "disk full".into() };
            let again = self.core.handle(failed, self.now);
            assert!(!again.persist, "a failed write must not be tried again in the same breath");
            self.take(again);
            return;
        }
        let written = self.core.checkpoint();
        if effects.persist {
            self.disk = Some(written);
        } else if !self.disk_full && self.core.undurable.is_none() {
            assert_eq!(self.disk, Some(written), "a change of the journal without persist");
        }
        self.notices.extend(effects.notices);
        for reply in effects.replies {
            self.take_reply(reply);
        }
        for action in effects.actions {
            self.take_action(action);
        }
        self.check_state();
    }

    fn take_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Add { request, result } => {
                let (key, deadline) = self.deadlines.remove(&request).expect("one answer a call, and none after it");
                assert!(self.now.boot <= deadline, "an answer after the deadline");
                self.answered_at.insert(request, self.now.boot);
                self.replies.insert(request, result.as_ref().map(|it| it.address).map_err(|refusal| refusal.code));
                if let Err(refusal) = &result {
                    self.last_refusal.clone_from(&refusal.cause);
                }
                if let Ok(allocated) = result {
                    self.check_given(&key, allocated.address, &allocated.eni_id);
                    self.ledger.owner.insert(key.clone(), allocated.address);
                    if self.plumbs {
                        self.pods.insert(key, allocated.address);
                    }
                }
            }
            Reply::Del { .. } => {}
        }
    }

    fn check_given(&self, key: &AllocationKey, address: Ipv4Addr, eni_id: &EniId) {
        for (owner, theirs) in &self.ledger.owner {
            assert!(owner == key || *theirs != address, "{address} of {owner} was given to {key} too");
        }
        if self.ledger.owner.get(key) == Some(&address) || self.ledger.ghosts.get(key) == Some(&address) {
            return;
        }
        assert!(!self.ledger.owner.contains_key(key), "{key} got a second address");
        assert!(
            self.ledger.resting_until.get(&address).is_none_or(|until| *until <= self.now.boot),
            "{address} was given out before its cooldown ended"
        );
        assert!(self.proven.contains(eni_id), "{address} is on {eni_id}, which is not proven");
        let on_eni = self
            .enis
            .get(eni_id)
            .is_some_and(|eni| eni.view.attachment.is_some() && eni.view.secondary_addresses.contains(&address));
        assert!(on_eni, "{address} is not on {eni_id} in EC2");
        let owner = self.pods.iter().find(|(_, held)| **held == address).map(|(owner, _)| owner);
        assert!(owner.is_none_or(|owner| owner == key), "{address} is in use by {owner:?}");
    }

    fn take_action(&mut self, action: Action) {
        *self.calls.entry(kind_name(&action.kind)).or_default() += 1;
        let in_use: BTreeSet<Ipv4Addr> = self.ledger.owner.values().chain(self.pods.values()).copied().collect();
        let check = |address: &Ipv4Addr| {
            assert!(!in_use.contains(address), "{address} is in use: {action:?}");
            let resting = self.ledger.resting_until.get(address).is_some_and(|until| *until > self.now.boot);
            assert!(!resting, "{address} is cooling: {action:?}");
        };
        match &action.kind {
            ActionKind::UnassignAddresses { addresses, .. } => addresses.iter().for_each(check),
            ActionKind::DetachEni { eni_id, .. } | ActionKind::DeleteEni { eni_id } => {
                assert_ne!(*eni_id, self.facts.primary_eni_id, "the primary ENI");
                if let Some(eni) = self.enis.get(eni_id) {
                    eni.view.secondary_addresses.iter().for_each(check);
                }
            }
            ActionKind::ForgetTombstone { key } => {
                self.tombstones.remove(key);
                return;
            }
            ActionKind::CreateEni { .. }
            | ActionKind::AttachEni { .. }
            | ActionKind::SetDeleteOnTermination { .. }
            | ActionKind::AssignAddresses { .. }
            | ActionKind::DescribeEnis { .. }
            | ActionKind::DescribeSubnet { .. }
            | ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost { .. }
            | ActionKind::ObserveKernel => {}
        }
        let local = matches!(
            action.kind,
            ActionKind::ConfigureEni(_)
                | ActionKind::DeconfigureEni(_)
                | ActionKind::ConfigureHost { .. }
                | ActionKind::ObserveKernel
        );
        let takes = match &action.kind {
            ActionKind::ObserveKernel => self.observe_takes,
            _ if local => Duration::from_millis(5),
            _ => self.latency,
        };
        // An EC2 read shows what is there when it begins; the effect of everything else comes at its end.
        self.pending.push((self.now.boot + takes, action));
    }

    fn check_state(&mut self) {
        if let Some(wake) = self.core.next_deadline() {
            assert!(wake > self.now.boot, "a deadline that has come already");
        }
        let snapshot: Snapshot = self.core.snapshot(self.now);
        assert!(snapshot.pool.shortfall == 0 || snapshot.pool.surplus == 0);
        if let Some(max) = snapshot.pool.max_enis.filter(|_| snapshot.other_enis.is_empty()) {
            let reason = "more ENIs than the limits allow";
            assert!(snapshot.pool.enis <= max.max(1) || self.core.learned_enis.is_some(), "{reason}: {snapshot:?}");
        }
        for eni in &snapshot.enis {
            let most = self.core.per_eni().map_or(0, |most| most.0);
            assert!(eni.total + eni.assigning <= most.max(eni.total), "{eni:?}");
        }
        // Advancing again at the same time does nothing.
        let again = self.core.handle(Event::Tick, self.now);
        assert!(again.actions.is_empty() && again.replies.is_empty() && !again.persist, "not a fixed point: {again:?}");
    }

    /// The next time at which something happens by itself.
    fn next_time(&self) -> Option<BootTime> {
        let pending = self.pending.iter().map(|(at, _)| *at);
        let late = self.late.iter().map(|(at, _, _)| *at);
        pending.chain(late).chain(self.core.next_deadline()).min()
    }

    /// Lets `time` pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.boot + time;
        let mut steps = 0;
        while let Some(at) = self.next_time().filter(|at| *at <= end) {
            self.go_to(at);
            self.step();
            steps += 1;
            assert!(steps < 200_000, "it runs in circles");
        }
        self.go_to(end);
    }

    pub(super) fn run_seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    fn go_to(&mut self, at: BootTime) {
        let passed = at.since(self.now.boot);
        self.now.boot = self.now.boot.max(at);
        self.now.unix_nanos += i64::try_from(passed.as_nanos()).expect("small");
    }

    fn step(&mut self) {
        if let Some(index) = self.pending.iter().position(|(at, _)| *at <= self.now.boot) {
            let (_, action) = self.pending.remove(index);
            self.finish(action);
        } else if let Some(index) = self.late.iter().position(|(at, _, _)| *at <= self.now.boot) {
            let (_, id, outcome) = self.late.remove(index);
            self.feed(Event::ActionEnded { id, outcome });
        } else {
            self.feed(Event::Tick);
        }
    }

    fn finish(&mut self, action: Action) {
        let fault = self.faults.get_mut(kind_name(&action.kind)).and_then(VecDeque::pop_front);
        let outcome = match fault {
            Some(Fault::Before(class)) => Outcome::Failed(failure(class)),
            Some(Fault::After) => {
                self.perform(&action.kind);
                Outcome::Failed(failure(FailureClass::Unknown))
            }
            Some(Fault::Twice) => {
                let outcome = self.perform(&action.kind);
                self.late.push((self.now.boot + Duration::from_millis(700), action.id, outcome.clone()));
                outcome
            }
            None => self.perform(&action.kind),
        };
        self.feed(Event::ActionEnded { id: action.id, outcome });
    }

    /// EC2 and the kernel.
    fn perform(&mut self, kind: &ActionKind) -> Outcome {
        match kind {
            ActionKind::CreateEni { secondary_addresses, client_token, tags, .. } => {
                self.create(*secondary_addresses as usize, client_token, tags)
            }
            ActionKind::AttachEni { eni_id, device_index, .. } => self.attach(eni_id, *device_index),
            ActionKind::SetDeleteOnTermination { eni_id, .. } => self.terminate_with_instance(eni_id),
            ActionKind::AssignAddresses { eni_id, count } => self.assign(eni_id, *count as usize),
            ActionKind::UnassignAddresses { eni_id, addresses } => self.unassign(eni_id, addresses),
            ActionKind::DetachEni { eni_id, attachment_id } => self.detach(eni_id, attachment_id),
            ActionKind::DeleteEni { eni_id } => self.delete(eni_id),
            ActionKind::DescribeEnis { also, tokens, .. } => self.describe(also, tokens),
            ActionKind::DescribeSubnet { .. } => Outcome::SubnetDescribed {
                cidr: self.facts.subnet_cidr,
                available: u32::try_from(self.subnet_free.len()).expect("small"),
            },
            ActionKind::ConfigureEni(plan) => match self.enis.get(&plan.eni_id) {
                Some(eni) if eni.view.attachment.is_some() && eni.link_at <= self.now.boot => {
                    self.proven.insert(plan.eni_id.clone());
                    Outcome::EniConfigured
                }
                _ => Outcome::Failed(failure(FailureClass::LinkMissing)),
            },
            ActionKind::DeconfigureEni(plan) => {
                self.proven.remove(&plan.eni_id);
                Outcome::Done
            }
            ActionKind::ConfigureHost { .. } | ActionKind::ForgetTombstone { .. } => Outcome::Done,
            ActionKind::ObserveKernel => Outcome::KernelObserved(self.kernel_view()),
        }
    }

    pub(super) fn kernel_view(&self) -> KernelView {
        KernelView {
            held: self
                .pods
                .iter()
                .map(|(key, address)| HeldAddress {
                    address: *address,
                    key: Some(key.clone()),
                    link: format!("eni{}", key.container_id),
                })
                .collect(),
            host_veths: Vec::new(),
            link_macs: Vec::new(),
        }
    }

    fn create(&mut self, count: usize, token: &str, tags: &[(String, String)]) -> Outcome {
        if let Some(eni) = self.tokens.get(token).and_then(|id| self.enis.get(id)) {
            return Outcome::EniCreated(eni.view.clone());
        }
        if self.subnet_free.len() < count + 1 {
            return Outcome::Failed(failure(FailureClass::SubnetExhausted));
        }
        assert!(tags.iter().any(|(name, value)| name == CLIENT_TOKEN_TAG && value == token));
        let primary = self.subnet_free.pop_first().expect("counted");
        let number = self.next_eni;
        self.next_eni += 1;
        let mut view = self.blank_view(EniId(format!("eni-{number}")), primary);
        let [_, _, high, low] = number.to_be_bytes();
        view.mac = MacAddr([2, 0, 0, 1, high, low]);
        view.tags = tags.to_vec();
        view.secondary_addresses = (0..count).filter_map(|_| self.subnet_free.pop_first()).collect();
        self.tokens.insert(token.to_owned(), view.eni_id.clone());
        self.enis.insert(view.eni_id.clone(), FakeEni { view: view.clone(), link_at: BootTime::default() });
        Outcome::EniCreated(view)
    }

    fn attached(&self) -> impl Iterator<Item = &FakeEni> {
        self.enis.values().filter(|eni| eni.view.attachment.is_some())
    }

    fn attach(&mut self, id: &EniId, index: DeviceIndex) -> Outcome {
        let taken = self
            .attached()
            .any(|eni| eni.view.attachment.as_ref().is_some_and(|attachment| attachment.device_index == index));
        let full = self.attached().count() >= self.max_enis;
        let link_at = self.now.boot + self.link_delay;
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        let class = if eni.view.attachment.is_some() {
            FailureClass::WrongState
        } else if full {
            FailureClass::AttachmentLimit
        } else if taken {
            FailureClass::DeviceIndexTaken
        } else {
            let attachment = attachment(id, index);
            let attachment_id = attachment.attachment_id.clone();
            eni.view.attachment = Some(attachment);
            eni.view.status = "in-use".into();
            eni.link_at = link_at;
            return Outcome::EniAttached { attachment_id };
        };
        Outcome::Failed(failure(class))
    }

    fn terminate_with_instance(&mut self, id: &EniId) -> Outcome {
        match self.enis.get_mut(id).and_then(|eni| eni.view.attachment.as_mut()) {
            Some(attachment) => {
                attachment.delete_on_termination = true;
                Outcome::Done
            }
            None => Outcome::Failed(failure(FailureClass::NotFound)),
        }
    }

    fn assign(&mut self, id: &EniId, count: usize) -> Outcome {
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        if eni.view.secondary_addresses.len() + count > self.per_eni {
            return Outcome::Failed(failure(FailureClass::AddressLimit));
        }
        if self.subnet_free.len() < count {
            return Outcome::Failed(failure(FailureClass::SubnetExhausted));
        }
        let fresh: Vec<Ipv4Addr> = (0..count).filter_map(|_| self.subnet_free.pop_first()).collect();
        eni.view.secondary_addresses.extend(&fresh);
        Outcome::AddressesAssigned(fresh)
    }

    fn unassign(&mut self, id: &EniId, addresses: &[Ipv4Addr]) -> Outcome {
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        if !addresses.iter().all(|address| eni.view.secondary_addresses.contains(address)) {
            return Outcome::Failed(failure(FailureClass::WrongState));
        }
        eni.view.secondary_addresses.retain(|address| !addresses.contains(address));
        self.subnet_free.extend(addresses);
        Outcome::Done
    }

    fn detach(&mut self, id: &EniId, attachment_id: &AttachmentId) -> Outcome {
        let Some(eni) = self.enis.get_mut(id) else { return Outcome::Failed(failure(FailureClass::NotFound)) };
        if eni.view.attachment.as_ref().is_none_or(|attachment| attachment.attachment_id != *attachment_id) {
            return Outcome::Failed(failure(FailureClass::NotFound));
        }
        eni.view.attachment = None;
        eni.view.status = "available".into();
        Outcome::Done
    }

    fn delete(&mut self, id: &EniId) -> Outcome {
        match self.enis.get(id) {
            None => Outcome::Failed(failure(FailureClass::NotFound)),
            Some(eni) if eni.view.attachment.is_some() => Outcome::Failed(failure(FailureClass::WrongState)),
            Some(eni) => {
                self.subnet_free.extend(&eni.view.secondary_addresses);
                self.subnet_free.insert(eni.view.primary_address);
                self.enis.remove(id);
                Outcome::Done
            }
        }
    }

    fn describe(&self, also: &[EniId], tokens: &[String]) -> Outcome {
        let wanted = |view: &EniView| {
            view.attachment.is_some()
                || also.contains(&view.eni_id)
                || view.tags.iter().any(|(name, value)| name == CLIENT_TOKEN_TAG && tokens.contains(value))
        };
        let lagging = self.lagging.as_ref().filter(|(until, _)| self.now.boot < *until).map(|(_, enis)| enis);
        let shown = lagging.unwrap_or(&self.enis);
        let enis = shown.values().map(|eni| &eni.view).filter(|view| wanted(view)).cloned().collect();
        Outcome::EnisDescribed { enis, read_at: self.now.boot }
    }

    /// For a few seconds reads show what is true now.
    pub(super) fn lag(&mut self) {
        self.lagging = Some((self.now.boot + Duration::from_secs(8), self.enis.clone()));
    }

    /// Leaves only so many addresses in the subnet.
    pub(super) fn squeeze_subnet(&mut self, left: usize) {
        self.subnet_free.append(&mut self.squeezed);
        while self.subnet_free.len() > left {
            self.squeezed.extend(self.subnet_free.pop_last());
        }
    }

    /// A device index that EC2 has free.
    pub(super) fn free_index(&self) -> Option<u32> {
        let taken: BTreeSet<u32> = self
            .attached()
            .filter_map(|eni| eni.view.attachment.as_ref())
            .map(|attachment| attachment.device_index.0)
            .collect();
        let most = u32::try_from(self.max_enis).expect("small");
        (1..most)
            .find(|index| !taken.contains(index))
            .filter(|_| taken.len() < self.max_enis && !self.subnet_free.is_empty())
    }

    /// An EC2 read under way, as if someone had asked for it now.
    pub(super) fn start_read(&mut self) -> ActionId {
        let id = ActionId(u64::MAX);
        self.core.describe.running = Some((id, self.now.boot));
        let flight =
            crate::core::state::Flight { purpose: crate::core::state::Purpose::Describe, since: self.now.boot };
        self.core.in_flight.insert(id, flight);
        id
    }

    /// The sandbox dies without a DEL.
    pub(super) fn vanish(&mut self, container: &str) {
        if let Some(address) = self.ledger.owner.get(&key(container)) {
            self.ledger.ghosts.insert(key(container), *address);
        }
        self.released(container);
    }

    /// A DEL that the plugin left on disk.
    pub(super) fn tombstone(&mut self, container: &str) {
        let done = self.core.tombstones_done.contains(&key(container));
        let waits = self.deadlines.values().any(|(waiting, _)| *waiting == key(container));
        if !done && !waits {
            self.released(container);
            self.tombstones.insert(key(container));
            self.feed(Event::TombstoneFound { key: key(container) });
        }
    }

    /// An ADD with `budget`; the answer is in `replies` once given.
    pub(super) fn add_with(&mut self, container: &str, budget: Duration) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let deadline = self.now.boot + budget;
        self.deadlines.insert(request, (key(container), deadline));
        let pod = PodRef { namespace: "default".into(), name: container.into() };
        self.feed(Event::AddRequested { request, key: key(container), pod, deadline });
        request
    }

    pub(super) fn add(&mut self, container: &str) -> RequestId {
        self.add_with(container, Duration::from_millis(19_500))
    }

    pub(super) fn del(&mut self, container: &str) {
        self.released(container);
        self.next_request += 1;
        self.feed(Event::DelRequested { request: RequestId(self.next_request), key: key(container) });
    }

    pub(super) fn released(&mut self, container: &str) {
        self.pods.remove(&key(container));
        if let Some(address) = self.ledger.owner.remove(&key(container)) {
            self.ledger.resting_until.insert(address, self.now.boot + self.config.cooldown);
        }
    }

    pub(super) fn abandon(&mut self, request: RequestId) {
        self.deadlines.remove(&request);
        self.feed(Event::RequestAbandoned { request });
    }

    /// kill -9 and start. Actions under way happen or not; nobody hears of them.
    pub(super) fn restart(&mut self, happens: impl Fn(usize) -> bool) {
        for (index, (_, action)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if happens(index) {
                self.perform(&action.kind);
            }
        }
        self.late.clear();
        self.deadlines.clear();
        self.proven.clear();
        let disk = self.disk.take();
        let restored = Restored::read(
            disk.as_ref().map(|disk| disk.reference_json.as_slice()),
            disk.as_ref().map(|disk| disk.own_json.as_slice()),
            self.kernel_view(),
            BOOT,
        );
        if let Some(Ok(journal)) = &restored.reference {
            for entry in &journal.allocations {
                if let Some(address) = entry.ipv4.filter(|_| !self.ledger.owner.contains_key(&entry.key())) {
                    self.ledger.ghosts.insert(entry.key(), address);
                }
            }
        }
        self.disk = disk;
        let (core, effects) = Core::new(self.config.clone(), restored, self.now);
        self.core = core;
        self.take(effects);
        for key in self.tombstones.clone() {
            self.feed(Event::TombstoneFound { key });
        }
    }

    pub(super) fn answer(&self, request: RequestId) -> Option<Result<Ipv4Addr, ReasonCode>> {
        self.replies.get(&request).copied()
    }

    pub(super) fn assert_served(&self, requests: &[RequestId]) {
        let refused: Vec<_> =
            requests.iter().filter(|request| !matches!(self.answer(**request), Some(Ok(_)))).collect();
        let first = refused.first().map(|request| self.answer(**request));
        let notices: Vec<&str> = self.notices.iter().map(|notice| notice.text.as_str()).collect();
        let last = &notices[notices.len().saturating_sub(40)..];
        assert!(
            refused.is_empty(),
            "{} not served, the first {first:?}: {:#?} {last:#?}",
            refused.len(),
            self.snapshot().pool
        );
    }

    pub(super) fn last_refusal_says(&self, part: &str) {
        assert!(self.last_refusal.contains(part), "{}", self.last_refusal);
    }

    pub(super) fn count(&self, kind: &str) -> u32 {
        self.calls.get(kind).copied().unwrap_or(0)
    }

    /// ENIs attached and secondary addresses on them, as EC2 has it.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.attached().count(), self.attached().map(|eni| eni.view.secondary_addresses.len()).sum())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.core.snapshot(self.now)
    }

    pub(super) fn noticed(&self, text: &str) -> bool {
        self.notices.iter().any(|notice| notice.text.contains(text))
    }
}

fn attachment(id: &EniId, device_index: DeviceIndex) -> AttachmentView {
    AttachmentView {
        attachment_id: AttachmentId(format!("{id}-attach-{}", device_index.0)),
        device_index,
        network_card: 0,
        instance_id: Some(INSTANCE.into()),
        status: "attached".into(),
        delete_on_termination: false,
    }
}
