// SPDX-License-Identifier: Apache-2.0
//! With every feature on, the daemon uses the rights that docs/kubernetes.md lists, all of them and no other.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use integration::kube_http::Right;
use integration::kube_http::resource::ENI_CONFIGS;
use integration::pods;
use serde_json::json;

use super::bed::Bed;

/// The table's rows: group, resource, verbs, each in backticks.
fn documented() -> BTreeSet<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rights = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, group, resource, verbs, _, _] = cells.as_slice() else { continue };
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        for verb in quoted(verbs) {
            let word = |cell: &str| quoted(cell).concat().trim_matches('"').to_owned();
            rights.insert((word(group), word(resource), verb));
        }
    }
    rights
}

#[test]
fn the_documented_rights_are_those_that_are_used() {
    let documented = documented();
    assert!(documented.len() >= 14, "{documented:?}");
    let mut bed = Bed::new();
    bed.change_node(json!({ "spec": { "taints": [{ "key": "enid.dev/starting", "effect": "NoExecute" }] } }));
    // One ENI besides the primary one, which has none of the pods then.
    let subnet = bed.topology.emulator.subnet_id("b");
    let eni_config = json!({ "metadata": { "name": "default" }, "spec": { "subnet": subnet } });
    bed.api.put(&ENI_CONFIGS, None, eni_config).unwrap();
    bed.open();
    bed.start(&[
        ("ANNOTATE_POD_IP", "true"),
        ("ENID_STARTUP_TAINT", "enid.dev/starting:NoExecute"),
        ("ENID_FULL_TAINT", "enid.dev/full:NoSchedule"),
        ("ENID_EXTENDED_RESOURCE", "enid.dev/address"),
        ("CLUSTER_NAME", "blue"),
        ("ENID_LEAKED_ENI_AGE", "10"),
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"),
        ("MAX_ENI", "2"),
        ("WARM_IP_TARGET", "1"),
    ]);
    bed.bind_pod("a", json!({}));
    let a = bed.node().sandbox("a").unwrap();
    let added = bed.node().runtime.add(&a).unwrap();
    bed.wait_annotation("a", &added.address.to_string());
    let _running = pods::start(bed.node(), 8, 4, &AtomicUsize::new(0)).unwrap();
    let tenth = bed.node().sandbox("tenth").unwrap();
    for _ in 0..2 {
        bed.node().runtime.add(&tenth).unwrap_err();
    }
    bed.wait_condition("False", super::bed::SOON);
    let used = bed.wait("all rights are used", std::time::Duration::from_secs(60), || {
        let used: BTreeSet<_> = bed
            .api
            .used()
            .into_iter()
            .map(|(group, plural, verb): Right| (group.to_owned(), plural, verb.to_owned()))
            .collect();
        if documented.is_subset(&used) { Ok(used) } else { Err(format!("{:?}", documented.difference(&used))) }
    });
    assert_eq!(used, documented);
}
