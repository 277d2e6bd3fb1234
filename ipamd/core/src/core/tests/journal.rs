// SPDX-License-Identifier: Apache-2.0
//! The journal as it is written: what a call costs, and one write for many. That the texts say what the state does, `world` holds after
//! every step of everything.

use std::time::Duration;

use super::world::{World, warm_addresses, warm_prefixes};
use crate::config::Config;
use crate::reason::ReasonCode;

/// The least that an ADD, and the DEL after it, render on a node with so many pods: of some, for now and then a text is laid out anew.
fn rendered(config: Config, pods: u32) -> (u64, u64) {
    let mut world = World::new("m5.24xlarge", config);
    world.start_pods(pods, 30);
    let mut least = (u64::MAX, u64::MAX);
    for pod in 0..5 {
        let before = world.core.records_rendered();
        world.add(&format!("another-{pod}"));
        let between = world.core.records_rendered();
        world.del(&format!("another-{pod}"));
        let after = world.core.records_rendered();
        least = (least.0.min(between - before), least.1.min(after - between));
        world.run_seconds(3);
    }
    least
}

#[test]
fn an_add_and_a_del_render_as_many_records_beside_300_pods_as_beside_10() {
    for config in [warm_addresses(30, 0), warm_prefixes(3)] {
        let config = Config { cooldown: Duration::from_secs(1), ..config };
        let (few, many) = (rendered(config.clone(), 10), rendered(config.clone(), 300));
        // Of a prefix, all of its addresses that have been used.
        let most = |before: u64| before + 16;
        assert!(many.0 <= most(few.0) && many.1 <= most(few.1), "{few:?} beside 10, {many:?} beside 300: {config:?}");
        assert!(few.0 > 0 && few.1 > 0);
    }
}

#[test]
fn a_write_that_fails_takes_back_all_the_calls_it_was_for() {
    let mut world = World::new("m5.large", warm_addresses(5, 0));
    world.run_seconds(10);
    let kept = world.add("kept");
    assert!(matches!(world.answer(kept), Some(Ok(_))));
    world.disk_full = true;
    for request in world.together(&["a", "b", "kept"], &["a"]) {
        assert_eq!(world.answer(request), Some(Err(ReasonCode::StateNotDurable)));
    }
    world.disk_full = false;
    world.run_seconds(3);
    let pods: Vec<String> = world.snapshot().pods.into_iter().map(|pod| pod.key).collect();
    assert_eq!(pods, ["aws-cni/kept/eth0"]);
    let both = world.together(&["a", "b"], &[]);
    world.assert_served(&both);
}
