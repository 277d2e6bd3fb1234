// SPDX-License-Identifier: Apache-2.0
use super::*;

const NOW: i64 = 1_756_684_800_000_000_000;

/// Left behind by another instance.
fn view(tags: &[(&str, &str)]) -> EniView {
    let (attachment, status, description) = (None, "available".into(), "aws-K8S-i-2".into());
    EniView { attachment, status, description, ..tags::tests::view(tags) }
}

fn judged(view: &EniView, cluster: Option<&str>) -> Verdict {
    let (me, living) = (InstanceId::from("i-1"), BTreeSet::from(["i-1".into(), "i-8".into()]));
    let age = Duration::from_secs(300);
    verdict(view, &Sweeper { instance_id: &me, cluster, living: &living, unix_nanos: NOW, age })
}

fn lease(holder: &str, seconds_ago: i64) -> String {
    format!("{holder} {}", tags::rfc3339(NOW - seconds_ago * 1_000_000_000))
}

const OTHERS: (&str, &str) = (INSTANCE_TAG, "i-2");
const MINE: (&str, &str) = (INSTANCE_TAG, "i-1");
const BLUE: (&str, &str) = (CLUSTER_TAG, "blue");

#[test]
fn only_enis_of_gone_instances_of_our_cluster_or_made_for_this_very_instance_are_candidates() {
    use Verdict::{LeaveAlone, Mark};
    for (tags, in_blue, nameless) in [
        (&[OTHERS, BLUE][..], Mark, LeaveAlone),
        (&[OTHERS, (CLUSTER_TAG, "red")][..], LeaveAlone, LeaveAlone),
        (&[OTHERS][..], LeaveAlone, LeaveAlone),
        (&[BLUE][..], LeaveAlone, LeaveAlone),
        (&[(INSTANCE_TAG, "i-8"), BLUE][..], LeaveAlone, LeaveAlone),
        (&[][..], LeaveAlone, LeaveAlone),
        (&[MINE][..], Mark, Mark),
        (&[MINE, (CLUSTER_TAG, "red")][..], Mark, Mark),
        (&[MINE, (tags::NO_MANAGE_TAG, "true")][..], LeaveAlone, LeaveAlone),
    ] {
        assert_eq!(judged(&view(tags), Some("blue")), in_blue, "{tags:?}");
        assert_eq!(judged(&view(tags), None), nameless, "{tags:?}");
    }
}

#[test]
fn what_is_odd_attached_or_described_by_someone_else_is_left_alone() {
    let leaked = view(&[MINE, BLUE]);
    assert_eq!(judged(&leaked, Some("blue")), Verdict::Mark);
    for odd in [
        EniView { status: "in-use".into(), ..leaked.clone() },
        EniView { status: "pending".into(), ..leaked.clone() },
        EniView { foreign: true, ..leaked.clone() },
        EniView { description: "database".into(), ..leaked.clone() },
        EniView { interface_type: "branch".into(), ..leaked.clone() },
        EniView { interface_type: "efa".into(), ..leaked.clone() },
    ] {
        assert_eq!(judged(&odd, Some("blue")), Verdict::LeaveAlone, "{odd:?}");
    }
}

#[test]
fn a_young_eni_is_not_a_candidate_and_an_unreadable_time_is_no_age() {
    for (created, verdict) in [
        ("2025-08-31T23:59:59Z", Verdict::LeaveAlone),
        ("2025-08-31T23:55:01Z", Verdict::LeaveAlone),
        ("2025-08-31T23:55:00Z", Verdict::Mark),
        ("2025-09-01T01:59:00+02:00", Verdict::LeaveAlone),
        ("2025-09-01T00:00:30Z", Verdict::LeaveAlone),
        ("yesterday", Verdict::Mark),
    ] {
        assert_eq!(judged(&view(&[MINE, (tags::CREATED_AT_TAG, created)]), None), verdict, "{created}");
    }
}

#[test]
fn a_fresh_lease_of_another_node_is_respected_and_an_old_one_taken_over() {
    let with = |lease: &str| judged(&view(&[OTHERS, BLUE, (LEASE_TAG, lease)]), Some("blue"));
    assert_eq!(with(&lease("i-9", 10)), Verdict::LeaveAlone);
    assert_eq!(with(&lease("i-9", -10)), Verdict::LeaveAlone, "its clock is ahead of ours");
    assert_eq!(with(&lease("i-9", 1_201)), Verdict::Mark);
    assert_eq!(with(&lease("i-1", 400)), Verdict::Ours(lease("i-1", 400)));
    assert_eq!(with(&lease("i-1", 1_201)), Verdict::Mark);
    assert_eq!(with("rubbish"), Verdict::Mark);
}
