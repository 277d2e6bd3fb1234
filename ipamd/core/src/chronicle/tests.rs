// SPDX-License-Identifier: Apache-2.0

use super::*;

fn entry(level: NoticeLevel, text: &str) -> Entry {
    Entry::new(level, Kind::State, text)
}

fn texts(records: &Records) -> Vec<&str> {
    records.records.iter().map(|record| record.text.as_str()).collect()
}

#[test]
fn records_come_in_the_order_in_which_they_were_told() {
    let mut chronicle = Chronicle::new(1_000);
    for (level, text) in [(NoticeLevel::Info, "a"), (NoticeLevel::Debug, "b"), (NoticeLevel::Error, "c")] {
        chronicle.tell(7, entry(level, text));
    }
    let all = chronicle.since(0);
    assert_eq!((texts(&all), all.missed, all.next, all.started_unix_ms), (vec!["a", "b", "c"], 0, 4, 1_000));
    assert_eq!(all.records.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let later = chronicle.since(3);
    assert_eq!((texts(&later), later.missed, later.next), (vec!["c"], 0, 4));
    let none = chronicle.since(4);
    assert_eq!((none.records.len(), none.missed, none.next), (0, 0, 4));
}

#[test]
fn debug_records_push_out_none_but_debug_records_and_what_is_gone_is_counted() {
    let mut chronicle = Chronicle::new(1_000);
    chronicle.tell(0, entry(NoticeLevel::Warn, "subnet exhausted"));
    for index in 0..QUIET + 10 {
        chronicle.tell(0, entry(NoticeLevel::Debug, &index.to_string()));
    }
    let all = chronicle.since(1);
    assert_eq!(all.records[0].text, "subnet exhausted");
    assert_eq!((all.records.len(), all.missed), (1 + QUIET, 10));
    for _ in 0..LOUD {
        chronicle.tell(0, entry(NoticeLevel::Info, "more"));
    }
    assert_eq!(chronicle.since(1).missed, 11);
    assert_eq!(chronicle.since(u64::MAX).missed, 0);
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let mut chronicle = Chronicle::new(1_000);
    chronicle.tell(0, entry(NoticeLevel::Info, &"ü".repeat(LONGEST_TEXT)));
    let text = chronicle.since(0).records[0].text.clone();
    assert!(text.len() <= LONGEST_TEXT && text.ends_with("ü…"), "{}", text.len());
}

fn sample(unix_ms: i64, used: u32) -> Sample {
    Sample { unix_ms, used, ..Sample::default() }
}

#[test]
fn the_course_leaves_out_what_is_as_before_and_what_is_crowded() {
    let mut chronicle = Chronicle::new(1_000);
    for (at, used) in [(0, 1), (500, 1), (1_000, 2), (1_500, 3), (4_000, 4), (4_500, 5)] {
        chronicle.sample(sample(at, used));
    }
    let course: Vec<_> = chronicle.course().iter().map(|sample| (sample.unix_ms, sample.used)).collect();
    assert_eq!(course, [(0, 1), (1_500, 3), (4_000, 4), (4_500, 5)]);
}

#[test]
fn the_course_knows_what_held_an_hour_ago_and_no_more() {
    let mut chronicle = Chronicle::new(1_000);
    for minute in 0..180_i64 {
        chronicle.sample(sample(minute * 60_000, u32::try_from(minute).expect("small")));
    }
    let course = chronicle.course();
    let (first, second, last) = (course[0], course[1], course[course.len() - 1]);
    assert_eq!((last.used, second.unix_ms - last.unix_ms, first.used), (179, -HOUR_MS, 118));
}

#[test]
fn a_busy_hour_is_bounded() {
    let mut chronicle = Chronicle::new(1_000);
    for step in 0..100_000_i64 {
        chronicle.sample(sample(step * 100, u32::try_from(step).expect("small")));
    }
    let most = 2 * usize::try_from(HOUR_MS / SAMPLE_MS).expect("small") + 3;
    assert!(chronicle.course().len() <= most, "{}", chronicle.course().len());
}
