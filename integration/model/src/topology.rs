// SPDX-License-Identifier: Apache-2.0
//! Makes the machine's first state of a topology, and adds instances later.
//!
//! Checks everything that the types of the configuration do not: names that refer to nothing, ids of the wrong form,
//! blocks that do not fit. What the calls do afterwards is in the actions.
//!
//! Invariant: what this has made is seen by every reader at once, whatever the lags; an instance launched later is not.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{ConfigError, InstanceSpec, SecurityGroupSpec, SubnetSpec, VpcConfig, VpcSpec};
use crate::create::{NewEni, Wanted};
use crate::error::Ec2Error;
use crate::ids::{AttachmentId, EniId, InstanceId, SecurityGroupId, SubnetId, VpcId};
use crate::reservations::check_reservation;
use crate::space::Space;
use crate::state::{
    Attachment, AttachmentPhase, CidrReservation, EniState, Instance, InstanceState, InterfaceType, Link,
    SecurityGroup, Subnet, Tags, VpcRecord,
};
use crate::vpc::Vpc;

/// Lengths a subnet may have (VPC user guide, "Subnet sizing").
const SUBNET_LENGTHS: std::ops::RangeInclusive<u8> = 16..=28;

/// Where an ENI is attached at launch, and its public address.
struct Position {
    card: u8,
    index: u32,
    public: Option<Ipv4Addr>,
}

impl Vpc {
    pub(crate) fn build(&mut self, config: VpcConfig) -> Result<(), ConfigError> {
        for spec in config.vpcs {
            self.add_vpc(spec)?;
        }
        for spec in config.subnets {
            self.add_subnet(spec)?;
        }
        for spec in config.security_groups {
            self.add_security_group(spec)?;
        }
        for spec in config.instances {
            self.add_instance(spec, None)?;
        }
        Ok(())
    }

    /// Launches an instance with its primary ENI, running at once.
    ///
    /// # Errors
    /// What it refers to is not there, or its primary ENI cannot be made.
    pub fn launch(&mut self, spec: InstanceSpec, now: Duration) -> Result<InstanceId, ConfigError> {
        self.settle(now);
        self.add_instance(spec, Some(now))
    }

    fn add_vpc(&mut self, spec: VpcSpec) -> Result<(), ConfigError> {
        if spec.cidr_blocks.is_empty() {
            return Err(ConfigError::NoBlock(spec.name));
        }
        let id = VpcId(self.claim("VPC", "vpc-", &spec.name, spec.id)?);
        let cidr_blocks = spec.cidr_blocks.iter().map(ipnet::Ipv4Net::trunc).collect();
        self.vpcs.insert(id.clone(), VpcRecord { id: id.clone(), cidr_blocks, tags: spec.tags });
        let group = SecurityGroupId(self.ids.id(SecurityGroupId::PREFIX));
        self.security_groups
            .insert(group.clone(), SecurityGroup { id: group, name: "default".to_owned(), vpc: id, tags: Tags::new() });
        Ok(())
    }

    fn add_subnet(&mut self, spec: SubnetSpec) -> Result<(), ConfigError> {
        let vpc = VpcId(self.resolve(&format!("subnet `{}`", spec.name), "VPC", &spec.vpc)?);
        let block = spec.cidr_block.trunc();
        let refuse = |reason| Err(ConfigError::Block { name: spec.name.clone(), block, reason });
        if !SUBNET_LENGTHS.contains(&block.prefix_len()) {
            return refuse("a subnet is a /16 to a /28");
        }
        if !self.vpcs[&vpc].cidr_blocks.iter().any(|outer| outer.contains(&block)) {
            return refuse("no block of its VPC contains it");
        }
        let overlaps = |other: &Subnet| {
            other.vpc == vpc && (other.cidr_block().contains(&block) || block.contains(&other.cidr_block()))
        };
        if self.subnets.values().any(overlaps) {
            return refuse("another subnet overlaps it");
        }
        let id = SubnetId(self.claim("subnet", SubnetId::PREFIX, &spec.name, spec.id)?);
        let availability_zone = spec.availability_zone.unwrap_or_else(|| format!("{}a", self.region));
        let space = Space::new(block);
        self.subnets.insert(id.clone(), Subnet { id: id.clone(), vpc, availability_zone, tags: spec.tags, space });
        for reservation in spec.cidr_reservations {
            let (cidr, kind) = (reservation.cidr, reservation.reservation_type);
            check_reservation(&self.subnets[&id], cidr, kind)
                .map_err(|reason| ConfigError::Reservation { name: spec.name.clone(), reason })?;
            let (description, tags) = (String::new(), Tags::new());
            self.reserve(&id, CidrReservation { id: String::new(), cidr, kind, description, tags });
        }
        Ok(())
    }

    fn add_security_group(&mut self, spec: SecurityGroupSpec) -> Result<(), ConfigError> {
        let vpc = VpcId(self.resolve(&format!("security group `{}`", spec.name), "VPC", &spec.vpc)?);
        let id = SecurityGroupId(self.claim("security group", SecurityGroupId::PREFIX, &spec.name, spec.id)?);
        self.security_groups.insert(id.clone(), SecurityGroup { id, name: spec.name, vpc, tags: spec.tags });
        Ok(())
    }

    fn add_instance(&mut self, spec: InstanceSpec, since: Option<Duration>) -> Result<InstanceId, ConfigError> {
        let referrer = format!("instance `{}`", spec.name);
        let subnet = SubnetId(self.resolve(&referrer, "subnet", &spec.subnet)?);
        let (vpc, zone) = (self.subnets[&subnet].vpc.clone(), self.subnets[&subnet].availability_zone.clone());
        let limited_as = spec.limits_of.as_ref().unwrap_or(&spec.instance_type);
        let Some(limits) = instance_limits::lookup(limited_as) else {
            return Err(ConfigError::InstanceType { name: spec.name, instance_type: limited_as.clone() });
        };
        let groups: Vec<SecurityGroupId> = spec
            .security_groups
            .iter()
            .map(|name| self.resolve(&referrer, "security group", name).map(SecurityGroupId))
            .collect::<Result<_, _>>()?;
        let id = InstanceId(self.claim("instance", InstanceId::PREFIX, &spec.name, spec.id.clone())?);
        let launched = since.unwrap_or(Duration::ZERO);
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| ConfigError::Eni { name, source }
        };
        let eni = self.make_primary_eni(&spec, &subnet, groups.clone(), since).map_err(failed(&spec.name))?;
        let (name, public, interfaces) = (spec.name.clone(), spec.public_address, spec.network_interfaces);
        let mut tags = spec.tags;
        tags.entry("Name".to_owned()).or_insert_with(|| spec.name.clone());
        self.instances.insert(
            id.clone(),
            Instance {
                id: id.clone(),
                name: spec.name,
                instance_type: spec.instance_type,
                limits,
                subnet,
                vpc,
                availability_zone: zone,
                state: InstanceState::Running,
                launched,
                role: spec.role,
                tags,
            },
        );
        self.attach_at_launch(&eni, &id, Position { card: 0, index: 0, public }, since);
        for interface in interfaces {
            let subnet = match &interface.subnet {
                Some(name) => SubnetId(self.resolve(&referrer, "subnet", name)?),
                None => self.instances[&id].subnet.clone(),
            };
            let new = NewEni {
                interface_type: interface.interface_type,
                security_groups: groups.clone(),
                wanted: Wanted::AddressCount(interface.secondary_addresses),
                tags: interface.tags,
                ..NewEni::in_subnet(subnet)
            };
            let at = Position { card: interface.network_card, index: interface.device_index, public: None };
            self.add_interface(&id, new, at, since).map_err(failed(&name))?;
        }
        Ok(id)
    }

    /// Makes and attaches one of the further ENIs that an instance is launched with.
    fn add_interface(
        &mut self,
        instance: &InstanceId,
        new: NewEni,
        at: Position,
        since: Option<Duration>,
    ) -> Result<(), Ec2Error> {
        let eni = self.make_eni(new, since)?;
        if let (Some(eni), Some(instance)) = (self.enis.get(&eni), self.instances.get(instance)) {
            self.check_at_launch(eni, instance, at.index, at.card)?;
        }
        self.attach_at_launch(&eni, instance, at, since);
        Ok(())
    }

    fn make_primary_eni(
        &mut self,
        spec: &InstanceSpec,
        subnet: &SubnetId,
        security_groups: Vec<SecurityGroupId>,
        since: Option<Duration>,
    ) -> Result<EniId, Ec2Error> {
        let new = NewEni { primary: spec.private_address, security_groups, ..NewEni::in_subnet(subnet.clone()) };
        self.make_eni(new, since)
    }

    fn attach_at_launch(&mut self, eni: &EniId, instance: &InstanceId, at: Position, since: Option<Duration>) {
        let Some(mut made) = self.enis.get(eni).cloned() else { return };
        let link = match made.interface_type {
            InterfaceType::EfaOnly => Link::Coming { at: None },
            InterfaceType::Interface | InterfaceType::Efa | InterfaceType::Trunk => Link::Up,
        };
        let attachment = Attachment {
            id: AttachmentId(self.ids.id(AttachmentId::PREFIX)),
            instance: instance.clone(),
            device_index: at.index,
            network_card: at.card,
            delete_on_termination: true,
            attach_time: since.unwrap_or(Duration::ZERO),
            phase: AttachmentPhase::Attached { link },
        };
        made.state = EniState::InUse(attachment);
        made.public = at.public;
        self.enis.insert(made, since);
        self.announce_attached(eni);
    }

    /// The id of a new thing: the one given, or one drawn from the seed. Remembers its name.
    fn claim(
        &mut self,
        kind: &'static str,
        prefix: &str,
        name: &str,
        given: Option<String>,
    ) -> Result<String, ConfigError> {
        let well_formed = match kind {
            "VPC" => VpcId::is_well_formed,
            "subnet" => SubnetId::is_well_formed,
            "security group" => SecurityGroupId::is_well_formed,
            _ => InstanceId::is_well_formed,
        };
        let id = match given {
            Some(id) if !well_formed(&id) => return Err(ConfigError::MalformedId { kind, id }),
            Some(id) if self.names.iter().any(|(_, other)| *other == id) => {
                return Err(ConfigError::Duplicate { kind, name: id });
            }
            Some(id) => id,
            None => self.ids.id(prefix),
        };
        if self.names.insert((kind, name.to_owned()), id.clone()).is_some() {
            return Err(ConfigError::Duplicate { kind, name: name.to_owned() });
        }
        Ok(id)
    }

    /// The id behind a name of the topology.
    fn resolve(&self, referrer: &str, kind: &'static str, name: &str) -> Result<String, ConfigError> {
        self.names.get(&(kind, name.to_owned())).cloned().ok_or_else(|| ConfigError::Unknown {
            referrer: referrer.to_owned(),
            kind,
            name: name.to_owned(),
        })
    }
}
