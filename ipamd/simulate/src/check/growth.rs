// SPDX-License-Identifier: Apache-2.0
//! What is asked of EC2: within the limits, no more than is missing, not blindly again, and not too often.
//!
//! What an allocator cannot know is not held against it: after a lost answer, a restart or somebody's meddling, its account
//! may differ from EC2's for a while, and only what holds under any account is checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::config::WarmTargets;
use ipamd_core::event::{Failure, FailureClass};
use ipamd_core::ids::MacAddr;
use vpc_model::Vpc;

use crate::client::Ec2Call;
use crate::kernel::Kernel;

use super::ledger::{Ledger, Verdict, param};
use super::{Invariant, Rules};

/// How long an account may differ after something went wrong: a read that lags and the next one.
const UNSURE: Duration = Duration::from_secs(180);
/// An ENI that is not set up after that time may be replaced.
const LATE: Duration = Duration::from_secs(10);
/// While one is not set up for so long, who waits may be served by another ENI: what both hold is more than is missing, by as
/// much as waits.
const OVERDUE: Duration = Duration::from_secs(5);
/// Over which time calls are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// Calls in that time that need no explanation: a start, a verify, a pool that moves.
const FREE_CALLS: u64 = 60;
/// Calls that one pod coming or going explains.
const CALLS_A_POD: u64 = 3;
/// Calls that one fault, restart or other trouble explains.
const CALLS_A_TROUBLE: u64 = 40;

/// Calls and their causes.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Asked of each ENI and not arrived yet, this life's.
    assigning: BTreeMap<String, u32>,
    /// Addresses of create calls that have not arrived yet, by token.
    creating: BTreeMap<String, u32>,
    /// ENIs whose last assign had no answer, and which were not read since.
    in_doubt: BTreeSet<String>,
    unsure_until: BootTime,
    calls: VecDeque<BootTime>,
    pods: VecDeque<BootTime>,
    troubles: VecDeque<BootTime>,
}

impl Growth {
    pub(super) fn died(&mut self, now: BootTime) {
        self.assigning.clear();
        self.creating.clear();
        self.in_doubt.clear();
        self.troubled(now);
    }

    pub(super) fn troubled(&mut self, now: BootTime) {
        self.unsure_until = now + UNSURE;
        self.troubles.push_back(now);
    }

    pub(super) fn pod_event(&mut self, now: BootTime) {
        self.pods.push_back(now);
    }

    pub(super) fn is_calm(&self, now: BootTime) -> bool {
        now >= self.unsure_until
    }

    fn count_call(&mut self, now: BootTime) -> Verdict {
        self.calls.push_back(now);
        for queue in [&mut self.calls, &mut self.pods, &mut self.troubles] {
            while queue.front().is_some_and(|at| now.since(*at) > WINDOW) {
                queue.pop_front();
            }
        }
        let explained =
            FREE_CALLS + CALLS_A_POD * self.pods.len() as u64 + CALLS_A_TROUBLE * self.troubles.len() as u64;
        if self.calls.len() as u64 > explained {
            let text = format!(
                "{} EC2 calls in {} min, with {} pods come or gone and {} troubles",
                self.calls.len(),
                WINDOW.as_secs() / 60,
                self.pods.len(),
                self.troubles.len()
            );
            return Err((Invariant::Storm, text));
        }
        Ok(())
    }
}

impl Ledger {
    /// A call is made.
    pub(super) fn asks(&mut self, call: &Ec2Call, (vpc, kernel): (&Vpc, &Kernel), now: BootTime) -> Verdict {
        self.growth.count_call(now)?;
        let count = |name| param(call, name).and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
        match call.action {
            "AssignPrivateIpAddresses" => {
                let eni = param(call, "NetworkInterfaceId").unwrap_or_default().to_owned();
                if self.growth.in_doubt.contains(&eni) {
                    return Err((
                        Invariant::Blindly,
                        format!("{eni} is assigned to again, and nobody knows what the last call did"),
                    ));
                }
                let (addresses, prefixes) = (count("SecondaryPrivateIpAddressCount"), count("Ipv4PrefixCount"));
                self.fits(&eni, addresses + prefixes, vpc, now)?;
                self.is_missing((addresses, prefixes), (vpc, kernel), now)?;
                *self.growth.assigning.entry(eni).or_default() += addresses + prefixes;
            }
            "CreateNetworkInterface" => {
                let token = param(call, "ClientToken").unwrap_or_default().to_owned();
                let (addresses, prefixes) = (count("SecondaryPrivateIpAddressCount"), count("Ipv4PrefixCount"));
                if !self.growth.creating.contains_key(&token) {
                    self.one_more_eni_fits(vpc, now)?;
                    self.is_missing((addresses, prefixes), (vpc, kernel), now)?;
                }
                self.growth.creating.insert(token, addresses + prefixes);
            }
            "DescribeNetworkInterfaces" => self.growth.in_doubt.clear(),
            "DetachNetworkInterface" => {
                let leaving = self.attached_as(call, vpc).map(|eni| eni.id.clone());
                self.sent_away.extend(leaving);
            }
            _ => {}
        }
        Ok(())
    }

    /// Slots that calls under way will fill.
    pub(super) fn slots_under_way(&self) -> u32 {
        self.growth.assigning.values().chain(self.growth.creating.values()).sum()
    }

    /// Slots of an ENI, calls under way counted.
    fn fits(&self, eni: &str, asked: u32, vpc: &Vpc, now: BootTime) -> Verdict {
        let Some(rules) = self.rules.filter(|_| self.growth.is_calm(now)) else { return Ok(()) };
        let held = vpc.eni(&vpc_model::EniId::from(eni)).map_or(0, |eni| eni.slots() - 1);
        let under_way = self.growth.assigning.get(eni).copied().unwrap_or(0);
        let all = u32::try_from(held).unwrap_or(u32::MAX) + under_way + asked;
        if all <= rules.per_eni {
            return Ok(());
        }
        let text = format!("{eni} holds {held}, {under_way} are on their way, and {asked} more are asked for");
        Err((Invariant::Limits, text))
    }

    fn one_more_eni_fits(&self, vpc: &Vpc, now: BootTime) -> Verdict {
        let Some(rules) = self.rules.filter(|_| self.growth.is_calm(now)) else { return Ok(()) };
        // One that EC2 is detaching is on its way out: its slot is free when the new one is there to take it.
        let stays = |eni: &&vpc_model::Eni| {
            eni.attachment().is_some_and(|it| !matches!(it.phase, vpc_model::AttachmentPhase::Detaching { .. }))
        };
        let here = self.enis.iter().filter_map(|id| vpc.eni(id)).filter(stays).count();
        let all = u32::try_from(here + self.growth.creating.len()).unwrap_or(u32::MAX);
        if all < rules.max_enis {
            return Ok(());
        }
        let text = format!(
            "{here} ENIs are there and {} asked for, of {}, and one more is asked for",
            self.growth.creating.len(),
            rules.max_enis
        );
        Err((Invariant::Limits, text))
    }

    /// No more than is missing by the targets, with what is on its way; a whole ENI or prefix more where those are the unit.
    fn is_missing(&self, (addresses, prefixes): (u32, u32), (vpc, kernel): (&Vpc, &Kernel), now: BootTime) -> Verdict {
        let calm = self.growth.is_calm(now) && self.is_calm(now);
        // Single addresses in place of prefixes: the subnet has none, and the account is in two units.
        let Some(rules) = self.rules.filter(|rules| calm && !(rules.prefixes && prefixes == 0)) else { return Ok(()) };
        // One that does not come up is replaced, and then there are both.
        let is_not_set_up_for = |eni: &vpc_model::Eni, time| {
            eni.attachment()
                .is_some_and(|it| now.0.saturating_sub(it.attach_time) > time && !kernel.is_set_up(MacAddr(eni.mac.0)))
        };
        let late = |eni: &vpc_model::Eni| is_not_set_up_for(eni, LATE);
        // One that somebody took away holds addresses that are of no use.
        let taken = |eni: &vpc_model::Eni| self.taken.contains(&eni.id);
        // On the way back to prefixes, single addresses are held that do not count any more.
        let mixed = |eni: &vpc_model::Eni| rules.prefixes && !eni.secondaries.is_empty();
        if self.enis.iter().filter_map(|id| vpc.eni(id)).any(|eni| taken(eni) || late(eni) || mixed(eni)) {
            return Ok(());
        }
        // What was detached meets no need any more, though it holds its addresses until it is deleted.
        let stays = |eni: &&vpc_model::Eni| {
            let leaves = matches!(
                eni.attachment().map(|it| &it.phase),
                None | Some(vpc_model::AttachmentPhase::Detaching { .. })
            );
            !(leaves && self.sent_away.contains(&eni.id))
        };
        let held: usize = self
            .enis
            .iter()
            .filter_map(|id| vpc.eni(id))
            .filter(stays)
            .map(|eni| eni.secondaries.len() + 16 * eni.prefixes.len())
            .sum();
        let under_way = self.slots_under_way();
        let unit = if prefixes > 0 { 16 } else { 1 };
        let all = u32::try_from(held).unwrap_or(u32::MAX) + unit * under_way;
        let resting = u32::try_from(self.rests.values().filter(|until| now < **until).count()).unwrap_or(u32::MAX);
        let used = u32::try_from(self.owners.len()).unwrap_or(u32::MAX) + resting;
        let asked = addresses + 16 * prefixes;
        let most = most_wanted(&rules, used + self.waiters(), unit);
        // Addresses of sandboxes that died unseen, or were never heard of, are in use by the allocator's own account.
        let slack = 4 + u32::try_from(self.growth.pods.len() / 8).unwrap_or(u32::MAX);
        let is_overdue = self.enis.iter().filter_map(|id| vpc.eni(id)).any(|eni| is_not_set_up_for(eni, OVERDUE));
        let instead = if is_overdue { self.waiters() + unit - 1 } else { 0 };
        if all + asked <= most + slack + instead {
            return Ok(());
        }
        let text = format!(
            "{held} addresses are held and {under_way} slots on their way for {used} in use and {} waiting; {asked} more are \
             asked for, {most} would do",
            self.waiters()
        );
        Err((Invariant::AskedTwice, text))
    }

    pub(super) fn arrived(&mut self, call: &Ec2Call, heard: bool, now: BootTime) {
        match call.action {
            "AssignPrivateIpAddresses" => {
                let eni = param(call, "NetworkInterfaceId").unwrap_or_default();
                self.growth.assigning.remove(eni);
            }
            "CreateNetworkInterface" => {
                self.growth.creating.remove(param(call, "ClientToken").unwrap_or_default());
            }
            _ => {}
        }
        if !heard {
            self.growth.unsure_until = now + UNSURE;
        }
    }

    pub(super) fn returned(&mut self, call: &Ec2Call, answer: &Result<String, Failure>, now: BootTime) {
        let Err(failure) = answer else { return };
        // No excuse for more calls, but the accounts may differ.
        self.growth.unsure_until = now + UNSURE;
        match call.action {
            "AssignPrivateIpAddresses" => {
                let eni = param(call, "NetworkInterfaceId").unwrap_or_default().to_owned();
                self.growth.assigning.remove(&eni);
                if failure.class == FailureClass::Unknown {
                    self.growth.in_doubt.insert(eni);
                }
            }
            "CreateNetworkInterface" => {
                self.growth.creating.remove(param(call, "ClientToken").unwrap_or_default());
            }
            _ => {}
        }
    }
}

/// The most that a pool with so many addresses in use or waited for may hold.
fn most_wanted(rules: &Rules, used: u32, unit: u32) -> u32 {
    match rules.warm {
        // Whole ENIs: what is used, the spare ones, and the rest of the one that was begun.
        WarmTargets::Enis(enis) => used + (enis.max(1) + 1) * rules.per_eni * unit,
        // What comes within the time that an ENI takes, which is in use by then, and the rest of an ENI that was begun.
        WarmTargets::Adaptive => 2 * used + 3 * rules.per_eni * unit + 32,
        WarmTargets::Prefixes(prefixes) => used + 16 * prefixes.max(1) + 15,
        WarmTargets::Addresses { warm, minimum } => (used + warm).max(minimum) + unit - 1,
    }
}
