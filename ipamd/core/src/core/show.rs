// SPDX-License-Identifier: Apache-2.0
//! The state as operators see it.

use std::time::Duration;

use crate::action::Fill;
use crate::ids::{BootTime, Now, RouteTable};
use crate::lifecycle::{Eni, Request, TryState};
use crate::planner::Addresses;
use crate::snapshot::{
    ActionSnapshot, AddressSnapshot, DriftSnapshot, EniSnapshot, FailureSnapshot, KubernetesSnapshot, OtherEniSnapshot,
    PodSnapshot, PoolSnapshot, PrefixRefusalSnapshot, RepairSnapshot, RepairedSnapshot, Snapshot, SubnetSnapshot,
    WaiterSnapshot,
};
use crate::store::{AddressState, Slot, Testimony, prefix_of};

use super::Core;
use super::pool::assigning;
use super::state::LastFailure;

impl Core {
    pub(super) fn show(&self, now: Now) -> Snapshot {
        let why = self.why(now);
        let now = now.boot;
        Snapshot {
            instance: self.facts.clone(),
            serving: self.is_serving(),
            pool: self.show_pool(now),
            why,
            supply: self.show_supply(now),
            enis: self.show_enis(now),
            other_enis: self.show_others(),
            addresses: self.show_addresses(now),
            pods: self.show_pods(now),
            waiters: self.show_waiters(now),
            actions: self.show_actions(now),
            failures: self.show_failures(now),
            exhausted_subnets: self.show_subnets(now),
            journal: self.journal_report.clone(),
            notes: Vec::new(),
            subnets: self.show_supplies(now),
            prefix_refusals: self.show_refusals(now),
            pod_network: self.show_pod_network(now),
            drift: self.show_drift(),
            repair: self.show_repair(now),
            connections: self.connections.last,
            kubernetes: KubernetesSnapshot::default(),
            capacity: self.show_capacity(now),
            sweep: self.show_sweep(),
        }
    }

    fn show_pool(&self, now: BootTime) -> PoolSnapshot {
        let view = self.pool_view(now);
        let target = self.target(now);
        let all = self.store.all();
        let serving = self.enis.values().filter(|eni| eni.gives_out());
        let ready = serving.map(|eni| self.store.tally(&eni.eni_id).free).sum();
        let others = self.others.values().filter(|other| other.network_card == 0).count();
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        PoolSnapshot {
            targets: self.warm_targets(),
            wanted: self.policy(now).map_or(0, |policy| policy.wanted_free().0),
            total: all.total(),
            allocated: all.allocated,
            free: ready,
            cooling: all.cooling,
            held: all.held,
            leaving: all.leaving,
            coming: (view.free + view.outgoing).less(Addresses(ready)).0,
            waiters: self.waiters.len(),
            announced: view.announced.0,
            shortfall: target.shortfall.0,
            surplus: target.surplus.0,
            addresses_per_eni: self.per_eni().map(|count| count.0),
            enis: self.slots_taken().saturating_sub(others),
            max_enis: self.slots(now).map(|slots| slots.saturating_sub(others)),
        }
    }

    fn show_enis(&self, now: BootTime) -> Vec<EniSnapshot> {
        let mut enis: Vec<EniSnapshot> = self.enis.values().map(|eni| self.show_eni(eni, now)).collect();
        enis.extend(self.requests.values().map(|request| show_request(request, now)));
        enis.sort_by(|a, b| (a.device_index, &a.eni_id).cmp(&(b.device_index, &b.eni_id)));
        enis
    }

    fn show_eni(&self, eni: &Eni, now: BootTime) -> EniSnapshot {
        let tally = self.store.tally(&eni.eni_id);
        let attempt = eni.phase.current_try();
        let failure = attempt.and_then(|attempt| attempt.failure.as_ref()).or(eni.assign_failure.as_ref());
        EniSnapshot {
            eni_id: Some(eni.eni_id.clone()),
            state: eni.phase.name().to_owned(),
            state_for_ms: millis(now.since(eni.since)),
            retry_in_ms: attempt.and_then(|attempt| retry_in(attempt.state, now)),
            device_index: eni.device_index,
            table: RouteTable::of_eni(eni.network_card, eni.device_index),
            mac: Some(eni.mac),
            primary_address: Some(eni.primary_address),
            subnet_id: eni.subnet_id.clone(),
            created: eni.created,
            excluded: eni.excluded,
            total: tally.total(),
            allocated: tally.allocated,
            free: tally.free,
            cooling: tally.cooling,
            prefixes: count(self.store.book(&eni.eni_id).map_or(0, |book| book.prefixes().count())),
            assigning: assigning(eni).map_or(0, Fill::addresses),
            last_failure: failure.map(|failure| format!("{}: {}", failure.code, failure.message)),
        }
    }

    fn show_others(&self) -> Vec<OtherEniSnapshot> {
        let mut others: Vec<OtherEniSnapshot> = self
            .others
            .iter()
            .map(|(id, other)| OtherEniSnapshot {
                eni_id: id.clone(),
                device_index: other.device_index,
                network_card: other.network_card,
                why: other.why.to_owned(),
            })
            .collect();
        others.sort_by_key(|other| (other.network_card, other.device_index));
        others
    }

    fn show_addresses(&self, now: BootTime) -> Vec<AddressSnapshot> {
        self.store
            .iter()
            .map(|(address, entry)| {
                let (state, cooling_for_ms) = match &entry.state {
                    AddressState::Free { .. } => ("free", None),
                    AddressState::Allocated(_) => ("allocated", None),
                    AddressState::Cooling { rest } => ("cooling", Some(millis(rest.until.since(now)))),
                    AddressState::Flushing { .. } => ("flushing", None),
                    AddressState::Held { .. } => ("held", None),
                    AddressState::Leaving { .. } => ("leaving", None),
                };
                AddressSnapshot {
                    address,
                    eni_id: entry.eni.clone(),
                    prefix: (entry.slot == Slot::Prefix).then(|| prefix_of(address)),
                    state: state.to_owned(),
                    cooling_for_ms,
                }
            })
            .collect()
    }

    fn show_pods(&self, now: BootTime) -> Vec<PodSnapshot> {
        self.store
            .allocations()
            .map(|(address, eni_id, allocation)| PodSnapshot {
                key: allocation.key.to_string(),
                pod: allocation.pod.clone(),
                address,
                eni_id: eni_id.cloned(),
                device_index: eni_id.and_then(|id| self.enis.get(id)).map(|eni| eni.device_index),
                allocated_unix_nanos: allocation.allocated_unix_nanos,
                orphan_for_ms: match allocation.testimony {
                    Testimony::MissingSince(since) => Some(millis(now.since(since))),
                    Testimony::Present | Testimony::Impossible => None,
                },
            })
            .collect()
    }

    fn show_waiters(&self, now: BootTime) -> Vec<WaiterSnapshot> {
        let waits_for = self.present_refusal(now).code;
        self.waiters
            .iter()
            .map(|waiter| WaiterSnapshot {
                key: waiter.key.to_string(),
                pod: waiter.pod.clone(),
                waiting_ms: millis(now.since(waiter.since)),
                budget_left_ms: millis(waiter.deadline().since(now)),
                waits_for,
            })
            .collect()
    }

    fn show_actions(&self, now: BootTime) -> Vec<ActionSnapshot> {
        self.in_flight
            .iter()
            .map(|(id, flight)| ActionSnapshot {
                id: id.0,
                what: flight.purpose.to_string(),
                running_ms: millis(now.since(flight.since)),
            })
            .collect()
    }

    /// Since when a failure is past: it succeeded, or the ENI that it was about is not there any more.
    fn recovered_at(&self, last: &LastFailure) -> Option<BootTime> {
        let is_gone = last.eni_id.as_ref().is_some_and(|id| !self.enis.contains_key(id));
        last.recovered.or(is_gone.then_some(last.at))
    }

    fn show_failures(&self, now: BootTime) -> Vec<FailureSnapshot> {
        let mut failures: Vec<FailureSnapshot> = self
            .failures
            .values()
            .map(|last| FailureSnapshot {
                what: last.what.clone(),
                class: last.failure.class,
                code: last.failure.code.clone(),
                reason: Some(last.reason),
                message: last.failure.message.clone(),
                ago_ms: millis(now.since(last.at)),
                recovered_ago_ms: self.recovered_at(last).map(|at| millis(now.since(at))),
            })
            .collect();
        failures.sort_by_key(|failure| failure.ago_ms);
        failures
    }

    fn show_subnets(&self, now: BootTime) -> Vec<SubnetSnapshot> {
        self.subnets
            .iter()
            .filter_map(|(id, subnet)| {
                let exhausted = subnet.exhausted.filter(|exhausted| now < exhausted.until)?;
                Some(SubnetSnapshot {
                    subnet_id: id.clone(),
                    retry_in_ms: millis(exhausted.until.since(now)),
                    available: exhausted.left,
                })
            })
            .collect()
    }

    fn show_drift(&self) -> DriftSnapshot {
        let missing = self.enis.values().filter(|eni| eni.missing_since.is_some());
        DriftSnapshot {
            eni_ids: missing.map(|eni| eni.eni_id.clone()).collect(),
            addresses: self.drift.addresses.iter().copied().collect(),
            found: self.drift.found,
        }
    }

    fn show_repair(&self, now: BootTime) -> RepairSnapshot {
        let count =
            |(what, count): (&crate::repair::RepairKind, &u64)| RepairedSnapshot { what: what.clone(), count: *count };
        RepairSnapshot {
            looks: self.repairs.looks,
            repaired: self.repairs.counts.iter().map(count).collect(),
            swept: self.repairs.swept,
            contested: self.repairs.contested(now),
        }
    }

    fn show_refusals(&self, now: BootTime) -> Vec<PrefixRefusalSnapshot> {
        let refused = self.subnets.iter().filter(|(_, subnet)| subnet.prefixes.refusals > 0);
        refused
            .map(|(id, subnet)| PrefixRefusalSnapshot {
                subnet_id: id.clone(),
                refusals: subnet.prefixes.refusals,
                probe_in_ms: subnet.prefixes.refused_until.filter(|until| now < *until).map(|at| millis(at.since(now))),
            })
            .collect()
    }
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn show_request(request: &Request, now: BootTime) -> EniSnapshot {
    EniSnapshot {
        eni_id: None,
        state: "Requested".to_owned(),
        state_for_ms: millis(now.since(request.since)),
        retry_in_ms: retry_in(request.attempt.state, now),
        device_index: request.device_index,
        table: RouteTable::of_eni(0, request.device_index),
        mac: None,
        primary_address: None,
        subnet_id: request.subnet_id.clone(),
        created: true,
        excluded: false,
        total: request.fill.addresses(),
        prefixes: match request.fill {
            Fill::Addresses(_) => 0,
            Fill::Prefixes(count) => count,
        },
        allocated: 0,
        free: 0,
        cooling: 0,
        assigning: 0,
        last_failure: request.attempt.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message)),
    }
}

fn retry_in(state: TryState, now: BootTime) -> Option<u64> {
    match state {
        TryState::Due(at) | TryState::Resolving(at) => Some(millis(at.since(now))),
        TryState::Running(_) => None,
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
