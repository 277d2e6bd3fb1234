// SPDX-License-Identifier: Apache-2.0
//! What the chart renders, at a real API server: it takes every object, and the rights of its ClusterRole are enough, with pods annotated
//! and a start-up taint. Not here: the Role for the Lease and the rights for custom networking (`kubernetes/rights`, `deploy/rights`).

use std::collections::BTreeSet;

use integration::cluster::{Asked, Cluster};
use integration::topology::{NodeSpec, Subnet};
use serde_json::{Value, json};

use crate::bed::{Bed, DEPLOYMENTS, PATIENCE, PODS, SMALL, SMALL_HOLDS};
use crate::charts::{object, rendered};
use crate::workloads::{deployment, pod};

const TAINT: &str = "enid.dev/starting";

#[test]
fn the_api_server_takes_every_object_that_the_chart_renders() {
    let cluster = Cluster::start(vec![NodeSpec::new("n1", "m5.large", Subnet::A)]).unwrap();
    let all = "features: {annotatePodIP: true, startupTaint: true, customNetworking: true, podENI: true}";
    for values in ["{}", all, "takeover: {mode: perNode}", "handBack: {nodes: [n1]}"] {
        let objects = rendered(values);
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
        let create = ["create", "--dry-run=server", "-f", "-", "-o", "name"];
        if let Err(said) = cluster.kubectl(&create, &list) {
            only_what_is_newer(&cluster, &said.to_string());
        }
        let taken = cluster.kubectl(&[&create[..], &["--validate=false"]].concat(), &list).unwrap();
        assert_eq!(taken.lines().count(), objects.len(), "{values}: {taken}");
    }
    // And keeps them, the custom kinds so that objects of them can be made.
    let objects = rendered(all);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
    cluster.kubectl(&["create", "--validate=false", "-f", "-"], &list).unwrap();
    for name in ["eniconfigs.crd.k8s.amazonaws.com", "cninodes.vpcresources.k8s.aws"] {
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{name}")], "").unwrap();
    }
    let daemon_set = cluster.api().get("/apis/apps/v1/namespaces/kube-system/daemonsets/enid").unwrap();
    let rendered_one = object(&objects, "DaemonSet", "enid");
    let lost = lost(rendered_one, &daemon_set, "");
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The chart is for Kubernetes 1.25 and later; an older API server has no field for the namespaces of an anti-affinity, and takes
/// that of the pod, which is the one that is meant.
fn only_what_is_newer(cluster: &Cluster, said: &str) {
    assert!(cluster.minor() < 25, "{said}");
    let unknown: Vec<_> = said.split("unknown field ").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
    assert!(!unknown.is_empty() && unknown.iter().all(|field| *field == "namespaceSelector"), "{said}");
}

/// What was sent and is not there any more, by path: fields that the API server does not know.
fn lost(sent: &Value, there: &Value, path: &str) -> Vec<String> {
    match sent {
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| lost(value, &there[name], &format!("{path}/{name}"))).collect()
        }
        Value::Array(items) => {
            let each = items.iter().enumerate();
            each.flat_map(|(at, value)| lost(value, &there[at], &format!("{path}/{at}"))).collect()
        }
        other if other == there => Vec::new(),
        other => vec![format!("{path}: {other}, not {there}")],
    }
}

#[test]
fn conditions_events_annotations_and_a_start_up_taint_need_the_rights_of_the_charts_cluster_role_and_no_other() {
    let mut bed = Bed::new();
    for node in bed.cluster.nodes() {
        let taint = json!({ "spec": { "taints": [{ "key": TAINT, "effect": "NoSchedule" }] } });
        bed.cluster.api().merge(&format!("/api/v1/nodes/{node}"), &taint).unwrap();
    }
    // Without rights it says so, and gives addresses all the same.
    bed.start(&[("ENID_STARTUP_TAINT", &format!("{TAINT}:NoSchedule")), ("IP_COOLDOWN_PERIOD", "5")]);
    for node in bed.cluster.nodes() {
        bed.wait_ready(&node);
        bed.wait(&format!("{node} names the missing right"), PATIENCE, || {
            let shown = kubernetes(&bed, &node);
            if shown.contains("403") { Ok(()) } else { Err(shown) }
        });
    }
    let refused = bed.cluster.asked_by_daemons().unwrap();
    assert!(refused.iter().all(|asked| asked.code == 403), "an account without rights got something: {refused:?}");

    bed.grant();
    bed.wait("the start-up taint is gone", PATIENCE, || {
        let nodes = bed.cluster.api().list("/api/v1/nodes").map_err(|error| error.to_string())?;
        let left: Vec<_> = nodes.iter().filter(|node| node["spec"]["taints"].to_string().contains(TAINT)).collect();
        if left.is_empty() { Ok(()) } else { Err(bed.cluster.nodes().iter().map(|it| kubernetes(&bed, it)).collect()) }
    });
    use_every_feature(&bed);
    for node in bed.cluster.nodes() {
        bed.wait(&format!("{node} has no complaint"), PATIENCE, || {
            let shown = kubernetes(&bed, &node);
            if shown.contains("403") { Err(shown) } else { Ok(()) }
        });
    }
    // A watch is written down when it ends.
    for node in bed.cluster.nodes() {
        assert!(bed.cluster.topology.node_mut(&node).stop(), "SIGTERM ends it well");
    }
    let granted = granted();
    bed.wait("what is used is what the chart gives", PATIENCE, || {
        let asked = bed.cluster.asked_by_daemons().map_err(|error| error.to_string())?;
        let used: BTreeSet<_> = asked.iter().filter(|asked| asked.code < 400).map(right).collect();
        if used == granted { Ok(()) } else { Err(format!("{used:?} and {granted:?}")) }
    });
}

/// A pod is annotated; a full node has a condition and events.
fn use_every_feature(bed: &Bed) {
    bed.create(DEPLOYMENTS, &deployment("web", 2));
    for pod in bed.wait_pods("web", 2) {
        bed.wait(&format!("{} is annotated", pod.name), PATIENCE, || {
            let shown = bed.cluster.api().get(&format!("{PODS}/{}", pod.name)).map_err(|error| error.to_string())?;
            let annotation = &shown["metadata"]["annotations"]["vpc.amazonaws.com/pod-ips"];
            let wanted = pod.address.unwrap().to_string();
            if *annotation == json!(wanted) { Ok(()) } else { Err(format!("{annotation}, not {wanted}")) }
        });
    }
    for number in 0..SMALL_HOLDS {
        bed.create(PODS, &pod("crowd", &format!("crowd-{number}"), SMALL));
    }
    bed.wait_condition(SMALL, "EnidAddressesAvailable", "False");
    // The count of an event that is there is a patch.
    bed.wait("an event is written again", PATIENCE, || {
        let asked = bed.cluster.asked_by_daemons().map_err(|error| error.to_string())?;
        let again = asked.iter().any(|it| it.resource == "events" && it.verb == "patch" && it.code == 200);
        if again { Ok(()) } else { Err(format!("{asked:?}")) }
    });
}

/// What the daemon of a node says of the API server.
fn kubernetes(bed: &Bed, node: &str) -> String {
    bed.cluster.topology.node(node).status().map_or_else(|error| error.to_string(), |it| it["kubernetes"].to_string())
}

fn right(asked: &Asked) -> String {
    format!("{}/{} {}", asked.group, asked.resource, asked.verb)
}

/// The rights of the chart's ClusterRole.
fn granted() -> BTreeSet<String> {
    let objects = rendered(crate::bed::VALUES);
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in object(&objects, "ClusterRole", "enid")["rules"].as_array().unwrap() {
        for (group, resource) in list(&rule["apiGroups"])
            .iter()
            .flat_map(|group| list(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource)))
        {
            rights.extend(list(&rule["verbs"]).iter().map(|verb| format!("{group}/{resource} {verb}")));
        }
    }
    rights
}
