// SPDX-License-Identifier: Apache-2.0
//! The shipped policies, call by call: what is the cluster's may be done, the same to what is another's may not.

use vpc_model::Policy;

use crate::common::{World, one};

const POOL: &str = include_str!("../../../../deploy/iam/pool.json");
const TAG_EXISTING: &str = include_str!("../../../../deploy/iam/tag-existing.json");
const READ_ONLY: &str = include_str!("../../../../deploy/iam/read-only.json");
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";

/// A world with two instances, of which `large` is the cluster's.
struct Bed {
    world: World,
    instance: String,
    subnet: String,
    vpc: String,
}

impl Bed {
    fn new() -> Self {
        let mut world = World::new();
        let vpc = world.vpc.instance_named("large").unwrap().vpc.to_string();
        let (instance, subnet) = (world.instance("large").to_string(), world.subnet("a").to_string());
        let key = "kubernetes.io/cluster/blue";
        world.ok("CreateTags", &[("ResourceId.1", &instance), ("Tag.1.Key", key), ("Tag.1.Value", "owned")]);
        Self { world, instance, subnet, vpc }
    }

    fn allow_only(&mut self, documents: &[&str]) {
        let read =
            |text: &&str| Policy::parse(&text.replace("CLUSTER_NAME", "blue").replace("VPC_ID", &self.vpc)).unwrap();
        let policy = documents.iter().map(read).fold(Policy::default(), Policy::and);
        self.world.vpc.allow_only(policy);
    }

    fn eni(&mut self, cluster: Option<&str>) -> String {
        let subnet = self.subnet.clone();
        one(&self.world.ok("CreateNetworkInterface", &creation(&subnet, cluster)), "networkInterfaceId")
    }

    fn denied(&mut self, action: &str, params: &[(&str, &str)]) {
        let (code, text) = self.world.refused(action, params);
        assert_eq!(code, "UnauthorizedOperation", "{action} {params:?}: {text}");
        assert!(text.contains("on resource: "), "{text}");
    }
}

/// Parameters of an ENI that is tagged for a cluster; `None`: not tagged.
fn creation<'a>(subnet: &'a str, cluster: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let tag = |cluster| {
        [
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", CLUSTER_TAG),
            ("TagSpecification.1.Tag.1.Value", cluster),
        ]
    };
    [("SubnetId", subnet)].into_iter().chain(cluster.into_iter().flat_map(tag)).collect()
}

#[test]
fn an_eni_is_made_with_the_clusters_tag_in_its_vpc_or_not_at_all() {
    let mut bed = Bed::new();
    bed.allow_only(&[POOL]);
    bed.eni(Some("blue"));
    let (here, elsewhere) = (bed.subnet.clone(), bed.world.subnet("other-vpc").to_string());
    for (subnet, cluster) in [(&here, Some("green")), (&here, None), (&elsewhere, Some("blue"))] {
        bed.denied("CreateNetworkInterface", &creation(subnet, cluster));
    }
}

#[test]
fn the_life_of_the_clusters_own_eni_is_allowed_and_each_step_of_anothers_is_not() {
    let mut bed = Bed::new();
    let (foreign, instance) = (bed.eni(Some("green")), bed.instance.clone());
    bed.allow_only(&[POOL]);
    let own = bed.eni(Some("blue"));
    let attach = |eni| [("NetworkInterfaceId", eni), ("InstanceId", instance.as_str()), ("DeviceIndex", "1")];
    bed.denied("AttachNetworkInterface", &attach(&foreign));
    let attachment = one(&bed.world.ok("AttachNetworkInterface", &attach(&own)), "attachmentId");
    bed.world.pass(std::time::Duration::from_secs(60));
    let modify = [
        ("NetworkInterfaceId", own.as_str()),
        ("Attachment.AttachmentId", attachment.as_str()),
        ("Attachment.DeleteOnTermination", "true"),
    ];
    bed.world.ok("ModifyNetworkInterfaceAttribute", &modify);
    bed.denied(
        "ModifyNetworkInterfaceAttribute",
        &[("NetworkInterfaceId", &foreign), ("SourceDestCheck.Value", "false")],
    );
    bed.world.ok("AssignPrivateIpAddresses", &[("NetworkInterfaceId", &own), ("SecondaryPrivateIpAddressCount", "1")]);
    bed.world.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    bed.world.pass(std::time::Duration::from_secs(60));
    bed.denied("DeleteNetworkInterface", &[("NetworkInterfaceId", &foreign)]);
    bed.world.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &own)]);
}

#[test]
fn no_eni_is_attached_to_an_instance_that_is_not_the_clusters() {
    let mut bed = Bed::new();
    bed.allow_only(&[POOL]);
    let own = bed.eni(Some("blue"));
    let other = bed.world.instance("xen").to_string();
    bed.denied("AttachNetworkInterface", &[("NetworkInterfaceId", &own), ("InstanceId", &other), ("DeviceIndex", "1")]);
}

#[test]
fn tags_are_added_later_only_with_the_policy_for_it_and_only_ours() {
    let mut bed = Bed::new();
    let eni = bed.eni(None);
    let tag = |key| [("ResourceId.1", eni.as_str()), ("Tag.1.Key", key), ("Tag.1.Value", "blue")];
    bed.allow_only(&[POOL]);
    bed.denied("CreateTags", &tag(CLUSTER_TAG));
    bed.allow_only(&[POOL, TAG_EXISTING]);
    bed.world.ok("CreateTags", &tag(CLUSTER_TAG));
    bed.denied("CreateTags", &tag("owner"));
    let instance = bed.instance.clone();
    bed.denied("CreateTags", &[("ResourceId.1", &instance), ("Tag.1.Key", CLUSTER_TAG), ("Tag.1.Value", "blue")]);
}

#[test]
fn who_may_only_read_changes_nothing_and_a_dry_run_says_so() {
    let mut bed = Bed::new();
    let eni = bed.eni(Some("blue"));
    bed.allow_only(&[READ_ONLY]);
    bed.world.ok("DescribeSubnets", &[]);
    bed.denied("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni), ("DryRun", "true")]);
    bed.denied("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", &eni), ("PrivateIpAddress.1", "10.0.1.99")]);
}
