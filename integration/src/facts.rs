// SPDX-License-Identifier: Apache-2.0
//! What EC2 knows of an instance and its ENIs, read from the model: for nodes to boot by and for tests to compare with.
//!
//! Looks only. An instance is named as the topology names it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::Vpc;

/// What EC2 knows of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// `i-…`
    pub id: String,
    /// Such as `m5.large`.
    pub instance_type: String,
    /// Primary address of its primary ENI.
    pub address: Ipv4Addr,
    /// The public address it is mapped to.
    pub public_address: Option<Ipv4Addr>,
    /// Block of its subnet.
    pub subnet: Ipv4Net,
    /// ENIs that its type allows.
    pub max_enis: usize,
    /// IPv4 addresses of an ENI, the primary one counted.
    pub addresses_per_eni: usize,
}

/// What EC2 knows of an ENI of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniFacts {
    /// `eni-…`
    pub id: String,
    /// Position on the instance.
    pub device_index: u32,
    /// Primary address.
    pub primary: Ipv4Addr,
    /// Secondary addresses, oldest first.
    pub secondary: Vec<Ipv4Addr>,
    /// /28 prefixes, oldest first.
    pub prefixes: Vec<Ipv4Net>,
}

/// The instance called `name`; `None`: there is none.
#[must_use]
pub fn instance(vpc: &Vpc, name: &str) -> Option<InstanceFacts> {
    let instance = vpc.instance_named(name)?;
    let primary = vpc.enis().find(|eni| {
        eni.attachment().is_some_and(|at| at.instance == instance.id && at.device_index == 0 && at.network_card == 0)
    })?;
    let subnet = vpc.subnets().find(|subnet| subnet.id == instance.subnet)?;
    Some(InstanceFacts {
        id: instance.id.as_str().to_owned(),
        instance_type: instance.instance_type.clone(),
        address: primary.primary?,
        public_address: primary.public,
        subnet: subnet.cidr_block(),
        max_enis: usize::try_from(instance.limits.max_enis_on_default_card()).ok()?,
        addresses_per_eni: usize::from(instance.limits.ipv4_per_eni),
    })
}

/// The ENIs of the instance called `name` that have addresses, by device index; `None`: there is no such instance.
#[must_use]
pub fn enis(vpc: &Vpc, name: &str) -> Option<Vec<EniFacts>> {
    let instance = vpc.instance_named(name)?;
    let attached = vpc.enis().filter_map(|eni| {
        let attachment = eni.attachment().filter(|attachment| attachment.instance == instance.id)?;
        Some(EniFacts {
            id: eni.id.as_str().to_owned(),
            device_index: attachment.device_index,
            primary: eni.primary?,
            secondary: eni.secondaries.clone(),
            prefixes: eni.prefixes.clone(),
        })
    });
    let mut enis: Vec<EniFacts> = attached.collect();
    enis.sort_by_key(|eni| eni.device_index);
    Some(enis)
}
