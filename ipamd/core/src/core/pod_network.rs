// SPDX-License-Identifier: Apache-2.0
//! Custom networking: which subnets the node's ENIConfig opens, what is wrong with it, what is said of it.
//!
//! Decides in which subnets new ENIs may be made, by what the API server said last and what EC2 says of the zone; not in which
//! of them the next one is (`planner::place`), nor how the object is read (the daemon's edge). The last word is in the
//! journal, so that a daemon that starts without an API server goes on where it was; another word concerns new ENIs only.
//!
//! Invariant: no ENI is asked for outside the subnets of the policy that holds, nor outside VPC and zone as EC2 last described
//! them; the primary ENI is asked for nothing (`pool::rooms`). What it has is given out as before.
//!
//! ```text
//!   nothing said ──► ADDs wait for a word inside their budget     missing ──► refused at once, EniConfigMissing
//!   policy ──► the zone is described anew ──► subnets that it has: usable
//!                                         └─► ids that it does not have are looked up: not there, another VPC, another zone
//!                                             tags that no subnet has, entries that say nothing: told, EniConfigFaulty
//!   entries without a subnet: the zone is described again after 1 min, doubling to 30, to 2 while ADDs come; not before 10 min
//!                             where some subnet is usable. An id that is in another VPC or zone is looked up once
//! ```
//!
//! One object is many nodes' business, and its mistake all of theirs at once: each node has times of its own (`backoff::jitter`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::{ActionKind, SubnetQuery};
use crate::config::SubnetChoice;
use crate::event::{Failure, Outcome, SubnetView};
use crate::ids::{BootTime, SecurityGroupId, SubnetId};
use crate::lifecycle::Eni;
use crate::pod_network::{PodNetwork, PodNetworkPolicy, PodSubnet, PodSubnetRef};
use crate::reads::Read;
use crate::reason::{NoticeLevel, ReasonCode, Refusal};

use super::ended::unexpected;
use super::outlook::of_failure;
use super::state::Purpose;
use super::{Core, Turn};

mod show;

/// How soon the zone is described again while no subnet of the policy is usable, doubling,
const RECHECK: Duration = Duration::from_secs(60);
/// while only some of them are,
const RECHECK_SOME: Duration = Duration::from_secs(600);
/// and at most, half of it added as jitter: 30 min.
const LONGEST_RECHECK: Duration = Duration::from_secs(1_200);
/// At most while ADDs come, as with exhausted subnets.
const LONGEST_WAITED_FOR: Duration = Duration::from_secs(120);
/// Over how long nodes spread that are told of other subnets and have no ADD.
const SPREAD: Duration = Duration::from_secs(10);

/// What is known of custom networking.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodNetworking {
    /// The last word; `None`: nothing was said in this boot.
    pub(crate) said: Option<PodNetwork>,
    /// Since when its subnets have been these.
    pub(crate) since: BootTime,
    /// Descriptions of the zone in a row that left some entry without a subnet.
    rechecks: u32,
    /// An ADD came since the zone was described.
    add_came: bool,
    /// Looks at subnets that are named and not in the zone.
    look: Read,
    /// What they showed of them, since the policy's subnets are these; `None`: there is no such subnet.
    found: BTreeMap<SubnetId, Option<SubnetView>>,
    /// The faults that were told last.
    told: Vec<String>,
}

/// What one entry of a policy comes to.
pub(crate) enum Verdict {
    /// ENIs can be made there.
    Usable(Vec<SubnetId>),
    /// EC2 has not said yet.
    Unchecked,
    /// It means no subnet that can be used, and why.
    Faulty(String),
}

impl Core {
    /// Whether an ENIConfig says where ENIs are made.
    pub(super) fn has_pod_network(&self) -> bool {
        self.config.subnets == SubnetChoice::EniConfig
    }

    pub(super) fn pod_policy(&self) -> Option<&PodNetworkPolicy> {
        match &self.pod_networking.said {
            Some(PodNetwork::Policy(policy)) => Some(policy),
            Some(PodNetwork::Missing { .. }) | None => None,
        }
    }

    /// The API server's word.
    pub(super) fn pod_network_changed(&mut self, turn: &mut Turn, said: PodNetwork) {
        if !self.has_pod_network() || self.pod_networking.said.as_ref() == Some(&said) {
            return;
        }
        match &said {
            PodNetwork::Policy(policy) => {
                let subnets: Vec<String> = policy.subnets.iter().map(|subnet| subnet.which.to_string()).collect();
                turn.info(format!("new ENIs are made by {}: {}", policy.eni_config, subnets.join("; ")));
            }
            PodNetwork::Missing { eni_config, cause } => {
                turn.notice(
                    NoticeLevel::Warn,
                    Some(ReasonCode::EniConfigMissing),
                    missing(&eni_config.to_string(), cause),
                );
            }
        }
        let others = self.pod_networking.said.as_ref().map(subnets_of) != Some(subnets_of(&said));
        self.pod_networking.said = Some(said);
        self.pod_networking.told.clear();
        if others {
            self.pod_networking.since = turn.boot();
            self.pod_networking.rechecks = 0;
            self.pod_networking.found.clear();
            if self.pod_policy().is_some() && self.pod_places().is_empty() {
                // A description that failed when nobody needed it is needed now.
                self.zone.read.not_before = self.zone.read.not_before.min(turn.boot());
            }
        }
        self.touch();
    }

    /// No word can be had: better known at once than waited for by every ADD. A policy is worth more than that.
    pub(super) fn pod_network_refused(&mut self, turn: &mut Turn, said: PodNetwork) {
        if self.pod_policy().is_none() {
            self.pod_network_changed(turn, said);
        }
    }

    /// The subnets that new ENIs may be made in now, with order and weight.
    pub(super) fn pod_places(&self) -> BTreeMap<SubnetId, (u32, u32)> {
        let mut places = BTreeMap::new();
        for subnet in self.pod_policy().map_or(&[][..], |policy| &policy.subnets) {
            for id in self.meant(subnet) {
                places.entry(id).or_insert((subnet.order, subnet.weight.get()));
            }
        }
        places
    }

    /// Subnets of VPC and zone that an entry means.
    fn meant(&self, subnet: &PodSubnet) -> Vec<SubnetId> {
        let in_zone = self.subnets.iter().filter(|(_, subnet)| subnet.standing.is_some());
        match &subnet.which {
            PodSubnetRef::Id(id) => in_zone.map(|(known, _)| known.clone()).filter(|known| known == id).collect(),
            PodSubnetRef::Tags(tags) => {
                let has_all = |there: &[(String, String)]| {
                    tags.iter().all(|(key, value)| there.iter().any(|tag| (&tag.0, &tag.1) == (key, value)))
                };
                in_zone.filter(|(_, subnet)| has_all(&subnet.tags)).map(|(id, _)| id.clone()).collect()
            }
            PodSubnetRef::Faulty { .. } => Vec::new(),
        }
    }

    pub(super) fn verdict(&self, subnet: &PodSubnet) -> Verdict {
        let meant = self.meant(subnet);
        if !meant.is_empty() {
            return Verdict::Usable(meant);
        }
        let checked = self.zone.read.is_newer_than(self.pod_networking.since);
        let (vpc, zone) =
            self.facts.as_ref().map_or(("", ""), |facts| (facts.vpc_id.as_str(), &facts.availability_zone));
        match &subnet.which {
            PodSubnetRef::Faulty { field, problem } => Verdict::Faulty(format!("{field}: {problem}")),
            PodSubnetRef::Id(_) | PodSubnetRef::Tags(_) if !checked => Verdict::Unchecked,
            PodSubnetRef::Tags(_) => Verdict::Faulty(format!("there are no {} in {vpc} and {zone}", subnet.which)),
            PodSubnetRef::Id(id) => match self.pod_networking.found.get(id) {
                None => Verdict::Unchecked,
                Some(None) => Verdict::Faulty(format!("{id} does not exist")),
                Some(Some(view)) if view.vpc_id.as_str() != vpc => {
                    Verdict::Faulty(format!("{id} is in {}, the node in {vpc}", view.vpc_id))
                }
                Some(Some(view)) if view.availability_zone != *zone => {
                    Verdict::Faulty(format!("{id} is in {}, the node in {zone}", view.availability_zone))
                }
                // Made since the zone was described.
                Some(Some(_)) => Verdict::Unchecked,
            },
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let subnets = self.pod_policy().map_or(&[][..], |policy| &policy.subnets);
        subnets.iter().map(|subnet| self.verdict(subnet)).collect()
    }

    /// Whether a word, or EC2's about it, is still to come before it can be said that there is no subnet.
    pub(super) fn pod_network_pending(&self) -> bool {
        let unchecked = |verdict: &Verdict| matches!(verdict, Verdict::Unchecked);
        match &self.pod_networking.said {
            _ if !self.has_pod_network() || !self.may_write() => false,
            None => true,
            Some(PodNetwork::Missing { .. }) => false,
            Some(PodNetwork::Policy(_)) => self.pod_places().is_empty() && self.verdicts().iter().any(unchecked),
        }
    }

    /// Why no ENI can be made for pods; `None`: one can, as far as the ENIConfig goes.
    pub(super) fn why_no_pod_network(&self, now: BootTime) -> Option<Refusal> {
        if !self.has_pod_network() || !self.may_write() || !self.pod_places().is_empty() {
            return None;
        }
        let refusal = |code, cause: String| Some(Refusal { code, cause, retry_after: None });
        match &self.pod_networking.said {
            None => refusal(
                ReasonCode::EniConfigMissing,
                "the API server has not said yet which ENIConfig the node has, and without one no ENI is made for pods; \
                 `ipamd status` says how it stands with the API server"
                    .to_owned(),
            ),
            Some(PodNetwork::Missing { eni_config, cause }) => {
                refusal(ReasonCode::EniConfigMissing, missing(&eni_config.to_string(), cause))
            }
            Some(PodNetwork::Policy(policy)) => {
                let faults = faults_of(self.verdicts());
                let reads = [&self.zone.read, &self.pod_networking.look];
                let unseen =
                    reads.into_iter().find_map(|read| read.failure.as_ref().map(|failure| (failure, read.not_before)));
                let text = |what: &str| format!("{} has no subnet that can be used: {what}", policy.eni_config);
                match unseen.filter(|_| self.pod_network_pending()) {
                    Some((failure, at)) => {
                        let of_failure = of_failure(failure, at.since(now));
                        let cause = text(&format!("EC2 does not tell of the zone's subnets: {}", of_failure.cause));
                        Some(Refusal { cause, ..of_failure })
                    }
                    // Those that were not looked up yet may be right, or wrong, too.
                    None if faults.is_empty() || self.pod_network_pending() => {
                        refusal(ReasonCode::Starting, text("EC2 is being asked for them"))
                    }
                    None => refusal(ReasonCode::EniConfigFaulty, text(&faults.join("; "))),
                }
            }
        }
    }

    /// When the zone is to be described for the policy's sake; `last`: when it last was.
    pub(super) fn zone_wanted_for_pods(&self, last: BootTime) -> Option<BootTime> {
        self.pod_policy().filter(|_| self.has_pod_network())?;
        let PodNetworking { since, rechecks, add_came, .. } = self.pod_networking;
        let jitter = |span| crate::backoff::jitter(span, rechecks, self.salt());
        if last < since {
            return Some(if add_came { since } else { since + jitter(SPREAD) });
        }
        let doubled = RECHECK.saturating_mul(1 << rechecks.saturating_sub(1).min(8)).min(LONGEST_RECHECK);
        let whole = match self.pod_places().is_empty() {
            true if add_came => doubled.min(LONGEST_WAITED_FOR),
            true => doubled,
            false => doubled.max(RECHECK_SOME),
        };
        self.has_faulty_entry().then(|| last + whole + jitter(whole / 2))
    }

    /// The zone was described.
    pub(super) fn zone_described_for_pods(&mut self) {
        self.pod_networking.add_came = false;
        let again = self.pod_networking.rechecks.saturating_add(1);
        self.pod_networking.rechecks = if self.has_faulty_entry() { again } else { 0 };
    }

    /// Whether some entry means no subnet, or none that is known.
    fn has_faulty_entry(&self) -> bool {
        self.verdicts().iter().any(|verdict| !matches!(verdict, Verdict::Usable(_)))
    }

    /// Looks up the subnets that the zone does not have, and tells what is wrong.
    pub(super) fn drive_pod_network(&mut self, turn: &mut Turn) {
        if !self.has_pod_network() || !self.may_write() || self.pod_policy().is_none() {
            return;
        }
        // Those that are refused at once are not seen waiting any later.
        self.pod_networking.add_came |= !self.waiters.is_empty();
        self.look_for_named(turn);
        let verdicts = self.verdicts();
        if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Unchecked)) {
            return;
        }
        let faults = faults_of(verdicts);
        if faults == self.pod_networking.told {
            return;
        }
        let name = self.pod_policy().map_or_else(String::new, |policy| policy.eni_config.to_string());
        if faults.is_empty() {
            turn.info(format!("every subnet of {name} can be used"));
        } else {
            let rest = if self.pod_places().is_empty() { "no ENI is made" } else { "its other subnets are used" };
            let text = format!("{name}: {}; {rest}", faults.join("; "));
            turn.notice(NoticeLevel::Warn, Some(ReasonCode::EniConfigFaulty), text);
        }
        self.pod_networking.told = faults;
    }

    fn look_for_named(&mut self, turn: &mut Turn) {
        let Some(last) = self.zone.read.last.filter(|last| *last >= self.pod_networking.since) else { return };
        let look = &self.pod_networking.look;
        if look.running.is_some() || look.is_newer_than(last) {
            return;
        }
        let unseen =
            self.pod_policy().into_iter().flat_map(|policy| &policy.subnets).filter_map(|subnet| match &subnet.which {
                PodSubnetRef::Id(id) if self.meant(subnet).is_empty() && !self.is_elsewhere(id) => Some(id.clone()),
                PodSubnetRef::Id(_) | PodSubnetRef::Tags(_) | PodSubnetRef::Faulty { .. } => None,
            });
        let unseen: Vec<SubnetId> = unseen.collect();
        if unseen.is_empty() {
            return;
        }
        let at = look.not_before;
        if turn.boot() < at {
            self.alarm(at);
            return;
        }
        let kind = ActionKind::DescribeSubnets(SubnetQuery::Named(unseen.clone()));
        let id = self.start(turn, Purpose::PodSubnets { subnet_ids: unseen }, kind);
        self.pod_networking.look.running = Some((id, turn.boot()));
    }

    /// Whether a look has found it in another VPC or zone, where it stays.
    fn is_elsewhere(&self, id: &SubnetId) -> bool {
        let (Some(Some(view)), Some(facts)) = (self.pod_networking.found.get(id), &self.facts) else { return false };
        view.vpc_id != facts.vpc_id || view.availability_zone != facts.availability_zone
    }

    pub(super) fn pod_subnets_ended(
        &mut self,
        turn: &mut Turn,
        what: &Purpose,
        asked: &[SubnetId],
        outcome: Result<Outcome, Failure>,
    ) {
        let now = turn.boot();
        let failure = match outcome {
            Ok(Outcome::SubnetsDescribed(views)) => {
                let look = &mut self.pod_networking.look;
                let began = look.running.map_or(now, |(_, began)| began);
                look.succeeded(began, now);
                let view = |id: &SubnetId| views.iter().find(|view| view.subnet_id == *id).cloned();
                self.pod_networking.found.extend(asked.iter().map(|id| (id.clone(), view(id))));
                return;
            }
            Ok(_) => unexpected(),
            Err(failure) => failure,
        };
        self.read_failed(turn, what, failure, |core| &mut core.pod_networking.look);
    }

    /// Groups of ENIs that are made now; `None`: not known.
    pub(super) fn groups_of_new_eni(&self) -> Option<&[SecurityGroupId]> {
        let primary = &self.facts.as_ref()?.security_group_ids;
        let policy = self.pod_policy().filter(|_| self.has_pod_network());
        Some(policy.map(|policy| &policy.security_group_ids).filter(|groups| !groups.is_empty()).unwrap_or(primary))
    }

    /// Groups that an ENI in service should have; `None`: whatever it has. With custom networking those of an ENI that was made
    /// for the ENIConfig follow that, and all others keep what they were made with.
    pub(super) fn groups_wanted(&self, eni: &Eni) -> Option<&[SecurityGroupId]> {
        let name = self.pod_policy().map(|policy| policy.eni_config.name.as_str());
        let follows = !self.has_pod_network() || (name.is_some() && eni.eni_config.as_deref() == name);
        self.groups_of_new_eni().filter(|_| follows && !eni.primary)
    }
}

fn subnets_of(said: &PodNetwork) -> Option<&[PodSubnet]> {
    match said {
        PodNetwork::Policy(policy) => Some(&policy.subnets),
        PodNetwork::Missing { .. } => None,
    }
}

fn missing(name: &str, cause: &str) -> String {
    format!("{name} {cause}; no ENI is made for pods until that is put right")
}

/// What is wrong with the entries of a policy, in their order.
fn faults_of(verdicts: Vec<Verdict>) -> Vec<String> {
    let faults = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::Faulty(text) => Some(text),
        Verdict::Usable(_) | Verdict::Unchecked => None,
    });
    faults.collect()
}
