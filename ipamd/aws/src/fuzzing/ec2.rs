// SPDX-License-Identifier: Apache-2.0
//! EC2: calls of each shape of answer, and what must hold of their outcomes.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::config::Credentials;
use aws_sdk_ec2::config::retry::RetryConfig;
use ipamd_core::action::{ActionKind, Fill, Priority, SubnetQuery};
use ipamd_core::event::{Failure, FailureClass, Outcome};
use ipamd_core::ids::{BootTime, DeviceIndex};

use super::canned::Canned;
use crate::config::Settings;
use crate::ec2::Ec2;

/// A call whose answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// DescribeNetworkInterfaces.
    Enis,
    /// DescribeSubnets.
    Subnets,
    /// AssignPrivateIpAddresses.
    Assign,
    /// AttachNetworkInterface.
    Attach,
    /// CreateNetworkInterface.
    Create,
    /// DescribeInstanceTypes.
    Types,
}

impl Call {
    pub(crate) const ALL: [Self; 6] =
        [Self::Enis, Self::Subnets, Self::Assign, Self::Attach, Self::Create, Self::Types];

    /// The word that inputs name it by.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Enis => "enis",
            Self::Subnets => "subnets",
            Self::Assign => "assign",
            Self::Attach => "attach",
            Self::Create => "create",
            Self::Types => "types",
        }
    }

    /// The action on the wire.
    pub(crate) fn action_name(self) -> &'static str {
        match self {
            Self::Enis => "DescribeNetworkInterfaces",
            Self::Subnets => "DescribeSubnets",
            Self::Assign => "AssignPrivateIpAddresses",
            Self::Attach => "AttachNetworkInterface",
            Self::Create => "CreateNetworkInterface",
            Self::Types => "DescribeInstanceTypes",
        }
    }

    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.word() == word)
    }

    /// Whether doing it twice is not doing it once, so that it must not be repeated blindly.
    fn is_sent_once(self) -> bool {
        matches!(self, Self::Assign | Self::Attach)
    }

    /// `None`: no action of the core's.
    fn action(self) -> Option<ActionKind> {
        Some(match self {
            Self::Enis => ActionKind::DescribeEnis { instance_id: "i-1".into(), also: Vec::new(), tokens: Vec::new() },
            Self::Subnets => ActionKind::DescribeSubnets(SubnetQuery::Named(vec!["subnet-1".into()])),
            Self::Assign => ActionKind::Assign { eni_id: "eni-1".into(), fill: Fill::Addresses(1) },
            Self::Attach => ActionKind::AttachEni {
                eni_id: "eni-1".into(),
                instance_id: "i-1".into(),
                device_index: DeviceIndex(1),
                network_card: 0,
            },
            Self::Create => ActionKind::CreateEni {
                subnet_id: "subnet-1".into(),
                security_group_ids: Vec::new(),
                fill: Fill::Prefixes(1),
                client_token: "t".to_owned(),
                description: String::new(),
                tags: Vec::new(),
            },
            Self::Types => return None,
        })
    }
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Outcome(Box<Outcome>),
    Limits(instance_limits::InstanceLimits),
    Failed(Failure),
}

/// An edge without a network. A new one each time: a client's bucket is soon empty, and it remembers subnets.
fn edge(canned: &Canned) -> Ec2 {
    let settings = Settings {
        http_timeout: Duration::from_secs(10),
        ec2_endpoint: None,
        ca_bundle: None,
        proxies: Default::default(),
        clock: BootTime::default,
        watcher: None,
    };
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(canned.client())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url("http://ec2.test");
    Ec2::new(config, &settings)
}

/// Makes the call, and gives how it ended.
pub(crate) async fn answered(call: Call, status: u16, body: &[u8]) -> Ended {
    let canned = Canned::new();
    let answer = body.to_vec();
    canned.answer(move |_| (status, answer.clone()));
    let edge = edge(&canned);
    match call.action() {
        Some(action) => match edge.run(Priority::Waiting, &action).await {
            Outcome::Failed(failure) => Ended::Failed(failure),
            outcome => Ended::Outcome(Box::new(outcome)),
        },
        None => match edge.instance_limits("m9.large").await {
            Ok(limits) => Ended::Limits(limits),
            Err(failure) => Ended::Failed(failure),
        },
    }
}

/// Makes the call, and says when what must hold of its end does not. A status that HTTP has not is no answer.
pub(crate) async fn hold(call: Call, status: u16, body: &[u8]) {
    if !(200..600).contains(&status) {
        return;
    }
    let said = || format!("{call:?} answered {status} {}", String::from_utf8_lossy(body));
    match answered(call, status, body).await {
        Ended::Failed(failure) => hold_failure(call, status, &failure, &said()),
        Ended::Outcome(outcome) => match *outcome {
            Outcome::EnisDescribed { enis, .. } => {
                for eni in enis {
                    assert!(!eni.eni_id.as_str().is_empty(), "{}", said());
                    assert!(!eni.secondary_addresses.contains(&eni.primary_address), "{}", said());
                }
            }
            _ => assert!((200..300).contains(&status), "{}", said()),
        },
        Ended::Limits(limits) => assert!(!limits.cards.is_empty(), "{}", said()),
    }
}

fn hold_failure(call: Call, status: u16, failure: &Failure, said: &str) {
    assert!(!failure.code.is_empty() && !failure.message.is_empty(), "{said}");
    let names_its_action = failure.message.strip_prefix(call.action_name()).is_some_and(|rest| rest.starts_with(": "));
    assert!(failure.class != FailureClass::Denied || names_its_action, "{failure:?} of {said}");
    if !call.is_sent_once() {
        return;
    }
    if (200..300).contains(&status) || status >= 500 {
        // Named codes are EC2's word; without one nobody knows whether it was done.
        let named = status >= 500 && !failure.code.starts_with("Http");
        assert!(named || failure.class == FailureClass::Unknown, "{failure:?} of {said}");
    }
    let tags = failure.code == "ConcurrentTagAccess";
    assert!(failure.class != FailureClass::Transient || tags, "{failure:?} of {said}");
}
