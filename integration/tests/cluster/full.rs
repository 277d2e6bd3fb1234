// SPDX-License-Identifier: Apache-2.0
//! A node with more pods than addresses.

use serde_json::Value;

use crate::bed::{Bed, PATIENCE, PODS, SMALL, SMALL_HOLDS};
use crate::workloads::pod;

/// More than it holds.
const SURPLUS: usize = 3;

#[test]
fn surplus_pods_of_a_full_node_wait_with_the_reason_and_the_node_stays_ready() {
    let bed = Bed::started(&[("IP_COOLDOWN_PERIOD", "5")]);
    let since = bed.ready_since();
    for number in 0..SMALL_HOLDS + SURPLUS {
        bed.create(PODS, &pod("crowd", &format!("crowd-{number}"), SMALL));
    }
    bed.wait("the node is full", PATIENCE, || {
        let ready = bed.pods("crowd").iter().filter(|pod| pod.is_ready).count();
        if ready == SMALL_HOLDS { Ok(()) } else { Err(format!("{ready} are ready: {:?}", bed.warnings())) }
    });
    let condition = bed.wait_condition(SMALL, "EnidAddressesAvailable", "False");
    assert_eq!(condition["reason"], "NodeFull", "{condition}");

    let waiting: Vec<_> = bed.pods("crowd").into_iter().filter(|pod| !pod.is_ready).map(|pod| pod.name).collect();
    assert_eq!(waiting.len(), SURPLUS);
    for name in &waiting {
        let shown = bed.cluster.api().get(&format!("{PODS}/{name}")).unwrap();
        assert_eq!(
            shown["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating",
            "{shown}"
        );
        bed.wait(&format!("{name} has both events"), PATIENCE, || {
            let warnings = bed.warnings();
            let about = |reason: &str| {
                let start = format!("{name} {reason}: ");
                warnings.iter().any(|warning| warning.starts_with(&start) && warning.contains("NodeFull"))
            };
            if about("FailedCreatePodSandBox") && about("NodeFull") { Ok(()) } else { Err(format!("{warnings:#?}")) }
        });
    }
    let kubelets: Vec<_> = bed.warnings().into_iter().filter(|it| it.contains("FailedCreatePodSandBox")).collect();
    // All came at once: the first may be refused while addresses are under way for those before them.
    let says_why = |it: &String| {
        it.contains("(9 of 9 addresses in use") != it.contains("or goes to an ADD that came before")
            && it.contains(" of 9 ")
    };
    assert!(kubelets.iter().all(says_why), "the numbers are there, and are true: {kubelets:#?}");

    // One makes place for one.
    let first = bed.pods("crowd").into_iter().find(|pod| pod.is_ready).unwrap();
    bed.cluster.api().delete(&format!("{PODS}/{}", first.name)).unwrap();
    bed.wait("a pod that waited runs", PATIENCE, || {
        let pods = bed.pods("crowd");
        let served = pods.iter().filter(|pod| pod.is_ready && waiting.contains(&pod.name)).count();
        if served == 1 && pods.len() == SMALL_HOLDS + SURPLUS - 1 { Ok(()) } else { Err(format!("{pods:#?}")) }
    });
    assert_eq!(bed.ready_since(), since, "a full node is Ready all the same");
    let full = bed.condition(SMALL, "EnidAddressesAvailable").unwrap();
    assert_eq!(full["status"], Value::from("False"), "two still wait: {full}");
}
