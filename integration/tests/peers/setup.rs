// SPDX-License-Identifier: Apache-2.0
//! The VPC that all calls are about: in Enid's topology, and made by calls at the peers.
//!
//! ```text
//! vpc 10.9.0.0/16, us-east-1a: choice 10.9.1.0/24   addresses are the emulator's to choose
//!                              named  10.9.2.0/24   every address is named by a call
//!                              tiny   10.9.4.0/28   11 addresses
//!                              pages  10.9.5.0/24   for answers in pages
//!                  us-east-1b: zone_b 10.9.3.0/24
//! other 10.8.0.0/16            away   10.8.1.0/24
//! ```
//!
//! Two subnets, so that a random choice never takes an address that a later call names; a test holds the calls to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use integration::imds_http::QueryClient;
use serde_json::{Value, json};

const VPCS: [(&str, &str); 2] = [("vpc", "10.9.0.0/16"), ("other", "10.8.0.0/16")];
const SUBNETS: [(&str, &str, &str, &str); 6] = [
    ("choice", "vpc", "10.9.1.0/24", "us-east-1a"),
    ("named", "vpc", "10.9.2.0/24", "us-east-1a"),
    ("zone_b", "vpc", "10.9.3.0/24", "us-east-1b"),
    ("tiny", "vpc", "10.9.4.0/28", "us-east-1a"),
    ("pages", "vpc", "10.9.5.0/24", "us-east-1a"),
    ("away", "other", "10.8.1.0/24", "us-east-1a"),
];
const GROUPS: [(&str, &str); 7] = [
    ("group", "vpc"),
    ("group2", "vpc"),
    ("group3", "vpc"),
    ("group4", "vpc"),
    ("group5", "vpc"),
    ("group6", "vpc"),
    ("group_away", "other"),
];
/// All in subnet `named`, with group `group`. m5.large: 3 ENIs of 10 addresses; m4.large: Xen; p4d.24xlarge: 4 cards.
const INSTANCES: [(&str, &str, &str); 4] = [
    ("node", "m5.large", "10.9.2.10"),
    ("victim", "m5.large", "10.9.2.11"),
    ("xen", "m4.large", "10.9.2.12"),
    ("cards", "p4d.24xlarge", "10.9.2.13"),
];
const TAG: (&str, &str) = ("suite", "peers");

/// The addresses that are named here.
pub(crate) fn addresses() -> BTreeSet<Ipv4Addr> {
    let blocks = VPCS.map(|(_, block)| block).into_iter().chain(SUBNETS.map(|(_, _, block, _)| block));
    let blocks = blocks.filter_map(|block| block.split('/').next());
    blocks.chain(INSTANCES.map(|(_, _, address)| address)).map(|text| text.parse().unwrap()).collect()
}

/// Enid's: the topology, and what is called how in it.
pub(crate) fn topology() -> (Value, BTreeMap<String, String>) {
    let mut names = BTreeMap::new();
    let mut id = |kind: &str, name: &str| {
        let id = format!("{kind}-0aaaaaaaaaaaaa{:03x}", names.len());
        names.insert(name.to_owned(), id.clone());
        id
    };
    let tags = json!({ TAG.0: TAG.1 });
    let vpcs: Vec<Value> = VPCS
        .map(|(name, block)| json!({ "name": name, "id": id("vpc", name), "cidr_blocks": [block], "tags": tags }))
        .into();
    let subnets: Vec<Value> = SUBNETS
        .map(|(name, vpc, block, zone)| {
            json!({ "name": name, "id": id("subnet", name), "vpc": vpc, "cidr_block": block,
                    "availability_zone": zone, "tags": tags })
        })
        .into();
    let groups: Vec<Value> =
        GROUPS.map(|(name, vpc)| json!({ "name": name, "id": id("sg", name), "vpc": vpc, "tags": tags })).into();
    let instances: Vec<Value> = INSTANCES
        .map(|(name, instance_type, address)| {
            json!({ "name": name, "id": id("i", name), "instance_type": instance_type, "subnet": "named",
                    "private_address": address, "security_groups": ["group"], "tags": tags })
        })
        .into();
    let settings = json!({ "throttle": { "enabled": false } });
    let topology = json!({ "vpcs": vpcs, "subnets": subnets, "security_groups": groups, "instances": instances,
                           "settings": settings });
    (topology, names)
}

/// A peer's: the same, made by calls.
pub(crate) async fn make(client: &QueryClient) -> BTreeMap<String, String> {
    let mut maker = Maker { client, names: BTreeMap::new() };
    for (name, block) in VPCS {
        maker.make(&VPC, name, &[("CidrBlock", block)]).await;
        // As Kubernetes on EC2 wants it, and as Enid's VPCs are: ENIs have private DNS names.
        let params = [("VpcId", maker.names[name].as_str()), ("EnableDnsHostnames.Value", "true")];
        client.call("ModifyVpcAttribute", &params).await.unwrap();
    }
    for (name, vpc, block, zone) in SUBNETS {
        let vpc = maker.names[vpc].clone();
        let params = [("VpcId", vpc.as_str()), ("CidrBlock", block), ("AvailabilityZone", zone)];
        maker.make(&SUBNET, name, &params).await;
    }
    for (name, vpc) in GROUPS {
        let vpc = maker.names[vpc].clone();
        let params = [("VpcId", vpc.as_str()), ("GroupName", name), ("GroupDescription", name)];
        maker.make(&GROUP, name, &params).await;
    }
    let (subnet, group) = (maker.names["named"].clone(), maker.names["group"].clone());
    for (name, instance_type, address) in INSTANCES {
        let params = [
            ("ImageId", "ami-12345678"),
            ("InstanceType", instance_type),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", &subnet),
            ("SecurityGroupId.1", &group),
            ("PrivateIpAddress", address),
            ("TagSpecification.1.Tag.2.Key", "Name"),
            ("TagSpecification.1.Tag.2.Value", name),
        ];
        maker.make(&INSTANCE, name, &params).await;
    }
    maker.names
}

/// What a peer can be told to make.
struct Kind {
    action: &'static str,
    /// The element of the answer whose first one has the new id.
    id: &'static str,
    /// What it is called in tag specifications.
    tagged: &'static str,
}

const VPC: Kind = Kind { action: "CreateVpc", id: "vpcId", tagged: "vpc" };
const SUBNET: Kind = Kind { action: "CreateSubnet", id: "subnetId", tagged: "subnet" };
const GROUP: Kind = Kind { action: "CreateSecurityGroup", id: "groupId", tagged: "security-group" };
const INSTANCE: Kind = Kind { action: "RunInstances", id: "instanceId", tagged: "instance" };

struct Maker<'a> {
    client: &'a QueryClient,
    names: BTreeMap<String, String>,
}

impl Maker<'_> {
    /// One thing, tagged.
    async fn make(&mut self, kind: &Kind, name: &str, params: &[(&str, &str)]) {
        let Kind { action, id, tagged } = *kind;
        let mut all = params.to_vec();
        all.extend([
            ("TagSpecification.1.ResourceType", tagged),
            ("TagSpecification.1.Tag.1.Key", TAG.0),
            ("TagSpecification.1.Tag.1.Value", TAG.1),
        ]);
        let answer = self.client.call(action, &all).await.unwrap();
        let document = roxmltree::Document::parse(&answer).unwrap();
        let found = document.descendants().find(|node| node.tag_name().name() == id).and_then(|node| node.text());
        self.names.insert(name.to_owned(), found.unwrap_or_else(|| panic!("no {id} in {answer}")).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[test]
    fn no_call_names_an_address_that_an_emulator_may_choose() {
        let chosen = SUBNETS.iter().filter(|(name, ..)| !matches!(*name, "named" | "pages"));
        for (name, _, block, _) in chosen {
            let block: ipnet::Ipv4Net = block.parse().unwrap();
            for address in calls::named_addresses(&calls::parse(crate::CALLS).unwrap()) {
                assert!(!block.contains(&address), "{address} is of {name}");
            }
        }
    }
}
