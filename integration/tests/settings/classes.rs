// SPDX-License-Identifier: Apache-2.0
//! Classes by what instance metadata says: no API server is needed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use integration::eventually::{RaisedOnDrop, pass};
use integration::node::Node;
use integration::pods;
use integration::tools::Tools;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::json;

use crate::bed::{rewrite, variable, wait, wait_variable, warm, write};

const NONE: &str = "classes: []\n";

fn class(warm: u32) -> String {
    format!(
        "classes:\n- name: large\n  selector: {{instanceTypes: [\"m5.x*\"]}}\n  settings: {{WARM_IP_TARGET: {warm}, IP_COOLDOWN_PERIOD: 1}}\n"
    )
}

/// Pods come and go until `done`; every ADD and DEL must succeed. How many there were.
fn come_and_go(node: &Node, done: &AtomicBool) -> usize {
    let started = AtomicUsize::new(0);
    while !done.load(Ordering::Relaxed) {
        let running = pods::start(node, 6, 3, &started).unwrap();
        pods::end(node, running, 3).unwrap();
    }
    started.load(Ordering::Relaxed)
}

#[test]
fn a_warm_target_of_one_class_changes_under_load_on_its_nodes_alone_and_nothing_is_restarted() {
    let nodes = vec![NodeSpec::new("n1", "m5.large", Subnet::A), NodeSpec::new("n2", "m5.xlarge", Subnet::B)];
    let mut topology = Topology::build(&TopologySpec { nodes, ..TopologySpec::one("m5.large") }).unwrap();
    topology.nodes.iter_mut().for_each(|node| write(node, NONE));
    topology.start(&[("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "2")]).unwrap();
    let pids = |topology: &mut Topology| ["n1", "n2"].map(|name| topology.node_mut(name).daemon().unwrap().pid());
    let before = pids(&mut topology);
    let (n1, n2) = (topology.node("n1"), topology.node("n2"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = RaisedOnDrop(&done);
        let load = [n1, n2].map(|node| scope.spawn(|| come_and_go(node, &done)));
        for target in [12, 5] {
            for node in [n1, n2] {
                rewrite(node, &class(target));
            }
            wait_variable(n2, "WARM_IP_TARGET", &json!([target.to_string(), "class", "large"]));
            wait(n2, "the pool aims at it", || {
                let wanted = n2.number("/pool/wanted").map_err(|error| error.to_string())?;
                if wanted == u64::from(target) { Ok(()) } else { Err(wanted.to_string()) }
            });
            // Twice the time in which the other node would have read it.
            pass(Duration::from_secs(10));
            assert_eq!(warm(n1), 2);
        }
        drop(ends);
        for load in load {
            assert!(load.join().unwrap() > 10, "there was no load");
        }
    });
    assert_eq!(variable(n1, "WARM_IP_TARGET"), json!(["2", "environment", null]));
    wait(n2, "what the target asks for is there", || {
        let free = n2.number("/pool/free").map_err(|error| error.to_string())?;
        if free >= 5 { Ok(()) } else { Err(free.to_string()) }
    });
    rewrite(n2, NONE);
    wait_variable(n2, "WARM_IP_TARGET", &json!(["2", "environment", null]));
    assert_eq!(pids(&mut topology), before);
}

#[test]
fn the_level_of_the_log_and_lists_of_blocks_change_while_the_daemon_runs() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    write(topology.node_mut("n1"), NONE);
    topology.start(&[("AWS_VPC_K8S_CNI_LOGLEVEL", "info")]).unwrap();
    let n1 = topology.node("n1");
    let logged = |text: &str| std::fs::read_to_string(n1.log()).unwrap().contains(text);
    assert!(!logged("\"level\":\"DEBUG\""));
    let blocks = "classes: [{name: all, settings: {AWS_VPC_K8S_CNI_LOGLEVEL: debug, AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: [198.51.100.0/24]}}]";
    rewrite(n1, blocks);
    wait_variable(n1, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", &json!(["198.51.100.0/24", "class", "all"]));
    wait(n1, "the block is excluded in the kernel", || {
        let rules = Tools::find().unwrap().nft_json(&n1.netns, &["list", "ruleset"]).unwrap().to_string();
        if rules.contains("198.51.100.0") { Ok(()) } else { Err(rules) }
    });
    wait(n1, "something is logged at the new level", || {
        if logged("\"level\":\"DEBUG\"") { Ok(()) } else { Err("nothing yet".to_owned()) }
    });
}
