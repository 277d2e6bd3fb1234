// SPDX-License-Identifier: Apache-2.0
//! The bucket, by example and by many random sequences (a fixed generator: every run sees the same ones).

use super::*;

const CEILING: Ceiling = Ceiling { burst: 10.0, per_second: 1.0 };
const FOREVER: Duration = Duration::from_secs(100_000);

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A small linear generator: the point is coverage, not randomness.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn a_full_bucket_lets_its_burst_through_at_once_and_the_next_request_waits() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    for _ in 0..10 {
        assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(Duration::ZERO));
    }
    assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(secs(1.0)));
    assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(secs(2.0)));
}

#[test]
fn a_wait_beyond_the_patience_is_refused_and_takes_nothing() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    for _ in 0..10 {
        bucket.reserve(Duration::ZERO, FOREVER).unwrap();
    }
    assert_eq!(bucket.reserve(Duration::ZERO, secs(0.5)), Err(secs(1.0)));
    assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(secs(1.0)), "the refused request took no token");
}

#[test]
fn a_throttled_answer_empties_the_bucket_and_halves_the_rate() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    bucket.slow_down(Duration::ZERO);
    assert!((bucket.rate() - 0.5).abs() < 1e-9);
    assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(secs(2.0)));
}

#[test]
fn throttled_answers_that_come_together_count_once() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    for tenths in 0..5 {
        bucket.slow_down(secs(f64::from(tenths) / 10.0));
    }
    assert!(bucket.rate() > 0.49);
}

#[test]
fn retries_take_tokens_but_make_no_debt() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    for _ in 0..20 {
        bucket.charge(Duration::ZERO);
    }
    assert_eq!(bucket.reserve(Duration::ZERO, FOREVER), Ok(secs(1.0)));
}

#[test]
fn the_rate_never_falls_below_a_sixty_fourth_and_recovers_in_five_minutes() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    for second in 0..50 {
        bucket.slow_down(secs(f64::from(second)));
        assert!(bucket.rate() >= 1.0 / 64.0);
    }
    bucket.charge(secs(49.0) + RECOVERY);
    assert!((bucket.rate() - 1.0).abs() < 1e-9);
}

#[test]
fn recovery_is_slow_a_minute_gives_back_a_fifth_of_the_ceiling() {
    let mut bucket = Bucket::new(CEILING, Duration::ZERO);
    bucket.slow_down(Duration::ZERO);
    bucket.charge(secs(60.0));
    assert!((bucket.rate() - 0.7).abs() < 1e-9);
}

#[test]
fn time_going_backwards_changes_nothing() {
    let mut bucket = Bucket::new(CEILING, secs(100.0));
    bucket.charge(secs(50.0));
    assert_eq!(bucket.reserve(secs(50.0), FOREVER), Ok(Duration::ZERO));
    assert!((bucket.rate() - 1.0).abs() < 1e-9);
}

#[test]
fn no_span_sees_more_requests_than_burst_plus_rate_times_its_length() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut bucket = Bucket::new(CEILING, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut left: Vec<f64> = Vec::new();
        for _ in 0..200 {
            now += Duration::from_millis(dice.below(700));
            match dice.below(20) {
                0 => bucket.slow_down(now),
                _ => {
                    if let Ok(wait) = bucket.reserve(now, secs(5.0)) {
                        left.push((now + wait).as_secs_f64());
                    }
                }
            }
            assert!(bucket.rate() > 0.0 && bucket.rate() <= CEILING.per_second);
        }
        left.sort_by(f64::total_cmp);
        for (first, start) in left.iter().enumerate() {
            for (last, end) in left.iter().enumerate().skip(first) {
                let count = (last - first + 1) as f64;
                let most = CEILING.burst + CEILING.per_second * (end - start) + 1e-6;
                assert!(count <= most, "seed {seed}: {count} requests in {} s", end - start);
            }
        }
    }
}
