// SPDX-License-Identifier: Apache-2.0
//! Pods of a Deployment: where their addresses come from, whom they reach, how they see each other, and what is left of them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use integration::runtimes::CALL;
use integration::topology::READY;
use serde_json::json;

use crate::bed::{Bed, DEPLOYMENTS, PATIENCE, Pod, SERVICES};
use crate::workloads::{WEB, deployment, service};

/// Of each node's pods the first.
fn one_each(pods: &[Pod]) -> [&Pod; 2] {
    ["n1", "n2"].map(|node| pods.iter().find(|pod| pod.node == node).unwrap())
}

#[test]
fn pods_of_a_deployment_have_addresses_of_their_nodes_enis_and_see_each_others() {
    let bed = Bed::started(&[]);
    bed.create(DEPLOYMENTS, &deployment("web", 8));
    let pods = bed.wait_pods("web", 8);
    for pod in &pods {
        assert!(bed.is_of_its_node(pod), "{pod:?}: {:?}", bed.cluster.topology.enis(&pod.node).unwrap());
        let own = bed.runs(pod, "ip -4 -o address show dev eth0");
        assert!(own.contains(&format!("inet {}/32", pod.address.unwrap())), "{own}");
    }
    assert_eq!(pods.iter().filter(|pod| pod.node == "n1").count(), 4, "{pods:?}");
    for from in one_each(&pods) {
        for to in pods.iter().filter(|to| to.name != from.name) {
            let seen = bed.wait(&format!("{} answers", to.name), READY, || bed.asks(from, to.address.unwrap(), WEB));
            assert_eq!(seen, (from.address.unwrap(), to.name.clone()), "{} asks {}", from.node, to.node);
        }
    }
}

#[test]
fn a_cluster_ip_service_answers_by_real_kube_proxy_from_a_pod_on_each_node() {
    let bed = Bed::started(&[]);
    bed.create(DEPLOYMENTS, &deployment("web", 4));
    bed.create(DEPLOYMENTS, &deployment("asker", 2));
    bed.create(SERVICES, &service("web"));
    let shown = bed.cluster.api().get(&format!("{SERVICES}/web")).unwrap();
    let address: Ipv4Addr = shown["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let (servers, askers) = (bed.wait_pods("web", 4), bed.wait_pods("asker", 2));
    for asker in one_each(&askers) {
        // The API server's own Service: by kube-proxy to an address of the VPC, outside of both nodes.
        bed.runs(asker, "nc -w 3 10.96.0.1 443 </dev/null");
        bed.wait("the Service answers", READY, || bed.asks(asker, address, 80));
        let mut answered = BTreeSet::new();
        for _ in 0..40 {
            let (seen, server) = bed.asks(asker, address, 80).unwrap_or_else(|said| panic!("{said}"));
            assert_eq!(seen, asker.address.unwrap(), "a server sees the pod, not its node");
            answered.insert(server);
        }
        let on = |node: &str| servers.iter().any(|it| it.node == node && answered.contains(&it.name));
        assert!(on("n1") && on("n2"), "{} gets answers of {answered:?} only", asker.node);
    }
}

#[test]
fn deleted_pods_addresses_rest_and_come_back_and_nothing_is_left_on_the_host() {
    let bed = Bed::started(&[("IP_COOLDOWN_PERIOD", "20")]);
    bed.create(DEPLOYMENTS, &deployment("web", 6));
    let pods = bed.wait_pods("web", 6);
    for node in ["n1", "n2"] {
        assert_eq!(bed.number(node, "/pool/allocated"), Ok(3));
    }
    bed.cluster.api().merge(&format!("{DEPLOYMENTS}/web"), &json!({ "spec": { "replicas": 0 } })).unwrap();
    for node in ["n1", "n2"] {
        bed.wait(&format!("the addresses of {node} rest"), PATIENCE, || {
            let numbers = (bed.number(node, "/pool/allocated")?, bed.number(node, "/pool/cooling")?);
            if numbers == (0, 3) { Ok(()) } else { Err(format!("allocated and cooling: {numbers:?}")) }
        });
    }
    bed.wait("the pods are gone", PATIENCE, || {
        let left = bed.pods("web");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    for (node, agents) in ["n1", "n2"].into_iter().zip(&bed.cluster.agents) {
        bed.wait(&format!("the addresses of {node} are free"), PATIENCE, || {
            let cooling = bed.number(node, "/pool/cooling")?;
            if cooling == 0 { Ok(()) } else { Err(format!("{cooling} cooling")) }
        });
        let left = bed.cluster.topology.node(node).leftovers().unwrap().of_pods();
        assert!(left.is_empty(), "{node}: {left}");
        bed.wait(&format!("no sandbox is left on {node}"), PATIENCE, || {
            let sandboxes = agents.containerd.client.sandboxes(CALL).map_err(|error| error.to_string())?;
            if sandboxes.is_empty() { Ok(()) } else { Err(format!("{sandboxes:?}")) }
        });
    }
    // And they serve again.
    bed.cluster.api().merge(&format!("{DEPLOYMENTS}/web"), &json!({ "spec": { "replicas": 6 } })).unwrap();
    let again = bed.wait_pods("web", 6);
    assert!(
        again.iter().all(|pod| bed.is_of_its_node(pod) && pods.iter().all(|old| old.name != pod.name)),
        "{again:?}"
    );
}
