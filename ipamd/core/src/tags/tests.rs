// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::event::AttachmentView;
use crate::ids::{AttachmentId, DeviceIndex, MacAddr};

fn facts() -> InstanceFacts {
    InstanceFacts {
        instance_id: "i-1".into(),
        instance_type: "m5.large".into(),
        availability_zone: "us-east-1a".into(),
        region: "us-east-1".into(),
        vpc_id: "vpc-1".into(),
        vpc_cidrs: vec![],
        primary_eni_id: "eni-0".into(),
        primary_mac: MacAddr([2, 0, 0, 0, 0, 0]),
        primary_address: [10, 0, 0, 4].into(),
        subnet_id: "subnet-1".into(),
        subnet_cidr: "10.0.0.0/24".parse().expect("block"),
        security_group_ids: vec![],
    }
}

/// Attached, of no maker that its tags do not name.
pub(crate) fn view(tags: &[(&str, &str)]) -> EniView {
    EniView {
        eni_id: "eni-7".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 7]),
        vpc_id: Some("vpc-1".into()),
        subnet_id: "subnet-1".into(),
        primary_address: [10, 0, 0, 5].into(),
        secondary_addresses: vec![],
        prefixes: vec![],
        security_group_ids: vec![],
        attachment: Some(AttachmentView {
            attachment_id: AttachmentId::from("eni-attach-1"),
            device_index: DeviceIndex(1),
            network_card: 0,
            instance_id: Some("i-1".into()),
            status: "attached".into(),
            delete_on_termination: true,
        }),
        status: "in-use".into(),
        interface_type: "interface".into(),
        foreign: false,
        description: String::new(),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn tags_say_whose_an_eni_is() {
    let left_alone = Config { untagged_enis: UntaggedEnis::LeftAlone, ..Config::default() };
    for (tags, by_default, strict) in [
        (
            &[("node.k8s.amazonaws.com/instance_id", "i-1"), ("node.k8s.amazonaws.com/createdAt", "now")][..],
            Ownership::Made,
            Ownership::Made,
        ),
        (
            &[("node.k8s.amazonaws.com/instance_id", "i-1"), ("enid.dev/client-token", "t")][..],
            Ownership::Made,
            Ownership::Made,
        ),
        (&[("node.k8s.amazonaws.com/instance_id", "i-1")][..], Ownership::Used, Ownership::Used),
        (
            &[("node.k8s.amazonaws.com/instance_id", "i-2")][..],
            Ownership::LeftAlone("tagged for another instance"),
            Ownership::LeftAlone("tagged for another instance"),
        ),
        (
            &[("node.k8s.amazonaws.com/instance_id", "i-1"), ("node.k8s.amazonaws.com/no_manage", "true")][..],
            Ownership::LeftAlone("tagged no_manage"),
            Ownership::LeftAlone("tagged no_manage"),
        ),
        (&[("node.k8s.amazonaws.com/no_manage", "false")][..], Ownership::Used, Ownership::Used),
        (&[("node.k8s.amazonaws.com/no_manage", "True")][..], Ownership::Used, Ownership::Used),
        (&[("node.k8s.amazonaws.com/no_manage", "")][..], Ownership::Used, Ownership::Used),
        (&[][..], Ownership::Used, Ownership::LeftAlone("without our tag")),
    ] {
        assert_eq!(ownership(&view(tags), &facts(), &Config::default()), by_default, "{tags:?}");
        assert_eq!(ownership(&view(tags), &facts(), &left_alone), strict, "{tags:?}");
    }
}

#[test]
fn odd_enis_are_left_alone_whatever_their_tags() {
    let ours = [("node.k8s.amazonaws.com/instance_id", "i-1")];
    for interface_type in ["efa-only", "trunk", "branch", "something-new"] {
        let odd = EniView { interface_type: interface_type.into(), ..view(&ours) };
        assert!(matches!(ownership(&odd, &facts(), &Config::default()), Ownership::LeftAlone(_)), "{interface_type}");
    }
    let without = EniView { primary_address: std::net::Ipv4Addr::UNSPECIFIED, ..view(&ours) };
    assert!(matches!(ownership(&without, &facts(), &Config::default()), Ownership::LeftAlone(_)));
    let service = EniView { foreign: true, ..view(&ours) };
    assert!(matches!(ownership(&service, &facts(), &Config::default()), Ownership::LeftAlone(_)));
    let elsewhere = EniView { vpc_id: Some("vpc-2".into()), ..view(&ours) };
    assert_eq!(ownership(&elsewhere, &facts(), &Config::default()), Ownership::LeftAlone("of another VPC"));
    let mut card = view(&ours);
    if let Some(attachment) = &mut card.attachment {
        attachment.network_card = 1;
    }
    assert!(matches!(ownership(&card, &facts(), &Config::default()), Ownership::LeftAlone(_)));
}

#[test]
fn an_efa_with_ip_is_used_and_never_given_back() {
    let ours = [("node.k8s.amazonaws.com/instance_id", "i-1"), ("node.k8s.amazonaws.com/createdAt", "now")];
    for tags in [&ours[..], &[]] {
        let efa = EniView { interface_type: "efa".into(), ..view(tags) };
        assert_eq!(ownership(&efa, &facts(), &Config::default()), Ownership::Used, "{tags:?}");
    }
}

#[test]
fn only_tags_that_are_missing_or_different_are_added_and_strangers_get_no_instance_tag() {
    let pairs = |tags: &[(&str, &str)]| -> Vec<(String, String)> {
        tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let config = Config {
        cluster_name: Some("blue".into()),
        additional_eni_tags: BTreeMap::from([("team".into(), "a".into())]),
        ..Config::default()
    };
    let cluster = [("cluster.k8s.amazonaws.com/name", "blue"), ("eks:eni:owner", "amazon-vpc-cni")];
    let instance = [("node.k8s.amazonaws.com/instance_id", "i-1")];
    let team = [("team", "a")];
    let all = pairs(&[&cluster[..], &instance, &team].concat());
    assert_eq!(wanted(&config, &facts(), true, false), all, "the primary ENI");
    assert_eq!(wanted(&config, &facts(), false, true), all, "one made for us");
    assert_eq!(wanted(&config, &facts(), false, false), pairs(&[&cluster[..], &team].concat()), "a stranger's");
    let there = pairs(&[&cluster[..], &[("team", "b"), ("other", "x")]].concat());
    assert_eq!(missing(&all, &there), pairs(&[&instance[..], &team].concat()));
    assert!(missing(&all, &all).is_empty());
}

#[test]
fn a_new_eni_carries_the_reference_s_tags_and_its_token() {
    let config = Config {
        cluster_name: Some("blue".into()),
        additional_eni_tags: BTreeMap::from([("team".into(), "a".into()), ("eks:eni:owner".into(), "me".into())]),
        ..Config::default()
    };
    let tags = of_new_eni(&config, &facts(), "token-1", ("2026-09-01T00:00:00Z", None));
    let expected = [
        ("cluster.k8s.amazonaws.com/name", "blue"),
        ("eks:eni:owner", "me"),
        ("enid.dev/client-token", "token-1"),
        ("node.k8s.amazonaws.com/createdAt", "2026-09-01T00:00:00Z"),
        ("node.k8s.amazonaws.com/instance_id", "i-1"),
        ("team", "a"),
    ];
    assert_eq!(tags, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(description(&facts()), "aws-K8S-i-1");
}

#[test]
fn times_are_written_as_rfc_3339() {
    for (unix_seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_756_684_799, "2025-08-31T23:59:59Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(unix_seconds * 1_000_000_000), text);
        assert_eq!(parse_rfc3339(text), Some(unix_seconds * 1_000_000_000));
    }
}

#[test]
fn other_spellings_of_a_time_are_read_and_what_is_no_time_is_not() {
    for text in ["2025-09-01T01:59:59+02:00", "2025-08-31T18:29:59-05:30", "2025-08-31T23:59:59.123456Z"] {
        assert_eq!(parse_rfc3339(text), Some(1_756_684_799 * 1_000_000_000), "{text}");
    }
    for text in
        ["", "yesterday", "2025-08-31", "2025-13-01T00:00:00Z", "2025-08-31T23:59:59", "2025-08-31 23:59:59Z", "\u{e9}"]
    {
        assert_eq!(parse_rfc3339(text), None, "{text}");
    }
    // Anybody can write a tag.
    for zone in ["+9999999999999999:00", "+02:60", "+2:00", "+-2:00", "+02:+0", "+00:0x", "Z ", "+", ".Z0"] {
        assert_eq!(parse_rfc3339(&format!("2025-09-01T00:00:00{zone}")), None, "{zone}");
    }
    assert_eq!(parse_rfc3339("-025-09-01T00:00:00Z"), None);
    assert_eq!(parse_rfc3339("2025-09-01T+1:00:00Z"), None);
}

proptest::proptest! {
    #[test]
    fn every_time_reads_back_as_it_was_written(seconds in -9_000_000_000_i64..9_000_000_000) {
        proptest::prop_assert_eq!(parse_rfc3339(&rfc3339(seconds * 1_000_000_000)), Some(seconds * 1_000_000_000));
    }
}
