// SPDX-License-Identifier: Apache-2.0
//! The state as journal records. What is not recorded here is learned anew after a restart.

use crate::checkpoint::{
    AddressRecord, Checkpoint, CreateRecord, DepartedRecord, EniRecord, EniStage, OWN_VERSION, OwnJournal, PlaceRecord,
    REFERENCE_VERSION, ReferenceAllocation, ReferenceJournal, ReferenceMetadata, UnassignedRecord, encode,
};
use crate::ids::BootTime;
use crate::lifecycle::{DetachStep, Eni, Phase, Termination};
use crate::store::{Address, AddressState, Testimony};

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
        let homeless = self.store.iter().filter(|(_, entry)| entry.eni.is_none());
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
            unassigned: self
                .unassigned
                .iter()
                .map(|(address, at)| UnassignedRecord { address: *address, at_nanos: nanos(*at) })
                .collect(),
            departed: self
                .departed
                .iter()
                .map(|(eni_id, at)| DepartedRecord { eni_id: eni_id.clone(), at_nanos: nanos(*at) })
                .collect(),
            quarantine_until_nanos: self.quarantine.map(nanos),
            places: self.record_places(),
        }
    }

    fn record_places(&self) -> Vec<PlaceRecord> {
        let known = self.subnets.iter().filter_map(|(id, subnet)| Some((id, subnet.cidr?, subnet.standing?)));
        known.map(|(id, cidr, standing)| PlaceRecord { subnet_id: id.clone(), cidr, standing }).collect()
    }

    fn record_eni(&self, eni: &Eni) -> EniRecord {
        EniRecord {
            eni_id: eni.eni_id.clone(),
            mac: eni.mac,
            subnet_id: eni.subnet_id.clone(),
            subnet_cidr: self.subnets.get(&eni.subnet_id).and_then(|subnet| subnet.cidr),
            primary_address: eni.primary_address,
            device_index: eni.device_index,
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
            delete_on_termination: eni.termination == Termination::Set,
            addresses: self.store.of_eni(&eni.eni_id).map(|(address, entry)| record_address(address, entry)).collect(),
        }
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
    }
}

fn record_create(request: &crate::lifecycle::Request) -> CreateRecord {
    CreateRecord {
        token: request.token.clone(),
        subnet_id: request.subnet_id.clone(),
        security_group_ids: request.security_group_ids.clone(),
        secondary_addresses: request.secondary,
        device_index: request.device_index,
        created_at: request.created_at.clone(),
    }
}

/// Nanoseconds since boot; 584 years fit.
fn nanos(time: BootTime) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}
