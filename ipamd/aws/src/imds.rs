// SPDX-License-Identifier: Apache-2.0
//! IMDS: who this instance is, as typed facts.
//!
//! Does not poll (the daemon asks again about once a minute). ENIs it lists ([`enis`]) only for a daemon that must not ask EC2, and for
//! checks: EC2's own description is the truth about those, IMDS lags behind it both ways. Tokens (IMDSv2) are the SDK client's, which
//! keeps one for its whole life of 6 hours even when IMDS does not accept it any more (401): then the client is replaced, and with it the
//! token.
//!
//! Invariant: absence (404) is `Ok(None)` of [`Imds::get`], and a failure only where the fact is one we cannot do without.
//!
//! Source: EC2 user guide, "Instance metadata categories".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::imds::client::{Builder, ImdsResponseRetryClassifier, SensitiveString};
use aws_config::provider_config::ProviderConfig;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction, SharedRetryClassifier};
use ipamd_core::event::{Failure, FailureClass, InstanceFacts};
use ipamd_core::ids::{EniId, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};
use ipnet::Ipv4Net;

use crate::chain;
use crate::route::imds_http_client;

/// Root of everything we read.
pub(crate) const ROOT: &str = "/latest/meta-data/";

/// Limit of one read with its token and all its attempts. A connection may take a second, an answer as well: the SDK's
/// defaults, under which a read without an answer is over after one or two.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP's answer to a token that is not (or no longer) valid.
const UNAUTHORIZED: u16 = 401;

/// The IMDS edge. Cheap to clone; clones share the token.
#[derive(Clone, Debug)]
pub struct Imds {
    builder: Builder,
    client: Arc<Mutex<Client>>,
}

/// The SDK's retries, but none with a token that was refused.
#[derive(Debug, Default)]
struct RefusedTokensAreNotRetried(ImdsResponseRetryClassifier);

impl ClassifyRetry for RefusedTokensAreNotRetried {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response().map(|response| response.status().as_u16()) {
            Some(UNAUTHORIZED) => RetryAction::NoActionIndicated,
            _ => self.0.classify_retry(context),
        }
    }

    fn name(&self) -> &'static str {
        "RefusedTokensAreNotRetried"
    }
}

impl Imds {
    /// A client for the endpoint of the environment (`AWS_EC2_METADATA_SERVICE_ENDPOINT`; default 169.254.169.254).
    #[must_use]
    pub fn new() -> Self {
        Self::with(Self::builder())
    }

    pub(crate) fn with(builder: Builder) -> Self {
        let client = Arc::new(Mutex::new(builder.clone().build()));
        Self { builder, client }
    }

    fn builder() -> Builder {
        let provider = ProviderConfig::without_region()
            .with_http_client(imds_http_client())
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()));
        let classifier = SharedRetryClassifier::new(RefusedTokensAreNotRetried::default());
        Client::builder().configure(&provider).retry_classifier(classifier).operation_timeout(READ_TIMEOUT)
    }

    /// One item below `/latest/meta-data/`, trimmed; `Ok(None)`: IMDS has no such item.
    pub async fn get(&self, path: &str) -> Result<Option<String>, Failure> {
        let mut answer = self.ask(path).await;
        if answer.as_ref().is_err_and(|error| status(error) == Some(UNAUTHORIZED)) {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = self.builder.clone().build();
            answer = self.ask(path).await;
        }
        match answer {
            Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(path, &error)),
        }
    }

    async fn ask(&self, path: &str) -> Result<SensitiveString, ImdsError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.get(format!("{ROOT}{path}")).await
    }

    /// Everything the daemon has to know of its instance.
    pub async fn facts(&self) -> Result<InstanceFacts, Failure> {
        let primary_mac: MacAddr = self.parsed("mac").await?;
        self.check_primary(primary_mac).await?;
        let eni = |item: &str| format!("network/interfaces/macs/{primary_mac}/{item}");
        Ok(InstanceFacts {
            instance_id: InstanceId(self.required("instance-id").await?),
            instance_type: self.required("instance-type").await?,
            availability_zone: self.required("placement/availability-zone").await?,
            region: self.required("placement/region").await?,
            vpc_id: VpcId(self.required(&eni("vpc-id")).await?),
            vpc_cidrs: self.vpc_cidrs(primary_mac).await?,
            primary_eni_id: EniId(self.required(&eni("interface-id")).await?),
            primary_address: self.parsed("local-ipv4").await?,
            subnet_id: SubnetId(self.required(&eni("subnet-id")).await?),
            subnet_cidr: self.parsed(&eni("subnet-ipv4-cidr-block")).await?,
            security_group_ids: self.security_groups(primary_mac).await?,
            primary_mac,
        })
    }

    /// The primary ENI is at device index 0 of network card 0 (EC2 user guide, "Elastic network interfaces"); everything we do to it
    /// and to the others rests on that. Metadata that says otherwise is of another ENI, or wrong.
    async fn check_primary(&self, mac: MacAddr) -> Result<(), Failure> {
        let path = format!("network/interfaces/macs/{mac}/device-number");
        let index = match self.get(&path).await? {
            Some(text) => text.parse::<u32>().map_err(|_| unreadable(&path, &text))?,
            None => 0,
        };
        let card = self.network_card(mac).await?;
        if (card, index) == (0, 0) {
            return Ok(());
        }
        Err(Failure {
            class: FailureClass::Transient,
            code: "ImdsPrimaryEni".to_owned(),
            message: format!(
                "IMDS names {mac} as the MAC of the primary ENI, and says that it is at device index {index} of network card {card}; \
                 the primary ENI is at index 0 of card 0. Look whether what answers at the metadata endpoint is this instance's"
            ),
            retry_after: None,
        })
    }

    /// The same facts with those read again that change in an instance's life: VPC blocks and security groups.
    pub async fn refreshed(&self, facts: &InstanceFacts) -> Result<InstanceFacts, Failure> {
        let mac = facts.primary_mac;
        // At once: the thread is woken for both answers together.
        let (vpc_cidrs, security_group_ids) = tokio::try_join!(self.vpc_cidrs(mac), self.security_groups(mac))?;
        Ok(InstanceFacts { vpc_cidrs, security_group_ids, ..facts.clone() })
    }

    async fn vpc_cidrs(&self, mac: MacAddr) -> Result<Vec<Ipv4Net>, Failure> {
        let path = format!("network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks");
        let text = self.required(&path).await?;
        enis::lines(&text).map(|line| line.parse().map_err(|_| unreadable(&path, line))).collect()
    }

    async fn security_groups(&self, mac: MacAddr) -> Result<Vec<SecurityGroupId>, Failure> {
        let text = self.required(&format!("network/interfaces/macs/{mac}/security-group-ids")).await?;
        Ok(enis::lines(&text).map(|line| SecurityGroupId(line.to_owned())).collect())
    }

    async fn required(&self, path: &str) -> Result<String, Failure> {
        let text = self.get(path).await?.ok_or_else(|| Failure {
            class: FailureClass::NotFound,
            code: "ImdsNotFound".to_owned(),
            message: format!("IMDS has no {path}"),
            retry_after: None,
        })?;
        if text.is_empty() { Err(unreadable(path, &text)) } else { Ok(text) }
    }

    async fn parsed<T: std::str::FromStr>(&self, path: &str) -> Result<T, Failure> {
        let text = self.required(path).await?;
        text.parse().map_err(|_| unreadable(path, &text))
    }
}

/// A client for keys of the instance role, with a token of its own; `limit`: of one read.
pub(crate) fn credentials_client(limit: Duration) -> Client {
    Imds::builder().operation_timeout(limit).build()
}

/// Whether metadata says (404) that the instance has no role; `false`, too, where it does not answer.
pub(crate) async fn has_no_role(client: &Client) -> bool {
    let answer = client.get(format!("{ROOT}iam/security-credentials/")).await;
    answer.is_err_and(|error| status(&error) == Some(404))
}

impl Default for Imds {
    fn default() -> Self {
        Self::new()
    }
}

fn unreadable(path: &str, text: &str) -> Failure {
    Failure {
        class: FailureClass::Transient,
        code: "ImdsUnreadable".to_owned(),
        message: format!("IMDS answered {path} with {text:?}"),
        retry_after: None,
    }
}

fn status(error: &ImdsError) -> Option<u16> {
    match error {
        ImdsError::ErrorResponse(answer) => Some(answer.response().status().as_u16()),
        _ => None,
    }
}

fn failure(path: &str, error: &ImdsError) -> Failure {
    let (class, code) = match error {
        _ if status(error) == Some(403) => (FailureClass::Denied, "ImdsForbidden"),
        ImdsError::FailedToLoadToken(_) => (FailureClass::Transient, "ImdsNoToken"),
        _ => (FailureClass::Transient, "ImdsUnavailable"),
    };
    let message = format!("reading {path} from IMDS: {}", chain(error));
    Failure { class, code: code.to_owned(), message, retry_after: None }
}

mod enis;

#[cfg(test)]
mod tests;
