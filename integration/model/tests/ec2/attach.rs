// SPDX-License-Identifier: Apache-2.0
//! Attaching, detaching, and what time does in between.

use std::time::Duration;

use vpc_model::{AttachFault, AttachFaultKind, FabricEvent, InstanceState};

use crate::common::{World, all, one};

const SECOND: Duration = Duration::from_secs(1);

/// EC2 user guide, "IP addresses per network interface per instance type": m5.large holds 3 network interfaces. Text:
/// issue reports with logs of the real service.
#[test]
fn a_fourth_eni_on_an_m5_large_is_one_too_many() {
    let mut world = World::new();
    for index in 1..=2 {
        let eni = world.create("a", &[]);
        world.attach(&eni, "large", index);
    }
    let (eni, large) = (world.create("a", &[]), world.instance("large"));
    let params = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", large.as_str()), ("DeviceIndex", "3")];
    let (code, text) = world.refused("AttachNetworkInterface", &params);
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(text, "Interface count 4 exceeds the limit for m5.large");
}

/// EC2 user guide, "Network cards": p4d.24xlarge has 4 cards of 15 interfaces each, and device indexes are per card.
#[test]
fn each_network_card_has_its_own_indexes_and_limit() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| settings.throttle.enabled = false);
    let spec = serde_json::json!({"name": "cards", "instance_type": "p4d.24xlarge", "subnet": "a"});
    let now = world.now;
    let instance = world.vpc.launch(serde_json::from_value(spec).unwrap(), now).unwrap();
    let mut attach = |card: &str, index: &str| {
        let eni = world.create("a", &[]);
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("InstanceId", instance.as_str()),
            ("DeviceIndex", index),
            ("NetworkCardIndex", card),
        ];
        let body = world.call("AttachNetworkInterface", &params).body;
        all(&body, "Code").into_iter().next()
    };
    for index in 0..15 {
        assert_eq!(attach("1", &index.to_string()), None, "card 1, index {index}");
    }
    assert_eq!(attach("1", "15").as_deref(), Some("AttachmentLimitExceeded"));
    assert_eq!(attach("0", "1"), None, "card 0 has room");
    assert_eq!(attach("4", "1").as_deref(), Some("InvalidParameterValue"), "there is no card 4");
}

#[test]
fn an_eni_goes_through_its_states_at_their_times() {
    let mut world = World::new();
    world.vpc.advance(world.now);
    world.vpc.change_settings(|settings| {
        settings.latencies.attach_ms = 5_000;
        settings.latencies.link_ms = 1_000;
        settings.latencies.detach_ms = 2_000;
    });
    let eni = world.create("a", &[("SecondaryPrivateIpAddressCount", "2")]);
    let attachment = world.attach(&eni, "large", 1);
    let mut log = Vec::new();
    for second in 0..=10 {
        if second == 8 {
            world.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
        }
        let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
        let attached = all(&body, "attachment").iter().map(|a| one(a, "status")).collect::<String>();
        let events = world.vpc.advance(world.now);
        let event = events.iter().map(|event| match event {
            FabricEvent::EniAttached(attached) => format!("link with {}", attached.secondary_addresses.len()),
            FabricEvent::EniDetached { .. } => "no link".to_owned(),
            other => format!("{other:?}"),
        });
        log.push((second, one(&body, "status"), attached, event.collect::<String>()));
        world.now += SECOND;
    }
    let row = |second, status: &str, attachment: &str, event: &str| {
        (second, status.to_owned(), attachment.to_owned(), event.to_owned())
    };
    assert_eq!(
        log,
        [
            row(0, "in-use", "attaching", ""),
            row(1, "in-use", "attaching", ""),
            row(2, "in-use", "attaching", ""),
            row(3, "in-use", "attaching", ""),
            row(4, "in-use", "attaching", ""),
            row(5, "in-use", "attached", ""),
            row(6, "in-use", "attached", "link with 2"),
            row(7, "in-use", "attached", ""),
            row(8, "in-use", "detaching", ""),
            row(9, "in-use", "detaching", ""),
            row(10, "available", "", "no link"),
        ]
    );
}

#[test]
fn deadlines_are_told_beforehand() {
    let mut world = World::new();
    world.vpc.advance(world.now);
    assert_eq!(world.vpc.next_deadline(), None);
    world.vpc.change_settings(|settings| settings.latencies.attach_ms = 5_000);
    let eni = world.create("a", &[]);
    world.attach(&eni, "large", 1);
    assert_eq!(world.vpc.next_deadline(), Some(world.now + 5 * SECOND));
    world.pass(5 * SECOND);
    assert_eq!(world.vpc.next_deadline(), None);
}

/// EC2 API reference, DetachNetworkInterface; a client repeats Delete until the detach is done.
#[test]
fn an_eni_is_deleted_only_after_it_is_detached_and_gets_a_new_attachment_id_next_time() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| settings.latencies.detach_ms = 2_000);
    let eni = world.create("a", &[]);
    let first = world.attach(&eni, "large", 1);
    world.ok("DetachNetworkInterface", &[("AttachmentId", &first)]);
    assert_eq!(
        world.refused("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]).0,
        "InvalidParameterValue"
    );
    assert_eq!(world.refused("DetachNetworkInterface", &[("AttachmentId", &first)]).0, "IncorrectState");
    world.pass(2 * SECOND);
    assert_eq!(world.refused("DetachNetworkInterface", &[("AttachmentId", &first)]).0, "InvalidAttachmentID.NotFound");
    let second = world.attach(&eni, "large", 1);
    assert_ne!(first, second);
    world.ok("DetachNetworkInterface", &[("AttachmentId", &second)]);
    world.pass(2 * SECOND);
    world.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]);
}

#[test]
fn an_attach_can_be_made_to_show_no_link_or_never_to_end() {
    for (kind, status, links) in [
        (AttachFaultKind::NoLink, "attached", 0),
        (AttachFaultKind::NeverAttached, "attaching", 0),
        (AttachFaultKind::LateLink(60_000), "attached", 0),
    ] {
        let mut world = World::new();
        world.vpc.advance(world.now);
        world.vpc.order_attach_fault(AttachFault { instance: None, count: Some(1), kind });
        let eni = world.create("a", &[]);
        world.attach(&eni, "large", 1);
        world.now += 30 * SECOND;
        assert_eq!(world.vpc.advance(world.now).len(), links, "{kind:?}");
        let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
        assert_eq!(one(&one(&body, "attachment"), "status"), status, "{kind:?}");
        let healthy = world.create("a", &[]);
        world.attach(&healthy, "large", 2);
        assert_eq!(world.vpc.advance(world.now).len(), 1, "the fault met one attach only");
    }
}

/// EC2 user guide, "Elastic network interfaces": an attached ENI has delete-on-termination false until it is set, and only
/// then goes with its instance.
#[test]
fn the_end_of_an_instance_takes_only_enis_that_are_to_go_with_it() {
    let mut world = World::new();
    let (goes, stays) = (world.create("a", &[]), world.create("a", &[]));
    let attachment = world.attach(&goes, "large", 1);
    world.attach(&stays, "large", 2);
    world.ok(
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", goes.as_str()),
            ("Attachment.AttachmentId", &attachment),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    );
    let (large, primary) = (world.instance("large"), world.primary("large"));
    world.vpc.set_instance_state(&large, InstanceState::Terminated, world.now).unwrap();
    assert!(world.vpc.eni(&goes).is_none() && world.vpc.eni(&primary).is_none());
    let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", stays.as_str())]);
    assert_eq!(one(&body, "status"), "available");
    let params = [("NetworkInterfaceId", stays.as_str()), ("InstanceId", large.as_str()), ("DeviceIndex", "1")];
    assert_eq!(world.refused("AttachNetworkInterface", &params).0, "IncorrectState");
}

#[test]
fn an_eni_with_more_addresses_than_the_type_holds_is_not_attached() {
    let mut world = World::new();
    let (eni, large) = (world.create("a", &[("SecondaryPrivateIpAddressCount", "10")]), world.instance("large"));
    let params = [("NetworkInterfaceId", eni.as_str()), ("InstanceId", large.as_str()), ("DeviceIndex", "1")];
    assert_eq!(world.refused("AttachNetworkInterface", &params).0, "PrivateIpAddressLimitExceeded");
    world.attach(&eni, "xen", 1);
}

#[test]
fn a_modify_changes_one_attribute_of_the_current_attachment() {
    let mut world = World::new();
    let eni = world.primary("large");
    let id = ("NetworkInterfaceId", eni.as_str());
    let both = [id, ("Description.Value", "x"), ("SourceDestCheck.Value", "false")];
    assert_eq!(world.refused("ModifyNetworkInterfaceAttribute", &both).0, "InvalidParameterCombination");
    assert_eq!(world.refused("ModifyNetworkInterfaceAttribute", &[id]).0, "MissingParameter");
    let other =
        [id, ("Attachment.AttachmentId", "eni-attach-0123456789abcdef0"), ("Attachment.DeleteOnTermination", "true")];
    assert_eq!(world.refused("ModifyNetworkInterfaceAttribute", &other).0, "InvalidAttachmentID.NotFound");
    world.vpc.advance(world.now);
    world.ok("ModifyNetworkInterfaceAttribute", &[id, ("SourceDestCheck.Value", "false")]);
    let told = world.vpc.advance(world.now);
    assert_eq!(told, [FabricEvent::SourceDestCheckSet { eni: eni.clone(), enabled: false }]);
    let body = world.ok("DescribeNetworkInterfaceAttribute", &[id, ("Attribute", "sourceDestCheck")]);
    assert_eq!(one(&one(&body, "sourceDestCheck"), "value"), "false");
}

/// EC2 API reference, ModifyNetworkInterfaceAttribute: the groups named replace the whole set.
#[test]
fn security_groups_are_replaced_whole_and_the_fabric_and_imds_hear_of_it() {
    let mut world = World::new();
    let eni = world.primary("large");
    let id = ("NetworkInterfaceId", eni.as_str());
    let groups = world.vpc.state()["security_groups"].clone();
    let of = |name: &str| {
        let mut all = groups.as_array().unwrap().iter();
        all.find(|group| group["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (node, elsewhere) = (of("node"), of("elsewhere"));
    let default = groups
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["name"] == "default" && g["vpc"] == *world.vpc.eni(&eni).unwrap().vpc.as_str());
    let default = default.unwrap()["id"].as_str().unwrap().to_owned();
    world.vpc.advance(world.now);
    world.ok("ModifyNetworkInterfaceAttribute", &[id, ("SecurityGroupId.1", &default)]);
    let told = world.vpc.advance(world.now);
    let expected = vec![default.as_str().into()];
    assert_eq!(told, [FabricEvent::SecurityGroupsSet { eni: eni.clone(), security_groups: expected }]);
    let (instance, mac, now) = (world.instance("large"), world.vpc.eni(&eni).unwrap().mac, world.now);
    let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/security-group-ids");
    assert_eq!(world.vpc.imds(&instance, &path, now).body, default);
    world.ok("ModifyNetworkInterfaceAttribute", &[id, ("SecurityGroupId.1", &default), ("SecurityGroupId.2", &node)]);
    let (code, _) = world.refused("ModifyNetworkInterfaceAttribute", &[id, ("SecurityGroupId.1", &elsewhere)]);
    assert_eq!(code, "InvalidGroup.NotFound", "a group of another VPC");
    assert_eq!(world.vpc.eni(&eni).unwrap().security_groups.len(), 2);
    world.vpc.change_settings(|settings| settings.quotas.security_groups_per_interface = 1);
    let both = [id, ("SecurityGroupId.1", default.as_str()), ("SecurityGroupId.2", node.as_str())];
    assert_eq!(world.refused("ModifyNetworkInterfaceAttribute", &both).0, "SecurityGroupsPerInterfaceLimitExceeded");
}
