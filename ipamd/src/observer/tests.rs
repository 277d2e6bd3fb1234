// SPDX-License-Identifier: Apache-2.0

use ipamd_core::action::{ActionKind, Priority};
use ipamd_core::event::{Failure, FailureClass};

use super::*;

fn why(rule: Rule, bound_by: Option<ReasonCode>, text: &str) -> WhySnapshot {
    WhySnapshot { text: text.to_owned(), bound_by, rule, next_ms: None }
}

#[test]
fn a_decision_is_told_once_for_each_rule_and_constraint() {
    let observer = Observer::new(clock::now());
    for (rule, bound_by, text) in [
        (Rule::Met, None, "met with 3"),
        (Rule::Met, None, "met with 4"),
        (Rule::Shortfall, Some(ReasonCode::SubnetExhausted), "1 missing"),
        (Rule::Shortfall, Some(ReasonCode::SubnetExhausted), "2 missing"),
        (Rule::Shortfall, Some(ReasonCode::NodeFull), "3 missing"),
        (Rule::Met, None, "met again"),
    ] {
        observer.ruled(&why(rule, bound_by, text));
    }
    let records = observer.since(0).records;
    let told: Vec<_> = records.iter().map(|record| (record.text.as_str(), record.code)).collect();
    let expected = [
        ("met with 3", None),
        ("1 missing", Some(ReasonCode::SubnetExhausted)),
        ("3 missing", Some(ReasonCode::NodeFull)),
        ("met again", None),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_failed_call_says_what_of_which_eni() {
    let observer = Observer::new(clock::now());
    let eni_id = EniId::from("eni-1");
    let action = |id, kind| Action { id: ActionId(id), priority: Priority::Describe, kind };
    observer.started(&action(1, ActionKind::DeleteEni { eni_id: eni_id.clone() }));
    observer.started(&action(2, ActionKind::ObserveKernel));
    let failure = Failure {
        class: FailureClass::Throttled,
        code: "RequestLimitExceeded".to_owned(),
        message: "RequestLimitExceeded: slow down".to_owned(),
        retry_after: None,
    };
    observer.ended(ActionId(1), &Outcome::Failed(failure));
    observer.ended(ActionId(2), &Outcome::Done);
    // Nobody knows it.
    observer.ended(ActionId(3), &Outcome::Done);
    let records = observer.since(0).records;
    let told: Vec<_> = records.iter().map(|record| (record.level, record.kind, record.text.as_str())).collect();
    let expected = [
        (NoticeLevel::Debug, Kind::Failure, "DeleteNetworkInterface of eni-1 failed: RequestLimitExceeded: slow down"),
        (NoticeLevel::Debug, Kind::Action, "observe done"),
    ];
    assert_eq!(told, expected);
    assert_eq!(records[0].eni_id, Some(eni_id));
}

#[test]
fn who_looks_is_told_that_there_is_something_new() {
    let observer = Observer::new(clock::now());
    let mut changed = observer.changed();
    assert!(!changed.has_changed().expect("the observer lives"));
    observer.sampled(Sample { used: 1, ..Sample::default() });
    assert!(changed.has_changed().expect("the observer lives"));
    changed.mark_unchanged();
    assert_eq!(observer.course().len(), 1);
    let pod = PodRef { namespace: "shop".to_owned(), name: "web-0".to_owned() };
    let call = Call { key: "aws-cni/c/eth0", pod: &pod, took: Duration::from_millis(7) };
    let cause = "9 of 9 addresses in use".to_owned();
    observer.refused(
        &call,
        &Refusal { code: ReasonCode::NodeFull, cause, retry_after: Some(Duration::from_millis(1_500)) },
    );
    let record = observer.since(0).records.remove(0);
    assert_eq!(record.text, "9 of 9 addresses in use; a retry can succeed in 2 s");
    assert_eq!((record.pod.as_deref(), record.took_ms), (Some("shop/web-0"), Some(7)));
    assert!(changed.has_changed().expect("the observer lives"));
}
