// SPDX-License-Identifier: Apache-2.0
//! When the kernel is looked at for what others changed, and what follows from what was found.
//!
//! The state says what must be there; nothing is remembered of what was written. A look compares everything, so which
//! notification led to it does not matter, and a lost one costs time only.
//!
//! ```text
//! notification ─ 100 ms ─► look ─► nothing: done │ written: counted, told │ a part failed: that part again, later and later
//!                           ▲
//!   a minute after the last ┘        looks are 400 ms apart at least; 5 s while 10 of the last 60 s had to write
//! ```
//! The look that nobody asked for is a safety net: who cannot listen to the kernel says every 5 s that something was lost. While there are
//! orphans it comes after half a minute. The reading of whose addresses the kernel has ([`super::kernel`]) goes with it.
//! A part that cannot be put right (the node's own set-up, an ENI, pods) has a clock of its own ([`parts`]).
//!
//! What the plugin's DEL removes sounds like damage. So a notification that names addresses counts only while one of them is
//! allocated, asked when it comes and again when the look is due: the DEL has reached the daemon by then. A young allocation is not looked at
//! either: its ADD may be at work between two of its writes. Whoever is left out of a look at damage for that is looked at as soon
//! as he is old enough; a pod that comes later has not been hurt. (The first look after a start takes everything for hurt, and
//! all are young.)
//!
//! Orphans are objects of ours for addresses that neither a sandbox nor an ENI nor the kernel's live links need. They are
//! removed by the look after the one that saw them, at least [`ORPHAN_GRACE`] later. An allocation spares its address from the
//! moment the ADD is answered.
//!
//! Worked example, 250 pods: `ip rule flush` is some 500 notifications within a few ms. They are one event; 100 ms later one
//! look writes the rules; our own writes are no events that count.

mod parts;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::action::{ActionKind, Allocated};
use crate::event::{Failure, Outcome};
use crate::ids::BootTime;
use crate::lifecycle::{Eni, Phase};
use crate::reason::{NoticeLevel, ReasonCode};
use crate::repair::{KernelChange, PodPlan, RepairCounts, RepairPart, RepairPlan, RepairReport};
use crate::store::{AddressState, Allocation};

use super::ended::unexpected;
use super::state::Purpose;
use super::{Core, Turn};
use parts::Setbacks;
use told::{brief, culprits, join, summary};

/// From the first notification to the look: one cause makes many.
const GATHER: Duration = Duration::from_millis(100);
/// From one look to the next at least.
const BETWEEN: Duration = Duration::from_millis(400);
/// The same while another program keeps changing what is ours.
pub(super) const BETWEEN_CONTESTED: Duration = Duration::from_secs(5);
/// So many looks that had to write,
pub(super) const CONTESTED_LOOKS: usize = 10;
/// within so long, and somebody is at work against us.
const CONTESTED_WITHIN: Duration = Duration::from_secs(60);
/// A look is due so long after the last one whatever was heard,
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
/// and so long after one that saw orphans.
pub(super) const LOOK_AT_ORPHANS: Duration = Duration::from_secs(30);
/// An ADD has plumbed its pod by then, or is undone.
pub(super) const YOUNG: Duration = Duration::from_secs(2);
/// Less than [`LOOK_AT_ORPHANS`], so that the next look that is due anyway removes them.
pub(super) const ORPHAN_GRACE: Duration = Duration::from_secs(25);
/// More addresses in one change than this are not remembered one by one.
const MOST_SUSPECTS: usize = 64;
/// What is known of repair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repairs {
    /// When the first notification came that no look has answered.
    heard: Option<BootTime>,
    /// Addresses that were named since.
    suspects: BTreeSet<IpAddr>,
    /// Something was told that is about no single address.
    general: bool,
    /// A look is under way.
    pub(super) running: bool,
    /// When the last one was started.
    pub(super) last: Option<BootTime>,
    /// Pods that a look at damage left out as too young: the last of them is old enough by then.
    young_until: Option<BootTime>,
    /// The kernel could not be read: not before then.
    not_before: BootTime,
    /// Such failures in a row.
    attempts: u32,
    /// Parts that could not be put right.
    setbacks: Setbacks,
    /// When looks had to write, oldest first.
    wrote: VecDeque<BootTime>,
    /// When it was last told that somebody is at work against us.
    told: Option<BootTime>,
    /// Programs that changes came from which no look has answered,
    programs: BTreeSet<String>,
    /// and those of the changes that the look under way answers.
    answering: BTreeSet<String>,
    /// Orphans, and since when they have been seen.
    orphans: BTreeMap<IpAddr, BootTime>,
    /// Looks since the start.
    pub(crate) looks: u64,
    /// Objects of orphans removed since the start.
    pub(crate) swept: u64,
    /// What was put right since the start.
    pub(crate) counts: RepairCounts,
}

impl Repairs {
    /// Whether somebody keeps changing what is ours.
    pub(crate) fn contested(&self, now: BootTime) -> bool {
        self.wrote.iter().filter(|at| now.since(**at) < CONTESTED_WITHIN).count() >= CONTESTED_LOOKS
    }

    /// What was heard is answered; by whom it was done.
    fn answered(&mut self) -> BTreeSet<String> {
        (self.heard, self.general) = (None, false);
        self.suspects.clear();
        std::mem::take(&mut self.programs)
    }
}

impl Core {
    /// Whether nobody has what was changed: addresses of pods that are gone.
    pub(super) fn hurts_nobody(&self, change: &KernelChange) -> bool {
        let is_had = |address: &IpAddr| self.held(address).is_some();
        !change.lost && change.objects.is_empty() && !change.addresses.iter().any(is_had)
    }

    /// The allocation of an address, if it can have one.
    fn held(&self, address: &IpAddr) -> Option<&Allocation> {
        match address {
            IpAddr::V4(address) => self.store.allocation(*address),
            IpAddr::V6(_) => None,
        }
    }

    pub(super) fn kernel_changed(&mut self, turn: &mut Turn, change: KernelChange) {
        let repairs = &mut self.repairs;
        repairs.heard.get_or_insert(turn.now.boot);
        repairs.suspects.extend(change.addresses);
        repairs.general |= change.lost || !change.objects.is_empty() || repairs.suspects.len() > MOST_SUSPECTS;
        repairs.programs.extend(change.programs);
        if change.lost {
            let text = "notifications of the kernel were lost: everything is looked at";
            turn.notice(NoticeLevel::Info, Some(ReasonCode::KernelEventsLost), text);
        }
    }

    /// Starts a look when one is due.
    pub(super) fn drive_repair(&mut self, turn: &mut Turn) {
        let now = turn.boot();
        let Some(host) = self.host.applied.clone().filter(|_| self.host.writing.is_none()) else { return };
        if self.repairs.running {
            return;
        }
        let last = self.repairs.last;
        let every = if self.repairs.orphans.is_empty() { LOOK_EVERY } else { LOOK_AT_ORPHANS };
        let regular = last.map(|last| last + every);
        let due = [regular, self.young_ripe_after(last), self.repairs.setbacks.next()].into_iter().flatten();
        let due = if last.is_none() { now } else { due.min().unwrap_or(now) };
        let between = if self.repairs.contested(now) { BETWEEN_CONTESTED } else { BETWEEN };
        let apart = last.map_or(now, |last| last + between).max(self.repairs.not_before);
        let heard = self.repairs.heard.map(|heard| heard + GATHER);
        let mut at = heard.map_or(due, |heard| heard.min(due)).max(apart);
        if now >= at && now < due && !self.repairs.general {
            // Only now is it known whose the addresses are.
            match self.suspects_ripe().min() {
                None => {
                    self.repairs.answered();
                    at = due.max(apart);
                }
                Some(ripe) => at = ripe.min(due).max(apart),
            }
        }
        if now < at {
            self.alarm(at);
            return;
        }
        self.start_look(turn, host);
    }

    fn start_look(&mut self, turn: &mut Turn, host: crate::action::HostPlan) {
        let now = turn.boot();
        let is_hurt = self.repairs.general || self.repairs.last.is_none();
        let left_out = if is_hurt { self.ripe_times().max() } else { self.suspects_ripe().max() };
        let left_out = left_out.filter(|ripe| *ripe > now);
        self.repairs.young_until = self.repairs.young_until.max(left_out).filter(|until| *until > now);
        self.forget_setbacks();
        let plan = self.repair_plan(host, now);
        let repairs = &mut self.repairs;
        repairs.answering = repairs.answered();
        (repairs.running, repairs.last) = (true, Some(now));
        repairs.setbacks.begin(&plan, now);
        repairs.looks += 1;
        self.start(turn, Purpose::Repair, ActionKind::Repair(Box::new(plan)));
    }

    /// Until when each allocated address is its ADD's business.
    fn ripe_times(&self) -> impl Iterator<Item = BootTime> {
        self.store.allocations().map(|(_, _, allocation)| allocation.granted_at + YOUNG)
    }

    /// The same of those that were named. None: nobody has any of them.
    fn suspects_ripe(&self) -> impl Iterator<Item = BootTime> {
        let held = self.repairs.suspects.iter().filter_map(|address| self.held(address));
        held.map(|allocation| allocation.granted_at + YOUNG)
    }

    /// When the first of the pods is old enough that looks at damage have left out.
    fn young_ripe_after(&self, last: Option<BootTime>) -> Option<BootTime> {
        let (until, last) = (self.repairs.young_until?, last?);
        self.ripe_times().filter(|ripe| *ripe > last && *ripe <= until).min()
    }

    fn repair_plan(&self, host: crate::action::HostPlan, now: BootTime) -> RepairPlan {
        let setbacks = &self.repairs.setbacks;
        let serving = self.serving().filter(|eni| !setbacks.is_waiting(&RepairPart::Eni(eni.eni_id.clone()), now));
        let in_use = self
            .store
            .iter()
            .filter(|(_, entry)| matches!(entry.state, AddressState::Allocated(_) | AddressState::Held { .. }));
        let primaries = self.enis.values().map(|eni| eni.primary_address);
        let described = self.described.values().map(|view| view.primary_address);
        let spared: BTreeSet<IpAddr> =
            in_use.map(|(address, _)| address).chain(primaries).chain(described).map(IpAddr::from).collect();
        // Before EC2 was read nobody knows which ENIs there are.
        let ripe = self.repairs.orphans.iter().filter(|(_, seen)| self.learned && now.since(**seen) >= ORPHAN_GRACE);
        let sweep = ripe.map(|(address, _)| *address).filter(|address| !spared.contains(address)).collect();
        RepairPlan {
            host: Some(host).filter(|_| !setbacks.is_waiting(&RepairPart::Host, now)),
            enis: serving.filter_map(|eni| self.eni_plan(eni)).collect(),
            pods: self.pods_to_repair(now),
            spared,
            sweep,
            // Asked for when the next look that has to write makes it a fight.
            name_programs: self.repairs.wrote.len() + 1 >= CONTESTED_LOOKS,
        }
    }

    fn serving(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values().filter(|eni| matches!(eni.phase, Phase::Ready | Phase::Draining(_)))
    }

    /// An ENI that is in service no more holds nothing up.
    fn forget_setbacks(&mut self) {
        let serving: BTreeSet<_> = self.serving().map(|eni| eni.eni_id.clone()).collect();
        self.repairs.setbacks.keep(|part| match part {
            RepairPart::Eni(eni_id) => serving.contains(eni_id),
            RepairPart::Host | RepairPart::Pods => true,
        });
    }

    /// The link of an ENI is there again: what could not be put right on it may be now.
    pub(super) fn repair_link(&mut self, eni_id: &crate::ids::EniId, now: BootTime) {
        if self.repairs.setbacks.end(&RepairPart::Eni(eni_id.clone())) {
            self.look_soon(now);
        }
    }

    /// Nothing needs an address any more that the kernel may have objects for: nobody tells of that.
    pub(super) fn look_soon(&mut self, now: BootTime) {
        self.repairs.heard.get_or_insert(now);
        self.repairs.general = true;
    }

    fn pods_to_repair(&self, now: BootTime) -> Vec<PodPlan> {
        let ripe = self.store.allocations().filter(|(_, _, allocation)| now.since(allocation.granted_at) >= YOUNG);
        let plan = |(address, _, allocation): (_, _, &crate::store::Allocation)| {
            let Allocated { device_index, network_card, table, plumbing, .. } = self.allocated(address)?;
            let host_veth = crate::veth::host_veth(&self.config.veth_prefix, &allocation.pod);
            Some(PodPlan {
                key: allocation.key.clone(),
                host_veth,
                address,
                device_index,
                network_card,
                table,
                plumbing,
            })
        };
        ripe.filter_map(plan).collect()
    }

    pub(super) fn repair_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        self.repairs.running = false;
        let failure = match outcome {
            Ok(Outcome::Repaired(report)) => return self.repaired(turn, what, *report),
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.look_again(turn, what, &failure);
    }

    /// The kernel could not be read: what was heard is still to be answered.
    fn look_again(&mut self, turn: &mut Turn, what: &Purpose, failure: &Failure) {
        self.repairs.attempts += 1;
        let attempts = self.repairs.attempts;
        self.repairs.not_before = self.failed(turn, what, failure, attempts);
        self.repairs.heard.get_or_insert(turn.now.boot);
        self.repairs.general = true;
        let programs = std::mem::take(&mut self.repairs.answering);
        self.repairs.programs.extend(programs);
    }

    fn repaired(&mut self, turn: &mut Turn, what: &Purpose, report: RepairReport) {
        let now = turn.boot();
        (self.repairs.attempts, self.repairs.not_before) = (0, BootTime::default());
        self.note_orphans(&report, now);
        if !report.swept.is_empty() {
            self.repairs.swept += report.swept.len() as u64;
            let objects = brief(report.swept.iter());
            turn.notice(
                NoticeLevel::Info,
                Some(ReasonCode::OrphansSwept),
                format!("removed what was left of pods that are gone: {objects}"),
            );
        }
        if !report.repairs.is_empty() {
            self.count_repairs(turn, &report);
        }
        self.repairs.answering.clear();
        self.set_back(turn, what, &report);
    }

    /// Parts that failed wait, each by itself; the others have no setback any more.
    fn set_back(&mut self, turn: &mut Turn, what: &Purpose, report: &RepairReport) {
        let failed: BTreeSet<&RepairPart> = report.failures.iter().map(|failure| &failure.part).collect();
        self.repairs.setbacks.succeeded_but(&failed);
        for part in failed {
            let Some(attempts) = self.repairs.setbacks.failed(part) else { continue };
            let texts: Vec<String> = report
                .failures
                .iter()
                .filter(|failure| failure.part == *part)
                .map(|failure| failure.message.clone())
                .collect();
            let class = crate::event::FailureClass::Kernel;
            let message = format!("{part}: {}", brief(texts.iter()));
            let failure = Failure { class, code: ReasonCode::RepairFailed.to_string(), message, retry_after: None };
            let retry = self.failed(turn, what, &failure, attempts);
            self.repairs.setbacks.wait(part, attempts, retry);
        }
    }

    fn note_orphans(&mut self, report: &RepairReport, now: BootTime) {
        let known = std::mem::take(&mut self.repairs.orphans);
        let seen = |address: &IpAddr| (*address, known.get(address).copied().unwrap_or(now));
        self.repairs.orphans = report.orphans.iter().map(seen).collect();
    }

    fn count_repairs(&mut self, turn: &mut Turn, report: &RepairReport) {
        let now = turn.boot();
        let was_contested = self.repairs.contested(now);
        for repaired in &report.repairs {
            *self.repairs.counts.entry(repaired.what.clone()).or_default() += 1;
        }
        let wrote = &mut self.repairs.wrote;
        wrote.push_back(now);
        wrote.retain(|at| now.since(*at) < CONTESTED_WITHIN);
        let done = summary(&report.repairs);
        let programs = std::mem::take(&mut self.repairs.answering);
        let by = if programs.is_empty() { String::new() } else { format!(" (perhaps by {})", join(&programs)) };
        if !self.repairs.contested(now) {
            let text = format!("put back what was changed{by}: {done}");
            turn.notice(NoticeLevel::Warn, Some(ReasonCode::HostRepaired), text);
            return;
        }
        let due = self.repairs.told.is_none_or(|told| now.since(told) >= CONTESTED_WITHIN);
        if due || !was_contested {
            self.repairs.told = Some(now);
            let text = format!(
                "another program keeps changing the node's network{by}: {} repairs in {} s, from now on one every {} s; last: \
                 {done}. {}",
                self.repairs.wrote.len(),
                CONTESTED_WITHIN.as_secs(),
                BETWEEN_CONTESTED.as_secs(),
                culprits(&report.programs)
            );
            turn.notice(NoticeLevel::Error, Some(ReasonCode::HostContested), text);
        }
    }
}
