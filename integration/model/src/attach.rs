// SPDX-License-Identifier: Apache-2.0
//! AttachNetworkInterface, DetachNetworkInterface, and what an ENI does by itself in between.
//!
//! Decides when an ENI may be attached and detached, and carries it from phase to phase as time passes, telling the packet
//! fabric when the guest gets and loses the link.
//!
//! Invariant: an instance never holds more ENIs than its type allows, on the whole and per card, those on the way in and
//! out included, and no two at one index of one card; trunks and EFAs only on types that take them, one EFA a card.
//! `EniAttached` and `EniDetached` of an ENI alternate; an EFA-only ENI has neither.
//!
//! Worked example: attach 5 s, link 1 s: Attach at 10 s; `attaching` until 15 s; `attached` from 15 s, link at 16 s.
//!
//! Source: EC2 API reference, AttachNetworkInterface, DetachNetworkInterface; EC2 user guide, "Elastic network interfaces"
//! (same zone and VPC; primary ENI cannot be detached; device index unique per network card), "Elastic Fabric Adapter" (the
//! instance must be stopped for an EFA to come or go).

use std::time::Duration;

use instance_limits::Trunking;

use crate::efa;
use crate::error::Ec2Error;
use crate::events::{AttachedEni, FabricEvent};
use crate::faults::AttachFaultKind;
use crate::ids::{AttachmentId, EniId, InstanceId};
use crate::params::Params;
use crate::state::{Attachment, AttachmentPhase, Eni, EniState, Instance, InstanceState, InterfaceType, Link};
use crate::vpc::Vpc;
use crate::xml::Xml;

impl Vpc {
    pub(crate) fn attach_network_interface(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        let instance = self.instance_param(params, "InstanceId")?;
        let index: u32 = params.parsed("DeviceIndex")?.ok_or_else(|| Ec2Error::missing("DeviceIndex"))?;
        let card = params.parsed::<u8>("NetworkCardIndex")?;
        self.check_attach(eni, instance, index, card)?;
        let card = card.unwrap_or(0);
        let interface_type = eni.interface_type;
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
        if interface_type == InterfaceType::EfaOnly {
            link_after = None;
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
        self.check_efa_moves(eni, self.instances.get(&attachment.instance))?;
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

    fn check_attach(&self, eni: &Eni, instance: &Instance, index: u32, card: Option<u8>) -> Result<(), Ec2Error> {
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
        self.check_place(instance, index, card)?;
        self.check_type(eni, instance, card.unwrap_or(0))?;
        self.check_efa_moves(eni, Some(instance))?;
        self.check_slots(instance, eni.slots(), !eni.prefixes.is_empty())
    }

    /// The same for an instance that is launched with this ENI.
    pub(crate) fn check_at_launch(&self, eni: &Eni, instance: &Instance, index: u32, card: u8) -> Result<(), Ec2Error> {
        self.check_place(instance, index, Some(card))?;
        self.check_type(eni, instance, card)?;
        self.check_slots(instance, eni.slots(), !eni.prefixes.is_empty())
    }

    /// Whether there is room on this card at this index. Without a card, an index that is taken on any card is refused, as
    /// EC2 was seen to do on types with several.
    fn check_place(&self, instance: &Instance, index: u32, named: Option<u8>) -> Result<(), Ec2Error> {
        let card = named.unwrap_or(0);
        let Some(card_limits) = instance.limits.card(card) else {
            return Err(Ec2Error::value(format!("{} has no network card with index {card}.", instance.instance_type)));
        };
        let attachments = || self.enis.of_instance(&instance.id).filter_map(Eni::attachment);
        let on_card = || attachments().filter(|attachment| attachment.network_card == card);
        let mut in_the_way = attachments().filter(|other| named.is_none() || other.network_card == card);
        if in_the_way.any(|attachment| attachment.device_index == index) {
            return Err(Ec2Error::index_taken(&instance.id, index));
        }
        let (count, count_on_card) = (total(attachments().count()), total(on_card().count()));
        if count > instance.limits.max_enis() || count_on_card > u32::from(card_limits.max_enis) {
            return Err(Ec2Error::interface_count(count.max(count_on_card), &instance.instance_type));
        }
        Ok(())
    }

    /// Whether the instance takes an ENI of this type on this card.
    fn check_type(&self, eni: &Eni, instance: &Instance, card: u8) -> Result<(), Ec2Error> {
        let refuse = |what: &str| {
            let text = format!("{what} interfaces are not supported on instance type {}.", instance.instance_type);
            Err(Ec2Error::unsupported(text))
        };
        match eni.interface_type {
            InterfaceType::Interface => Ok(()),
            InterfaceType::Trunk if matches!(instance.limits.trunking, Trunking::Supported { .. }) => Ok(()),
            InterfaceType::Trunk => refuse("Trunk"),
            InterfaceType::Efa | InterfaceType::EfaOnly => {
                let most = efa::most(&instance.instance_type, instance.limits);
                if most == 0 {
                    return refuse("EFA");
                }
                let efas = || self.enis.of_instance(&instance.id).filter(|eni| eni.interface_type.has_efa());
                let on_card = |eni: &Eni| eni.attachment().is_some_and(|attachment| attachment.network_card == card);
                if efas().count() >= most || efas().any(on_card) {
                    let text =
                        format!("EFA count {} exceeds the limit for {}", efas().count() + 1, instance.instance_type);
                    return Err(Ec2Error::new("AttachmentLimitExceeded", text));
                }
                Ok(())
            }
        }
    }

    /// EFAs come and go only while the instance is stopped.
    fn check_efa_moves(&self, eni: &Eni, instance: Option<&Instance>) -> Result<(), Ec2Error> {
        match instance {
            Some(instance) if eni.interface_type.has_efa() && instance.state == InstanceState::Running => {
                let text = format!("The instance '{}' is not in the 'stopped' state.", instance.id);
                Err(Ec2Error::new("IncorrectInstanceState", text))
            }
            _ => Ok(()),
        }
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
        let (Some(subnet), Some(primary)) = (self.subnets.get(&eni.subnet), eni.primary) else { return };
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
            primary_address: primary,
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
