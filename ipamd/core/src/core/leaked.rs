// SPDX-License-Identifier: Apache-2.0
//! ENIs that nodes left behind: looked for seldom, marked first, deleted only when they were still unattached much later.
//!
//! ```text
//!   idle ──due──► describe ──► mark each candidate by a lease tag ──age──► describe ──► delete what still bears our mark
//!     ▲                                                                                          │ at most 10
//!     └──────────────────────────────────────────── a pause ◄────────────────────────────────────┘
//! ```
//!
//! A candidate is unattached and `available`, of no AWS service, not tagged no_manage, described as the reference and we
//! describe ours, tagged for an instance, and unknown to this node. It must have been made for this very instance, or be of
//! our cluster by its tag and made for an instance that is gone: has no ENI attached, which is also what a sweep asks. An ENI
//! that somebody detached from a living node may have pods; only that node's daemon and kernel can tell. Without
//! CLUSTER_NAME only what was made for this instance goes. One with a createdAt tag must be older than the age.
//!
//! The lease tag says which node looks after it and since when. Another node's fresh lease is left alone, so two sweepers
//! never work on the same ENI; the later of two marks stands, and only who finds its own mark in the second description
//! deletes. A sweeper that dies leaves leases that expire. An ENI on its way from create to attach is unattached for
//! seconds, not for the age. EC2 refuses to delete one that was attached meanwhile. The second look is 0.4 ages after the
//! first when all that was marked tells its age, else more than an age; what it finds new it marks for a third.
//!
//! Who sweeps, and how often: where the cluster elects a sweeper (`Event::SweeperElected`), it alone does, every 0.3 ages.
//! Worked example with the age of 300 s: an ENI left at 0:00 is old enough at 5:00, marked by 7:00 at the latest and deleted
//! by 9:00; 40 calls an hour for the whole cluster. Where nobody elects, every node sweeps, seldom: the pause is 288 ages (24 h),
//! longer in proportion to the addresses in use in the zone (a stand-in for the number of nodes that sweep, known from
//! DescribeSubnets), a week at most. 1,000 nodes with 15 addresses each: 15,000 / 1,536 = 9 times 24 h, cut to a week: 6
//! calls an hour for the account. A node that is not elected looks as seldom, for what was made for itself only. An elected
//! one is so for a time that it is told, and starts no call beyond it. A node's first sweep comes soon after its start: what it left itself is its own business most of all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::action::{ActionKind, CLIENT_TOKEN_TAG};
use crate::election::Elected;
use crate::event::{EniView, Failure, FailureClass, Outcome};
use crate::ids::{BootTime, EniId, InstanceId};
use crate::reason::ReasonCode;
use crate::snapshot::SweepSnapshot;
use crate::tags::{self, CLUSTER_TAG, INSTANCE_TAG};

use super::ended::unexpected;
use super::show::millis;
use super::state::Purpose;
use super::{Core, Turn};

/// Marks an ENI as leaked: `<instance> <RFC 3339 time>`.
pub(super) const LEASE_TAG: &str = "enid.dev/leaked-seen-by";
/// Every ENI of ours and the reference's is described so.
const DESCRIPTION: &str = "aws-K8S-";
/// Ages between the sweeps of a small cluster.
const PAUSE_AGES: u32 = 288;
/// Ages over which the first sweeps of nodes that start together are spread.
const FIRST_AGES: u32 = 6;
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Addresses in use in the zone that one pause is good for.
const HELD_PER_PAUSE: u64 = 1_536;
/// Tenths of an age between the elected sweeper's sweeps.
const ELECTED_PAUSE_TENTHS: u32 = 3;
/// Tenths of an age from the first look to the second, by whether the age of all that was marked is told.
const SECOND_LOOK_TENTHS: (u32, u32) = (4, 13);
/// Most ENIs of one sweep.
const MOST: usize = 10;
/// The least pause after a mark that could not be set, for the elected sweeper too.
const UNMARKED_REST: Duration = Duration::from_secs(600);
/// A lease is given up when its ENI is still there so many ages later.
const LEASE_AGES: u32 = 4;

/// Where the sweep is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweep {
    /// Which node sweeps for the cluster.
    elected: Elected,
    /// `None`: not planned yet.
    due: Option<BootTime>,
    running: bool,
    /// Marks of the first pass; empty: the next pass is a first one.
    marked: BTreeMap<EniId, String>,
    jobs: VecDeque<Job>,
    attempts: u32,
    denied: Denied,
}

/// What EC2 refused for lack of rights: the last look; the last mark or delete, whatever is looked at since.
#[derive(Clone, Copy, Debug, Default)]
struct Denied {
    look: bool,
    job: bool,
}

impl Sweep {
    /// By another age: what is marked, or was to be deleted, was by the old one. A call under way ends as it will.
    pub(super) fn begin_anew(&mut self) {
        self.jobs.clear();
        self.marked.clear();
        self.due = None;
    }
}

#[derive(Clone, Debug)]
enum Job {
    /// With the lease, and whether the ENI tells its age.
    Mark(EniId, String, bool),
    Delete(EniId),
}

/// What a sweep knows of itself.
struct Sweeper<'a> {
    instance_id: &'a InstanceId,
    /// `None`: only what was made for this instance is its business.
    cluster: Option<&'a str>,
    /// Instances that are there, of those that ENIs were made for.
    living: &'a BTreeSet<InstanceId>,
    unix_nanos: i64,
    age: Duration,
}

impl Sweeper<'_> {
    /// Nanoseconds since an RFC 3339 time; below 0: it is to come.
    fn nanos_since(&self, time: &str) -> Option<i64> {
        tags::parse_rfc3339(time).map(|nanos| self.unix_nanos.saturating_sub(nanos))
    }

    /// Nanoseconds since the ENI was made; `None`: it does not tell.
    fn age_of(&self, view: &EniView) -> Option<i64> {
        let created = view.tags.iter().find(|(key, _)| key == tags::CREATED_AT_TAG);
        created.and_then(|(_, time)| self.nanos_since(time))
    }
}

impl Job {
    fn tells_age(&self) -> bool {
        !matches!(self, Self::Mark(_, _, false))
    }
}

/// What to do about an unattached ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    LeaveAlone,
    Mark,
    /// It bears this lease, which is fresh and ours.
    Ours(String),
}

impl Core {
    pub(super) fn sweeper_elected(&mut self, turn: &mut Turn, elected: Elected) {
        let before = std::mem::replace(&mut self.sweep.elected, elected);
        if std::mem::discriminant(&before) == std::mem::discriminant(&elected) {
            return;
        }
        self.sweep.jobs.clear();
        self.sweep.marked.clear();
        match elected {
            Elected::ThisNode { .. } => {
                // Rights may have been given meanwhile: it tries.
                self.sweep.denied = Denied::default();
                self.sweep.due = Some(turn.boot());
                turn.info("this node is elected: it looks for leaked ENIs of the whole cluster");
            }
            Elected::AnotherNode | Elected::Nobody => {
                if matches!(before, Elected::ThisNode { .. }) {
                    self.sweep.due = Some(turn.boot() + self.pause());
                    turn.info("this node does not look for leaked ENIs of the cluster any more");
                }
            }
        }
    }

    /// An election that is over by our own clock is over, whoever has yet to hear of it.
    fn check_election(&mut self, turn: &mut Turn) {
        if let Elected::ThisNode { until } = self.sweep.elected {
            if until <= turn.boot() {
                self.sweeper_elected(turn, Elected::AnotherNode);
            } else {
                self.alarm(until);
            }
        }
    }

    /// The cluster that this node sweeps for; `None`: only for itself.
    fn swept_cluster(&self) -> Option<&str> {
        self.config.cluster_name.as_deref().filter(|_| self.sweep.elected != Elected::AnotherNode)
    }

    pub(super) fn show_sweep(&self) -> SweepSnapshot {
        let sweeper = match (self.config.leaked_eni_age, self.sweep.elected) {
            (None, _) => "off",
            (Some(_), Elected::Nobody) => "nobody",
            (Some(_), Elected::ThisNode { .. }) => "this node",
            (Some(_), Elected::AnotherNode) => "another node",
        };
        let denied = self.sweep.denied;
        let age_ms = self.config.leaked_eni_age.map(millis);
        SweepSnapshot { sweeper: sweeper.to_owned(), is_denied: denied.look || denied.job, age_ms }
    }

    pub(super) fn drive_sweep(&mut self, turn: &mut Turn) {
        let Some(age) = self.config.leaked_eni_age else { return };
        self.check_election(turn);
        let Some(facts) = self.facts.as_ref().filter(|_| self.learned && self.may_write()) else { return };
        let now = turn.boot();
        if self.sweep.running {
            return;
        }
        if let Some(job) = self.sweep.jobs.pop_front() {
            self.sweep.running = true;
            let (purpose, kind) = match job {
                Job::Mark(eni_id, lease, _) => {
                    self.sweep.marked.insert(eni_id.clone(), lease.clone());
                    let tags = vec![(LEASE_TAG.to_owned(), lease)];
                    (Purpose::MarkLeaked { eni_id: eni_id.clone() }, ActionKind::TagEni { eni_id, tags })
                }
                Job::Delete(eni_id) => {
                    (Purpose::DeleteLeaked { eni_id: eni_id.clone() }, ActionKind::DeleteEni { eni_id })
                }
            };
            self.start(turn, purpose, kind);
            return;
        }
        let spread = u64::try_from((age * FIRST_AGES).as_millis()).unwrap_or(u64::MAX).max(1);
        let first = now + age / 2 + Duration::from_millis(self.salt() % spread);
        let at = *self.sweep.due.get_or_insert(first);
        if now < at {
            self.alarm(at);
            return;
        }
        let kind = ActionKind::DescribeLeakedEnis {
            vpc_id: facts.vpc_id.clone(),
            cluster_name: self.config.cluster_name.clone(),
        };
        self.sweep.running = true;
        self.start(turn, Purpose::Sweep, kind);
    }

    fn pause(&self) -> Duration {
        let times = u32::try_from(self.zone.held.unwrap_or(0) / HELD_PER_PAUSE).unwrap_or(u32::MAX);
        let age = self.config.leaked_eni_age.unwrap_or_default();
        if matches!(self.sweep.elected, Elected::ThisNode { .. }) && self.config.cluster_name.is_some() {
            return age * ELECTED_PAUSE_TENTHS / 10;
        }
        let pause = (age * PAUSE_AGES).saturating_mul(times.max(1)).min(LONGEST_PAUSE);
        pause + Duration::from_secs(self.salt() % (pause.as_secs() / 4).max(1))
    }

    pub(super) fn sweep_ended(&mut self, turn: &mut Turn, what: &Purpose, outcome: Result<Outcome, Failure>) {
        let now = turn.boot();
        self.sweep.running = false;
        let (views, living) = match outcome {
            Ok(Outcome::LeakedEnisDescribed { enis, living }) => (enis, living),
            other => {
                let failure = other.err().unwrap_or_else(unexpected);
                self.sweep.denied.look = failure.class == FailureClass::Denied;
                self.sweep.attempts += 1;
                let attempts = self.sweep.attempts;
                let retry = self.failed(turn, what, &failure, attempts);
                self.sweep.marked.clear();
                self.sweep.due = Some(retry.max(now + self.pause()));
                return;
            }
        };
        (self.sweep.attempts, self.sweep.denied.look) = (0, false);
        let marked = std::mem::take(&mut self.sweep.marked);
        let Some(age) = self.config.leaked_eni_age else { return };
        let Some(facts) = &self.facts else { return };
        let sweeper = Sweeper {
            instance_id: &facts.instance_id,
            cluster: self.swept_cluster(),
            living: &living,
            unix_nanos: turn.now.unix_nanos,
            age,
        };
        let lease = format!("{} {}", facts.instance_id, tags::rfc3339(turn.now.unix_nanos));
        let (mut deletes, mut marks) = (Vec::new(), Vec::new());
        for view in views.iter().filter(|view| !self.knows(view)) {
            match verdict(view, &sweeper) {
                Verdict::Ours(lease) if marked.get(&view.eni_id) == Some(&lease) => {
                    deletes.push(Job::Delete(view.eni_id.clone()));
                }
                // A mark of an earlier run of ours is renewed: how long it has stood unseen is not known.
                Verdict::Mark | Verdict::Ours(_) => {
                    marks.push(Job::Mark(view.eni_id.clone(), lease.clone(), sweeper.age_of(view).is_some()));
                }
                Verdict::LeaveAlone => {}
            }
        }
        let jobs: VecDeque<Job> = deletes.into_iter().chain(marks).take(MOST).collect();
        let deleted = jobs.iter().filter(|job| matches!(job, Job::Delete(_))).count();
        if !jobs.is_empty() {
            turn.info(format!("{deleted} ENIs are leaked and deleted, {} are marked as leaked", jobs.len() - deleted));
        }
        let tenths = if jobs.iter().all(Job::tells_age) { SECOND_LOOK_TENTHS.0 } else { SECOND_LOOK_TENTHS.1 };
        let again = jobs.len() > deleted;
        self.sweep.jobs = jobs;
        self.sweep.due = Some(now + if again { age * tenths / 10 } else { self.pause() });
    }

    /// An ENI of this node's own books: not the sweep's business.
    fn knows(&self, view: &EniView) -> bool {
        let token = view.tags.iter().find(|(key, _)| key == CLIENT_TOKEN_TAG).map(|(_, value)| value);
        self.enis.contains_key(&view.eni_id) || token.is_some_and(|token| self.requests.contains_key(token))
    }

    pub(super) fn leaked_job_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        id: &EniId,
        outcome: Result<Outcome, Failure>,
    ) {
        self.sweep.running = false;
        self.sweep.denied.job = matches!(&outcome, Err(failure) if failure.class == FailureClass::Denied);
        if let Err(failure) = outcome {
            let retry = self.failed(turn, what, &failure, 1);
            self.sweep.marked.remove(id);
            if matches!(what, Purpose::MarkLeaked { .. }) {
                // Who cannot mark does not look again soon, and neither do all the others who cannot.
                self.sweep.jobs.retain(|job| !matches!(job, Job::Mark(..)));
                if self.sweep.marked.is_empty() {
                    self.sweep.due = Some(retry.max(turn.boot() + self.pause().max(UNMARKED_REST)));
                }
            }
        } else if matches!(what, Purpose::DeleteLeaked { .. }) {
            turn.warn(ReasonCode::LeakedEniDeleted, format!("ENI {id} was leaked: deleted"));
        }
    }
}

fn verdict(view: &EniView, sweeper: &Sweeper<'_>) -> Verdict {
    let tag = |key: &str| view.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let free = view.attachment.is_none() && view.status == "available";
    let plain = !view.foreign && view.interface_type == "interface" && tag(tags::NO_MANAGE_TAG) != Some("true");
    let own = tag(INSTANCE_TAG) == Some(sweeper.instance_id.as_str());
    let maker_is_gone = tag(INSTANCE_TAG).is_some_and(|maker| !sweeper.living.contains(&InstanceId::from(maker)));
    let of_cluster = sweeper.cluster.is_some() && tag(CLUSTER_TAG) == sweeper.cluster && maker_is_gone;
    if !(free && plain && view.description.starts_with(DESCRIPTION) && (own || of_cluster)) {
        return Verdict::LeaveAlone;
    }
    let age = i64::try_from(sweeper.age.as_nanos()).unwrap_or(i64::MAX);
    if sweeper.age_of(view).is_some_and(|created| created < age) {
        return Verdict::LeaveAlone;
    }
    let Some(lease) = tag(LEASE_TAG) else { return Verdict::Mark };
    let (holder, since) = lease.split_once(' ').unwrap_or((lease, ""));
    // Clocks differ: a lease from the near future is fresh, too.
    let fresh = sweeper.nanos_since(since).is_some_and(|since| since.abs() < age.saturating_mul(i64::from(LEASE_AGES)));
    match (fresh, holder == sweeper.instance_id.as_str()) {
        (true, true) => Verdict::Ours(lease.to_owned()),
        (true, false) => Verdict::LeaveAlone,
        (false, _) => Verdict::Mark,
    }
}

#[cfg(test)]
mod tests;
