// SPDX-License-Identifier: Apache-2.0
//! The state as journal records. What is not recorded here is learned anew after a restart.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::action::{Fill, PREFIX_ADDRESSES, prefix_addresses};
use crate::checkpoint::{
    AdaptiveRecord, AddressRecord, Checkpoint, CreateRecord, DepartedRecord, EniLimitRecord, EniRecord, EniStage,
    OWN_VERSION, OwnJournal, PlaceRecord, PodNetworkRecord, PrefixRecord, REFERENCE_VERSION, ReferenceAllocation,
    ReferenceJournal, ReferenceMetadata, UnassignedRecord, encode,
};
use crate::ids::{AllocationKey, BootTime, EniId};
use crate::lifecycle::{DetachStep, Eni, Phase, Termination};
use crate::planner::adaptive::Memory;
use crate::store::{Address, AddressState, Allocation, Book, Slot, Store, Testimony};

use super::Core;

impl Core {
    pub(super) fn record(&self) -> Checkpoint {
        Checkpoint { reference_json: encode(&self.record_reference()), own_json: encode(&self.record_own()) }
    }

    fn record_reference(&self) -> ReferenceJournal {
        let allocations =
            self.store.allocations().map(|(address, _, allocation)| record_allocation(address, allocation)).collect();
        ReferenceJournal { version: REFERENCE_VERSION.to_owned(), allocations }
    }

    fn record_own(&self) -> OwnJournal {
        let unwitnessed = self
            .store
            .allocations()
            .filter(|(_, _, allocation)| allocation.testimony == Testimony::Impossible)
            .map(|(_, _, allocation)| allocation.key.clone())
            .collect();
        OwnJournal {
            enis: self.enis.values().map(|eni| self.record_eni(eni)).collect(),
            ..self.record_rest(unwitnessed)
        }
    }

    /// Without ENIs.
    pub(super) fn record_rest(&self, unwitnessed: Vec<AllocationKey>) -> OwnJournal {
        OwnJournal {
            version: OWN_VERSION.to_owned(),
            boot_id: self.boot_id.clone(),
            facts: self.facts.clone(),
            homeless: self
                .store
                .homeless()
                .map(|(address, entry)| record_address(address, entry))
                .filter(|record| record.allocated || record.released_nanos.is_some())
                .collect(),
            creates: self.requests.values().map(record_create).collect(),
            unwitnessed,
            tombstones_done: self.tombstones_done.iter().cloned().collect(),
            next_serial: self.next_serial,
            adaptive: self.record_adaptive(),
            unassigned: self
                .unassigned
                .iter()
                .map(|(block, at)| UnassignedRecord {
                    address: block.addr(),
                    prefix: (block.prefix_len() < block.max_prefix_len()).then_some(*block),
                    at_nanos: nanos(*at),
                })
                .collect(),
            departed: self
                .departed
                .iter()
                .map(|(eni_id, at)| DepartedRecord { eni_id: eni_id.clone(), at_nanos: nanos(*at) })
                .collect(),
            quarantine_until_nanos: self.quarantine.map(nanos),
            limits: self.record_limits(),
            learned_enis: self.learned_enis.map(|(enis, until)| EniLimitRecord { enis, until_nanos: nanos(until) }),
            places: self.record_places(),
            pod_network: self.record_pod_network(),
            enis: Vec::new(),
        }
    }

    fn record_pod_network(&self) -> Option<PodNetworkRecord> {
        let since_nanos = nanos(self.pod_networking.since);
        self.pod_networking.said.clone().map(|said| PodNetworkRecord { since_nanos, said })
    }

    fn record_places(&self) -> Vec<PlaceRecord> {
        let known =
            self.subnets.iter().filter_map(|(id, subnet)| Some((id, subnet.cidr?, subnet.standing?, &subnet.tags)));
        known
            .map(|(id, cidr, standing, tags)| PlaceRecord { subnet_id: id.clone(), cidr, standing, tags: tags.clone() })
            .collect()
    }

    fn record_eni(&self, eni: &Eni) -> EniRecord {
        let singles = self.store.of_eni(&eni.eni_id).filter(|(_, entry)| entry.slot == Slot::Single);
        let prefixes = self.store.book(&eni.eni_id).into_iter().flat_map(Book::prefixes);
        EniRecord {
            addresses: singles.map(|(address, entry)| record_address(address, entry)).collect(),
            prefixes: prefixes.map(|(prefix, _)| record_prefix(&self.store, &eni.eni_id, prefix)).collect(),
            ..self.record_eni_alone(eni)
        }
    }

    /// Without addresses.
    pub(super) fn record_eni_alone(&self, eni: &Eni) -> EniRecord {
        EniRecord {
            eni_id: eni.eni_id.clone(),
            mac: eni.mac,
            subnet_id: eni.subnet_id.clone(),
            subnet_cidr: self.subnets.get(&eni.subnet_id).and_then(|subnet| subnet.cidr),
            primary_address: eni.primary_address,
            device_index: eni.device_index,
            network_card: eni.network_card,
            attachment_id: eni.attachment_id.clone(),
            stage: match &eni.phase {
                Phase::Attaching(_) => EniStage::Attaching,
                Phase::Configuring(_)
                | Phase::Ready
                | Phase::Draining(_)
                | Phase::Detaching(DetachStep::Deconfigure(_)) => EniStage::Attached,
                Phase::Detaching(DetachStep::Detach(_)) => EniStage::Detaching,
                Phase::Deleting(_) => EniStage::Deleting,
            },
            created: eni.created,
            never_attached: matches!(eni.phase, Phase::Deleting(_)) && !eni.was_attached,
            delete_on_termination: eni.termination == Termination::Set,
            addresses: Vec::new(),
            prefixes: Vec::new(),
        }
    }

    fn record_adaptive(&self) -> Option<AdaptiveRecord> {
        let memory = self.adaptive.memory();
        (self.adapts() && memory != Memory::default()).then(|| AdaptiveRecord {
            peak_milli: memory.spurt.milli,
            peak_at_nanos: nanos(memory.spurt.at),
            burst_milli: memory.burst.milli,
            burst_at_nanos: nanos(memory.burst.at),
            call_nanos: nanos(BootTime(memory.call)),
            lead_nanos: nanos(BootTime(memory.lead)),
            first_add_nanos: memory.first_add.map(nanos),
        })
    }
}

pub(super) fn record_allocation(address: Ipv4Addr, allocation: &Allocation) -> ReferenceAllocation {
    ReferenceAllocation {
        network_name: allocation.key.network.clone(),
        container_id: allocation.key.container_id.clone(),
        if_name: allocation.key.ifname.clone(),
        ipv4: Some(address),
        ipv6: None,
        allocation_timestamp: allocation.allocated_unix_nanos,
        metadata: ReferenceMetadata {
            namespace: allocation.pod.namespace.clone(),
            name: allocation.pod.name.clone(),
            interfaces_count: 1,
        },
    }
}

/// A prefix of an ENI, with those of its addresses that are or were in use.
pub(super) fn record_prefix(store: &Store, id: &EniId, prefix: Ipv4Net) -> PrefixRecord {
    let inside = prefix_addresses(prefix).filter_map(|address| Some((address, store.get(address)?)));
    let inside: Vec<_> =
        inside.filter(|(_, entry)| entry.slot == Slot::Prefix && entry.eni.as_ref() == Some(id)).collect();
    let partial = inside.len() < PREFIX_ADDRESSES as usize;
    let told = inside.iter().filter(|(_, entry)| partial || entry.state != (AddressState::Free { rest: None }));
    PrefixRecord { prefix, partial, addresses: told.map(|(address, entry)| record_address(*address, entry)).collect() }
}

pub(super) fn record_address(address: Ipv4Addr, entry: &Address) -> AddressRecord {
    let rest = entry.state.rest();
    AddressRecord {
        address,
        allocated: matches!(entry.state, AddressState::Allocated(_)),
        leaving: matches!(entry.state, AddressState::Leaving { .. }),
        released_nanos: rest.map(|rest| nanos(rest.released)),
        cooling_until_nanos: rest.map(|rest| nanos(rest.until)),
        flushed: entry.state.is_flushed(),
    }
}

fn record_create(request: &crate::lifecycle::Request) -> CreateRecord {
    let (secondary_addresses, prefixes) = match request.fill {
        Fill::Addresses(count) => (count, 0),
        Fill::Prefixes(count) => (0, count),
    };
    CreateRecord {
        token: request.token.clone(),
        subnet_id: request.subnet_id.clone(),
        security_group_ids: request.security_group_ids.clone(),
        eni_config: request.eni_config.clone(),
        secondary_addresses,
        prefixes,
        device_index: request.device_index,
        created_at: request.created_at.clone(),
    }
}

/// Nanoseconds since boot; 584 years fit.
fn nanos(time: BootTime) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}
