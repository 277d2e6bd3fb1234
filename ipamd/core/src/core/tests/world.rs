// SPDX-License-Identifier: Apache-2.0
//! A node's outside in memory: EC2, kernel, disk, plugin, clock. It runs the core's actions with a latency each, can fail
//! them before or after their effect, and holds the core to its invariants after every single call.

mod calls;
mod checks;
mod ec2;
mod files;
mod repair;
mod subnets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::Checkpoint;
use crate::action::{Action, ActionKind, Effects, Reply, prefix_addresses};
use crate::config::{AddressMode, Config, WarmTargets};
use crate::core::Core;
use crate::event::{AttachmentView, EniView, Event, Failure, FailureClass, InstanceFacts, KernelView, Outcome};
use crate::ids::{
    ActionId, AllocationKey, AttachmentId, BootTime, DeviceIndex, EniId, InstanceId, MacAddr, Now, RequestId, SubnetId,
};
use crate::reason::{Notice, ReasonCode};
use crate::restore::Restored;

pub(super) use repair::rule_missing;
pub(super) use subnets::tags;

pub(super) const BOOT: &str = "boot-1";
const INSTANCE: &str = "i-1";
/// How long the kernel takes to forget.
pub(super) const FLUSH_TAKES: Duration = Duration::from_millis(4);

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

/// What EC2 has and does not show.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden {
    pub(super) enis: BTreeSet<EniId>,
    /// Single addresses as /32.
    pub(super) blocks: BTreeSet<Ipv4Net>,
}

impl Hidden {
    fn of(&self, view: &EniView) -> Option<EniView> {
        let mut view = view.clone();
        view.secondary_addresses.retain(|address| !self.blocks.contains(&Ipv4Net::from(*address)));
        view.prefixes.retain(|prefix| !self.blocks.contains(prefix));
        (!self.enis.contains(&view.eni_id)).then_some(view)
    }
}

/// What the test believes of an address, from replies and DELs alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) owner: BTreeMap<AllocationKey, Ipv4Addr>,
    pub(super) resting_until: BTreeMap<Ipv4Addr, BootTime>,
    /// Released, and not flushed since its rest was over.
    pub(super) unflushed: BTreeSet<Ipv4Addr>,
    /// Come from EC2, and not flushed since its ENI was set up.
    pub(super) fresh: BTreeSet<Ipv4Addr>,
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
    /// Tags of the primary ENI's subnet.
    pub(super) subnet_tags: Vec<(String, String)>,
    /// Other instances that are there.
    pub(super) living: BTreeSet<InstanceId>,
    /// A description of the zone shows nothing.
    pub(super) zone_hidden: bool,
    /// The zone's other subnets.
    pub(super) siblings: BTreeMap<SubnetId, subnets::Sibling>,
    /// Subnets of other zones and VPCs.
    pub(super) elsewhere: Vec<crate::event::SubnetView>,
    /// With custom networking: where an ENI may be made by the ENIConfig that holds.
    pub(super) opened: BTreeSet<SubnetId>,
    pub(super) max_enis: usize,
    /// ENIs that there were when the limit was lowered beneath them; never more from then on.
    pub(super) above_limit: u32,
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
    /// What the container runtime has ready.
    pub(super) ready: BTreeSet<String>,
    pub(super) replies: BTreeMap<RequestId, Result<Ipv4Addr, ReasonCode>>,
    last_refusal: String,
    pub(super) deadlines: BTreeMap<RequestId, (AllocationKey, BootTime)>,
    pub(super) answered_at: BTreeMap<RequestId, BootTime>,
    pub(super) ledger: Ledger,
    pub(super) disk: Option<Checkpoint>,
    pub(super) disk_full: bool,
    /// The same as texts that are changed in places.
    files: files::Files,
    pub(super) notices: Vec<Notice>,
    pub(super) calls: BTreeMap<&'static str, u32>,
    proven: BTreeSet<EniId>,
    /// Prefixes that have rules, by the last set-up of each ENI.
    pub(super) steered: BTreeMap<EniId, BTreeSet<Ipv4Net>>,
    /// Reads until then show these ENIs.
    lagging: Option<(BootTime, BTreeMap<EniId, FakeEni>)>,
    /// What reads do not show although it is there.
    pub(super) hidden: Hidden,
    /// Whether any read ever lagged.
    has_lagged: bool,
    squeezed: BTreeSet<Ipv4Addr>,
    /// One address of each /28, in someone else's hands.
    spoiled: BTreeSet<Ipv4Addr>,
    tombstones: BTreeSet<AllocationKey>,
    /// What the next look has to put right.
    pub(super) damage: Vec<crate::repair::Repaired>,
    /// Parts that no look can put right.
    pub(super) broken: BTreeSet<crate::repair::RepairPart>,
    /// Addresses that objects of ours are about, whoever has them now.
    pub(super) left: BTreeSet<std::net::IpAddr>,
    /// The last look that was asked for.
    pub(super) last_repair: Option<Box<crate::repair::RepairPlan>>,
    next_request: u64,
    next_eni: u32,
    looks: u32,
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

pub(super) fn warm_prefixes(warm_prefixes: u32) -> Config {
    Config { address_mode: AddressMode::Prefixes { warm_prefixes: Some(warm_prefixes) }, ..Config::default() }
}

/// Whether an ENI has an address for pods, by itself or in a prefix.
fn has(view: &EniView, address: Ipv4Addr) -> bool {
    view.secondary_addresses.contains(&address) || view.prefixes.iter().any(|prefix| prefix.contains(&address))
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
        ActionKind::Assign { .. } => "assign",
        ActionKind::Unassign { .. } => "unassign",
        ActionKind::SetSecurityGroups { .. } => "groups",
        ActionKind::TagEni { .. } => "tag",
        ActionKind::DescribeLeakedEnis { .. } => "leaked",
        ActionKind::DetachEni { .. } => "detach",
        ActionKind::DeleteEni { .. } => "delete",
        ActionKind::DescribeEnis { .. } => "describe",
        ActionKind::DescribeSubnets(_) => "subnet",
        ActionKind::ConfigureEni(_) => "configure",
        ActionKind::DeconfigureEni(_) => "deconfigure",
        ActionKind::ConfigureHost(_) => "host",
        ActionKind::Repair(_) => "repair",
        ActionKind::ObserveKernel => "observe",
        ActionKind::ListSandboxes => "sandboxes",
        ActionKind::FlushAddresses { .. } => "flush",
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
            subnet_tags: Vec::new(),
            living: BTreeSet::new(),
            zone_hidden: false,
            siblings: BTreeMap::new(),
            elsewhere: Vec::new(),
            opened: BTreeSet::new(),
            max_enis: limits.max_enis_on_default_card() as usize,
            above_limit: 0,
            per_eni: limits.secondary_slots_per_eni() as usize,
            faults: BTreeMap::new(),
            link_delay: Duration::from_millis(500),
            latency: Duration::from_millis(300),
            observe_takes: Duration::from_millis(5),
            pending: Vec::new(),
            late: Vec::new(),
            pods: BTreeMap::new(),
            ready: BTreeSet::new(),
            plumbs: true,
            replies: BTreeMap::new(),
            last_refusal: String::new(),
            deadlines: BTreeMap::new(),
            answered_at: BTreeMap::new(),
            ledger: Ledger::default(),
            disk: None,
            disk_full: false,
            files: files::Files::default(),
            notices: Vec::new(),
            calls: BTreeMap::new(),
            proven: BTreeSet::new(),
            steered: BTreeMap::new(),
            lagging: None,
            hidden: Hidden::default(),
            has_lagged: false,
            squeezed: BTreeSet::new(),
            spoiled: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            damage: Vec::new(),
            broken: BTreeSet::new(),
            left: BTreeSet::new(),
            last_repair: None,
            next_request: 0,
            next_eni: 1,
            looks: 0,
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
            vpc_id: Some(self.facts.vpc_id.clone()),
            subnet_id: self.facts.subnet_id.clone(),
            primary_address,
            secondary_addresses: vec![],
            prefixes: vec![],
            security_group_ids: self.facts.security_group_ids.clone(),
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
        let looked = matches!(&event, Event::ActionEnded { outcome: Outcome::Repaired(_), .. });
        let ticked = matches!(event, Event::Tick);
        let mut effects = self.core.handle(event, self.now);
        // Half of all that happens on a quiet node is looks that find nothing: they are not worth a look at everything here.
        let quiet = effects.replies.is_empty() && effects.notices.iter().all(|notice| notice.code.is_none());
        let is_look = |action: &&Action| matches!(action.kind, ActionKind::Repair(_) | ActionKind::ObserveKernel);
        let looks = effects.actions.iter().filter(is_look).count();
        let idle = looks == effects.actions.len() && (looked && looks == 0 || ticked && looks > 0);
        if idle && quiet && !effects.persist {
            self.notices.append(&mut effects.notices);
            effects.actions.drain(..).for_each(|action| self.take_action(action));
        } else {
            self.take(effects);
        }
    }

    /// What the driver does with effects: persist, replies, actions.
    fn take(&mut self, effects: Effects) {
        if effects.persist && self.disk_full {
            // Told, and not written: the next write is of the whole.
            let _ = self.core.journal();
            self.files = files::Files::default();
            let failed = Event::PersistFailed { effects: Box::new(effects), message: "disk full".into() };
            let again = self.core.handle(failed, self.now);
            assert!(!again.persist, "a failed write must not be tried again in the same breath");
            self.take(again);
            return;
        }
        let written = self.core.checkpoint();
        if effects.persist {
            self.files.take(self.core.journal());
            self.files.say_what(&written);
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
            Reply::Gc { released, .. } => {
                for freed in released {
                    assert!(!self.pods.contains_key(&freed.key), "{}: a living pod's address is released", freed.key);
                    self.released(&freed.key.container_id);
                }
            }
        }
    }

    fn take_action(&mut self, action: Action) {
        *self.calls.entry(kind_name(&action.kind)).or_default() += 1;
        let in_use: BTreeSet<Ipv4Addr> = self.ledger.owner.values().chain(self.pods.values()).copied().collect();
        let check = |address: &Ipv4Addr| {
            assert!(!in_use.contains(address), "{address} is in use: {action:?}");
            let resting = self.ledger.resting_until.get(address).is_some_and(|until| *until > self.now.boot);
            assert!(!resting, "{address} is cooling: {action:?}");
        };
        self.check_place(&action.kind);
        match &action.kind {
            ActionKind::Unassign { addresses, prefixes, .. } => {
                addresses.iter().for_each(check);
                prefixes.iter().flat_map(|prefix| prefix_addresses(*prefix)).for_each(|address| check(&address));
            }
            ActionKind::DetachEni { eni_id, .. } | ActionKind::DeleteEni { eni_id } => {
                assert_ne!(*eni_id, self.facts.primary_eni_id, "the primary ENI");
                if let Some(eni) = self.enis.get(eni_id) {
                    eni.view.secondary_addresses.iter().for_each(check);
                    let inside = eni.view.prefixes.iter().flat_map(|prefix| prefix_addresses(*prefix));
                    inside.for_each(|address| check(&address));
                }
            }
            ActionKind::ForgetTombstone { key } => {
                self.tombstones.remove(key);
                return;
            }
            ActionKind::CreateEni { .. }
            | ActionKind::AttachEni { .. }
            | ActionKind::SetDeleteOnTermination { .. }
            | ActionKind::Assign { .. }
            | ActionKind::SetSecurityGroups { .. }
            | ActionKind::TagEni { .. }
            | ActionKind::DescribeLeakedEnis { .. }
            | ActionKind::DescribeEnis { .. }
            | ActionKind::DescribeSubnets(_)
            | ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost(_)
            | ActionKind::ObserveKernel
            | ActionKind::ListSandboxes => {}
            ActionKind::FlushAddresses { addresses, .. } => {
                let used = addresses.iter().find(|address| in_use.contains(address));
                assert_eq!(used, None, "a living pod's connections are flushed");
            }
            ActionKind::Repair(plan) => self.check_repair(plan),
        }
        let takes = match &action.kind {
            ActionKind::ObserveKernel => self.observe_takes,
            ActionKind::FlushAddresses { .. } => FLUSH_TAKES,
            ActionKind::ConfigureEni(_)
            | ActionKind::DeconfigureEni(_)
            | ActionKind::ConfigureHost(_)
            | ActionKind::Repair(_)
            | ActionKind::ListSandboxes => Duration::from_millis(5),
            _ => self.latency,
        };
        // An EC2 read shows what is there when it begins; the effect of everything else comes at its end.
        self.pending.push((self.now.boot + takes, action));
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
        let flight = crate::core::slow::flight(crate::core::state::Purpose::Describe, self.now.boot);
        self.core.in_flight.insert(id, flight);
        id
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
