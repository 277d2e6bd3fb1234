// SPDX-License-Identifier: Apache-2.0
//! Instance metadata: the items that are read, one of them other than it should be.

use aws_config::BehaviorVersion;
use aws_config::imds::Client;
use aws_config::provider_config::ProviderConfig;
use ipamd_core::event::FailureClass;

use super::canned::Canned;
use crate::imds::{Imds, READ_TIMEOUT, ROOT};

const ENI: &str = "network/interfaces/macs/0e:00:00:00:00:0a/";

/// What is right of each item, by its path; those that begin with `/` are the ENI's.
const RIGHT: [(&str, &str); 17] = [
    ("mac", "0e:00:00:00:00:0a"),
    ("local-ipv4", "10.0.1.10"),
    ("instance-id", "i-1"),
    ("instance-type", "m5.large"),
    ("placement/availability-zone", "us-east-1a"),
    ("placement/region", "us-east-1"),
    ("network/interfaces/macs/", "0e:00:00:00:00:0a/"),
    ("/vpc-id", "vpc-1"),
    ("/interface-id", "eni-1"),
    ("/device-number", "0"),
    ("/network-card", "0"),
    ("/subnet-id", "subnet-1"),
    ("/subnet-ipv4-cidr-block", "10.0.1.0/24"),
    ("/security-group-ids", "sg-1\nsg-2"),
    ("/vpc-ipv4-cidr-blocks", "10.0.0.0/16\n100.64.0.0/16"),
    ("/local-ipv4s", "10.0.1.10\n10.0.1.11\n10.0.1.12"),
    ("/ipv4-prefix", "10.0.1.32/28\n10.0.1.48/28"),
];

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item(usize);

impl Item {
    pub(crate) fn named(name: &str) -> Option<Self> {
        RIGHT.iter().position(|(path, _)| *path == name).map(Self)
    }

    pub(crate) fn name(self) -> &'static str {
        RIGHT[self.0].0
    }
}

#[cfg(test)]
impl Item {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..RIGHT.len()).map(Self)
    }

    pub(crate) fn right(self) -> &'static str {
        RIGHT[self.0].1
    }
}

fn path(name: &str) -> String {
    name.strip_prefix('/').map_or_else(|| name.to_owned(), |item| format!("{ENI}{item}"))
}

/// An edge without a network, to which every item is right but this one.
pub(crate) fn edge(spoilt: Option<(Item, &[u8])>) -> Imds {
    let items: Vec<(String, Vec<u8>)> = RIGHT
        .iter()
        .enumerate()
        .map(|(at, (name, right))| {
            let body = spoilt.filter(|(item, _)| item.0 == at).map_or(right.as_bytes(), |(_, body)| body);
            (format!("{ROOT}{}", path(name)), body.to_vec())
        })
        .collect();
    let canned = Canned::new();
    canned.answer(move |uri| match items.iter().find(|(path, _)| uri.ends_with(path)) {
        Some((_, body)) => (200, body.clone()),
        None => (404, Vec::new()),
    });
    let provider = ProviderConfig::without_region()
        .with_http_client(canned.client())
        .with_behavior_version(Some(BehaviorVersion::v2026_01_12()));
    Imds::with(Client::builder().configure(&provider).max_attempts(1).operation_timeout(READ_TIMEOUT))
}

/// Reads facts and ENIs, and says when what must hold of them does not.
pub(crate) async fn hold(item: Item, body: &[u8]) {
    let imds = edge(Some((item, body)));
    let text = String::from_utf8_lossy(body);
    let said = || format!("{}: {text:?}", item.name());
    match imds.facts().await {
        Ok(facts) => {
            let has_empty = facts.security_group_ids.iter().any(|group| group.as_str().is_empty());
            assert!(!facts.instance_id.as_str().is_empty() && !has_empty, "{}: {facts:?}", said());
        }
        Err(failure) => {
            let named = failure.class == FailureClass::Transient || failure.class == FailureClass::NotFound;
            assert!(named && failure.message.contains("IMDS"), "{}: {failure:?}", said());
        }
    }
    let Ok(enis) = imds.enis(&"i-1".into()).await else { return };
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    for eni in enis {
        match item.name() {
            "/local-ipv4s" => {
                let primary = usize::from(!eni.primary_address.is_unspecified());
                let found = eni.secondary_addresses.len();
                assert!(found + primary >= lines.min(1) && lines <= 1 + found, "{}: {eni:?}", said());
            }
            "/ipv4-prefix" => assert_eq!(eni.prefixes.len(), lines, "{}: {eni:?}", said()),
            _ => {}
        }
    }
}
