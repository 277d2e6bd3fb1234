// SPDX-License-Identifier: Apache-2.0
//! Who has which address, by what the plugin was told; what rests; who waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::action::Allocated;
use ipamd_core::ids::{AllocationKey, MacAddr, RequestId};
use ipamd_core::reason::{ReasonCode, Refusal};
use vpc_model::{Eni, EniId, Vpc};

use crate::client::Ec2Call;
use crate::kernel::Kernel;

use super::{Invariant, Rules};

pub(super) type Verdict = Result<(), (Invariant, String)>;

/// After something went wrong, a node is not expected to be at its best for so long.
const CALM_AFTER: Duration = Duration::from_secs(180);
/// A waiter with that much time can be served by one assign call.
const TIME_FOR_A_CALL: Duration = Duration::from_secs(10);

/// An ADD that waits.
#[derive(Clone, Debug)]
struct Waiting {
    request: RequestId,
    key: AllocationKey,
    since: BootTime,
    deadline: BootTime,
}

/// One node's account.
#[derive(Debug)]
pub(super) struct Ledger {
    cooldown: Duration,
    pub(super) rules: Option<Rules>,
    pub(super) owners: BTreeMap<AllocationKey, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, AllocationKey>,
    pub(super) rests: BTreeMap<Ipv4Addr, BootTime>,
    pub(super) bereft: BTreeSet<Ipv4Addr>,
    /// ENIs that somebody took away.
    pub(super) taken: BTreeSet<EniId>,
    /// ENIs that the allocator asked EC2 to detach: they cannot be called back.
    pub(super) sent_away: BTreeSet<EniId>,
    waiting: VecDeque<Waiting>,
    /// ADDs whose caller went away: an answer may still come, or not.
    pub(super) forgotten: BTreeSet<RequestId>,
    pub(super) first_deadline: Option<BootTime>,
    pub(super) turns_now: u32,
    /// ENIs of the node.
    pub(super) enis: Vec<EniId>,
    pub(super) growth: super::growth::Growth,
    /// Since when nothing goes wrong.
    pub(super) troubled_at: BootTime,
}

impl Ledger {
    pub(super) fn new(cooldown: Duration) -> Self {
        Self {
            cooldown,
            rules: None,
            owners: BTreeMap::new(),
            by_address: BTreeMap::new(),
            rests: BTreeMap::new(),
            bereft: BTreeSet::new(),
            taken: BTreeSet::new(),
            sent_away: BTreeSet::new(),
            waiting: VecDeque::new(),
            forgotten: BTreeSet::new(),
            first_deadline: None,
            turns_now: 0,
            enis: Vec::new(),
            growth: super::growth::Growth::default(),
            troubled_at: BootTime::default(),
        }
    }

    pub(super) fn started(&mut self, now: BootTime) {
        self.troubled_at = now;
        self.turns_now = 0;
    }

    pub(super) fn died(&mut self, now: BootTime) {
        self.troubled_at = now;
        self.waiting.clear();
        self.forgotten.clear();
        self.first_deadline = None;
        self.growth.died(now);
    }

    pub(super) fn struck(&mut self, now: BootTime) {
        self.troubled_at = now;
        self.growth.troubled(now);
    }

    /// Whether nothing has gone wrong for a while.
    pub(super) fn is_calm(&self, now: BootTime) -> bool {
        now.since(self.troubled_at) >= CALM_AFTER
    }

    pub(super) fn waiters(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn asked(&mut self, request: RequestId, key: &AllocationKey, deadline: BootTime, now: BootTime) {
        self.growth.pod_event(now);
        self.waiting.push_back(Waiting { request, key: key.clone(), since: now, deadline });
        self.note_deadline();
    }

    fn note_deadline(&mut self) {
        self.first_deadline = self.waiting.iter().map(|waiting| waiting.deadline).min();
    }

    pub(super) fn abandoned(&mut self, request: RequestId) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.request != request);
        if self.waiting.len() < before {
            self.forgotten.insert(request);
        }
        self.note_deadline();
    }

    /// An ADD is answered: once, in time, and served in order. Says how long it waited.
    pub(super) fn answered(
        &mut self,
        request: RequestId,
        key: &AllocationKey,
        served: Option<&Allocated>,
        now: BootTime,
    ) -> Result<Duration, (Invariant, String)> {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.request == request) else {
            return Err((Invariant::Deadline, format!("{request:?} is answered a second time")));
        };
        let Some(answered) = self.waiting.remove(index) else { return Ok(Duration::ZERO) };
        self.note_deadline();
        if now > answered.deadline {
            return Err((Invariant::Deadline, format!("{} is answered late", key.container_id)));
        }
        let has_one = self.owners.contains_key(key);
        let earlier = self.waiting.iter().take(index).find(|waiting| waiting.key != *key);
        if let Some(earlier) = earlier.filter(|_| served.is_some() && !has_one) {
            let text = format!("{} is served before {}", key.container_id, earlier.key.container_id);
            return Err((Invariant::Order, text));
        }
        Ok(now.since(answered.since))
    }

    pub(super) fn given(
        &mut self,
        key: &AllocationKey,
        allocated: &Allocated,
        (vpc, kernel): (&Vpc, &Kernel),
        now: BootTime,
    ) -> Verdict {
        let address = allocated.address;
        match self.owners.get(key) {
            Some(held) if *held == address => return Ok(()),
            Some(held) => {
                let text = format!("{} has {held} and is given {address}", key.container_id);
                return Err((Invariant::OneAddress, text));
            }
            None => {}
        }
        let owner = self.by_address.get(&address).or_else(|| kernel.holder(address));
        if let Some(owner) = owner.filter(|owner| *owner != key) {
            let text = format!("{address} of {} is given to {}", owner.container_id, key.container_id);
            return Err((Invariant::OneOwner, text));
        }
        if let Some(until) = self.rests.get(&address).filter(|until| now < **until) {
            let text =
                format!("{address} is given to {} {:?} before its cooldown ends", key.container_id, until.since(now));
            return Err((Invariant::Cooling, text));
        }
        if kernel.holder(address).is_none() && !kernel.has_forgotten(address) {
            let text = format!("{address} is given to {} unflushed", key.container_id);
            return Err((Invariant::Unflushed, text));
        }
        self.owners.insert(key.clone(), address);
        self.by_address.insert(address, key.clone());
        let id = EniId::from(allocated.eni_id.as_str());
        if self.bereft.contains(&address) || self.taken.contains(&id) {
            // It cannot know yet that somebody took the ENI away.
            self.bereft.insert(address);
            return Ok(());
        }
        let eni = vpc.eni(&id);
        let proven = eni.is_some_and(|eni| holds(eni, address) && kernel.is_set_up(MacAddr(eni.mac.0)));
        if proven {
            Ok(())
        } else {
            let text = format!("{address} is given out, but {} does not have it, or is not set up", allocated.eni_id);
            Err((Invariant::Proven, text))
        }
    }

    /// A refusal for want of addresses, although an attached ENI had room and the subnet addresses.
    pub(super) fn refused(
        &mut self,
        refusal: &Refusal,
        waited: Duration,
        (vpc, kernel): (&Vpc, &Kernel),
        now: BootTime,
    ) -> Verdict {
        let for_want = matches!(
            refusal.code,
            ReasonCode::NodeFull
                | ReasonCode::AttachmentLimit
                | ReasonCode::AllCooling
                | ReasonCode::BudgetSpent
                | ReasonCode::SubnetExhausted
                | ReasonCode::EniPending
        );
        let Some(rules) = self.rules.filter(|_| for_want) else { return Ok(()) };
        let quiet = self.is_calm(now) && self.growth.is_calm(now);
        // One that had hardly any time is refused at once, and rightly.
        let hopeless =
            waited < TIME_FOR_A_CALL && matches!(refusal.code, ReasonCode::BudgetSpent | ReasonCode::EniPending);
        if !quiet || hopeless {
            return Ok(());
        }
        let rooms = self.enis.iter().filter_map(|id| vpc.eni(id)).filter_map(|eni| {
            let subnet = vpc.subnets().find(|subnet| subnet.id == eni.subnet)?;
            let usable = kernel.is_set_up(MacAddr(eni.mac.0)) && subnet.free_addresses() >= 16;
            usable.then(|| rules.per_eni.saturating_sub(u32::try_from(eni.slots() - 1).unwrap_or(u32::MAX)))
        });
        let room: u32 = rooms.sum();
        // Who came earlier gets it first.
        let taken = self.slots_under_way() + self.waiters();
        if room <= taken {
            return Ok(());
        }
        let text = format!(
            "an ADD is refused after {:.1} s ({}: {}), but its ENIs have room for {room}, of which {taken} are spoken for, and \
             the subnet has addresses",
            waited.as_secs_f64(),
            refusal.code,
            refusal.cause,
        );
        Err((Invariant::InVain, text))
    }

    pub(super) fn released(&mut self, key: &AllocationKey, now: BootTime) {
        self.growth.pod_event(now);
        if let Some(address) = self.owners.remove(key) {
            self.by_address.remove(&address);
            self.rests.insert(address, now + self.cooldown);
        }
        if self.rests.len() > 256 {
            self.rests.retain(|_, until| now < *until);
        }
    }

    /// Whether an address may go back to EC2.
    fn may_go(&self, address: Ipv4Addr, call: &Ec2Call, now: BootTime) -> Verdict {
        if self.bereft.contains(&address) {
            return Ok(());
        }
        if let Some(owner) = self.by_address.get(&address) {
            return Err((Invariant::InUse, format!("{} takes {address} from {}", call.action, owner.container_id)));
        }
        match self.rests.get(&address).filter(|until| now < **until) {
            None => Ok(()),
            Some(_) => Err((Invariant::Cooling, format!("{} gives {address} back while it cools", call.action))),
        }
    }

    /// A call takes nothing away that somebody has, or had a moment ago.
    pub(super) fn takes_nothing_in_use(&self, call: &Ec2Call, vpc: &Vpc, now: BootTime) -> Verdict {
        let eni = match call.action {
            "UnassignPrivateIpAddresses" => {
                let named = call.params.iter().filter(|(name, _)| name.starts_with("PrivateIpAddress."));
                for address in named.filter_map(|(_, value)| value.parse().ok()) {
                    self.may_go(address, call, now)?;
                }
                let prefixes = call.params.iter().filter(|(name, _)| name.starts_with("Ipv4Prefix."));
                for prefix in prefixes.filter_map(|(_, value)| value.parse::<ipnet::Ipv4Net>().ok()) {
                    let inside = self.by_address.keys().chain(self.rests.keys()).filter(|held| prefix.contains(*held));
                    for address in inside {
                        self.may_go(*address, call, now)?;
                    }
                }
                return Ok(());
            }
            "DeleteNetworkInterface" => param(call, "NetworkInterfaceId").and_then(|id| vpc.eni(&EniId::from(id))),
            "DetachNetworkInterface" => self.attached_as(call, vpc),
            _ => return Ok(()),
        };
        let Some(eni) = eni else { return Ok(()) };
        let held = self.by_address.keys().chain(self.rests.keys()).filter(|address| holds(eni, **address));
        for address in held {
            self.may_go(*address, call, now)?;
        }
        Ok(())
    }

    pub(super) fn attached_as<'a>(&self, call: &Ec2Call, vpc: &'a Vpc) -> Option<&'a Eni> {
        let attachment = param(call, "AttachmentId")?;
        let enis = self.enis.iter().filter_map(|id| vpc.eni(id));
        enis.into_iter().find(|eni| eni.attachment().is_some_and(|it| it.id.as_str() == attachment))
    }
}

/// Whether an ENI has this address for pods.
pub(super) fn holds(eni: &Eni, address: Ipv4Addr) -> bool {
    eni.secondaries.contains(&address) || eni.prefixes.iter().any(|prefix| prefix.contains(&address))
}

pub(super) fn param<'a>(call: &'a Ec2Call, name: &str) -> Option<&'a str> {
    call.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
