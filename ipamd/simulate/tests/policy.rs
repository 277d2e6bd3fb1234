// SPDX-License-Identifier: Apache-2.0
//! What the policies promise, held against traces of pods: addresses, waits, EC2 calls.
//!
//! The claim of the adaptive policy is that it holds fewer addresses than WARM_ENI_TARGET=1 and lets nobody wait longer. It
//! is checked on the shipped traces, figure by figure, and on others that the same methods generate. One ENI's attach takes
//! half to double of what it usually takes, and one in a hundred up to ten times as long: where a burst outgrows the room
//! there is, chance has its say, so on the other traces the waits are compared as a whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::time::Duration;

use ipamd_core::config::WarmTargets;
use ipamd_core::{BootTime, Config};
use ipamd_simulate::figures::{Column, Measured, run};
use ipamd_simulate::pods::{Method, TracedPod, generate, parse};
use ipamd_simulate::reference::{Settings, Targets};

/// 8 ENIs of 29 addresses.
const INSTANCE_TYPE: &str = "m5.4xlarge";
/// Traces of each method besides the shipped one.
const MORE_SEEDS: std::ops::RangeInclusive<u64> = 2..=13;

fn shipped() -> [(&'static str, Vec<TracedPod>); 3] {
    [
        ("steady", parse(include_str!("../traces/steady.csv")).unwrap()),
        ("ci", parse(include_str!("../traces/ci.csv")).unwrap()),
        ("nightly", parse(include_str!("../traces/nightly.csv")).unwrap()),
    ]
}

fn ours(pods: &[TracedPod], warm: WarmTargets) -> Measured {
    let column = Column::Ours("ours".to_owned(), Box::new(Config { warm, ..Config::default() }));
    let measured = run(INSTANCE_TYPE, pods, &column).unwrap();
    assert_eq!(measured.stats.waits.count(), pods.len(), "every pod gets an address");
    measured
}

/// Addresses held: at the median, at the 95th percentile, and for each pod in the mean.
fn held(it: &Measured) -> [f64; 3] {
    let percentile = |part| f64::from(it.stats.held.percentile(part, it.end));
    [percentile(50), percentile(95), it.stats.held.integral(it.end) / it.stats.pods.integral(it.end)]
}

/// The 99th percentile of the waits and the longest.
fn waits(it: &Measured) -> [Duration; 2] {
    [99, 100].map(|part| it.stats.waits.percentile(part))
}

fn holds_less(name: &str, adaptive: &Measured, eni_target: &Measured) {
    let (less, more) = (held(adaptive), held(eni_target));
    assert!(less.iter().zip(more).all(|(less, more)| *less < more), "{name}: {less:?} against {more:?}");
}

#[test]
fn without_targets_less_is_held_than_with_warm_eni_target_1_and_nobody_waits_longer() {
    for (name, pods) in shipped() {
        let (adaptive, eni_target) = (ours(&pods, WarmTargets::Adaptive), ours(&pods, WarmTargets::Enis(1)));
        holds_less(name, &adaptive, &eni_target);
        let (shorter, longer) = (waits(&adaptive), waits(&eni_target));
        assert!(shorter.iter().zip(longer).all(|(a, b)| *a <= b), "{name}: {shorter:?} against {longer:?}");
        // Ninety tasks in 15 s outgrow a spare ENI.
        let outgrown = name == "nightly";
        assert_eq!(outgrown, longer[1] > Duration::ZERO, "{name}: {longer:?}");
        assert!(!outgrown || shorter.iter().zip(longer).all(|(a, b)| *a < b), "{name}: {shorter:?} against {longer:?}");
    }
}

#[test]
fn on_other_traces_of_the_same_kinds_less_is_held_and_the_longest_waits_are_shorter_in_sum() {
    for (method, name) in Method::ALL {
        let mut longest = [Duration::ZERO; 2];
        let mut worse = 0;
        for seed in MORE_SEEDS {
            let pods = generate(method, seed);
            let (adaptive, eni_target) = (ours(&pods, WarmTargets::Adaptive), ours(&pods, WarmTargets::Enis(1)));
            holds_less(&format!("{name} {seed}"), &adaptive, &eni_target);
            let both = [waits(&adaptive)[1], waits(&eni_target)[1]];
            worse += u32::from(both[0] > both[1]);
            longest = [longest[0] + both[0], longest[1] + both[1]];
        }
        let [adaptive, eni_target] = longest;
        let text =
            format!("{name}: the longest waits add up to {adaptive:?} against {eni_target:?}, {worse} are longer");
        match method {
            Method::Steady | Method::Ci => assert!(worse == 0 && adaptive <= eni_target, "{text}"),
            Method::Nightly => assert!(worse <= 2 && adaptive * 4 < eni_target * 3, "{text}"),
        }
    }
}

#[test]
fn ten_pods_a_second_wait_for_nothing_as_long_as_there_is_room() {
    // Ten pods that stay, and an hour later nearly as many, at ten a second, as two ENIs have slots for.
    let base = (0..10_u64).map(|pod| (pod, Duration::from_secs(60 + pod * 20)));
    let growth = (10..48_u64).map(|pod| (pod, Duration::from_millis(3_600_000 + (pod - 10) * 100)));
    let pods: Vec<TracedPod> = base
        .chain(growth)
        .map(|(pod, starts)| TracedPod { name: format!("pod-{pod}"), starts: BootTime(starts), ends: None })
        .collect();
    let measured = ours(&pods, WarmTargets::Adaptive);
    assert_eq!(measured.stats.waits.percentile(100), Duration::ZERO);
    let before = measured.stats.held.at(BootTime(Duration::from_secs(3_599)));
    assert!(before <= 10 + 3 + 16, "{before} addresses for ten pods");
}

#[test]
fn at_rest_no_more_is_held_than_pods_and_three_tenths_and_sixteen() {
    let (_, pods) = shipped().into_iter().next().unwrap();
    let measured = ours(&pods, WarmTargets::Adaptive);
    // From the end of the first ten minutes on, every five seconds; a rollout is over after two minutes.
    let over = |second: &u64| {
        let at = BootTime(Duration::from_secs(*second));
        10 * measured.stats.held.at(at) > 13 * measured.stats.pods.at(at) + 160
    };
    let all: Vec<u64> = (1_300..measured.end.0.as_secs()).step_by(5).collect();
    let too_many = all.iter().filter(|second| over(second)).count();
    assert!(20 * too_many <= all.len(), "{too_many} of {} moments", all.len());
}

#[test]
fn our_calls_are_few() {
    let targets = Targets { warm_addresses: 5, minimum_addresses: 10, ..Targets::default() };
    let reference = Column::Reference("reference".to_owned(), Settings { targets, ..Settings::default() });
    for (name, pods) in shipped() {
        let theirs = run(INSTANCE_TYPE, &pods, &reference).unwrap().stats.all_calls();
        let ours_too = ours(&pods, WarmTargets::Addresses { warm: 5, minimum: 10 }).stats.all_calls();
        assert!(ours_too <= theirs, "{name}, WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10: {ours_too} against {theirs}");
        let adaptive = ours(&pods, WarmTargets::Adaptive);
        let most = if name == "ci" { 210 } else { 130 };
        assert!(adaptive.stats.all_calls() <= most, "{name}: {:?}", adaptive.stats.calls);
        let calls = |action| adaptive.stats.calls.get(action).copied().unwrap_or(0);
        let (detached, deleted) = (calls("DetachNetworkInterface"), calls("DeleteNetworkInterface"));
        assert!(deleted <= detached + detached.div_ceil(10), "{name}: {deleted} deletions of {detached} ENIs");
    }
}
