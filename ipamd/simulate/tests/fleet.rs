// SPDX-License-Identifier: Apache-2.0
//! Nodes that start together and share EC2's request buckets: all reach what they aim at, and none of them storms.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::time::Duration;

use ipamd_core::Config;
use ipamd_core::config::WarmTargets;
use ipamd_simulate::ours::Ours;
use ipamd_simulate::scale::{Fleet, Outcome, run};
use vpc_model::{Bucket, ThrottleSettings};

/// Every action that a daemon calls here.
const ACTIONS: [&str; 10] = [
    "AssignPrivateIpAddresses",
    "AttachNetworkInterface",
    "CreateNetworkInterface",
    "CreateTags",
    "DeleteNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "UnassignPrivateIpAddresses",
];

/// A second's worth at once, and so many a second.
fn every_action(refill: u32) -> ThrottleSettings {
    let bucket = Bucket { burst: refill, refill };
    ThrottleSettings { enabled: true, buckets: ACTIONS.map(|action| (action.to_owned(), bucket)).into() }
}

fn outcome(warm: WarmTargets, throttle: ThrottleSettings) -> Outcome {
    let calls_until = Duration::from_secs(900);
    let fleet = Fleet { joining: Duration::ZERO, calls_until, throttle, ..Fleet::of(500, 7) };
    run(Ours::new("ours", Config { warm, ..Config::default() }), &fleet).unwrap()
}

#[test]
fn five_hundred_nodes_that_start_together_reach_their_targets_without_a_storm_of_calls() {
    for warm in [WarmTargets::Adaptive, WarmTargets::Enis(1), WarmTargets::Addresses { warm: 5, minimum: 10 }] {
        let ideal = outcome(warm, ThrottleSettings { enabled: false, ..ThrottleSettings::default() });
        let throttled = outcome(warm, every_action(20));
        let calls = |outcome: &Outcome| outcome.calls.values().sum::<u32>();
        let seconds = |outcome: &Outcome| outcome.all_pods.percentile(100).as_secs();
        println!(
            "{warm:?}: {} calls ({} throttled) and {} s, {} and {} s without a limit",
            calls(&throttled),
            throttled.throttled,
            seconds(&throttled),
            calls(&ideal),
            seconds(&ideal)
        );
        assert_eq!((ideal.throttled, ideal.unfinished, throttled.unfinished), (0, 0, 0));
        assert!(throttled.throttled > 0, "the buckets are too large to be noticed");
        // What is held without targets follows when ADDs came, and throttling shifts that a little.
        let slack = |count: usize| if warm == WarmTargets::Adaptive { count / 50 } else { 0 };
        let (held, enis) = (throttled.held as usize, throttled.enis);
        assert!(
            held.abs_diff(ideal.held as usize) <= slack(held) && enis.abs_diff(ideal.enis) <= slack(enis),
            "{warm:?}: what all nodes hold in the end: {held} on {enis} ENIs, {} on {}",
            ideal.held,
            ideal.enis
        );
        assert!(calls(&throttled) * 2 <= calls(&ideal) * 3, "{warm:?}: {:?} {:?}", throttled.calls, ideal.calls);
    }
}
