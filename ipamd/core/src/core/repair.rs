// SPDX-License-Identifier: Apache-2.0
//! When the kernel is looked at for what others changed, and what follows from what was found.
//!
//! The state says what must be there; nothing is remembered of what was written. A look compares everything, so which
//! notification led to it does not matter, and a lost one costs time only.
//!
//! ```text
//! notification ─ 100 ms ─► look ─► nothing: done │ written: counted, told │ failed: again, later and later
//!                           ▲
//!     30 s after the last ──┘        looks are 400 ms apart at least; 5 s while 10 of the last 60 s had to write
//! ```
//!
//! What the plugin's DEL removes sounds like damage. So a notification that names addresses counts only while one of them is
//! allocated, asked when the look is due: the DEL has reached the daemon by then. A young allocation is not looked at
//! either: its ADD may be at work between two of its writes. (At the start all are young, so a second look follows the first
//! when they are no more.)
//!
//! Orphans are objects of ours for addresses that neither a sandbox nor an ENI nor the kernel's live links need. They are
//! removed by the look after the one that saw them, at least [`ORPHAN_GRACE`] later. An allocation spares its address from the
//! moment the ADD is answered.
//!
//! Worked example, 250 pods: `ip rule flush` is some 500 notifications within a few ms. They are one event; 100 ms later one
//! look writes the rules; our own writes are no events that count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::action::{ActionKind, Allocated};
use crate::event::{Failure, Outcome};
use crate::ids::BootTime;
use crate::lifecycle::Phase;
use crate::reason::{NoticeLevel, ReasonCode};
use crate::repair::{KernelChange, PodPlan, RepairCounts, RepairPlan, RepairReport, Repaired};
use crate::store::AddressState;

use super::ended::unexpected;
use super::state::Purpose;
use super::{Core, Turn};

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
/// A look is due so long after the last one whatever was heard.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(30);
/// An ADD has plumbed its pod by then, or is undone.
pub(super) const YOUNG: Duration = Duration::from_secs(2);
/// Less than [`LOOK_EVERY`], so that the next look that is due anyway removes them.
pub(super) const ORPHAN_GRACE: Duration = Duration::from_secs(25);
/// More addresses in one change than this are not remembered one by one.
const MOST_SUSPECTS: usize = 64;
/// Programs that are known to change rules, routes, addresses or links of others by themselves, as `/proc/<pid>/comm` names them
/// (15 characters), and what keeps them from it.
const SUSPECTS: [(&str, &str); 10] = [
    (
        "systemd-network",
        "systemd-networkd: set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no, and leave ENIs unmanaged",
    ),
    ("NetworkManager", "NetworkManager: make ENIs and host veths unmanaged-devices"),
    ("nm-cloud-setup", "nm-cloud-setup: disable its service and timer"),
    ("dhclient", "dhclient: no DHCP on secondary ENIs"),
    ("dhcpcd", "dhcpcd: no DHCP on secondary ENIs"),
    ("systemd-udevd", "systemd-udevd: set MACAddressPolicy=none for host veths"),
    ("ec2net-policy-r", "amazon-ec2-net-utils: mask policy-routes@ and refresh-policy-routes@"),
    ("setup-policy-ro", "amazon-ec2-net-utils: mask policy-routes@ and refresh-policy-routes@"),
    ("aws-k8s-agent", "amazon-vpc-cni-k8s: two IPAM daemons on one node"),
    ("firewalld", "firewalld: leave the table `ip enid` alone"),
];

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
    /// When the first one was started,
    first: Option<BootTime>,
    /// and the last.
    last: Option<BootTime>,
    /// After a failure: not before then.
    not_before: BootTime,
    /// Failures in a row.
    attempts: u32,
    /// When looks had to write, oldest first.
    wrote: VecDeque<BootTime>,
    /// When it was last told that somebody is at work against us.
    told: Option<BootTime>,
    /// Programs that changes came from.
    programs: BTreeSet<String>,
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

    /// What was heard is answered.
    fn answered(&mut self) {
        (self.heard, self.general) = (None, false);
        self.suspects.clear();
    }
}

impl Core {
    pub(super) fn kernel_changed(&mut self, turn: &mut Turn, change: KernelChange) {
        let repairs = &mut self.repairs;
        repairs.heard.get_or_insert(turn.now.boot);
        repairs.suspects.extend(change.addresses);
        repairs.general |= change.lost || !change.objects.is_empty() || repairs.suspects.len() > MOST_SUSPECTS;
        repairs.programs.extend(change.programs);
        if change.lost {
            turn.info("notifications of the kernel were lost: everything is looked at");
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
        // To the first look after a start every pod is young.
        let grown = self.repairs.first.map(|first| first + YOUNG).filter(|grown| last.is_none_or(|last| last < *grown));
        let full = grown.or(last.map(|last| last + LOOK_EVERY)).unwrap_or(now);
        let between = if self.repairs.contested(now) { BETWEEN_CONTESTED } else { BETWEEN };
        let apart = last.map_or(now, |last| last + between).max(self.repairs.not_before);
        let heard = self.repairs.heard.map(|heard| heard + GATHER);
        let mut at = heard.map_or(full, |heard| heard.min(full)).max(apart);
        if now >= at && now < full && !self.repairs.general {
            // Only now is it known whose the addresses are.
            match self.suspects_ripe_at() {
                None => {
                    self.repairs.answered();
                    at = full.max(apart);
                }
                Some(ripe) => at = ripe.min(full).max(apart),
            }
        }
        if now < at {
            self.alarm(at);
            return;
        }
        let plan = self.repair_plan(host, now);
        self.repairs.answered();
        (self.repairs.running, self.repairs.last) = (true, Some(now));
        self.repairs.first.get_or_insert(now);
        self.repairs.looks += 1;
        self.start(turn, Purpose::Repair, ActionKind::Repair(Box::new(plan)));
    }

    /// When the addresses that were named can be looked at: the youngest allocated one decides. `None`: nobody has any of them.
    fn suspects_ripe_at(&self) -> Option<BootTime> {
        let suspects = self.repairs.suspects.iter();
        let granted = suspects.filter_map(|address| match address {
            IpAddr::V4(address) => self.store.allocation(*address).map(|allocation| allocation.granted_at + YOUNG),
            IpAddr::V6(_) => None,
        });
        granted.max()
    }

    fn repair_plan(&self, host: crate::action::HostPlan, now: BootTime) -> RepairPlan {
        let serving = self.enis.values().filter(|eni| matches!(eni.phase, Phase::Ready | Phase::Draining(_)));
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
            host,
            enis: serving.filter_map(|eni| self.eni_plan(eni)).collect(),
            pods: self.pods_to_repair(now),
            spared,
            sweep,
            // Asked for when the next look that has to write makes it a fight.
            name_programs: self.repairs.wrote.len() + 1 >= CONTESTED_LOOKS,
        }
    }

    fn pods_to_repair(&self, now: BootTime) -> Vec<PodPlan> {
        let ripe = self.store.allocations().filter(|(_, _, allocation)| now.since(allocation.granted_at) >= YOUNG);
        let plan = |(address, _, allocation): (_, _, &crate::store::Allocation)| {
            let Allocated { device_index, table, plumbing, .. } = self.allocated(address)?;
            let host_veth = crate::veth::host_veth(&self.config.veth_prefix, &allocation.pod);
            Some(PodPlan { key: allocation.key.clone(), host_veth, address, device_index, table, plumbing })
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

    fn look_again(&mut self, turn: &mut Turn, what: &Purpose, failure: &Failure) {
        self.repairs.attempts += 1;
        let attempts = self.repairs.attempts;
        self.repairs.not_before = self.failed(turn, what, failure, attempts);
        self.repairs.heard.get_or_insert(turn.now.boot);
        self.repairs.general = true;
    }

    fn repaired(&mut self, turn: &mut Turn, what: &Purpose, report: RepairReport) {
        let now = turn.boot();
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
        match report.failures.first() {
            None => (self.repairs.attempts, self.repairs.not_before) = (0, BootTime::default()),
            Some(first) => {
                let class = crate::event::FailureClass::Kernel;
                let (code, message) = ("NotRepaired".to_owned(), brief(report.failures.iter()));
                debug_assert!(!first.is_empty(), "a failure says something");
                self.look_again(turn, what, &Failure { class, code, message, retry_after: None });
            }
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
        let programs = std::mem::take(&mut self.repairs.programs);
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

/// `3 rule missing, 1 link down; ip rule add …`.
fn summary(repairs: &[Repaired]) -> String {
    let mut counts: RepairCounts = BTreeMap::new();
    for repaired in repairs {
        *counts.entry(repaired.what.clone()).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("{} ({})", counts.join(", "), brief(repairs.iter().map(|repaired| &repaired.command)))
}

/// The first two, and how many more.
fn brief<'a>(all: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 2;
    let more = all.len().saturating_sub(SHOWN);
    let first = |text: &'a String| text.lines().next().unwrap_or_default();
    let mut text = all.take(SHOWN).map(first).collect::<Vec<_>>().join("; ");
    if more > 0 {
        let _ = write!(text, "; and {more} more");
    }
    text
}

/// Which of the programs that run are known for this, and what to do.
fn culprits(programs: &BTreeSet<String>) -> String {
    let running = SUSPECTS.iter().filter(|(name, _)| programs.contains(*name));
    let advice: BTreeSet<String> = running.map(|(_, advice)| (*advice).to_owned()).collect();
    match (advice.is_empty(), programs.is_empty()) {
        (false, _) => format!("Likely {}", join(&advice)),
        (true, true) => "Which programs run cannot be seen from here".to_owned(),
        (true, false) => "None of the programs that are known for it runs here".to_owned(),
    }
}

fn join(texts: &BTreeSet<String>) -> String {
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
