// SPDX-License-Identifier: Apache-2.0
//! The Describe calls: filters, pages, fields.

use crate::common::{World, all, one};

fn described(world: &mut World, filters: &[(&str, &str)]) -> usize {
    let mut params = Vec::new();
    for (at, (name, value)) in filters.iter().enumerate() {
        params.push((format!("Filter.{}.Name", at + 1), (*name).to_owned()));
        params.push((format!("Filter.{}.Value.1", at + 1), (*value).to_owned()));
    }
    let params: Vec<(&str, &str)> = params.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let body = world.ok("DescribeNetworkInterfaces", &params);
    all(&one(&body, "networkInterfaceSet"), "macAddress").len()
}

/// EC2 API reference, DescribeNetworkInterfaces, `Filter`.
#[test]
fn enis_are_filtered_as_the_api_reference_says() {
    let mut world = World::new();
    let tag = [
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "node.k8s.amazonaws.com/instance_id"),
        ("TagSpecification.1.Tag.1.Value", "i-0"),
        ("Description", "aws-K8S-i-0"),
        ("PrivateIpAddress", "10.0.1.60"),
    ];
    let eni = world.create("a", &tag);
    world.create("other-zone", &[]);
    let large = world.instance("large");
    let (mac, subnet) = (world.vpc.eni(&eni).unwrap().mac.to_string(), world.subnet("other-zone"));
    for (filters, count) in [
        (vec![], 4),
        (vec![("attachment.instance-id", large.as_str())], 1),
        (vec![("status", "available")], 2),
        (vec![("status", "in-use")], 2),
        (vec![("attachment.status", "attached")], 2),
        (vec![("attachment.device-index", "0")], 2),
        (vec![("attachment.delete-on-termination", "true")], 2),
        (vec![("availability-zone", "us-east-1b")], 1),
        (vec![("subnet-id", subnet.as_str())], 1),
        (vec![("tag-key", "node.k8s.amazonaws.com/instance_id")], 1),
        (vec![("tag:node.k8s.amazonaws.com/instance_id", "i-0")], 1),
        (vec![("tag:node.k8s.amazonaws.com/instance_id", "i-1")], 0),
        (vec![("tag:absent", "*")], 0),
        (vec![("description", "aws-K8S-*")], 1),
        (vec![("description", "AWS-k8s-*")], 0),
        (vec![("mac-address", mac.as_str())], 1),
        (vec![("private-ip-address", "10.0.1.6?")], 1),
        (vec![("addresses.private-ip-address", "10.0.1.10")], 1),
        (vec![("addresses.association.public-ip", "203.0.113.10")], 1),
        (vec![("network-interface-id", eni.as_str()), ("status", "available")], 1),
        (vec![("network-interface-id", eni.as_str()), ("status", "in-use")], 0),
        (vec![("interface-type", "interface")], 4),
        (vec![("source-dest-check", "false")], 0),
    ] {
        assert_eq!(described(&mut world, &filters), count, "{filters:?}");
    }
    let unknown = [("Filter.1.Name", "colour"), ("Filter.1.Value.1", "red")];
    for action in ["DescribeNetworkInterfaces", "DescribeInstances", "DescribeSubnets", "DescribeVpcs", "DescribeTags"]
    {
        assert_eq!(world.refused(action, &unknown).0, "InvalidParameterValue", "{action}");
    }
}

/// EC2 API reference, pagination: 5 to 1000 a page, not with ids.
#[test]
fn pages_show_every_eni_once() {
    let mut world = World::new();
    for _ in 0..10 {
        world.create("a", &[]);
    }
    let (mut seen, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut params = vec![("MaxResults", "5")];
        if let Some(token) = &token {
            params.push(("NextToken", token));
        }
        let body = world.ok("DescribeNetworkInterfaces", &params);
        let page = all(&body, "networkInterfaceId");
        assert!(page.len() <= 5);
        seen.extend(page);
        token = all(&body, "nextToken").into_iter().next();
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 12);
    seen.dedup();
    assert_eq!(seen.len(), 12);
    let eni = world.primary("large");
    let with_ids = [("MaxResults", "5"), ("NetworkInterfaceId.1", eni.as_str())];
    assert_eq!(world.refused("DescribeNetworkInterfaces", &with_ids).0, "InvalidParameterCombination");
    assert_eq!(world.refused("DescribeNetworkInterfaces", &[("MaxResults", "4")]).0, "InvalidParameterValue");
    assert_eq!(world.refused("DescribeInstanceTypes", &[("MaxResults", "101")]).0, "InvalidParameterValue");
    assert_eq!(world.refused("DescribeNetworkInterfaces", &[("NextToken", "made-up")]).0, "InvalidNextToken");
}

#[test]
fn of_several_missing_ids_only_the_first_is_named() {
    let mut world = World::new();
    let eni = world.primary("large");
    let params = [
        ("NetworkInterfaceId.1", eni.as_str()),
        ("NetworkInterfaceId.2", "eni-0123456789abcdef1"),
        ("NetworkInterfaceId.3", "eni-0123456789abcdef2"),
    ];
    let (code, text) = world.refused("DescribeNetworkInterfaces", &params);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(text, "The networkInterface ID 'eni-0123456789abcdef1' does not exist");
}

/// EC2 API reference, InstanceNetworkInterface: no tags, no zone, and no instance id in the attachment.
#[test]
fn describe_instances_shows_enis_in_the_order_of_their_index_and_less_of_each() {
    let mut world = World::new();
    let (two, one_) = (world.create("a", &[]), world.create("a", &[]));
    world.attach(&two, "large", 2);
    world.attach(&one_, "large", 1);
    let large = world.instance("large");
    let body = world.ok("DescribeInstances", &[("InstanceId.1", large.as_str())]);
    let enis = all(&one(&body, "networkInterfaceSet"), "networkInterfaceId");
    assert_eq!(enis, [world.primary("large").to_string(), one_.to_string(), two.to_string()]);
    let set = one(&body, "networkInterfaceSet");
    assert!(!set.contains("tagSet") && !set.contains("availabilityZone") && !set.contains("instanceId"), "{set}");
    assert_eq!(one(&body, "instanceType"), "m5.large");
    assert_eq!(one(&one(&body, "instanceState"), "name"), "running");
}

/// EC2 user guide, "IP addresses per network interface per instance type" and "Network cards".
#[test]
fn instance_types_show_their_network_limits() {
    let mut world = World::new();
    for (name, enis, cards, ipv4, hypervisor) in [
        ("m5.large", "3", "1", "10", Some("nitro")),
        ("m4.4xlarge", "8", "1", "30", Some("xen")),
        ("m5.metal", "15", "1", "50", None),
    ] {
        let body = world.ok("DescribeInstanceTypes", &[("InstanceType.1", name)]);
        assert_eq!(one(&body, "instanceType"), name);
        assert_eq!(one(&one(&body, "networkInfo"), "maximumNetworkInterfaces"), enis, "{name}");
        assert_eq!(one(&body, "maximumNetworkCards"), cards, "{name}");
        assert_eq!(one(&body, "ipv4AddressesPerInterface"), ipv4, "{name}");
        assert_eq!(all(&body, "hypervisor").first().map(String::as_str), hypervisor, "{name}");
    }
}

#[test]
fn subnets_vpcs_and_groups_are_described() {
    let mut world = World::new();
    let vpc = world.vpc.instance_named("large").unwrap().vpc.clone();
    let filters = [
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", vpc.as_str()),
        ("Filter.2.Name", "availability-zone"),
        ("Filter.2.Value.1", "us-east-1a"),
    ];
    let body = world.ok("DescribeSubnets", &filters);
    let mut blocks = all(&body, "cidrBlock");
    blocks.sort();
    assert_eq!(blocks, ["10.0.1.0/24", "10.0.2.0/28", "10.0.4.0/26"]);
    let body = world.ok("DescribeVpcs", &[("VpcId.1", vpc.as_str())]);
    assert_eq!(one(&body, "cidrBlock"), "10.0.0.0/16");
    assert_eq!(all(&one(&body, "cidrBlockAssociationSet"), "cidrBlock"), ["10.0.0.0/16", "100.64.0.0/16"]);
    let body = world.ok("DescribeSecurityGroups", &[("Filter.1.Name", "group-name"), ("Filter.1.Value.1", "node")]);
    assert_eq!(all(&body, "groupName"), ["node"]);
    assert_eq!(world.refused("DescribeVpcs", &[("VpcId.1", "vpc-0123456789abcdef0")]).0, "InvalidVpcID.NotFound");
}
