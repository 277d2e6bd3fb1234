// SPDX-License-Identifier: Apache-2.0
//! What only the one who runs the machine can do: order faults, end instances, change the VPC, look at everything.
//!
//! None of this is EC2's API; the control API of the emulator offers it over HTTP, and tests call it here.

use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::faults::{AttachFault, Fault, ImdsFault};
use crate::ids::{EniId, InstanceId, VpcId};
use crate::state::{Eni, InstanceState, Link};
use crate::vpc::Vpc;

/// An order that names nothing there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such instance.
    #[error("there is no instance {0}")]
    NoInstance(InstanceId),
    /// There is no such VPC.
    #[error("there is no VPC {0}")]
    NoVpc(VpcId),
}

impl Vpc {
    /// Orders a fault of the EC2 API.
    pub fn order_fault(&mut self, fault: Fault) {
        self.faults.calls.push(fault);
    }

    /// Orders a fault of attaching.
    pub fn order_attach_fault(&mut self, fault: AttachFault) {
        self.faults.attaches.push(fault);
    }

    /// Orders a fault of IMDS.
    pub fn order_imds_fault(&mut self, fault: ImdsFault) {
        self.faults.imds.push(fault);
    }

    /// Takes all faults back. An attach that a fault has met stays as it is.
    pub fn clear_faults(&mut self) {
        self.faults = crate::faults::Faults::default();
    }

    /// The faults on order.
    #[must_use]
    pub fn faults(&self) -> Value {
        json!({"calls": self.faults.calls, "attaches": self.faults.attaches, "imds": self.faults.imds})
    }

    /// Stops, starts or ends an instance. When it ends, ENIs with delete-on-termination go with it and the others become
    /// available (EC2 user guide, "Elastic network interfaces").
    ///
    /// # Errors
    /// There is no such instance.
    pub fn set_instance_state(
        &mut self,
        id: &InstanceId,
        state: InstanceState,
        now: Duration,
    ) -> Result<(), ControlError> {
        self.settle(now);
        let instance = self.instances.get_mut(id).ok_or_else(|| ControlError::NoInstance(id.clone()))?;
        instance.state = state;
        if state != InstanceState::Terminated {
            return Ok(());
        }
        let attached: Vec<(EniId, Link, bool)> = self
            .enis
            .of_instance(id)
            .filter_map(|eni| {
                let attachment = eni.attachment()?;
                let link = if eni.has_link() { Link::Up } else { Link::Coming { at: None } };
                Some((eni.id.clone(), link, attachment.delete_on_termination))
            })
            .collect();
        for (eni, link, goes) in attached {
            self.release(&eni, id, link, now);
            if goes {
                self.drop_eni(&eni, now);
            }
        }
        Ok(())
    }

    /// Adds an IPv4 block to a VPC; IMDS shows it at once.
    ///
    /// # Errors
    /// There is no such VPC.
    pub fn associate_cidr_block(&mut self, id: &VpcId, block: Ipv4Net) -> Result<(), ControlError> {
        let vpc = self.vpcs.get_mut(id).ok_or_else(|| ControlError::NoVpc(id.clone()))?;
        if !vpc.cidr_blocks.contains(&block.trunc()) {
            vpc.cidr_blocks.push(block.trunc());
        }
        Ok(())
    }

    /// Everything there is, for people and tests.
    #[must_use]
    pub fn state(&self) -> Value {
        let subnets: Vec<Value> = self
            .subnets
            .values()
            .map(|subnet| {
                json!({
                    "id": subnet.id, "vpc": subnet.vpc, "cidr_block": subnet.cidr_block(),
                    "availability_zone": subnet.availability_zone, "free_addresses": subnet.free_addresses(),
                    "tags": subnet.tags,
                    "cidr_reservations": subnet.reservations().iter().map(|r| {
                        json!({"id": r.id, "cidr": r.cidr, "reservation_type": r.kind})
                    }).collect::<Vec<_>>(),
                })
            })
            .collect();
        let instances: Vec<Value> = self
            .instances
            .values()
            .map(|instance| {
                json!({
                    "id": instance.id, "name": instance.name, "instance_type": instance.instance_type,
                    "subnet": instance.subnet, "state": instance.state.code_and_name().1, "tags": instance.tags,
                })
            })
            .collect();
        let vpcs: Vec<Value> =
            self.vpcs.values().map(|vpc| json!({"id": vpc.id, "cidr_blocks": vpc.cidr_blocks})).collect();
        let groups: Vec<Value> = self
            .security_groups
            .values()
            .map(|group| json!({"id": group.id, "name": group.name, "vpc": group.vpc}))
            .collect();
        json!({
            "now_ms": u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX),
            "region": self.region, "account_id": self.account_id,
            "vpcs": vpcs, "subnets": subnets, "security_groups": groups, "instances": instances,
            "enis": self.enis.iter().map(eni_value).collect::<Vec<_>>(),
        })
    }
}

fn eni_value(eni: &Eni) -> Value {
    let attachment = eni.attachment().map(|attachment| {
        json!({
            "id": attachment.id, "instance": attachment.instance, "device_index": attachment.device_index,
            "network_card": attachment.network_card, "status": attachment.phase.name(),
            "link": attachment.phase.has_link(), "delete_on_termination": attachment.delete_on_termination,
        })
    });
    json!({
        "id": eni.id, "vpc": eni.vpc, "subnet": eni.subnet, "description": eni.description, "mac": eni.mac,
        "status": eni.state.name(), "interface_type": eni.interface_type,
        "primary_address": eni.primary, "secondary_addresses": eni.secondaries,
        "prefixes": eni.prefixes, "public_address": eni.public, "security_groups": eni.security_groups,
        "source_dest_check": eni.source_dest_check, "tags": eni.tags, "attachment": attachment,
    })
}
