// SPDX-License-Identifier: Apache-2.0
//! Answers of EC2 that are not as they should be, through the SDK's own readers: no panic, nothing made up, and a call that must not be
//! repeated is never called one that may.

use ipamd_core::action::{ActionKind, Fill, Priority, SubnetQuery};

use super::*;
use crate::canned::{Canned, Mutator};

fn edge(canned: &Canned) -> Ec2 {
    let settings = Settings {
        http_timeout: Duration::from_secs(10),
        ec2_endpoint: None,
        ca_bundle: None,
        proxies: Default::default(),
        clock,
        watcher: None,
    };
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(canned.client())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .retry_config(aws_sdk_ec2::config::retry::RetryConfig::disabled())
        .endpoint_url("http://ec2.test");
    Ec2::new(config, &settings)
}

fn answered(action: &str, content: &str) -> String {
    format!(r#"{HEAD}<{action}Response xmlns="{NAMESPACE}"><requestId>r-1</requestId>{content}</{action}Response>"#)
}

/// Calls with an answer each that is right.
fn calls() -> Vec<(ActionKind, String)> {
    let attached = eni_xml("eni-1", 10, ATTACHED);
    let prefix = "<ipv4PrefixSet><item><ipv4Prefix>10.0.1.32/28</ipv4Prefix></item></ipv4PrefixSet>";
    let fresh = eni_xml("eni-2", 11, &format!("<status>pending</status>{prefix}"));
    let subnet = "<subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><cidrBlock>10.0.1.0/24</cidrBlock>\
        <availableIpAddressCount>200</availableIpAddressCount><availabilityZone>us-east-1a</availabilityZone>\
        <tagSet><item><key>kubernetes.io/role/cni</key><value>1</value></item></tagSet>";
    let assigned = "<networkInterfaceId>eni-1</networkInterfaceId><assignedPrivateIpAddressesSet><item>\
        <privateIpAddress>10.0.1.120</privateIpAddress></item></assignedPrivateIpAddressesSet>\
        <assignedIpv4PrefixSet><item><ipv4Prefix>10.0.1.48/28</ipv4Prefix></item></assignedIpv4PrefixSet>";
    let enis = format!("<networkInterfaceSet><item>{attached}</item><item>{fresh}</item></networkInterfaceSet>");
    vec![
        (
            ActionKind::DescribeEnis { instance_id: "i-1".into(), also: Vec::new(), tokens: Vec::new() },
            answered("DescribeNetworkInterfaces", &enis),
        ),
        (
            ActionKind::DescribeSubnets(SubnetQuery::Named(vec!["subnet-1".into()])),
            answered("DescribeSubnets", &format!("<subnetSet><item>{subnet}</item></subnetSet>")),
        ),
        (
            ActionKind::Assign { eni_id: "eni-1".into(), fill: Fill::Addresses(1) },
            answered("AssignPrivateIpAddresses", assigned),
        ),
        (
            ActionKind::AttachEni {
                eni_id: "eni-1".into(),
                instance_id: "i-1".into(),
                device_index: DeviceIndex(1),
                network_card: 0,
            },
            answered("AttachNetworkInterface", "<attachmentId>eni-attach-1</attachmentId>"),
        ),
        (
            ActionKind::CreateEni {
                subnet_id: "subnet-1".into(),
                security_group_ids: Vec::new(),
                fill: Fill::Prefixes(1),
                client_token: "t".to_owned(),
                description: String::new(),
                tags: Vec::new(),
            },
            answered("CreateNetworkInterface", &format!("<networkInterface>{fresh}</networkInterface>")),
        ),
    ]
}

fn is_sent_once(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::Assign { .. } | ActionKind::AttachEni { .. })
}

/// What must hold of an outcome, whatever was answered.
fn check(kind: &ActionKind, (status, body): (u16, &[u8]), outcome: Outcome) {
    let said = || format!("{kind:?} answered {status} {}", String::from_utf8_lossy(body));
    match outcome {
        Outcome::Failed(failure) => {
            assert!(!failure.code.is_empty() && !failure.message.is_empty(), "{}", said());
            if is_sent_once(kind) && (status == 200 || status >= 500) {
                // Named codes are EC2's word; without one nobody knows whether it was done.
                let named = status >= 500 && !failure.code.starts_with("Http");
                assert!(named || failure.class == FailureClass::Unknown, "{failure:?} of {}", said());
            }
            let tags = failure.code == "ConcurrentTagAccess";
            assert!(!is_sent_once(kind) || failure.class != FailureClass::Transient || tags, "{}", said());
        }
        Outcome::EnisDescribed { enis, .. } => {
            for eni in enis {
                assert!(!eni.eni_id.as_str().is_empty(), "{}", said());
                assert!(!eni.secondary_addresses.contains(&eni.primary_address), "{}", said());
            }
        }
        _ => assert_eq!(status, 200, "{}", said()),
    }
}

#[tokio::test]
async fn answers_that_are_spoilt_are_failures_of_the_right_kind_or_say_what_they_say() {
    let canned = Canned::new();
    let calls = calls();
    let errors = [
        ("RequestLimitExceeded", "Request limit exceeded."),
        ("InvalidParameterValue", "Network interface 'eni-1' is currently in use."),
        ("InternalError", "An internal error has occurred"),
        ("InsufficientFreeAddressesInSubnet", "no"),
    ];
    // The answers are right before they are spoilt.
    for (kind, body) in &calls {
        let answer = body.clone().into_bytes();
        canned.answer(move |_| (200, answer.clone()));
        let outcome = edge(&canned).run(Priority::Waiting, kind).await;
        assert!(!matches!(outcome, Outcome::Failed(_)), "{kind:?}: {outcome:?}");
    }
    let mut mutator = Mutator::new();
    for _ in 0..Mutator::rounds() {
        let (kind, right) = &calls[mutator.below(calls.len())];
        let (code, message) = errors[mutator.below(errors.len())];
        let wrong = format!(
            "{HEAD}<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
             <RequestID>r-2</RequestID></Response>"
        );
        let (status, text) = match mutator.below(4) {
            0 => (400, &wrong),
            1 => (503, &wrong),
            _ => (200, right),
        };
        let body = mutator.change(text);
        let answer = body.clone();
        canned.answer(move |_| (status, answer.clone()));
        // A new one each time: a client's bucket is soon empty, and it remembers subnets.
        let outcome = edge(&canned).run(Priority::Waiting, kind).await;
        check(kind, (status, &body), outcome);
    }
}

/// Of a list the SDK's reader takes what comes before the place that it cannot read, and says nothing: only of what must be there we hear.
#[tokio::test]
async fn a_success_that_cannot_be_read_may_have_happened() {
    let canned = Canned::new();
    let attach = |(kind, _): &(ActionKind, String)| matches!(kind, ActionKind::AttachEni { .. });
    let (kind, right) = calls().into_iter().find(attach).unwrap();
    let answer = right.replace("eni-attach-1", "eni-\0attach-1").into_bytes();
    canned.answer(move |_| (200, answer.clone()));
    let failure = failure(edge(&canned).run(Priority::Waiting, &kind).await);
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Unknown, "UnreadableAnswer"), "{failure:?}");
}
