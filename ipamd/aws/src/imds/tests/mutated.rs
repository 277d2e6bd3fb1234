// SPDX-License-Identifier: Apache-2.0
//! Answers of instance metadata that are not as they should be: no panic, a fact that cannot be read is a failure that names its item,
//! and a list is never shorter than what was answered.

use aws_config::provider_config::ProviderConfig;

use super::*;
use crate::canned::{Canned, Mutator};

const ENI: &str = "network/interfaces/macs/0e:00:00:00:00:0a";

fn items() -> Vec<(String, &'static str)> {
    let eni = |item: &str| format!("{ENI}/{item}");
    vec![
        ("mac".to_owned(), "0e:00:00:00:00:0a"),
        ("local-ipv4".to_owned(), "10.0.1.10"),
        ("instance-id".to_owned(), "i-1"),
        ("instance-type".to_owned(), "m5.large"),
        ("placement/availability-zone".to_owned(), "us-east-1a"),
        ("placement/region".to_owned(), "us-east-1"),
        ("network/interfaces/macs/".to_owned(), "0e:00:00:00:00:0a/"),
        (eni("vpc-id"), "vpc-1"),
        (eni("interface-id"), "eni-1"),
        (eni("device-number"), "0"),
        (eni("network-card"), "0"),
        (eni("subnet-id"), "subnet-1"),
        (eni("subnet-ipv4-cidr-block"), "10.0.1.0/24"),
        (eni("security-group-ids"), "sg-1\nsg-2"),
        (eni("vpc-ipv4-cidr-blocks"), "10.0.0.0/16\n100.64.0.0/16"),
        (eni("local-ipv4s"), "10.0.1.10\n10.0.1.11\n10.0.1.12"),
        (eni("ipv4-prefix"), "10.0.1.32/28\n10.0.1.48/28"),
    ]
}

fn edge(canned: &Canned) -> Imds {
    let provider = ProviderConfig::without_region()
        .with_http_client(canned.client())
        .with_behavior_version(Some(BehaviorVersion::v2026_01_12()));
    Imds::with(Client::builder().configure(&provider).max_attempts(1).operation_timeout(READ_TIMEOUT))
}

fn serve(canned: &Canned, items: Vec<(String, Vec<u8>)>) {
    canned.answer(move |uri| match items.iter().find(|(path, _)| uri.ends_with(&format!("{ROOT}{path}"))) {
        Some((_, body)) => (200, body.clone()),
        None => (404, Vec::new()),
    });
}

#[tokio::test]
async fn items_that_are_spoilt_are_failures_that_name_them_or_say_what_they_say() {
    let canned = Canned::new();
    let right: Vec<(String, Vec<u8>)> =
        items().into_iter().map(|(path, text)| (path, text.as_bytes().to_vec())).collect();
    serve(&canned, right.clone());
    let imds = edge(&canned);
    assert_eq!(imds.facts().await.unwrap().vpc_cidrs.len(), 2);
    assert_eq!(imds.enis(&"i-1".into()).await.unwrap()[0].prefixes.len(), 2);
    let mut mutator = Mutator::new();
    for _ in 0..Mutator::rounds() / 5 {
        let mut items = right.clone();
        let which = mutator.below(items.len());
        let (path, body) = &mut items[which];
        *body = mutator.change(&String::from_utf8_lossy(body));
        let (path, text) = (path.clone(), String::from_utf8_lossy(body).into_owned());
        serve(&canned, items);
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        match imds.facts().await {
            Ok(facts) => {
                let groups = facts.security_group_ids.iter();
                let has_empty = groups.map(|group| group.as_str()).any(str::is_empty);
                assert!(!facts.instance_id.as_str().is_empty() && !has_empty, "{path}: {text:?}: {facts:?}");
            }
            Err(failure) => {
                let named = failure.class == FailureClass::Transient || failure.class == FailureClass::NotFound;
                assert!(named && failure.message.contains("IMDS"), "{path}: {text:?}: {failure:?}");
            }
        }
        let Ok(enis) = imds.enis(&"i-1".into()).await else { continue };
        for eni in enis {
            if path.ends_with("local-ipv4s") {
                let primary = usize::from(!eni.primary_address.is_unspecified());
                assert!(
                    eni.secondary_addresses.len() + primary >= lines.min(1)
                        && lines <= 1 + eni.secondary_addresses.len(),
                    "{text:?}"
                );
            }
            if path.ends_with("ipv4-prefix") {
                assert_eq!(eni.prefixes.len(), lines, "{text:?}");
            }
        }
    }
}
