// SPDX-License-Identifier: Apache-2.0
//! Codes and texts, one row a refusal. Codes: EC2 API reference, "Error codes". Texts: logs of the real service in public
//! issue reports, because clients match on them.

use crate::common::World;

/// What to call, and the code and the beginning of the text that must come.
type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, &'a str);

fn check(world: &mut World, rows: Vec<Row<'_>>) {
    for (action, params, code, text) in rows {
        let (got_code, got_text) = world.refused(action, &params);
        assert_eq!(got_code, code, "{action} {params:?}: {got_text}");
        assert!(got_text.starts_with(text), "{action} {params:?}: {got_text:?} does not start with {text:?}");
    }
}

#[test]
fn requests_that_are_no_requests_are_refused() {
    let mut world = World::new();
    check(
        &mut world,
        vec![
            ("DescribeEverything", vec![], "InvalidAction", "The action DescribeEverything is not valid"),
            ("DescribeSubnets", vec![("Version", "2014-01-01")], "NoSuchVersion", ""),
            ("AssociateTrunkInterface", vec![], "UnsupportedOperation", ""),
            ("AssignIpv6Addresses", vec![], "UnsupportedOperation", ""),
            ("DescribeSubnets", vec![("SubnetIds.1", "subnet-1")], "UnknownParameter", "The parameter SubnetIds.1"),
            (
                "DeleteNetworkInterface",
                vec![],
                "MissingParameter",
                "The request must contain the parameter NetworkInterfaceId",
            ),
            (
                "DescribeSubnets",
                vec![("DryRun", "true")],
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
            ),
        ],
    );
    assert_eq!(world.call("DescribeSubnets", &[("DryRun", "true")]).status, 412);
}

#[test]
fn creates_that_cannot_be_are_refused() {
    let mut world = World::new();
    let (a, group) = (world.subnet("a"), world.vpc.state()["security_groups"].clone());
    let id_of = |name: &str| {
        group.as_array().unwrap().iter().find(|g| g["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let elsewhere = id_of("elsewhere");
    let on = |params: &[(&'static str, &'static str)]| params.to_vec();
    let rows = vec![
        (
            on(&[("PrivateIpAddress", "10.0.1.10")]),
            "InvalidIPAddress.InUse",
            "The specified address is already in use.",
        ),
        (
            on(&[("PrivateIpAddress", "10.9.1.1")]),
            "InvalidParameterValue",
            "Address 10.9.1.1 does not fall within the subnet's address range",
        ),
        (
            on(&[("PrivateIpAddress", "10.0.1.1")]),
            "InvalidParameterValue",
            "Address 10.0.1.1 is in subnet's reserved address range",
        ),
        (
            on(&[("PrivateIpAddress", "10.0.1.255")]),
            "InvalidParameterValue",
            "Address 10.0.1.255 is in subnet's reserved address range",
        ),
        (on(&[("Ipv4PrefixCount", "1"), ("SecondaryPrivateIpAddressCount", "1")]), "InvalidParameterCombination", ""),
        (on(&[("InterfaceType", "branch")]), "InvalidParameterValue", ""),
        (
            on(&[("InterfaceType", "efa-only"), ("SecondaryPrivateIpAddressCount", "1")]),
            "InvalidParameterCombination",
            "",
        ),
        (on(&[("Ipv6AddressCount", "1")]), "UnsupportedOperation", ""),
        (on(&[("SecurityGroupId.1", "sg-0123456789abcdef0")]), "InvalidSecurityGroupID.NotFound", ""),
        (on(&[("Ipv4Prefix.1.Ipv4Prefix", "10.0.1.0/28")]), "InvalidParameterValue", ""),
        (on(&[("Ipv4Prefix.1.Ipv4Prefix", "10.0.1.8/28")]), "InvalidParameterValue", ""),
        (on(&[("Ipv4Prefix.1.Ipv4Prefix", "10.0.1.32/27")]), "InvalidParameterValue", ""),
    ];
    for (params, code, text) in rows {
        let mut all = vec![("SubnetId", a.as_str())];
        all.extend(params);
        check(&mut world, vec![("CreateNetworkInterface", all, code, text)]);
    }
    check(
        &mut world,
        vec![
            (
                "CreateNetworkInterface",
                vec![("SubnetId", a.as_str()), ("SecurityGroupId.1", &elsewhere)],
                "InvalidGroup.NotFound",
                "",
            ),
            ("CreateNetworkInterface", vec![("SubnetId", "subnet-0123456789abcdef0")], "InvalidSubnetID.NotFound", ""),
        ],
    );
}

#[test]
fn attaches_and_detaches_that_cannot_be_are_refused() {
    let mut world = World::new();
    let (large, far, foreign) =
        (world.instance("large"), world.create("other-zone", &[]), world.create("other-vpc", &[]));
    let (free, taken) = (world.create("a", &[]), world.primary("xen"));
    let on = large.as_str();
    let attach = |eni: &'_ str, index: &'static str| {
        vec![("NetworkInterfaceId", eni.to_owned()), ("InstanceId", on.to_owned()), ("DeviceIndex", index.to_owned())]
    };
    let in_use = format!("Interface: [{taken}] in use.");
    let index = format!("Instance '{large}' already has an interface attached at device index '0'.");
    let zones = "You may not attach a network interface to an instance if they are not in the same availability zone";
    for (params, code, text) in [
        (attach(taken.as_str(), "1"), "InvalidNetworkInterface.InUse", in_use.as_str()),
        (attach(far.as_str(), "1"), "InvalidParameterCombination", zones),
        (attach(foreign.as_str(), "1"), "InvalidParameterValue", ""),
        (attach(free.as_str(), "0"), "InvalidParameterValue", &index),
        (
            attach("eni-0123456789abcdef0", "1"),
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-0123456789abcdef0' does not exist",
        ),
        (attach("eni-x", "1"), "InvalidNetworkInterfaceId.Malformed", ""),
    ] {
        let params: Vec<(&str, &str)> = params.iter().map(|(n, v)| (*n, v.as_str())).collect();
        check(&mut world, vec![("AttachNetworkInterface", params, code, text)]);
    }
    let primary = world.primary("large");
    let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", primary.as_str())]);
    let attachment = crate::common::one(&body, "attachmentId");
    let never = "The network interface at device index 0 and networkCard index 0 cannot be detached.";
    check(
        &mut world,
        vec![
            ("DetachNetworkInterface", vec![("AttachmentId", &attachment)], "OperationNotPermitted", never),
            (
                "DetachNetworkInterface",
                vec![("AttachmentId", "eni-attach-0123456789abcdef0")],
                "InvalidAttachmentID.NotFound",
                "",
            ),
            (
                "DetachNetworkInterface",
                vec![("AttachmentId", "x")],
                "InvalidNetworkInterfaceAttachmentId.Malformed",
                "",
            ),
            (
                "DeleteNetworkInterface",
                vec![("NetworkInterfaceId", primary.as_str())],
                "InvalidParameterValue",
                &format!("Network interface '{primary}' is currently in use."),
            ),
            ("DescribeInstances", vec![("InstanceId.1", "i-0123456789abcdef0")], "InvalidInstanceID.NotFound", ""),
            ("DescribeInstanceTypes", vec![("InstanceType.1", "m5.huge")], "InvalidInstanceType", ""),
        ],
    );
}

#[test]
fn quotas_are_kept() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| {
        settings.quotas.network_interfaces = 3;
        settings.quotas.security_groups_per_interface = 1;
    });
    let (a, groups) = (world.subnet("a"), world.vpc.state()["security_groups"].clone());
    let vpc = world.vpc.instance_named("large").unwrap().vpc.to_string();
    let ids: Vec<String> = groups
        .as_array()
        .unwrap()
        .iter()
        .filter(|group| group["vpc"] == vpc.as_str())
        .map(|group| group["id"].as_str().unwrap().to_owned())
        .collect();
    let params = [("SubnetId", a.as_str()), ("SecurityGroupId.1", &ids[0]), ("SecurityGroupId.2", &ids[1])];
    assert_eq!(world.refused("CreateNetworkInterface", &params).0, "SecurityGroupsPerInterfaceLimitExceeded");
    world.create("a", &[]);
    assert_eq!(world.refused("CreateNetworkInterface", &params[..1]).0, "NetworkInterfaceLimitExceeded");
}
