// SPDX-License-Identifier: Apache-2.0
//! A small VPC, calls, and a reader of element texts.

use std::net::Ipv4Addr;
use std::time::Duration;

use vpc_model::{Caller, EniId, InstanceId, Response, SubnetId, Vpc, VpcConfig};

/// Two zones, three subnets, a Nitro type with 3 x 10 slots, a Xen type with 8 x 30, the smallest type of all.
pub(crate) const TOPOLOGY: &str = r#"{
    "vpcs": [
        {"name": "v", "cidr_blocks": ["10.0.0.0/16", "100.64.0.0/16"]},
        {"name": "w", "cidr_blocks": ["10.9.0.0/16"]}
    ],
    "subnets": [
        {"name": "a", "vpc": "v", "cidr_block": "10.0.1.0/24"},
        {"name": "tiny", "vpc": "v", "cidr_block": "10.0.2.0/28"},
        {"name": "other-zone", "vpc": "v", "cidr_block": "10.0.3.0/24", "availability_zone": "us-east-1b"},
        {"name": "other-vpc", "vpc": "w", "cidr_block": "10.9.1.0/24"},
        {"name": "quarter", "vpc": "v", "cidr_block": "10.0.4.0/26"}
    ],
    "security_groups": [{"name": "node", "vpc": "v"}, {"name": "elsewhere", "vpc": "w"}],
    "instances": [
        {"name": "large", "instance_type": "m5.large", "subnet": "a", "private_address": "10.0.1.10",
         "public_address": "203.0.113.10", "security_groups": ["node"]},
        {"name": "xen", "instance_type": "m4.4xlarge", "subnet": "a", "private_address": "10.0.1.11"}
    ]
}"#;

pub(crate) struct World {
    pub(crate) vpc: Vpc,
    pub(crate) now: Duration,
}

impl World {
    pub(crate) fn new() -> Self {
        let config: VpcConfig = serde_json::from_str(TOPOLOGY).unwrap();
        Self { vpc: Vpc::new(config, 7).unwrap(), now: Duration::from_secs(100) }
    }

    pub(crate) fn call(&mut self, action: &str, params: &[(&str, &str)]) -> Response {
        let params: Vec<_> = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.vpc.ec2(&Caller::default(), action, &params, self.now)
    }

    /// The body of a call that must succeed.
    pub(crate) fn ok(&mut self, action: &str, params: &[(&str, &str)]) -> String {
        let answer = self.call(action, params);
        assert_eq!(answer.status, 200, "{action} {params:?}: {}", answer.body);
        answer.body
    }

    /// Code and text of a call that must be refused.
    pub(crate) fn refused(&mut self, action: &str, params: &[(&str, &str)]) -> (String, String) {
        let answer = self.call(action, params);
        assert_ne!(answer.status, 200, "{action} {params:?} was not refused: {}", answer.body);
        (one(&answer.body, "Code"), one(&answer.body, "Message"))
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.vpc.advance(self.now);
    }

    pub(crate) fn instance(&self, name: &str) -> InstanceId {
        self.vpc.instance_named(name).unwrap().id.clone()
    }

    pub(crate) fn subnet(&self, name: &str) -> SubnetId {
        self.vpc.subnet_named(name).unwrap().id.clone()
    }

    pub(crate) fn free(&self, subnet: &str) -> u32 {
        self.vpc.subnet_named(subnet).unwrap().free_addresses()
    }

    /// The primary ENI of an instance.
    pub(crate) fn primary(&self, name: &str) -> EniId {
        let instance = self.instance(name);
        let is_it =
            |eni: &&vpc_model::Eni| eni.attachment().is_some_and(|a| a.instance == instance && a.device_index == 0);
        self.vpc.enis().find(is_it).unwrap().id.clone()
    }

    /// A new ENI in a subnet with these further parameters.
    pub(crate) fn create(&mut self, subnet: &str, params: &[(&str, &str)]) -> EniId {
        let subnet = self.subnet(subnet);
        let mut all = vec![("SubnetId", subnet.as_str())];
        all.extend(params);
        EniId(one(&self.ok("CreateNetworkInterface", &all), "networkInterfaceId"))
    }

    /// Attaches an ENI; gives the attachment id.
    pub(crate) fn attach(&mut self, eni: &EniId, instance: &str, index: u32) -> String {
        let (instance, index) = (self.instance(instance), index.to_string());
        let params = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance.as_str()), ("DeviceIndex", &index)];
        one(&self.ok("AttachNetworkInterface", &params), "attachmentId")
    }

    /// Addresses of an ENI that are not its primary one, as DescribeNetworkInterfaces shows them.
    pub(crate) fn secondaries(&mut self, eni: &EniId) -> Vec<Ipv4Addr> {
        let body = self.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
        let set = one(&body, "privateIpAddressesSet");
        let items = all(&set, "item");
        let secondary = items.iter().filter(|item| one(item, "primary") == "false");
        secondary.map(|item| one(item, "privateIpAddress").parse().unwrap()).collect()
    }
}

/// What is between the first `<name>` and its end.
pub(crate) fn one(body: &str, name: &str) -> String {
    all(body, name).into_iter().next().unwrap_or_else(|| panic!("no <{name}> in {body}"))
}

/// What is between each outermost `<name>` and its end.
pub(crate) fn all(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = body;
    while let Some((_, after)) = rest.split_once(&open) {
        let (mut depth, mut at) = (1, 0);
        while depth > 0 {
            let (next_open, next_close) = (after[at..].find(&open), after[at..].find(&close).expect("an end"));
            if next_open.is_some_and(|open| open < next_close) {
                depth += 1;
                at += next_open.unwrap() + open.len();
            } else {
                depth -= 1;
                at += next_close + close.len();
            }
        }
        found.push(after[..at - close.len()].to_owned());
        rest = &after[at..];
    }
    found
}
