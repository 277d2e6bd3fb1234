// SPDX-License-Identifier: Apache-2.0
//! The bucket, by example and by many random sequences.

use proptest::prelude::*;

use super::*;
use Priority::{Describe, Release, Waiting, Warm};

const CEILING: Ceiling = Ceiling { burst: 10.0, per_second: 1.0, floor: 0.001 };
const EVERY: [Priority; 4] = [Waiting, Warm, Release, Describe];

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn full() -> Bucket {
    Bucket::new(CEILING, Duration::ZERO)
}

/// A bucket with so many tokens at its ceiling's rate.
fn with_tokens(tokens: u32) -> Bucket {
    let mut bucket = full();
    for _ in tokens..10 {
        bucket.reserve(Waiting, Duration::ZERO).unwrap();
    }
    bucket
}

#[test]
fn a_full_bucket_lets_its_burst_through_at_once_and_the_next_waiting_adds_queue_for_two_seconds() {
    let mut bucket = with_tokens(0);
    for seconds in 1..=2 {
        assert_eq!(bucket.reserve(Waiting, Duration::ZERO), Ok(secs(f64::from(seconds))));
    }
    assert_eq!(bucket.reserve(Waiting, Duration::ZERO), Err(secs(3.0)));
    assert_eq!(bucket.reserve(Waiting, secs(1.0)), Ok(secs(2.0)), "the refused request took no token");
}

#[test]
fn scarce_tokens_go_to_waiting_adds_then_to_the_warm_pool_then_to_releases_then_to_describes() {
    for (tokens, at_once) in [(10, 4), (7, 4), (6, 3), (5, 3), (4, 2), (3, 2), (2, 1), (1, 1), (0, 0)] {
        let go: Vec<bool> = EVERY.iter().map(|p| with_tokens(tokens).reserve(*p, secs(0.0)) == Ok(secs(0.0))).collect();
        let expected: Vec<bool> = (0..4).map(|class| class < at_once).collect();
        assert_eq!(go, expected, "{tokens} tokens");
    }
}

#[test]
fn what_must_wait_long_is_told_when_to_ask_again() {
    // 2 tokens are left to waiting ADDs, so that 3 must be there.
    assert_eq!(with_tokens(0).reserve(Warm, Duration::ZERO), Err(secs(3.0)));
    assert_eq!(with_tokens(2).reserve(Warm, Duration::ZERO), Ok(secs(1.0)));
    assert_eq!(with_tokens(4).reserve(Describe, Duration::ZERO), Err(secs(3.0)));
    assert_eq!(with_tokens(5).reserve(Describe, Duration::ZERO), Ok(secs(2.0)));
    let mut bucket = with_tokens(0);
    let again = bucket.reserve(Release, Duration::ZERO).unwrap_err();
    assert_eq!(bucket.reserve(Release, again), Ok(Duration::ZERO));
}

#[test]
fn a_throttled_answer_quarters_the_rate_and_spreads_the_next_request_over_two_tokens_time() {
    for (roll, wait) in [(0.0, 0.0), (0.5, 4.0), (1.0, 8.0)] {
        let mut bucket = full();
        bucket.slow_down(Duration::ZERO, roll);
        assert!((bucket.rate() - 0.25).abs() < 1e-9);
        let got = bucket.wait(Waiting, Duration::ZERO).as_secs_f64();
        assert!(got <= wait && got >= wait * 0.95, "{got} s after a roll of {roll}: the rate grows meanwhile");
    }
}

#[test]
fn throttled_answers_that_come_together_count_once() {
    let mut bucket = full();
    for tenths in 0..5 {
        bucket.slow_down(secs(f64::from(tenths) / 10.0), 0.5);
    }
    assert!(bucket.rate() >= 0.25);
}

#[test]
fn good_answers_add_to_the_rate_and_quiet_doubles_it_up_to_the_ceiling() {
    let mut bucket = full();
    bucket.slow_down(Duration::ZERO, 0.5);
    bucket.succeeded(Duration::ZERO);
    assert!((bucket.rate() - (0.25 + 1.0 / 64.0)).abs() < 1e-9);
    bucket.succeeded(secs(60.0));
    assert!((bucket.rate() - (2.0 * (0.25 + 1.0 / 64.0) + 1.0 / 64.0)).abs() < 1e-9);
    bucket.succeeded(secs(1_000.0));
    assert!((bucket.rate() - 1.0).abs() < 1e-9);
}

#[test]
fn the_rate_falls_to_the_share_of_one_of_five_thousand_nodes() {
    let ceiling = Ceiling::of("CreateNetworkInterface");
    let mut bucket = Bucket::new(ceiling, Duration::ZERO);
    for second in 0..20 {
        bucket.slow_down(secs(f64::from(second)), 0.5);
    }
    assert!((bucket.rate() * 5_000.0 - 5.0).abs() < 0.1, "{}", bucket.rate());
}

#[test]
fn retries_take_tokens_but_make_no_debt() {
    let mut bucket = full();
    for _ in 0..20 {
        bucket.charge(Duration::ZERO);
    }
    assert_eq!(bucket.reserve(Waiting, Duration::ZERO), Ok(secs(1.0)));
}

#[test]
fn time_going_backwards_changes_nothing() {
    let mut bucket = Bucket::new(CEILING, secs(100.0));
    bucket.charge(secs(50.0));
    assert_eq!(bucket.reserve(Waiting, secs(50.0)), Ok(Duration::ZERO));
    assert!((bucket.rate() - 1.0).abs() < 1e-9);
}

/// EC2 developer guide, "Request throttling": what a node takes at once is at most a fifth of each bucket, in the long run
/// at most a fifth of its refill.
#[test]
fn ceilings_are_parts_of_the_developer_guide_s_buckets() {
    for (action, burst, refill) in [
        ("CreateNetworkInterface", 100.0, 5.0),
        ("DeleteNetworkInterface", 100.0, 5.0),
        ("ModifyNetworkInterfaceAttribute", 100.0, 5.0),
        ("AssignPrivateIpAddresses", 100.0, 5.0),
        ("UnassignPrivateIpAddresses", 100.0, 5.0),
        ("AttachNetworkInterface", 50.0, 5.0),
        ("DetachNetworkInterface", 50.0, 5.0),
        ("CreateTags", 100.0, 10.0),
        ("DescribeNetworkInterfaces", 100.0, 20.0),
        ("DescribeSubnets", 100.0, 20.0),
    ] {
        let ceiling = Ceiling::of(action);
        assert!(ceiling.burst <= burst / 5.0 && ceiling.per_second <= refill / 5.0, "{action}: {ceiling:?}");
        assert!(ceiling.floor * 5_000.0 <= refill + 1e-9, "{action}: {ceiling:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize),
    Charge,
    Succeeded,
    SlowDown(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..EVERY.len()).prop_map(Step::Reserve),
        2 => Just(Step::Charge),
        3 => Just(Step::Succeeded),
        1 => (0.0..=1.0f64).prop_map(Step::SlowDown),
    ]
}

proptest! {
    #[test]
    fn no_span_sees_more_requests_than_burst_plus_rate_times_its_length(
        steps in proptest::collection::vec((0..1_500u64, step()), 1..150),
    ) {
        let mut bucket = full();
        let mut now = Duration::ZERO;
        let mut left: Vec<f64> = Vec::new();
        for (millis, step) in steps {
            now += Duration::from_millis(millis);
            match step {
                Step::Reserve(class) => {
                    if let Ok(wait) = bucket.reserve(EVERY[class], now) {
                        prop_assert!(wait <= PATIENCE);
                        left.push((now + wait).as_secs_f64());
                    }
                }
                Step::Charge => bucket.charge(now),
                Step::Succeeded => bucket.succeeded(now),
                Step::SlowDown(roll) => bucket.slow_down(now, roll),
            }
            prop_assert!(bucket.rate() >= CEILING.floor && bucket.rate() <= CEILING.per_second);
        }
        left.sort_by(f64::total_cmp);
        for (first, start) in left.iter().enumerate() {
            for (last, end) in left.iter().enumerate().skip(first) {
                let count = (last - first + 1) as f64;
                prop_assert!(count <= CEILING.burst + CEILING.per_second * (end - start) + 1e-6);
            }
        }
    }

    /// However much the classes below ask for, a waiting ADD leaves as early as if they had not asked, or at once.
    #[test]
    fn nothing_below_a_waiting_add_makes_it_wait(
        drained in 0..10u32,
        asks in proptest::collection::vec((0..3_000u64, 1..EVERY.len()), 0..40),
    ) {
        let (mut alone, mut shared) = (with_tokens(drained), with_tokens(drained));
        let mut now = Duration::ZERO;
        for (millis, class) in asks {
            now += Duration::from_millis(millis);
            let _ = shared.reserve(EVERY[class], now);
        }
        let wait = shared.reserve(Waiting, now);
        prop_assert!(wait == Ok(Duration::ZERO) || wait == alone.reserve(Waiting, now), "{wait:?}");
    }
}
