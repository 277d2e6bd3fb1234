// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::state::{Attachment, AttachmentPhase, EniState, InterfaceType, Link};

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn eni(id: &str) -> Eni {
    Eni {
        id: id.into(),
        interface_type: InterfaceType::Interface,
        vpc: "vpc-1".into(),
        subnet: "subnet-1".into(),
        availability_zone: "us-east-1a".to_owned(),
        description: String::new(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        primary: Some("10.0.0.4".parse().unwrap()),
        secondaries: Vec::new(),
        prefixes: Vec::new(),
        public: None,
        security_groups: Vec::new(),
        source_dest_check: true,
        tags: crate::state::Tags::new(),
        created: Duration::ZERO,
        state: EniState::Pending { until: second(2) },
        odd: None,
    }
}

fn attached(to: &str) -> EniState {
    EniState::InUse(Attachment {
        id: format!("eni-attach-{to}").as_str().into(),
        instance: to.into(),
        device_index: 1,
        network_card: 0,
        delete_on_termination: false,
        attach_time: Duration::ZERO,
        phase: AttachmentPhase::Attached { link: Link::Up },
    })
}

fn ids<'a>(enis: impl Iterator<Item = &'a Eni>) -> Vec<&'a str> {
    enis.map(|eni| eni.id.as_str()).collect()
}

#[test]
fn an_eni_is_found_by_its_instance_its_attachment_and_its_deadline() {
    let (mut enis, id, instance) = (Enis::default(), EniId::from("eni-1"), InstanceId::from("i-1"));
    enis.insert(eni("eni-1"), Some(second(1)));
    assert_eq!(enis.first_deadline(), Some(&(second(2), id.clone())));
    enis.change(&id, second(2), |eni| eni.state = attached("i-1"));
    assert_eq!(enis.first_deadline(), None);
    assert_eq!(ids(enis.of_instance(&instance)), ["eni-1"]);
    assert!(enis.of_attachment(&"eni-attach-i-1".into()).is_some());
    enis.change(&id, second(3), |eni| eni.state = attached("i-2"));
    assert!(enis.of_instance(&instance).next().is_none() && enis.of_attachment(&"eni-attach-i-1".into()).is_none());
    enis.remove(&id, second(4));
    assert_eq!((enis.len(), enis.of_instance(&"i-2".into()).count(), enis.iter().count()), (0, 0, 0));
}

#[test]
fn a_reader_that_lags_finds_what_an_instance_had() {
    let (mut enis, id, instance) = (Enis::default(), EniId::from("eni-1"), InstanceId::from("i-1"));
    enis.set_keep(second(5));
    enis.insert(eni("eni-1"), None);
    let seen = |enis: &Enis, now| enis.seen_of_instance(&instance, second(now), second(5)).len();
    enis.change(&id, second(10), |eni| eni.state = attached("i-1"));
    assert_eq!((seen(&enis, 14), seen(&enis, 15)), (0, 1));
    enis.change(&id, second(20), |eni| eni.state = EniState::Available);
    enis.remove(&id, second(21));
    assert_eq!((seen(&enis, 24), seen(&enis, 25)), (1, 0));
}

#[test]
fn a_deleted_eni_is_forgotten_after_the_longest_lag() {
    let mut enis = Enis::default();
    enis.set_keep(second(5));
    for number in 0..10 {
        let id = EniId(format!("eni-{number}"));
        enis.insert(eni(id.as_str()), Some(second(number)));
        enis.change(&id, second(number), |eni| eni.state = attached("i-1"));
        enis.remove(&id, second(number));
    }
    assert_eq!((enis.records.len(), enis.gone.len()), (5, 5));
    assert_eq!(enis.instances[&InstanceId::from("i-1")].len(), 5);
    assert!(enis.attachments.is_empty() && enis.deadlines.is_empty());
}
