// SPDX-License-Identifier: Apache-2.0
//! The state as journal records. What is not recorded here is learned anew after a restart.

use crate::action::{Fill, PREFIX_ADDRESSES};
use crate::checkpoint::{
    AdaptiveRecord, AddressRecord, Checkpoint, CreateRecord, DepartedRecord, EniLimitRecord, EniRecord, EniStage,
    OWN_VERSION, OwnJournal, PlaceRecord, PodNetworkRecord, PrefixRecord, REFERENCE_VERSION, ReferenceAllocation,
    ReferenceJournal, ReferenceMetadata, UnassignedRecord, encode,
};
use crate::ids::{BootTime, EniId};
use crate::lifecycle::{DetachStep, Eni, Phase, Termination};
use crate::planner::adaptive::Memory;
use crate::store::{Address, AddressState, Slot, Testimony};

use super::Core;

impl Core {
    pub(super) fn record(&self) -> Checkpoint {
        Checkpoint { reference_json: encode(&self.record_reference()), own_json: encode(&self.record_own()) }
    }

    fn record_reference(&self) -> ReferenceJournal {
        let allocations = self
            .store
            .allocations()
            .map(|(address, _, allocation)| ReferenceAllocation {
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
            })
            .collect();
        ReferenceJournal { version: REFERENCE_VERSION.to_owned(), allocations }
    }

    fn record_own(&self) -> OwnJournal {
        let homeless = self.store.homeless();
        OwnJournal {
            version: OWN_VERSION.to_owned(),
            boot_id: self.boot_id.clone(),
            facts: self.facts.clone(),
            enis: self.enis.values().map(|eni| self.record_eni(eni)).collect(),
            homeless: homeless
                .map(|(address, entry)| record_address(address, entry))
                .filter(|record| record.allocated || record.released_nanos.is_some())
                .collect(),
            creates: self.requests.values().map(record_create).collect(),
            unwitnessed: self
                .store
                .allocations()
                .filter(|(_, _, allocation)| allocation.testimony == Testimony::Impossible)
                .map(|(_, _, allocation)| allocation.key.clone())
                .collect(),
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
            addresses: self
                .store
                .of_eni(&eni.eni_id)
                .filter(|(_, entry)| entry.slot == Slot::Single)
                .map(|(address, entry)| record_address(address, entry))
                .collect(),
            prefixes: self.record_prefixes(&eni.eni_id),
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

    fn record_prefixes(&self, id: &EniId) -> Vec<PrefixRecord> {
        let mut records: Vec<PrefixRecord> = Vec::new();
        let book = self.store.book(id);
        let inside = self.store.of_eni(id).filter(|(_, entry)| entry.slot == Slot::Prefix);
        for (prefix, tally) in book.into_iter().flat_map(crate::store::Book::prefixes) {
            records.push(PrefixRecord { prefix, partial: tally.total() < PREFIX_ADDRESSES, addresses: Vec::new() });
        }
        let mut at = 0;
        for (address, entry) in inside {
            // Both are sorted.
            while records.get(at).is_some_and(|record| !record.prefix.contains(&address)) {
                at += 1;
            }
            let Some(record) = records.get_mut(at) else { break };
            if record.partial || entry.state != (AddressState::Free { rest: None }) {
                record.addresses.push(record_address(address, entry));
            }
        }
        records
    }
}

fn record_address(address: std::net::Ipv4Addr, entry: &Address) -> AddressRecord {
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
