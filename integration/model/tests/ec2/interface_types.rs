// SPDX-License-Identifier: Apache-2.0
//! Network cards, EFA, EFA-only and trunk ENIs.

use vpc_model::{EniId, FabricEvent, InstanceId, InstanceState};

use crate::common::{World, all, one};

/// A world with an instance of this type besides; `interfaces` are launched with it.
fn world_with(instance_type: &str, interfaces: &serde_json::Value) -> (World, InstanceId) {
    let mut world = World::new();
    world.vpc.advance(world.now);
    world.vpc.change_settings(|settings| settings.throttle.enabled = false);
    let spec = serde_json::json!({
        "name": "node", "instance_type": instance_type, "subnet": "a", "network_interfaces": interfaces
    });
    let now = world.now;
    let id = world.vpc.launch(serde_json::from_value(spec).unwrap(), now).unwrap();
    (world, id)
}

impl World {
    /// The code of an attach, `None`: it succeeded.
    fn attach_at(&mut self, eni: &EniId, instance: &InstanceId, index: &str, card: Option<&str>) -> Option<String> {
        let mut params =
            vec![("NetworkInterfaceId", eni.as_str()), ("InstanceId", instance.as_str()), ("DeviceIndex", index)];
        params.extend(card.map(|card| ("NetworkCardIndex", card)));
        let body = self.call("AttachNetworkInterface", &params).body;
        all(&body, "Code").into_iter().next()
    }

    fn of_type(&mut self, interface_type: &str) -> EniId {
        self.create("a", &[("InterfaceType", interface_type)])
    }
}

#[test]
fn an_attach_without_a_card_trips_over_the_index_of_another_card() {
    let (mut world, node) = world_with("c6in.32xlarge", &serde_json::json!([]));
    let first = world.create("a", &[]);
    assert_eq!(world.attach_at(&first, &node, "1", Some("1")), None);
    let second = world.create("a", &[]);
    assert_eq!(world.attach_at(&second, &node, "1", None).as_deref(), Some("InvalidParameterValue"));
    assert_eq!(world.attach_at(&second, &node, "1", Some("0")), None);
}

#[test]
fn imds_says_which_card_an_eni_is_on() {
    let cards = serde_json::json!([{"network_card": 1, "device_index": 1, "secondary_addresses": 2}]);
    let (mut world, node) = world_with("c6in.32xlarge", &cards);
    let (eni, mac) = {
        let eni = world.vpc.enis().find(|eni| eni.attachment().is_some_and(|a| a.network_card == 1)).unwrap();
        (eni.id.clone(), eni.mac)
    };
    for (name, text) in [("network-card", "1"), ("network-card-index", "1"), ("device-number", "1")] {
        let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/{name}");
        let now = world.now;
        assert_eq!(world.vpc.imds(&node, &path, now).body, text, "{name}");
    }
    let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
    assert_eq!(one(&one(&body, "attachment"), "networkCardIndex"), "1");
    assert_eq!(world.secondaries(&eni).len(), 2);
    let link = world.vpc.advance(world.now);
    assert!(link.iter().any(|event| matches!(event, FabricEvent::EniAttached(it) if it.network_card == 1)), "{link:?}");
}

/// EC2 API reference, CreateNetworkInterface: EFA-only network interfaces do not support IP addresses. The guest has no
/// link of one, because there is no ENA device.
#[test]
fn an_efa_only_eni_has_no_address_and_no_link_but_takes_a_slot_of_its_card() {
    let efas = serde_json::json!([
        {"network_card": 0, "device_index": 1, "interface_type": "efa-only"},
        {"network_card": 1, "device_index": 0, "interface_type": "efa-only"},
    ]);
    let free = World::new().free("a");
    let (mut world, node) = world_with("p5.48xlarge", &efas);
    assert_eq!(world.free("a"), free - 1, "the primary address of the primary ENI");
    let links = world.vpc.advance(world.now);
    assert_eq!(links.len(), 1, "{links:?}");
    let (eni, mac) = {
        let eni = world.vpc.enis().find(|eni| eni.attachment().is_some_and(|a| a.network_card == 1)).unwrap();
        (eni.id.clone(), eni.mac)
    };
    let body = world.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", eni.as_str())]);
    assert_eq!((one(&body, "interfaceType").as_str(), one(&body, "privateIpAddressesSet").as_str()), ("efa-only", ""));
    assert!(all(&body, "privateIpAddress").is_empty());
    let base = format!("/latest/meta-data/network/interfaces/macs/{mac}");
    let now = world.now;
    assert_eq!(world.vpc.imds(&node, &format!("{base}/local-ipv4s"), now).status, 404);
    assert_eq!(world.vpc.imds(&node, &format!("{base}/interface-id"), now).body, eni.to_string());
    let id = ("NetworkInterfaceId", eni.as_str());
    let assign = world.refused("AssignPrivateIpAddresses", &[id, ("Ipv4PrefixCount", "1")]);
    assert_eq!(assign.0, "UnsupportedOperation");
    // p5.48xlarge: two ENIs a card, so that card 0 is full.
    let another = world.create("a", &[]);
    assert_eq!(world.attach_at(&another, &node, "2", Some("0")).as_deref(), Some("AttachmentLimitExceeded"));
}

/// EC2 user guide, "Elastic Fabric Adapter": supported types, and only while the instance is stopped.
#[test]
fn an_efa_comes_and_goes_only_while_the_instance_is_stopped() {
    let (mut world, node) = world_with("c5n.18xlarge", &serde_json::json!([]));
    let eni = world.of_type("efa");
    assert!(world.vpc.eni(&eni).unwrap().primary.is_some(), "an EFA carries packets too");
    assert_eq!(world.attach_at(&eni, &node, "1", Some("0")).as_deref(), Some("IncorrectInstanceState"));
    let now = world.now;
    world.vpc.set_instance_state(&node, InstanceState::Stopped, now).unwrap();
    assert_eq!(world.attach_at(&eni, &node, "1", Some("0")), None);
    let second = world.of_type("efa");
    assert_eq!(world.attach_at(&second, &node, "2", Some("0")).as_deref(), Some("AttachmentLimitExceeded"));
    world.vpc.set_instance_state(&node, InstanceState::Running, now).unwrap();
    world.pass(std::time::Duration::from_secs(1));
    let attachment = world.vpc.eni(&eni).unwrap().attachment().unwrap().id.to_string();
    assert_eq!(world.refused("DetachNetworkInterface", &[("AttachmentId", &attachment)]).0, "IncorrectInstanceState");
    let (mut world, node) = world_with("m5.large", &serde_json::json!([]));
    let eni = world.of_type("efa");
    assert_eq!(world.attach_at(&eni, &node, "1", Some("0")).as_deref(), Some("UnsupportedOperation"));
}

#[test]
fn a_trunk_takes_a_slot_and_needs_a_type_that_supports_trunks() {
    let (mut world, node) = world_with("m5.large", &serde_json::json!([]));
    let trunk = world.of_type("trunk");
    assert_eq!(world.attach_at(&trunk, &node, "1", Some("0")), None);
    let filter = [("Filter.1.Name", "interface-type"), ("Filter.1.Value.1", "trunk")];
    let body = world.ok("DescribeNetworkInterfaces", &filter);
    assert_eq!(one(&body, "networkInterfaceId"), trunk.to_string());
    let ordinary = (world.create("a", &[]), world.create("a", &[]));
    assert_eq!(world.attach_at(&ordinary.0, &node, "2", Some("0")), None);
    let code = world.attach_at(&ordinary.1, &node, "3", Some("0"));
    assert_eq!(code.as_deref(), Some("AttachmentLimitExceeded"), "m5.large: three ENIs, the trunk is one of them");
    let (mut world, node) = world_with("t3.large", &serde_json::json!([]));
    let trunk = world.of_type("trunk");
    assert_eq!(world.attach_at(&trunk, &node, "1", Some("0")).as_deref(), Some("UnsupportedOperation"));
}

#[test]
fn an_instance_cannot_be_launched_with_enis_that_it_cannot_hold() {
    let now = std::time::Duration::from_secs(100);
    for (instance_type, interface) in [
        ("m5.large", serde_json::json!({"device_index": 0})),
        ("m5.large", serde_json::json!({"network_card": 1, "device_index": 1})),
        ("m5.large", serde_json::json!({"device_index": 1, "interface_type": "efa"})),
        ("m5.large", serde_json::json!({"device_index": 1, "secondary_addresses": 10})),
    ] {
        let spec = serde_json::json!({
            "name": "node", "instance_type": instance_type, "subnet": "a", "network_interfaces": [interface]
        });
        let refused = World::new().vpc.launch(serde_json::from_value(spec.clone()).unwrap(), now);
        assert!(refused.is_err(), "{spec}");
    }
}

#[test]
fn describe_instance_types_says_how_many_efas_a_type_takes() {
    let mut world = World::new();
    let body = world.ok("DescribeInstanceTypes", &[("InstanceType.1", "p4d.24xlarge")]);
    assert_eq!((one(&body, "efaSupported").as_str(), one(&body, "maximumEfaInterfaces").as_str()), ("true", "4"));
    let body = world.ok("DescribeInstanceTypes", &[("InstanceType.1", "m5.large")]);
    assert_eq!(one(&body, "efaSupported"), "false");
}
