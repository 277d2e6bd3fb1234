// SPDX-License-Identifier: Apache-2.0
//! What is kept ready: the worked example, the bounds, what fades and what survives a restart.

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> BootTime {
    BootTime(Duration::from_millis(millis))
}

fn node(pods: u32, per_eni: u32) -> Node {
    Node { pods: Addresses(pods), per_eni: Addresses(per_eni), first: Addresses(per_eni), unit: Addresses(1) }
}

/// Wanted, band, minimum of addresses; room wanted at once and in its own time.
fn wish(adaptive: &Adaptive, pods: u32, millis: u64) -> ((u32, u32, u32), (u32, u32)) {
    let Wish { wanted, band, minimum, room, spare } = adaptive.wish(&node(pods, 29), at(millis));
    ((wanted.0, band.0, minimum.0), (room.0, spare.0))
}

#[test]
fn the_worked_example_of_the_head() {
    let mut adaptive = Adaptive::default();
    assert_eq!(wish(&adaptive, 0, 1_000), ((8, 8, 29), (0, 29)), "a fresh node");
    adaptive.arrived(at(2_000));
    assert_eq!(wish(&adaptive, 1, 2_000), ((8, 8, 29), (4, 29)), "its first pod: a spare ENI, and no hurry");
    for pod in 2..=10 {
        adaptive.arrived(at(pod * 20_000));
    }
    let burst = 700_000;
    assert_eq!(wish(&adaptive, 10, burst), ((8, 8, 0), (4, 29)), "ten minutes on");
    let mut asked_for_at = None;
    for job in 1..=50_u32 {
        let now = burst + u64::from(job - 1) * 400;
        adaptive.arrived(at(now));
        let ((wanted, band, _), (room, _)) = wish(&adaptive, 10 + job, now);
        assert_eq!(wanted, 8, "job {job}");
        assert!(job < 15 || band == 15, "job {job}: {band}");
        if room > 48_u32.saturating_sub(job) {
            asked_for_at.get_or_insert((job, room));
        }
    }
    assert_eq!(asked_for_at, Some((17, 32)));
    assert_eq!(
        wish(&adaptive, 60, burst + 120_000),
        ((8, 8, 0), (16, 29)),
        "what came within an ENI's time stays known"
    );
}

#[test]
fn small_enis_are_not_multiplied_by_an_idle_node() {
    for (per_eni, kept) in [(1, (1, 0, 1)), (3, (2, 1, 3)), (9, (5, 4, 9)), (14, (7, 7, 14)), (49, (8, 8, 49))] {
        let Wish { wanted, band, spare, .. } = Adaptive::default().wish(&node(0, per_eni), at(0));
        assert_eq!((wanted.0, band.0, spare.0), kept, "{per_eni} addresses an ENI");
    }
}

#[test]
fn evenly_coming_pods_are_met_for_a_call_and_have_room_for_two_leads() {
    let mut adaptive = Adaptive::default();
    for tenth in 0..600 {
        adaptive.arrived(at(tenth * 100));
    }
    let ((wanted, band, _), (room, spare)) = wish(&adaptive, 600, 59_950);
    assert_eq!(
        (wanted, band),
        (12, 60),
        "10 pods a second: for a call of a second, in steps of four, and for a lead of 6 s"
    );
    // Of the 120 that come in two leads, no more than what came in one and an ENI's worth are believed.
    assert_eq!((room, spare), (60 + 29, 60 + 29));
}

#[test]
fn pods_that_come_all_at_once_are_no_rate() {
    let mut adaptive = Adaptive::default();
    (0..20).for_each(|pod| adaptive.arrived(at(1_000 + pod * 40)));
    let (_, (room, _)) = wish(&adaptive, 20, 1_800);
    assert_eq!(room, 20, "as many as came may come again; that 25 a second go on coming is not believed yet");
}

#[test]
fn a_spurt_that_was_seen_is_kept_ready_under_the_ceiling_and_fades() {
    let mut adaptive = Adaptive::default();
    (0..40).for_each(|_| adaptive.arrived(at(10_000)));
    let wanted = |seconds: u64| wish(&adaptive, 40, seconds * 1_000).0.0;
    assert_eq!([10, 70, 3_610, 7_210].map(wanted), [20, 20, 12, 8], "under the ceiling of 8 + 12; as it fades");
    let room = |seconds: u64| wish(&adaptive, 40, seconds * 1_000).1;
    assert_eq!([70, 3_610, 36_010].map(room), [(40, 40), (20, 29), (4, 29)]);
}

#[test]
fn latencies_are_followed_within_bounds_and_a_slow_call_is_remembered_for_a_while() {
    let mut adaptive = Adaptive::default();
    (0..20).for_each(|_| adaptive.eni_took(Duration::from_secs(2)));
    assert!(adaptive.seen.lead < Duration::from_millis(2_100), "{:?}", adaptive.seen.lead);
    (0..40).for_each(|_| adaptive.eni_took(Duration::from_secs(900)));
    assert!(adaptive.seen.lead <= LONGEST_LEAD);
    adaptive.call_took(Duration::from_secs(3));
    assert_eq!(adaptive.call(), Duration::from_secs(6));
    (0..60).for_each(|_| adaptive.call_took(Duration::from_millis(300)));
    assert_eq!(adaptive.call(), SHORTEST_LEAD);
    adaptive.call_took(Duration::from_secs(900));
    assert_eq!(adaptive.call(), 2 * LONGEST_CALL);
}

proptest! {
    #[test]
    fn what_is_wished_for_is_bounded_fades_when_nothing_comes_and_survives_a_restart(
        gaps in proptest::collection::vec(0_u64..20_000, 0..200), pods in 0_u32..800, per_eni in 1_u32..50
    ) {
        let mut adaptive = Adaptive::default();
        let mut now = 0;
        for gap in &gaps {
            now += gap;
            adaptive.arrived(at(now));
        }
        let node = node(pods, per_eni);
        let mut before = adaptive.wish(&node, at(now));
        prop_assert!(before.wanted.0 as usize <= gaps.len().next_multiple_of(4).max(8));
        prop_assert!(before.room.0 as usize <= gaps.len().next_multiple_of(4) + per_eni as usize);
        prop_assert!(before.band.0 <= 16 + pods * 3 / 10);
        for minute in 1..900 {
            let later = adaptive.wish(&node, at(now + minute * 60_000));
            prop_assert!(later.wanted <= before.wanted && later.room <= before.room && later.spare >= later.room);
            prop_assert!(later.wanted.0 <= 8 + pods * 3 / 10);
            before = later;
            prop_assert!(later.wanted.0 + later.band.0 <= 16 + pods * 3 / 10, "1.3 x pods and 16 more");
        }
        let again = Adaptive::from(adaptive.memory());
        let soon = at(now + 120_000);
        prop_assert_eq!(again.wish(&node, soon), adaptive.wish(&node, soon));
        prop_assert!(before.wanted.0 + before.band.0 <= 16, "at rest a node keeps no more than 16");
        prop_assert!(before.room.0 <= 4);
    }
}
