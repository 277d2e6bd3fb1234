// SPDX-License-Identifier: Apache-2.0
//! Which resources a call concerns, and the condition keys that hold for each: all of them must be allowed.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2": resource types of an action and
//! their keys. A resource type that an action takes but need not (an instance for ModifyNetworkInterfaceAttribute) is concerned when
//! the call names it. Tags of a request count for the resource that is made or tagged. What is made with tags needs CreateTags, too,
//! with `ec2:CreateAction`.

use std::collections::BTreeMap;

use crate::error::Ec2Error;
use crate::iam::{Concern, Policy};
use crate::ids::{EniId, InstanceId, SecurityGroupId, SubnetId};
use crate::params::Params;
use crate::state::{Eni, Tags};
use crate::vpc::Vpc;

type Keys = BTreeMap<String, Vec<String>>;

impl Vpc {
    /// From now on callers may do what `policy` allows and nothing else.
    pub fn allow_only(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    /// UnauthorizedOperation when there is a policy that does not allow this call, whether or not it would succeed.
    pub(crate) fn authorize(&self, action: &str, params: &Params) -> Result<(), Ec2Error> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let Some(concerns) = self.concerns(action, params) else {
            return Err(Ec2Error::unsupported(format!("Rights to {action} are not part of this model.")));
        };
        match concerns.iter().find(|concern| !policy.allows(concern)) {
            None => Ok(()),
            Some(Concern { action, arn, .. }) => {
                let text = format!(
                    "You are not authorized to perform this operation. The caller is not authorized to perform: \
                     ec2:{action} on resource: {arn} because no identity-based policy allows the ec2:{action} action"
                );
                Err(Ec2Error::new("UnauthorizedOperation", text))
            }
        }
    }

    fn concerns(&self, action: &str, params: &Params) -> Option<Vec<Concern>> {
        let text = |name: &str| params.text(name).unwrap_or_default();
        let one = |action: &'static str, (arn, keys): (String, Keys)| Concern { action, arn, keys };
        let eni_named = || self.eni_concern(text("NetworkInterfaceId"));
        Some(match action {
            "DescribeNetworkInterfaces" => vec![one("DescribeNetworkInterfaces", anything())],
            "DescribeSubnets" => vec![one("DescribeSubnets", anything())],
            "DescribeInstanceTypes" => vec![one("DescribeInstanceTypes", anything())],
            "CreateNetworkInterface" => self.creation(params),
            "AttachNetworkInterface" => {
                let instance = self.instance_concern(text("InstanceId"));
                [eni_named(), instance].map(|it| one("AttachNetworkInterface", it)).into()
            }
            "DetachNetworkInterface" => {
                let id = text("AttachmentId");
                let eni = self.enis.iter().find(|eni| eni.attachment().is_some_and(|it| it.id.as_str() == id));
                let instance = eni.and_then(Eni::attachment).map_or("*", |attachment| attachment.instance.as_str());
                let eni = self.eni_concern(eni.map_or("*", |eni| eni.id.as_str()));
                [eni, self.instance_concern(instance)].map(|it| one("DetachNetworkInterface", it)).into()
            }
            "ModifyNetworkInterfaceAttribute" => {
                let mut all = vec![eni_named()];
                all.extend(params.list("SecurityGroupId").iter().map(|id| self.group_concern(id)));
                if params.text("Attachment.AttachmentId").is_some() {
                    let eni = self.enis.get(&EniId::from(text("NetworkInterfaceId")));
                    let instance = eni.and_then(Eni::attachment).map_or("*", |attachment| attachment.instance.as_str());
                    all.push(self.instance_concern(instance));
                }
                all.into_iter().map(|it| one("ModifyNetworkInterfaceAttribute", it)).collect()
            }
            "DeleteNetworkInterface" => vec![one("DeleteNetworkInterface", eni_named())],
            "AssignPrivateIpAddresses" => vec![one("AssignPrivateIpAddresses", eni_named())],
            "UnassignPrivateIpAddresses" => vec![one("UnassignPrivateIpAddresses", eni_named())],
            "CreateTags" => {
                let tags = params.tags("").unwrap_or_default();
                let tagged = |id: &String| {
                    let (arn, keys) = self.any_concern(id);
                    one("CreateTags", (arn, keys.into_iter().chain(requested(&tags)).collect()))
                };
                params.list("ResourceId").iter().map(tagged).collect()
            }
            _ => return None,
        })
    }

    fn creation(&self, params: &Params) -> Vec<Concern> {
        let create = |(arn, keys): (String, Keys)| Concern { action: "CreateNetworkInterface", arn, keys };
        let subnet = SubnetId::from(params.text("SubnetId").unwrap_or_default());
        let vpc = self.subnets.get(&subnet).map(|subnet| subnet.vpc.to_string());
        let bases = params.structures("TagSpecification");
        let tags: Vec<_> = bases.iter().flat_map(|base| params.tags(base).unwrap_or_default()).collect();
        let made = self.arn("network-interface", "*");
        let mut keys: Keys = requested(&tags).collect();
        keys.extend(vpc.as_ref().map(|vpc| ("ec2:Vpc".to_owned(), vec![self.arn("vpc", vpc)])));
        let subnet_tags = self.subnets.get(&subnet).map(|subnet| &subnet.tags);
        let mut all = vec![
            create((made.clone(), keys.clone())),
            create(self.concern("subnet", subnet.as_str(), subnet_tags, vpc.as_deref())),
        ];
        all.extend(params.list("SecurityGroupId").iter().map(|id| create(self.group_concern(id))));
        if !tags.is_empty() {
            keys.insert("ec2:CreateAction".to_owned(), vec!["CreateNetworkInterface".to_owned()]);
            all.push(Concern { action: "CreateTags", arn: made, keys });
        }
        all
    }

    fn eni_concern(&self, id: &str) -> (String, Keys) {
        let eni = self.enis.get(&EniId::from(id));
        self.concern("network-interface", id, eni.map(|eni| &eni.tags), eni.map(|eni| eni.vpc.as_str()))
    }

    fn instance_concern(&self, id: &str) -> (String, Keys) {
        let tags = self.instances.get(&InstanceId::from(id)).map(|instance| &instance.tags);
        self.concern("instance", id, tags, None)
    }

    fn group_concern(&self, id: &str) -> (String, Keys) {
        let group = self.security_groups.get(&SecurityGroupId::from(id));
        self.concern("security-group", id, group.map(|group| &group.tags), group.map(|group| group.vpc.as_str()))
    }

    /// Of a resource that is known by its id alone.
    fn any_concern(&self, id: &str) -> (String, Keys) {
        match id.split_once('-').map(|(kind, _)| kind) {
            Some("eni") => self.eni_concern(id),
            Some("i") => self.instance_concern(id),
            Some("sg") => self.group_concern(id),
            _ => self.concern("subnet", id, self.subnets.get(&SubnetId::from(id)).map(|subnet| &subnet.tags), None),
        }
    }

    fn concern(&self, kind: &str, id: &str, tags: Option<&Tags>, vpc: Option<&str>) -> (String, Keys) {
        let mut keys = Keys::new();
        for (key, value) in tags.into_iter().flatten() {
            for service in ["aws", "ec2"] {
                keys.insert(format!("{service}:ResourceTag/{key}"), vec![value.clone()]);
            }
        }
        keys.extend(vpc.map(|vpc| ("ec2:Vpc".to_owned(), vec![self.arn("vpc", vpc)])));
        (self.arn(kind, id), keys)
    }

    fn arn(&self, kind: &str, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{kind}/{id}", self.region, self.account_id)
    }
}

/// The one resource of actions that know none.
fn anything() -> (String, Keys) {
    ("*".to_owned(), Keys::new())
}

/// The keys of a request's tags.
fn requested(tags: &[(String, Option<String>)]) -> impl Iterator<Item = (String, Vec<String>)> {
    let value = |value: &Option<String>| vec![value.clone().unwrap_or_default()];
    let single = tags.iter().map(move |(key, text)| (format!("aws:RequestTag/{key}"), value(text)));
    let names =
        (!tags.is_empty()).then(|| ("aws:TagKeys".to_owned(), tags.iter().map(|(key, _)| key.clone()).collect()));
    single.chain(names)
}
