// SPDX-License-Identifier: Apache-2.0
//! The model's events, carried out by the fabric.

use std::sync::Arc;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use vpc_model::{AttachedEni, FabricEvent};

use super::{Dropped, EniPort, Fabric, FabricError};
use crate::emulator::DataPlane;
use crate::netns::Namespace;

impl DataPlane for Arc<Fabric> {
    fn apply(&mut self, event: &FabricEvent) -> Result<(), String> {
        self.carry_out(event).map_err(|error| error.to_string())
    }

    fn counters(&self) -> Value {
        match self.drops() {
            Ok(drops) => drops.0.iter().map(|(drop, packets)| dropped(drop, *packets)).collect(),
            Err(error) => json!({ "error": error.to_string() }),
        }
    }
}

fn dropped(drop: &Dropped, packets: u64) -> Value {
    json!({"reason": drop.reason.to_string(), "eni": drop.eni, "address": drop.address, "packets": packets})
}

impl Fabric {
    /// Says in which namespace the guest of the instance called `name` runs. Before its first ENI.
    pub fn register(&self, name: &str, guest: &Namespace) {
        self.lock().guests.insert(name.to_owned(), guest.clone());
    }

    /// Does what an event asks for.
    ///
    /// # Errors
    /// The instance was not registered, or the kernel refuses.
    pub fn carry_out(&self, event: &FabricEvent) -> Result<(), FabricError> {
        match event {
            FabricEvent::EniAttached(eni) => self.plug_in(eni),
            FabricEvent::EniDetached { eni, .. } => self.detach(eni.as_str()),
            FabricEvent::AddressAssigned { eni, address } => self.assign(eni.as_str(), &[address.block()]),
            FabricEvent::AddressUnassigned { eni, address } => self.unassign(eni.as_str(), &[address.block()]),
            FabricEvent::SourceDestCheckSet { eni, enabled } => self.set_source_dest_check(eni.as_str(), *enabled),
            // All groups allow everything; a test that wants otherwise uses `set_security_rules`.
            FabricEvent::SecurityGroupsSet { .. } => Ok(()),
        }
    }

    fn plug_in(&self, eni: &AttachedEni) -> Result<(), FabricError> {
        let guest = self.lock().guests.get(&eni.instance_name).cloned();
        let guest = guest.ok_or_else(|| FabricError::UnknownInstance { name: eni.instance_name.clone() })?;
        let secondary = eni.secondary_addresses.iter().copied().map(Ipv4Net::from);
        let port = EniPort {
            eni: eni.eni.as_str().to_owned(),
            mac: eni.mac.to_string(),
            subnet: eni.subnet_cidr,
            primary: eni.primary_address,
            blocks: secondary.chain(eni.prefixes.iter().copied()).collect(),
            source_dest_check: eni.source_dest_check,
        };
        self.attach(&port, &guest, &guest_link(eni.network_card, eni.device_index))?;
        eni.public_address.map_or(Ok(()), |public| self.associate_public(eni.primary_address, public))
    }
}

/// What the guest calls a link: `eth0` for the primary one, else as systemd names PCI slots on Nitro (`ens5` is index 1).
fn guest_link(card: u8, index: u32) -> String {
    match (card, index) {
        (0, 0) => "eth0".to_owned(),
        (0, index) => format!("ens{}", index + 4),
        (card, index) => format!("ens{}", 100 * u32::from(card) + index),
    }
}
