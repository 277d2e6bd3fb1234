// SPDX-License-Identifier: Apache-2.0
//! The steps of a start, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::action::{Fill, prefix_addresses};
use crate::checkpoint::{
    AddressRecord, CreateRecord, EniRecord, EniStage, JournalError, OwnJournal, PrefixRecord, ReferenceAllocation,
    ReferenceJournal, UnassignedRecord,
};
use crate::config::{Config, SubnetChoice};
use crate::core::state::{
    Asked, Drift, Growing, Host, KernelWitness, LAG, MADE_WITHIN, RESOLVE_AFTER, Shrinking, UnassignJob, UnassignStep,
    Zone,
};
use crate::core::{Core, Turn, kernel::testifies};
use crate::event::KernelView;
use crate::ids::{AllocationKey, BootTime, EniId, PodRef};
use crate::lifecycle::{Assign, DetachStep, Eni, Phase, Request, Try};
use crate::planner::adaptive::{Adaptive, Fading, Memory};
use crate::reads::Read;
use crate::reason::{NoticeLevel, ReasonCode};
use crate::restore::Restored;
use crate::store::{Address, AddressState, Allocation, Rest, Slot, Store, Testimony};
use crate::waiters::Waiters;

/// Which journal of our own there is.
enum Own {
    /// Of this boot.
    Present(Box<OwnJournal>),
    /// Of another boot: nothing in it, nor in `ipam.json` beside it, is alive.
    OtherBoot,
    /// There is none, or it cannot be read.
    Lost,
    /// There never was one: the node has been the reference's until now.
    TakenOver,
}

pub(crate) fn build(config: Config, restored: Restored, turn: &mut Turn) -> Core {
    let Restored { reference, own, kernel, boot_id } = restored;
    let mut core = blank(config, boot_id, turn);
    let reference_found = reference.is_some();
    // An alias would be ours: then a journal there was.
    let never_ours = own.is_none() && reference_found && kernel.held.iter().all(|held| held.key.is_none());
    let own = if never_ours { Own::TakenOver } else { which_own(own, &core.boot_id, turn) };
    let reference = readable(reference, turn);
    let mut claimed = BTreeSet::new();
    if let Own::Present(journal) = &own {
        claimed = restore_own(&mut core, journal, turn);
    }
    restore_allocations(&mut core, reference, &own, &kernel, turn);
    reopen_tombstones(&mut core, &claimed);
    adopt(&mut core, &kernel, &claimed, turn);
    rest_claimed(&mut core, &claimed, turn);
    core.journal_report = report(turn);
    let now = turn.boot();
    if !core.enis.is_empty() || core.store.iter().next().is_some() {
        core.settled_at = now + LAG;
    }
    core.quarantine = match &own {
        // A start that found no journal may have ended before it had read EC2.
        Own::Present(journal) => journal.quarantine_until_nanos.map(since_boot),
        // What the reference has let go of last, it has written down nowhere.
        Own::TakenOver => Some(now + core.config.cooldown),
        Own::Lost if reference_found || !kernel.held.is_empty() => Some(now + core.config.cooldown),
        Own::OtherBoot if !kernel.held.is_empty() => Some(now + core.config.cooldown),
        Own::Lost | Own::OtherBoot => None,
    };
    core.observe.last = Some(now);
    core.kernel_observed(turn, kernel, now);
    if let Some(facts) = core.facts.take() {
        core.facts_learned(turn, facts);
    }
    let allocations = core.store.allocations().count();
    turn.info(format!("started with {allocations} allocations and {} ENIs of the journal", core.enis.len()));
    core
}

/// What was loud so far, cut short: a lost journal of a full node has hundreds of lines.
fn report(turn: &Turn) -> Vec<String> {
    const MOST_LINES: usize = 10;
    let loud = turn.fx.notices.iter().filter(|notice| notice.level >= NoticeLevel::Warn);
    let mut lines: Vec<String> = loud.map(|notice| notice.text.clone()).collect();
    if lines.len() > MOST_LINES {
        let more = lines.split_off(MOST_LINES).len();
        lines.push(format!("and {more} more, in the log"));
    }
    lines
}

fn blank(config: Config, boot_id: String, turn: &Turn) -> Core {
    let start_seconds = turn.now.unix_nanos.div_euclid(1_000_000_000);
    Core {
        config,
        fault: None,
        boot_id,
        token_stem: format!("{start_seconds:x}"),
        facts: None,
        facts_failure: None,
        limits: None,
        store: Store::default(),
        adaptive: Adaptive::default(),
        enis: BTreeMap::new(),
        others: BTreeMap::new(),
        requests: BTreeMap::new(),
        waiters: Waiters::default(),
        waited: false,
        subnets: BTreeMap::new(),
        zone: Zone::default(),
        pod_networking: Default::default(),
        guess: None,
        sweep: Default::default(),
        flushes: Default::default(),
        describe_after: None,
        announced: Default::default(),
        schedulable: true,
        describe: Read::default(),
        described: BTreeMap::new(),
        learned: false,
        observe: Read::default(),
        kernel: KernelWitness::default(),
        sandboxes: Default::default(),
        repairs: crate::core::repair::Repairs::default(),
        host: Host { applied: None, writing: None, attempt: Try::due(turn.boot()) },
        connections: crate::core::tracked::Connections::default(),
        allowances: crate::core::allowances::Allowances::default(),
        lived: crate::metrics::lived::Lived::default(),
        shrinking: Shrinking::default(),
        growing: Growing::default(),
        settled_at: BootTime::default(),
        unassigned: BTreeMap::new(),
        departed: BTreeMap::new(),
        tombstones_done: VecDeque::new(),
        forgets: Vec::new(),
        quarantine: None,
        drift: Drift::default(),
        journal_report: Vec::new(),
        learned_enis: None,
        creates_held: None,
        unattachable: false,
        in_flight: BTreeMap::new(),
        failures: BTreeMap::new(),
        next_action: 0,
        next_serial: 0,
        changed: false,
        journal: Default::default(),
        undurable: None,
        wake: None,
        serving: false,
    }
}

fn which_own(own: Option<Result<OwnJournal, JournalError>>, boot_id: &str, turn: &mut Turn) -> Own {
    match own {
        None => Own::Lost,
        Some(Err(error)) => {
            turn.error(
                ReasonCode::JournalUnreadable,
                format!("enid.json cannot be used ({error}); addresses that are not allocated rest for one cooldown"),
            );
            Own::Lost
        }
        Some(Ok(journal)) if journal.boot_id == boot_id => Own::Present(Box::new(journal)),
        Some(Ok(journal)) => {
            turn.warn(
                ReasonCode::JournalOfOtherBoot,
                format!("the journal is of boot {}, this is {boot_id}: dropped", journal.boot_id),
            );
            Own::OtherBoot
        }
    }
}

fn readable(reference: Option<Result<ReferenceJournal, JournalError>>, turn: &mut Turn) -> Vec<ReferenceAllocation> {
    match reference {
        None => Vec::new(),
        Some(Ok(journal)) => journal.allocations,
        Some(Err(error)) => {
            turn.error(
                ReasonCode::JournalUnreadable,
                format!("ipam.json cannot be used ({error}); allocations are rebuilt from the kernel's links"),
            );
            Vec::new()
        }
    }
}

/// Facts, ENIs, what rests, what was asked for. Returns the addresses that the file calls allocated.
fn restore_own(core: &mut Core, journal: &OwnJournal, turn: &Turn) -> BTreeSet<Ipv4Addr> {
    let mut claimed = BTreeSet::new();
    core.facts = journal.facts.clone();
    core.next_serial = journal.next_serial;
    if let Some(record) = &journal.adaptive {
        core.adaptive = Adaptive::from(Memory {
            spurt: Fading { milli: record.peak_milli, at: since_boot(record.peak_at_nanos) },
            burst: Fading { milli: record.burst_milli, at: since_boot(record.burst_at_nanos) },
            call: Duration::from_nanos(record.call_nanos),
            lead: Duration::from_nanos(record.lead_nanos),
            first_add: record.first_add_nanos.map(since_boot),
        });
    }
    core.zone.known = journal.facts.is_some();
    if let Some(limits) = &journal.limits {
        core.restore_limits(limits);
    }
    core.learned_enis = journal.learned_enis.map(|limit| (limit.enis, since_boot(limit.until_nanos)));
    for place in &journal.places {
        let subnet = core.subnets.entry(place.subnet_id.clone()).or_default();
        (subnet.cidr, subnet.standing) = (Some(place.cidr), Some(place.standing));
        subnet.tags.clone_from(&place.tags);
    }
    if let Some(record) = journal.pod_network.as_ref().filter(|_| core.config.subnets == SubnetChoice::EniConfig) {
        core.pod_networking.said = Some(record.said.clone());
        core.pod_networking.since = since_boot(record.since_nanos);
    }
    core.tombstones_done = journal.tombstones_done.iter().cloned().collect();
    let block = |record: &UnassignedRecord| match record.prefix {
        Some(prefix) => prefix,
        None => Ipv4Net::from(record.address),
    };
    core.unassigned = journal.unassigned.iter().map(|record| (block(record), since_boot(record.at_nanos))).collect();
    core.departed =
        journal.departed.iter().map(|record| (record.eni_id.clone(), since_boot(record.at_nanos))).collect();
    for record in &journal.enis {
        if let Some(cidr) = record.subnet_cidr {
            core.subnets.entry(record.subnet_id.clone()).or_default().cidr = Some(cidr);
        }
        let primary = core.facts.as_ref().is_some_and(|facts| facts.primary_eni_id == record.eni_id);
        core.enis.insert(record.eni_id.clone(), restore_eni(record, primary, turn.boot()));
        for address in &record.addresses {
            restore_address(core, address, (Some(&record.eni_id), Slot::Single), turn.boot());
        }
        for prefix in &record.prefixes {
            restore_prefix(core, prefix, &record.eni_id, turn.boot());
        }
    }
    for address in &journal.homeless {
        restore_address(core, address, (None, Slot::Single), turn.boot());
    }
    let inside = journal.enis.iter().flat_map(|eni| &eni.prefixes).flat_map(|prefix| &prefix.addresses);
    let records = journal.enis.iter().flat_map(|eni| &eni.addresses).chain(inside).chain(&journal.homeless);
    claimed.extend(records.filter(|record| record.allocated).map(|record| record.address));
    core.shrinking.job = journal.enis.iter().find_map(|record| leaving_job(record, turn.boot()));
    for record in &journal.creates {
        core.requests.insert(record.token.clone(), restore_create(record, turn.boot()));
    }
    claimed
}

fn restore_eni(record: &EniRecord, primary: bool, now: BootTime) -> Eni {
    let phase = match record.stage {
        EniStage::Attaching => Phase::Attaching(Try::resolving(now)),
        EniStage::Attached => Phase::Configuring(Try::due(now)),
        EniStage::Detaching => Phase::Detaching(DetachStep::Detach(Try::resolving(now))),
        // As in `delete_unattached`: "not found" would be taken for done.
        EniStage::Deleting if record.never_attached => Phase::Deleting(Try::due(now + LAG)),
        EniStage::Deleting => Phase::Deleting(Try::due(now)),
    };
    Eni {
        eni_id: record.eni_id.clone(),
        mac: record.mac,
        subnet_id: record.subnet_id.clone(),
        primary_address: record.primary_address,
        device_index: record.device_index,
        network_card: record.network_card,
        attachment_id: record.attachment_id.clone(),
        primary,
        created: record.created,
        phase,
        since: now,
        known_since: now,
        last_write: BootTime::default(),
        unassigning: None,
        assign: Assign::Idle,
        assign_attempts: 0,
        assign_asked_at: None,
        assign_failure: None,
        termination: match record.stage {
            EniStage::Attached => Core::termination_of(record.created, record.delete_on_termination, now),
            EniStage::Attaching | EniStage::Detaching | EniStage::Deleting => crate::lifecycle::Termination::LeftAlone,
        },
        learned_cap: None,
        keep_until: BootTime::default(),
        missing_since: None,
        link_seen: false,
        asked_at: None,
        was_attached: record.stage != EniStage::Attaching && !record.never_attached,
        stuck_reported: false,
        eni_config: None,
        excluded: false,
        upkeep: crate::lifecycle::Upkeep::default(),
        steering: crate::lifecycle::Steering::new(now),
    }
}

fn since_boot(nanos: u64) -> BootTime {
    BootTime(Duration::from_nanos(nanos))
}

fn restore_prefix(core: &mut Core, record: &PrefixRecord, eni: &EniId, now: BootTime) {
    if !record.partial {
        for address in prefix_addresses(record.prefix) {
            core.store.learn(address, (eni, Slot::Prefix), None, now);
        }
    }
    for address in &record.addresses {
        restore_address(core, address, (Some(eni), Slot::Prefix), now);
    }
}

fn restore_address(core: &mut Core, record: &AddressRecord, home: (Option<&EniId>, Slot), now: BootTime) {
    let (eni, slot) = home;
    let rest = record
        .released_nanos
        .zip(record.cooling_until_nanos)
        .map(|(released, until)| Rest { released: since_boot(released), until: since_boot(until) });
    let state = match rest {
        _ if record.leaving => AddressState::Leaving { rest },
        Some(_) if record.flushed => AddressState::Free { rest },
        _ => AddressState::resting(rest, now),
    };
    core.store.restore(record.address, Address { eni: eni.cloned(), slot, state });
}

/// An unassign call that may have been made: EC2 tells what is left, asked once the call can hardly be under way any more.
fn leaving_job(record: &EniRecord, now: BootTime) -> Option<UnassignJob> {
    let leaving = record.addresses.iter().filter(|address| address.leaving);
    let mut blocks: Vec<Ipv4Net> = leaving.map(|address| Ipv4Net::from(address.address)).collect();
    let leaving = |prefix: &&PrefixRecord| prefix.addresses.iter().any(|address| address.leaving);
    blocks.extend(record.prefixes.iter().filter(leaving).map(|prefix| prefix.prefix));
    let step = UnassignStep::Resolving(now + RESOLVE_AFTER);
    let asked = Asked::Unclear(now + LAG);
    (!blocks.is_empty()).then(|| UnassignJob { eni_id: record.eni_id.clone(), blocks, step, ec2_since: now, asked })
}

fn restore_create(record: &CreateRecord, now: BootTime) -> Request {
    Request {
        token: record.token.clone(),
        subnet_id: record.subnet_id.clone(),
        security_group_ids: record.security_group_ids.clone(),
        eni_config: record.eni_config.clone(),
        fill: match record.prefixes {
            0 => Fill::Addresses(record.secondary_addresses),
            prefixes => Fill::Prefixes(prefixes),
        },
        device_index: record.device_index,
        created_at: record.created_at.clone(),
        attempt: Try::resolving(now),
        maybe_created: true,
        since: now,
    }
}

/// Allocations of `ipam.json`.
fn restore_allocations(
    core: &mut Core,
    entries: Vec<ReferenceAllocation>,
    own: &Own,
    kernel: &KernelView,
    turn: &mut Turn,
) {
    let mut dropped = 0;
    for entry in entries {
        let Some(address) = entry.ipv4 else {
            turn.warn(
                ReasonCode::Ipv6AllocationDropped,
                format!("the IPv6 allocation of {} in ipam.json cannot be served: dropped", entry.key()),
            );
            continue;
        };
        let allocation = Allocation {
            testimony: first_testimony(&entry, own),
            ..allocation(entry.key(), entry.pod(), entry.allocation_timestamp, turn.boot())
        };
        let age = Duration::from_nanos(
            turn.now.unix_nanos.saturating_sub(entry.allocation_timestamp).try_into().unwrap_or(0),
        );
        if must_testify(own, &allocation, age) && !testifies(kernel, address, &allocation, &core.config.veth_prefix) {
            dropped += 1;
            // The cluster may still send to it what was meant for the pod that has ended.
            let rest = Rest { released: turn.boot(), until: turn.boot() + core.config.cooldown };
            let state = AddressState::resting(Some(rest), turn.boot());
            if core.store.get(address).is_none() {
                core.store.restore(address, Address { eni: None, slot: Slot::Single, state });
            }
            continue;
        }
        let taken = core.store.allocation(address).map(|other| other.key.to_string());
        if let Some(other) = taken.or_else(|| core.store.address_of(&allocation.key).map(|other| other.to_string())) {
            turn.error(
                ReasonCode::AllocationConflict,
                format!("ipam.json binds {address} to {} beside {other}: the second is dropped", allocation.key),
            );
            continue;
        }
        bind(core, address, allocation);
    }
    if dropped > 0 {
        let whose = match own {
            Own::TakenOver => "of amazon-vpc-cni-k8s, whose pods have no host veth any more,",
            Own::Present(_) | Own::OtherBoot | Own::Lost => "of another boot",
        };
        turn.warn(
            ReasonCode::AllocationDropped,
            format!("{dropped} allocations {whose} were dropped; their addresses rest for one cooldown"),
        );
    }
}

/// Whether an entry without a link in the kernel is of a pod that has ended. Of the reference's only those with a pod's name can be
/// told, as it does itself. It answers an ADD before there is a link, and its plugin goes on when its daemon has ended: a young entry's
/// link may come yet. One that never does is an orphan a minute later.
fn must_testify(own: &Own, allocation: &Allocation, age: Duration) -> bool {
    match own {
        Own::OtherBoot => true,
        Own::TakenOver => allocation.testimony != Testimony::Impossible && age >= MADE_WITHIN,
        Own::Present(_) | Own::Lost => false,
    }
}

/// Tombstones that `enid.json` calls done while `ipam.json` still has their allocation: the daemon ended between the two
/// writes, so they are worked off again. One whose key is in use anew is done; `enid.json` has the new allocation.
fn reopen_tombstones(core: &mut Core, claimed: &BTreeSet<Ipv4Addr>) {
    let Core { store, tombstones_done, .. } = core;
    tombstones_done.retain(|key| store.address_of(key).is_none_or(|address| claimed.contains(&address)));
}

fn first_testimony(entry: &ReferenceAllocation, own: &Own) -> Testimony {
    let impossible = match own {
        Own::Present(journal) => journal.unwitnessed.contains(&entry.key()),
        Own::OtherBoot | Own::Lost | Own::TakenOver => entry.metadata.name.is_empty(),
    };
    if impossible { Testimony::Impossible } else { Testimony::Present }
}

fn allocation(key: AllocationKey, pod: PodRef, allocated_unix_nanos: i64, now: BootTime) -> Allocation {
    Allocation {
        key,
        pod,
        allocated_unix_nanos,
        granted_at: now,
        request: None,
        before: None,
        testimony: Testimony::Present,
    }
}

fn bind(core: &mut Core, address: Ipv4Addr, mut allocation: Allocation) {
    let known = core.store.get(address);
    let (eni, slot) = known.map_or((None, Slot::Single), |entry| (entry.eni.clone(), entry.slot));
    allocation.before = known.and_then(|entry| entry.state.rest());
    core.store.restore(address, Address { eni, slot, state: AddressState::Allocated(allocation) });
}

/// Addresses that the kernel has and `ipam.json` does not.
fn adopt(core: &mut Core, kernel: &KernelView, claimed: &BTreeSet<Ipv4Addr>, turn: &mut Turn) {
    for held in &kernel.held {
        let slot = core.store.get(held.address).map_or(Slot::Single, |entry| entry.slot);
        let (eni, rest, adoptable) = match core.store.get(held.address) {
            None => (None, None, true),
            Some(entry) => match &entry.state {
                AddressState::Free { rest } | AddressState::Leaving { rest } => (entry.eni.clone(), *rest, true),
                AddressState::Flushing { rest, .. } => (entry.eni.clone(), Some(*rest), true),
                AddressState::Cooling { rest } => (entry.eni.clone(), Some(*rest), claimed.contains(&held.address)),
                AddressState::Allocated(_) | AddressState::Held { .. } => continue,
            },
        };
        if !adoptable {
            continue;
        }
        let key = held.key.as_ref().filter(|key| core.store.address_of(key).is_none());
        let state = match key {
            Some(key) => {
                turn.warn(
                    ReasonCode::AddressAdopted,
                    format!("{} has {} of {key}, the journal does not: adopted", held.link, held.address),
                );
                let adopted = allocation(key.clone(), PodRef::default(), turn.now.unix_nanos, turn.boot());
                AddressState::Allocated(Allocation { before: rest, ..adopted })
            }
            None => {
                turn.warn(
                    ReasonCode::AddressHeld,
                    format!("{} has {}, the journal does not: not given out", held.link, held.address),
                );
                AddressState::Held { rest, link: held.link.clone() }
            }
        };
        core.store.restore(held.address, Address { eni, slot, state });
    }
}

/// Addresses that only our own file calls allocated rest for one period.
fn rest_claimed(core: &mut Core, claimed: &BTreeSet<Ipv4Addr>, turn: &mut Turn) {
    let now = turn.boot();
    let rest = Rest { released: now, until: now + core.config.cooldown };
    for address in claimed {
        let Some(entry) = core.store.get(*address) else { continue };
        let free = match entry.state {
            AddressState::Free { .. } | AddressState::Cooling { .. } | AddressState::Flushing { .. } => true,
            AddressState::Allocated(_) | AddressState::Held { .. } | AddressState::Leaving { .. } => false,
        };
        if free {
            let (eni, slot) = (entry.eni.clone(), entry.slot);
            core.store.restore(*address, Address { eni, slot, state: AddressState::resting(Some(rest), now) });
            turn.warn(
                ReasonCode::AllocationUnconfirmed,
                format!("{address} was allocated by enid.json only: it rests for one cooldown"),
            );
        }
    }
}
