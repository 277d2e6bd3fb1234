// SPDX-License-Identifier: Apache-2.0
//! How the AWS clients are built: one place for behaviour version, HTTP client, time limits, retries and endpoints.
//!
//! The SDK's own environment stays in force (sources of credentials, `AWS_ENDPOINT_URL[_EC2]`, `AWS_ENDPOINT_URL_STS`,
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT`); ours is passed in as [`Settings`]. The HTTP client is given explicitly everywhere:
//! without the SDK's default one, `imds::Client` panics at its first use when it is not.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use ipamd_core::config::Proxies;
use ipamd_core::ids::BootTime;

use crate::credentials::Sources;
use crate::route;
use crate::trust::Trust;
use crate::watch::Watcher;

/// Limit of making a connection, name resolution and TLS included; the SDK's own default is 3.1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Attempts of a call that may be repeated; the SDK's own default and the reference's.
const ATTEMPTS: u32 = 3;

/// The share of a call's limit that getting credentials for it may take.
const CREDENTIALS_SHARE: f64 = 0.6;

/// What the daemon's configuration says about AWS.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limit of one call with all its attempts (`HTTP_TIMEOUT`).
    pub http_timeout: Duration,
    /// `AWS_EC2_ENDPOINT`: where EC2 answers, before the SDK's own endpoint variables.
    pub ec2_endpoint: Option<String>,
    /// `AWS_CA_BUNDLE`: the certificate authorities that are trusted, in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxies: Proxies,
    /// The clock that the core's times come from.
    pub clock: fn() -> BootTime,
    /// Who is told of every call.
    pub watcher: Watcher,
}

/// The AWS clients could not be built.
#[derive(Debug, thiserror::Error)]
#[error("building the AWS clients: {0}")]
pub struct ConnectError(pub(crate) String);

/// Retries of a call that may be repeated. `standard`, not `adaptive`: that one has a single limiter per client, which
/// slows unrelated actions; EC2 throttles per action, and so do our buckets.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

/// Time limits of a call. An answer may take as long as the whole call may: a second attempt is for what fails at once or does
/// not connect, and a call that is sent once waits no shorter than the others.
pub(crate) fn timeouts(http_timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(http_timeout))
        .operation_attempt_timeout(http_timeout)
        .operation_timeout(http_timeout)
        .build()
}

/// Time limits of getting credentials, as of calls: shorter than the call that needs them, so that what is wrong with STS ends
/// that call as what it is, before the call's own limit says only that EC2 did not answer.
fn credentials_timeouts(http_timeout: Duration) -> TimeoutConfig {
    timeouts(http_timeout.mul_f64(CREDENTIALS_SHARE))
}

/// The shared configuration: sources of credentials, region, endpoints; and the sources, to be asked what signs.
pub(crate) async fn sdk_config(settings: &Settings, region: &str) -> Result<(SdkConfig, Sources), ConnectError> {
    let name = concat!("enid-", env!("CARGO_PKG_VERSION"));
    let app_name = AppName::new(name).map_err(|error| ConnectError(format!("application name {name}: {error}")))?;
    let client = route::http_client(Trust::new(settings.ca_bundle.as_deref()), &settings.proxies)?;
    let region = Region::new(region.to_owned());
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(client.clone())
        .region(region.clone())
        .app_name(app_name)
        .retry_config(retries())
        .timeout_config(timeouts(settings.http_timeout));
    let shared = loader.no_credentials().load().await;
    let (fips, dual_stack) = (shared.use_fips(), shared.use_dual_stack());
    let limits = credentials_timeouts(settings.http_timeout);
    let patience = limits.operation_timeout().unwrap_or(settings.http_timeout);
    let of_sources = move || {
        ProviderConfig::without_region()
            .with_http_client(client.clone())
            .with_region(Some(region.clone()))
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
            .with_use_fips(fips)
            .with_use_dual_stack(dual_stack)
            .with_retry_config(retries())
            .with_timeout_config(limits.clone())
    };
    let sources = Sources::new(of_sources, patience);
    let provider = SharedCredentialsProvider::new(sources.clone());
    Ok((shared.into_builder().credentials_provider(provider).build(), sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_the_default_limit_connects_within_five_seconds_and_ends_within_ten() {
        let limits = timeouts(Duration::from_secs(10));
        assert!(limits.connect_timeout().is_some_and(|limit| limit <= Duration::from_secs(5)));
        assert!(limits.operation_timeout().is_some_and(|limit| limit <= Duration::from_secs(10)));
        assert!(limits.operation_attempt_timeout() <= limits.operation_timeout());
    }

    #[test]
    fn getting_credentials_ends_well_before_the_call_that_needs_them() {
        for limit in [Duration::from_secs(1), Duration::from_secs(10)] {
            let (credentials, call) = (credentials_timeouts(limit), timeouts(limit));
            assert!(credentials.operation_timeout() < call.operation_timeout().map(|call| call.mul_f64(0.75)));
            assert!(credentials.connect_timeout() <= credentials.operation_timeout());
        }
    }
}
