// SPDX-License-Identifier: Apache-2.0
//! ModifyNetworkInterfaceAttribute and DescribeNetworkInterfaceAttribute.
//!
//! Decides what a single attribute may become. One attribute a call, as in EC2.
//!
//! Worked example: `Attachment.AttachmentId=…&Attachment.DeleteOnTermination=true` after an attach; the id of a former
//! attachment is `InvalidAttachmentID.NotFound`.
//!
//! Source: EC2 API reference, ModifyNetworkInterfaceAttribute, DescribeNetworkInterfaceAttribute.

use std::time::Duration;

use crate::error::Ec2Error;
use crate::events::FabricEvent;
use crate::ids::{AttachmentId, EniId};
use crate::params::Params;
use crate::state::Eni;
use crate::vpc::Vpc;
use crate::xml::Xml;

const ATTRIBUTES: [&str; 6] = [
    "Attachment",
    "SourceDestCheck",
    "SecurityGroupId",
    "Description",
    "EnablePrimaryIpv6",
    "AssociatePublicIpAddress",
];

impl Vpc {
    pub(crate) fn modify_network_interface_attribute(
        &mut self,
        params: &Params,
        now: Duration,
    ) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        let id = eni.id.clone();
        let used: Vec<&str> = ATTRIBUTES.into_iter().filter(|attribute| params.has(attribute)).collect();
        match used.as_slice() {
            [] => return Err(Ec2Error::missing("Attribute")),
            ["Attachment"] => self.modify_attachment(&id, params, now)?,
            ["SourceDestCheck"] => {
                let enabled = required_flag(params, "SourceDestCheck.Value")?;
                self.enis.change(&id, now, |eni| eni.source_dest_check = enabled);
                self.tell(&id, |eni| FabricEvent::SourceDestCheckSet { eni, enabled });
            }
            ["SecurityGroupId"] => {
                let vpc = eni.vpc.clone();
                let groups = self.groups_param(params, &vpc)?;
                self.enis.change(&id, now, |eni| eni.security_groups.clone_from(&groups));
                self.tell(&id, |eni| FabricEvent::SecurityGroupsSet { eni, security_groups: groups });
            }
            ["Description"] => {
                let text = params.text("Description.Value").unwrap_or_default().to_owned();
                self.enis.change(&id, now, |eni| eni.description = text);
            }
            [other] => return Err(Ec2Error::unsupported(format!("{other} is not part of this model."))),
            [first, second, ..] => {
                let text = format!("{first} and {second}: only one attribute can be modified at a time");
                return Err(Ec2Error::combination(text));
            }
        }
        Ok(Xml::done())
    }

    fn modify_attachment(&mut self, id: &EniId, params: &Params, now: Duration) -> Result<(), Ec2Error> {
        let named = params.required("Attachment.AttachmentId")?;
        if !AttachmentId::is_well_formed(named) {
            return Err(Ec2Error::malformed("InvalidNetworkInterfaceAttachmentId.Malformed", named));
        }
        let named = AttachmentId::from(named);
        let current = self.enis.get(id).and_then(Eni::attachment).map(|attachment| &attachment.id);
        if current != Some(&named) {
            return Err(Ec2Error::attachment_not_found(&named));
        }
        let value = required_flag(params, "Attachment.DeleteOnTermination")?;
        self.enis.change(id, now, |eni| {
            if let Some(attachment) = eni.attachment_mut() {
                attachment.delete_on_termination = value;
            }
        });
        Ok(())
    }

    /// Tells the packet fabric about an ENI that has a link.
    fn tell(&mut self, id: &EniId, event: impl FnOnce(EniId) -> FabricEvent) {
        if self.enis.get(id).is_some_and(Eni::has_link) {
            self.events.push(event(id.clone()));
        }
    }

    pub(crate) fn describe_network_interface_attribute(&self, params: &Params) -> Result<Xml, Ec2Error> {
        let eni = self.eni_param(params, "NetworkInterfaceId")?;
        let attribute = params.required("Attribute")?;
        let known = ["description", "groupSet", "sourceDestCheck", "attachment", "associatePublicIpAddress"];
        if !known.contains(&attribute) {
            return Err(Ec2Error::value(format!("Value ({attribute}) for parameter Attribute is invalid.")));
        }
        Ok(Xml::inside(|xml| {
            xml.leaf("networkInterfaceId", &eni.id);
            match attribute {
                "description" => xml.element("description", |xml| xml.leaf("value", &eni.description)),
                "groupSet" => self.write_groups(xml, &eni.security_groups),
                "sourceDestCheck" => xml.element("sourceDestCheck", |xml| xml.leaf("value", eni.source_dest_check)),
                "associatePublicIpAddress" => xml.leaf("associatePublicIpAddress", eni.public.is_some()),
                _ => {
                    if let Some(attachment) = eni.attachment() {
                        self.write_attachment(xml, attachment, true);
                    }
                }
            }
        }))
    }
}

fn required_flag(params: &Params, name: &str) -> Result<bool, Ec2Error> {
    params.required(name)?;
    params.flag(name)
}
