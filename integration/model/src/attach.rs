// SPDX-License-Identifier: Apache-2.0
//! AttachNetworkInterface, DetachNetworkInterface, and what an ENI does by itself in between.
//!
//! Decides when an ENI may be attached and detached, and carries it from phase to phase as time passes, telling the packet
//! fabric when the guest gets and loses the link.
//!
//! Invariant: an instance never holds more ENIs than its type allows, on the whole and per card, those on the way in and
//! out included, and no two at one index of one card. `EniAttached` and `EniDetached` of an ENI alternate.
//!
//! Worked example: attach 5 s, link 1 s: Attach at 10 s; `attaching` until 15 s; `attached` from 15 s, link at 16 s.
//!
//! Source: EC2 API reference, AttachNetworkInterface, DetachNetworkInterface; EC2 user guide, "Elastic network interfaces"
//! (same zone and VPC; primary ENI cannot be detached; device index unique per network card).

use std::time::Duration;

use crate::error::Ec2Error;
use crate::events::{AttachedEni, FabricEvent};
use crate::faults::AttachFaultKind;
use crate::ids::{AttachmentId, EniId, InstanceId};
use crate::params::Params;
use crate::state::{Attachment, AttachmentPhase, Eni, EniState, Instance, InstanceState, Link};
use crate::vpc::Vpc;
use crate::xml::Xml;

impl Vpc {
    pub(crate) fn attach_network_interface(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        let instance = self.instance_param(params, "InstanceId")?;
        let index: u32 = params.parsed("DeviceIndex")?.ok_or_else(|| Ec2Error::missing("DeviceIndex"))?;
        let card: u8 = params.parsed("NetworkCardIndex")?.unwrap_or(0);
        self.check_attach(eni, instance, index, card)?;
        let (eni, instance) = (eni.id.clone(), instance.id.clone());
        let latencies = &self.settings.latencies;
        let mut until = Some(now + Duration::from_millis(latencies.attach_ms));
        let mut link_after = Some(Duration::from_millis(latencies.link_ms));
        match self.faults.meet_attach(instance.as_str()) {
            Some(AttachFaultKind::NoLink) => link_after = None,
            Some(AttachFaultKind::NeverAttached) => until = None,
            Some(AttachFaultKind::LateLink(ms)) => {
                link_after = link_after.map(|after| after + Duration::from_millis(ms))
            }
            None => {}
        }
        let attachment = Attachment {
            id: AttachmentId(self.ids.id(AttachmentId::PREFIX)),
            instance,
            device_index: index,
            network_card: card,
            delete_on_termination: false,
            attach_time: now,
            phase: AttachmentPhase::Attaching { until, link_after },
        };
        let id = attachment.id.clone();
        self.enis.change(&eni, now, |eni| eni.state = EniState::InUse(attachment));
        Ok(Xml::inside(|xml| {
            xml.leaf("attachmentId", id);
            xml.leaf("networkCardIndex", card);
        }))
    }

    pub(crate) fn detach_network_interface(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        params.flag("Force")?;
        let eni = self.attachment_param(params, "AttachmentId")?;
        let id = eni.id.clone();
        let Some(attachment) = eni.attachment() else { return Err(Ec2Error::eni_not_found(id.as_str())) };
        let (index, card) = (attachment.device_index, attachment.network_card);
        if index == 0 && card == 0 {
            let text = "The network interface at device index 0 and networkCard index 0 cannot be detached.";
            return Err(Ec2Error::new("OperationNotPermitted", text));
        }
        let link = match attachment.phase {
            AttachmentPhase::Detaching { .. } => {
                let text = format!("Attachment '{}' is detaching.", attachment.id);
                return Err(Ec2Error::new("IncorrectState", text));
            }
            AttachmentPhase::Attaching { .. } => Link::Coming { at: None },
            AttachmentPhase::Attached { link } => link,
        };
        let until = now + Duration::from_millis(self.settings.latencies.detach_ms);
        self.enis.change(&id, now, |eni| {
            if let Some(attachment) = eni.attachment_mut() {
                attachment.phase = AttachmentPhase::Detaching { until, link };
            }
        });
        Ok(Xml::done())
    }

    fn check_attach(&self, eni: &Eni, instance: &Instance, index: u32, card: u8) -> Result<(), Ec2Error> {
        if eni.attachment().is_some() {
            return Err(Ec2Error::interface_in_use(&eni.id));
        }
        if instance.state == InstanceState::Terminated {
            let text = format!("The terminated instance '{}' is not in a valid state for this operation.", instance.id);
            return Err(Ec2Error::new("IncorrectState", text));
        }
        if eni.availability_zone != instance.availability_zone {
            return Err(Ec2Error::combination(
                "You may not attach a network interface to an instance if they are not in the same availability zone",
            ));
        }
        if eni.vpc != instance.vpc {
            return Err(Ec2Error::value(format!(
                "Network interface '{}' and instance '{}' are not in the same VPC.",
                eni.id, instance.id
            )));
        }
        let Some(card_limits) = instance.limits.card(card) else {
            return Err(Ec2Error::value(format!("{} has no network card with index {card}.", instance.instance_type)));
        };
        let attachments = || self.enis.of_instance(&instance.id).filter_map(Eni::attachment);
        let on_card = || attachments().filter(|attachment| attachment.network_card == card);
        if on_card().any(|attachment| attachment.device_index == index) {
            return Err(Ec2Error::index_taken(&instance.id, index));
        }
        let (count, count_on_card) = (total(attachments().count()), total(on_card().count()));
        if count > instance.limits.max_enis() || count_on_card > u32::from(card_limits.max_enis) {
            return Err(Ec2Error::interface_count(count.max(count_on_card), &instance.instance_type));
        }
        self.check_slots(instance, eni.slots(), !eni.prefixes.is_empty())
    }

    /// Whether an ENI with so many slots in use fits the type of this instance.
    pub(crate) fn check_slots(&self, instance: &Instance, slots: usize, prefixes: bool) -> Result<(), Ec2Error> {
        if slots > usize::from(instance.limits.ipv4_per_eni) {
            return Err(Ec2Error::private_address_limit());
        }
        if prefixes && !instance.limits.takes_prefixes() {
            let text = format!("Prefixes are not supported on instance type {}.", instance.instance_type);
            return Err(Ec2Error::unsupported(text));
        }
        Ok(())
    }

    /// The change that is due for this ENI, at its time.
    pub(crate) fn transition(&mut self, id: &EniId, at: Duration) {
        let Some(state) = self.enis.get(id).map(|eni| eni.state.clone()) else { return };
        match state {
            EniState::Available => {}
            EniState::Pending { .. } => self.enis.change(id, at, |eni| eni.state = EniState::Available),
            EniState::InUse(attachment) => self.attachment_transition(id, &attachment, at),
        }
    }

    fn attachment_transition(&mut self, id: &EniId, attachment: &Attachment, at: Duration) {
        match attachment.phase {
            AttachmentPhase::Attaching { link_after, .. } => {
                let link = Link::Coming { at: link_after.map(|after| at + after) };
                self.set_phase(id, at, AttachmentPhase::Attached { link });
            }
            AttachmentPhase::Attached { .. } => {
                self.set_phase(id, at, AttachmentPhase::Attached { link: Link::Up });
                self.announce_attached(id);
            }
            AttachmentPhase::Detaching { link, .. } => self.release(id, &attachment.instance, link, at),
        }
    }

    /// Ends an attachment: the link is gone, the ENI available.
    pub(crate) fn release(&mut self, id: &EniId, instance: &InstanceId, link: Link, at: Duration) {
        let mac = self.enis.get(id).map(|eni| eni.mac);
        self.enis.change(id, at, |eni| eni.state = EniState::Available);
        if let (Link::Up, Some(mac)) = (link, mac) {
            self.events.push(FabricEvent::EniDetached { eni: id.clone(), instance: instance.clone(), mac });
        }
    }

    fn set_phase(&mut self, id: &EniId, at: Duration, phase: AttachmentPhase) {
        self.enis.change(id, at, |eni| {
            if let Some(attachment) = eni.attachment_mut() {
                attachment.phase = phase;
            }
        });
    }

    /// Tells the packet fabric that the guest has the link of this ENI.
    pub(crate) fn announce_attached(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let Some(attachment) = eni.attachment() else { return };
        let Some(subnet) = self.subnets.get(&eni.subnet) else { return };
        let instance_name = self.instances.get(&attachment.instance).map(|instance| instance.name.clone());
        self.events.push(FabricEvent::EniAttached(Box::new(AttachedEni {
            eni: eni.id.clone(),
            instance: attachment.instance.clone(),
            instance_name: instance_name.unwrap_or_default(),
            device_index: attachment.device_index,
            network_card: attachment.network_card,
            mac: eni.mac,
            vpc: eni.vpc.clone(),
            subnet: eni.subnet.clone(),
            subnet_cidr: subnet.cidr_block(),
            primary_address: eni.primary,
            secondary_addresses: eni.secondaries.clone(),
            prefixes: eni.prefixes.clone(),
            public_address: eni.public,
            source_dest_check: eni.source_dest_check,
            security_groups: eni.security_groups.clone(),
        })));
    }
}

/// One ENI more than there are.
fn total(others: usize) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
