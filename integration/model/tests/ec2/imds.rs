// SPDX-License-Identifier: Apache-2.0
//! What IMDS says. Paths and forms: EC2 user guide, "Instance metadata categories".

use std::time::Duration;

use vpc_model::ImdsFault;

use crate::common::World;

impl World {
    pub(crate) fn imds(&mut self, instance: &str, path: &str) -> (u16, String) {
        let (id, now) = (self.instance(instance), self.now);
        let answer = self.vpc.imds(&id, path, now);
        (answer.status, answer.body)
    }

    pub(crate) fn meta(&mut self, instance: &str, path: &str) -> String {
        let (status, body) = self.imds(instance, &format!("/latest/meta-data/{path}"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

#[test]
fn an_instance_reads_its_own_facts() {
    let mut world = World::new();
    let (id, eni) = (world.instance("large"), world.primary("large"));
    let mac = world.meta("large", "mac");
    assert_eq!(mac, world.vpc.eni(&eni).unwrap().mac.to_string());
    let base = format!("network/interfaces/macs/{mac}");
    for (path, text) in [
        ("instance-id", id.to_string()),
        ("instance-type", "m5.large".to_owned()),
        ("local-ipv4", "10.0.1.10".to_owned()),
        ("public-ipv4", "203.0.113.10".to_owned()),
        ("placement/availability-zone", "us-east-1a".to_owned()),
        ("placement/availability-zone-id", "use1-az1".to_owned()),
        ("placement/region", "us-east-1".to_owned()),
        ("network/interfaces/macs/", format!("{mac}/")),
        ("network/interfaces/macs", format!("{mac}/")),
        (&format!("{base}/interface-id"), eni.to_string()),
        (&format!("{base}/device-number"), "0".to_owned()),
        (&format!("{base}/network-card"), "0".to_owned()),
        (&format!("{base}/subnet-ipv4-cidr-block"), "10.0.1.0/24".to_owned()),
        (&format!("{base}/vpc-ipv4-cidr-block"), "10.0.0.0/16".to_owned()),
        (&format!("{base}/vpc-ipv4-cidr-blocks"), "10.0.0.0/16\n100.64.0.0/16".to_owned()),
        (&format!("{base}/ipv4-associations/203.0.113.10"), "10.0.1.10".to_owned()),
        ("iam/security-credentials/", "node".to_owned()),
    ] {
        assert_eq!(world.meta("large", path), text, "{path}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&world.imds("large", "/latest/dynamic/instance-identity/document").1).unwrap();
    assert_eq!(document["instanceId"], id.as_str());
    assert_eq!(document["region"], "us-east-1");
    assert_eq!(document["privateIp"], "10.0.1.10");
    let credentials: serde_json::Value =
        serde_json::from_str(&world.meta("large", "iam/security-credentials/node")).unwrap();
    assert_eq!(credentials["Code"], "Success");
    assert_eq!(credentials["Type"], "AWS-HMAC");
}

#[test]
fn the_first_address_is_the_primary_one_and_missing_lists_are_404() {
    let mut world = World::new();
    let eni = world.primary("large");
    let base = format!("/latest/meta-data/network/interfaces/macs/{}", world.vpc.eni(&eni).unwrap().mac);
    assert_eq!(world.imds("large", &format!("{base}/ipv4-prefix")).0, 404);
    assert_eq!(world.imds("large", &format!("{base}/ipv6s")).0, 404);
    assert_eq!(world.imds("large", "/latest/meta-data/spot/instance-action").0, 404);
    let id = ("NetworkInterfaceId", eni.as_str());
    world.ok("AssignPrivateIpAddresses", &[id, ("PrivateIpAddress.1", "10.0.1.5")]);
    world.ok("AssignPrivateIpAddresses", &[id, ("Ipv4Prefix.1", "10.0.1.32/28")]);
    assert_eq!(world.imds("large", &format!("{base}/local-ipv4s")).1, "10.0.1.10\n10.0.1.5");
    assert_eq!(world.imds("large", &format!("{base}/ipv4-prefix")).1, "10.0.1.32/28");
}

/// Issue reports of the reference (amazon-vpc-cni-k8s #1148, #3019, #1340): new ENIs and addresses are missing for a while,
/// gone ones stay for a while.
#[test]
fn imds_lags_behind_ec2() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| {
        settings.latencies.attach_ms = 5_000;
        settings.lags.imds_ms = 2_000;
    });
    let eni = world.create("a", &[]);
    let attachment = world.attach(&eni, "large", 1);
    let count = |world: &mut World| world.meta("large", "network/interfaces/macs/").lines().count();
    for (seconds, macs) in [(4, 1), (2, 1), (1, 2)] {
        world.pass(Duration::from_secs(seconds));
        assert_eq!(count(&mut world), macs);
    }
    world.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    world.pass(Duration::from_secs(1));
    world.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", eni.as_str())]);
    assert_eq!(count(&mut world), 2, "the deleted ENI is still listed");
    world.pass(Duration::from_secs(2));
    assert_eq!(count(&mut world), 1);
}

#[test]
fn the_imds_of_one_node_can_lag_more_than_that_of_another() {
    let mut world = World::new();
    world.vpc.change_settings(|settings| {
        settings.lags.imds_ms = 1_000;
        settings.lags.imds_by_instance_ms.insert("xen".to_owned(), 10_000);
    });
    for name in ["large", "xen"] {
        let eni = world.primary(name);
        world.ok(
            "AssignPrivateIpAddresses",
            &[("NetworkInterfaceId", eni.as_str()), ("SecondaryPrivateIpAddressCount", "2")],
        );
    }
    let shown = |world: &mut World, name: &str| {
        let mac = world.meta(name, "mac");
        world.imds(name, &format!("/latest/meta-data/network/interfaces/macs/{mac}/local-ipv4s")).1.lines().count()
    };
    for (seconds, large, xen) in [(0, 1, 1), (1, 3, 1), (8, 3, 1), (1, 3, 3)] {
        world.pass(Duration::from_secs(seconds));
        assert_eq!((shown(&mut world, "large"), shown(&mut world, "xen")), (large, xen), "{seconds} s on");
    }
}

#[test]
fn a_fault_of_imds_meets_its_path_only() {
    let mut world = World::new();
    let fault =
        ImdsFault { instance: None, path_prefix: "/latest/meta-data/network/".to_owned(), status: 500, count: Some(1) };
    world.vpc.order_imds_fault(fault);
    assert_eq!(world.imds("large", "/latest/meta-data/mac").0, 200);
    assert_eq!(world.imds("large", "/latest/meta-data/network/interfaces/macs/").0, 500);
    assert_eq!(world.imds("large", "/latest/meta-data/network/interfaces/macs/").0, 200);
}
