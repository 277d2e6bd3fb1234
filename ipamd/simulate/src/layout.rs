// SPDX-License-Identifier: Apache-2.0
//! VPCs to simulate on: so many nodes of a type in subnets of a size.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use vpc_model::{ConfigError, InstanceSpec, Settings, SubnetSpec, Vpc, VpcConfig, VpcSpec};

/// What a VPC is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Types of the instances, one a node.
    pub instance_types: Vec<String>,
    /// How many subnets, all in one zone; nodes take turns.
    pub subnets: u32,
    /// Prefix length of each subnet, 16 to 28.
    pub subnet_length: u8,
}

impl Layout {
    /// One node in a subnet of its own.
    #[must_use]
    pub fn one(instance_type: &str, subnet_length: u8) -> Self {
        Self { instance_types: vec![instance_type.to_owned()], subnets: 1, subnet_length }
    }

    /// The VPC, its clock at zero. Nodes are `n0`, `n1`, …, subnets `s0`, `s1`, … in 10.0.0.0/8.
    ///
    /// # Errors
    /// An instance type that is not in the table, or more subnets than fit.
    pub fn build(&self, seed: u64) -> Result<Vpc, ConfigError> {
        // Each subnet in a /16 of its own, so that addresses tell the subnet.
        let block = |index: u32| Ipv4Net::new_assert([10, u8::try_from(index).unwrap_or(u8::MAX), 0, 0].into(), 16);
        let subnets = (0..self.subnets).map(|index| SubnetSpec {
            name: format!("s{index}"),
            id: None,
            vpc: "v".to_owned(),
            cidr_block: Ipv4Net::new_assert(block(index).addr(), self.subnet_length),
            availability_zone: None,
            cidr_reservations: Vec::new(),
            tags: BTreeMap::new(),
        });
        let instances = self.instance_types.iter().zip(0_u32..).map(|(kind, index)| InstanceSpec {
            name: format!("n{index}"),
            id: None,
            instance_type: kind.clone(),
            limits_of: None,
            subnet: format!("s{}", index % self.subnets.max(1)),
            private_address: None,
            public_address: None,
            network_interfaces: Vec::new(),
            security_groups: Vec::new(),
            role: None,
            tags: BTreeMap::new(),
        });
        let vpc = VpcSpec {
            name: "v".to_owned(),
            id: None,
            cidr_blocks: (0..self.subnets).map(block).collect(),
            tags: BTreeMap::new(),
        };
        let config = VpcConfig {
            region: "us-east-1".to_owned(),
            account_id: "111122223333".to_owned(),
            epoch_unix_seconds: None,
            vpcs: vec![vpc],
            subnets: subnets.collect(),
            security_groups: Vec::new(),
            instances: instances.collect(),
            settings: Settings::default(),
        };
        Vpc::new(config, seed)
    }
}
