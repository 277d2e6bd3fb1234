// SPDX-License-Identifier: Apache-2.0
//! IMDS that does not answer, answers nonsense, or refuses the token; and how often it is asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};
use vpc_model::ImdsFault;

/// How often VPC blocks and security groups are read again, at least; the machine may be busy.
const REFRESHED: Duration = Duration::from_secs(90);
/// And at most.
const APART: Duration = Duration::from_secs(45);
/// A read without an answer has ended by then.
const GIVEN_UP: u64 = 12;

/// Reads of the instance's facts, credentials not counted: they are the SDK's, of its own pace.
fn reads(topology: &Topology) -> usize {
    topology.emulator.with_model(|vpc, _| vpc.imds_reads().filter(|path| !path.contains("/iam/")).count())
}

fn vpc_blocks(topology: &Topology) -> Vec<String> {
    let status = topology.node("n1").status().unwrap();
    let blocks = status["instance"]["vpc_cidrs"].as_array().or(status["instance"]["vpcCidrs"].as_array()).unwrap();
    blocks.iter().map(|block| block.as_str().unwrap().to_owned()).collect()
}

/// The path of the primary ENI's item.
fn eni_path(topology: &Topology, item: &str) -> String {
    let mac = topology.emulator.with_model(|vpc, _| {
        let primary = vpc.enis().find(|eni| eni.attachment().is_some_and(|at| at.device_index == 0)).unwrap();
        primary.mac.to_string()
    });
    format!("/latest/meta-data/network/interfaces/macs/{mac}/{item}")
}

fn break_imds(topology: &Topology) {
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 503, count: None };
    topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
}

#[test]
fn a_new_node_without_imds_is_not_ready_and_becomes_so_when_imds_answers() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    break_imds(&topology);
    topology.node_mut("n1").start().unwrap();
    pass(Duration::from_secs(2));
    let n1 = topology.node_mut("n1");
    assert!(!n1.daemon().unwrap().has_ended(), "the daemon waits for IMDS: {}", n1.daemon().unwrap().log_tail(5));
    let error = n1.runtime.status().unwrap_err();
    assert!(error.refusal().is_some_and(|refused| refused.code == 50), "{error}");

    topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    topology.node("n1").wait_ready(Duration::from_secs(40)).unwrap();
    pods::start(topology.node("n1"), 1, 1, &AtomicUsize::new(0)).unwrap();
}

#[test]
fn a_node_with_a_journal_serves_without_imds() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let first = pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap();
    break_imds(&topology);
    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let more = pods::start(n1, 2, 2, &AtomicUsize::new(0)).unwrap();
    for pod in first.iter().chain(&more) {
        pod.reached_from(&n1.netns).unwrap();
    }
    assert!(more.iter().all(|pod| first.iter().all(|other| other.added.address != pod.added.address)));
}

#[test]
fn a_start_asks_imds_a_dozen_things_and_an_unchanged_node_only_for_what_can_change() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    eventually("the facts are known", READY, || match topology.node("n1").number("/pool/total") {
        Ok(total) if total > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let at_start = reads(&topology);
    assert!((8..=14).contains(&at_start), "{at_start} reads and a token");
    let pods = pods::start(topology.node("n1"), 20, 6, &AtomicUsize::new(0)).unwrap();
    pods::end(topology.node("n1"), pods, 6).unwrap();
    pass(APART);
    // IMDS tells of no change by itself: the VPC's blocks and the security groups are looked at about once a minute.
    let later = reads(&topology) - at_start;
    assert!(later <= 4, "{later} reads in {APART:?} and for 20 pods that came and went");
}

#[test]
fn lists_that_imds_cuts_off_and_reads_that_hang_change_nothing_and_a_refused_token_is_replaced() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    eventually("the facts are known", READY, || match topology.node("n1").number("/pool/total") {
        Ok(total) if total > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let known = vpc_blocks(&topology);
    assert_eq!(known, ["10.0.0.0/16"]);
    let (blocks, groups) = (eni_path(&topology, "vpc-ipv4-cidr-blocks"), eni_path(&topology, "security-group-ids"));

    // Cut in the middle of a line, and empty.
    topology.emulator.with_model(|vpc, _| {
        vpc.set_imds_text(&blocks, Some("10.0.0.0/16\n100.64.".to_owned()));
        vpc.set_imds_text(&groups, Some(String::new()));
    });
    let asked = || topology.emulator.with_model(|vpc, _| vpc.imds_reads().filter(|path| *path == blocks).count());
    let served_until_asked = || {
        let before = asked();
        for second in 0.. {
            if asked() > before {
                break;
            }
            assert!(second < REFRESHED.as_secs(), "the VPC's blocks were not read again");
            served_for(&topology, 1);
        }
    };
    served_until_asked();
    served_for(&topology, 1);
    assert_eq!(vpc_blocks(&topology), known);

    // Hanging.
    topology.emulator.with_model(|vpc, _| {
        vpc.set_imds_text(&blocks, None);
        vpc.set_imds_text(&groups, None);
        vpc.change_settings(|settings| settings.latencies.imds_ms = 60_000);
    });
    served_until_asked();
    served_for(&topology, GIVEN_UP);
    assert_eq!(vpc_blocks(&topology), known);

    // The token is not taken any more, for one read; meanwhile the VPC got a block.
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 401, count: Some(1) };
    topology.emulator.with_model(|vpc, _| {
        vpc.change_settings(|settings| settings.latencies.imds_ms = 0);
        vpc.order_imds_fault(fault);
        let id = vpc.vpcs().next().unwrap().id.clone();
        vpc.associate_cidr_block(&id, "100.64.0.0/16".parse().unwrap()).unwrap();
    });
    let seen = eventually("the new block is known", 2 * REFRESHED, || match vpc_blocks(&topology).len() {
        2 => Ok(()),
        blocks => Err(format!("{blocks} blocks")),
    });
    seen.unwrap();
}

/// Pods come and go all the while, none waits.
fn served_for(topology: &Topology, seconds: u64) {
    let n1 = topology.node("n1");
    for _ in 0..seconds {
        let sandbox = n1.next_sandbox().unwrap();
        let took = n1.runtime.add(&sandbox).unwrap().took;
        assert!(took < Duration::from_secs(1), "an ADD waited {took:?} for IMDS");
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        pass(Duration::from_secs(1));
    }
}
