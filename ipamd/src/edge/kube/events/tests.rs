// SPDX-License-Identifier: Apache-2.0

use super::*;

fn at(seconds: u64) -> Now {
    let unix_nanos = i64::try_from(seconds).unwrap() * 1_000_000_000;
    Now { boot: BootTime(Duration::from_secs(seconds)), unix_nanos }
}

fn refused(pod: u32) -> News {
    let about = About::Pod(PodRef { namespace: "shop".to_owned(), name: format!("web-{pod:03}") });
    News { about, code: ReasonCode::NodeFull, warning: true, text: "full".to_owned() }
}

/// Everything that is due, taken by the API server.
fn written(journal: &mut Journal, now: Now) -> Vec<Write> {
    let mut writes = Vec::new();
    while let Some(write) = journal.due(now.boot) {
        journal.wrote(&write, "event-1".to_owned(), now.boot);
        writes.push(write);
    }
    writes
}

#[test]
fn the_same_code_about_the_same_object_is_one_event_with_a_count() {
    let mut journal = Journal::new(at(0).boot);
    journal.add(refused(1), at(0));
    let first = written(&mut journal, at(0));
    assert_eq!((first.len(), first[0].count, first[0].name.clone()), (1, 1, None));
    for second in 1..=20 {
        journal.add(refused(1), at(second));
        assert_eq!(written(&mut journal, at(second)), [], "counts wait");
    }
    assert_eq!(journal.next(at(20).boot), Some(at(30).boot));
    let second = written(&mut journal, at(30));
    assert_eq!((second.len(), second[0].count, second[0].name.as_deref()), (1, 21, Some("event-1")));
    assert_eq!(journal.next(at(30).boot), None, "all is told");
    // Silent for 5 min: what comes then is another event.
    journal.add(refused(1), at(320));
    assert_eq!(written(&mut journal, at(320)).first().map(|write| (write.count, write.name.clone())), Some((1, None)));
}

#[test]
fn many_objects_share_a_bucket() {
    let mut journal = Journal::new(at(0).boot);
    (0..30).for_each(|pod| journal.add(refused(pod), at(0)));
    assert_eq!(written(&mut journal, at(0)).len(), 10);
    assert_eq!(journal.next(at(0).boot), Some(at(2).boot));
    assert_eq!(written(&mut journal, at(20)).len(), 10);
    assert_eq!(written(&mut journal, at(40)).len(), 10);
    assert_eq!(written(&mut journal, at(60)).len(), 0);
}

#[test]
fn new_events_go_before_counts() {
    let mut journal = Journal::new(at(0).boot);
    (0..10).for_each(|pod| journal.add(refused(pod), at(0)));
    assert_eq!(written(&mut journal, at(0)).len(), 10);
    (0..10).for_each(|pod| journal.add(refused(pod), at(1)));
    journal.add(refused(10), at(31));
    let writes = written(&mut journal, at(31));
    assert_eq!(writes[0].name, None);
    assert!(writes[1..].iter().all(|write| write.count == 2), "{writes:?}");
}

#[test]
fn what_an_api_server_does_not_take_is_tried_again_and_given_up_in_time() {
    let mut journal = Journal::new(at(0).boot);
    journal.add(refused(1), at(0));
    let write = journal.due(at(0).boot).unwrap();
    journal.failed(&write, at(0).boot);
    assert_eq!(journal.due(at(29).boot), None);
    assert_eq!(journal.due(at(30).boot), Some(write));
    assert_eq!(journal.due(at(300).boot), None);
    assert_eq!(journal.dropped(), 1);
}

#[test]
fn there_is_a_bound_to_what_waits() {
    let mut journal = Journal::new(at(0).boot);
    (0..u32::try_from(MOST).unwrap() + 5).for_each(|pod| journal.add(refused(pod), at(0)));
    assert_eq!(journal.dropped(), 5);
    assert_eq!(journal.entries.len(), MOST);
}
