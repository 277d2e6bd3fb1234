// SPDX-License-Identifier: Apache-2.0
//! CreateTags, DeleteTags, DescribeTags, and the tags that a resource is made with.
//!
//! Decides which tags a resource may have. Tags of ENIs lag for readers as the rest of the ENI does.
//!
//! Invariant: no resource has more tags than the quota, none of them with a key that starts with `aws:`.
//!
//! Source: EC2 API reference, CreateTags, DeleteTags, DescribeTags; EC2 user guide, "Tag your resources" (50 tags, keys of
//! at most 127 characters, values of at most 256).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::describe::{Page, check_filters, passes, write_page};
use crate::error::Ec2Error;
use crate::ids::{EniId, InstanceId, SecurityGroupId, SubnetId, VpcId};
use crate::params::Params;
use crate::state::Tags;
use crate::vpc::Vpc;
use crate::xml::Xml;

const MAX_KEY: usize = 127;
const MAX_VALUE: usize = 256;
/// Most resources of one call.
const MAX_RESOURCES: usize = 1_000;

const FILTERS: [&str; 4] = ["key", "resource-id", "resource-type", "value"];

impl Vpc {
    pub(crate) fn create_tags(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let resources = self.tagged_resources(params)?;
        let tags = params.tags("")?;
        if tags.is_empty() {
            return Err(Ec2Error::missing("Tag"));
        }
        let tags: Tags = tags.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
        for id in &resources {
            let mut all = self.tags_of(id).cloned().unwrap_or_default();
            all.extend(tags.clone());
            self.check_tags(&all)?;
        }
        for id in &resources {
            self.change_tags(id, now, |own| own.extend(tags.clone()));
        }
        Ok(Xml::done())
    }

    pub(crate) fn delete_tags(&mut self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let resources = self.tagged_resources(params)?;
        let wanted = params.tags("")?;
        for id in &resources {
            self.change_tags(id, now, |own| {
                own.retain(|key, value| {
                    let goes = |(k, v): &(String, Option<String>)| k == key && v.as_ref().is_none_or(|v| v == value);
                    !(wanted.is_empty() || wanted.iter().any(goes))
                });
            });
        }
        Ok(Xml::done())
    }

    pub(crate) fn describe_tags(&self, params: &Params, now: Duration) -> Result<Xml, Ec2Error> {
        let filters = params.filters()?;
        check_filters(&filters, &FILTERS)?;
        let lag = Duration::from_millis(self.settings.lags.describe_ms);
        let enis = self.enis.seen(now, lag).map(|eni| (eni.id.as_str(), "network-interface", &eni.tags));
        let instances = self.instances.values().map(|i| (i.id.as_str(), "instance", &i.tags));
        let subnets = self.subnets.values().map(|s| (s.id.as_str(), "subnet", &s.tags));
        let groups = self.security_groups.values().map(|g| (g.id.as_str(), "security-group", &g.tags));
        let vpcs = self.vpcs.values().map(|v| (v.id.as_str(), "vpc", &v.tags));
        let mut entries = BTreeMap::new();
        for (id, kind, tags) in enis.chain(instances).chain(subnets).chain(groups).chain(vpcs) {
            for (key, value) in tags {
                let single = Tags::from([(key.clone(), value.clone())]);
                let passing = passes(&filters, &single, |name| {
                    vec![match name {
                        "key" => key.clone(),
                        "value" => value.clone(),
                        "resource-id" => id.to_owned(),
                        "resource-type" => kind.to_owned(),
                        _ => return Vec::new(),
                    }]
                });
                if passing {
                    entries.insert(format!("{id} {key}"), (id, kind, key, value));
                }
            }
        }
        let entries: Vec<_> = entries.into_iter().collect();
        write_page(params, "tagSet", entries, &Page::with_ids(""), |xml, (id, kind, key, value)| {
            xml.leaf("key", key);
            xml.leaf("resourceId", id);
            xml.leaf("resourceType", kind);
            xml.leaf("value", value);
        })
    }

    /// The tags of `TagSpecification.N`, all for this type of resource.
    pub(crate) fn tags_at_creation(&self, params: &Params, resource_type: &str) -> Result<Tags, Ec2Error> {
        let mut tags = Tags::new();
        for base in params.structures("TagSpecification") {
            let kind = params.required(&format!("{base}.ResourceType"))?;
            if kind != resource_type {
                let text = format!("'{kind}' is not a valid taggable resource type for this operation.");
                return Err(Ec2Error::value(text));
            }
            tags.extend(params.tags(&base)?.into_iter().map(|(key, value)| (key, value.unwrap_or_default())));
        }
        self.check_tags(&tags)?;
        Ok(tags)
    }

    fn check_tags(&self, tags: &Tags) -> Result<(), Ec2Error> {
        for (key, value) in tags {
            if key.starts_with("aws:") {
                let text = "Tag keys starting with 'aws:' are reserved for internal use";
                return Err(Ec2Error::value(text));
            }
            if key.chars().count() > MAX_KEY {
                return Err(Ec2Error::value(format!("Tag key exceeds the maximum length of {MAX_KEY} characters")));
            }
            if value.chars().count() > MAX_VALUE {
                return Err(Ec2Error::value(format!("Tag value exceeds the maximum length of {MAX_VALUE} characters")));
            }
        }
        let quota = self.settings.quotas.tags_per_resource;
        if tags.len() > usize::try_from(quota).unwrap_or(usize::MAX) {
            let text = format!("The maximum number of tags per resource, {quota}, has been reached.");
            return Err(Ec2Error::new("TagLimitExceeded", text));
        }
        Ok(())
    }

    fn tagged_resources(&self, params: &Params) -> Result<Vec<String>, Ec2Error> {
        let resources = params.list("ResourceId");
        if resources.is_empty() {
            return Err(Ec2Error::missing("ResourceId"));
        }
        if resources.len() > MAX_RESOURCES {
            return Err(Ec2Error::value(format!("At most {MAX_RESOURCES} resources can be tagged at once")));
        }
        match resources.iter().find(|id| self.tags_of(id).is_none()) {
            Some(missing) => Err(no_such_resource(missing)),
            None => Ok(resources),
        }
    }

    fn tags_of(&self, id: &str) -> Option<&Tags> {
        if let Some(eni) = self.enis.get(&EniId::from(id)) {
            return Some(&eni.tags);
        }
        let instance = self.instances.get(&InstanceId::from(id)).map(|instance| &instance.tags);
        let subnet = || self.subnets.get(&SubnetId::from(id)).map(|subnet| &subnet.tags);
        let group = || self.security_groups.get(&SecurityGroupId::from(id)).map(|group| &group.tags);
        let vpc = || self.vpcs.get(&VpcId::from(id)).map(|vpc| &vpc.tags);
        instance.or_else(subnet).or_else(group).or_else(vpc)
    }

    fn change_tags(&mut self, id: &str, now: Duration, change: impl FnOnce(&mut Tags)) {
        if EniId::is_well_formed(id) {
            self.enis.change(&EniId::from(id), now, |eni| change(&mut eni.tags));
        } else if let Some(instance) = self.instances.get_mut(&InstanceId::from(id)) {
            change(&mut instance.tags);
        } else if let Some(subnet) = self.subnets.get_mut(&SubnetId::from(id)) {
            change(&mut subnet.tags);
        } else if let Some(group) = self.security_groups.get_mut(&SecurityGroupId::from(id)) {
            change(&mut group.tags);
        } else if let Some(vpc) = self.vpcs.get_mut(&VpcId::from(id)) {
            change(&mut vpc.tags);
        }
    }
}

/// The refusal of an id that nothing has, by the kind of thing it names.
fn no_such_resource(id: &str) -> Ec2Error {
    match id.split_once('-').map(|(kind, _)| kind) {
        Some("eni") => Ec2Error::eni_not_found(id),
        Some("i") => Ec2Error::instance_not_found(id),
        Some("subnet") => crate::create::no_subnet(id),
        Some("sg") => Ec2Error::group_not_found(id),
        Some("vpc") => Ec2Error::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist")),
        _ => Ec2Error::new("InvalidID", format!("The ID '{id}' is not valid")),
    }
}
