// SPDX-License-Identifier: Apache-2.0
#![expect(clippy::disallowed_methods, reason = "files that a cluster would mount")]
use ipamd_core::config::{Origin, parse};

use super::*;
use crate::replay;

const LARGE: &str = "classes:\n- name: large\n  selector: {labels: {size: large}}\n  settings: {WARM_IP_TARGET: 20}\n";

struct Place {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| folder.path().join(name).display().to_string();
        let environment = BTreeMap::from([
            ("WARM_IP_TARGET".to_owned(), "2".to_owned()),
            ("MY_NODE_NAME".to_owned(), "n1".to_owned()),
            ("AWS_VPC_K8S_CNI_BACKING_STORE".to_owned(), text("ipam.json")),
            ("ENID_SETTINGS_FILE".to_owned(), text("settings.yaml")),
        ]);
        Self { folder, environment }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("settings.yaml"), text).unwrap();
    }

    /// A start of the daemon.
    fn start(&self, facts: Option<&InstanceFacts>) -> Layering {
        let (config, _) = parse(&self.environment).unwrap();
        let record = RecordFile::beside(&config.journal);
        Layering::new(Box::new(self.environment.clone()), &config, record, facts)
    }
}

fn facts(id: &str) -> InstanceFacts {
    let json = serde_json::json!({
        "instance_id": id, "instance_type": "m5.large", "availability_zone": "us-east-1a", "region": "us-east-1",
        "vpc_id": "vpc-1", "vpc_cidrs": ["10.0.0.0/16"], "primary_eni_id": "eni-0", "primary_mac": "02:00:00:00:00:01",
        "primary_address": "10.0.0.4", "subnet_id": "subnet-1", "subnet_cidr": "10.0.0.0/24", "security_group_ids": [],
    });
    serde_json::from_value(json).unwrap()
}

fn words(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> NodeWords {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NodeWords { labels: map(labels), annotations: map(annotations) }
}

fn warm(layering: &Layering) -> (String, Origin) {
    let (value, origin) = layering.resolved.value("WARM_IP_TARGET");
    (value.unwrap_or_default().to_owned(), origin)
}

fn of(value: &str, origin: Origin) -> (String, Origin) {
    (value.to_owned(), origin)
}

fn class(name: &str) -> Origin {
    Origin::Class(name.to_owned())
}

#[test]
fn a_class_by_label_applies_once_the_labels_are_known_and_still_after_a_restart_without_them() {
    let place = Place::new();
    place.write(LARGE);
    let mut first = place.start(Some(&facts("i-1")));
    assert_eq!(warm(&first), of("2", Origin::Environment));
    first.take_node(&words(&[("size", "large")], &[("setting.enid.dev/MAX_ENI", "2")]));
    first.settle();
    assert_eq!(warm(&first), of("20", class("large")));
    assert_eq!(first.config().max_enis, Some(2));
    let again = place.start(None);
    assert_eq!(warm(&again), of("20", class("large")));
    assert_eq!(again.config().max_enis, Some(2));
    // Another instance's record is nobody's.
    let mut elsewhere = place.start(None);
    assert!(elsewhere.take_facts(&facts("i-2")));
    elsewhere.take_file_again();
    elsewhere.settle();
    assert_eq!(warm(&elsewhere), of("2", Origin::Environment));
    assert_eq!(elsewhere.config().max_enis, None);
}

#[test]
fn a_file_with_a_mistake_changes_nothing_also_over_a_restart_and_is_told() {
    let place = Place::new();
    place.write("classes: [{name: all, settings: {WARM_IP_TARGET: 5}}]");
    let mut layering = place.start(None);
    assert_eq!(warm(&layering), of("5", class("all")));
    for (wrong, named) in [
        ("classes: [{name: all, settings: {WARM_IP_TARGET: 6, WARM_IP_TARGETS: 7}}]", "WARM_IP_TARGETS"),
        ("classes: [{name: all, settings: {WARM_IP_TARGET: 6", "no YAML"),
        ("a: 1\na: 2\n", "no YAML"),
        ("", "a map with classes"),
    ] {
        place.write(wrong);
        layering.take_file();
        layering.settle();
        layering.show(&Mistakes::default());
        assert_eq!(warm(&layering), of("5", class("all")), "{wrong}");
        let mistakes = layering.board().snapshot().mistakes;
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(named) && !mistake.contains('\n')),
            "{wrong}: {mistakes:?}"
        );
        assert_eq!(layering.board().verdict().map(|verdict| verdict.is_valid), Some(false));
        assert!(layering.board().notes().iter().any(|note| note.contains(named)));
        assert_eq!(warm(&place.start(None)), of("5", class("all")), "{wrong}");
    }
    place.write("classes: []");
    layering.take_file();
    layering.settle();
    assert_eq!((warm(&layering), layering.mistakes.all()), (of("2", Origin::Environment), Vec::new()));
}

#[test]
fn a_file_that_was_there_and_is_gone_is_a_mistake_and_its_classes_hold() {
    let place = Place::new();
    // None yet: no mistake.
    let mut layering = place.start(Some(&facts("i-1")));
    assert_eq!((warm(&layering), layering.mistakes.all()), (of("2", Origin::Environment), Vec::new()));
    assert!(layering.board().notes().iter().any(|note| note.contains("there is no file")));
    place.write("classes: [{name: all, settings: {WARM_IP_TARGET: 5}}]");
    layering.take_file();
    layering.settle();
    std::fs::remove_file(place.folder.path().join("settings.yaml")).unwrap();
    for layering in [&mut layering, &mut place.start(None)] {
        layering.take_file();
        layering.settle();
        layering.show(&Mistakes::default());
        assert_eq!(warm(layering), of("5", class("all")));
        assert!(layering.mistakes.file[0].contains("is gone"), "{:?}", layering.mistakes);
        assert_eq!(layering.board().verdict().map(|verdict| verdict.is_valid), Some(false));
    }
    place.write("classes: []");
    layering.take_file();
    layering.settle();
    assert_eq!((warm(&layering), layering.mistakes.all()), (of("2", Origin::Environment), Vec::new()));
    // Another instance has no file of its own yet, and none that is gone.
    place.write("classes: [{name: all, settings: {WARM_IP_TARGET: 5}}]");
    layering.take_file();
    layering.settle();
    std::fs::remove_file(place.folder.path().join("settings.yaml")).unwrap();
    let elsewhere = place.start(Some(&facts("i-2")));
    assert_eq!((warm(&elsewhere), elsewhere.mistakes.all()), (of("2", Origin::Environment), Vec::new()));
}

#[test]
fn annotations_win_and_wrong_ones_leave_what_was_there() {
    let place = Place::new();
    place.write("classes: [{name: all, settings: {WARM_IP_TARGET: 5}}]");
    let mut layering = place.start(None);
    layering.take_node(&words(&[], &[("setting.enid.dev/WARM_IP_TARGET", "9")]));
    layering.settle();
    assert_eq!(warm(&layering), of("9", Origin::Node));
    layering.take_node(&words(&[], &[("setting.enid.dev/WARM_IP_TARGET", "nine")]));
    layering.settle();
    assert_eq!(warm(&layering), of("9", Origin::Node));
    assert_eq!(layering.mistakes.node.len(), 1);
    // The file goes on meanwhile.
    place.write("classes: [{name: all, settings: {MAX_ENI: 3}}]");
    layering.take_file();
    layering.settle();
    assert_eq!((warm(&layering), layering.config().max_enis), (of("9", Origin::Node), Some(3)));
    layering.take_node(&words(&[], &[]));
    layering.settle();
    assert_eq!(warm(&layering), of("2", Origin::Environment));
}

#[test]
fn layers_that_clash_leave_what_was_resolved_last() {
    let mut place = Place::new();
    place.environment.remove("WARM_IP_TARGET");
    place.environment.insert("ENABLE_PREFIX_DELEGATION".to_owned(), "true".to_owned());
    place.write("classes: [{name: all, settings: {MAX_ENI: 3}}]");
    let mut layering = place.start(None);
    place.write("classes: [{name: all, settings: {MAX_ENI: 4, WARM_PREFIX_TARGET: 0}}]");
    layering.take_file();
    layering.settle();
    assert_eq!(layering.config().max_enis, Some(3));
    assert!(layering.mistakes.together[0].contains("(from: class all)"), "{:?}", layering.mistakes);
    assert_eq!(place.start(None).config().max_enis, Some(3), "also after a restart");
}

#[test]
fn without_an_api_server_to_talk_to_nothing_of_the_node_s_is_kept() {
    let mut place = Place::new();
    place.write(LARGE);
    let mut first = place.start(None);
    first.take_node(&words(&[("size", "large")], &[]));
    first.settle();
    place.environment.remove("MY_NODE_NAME");
    assert_eq!(warm(&place.start(None)), of("2", Origin::Environment));
}

#[test]
fn a_command_that_only_looks_sees_what_the_daemon_has_and_records_nothing() {
    let place = Place::new();
    place.write(LARGE);
    let mut daemon = place.start(Some(&facts("i-1")));
    daemon.take_node(&words(&[("size", "large")], &[]));
    daemon.settle();
    let record = place.folder.path().join("layers.json");
    let before = std::fs::read(&record).unwrap();
    place.write("classes: [{name: all, settings: {MAX_ENI: 3}}]");
    let (config, _) = parse(&place.environment).unwrap();
    let only_read = RecordFile::only_read(&config.journal);
    let looking = Layering::new(Box::new(place.environment.clone()), &config, only_read, Some(&facts("i-1")));
    assert_eq!(looking.config().max_enis, Some(3));
    assert_eq!(std::fs::read(&record).unwrap(), before);
}

#[test]
fn what_has_changed_is_one_line_a_variable() {
    let place = Place::new();
    place.write(LARGE);
    let mut layering = place.start(None);
    let before = layering.resolved.clone();
    layering.take_node(&words(&[("size", "large")], &[("setting.enid.dev/MAX_ENI", "2")]));
    layering.settle();
    assert_eq!(
        told(&before, &layering.resolved),
        ["MAX_ENI: not set (default) -> 2 (node)", "WARM_IP_TARGET: 2 (environment) -> 20 (class large)"]
    );
}

/// What becomes of what is taken the core's fuzzers hold to (`fuzz/`).
#[test]
fn the_corpus_of_the_fuzzers_is_read_or_refused_with_reasons() {
    replay::corpus("settings", |data| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        if let Err(mistakes) = classes(text) {
            assert!(!mistakes.is_empty() && mistakes.iter().all(|mistake| !mistake.contains('\n')), "{mistakes:?}");
        }
    });
}
