// SPDX-License-Identifier: Apache-2.0
//! The families that follow from the state: read off a [`Snapshot`] when somebody scrapes, and kept nowhere.
//!
//! So a series is there exactly as long as what it is about: an ENI or a subnet that is gone has none. States and codes are
//! closed sets, of which every one has its series, at 0 if need be: an alert can tell "none" from "not known".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::tracked::FILLING;
use crate::event::{Exceeded, FailureClass};
use crate::ids::MacAddr;
use crate::lifecycle::LATE_AFTER;
use crate::reason::ReasonCode;
use crate::snapshot::{EniSnapshot, Snapshot};

use super::families as family;
use super::page::Page;

/// States of an address.
const OF_ADDRESS: [&str; 6] = ["used", "free", "cooling", "held", "leaving", "coming"];
/// States of an ENI, as the snapshot spells them, that should pass.
const PASSING: [&str; 6] = ["Requested", "Attaching", "Configuring", "Draining", "Detaching", "Deleting"];
const READY: &str = "Ready";

/// Puts all of it on the page. `also`: reasons that hold and are not the core's to know.
pub fn write(snapshot: &Snapshot, also: &[ReasonCode], page: &mut Page) {
    pool(snapshot, page);
    enis(snapshot, page);
    subnets(snapshot, page);
    waiting(snapshot, page);
    kernel(snapshot, page);
    let active = active(snapshot);
    let holds = |code: &ReasonCode| active.contains(code) || also.contains(code);
    for code in ReasonCode::ALL {
        page.count(&family::REASON_ACTIVE, &[code.name()], u64::from(holds(code)));
    }
    page.count(&family::ADD_POSSIBLE, &[], u64::from(snapshot.supply.code.is_none()));
    page.count(&family::SERVING, &[], u64::from(snapshot.serving));
    page.count(&family::API_SERVER, &[], u64::from(snapshot.kubernetes.state == "connected"));
    page.count(&family::EVENTS_DROPPED, &[], snapshot.kubernetes.dropped);
    reference(snapshot, page);
}

/// The reasons that hold now.
#[must_use]
pub fn active(snapshot: &Snapshot) -> BTreeSet<ReasonCode> {
    let is_filling = snapshot
        .connections
        .is_some_and(|found| found.max > 0 && found.count.saturating_mul(100) >= found.max.saturating_mul(FILLING));
    let is_late =
        |eni: &EniSnapshot| eni.state == "Configuring" && Duration::from_millis(eni.state_for_ms) >= LATE_AFTER;
    [
        snapshot.supply.code,
        binding(snapshot),
        (!snapshot.exhausted_subnets.is_empty()).then_some(ReasonCode::SubnetExhausted),
        snapshot.enis.iter().any(is_late).then_some(ReasonCode::EniStuck),
        snapshot.sweep.is_denied.then_some(ReasonCode::SweepDenied),
        snapshot.repair.contested.then_some(ReasonCode::HostContested),
        is_filling.then_some(ReasonCode::ConntrackFilling),
        (snapshot.kubernetes.cordoned == Some(true)).then_some(ReasonCode::NodeCordoned),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What binds the pool. That there is no room for more, or no time, holds only where somebody waits or the next one gets nothing: a node
/// whose warm target does not fit any more serves as it should.
#[must_use]
pub fn binding(snapshot: &Snapshot) -> Option<ReasonCode> {
    let is_missed = !snapshot.waiters.is_empty() || snapshot.supply.code.is_some();
    let is_of_waiters = |code: &ReasonCode| matches!(code, ReasonCode::NodeFull | ReasonCode::BudgetSpent);
    snapshot.why.bound_by.filter(|code| is_missed || !is_of_waiters(code))
}

fn pool(snapshot: &Snapshot, page: &mut Page) {
    let pool = &snapshot.pool;
    let counts = [pool.allocated, pool.free, pool.cooling, pool.held, pool.leaving, pool.coming];
    for (state, count) in OF_ADDRESS.into_iter().zip(counts) {
        page.count(&family::POOL_ADDRESSES, &[state], count.into());
    }
    page.count(&family::POOL_TARGET, &[], pool.wanted.into());
    page.count(&family::POOL_SHORTFALL, &[], pool.shortfall.into());
    page.count(&family::POOL_SURPLUS, &[], pool.surplus.into());
    if let Some(max) = pool.max_enis {
        page.count(&family::ENIS_MAX, &[], max.into());
    }
    if let Some(capacity) = &snapshot.capacity {
        page.count(&family::CAPACITY, &["limit"], capacity.limit.into());
        page.count(&family::CAPACITY, &["now"], capacity.now.into());
    }
}

fn enis(snapshot: &Snapshot, page: &mut Page) {
    for state in PASSING {
        let of_state = snapshot.enis.iter().filter(|eni| eni.state == state);
        let oldest = of_state.clone().map(|eni| eni.state_for_ms).max().unwrap_or(0);
        let state = state.to_lowercase();
        page.count(&family::ENIS, &[&state], count(of_state.count()));
        page.set(&family::ENI_OLDEST, &[&state], seconds(oldest));
    }
    let ready = snapshot.enis.iter().filter(|eni| eni.state == READY);
    page.count(&family::ENIS, &["ready"], count(ready.count()));
    page.count(&family::ENIS, &["other"], count(snapshot.other_enis.len()));
    let mut addresses: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for eni in &snapshot.enis {
        let Some(id) = &eni.eni_id else { continue };
        for state in OF_ADDRESS {
            addresses.insert((state, id.as_str()), 0);
        }
        addresses.insert(("coming", id.as_str()), eni.assigning.into());
    }
    let ready = snapshot.enis.iter().filter(|eni| eni.state == READY);
    let ready: BTreeSet<&str> = ready.filter_map(|eni| Some(eni.eni_id.as_ref()?.as_str())).collect();
    for address in &snapshot.addresses {
        let Some(id) = &address.eni_id else { continue };
        let state = state_of(&address.state, ready.contains(id.as_str()));
        if let Some(count) = addresses.get_mut(&(state, id.as_str())) {
            *count += 1;
        }
    }
    for ((state, id), count) in addresses {
        page.count(&family::ADDRESSES, &[state, id], count);
    }
}

/// The state of an address as it is counted.
fn state_of(state: &str, is_ready: bool) -> &'static str {
    match state {
        "allocated" => "used",
        "free" if is_ready => "free",
        "free" => "coming",
        "held" => "held",
        "leaving" => "leaving",
        _ => "cooling",
    }
}

fn subnets(snapshot: &Snapshot, page: &mut Page) {
    for subnet in &snapshot.subnets {
        let id = [subnet.subnet_id.as_str()];
        page.count(&family::SUBNET_FREE, &id, subnet.free.into());
        page.set(&family::SUBNET_AGE, &id, seconds(subnet.read_ms_ago));
        page.count(&family::SUBNET_EXHAUSTED, &id, u64::from(subnet.is_exhausted));
    }
    // Exhausted before it was ever counted.
    for subnet in &snapshot.exhausted_subnets {
        page.count(&family::SUBNET_EXHAUSTED, &[subnet.subnet_id.as_str()], 1);
    }
}

fn waiting(snapshot: &Snapshot, page: &mut Page) {
    page.count(&family::ADD_WAITING, &[], count(snapshot.waiters.len()));
    let oldest = snapshot.waiters.iter().map(|waiter| waiter.waiting_ms).max();
    page.set(&family::ADD_OLDEST_WAIT, &[], seconds(oldest.unwrap_or(0)));
}

fn kernel(snapshot: &Snapshot, page: &mut Page) {
    let repair = &snapshot.repair;
    for repaired in &repair.repaired {
        page.count(&family::REPAIRS, &[&repaired.what.object, &repaired.what.reason], repaired.count);
    }
    page.count(&family::ORPHANS, &[], repair.swept);
    page.count(&family::CONTESTED, &[], u64::from(repair.contested));
    page.count(&family::LOOKS, &[], repair.looks);
    page.count(&family::DRIFT, &[], snapshot.drift.found);
    page.count(&family::DRIFT_ADDRESSES, &[], count(snapshot.drift.addresses.len()));
    page.count(&family::DRIFT_ENIS, &[], count(snapshot.drift.eni_ids.len()));
    let Some(found) = snapshot.connections else { return };
    page.count(&family::CONNTRACK, &[], found.count);
    if found.max > 0 {
        page.count(&family::CONNTRACK_MAX, &[], found.max);
    }
    if let Some(lost) = found.lost {
        page.count(&family::CONNTRACK_LOST, &["insert_failed"], lost.insert_failed);
        page.count(&family::CONNTRACK_LOST, &["dropped"], lost.dropped);
        page.count(&family::CONNTRACK_LOST, &["early_dropped"], lost.early_dropped);
    }
}

/// What EC2 held back, by MAC as the driver told, of ENIs of ours.
pub fn allowances(snapshot: &Snapshot, exceeded: &BTreeMap<MacAddr, Exceeded>, page: &mut Page) {
    for eni in &snapshot.enis {
        let (Some(id), Some(found)) = (&eni.eni_id, eni.mac.and_then(|mac| exceeded.get(&mac))) else { continue };
        for (allowance, packets) in found {
            page.count(&family::ALLOWANCE, &[id.as_str(), allowance], *packets);
        }
    }
}

/// The reference's gauges, by its names.
fn reference(snapshot: &Snapshot, page: &mut Page) {
    let pool = &snapshot.pool;
    page.count(&family::R_ENI_ALLOCATED, &[], pool.enis.into());
    page.count(&family::R_TOTAL, &[], pool.total.into());
    page.count(&family::R_ASSIGNED, &[], pool.allocated.into());
    let prefixes: u64 =
        snapshot.enis.iter().filter(|eni| eni.eni_id.is_some()).map(|eni| u64::from(eni.prefixes)).sum();
    page.count(&family::R_PREFIXES, &[], prefixes);
    if let Some(max) = pool.max_enis {
        page.count(&family::R_ENI_MAX, &[], max.into());
        if let Some(each) = pool.addresses_per_eni {
            page.count(&family::R_IP_MAX, &[], u64::from(max) * u64::from(each));
        }
    }
    for eni in &snapshot.enis {
        if let Some(id) = &eni.eni_id {
            page.count(&family::R_PER_ENI, &[id.as_str()], eni.allocated.into());
        }
    }
}

/// How a failed call to EC2 counts.
#[must_use]
pub fn outcome(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Throttled => "throttled",
        FailureClass::Denied => "denied",
        FailureClass::SubnetExhausted
        | FailureClass::PrefixesExhausted
        | FailureClass::AddressLimit
        | FailureClass::AttachmentLimit => "exhausted",
        FailureClass::NotFound | FailureClass::WrongState | FailureClass::DeviceIndexTaken => "gone",
        FailureClass::Transient => "unavailable",
        FailureClass::Unknown => "unknown",
        FailureClass::TokenMismatch | FailureClass::Rejected | FailureClass::LinkMissing | FailureClass::Kernel => {
            "rejected"
        }
    }
}

/// How a call ended that succeeded.
pub const OK: &str = "ok";

/// All that [`outcome`] says, and the one of a call that succeeded.
pub const OUTCOMES: [&str; 8] = [OK, "throttled", "denied", "exhausted", "gone", "unavailable", "unknown", "rejected"];

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests;
