// SPDX-License-Identifier: Apache-2.0
//! Pods in subnets of their own: whose addresses and groups they have, whom they reach, and what the node's role must allow.

use std::net::SocketAddrV4;

use integration::fabric::INTERNET_HOST;
use integration::pods::one_of_each;
use integration::probe::{EchoServer, reach_both};
use integration::topology::SECOND_GROUP;
use serde_json::json;
use vpc_model::Policy;

use super::bed::Bed;

#[test]
fn pods_are_in_the_eniconfig_s_subnet_and_groups_and_reach_each_other_the_nodes_and_the_internet() {
    let mut bed = Bed::new(2);
    bed.configure("default", json!({ "subnet": bed.subnet("one"), "securityGroups": [SECOND_GROUP] }));
    bed.start(&[]);
    // More than one ENI has room for, on each node.
    let pods = [bed.pods("n1", 12), bed.pods("n2", 12)];
    for (node, pods) in ["n1", "n2"].into_iter().zip(&pods) {
        assert!(pods.iter().all(|pod| bed.block("one").contains(&pod.added.address) && !pod.on_primary()));
        let enis = bed.topology.enis(node).unwrap();
        assert_eq!((enis.len(), enis[0].secondary.len()), (3, 0), "the node's own ENI has nothing for pods: {enis:?}");
        let wanted = ("one".to_owned(), vec![SECOND_GROUP.to_owned()]);
        assert_eq!(bed.secondary(node), [wanted.clone(), wanted]);
    }
    let outside = EchoServer::start(bed.topology.fabric.internet()).unwrap();
    let [near, far] = pods.each_ref().map(|pods| one_of_each(pods));
    let host = bed.topology.instance("n1").unwrap();
    for from in &near {
        for to in near.iter().filter(|to| to.added.address != from.added.address).chain(&far) {
            assert_eq!(to.reached_from(&from.sandbox.netns).unwrap(), from.added.address, "pod to pod");
            assert_eq!(from.reached_from(&to.sandbox.netns).unwrap(), to.added.address, "and back");
        }
        assert_eq!(from.reached_from(&bed.node().netns).unwrap(), host.address, "a probe of the own node");
        let seen = reach_both(&from.sandbox.netns, SocketAddrV4::new(INTERNET_HOST, outside.port())).unwrap();
        assert_eq!(Some(seen), host.public_address, "by the node's address");
    }
    assert_eq!(bed.topology.fabric.drops().unwrap().to_string(), "nothing dropped");
    for node in ["n1", "n2"] {
        bed.topology.node(node).check().unwrap();
    }
    let text = bed.node().ask(&["status"]).unwrap();
    let shown = text.lines().any(|line| line.contains("ENIConfig `default`") && line.contains(SECOND_GROUP));
    assert!(shown && text.contains("usable"), "{text}");
}

#[test]
fn of_three_subnets_with_the_first_full_the_next_takes_the_pods_and_the_last_is_left_alone() {
    let mut bed = Bed::new(1);
    let subnets = json!([
        { "id": bed.subnet("tiny"), "order": 0 }, { "id": bed.subnet("two"), "order": 1 },
        { "tags": { "Name": "one" }, "order": 2 },
    ]);
    bed.configure("default", json!({ "subnets": subnets }));
    bed.start(&[("MINIMUM_IP_TARGET", "1")]);
    bed.wait("an ENI is in the first", || match bed.subnets("n1") {
        subnets if subnets == ["tiny"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    bed.topology.emulator.exhaust(&bed.subnet("tiny"));
    bed.topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    let pods = bed.pods("n1", 8);
    assert_eq!(bed.subnets("n1"), ["tiny", "two"]);
    let in_two = pods.iter().filter(|pod| bed.block("two").contains(&pod.added.address)).count();
    assert!(in_two >= 5, "{in_two}");
    for pod in one_of_each(&pods) {
        assert_eq!(pod.reached_from(&bed.node().netns).unwrap(), bed.topology.instance("n1").unwrap().address);
    }
}

/// The policies that we ship name no subnet and no tag key but the cluster's.
#[test]
fn a_node_that_may_do_only_what_the_shipped_policy_allows_is_denied_nothing() {
    let mut bed = Bed::new(1);
    let (instance, vpc) = bed.topology.emulator.with_model(|vpc, _| {
        let instance = vpc.instance_named("n1").unwrap();
        (instance.id.to_string(), instance.vpc.to_string())
    });
    let tag =
        [("ResourceId.1", instance.as_str()), ("Tag.1.Key", "kubernetes.io/cluster/blue"), ("Tag.1.Value", "owned")];
    assert!(bed.ec2("CreateTags", &tag));
    let policies = ["pool", "tag-existing"].map(|name| {
        let path = format!("{}/../deploy/iam/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        Policy::parse(&text.replace("CLUSTER_NAME", "blue").replace("VPC_ID", &vpc)).unwrap()
    });
    let allowed = policies.into_iter().fold(Policy::default(), Policy::and);
    bed.topology.emulator.with_model(|vpc, _| {
        vpc.forget_calls();
        vpc.allow_only(allowed);
    });
    bed.configure("default", json!({ "subnet": bed.subnet("one"), "securityGroups": [SECOND_GROUP] }));
    bed.start(&[("CLUSTER_NAME", "blue")]);
    bed.pods("n1", 12);
    // Its groups follow the object, which needs a right of its own.
    let default = bed.topology.emulator.with_model(|vpc, _| {
        let primary = vpc.enis().find(|eni| eni.attachment().is_some_and(|at| at.device_index == 0)).unwrap();
        primary.security_groups[0].to_string()
    });
    bed.configure("default", json!({ "subnet": bed.subnet("one"), "securityGroups": [default, SECOND_GROUP] }));
    bed.wait("every ENI of the ENIConfig has both groups", || match bed.secondary("n1") {
        enis if enis.len() == 2 && enis.iter().all(|(_, groups)| groups.len() == 2) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let denied: Vec<String> = bed.topology.emulator.with_model(|vpc, _| {
        let denied = vpc.calls().filter(|call| call.code.as_deref() == Some("UnauthorizedOperation"));
        denied.map(|call| call.action.clone()).collect()
    });
    assert!(denied.is_empty(), "{denied:?}");
}
