// SPDX-License-Identifier: Apache-2.0
//! A node whose subnet is exhausted says so to the scheduler, by condition and taint, and takes both back by itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::eventually::{RaisedOnDrop, pass};
use integration::pods;
use integration::sandbox::NetnsPath;
use serde_json::{Value, json};

use super::bed::{Bed, SOON};

const TAINT: &str = "enid.dev/full";

fn is_tainted(bed: &Bed) -> bool {
    let taints = bed.shown_node()["spec"]["taints"].clone();
    let ours = |taint: &Value| taint["key"] == TAINT && taint["effect"] == "NoSchedule";
    taints.as_array().is_some_and(|taints| taints.iter().any(ours))
}

fn wait_taint(bed: &Bed, wanted: bool) {
    bed.wait(&format!("the taint is there: {wanted}"), SOON, || match is_tainted(bed) {
        is if is == wanted => Ok(()),
        is => Err(is.to_string()),
    });
}

/// Somebody takes every free address of the node's subnet.
fn take_all(bed: &Bed) {
    let subnet = bed.topology.emulator.subnet_id("a");
    bed.topology.emulator.exhaust(&subnet);
}

/// When status and taint changed, until told to stop.
fn changes(bed: &Bed, stop: &AtomicBool) -> (Vec<Instant>, Vec<Instant>) {
    let see = || (bed.condition().map(|condition| condition["status"].clone()), is_tainted(bed));
    let (mut statuses, mut taints, mut before) = (Vec::new(), Vec::new(), see());
    while !stop.load(Ordering::Relaxed) {
        let now = see();
        if now.0 != before.0 {
            statuses.push(Instant::now());
        }
        if now.1 != before.1 {
            taints.push(Instant::now());
        }
        before = now;
        pass(Duration::from_millis(50));
    }
    (statuses, taints)
}

#[test]
fn an_exhausted_subnet_is_told_within_10_s_and_a_freed_address_takes_it_back_30_to_60_s_later() {
    let settings =
        [("WARM_IP_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "1"), ("ENID_FULL_TAINT", "enid.dev/full:NoSchedule")];
    let bed = Bed::started(&settings);
    bed.change_node(json!({ "spec": { "taints": [{ "key": "a/b", "effect": "NoSchedule" }] } }));
    bed.wait_condition("True", SOON);
    let mut running = pods::start(bed.node(), 2, 1, &AtomicUsize::new(0)).unwrap();
    bed.wait_number("/pool/free", "one is warm", |free| free == 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| changes(&bed, &stop));
        let stopper = RaisedOnDrop(&stop);
        take_all(&bed);
        assert!(!is_tainted(&bed));
        // The last one.
        running.extend(pods::start(bed.node(), 1, 1, &AtomicUsize::new(0)).unwrap());
        let short = Instant::now();
        let condition = bed.wait_condition("False", Duration::from_secs(10));
        println!("told {:?} after the last address went", short.elapsed());
        assert_eq!(condition["reason"], "SubnetExhausted", "{condition}");
        wait_taint(&bed, true);
        bed.wait("what is now is what is held", SOON, || {
            let shown = bed.shown_node()["metadata"]["annotations"]["enid.dev/pod-capacity-now"].clone();
            if shown == "3" { Ok(()) } else { Err(shown.to_string()) }
        });
        pass(Duration::from_secs(20));
        let gone = running.pop().unwrap();
        bed.node().runtime.del(&gone.sandbox, NetnsPath::Given).unwrap();
        let freed = Instant::now();
        bed.wait_condition("True", Duration::from_secs(60));
        let took = freed.elapsed();
        // 30 s from when the daemon knew, which is a moment before the DEL has ended.
        assert!(took > Duration::from_secs(29), "it does not flap: {took:?}");
        println!("taken back {took:?} after an address was freed");
        wait_taint(&bed, false);
        assert_eq!(bed.shown_node()["spec"]["taints"], json!([{ "key": "a/b", "effect": "NoSchedule" }]));
        // Gone again at once: not before half a minute has passed.
        let _last = pods::start(bed.node(), 1, 1, &AtomicUsize::new(0)).unwrap();
        bed.wait_condition("False", Duration::from_secs(45));
        wait_taint(&bed, true);
        // For the watcher to see it, too.
        pass(Duration::from_millis(500));
        drop(stopper);
        let (statuses, taints) = watcher.join().unwrap();
        assert_eq!((statuses.len(), taints.len()), (3, 3), "the taint follows the condition");
        for times in [statuses, taints] {
            let quick = |three: &[Instant]| three[2] - three[0] < Duration::from_secs(60);
            assert!(!times.windows(3).any(quick), "no more than two changes a minute: {times:?}");
        }
    });
}
