// SPDX-License-Identifier: Apache-2.0
//! A program that keeps removing what is ours: it is named, and the daemon does not run hot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration::eventually::{eventually, pass};

use crate::bed::Bed;

#[test]
fn a_fight_is_capped_told_and_over_when_the_other_stops() {
    let bed = Bed::build();
    let done = AtomicBool::new(false);
    let looks = || bed.n1().number("/repair/looks").unwrap();
    let before = looks();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Gone already is fine.
                let _ = bed.n1().ip("rule del priority 1536\n");
                pass(Duration::from_millis(100));
            }
        });
        let told = eventually("it is told", Duration::from_secs(40), || {
            let log = bed.log();
            if log.contains("HostContested") { Ok(()) } else { Err("not told".to_owned()) }
        });
        let quick = looks() - before;
        pass(Duration::from_secs(20));
        let capped = looks() - before - quick;
        done.store(true, Ordering::Relaxed);
        told.unwrap();
        assert!(quick <= 20, "{quick} looks until it was told");
        assert!((2..=6).contains(&capped), "{capped} looks in 20 s of a fight");
    });
    let log = bed.log();
    assert_eq!(log.matches("HostContested").count(), 1, "once a minute");
    assert!(log.contains("another program keeps changing the node's network"), "{log}");
    let status = bed.n1().status().unwrap();
    assert_eq!(status["repair"]["contested"], true);
    bed.wait_whole().unwrap();
    bed.packets().unwrap();
}

#[test]
fn pods_that_come_and_go_are_no_damage() {
    let bed = Bed::build();
    let before = bed.n1().number("/repair/looks").unwrap();
    let started = std::time::Instant::now();
    for _ in 0..12 {
        let sandbox = bed.n1().next_sandbox().unwrap();
        bed.n1().runtime.add(&sandbox).unwrap();
        bed.n1().runtime.del(&sandbox, integration::sandbox::NetnsPath::Given).unwrap();
    }
    let due = started.elapsed().as_secs() / 30 + 1;
    let looks = bed.n1().number("/repair/looks").unwrap() - before;
    assert!(looks <= due + 1, "{looks} looks in {:?}", started.elapsed());
    assert_eq!(bed.repaired(), []);
}
