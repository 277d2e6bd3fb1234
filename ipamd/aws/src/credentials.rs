// SPDX-License-Identifier: Apache-2.0
//! Whose keys sign our calls: the sources that AWS SDKs know, in their order, each asked anew when keys are due.
//!
//! Decides which source is asked and how its failure is told. Keys are kept, and renewed before they expire, by the SDK's cache,
//! which calls in here for that; files of tokens are read then, so a rotated one counts from the next time on. Not the SDK's own
//! chain: that one names no source in its errors, reaches metadata through the proxy, and keeps a metadata token that is refused.
//!
//! Invariant: a source that is configured, by any of its variables, and gives no keys ends the search. Keys of another one, with other
//! rights, are never taken in its place. Keys of the instance role serve on while metadata fails, until they expire or metadata
//! says that there is no role.
//!
//! ```text
//! environment ─none─► profile ─none─► web identity ─none─► container ─none─► instance role ─none─► NoCredentials, all named
//!      └──────────────────┴──── keys, or a failure that names the source ───────────┴─ no answer ─────► CredentialsUnavailable, all named
//! ```
//!
//! Source: AWS SDKs and Tools reference guide, "Standardized credential providers".
#![expect(clippy::disallowed_methods, reason = "the variables are the SDK's, and keys expire by the clock of the day")]

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as Provided, future};
use ipamd_core::reason::ReasonCode;

use crate::imds::{credentials_client, has_no_role};
use crate::trust::NoAuthorities;

/// A place that keys may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Environment,
    Profile,
    WebIdentity,
    Container,
    InstanceRole,
}

/// In the order in which they are asked.
const SOURCES: [Source; 5] =
    [Source::Environment, Source::Profile, Source::WebIdentity, Source::Container, Source::InstanceRole];

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment keys (AWS_ACCESS_KEY_ID)",
            Self::Profile => "profile (AWS_PROFILE, ~/.aws)",
            Self::WebIdentity => "web identity (AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE)",
            Self::Container => "container credentials (AWS_CONTAINER_CREDENTIALS_FULL_URI)",
            Self::InstanceRole => "instance role (metadata)",
        })
    }
}

impl Source {
    /// Those of its variables that are set; with one of them it is meant to give the keys. `variable`: what it holds.
    fn set(self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<&'static str> {
        let names: &[&'static str] = match self {
            Self::Environment => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            Self::Profile => &["AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", CONFIG_FILE],
            Self::WebIdentity => &["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"],
            Self::Container => &["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"],
            Self::InstanceRole => &[],
        };
        let is_set = |name: &&str| {
            let value = variable(name).filter(|value| !value.trim().is_empty());
            // A file that is there may be about a Region or a retry alone.
            value.is_some_and(|value| *name != CONFIG_FILE || !Path::new(&value).exists())
        };
        names.iter().copied().filter(is_set).collect()
    }
}

/// Settings of profiles, keys among them or not.
const CONFIG_FILE: &str = "AWS_CONFIG_FILE";

/// What signs; for the log and the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InUse {
    source: Source,
    access_key: String,
}

/// The sources. Clones share what they remember.
#[derive(Clone)]
pub(crate) struct Sources {
    /// Makes what the SDK's sources are built from; anew for each search, so that nothing of an earlier one is kept.
    config: Arc<dyn Fn() -> ProviderConfig + Send + Sync>,
    limit: std::time::Duration,
    in_use: Arc<Mutex<Option<InUse>>>,
    /// The last keys of the instance role: metadata that does not answer must not end their use.
    of_role: Arc<Mutex<Option<Credentials>>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

impl Sources {
    /// `limit`: of a whole search at instance metadata; the other sources have theirs in what `config` makes.
    pub(crate) fn new(config: impl Fn() -> ProviderConfig + Send + Sync + 'static, limit: std::time::Duration) -> Self {
        Self { config: Arc::new(config), limit, in_use: Arc::default(), of_role: Arc::default() }
    }

    /// The source of the keys that signed last; `None`: nothing was signed.
    pub(crate) fn in_use(&self) -> Option<String> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.as_ref().map(|in_use| in_use.source.to_string())
    }

    async fn search(&self) -> Provided {
        let config = (self.config)();
        let (mut without, mut may_pass) = (Vec::new(), false);
        for source in SOURCES {
            match self.ask(source, &config).await {
                Ok(keys) => {
                    self.note(source, &keys);
                    return Ok(keys);
                }
                Err(error @ CredentialsError::CredentialsNotLoaded(_)) => {
                    let set = source.set(&|name| std::env::var(name).ok());
                    if !set.is_empty() {
                        return Err(incomplete(source, &set, &error));
                    }
                    may_pass |= source == Source::InstanceRole && is_of_the_moment(&error);
                    without.push(format!("{source}: {}", causes(&error)));
                }
                Err(error) => return Err(named(source, &error)),
            }
        }
        let text = format!("no source has any: {}", without.join("; "));
        Err(if may_pass { CredentialsError::provider_error(text) } else { CredentialsError::not_loaded(text) })
    }

    async fn ask(&self, source: Source, config: &ProviderConfig) -> Provided {
        match source {
            Source::Environment => EnvironmentVariableCredentialsProvider::new().provide_credentials().await,
            Source::Profile => {
                ProfileFileCredentialsProvider::builder().configure(config).build().provide_credentials().await
            }
            Source::WebIdentity => {
                WebIdentityTokenCredentialsProvider::builder().configure(config).build().provide_credentials().await
            }
            Source::Container => {
                EcsCredentialsProvider::builder().configure(config).build().provide_credentials().await
            }
            Source::InstanceRole => self.instance_role().await,
        }
    }

    async fn instance_role(&self) -> Provided {
        let client = credentials_client(self.limit);
        let builder = ImdsCredentialsProvider::builder().imds_client(client.clone());
        let error = match builder.build().provide_credentials().await {
            Ok(keys) => {
                self.keep(Some(keys.clone()));
                return Ok(keys);
            }
            Err(error) => error,
        };
        // The SDK's error does not tell a role that is gone from metadata that is away.
        let stands = matches!(error, CredentialsError::InvalidConfiguration(_))
            || (self.held().is_some() && has_no_role(&client).await);
        if stands {
            self.keep(None);
        }
        let Some(keys) = self.held() else { return Err(error) };
        tracing::warn!(
            code = %ReasonCode::CredentialsStale, error = crate::chain(&error),
            "metadata gives no new keys, the old ones stay until they expire"
        );
        Ok(keys)
    }

    fn keep(&self, keys: Option<Credentials>) {
        *self.of_role.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The last keys of the instance role, as long as EC2 takes them.
    fn held(&self) -> Option<Credentials> {
        let keys = self.of_role.lock().unwrap_or_else(PoisonError::into_inner).clone();
        keys.filter(|keys| lives(keys, SystemTime::now()))
    }

    /// Tells of keys that are not those of last time.
    fn note(&self, source: Source, keys: &Credentials) {
        let now = InUse { source, access_key: keys.access_key_id().to_owned() };
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.as_ref() == Some(&now) {
            return;
        }
        let expires = keys.expiry().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|at| at.as_secs());
        tracing::info!(source = %source, access_key = now.access_key, expires_unix = expires, "AWS credentials");
        *in_use = Some(now);
    }
}

impl ProvideCredentials for Sources {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.search())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.held()
    }
}

/// Whether metadata did not answer: a node that is coming up may have a role all the same. That it has none is an answer (404), which
/// the SDK tells without a cause.
fn is_of_the_moment(error: &CredentialsError) -> bool {
    std::error::Error::source(error).is_some_and(|told| told.source().is_some())
}

fn lives(keys: &Credentials, now: SystemTime) -> bool {
    keys.expiry().is_none_or(|end| now < end)
}

/// A source that is set up, and has no keys all the same: what is missing stands until somebody mends it.
fn incomplete(source: Source, set: &[&str], error: &CredentialsError) -> CredentialsError {
    let why = std::error::Error::source(error).map_or_else(|| "there are no keys".to_owned(), |_| causes(error));
    CredentialsError::invalid_configuration(format!(
        "{source} has no keys, though it is set up by {}: {why}; complete it, or unset that for the next source to be asked",
        set.join(", ")
    ))
}

/// The failure of a source that is configured. What can pass stays apart from what cannot.
fn named(source: Source, error: &CredentialsError) -> CredentialsError {
    let text = format!("{source}: {}", causes(error));
    match error {
        error if crate::cause_of::<NoAuthorities>(error).is_some() => {
            CredentialsError::provider_error(NoAuthorities(text))
        }
        CredentialsError::InvalidConfiguration(_) => CredentialsError::invalid_configuration(text),
        _ => CredentialsError::provider_error(text),
    }
}

/// What is below an error of credentials, in one line; the error itself says only that there are none.
pub(crate) fn causes(error: &CredentialsError) -> String {
    let nothing = || match error {
        CredentialsError::CredentialsNotLoaded(_) => "nothing is set".to_owned(),
        _ => error.to_string(),
    };
    let below = std::error::Error::source(error).map_or_else(nothing, crate::chain);
    below.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_source_and_its_cause_and_stays_what_it_is() {
        let passing = named(Source::WebIdentity, &CredentialsError::provider_error("STS is away\n  for now"));
        assert!(matches!(passing, CredentialsError::ProviderError(_)));
        let text = causes(&passing);
        assert!(text.starts_with("web identity (AWS_ROLE_ARN") && text.ends_with(": STS is away for now"), "{text}");
        let standing = named(Source::Container, &CredentialsError::invalid_configuration("an odd address"));
        assert!(matches!(standing, CredentialsError::InvalidConfiguration(_)));
        assert!(causes(&standing).contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"));
        assert_eq!(causes(&CredentialsError::not_loaded_no_source()), "nothing is set");
    }

    #[test]
    fn a_source_is_set_up_by_any_of_its_variables_and_by_no_empty_one() {
        let set =
            |source: Source, name: &str, value: &str| source.set(&|asked| (asked == name).then(|| value.to_owned()));
        for (source, name, value) in [
            (Source::Environment, "AWS_ACCESS_KEY_ID", "AKIATEST"),
            (Source::Environment, "AWS_SECRET_ACCESS_KEY", "s"),
            (Source::Profile, "AWS_PROFILE", "cni"),
            (Source::Profile, "AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials"),
            (Source::Profile, "AWS_CONFIG_FILE", "/nonexistent/config"),
            (Source::WebIdentity, "AWS_ROLE_ARN", "arn"),
            (Source::WebIdentity, "AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            (Source::Container, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/"),
        ] {
            assert_eq!(set(source, name, value), [name]);
            assert!(set(source, name, " ").is_empty(), "{name}");
            assert!(SOURCES.into_iter().all(|other| other == source || set(other, name, value).is_empty()), "{name}");
            let text = causes(&incomplete(source, &[name], &CredentialsError::not_loaded_no_source()));
            assert!(text.contains(name) && text.contains(&source.to_string()), "{text}");
        }
        // A file that is there, with a Region in it, say.
        assert!(set(Source::Profile, "AWS_CONFIG_FILE", "/dev/null").is_empty());
    }

    #[test]
    fn metadata_that_does_not_answer_is_of_the_moment_and_an_instance_without_a_role_is_not() {
        let away = Away(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert!(is_of_the_moment(&CredentialsError::not_loaded(away)));
        assert!(!is_of_the_moment(&CredentialsError::not_loaded("received 404 from IMDS")));
        assert!(!is_of_the_moment(&CredentialsError::not_loaded_no_source()));
    }

    /// As the SDK tells of metadata that does not answer.
    #[derive(Debug, thiserror::Error)]
    #[error("could not communicate with IMDS")]
    struct Away(#[source] std::io::Error);

    #[test]
    fn keys_serve_until_they_expire() {
        let end = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100);
        let keys = Credentials::new("ASIA", "secret", None, Some(end), "test");
        let second = std::time::Duration::from_secs(1);
        assert!(lives(&keys, end - second) && !lives(&keys, end) && !lives(&keys, end + second));
        let sources = Sources::new(ProviderConfig::empty, second);
        sources.keep(Some(keys));
        assert_eq!(sources.fallback_on_interrupt(), None, "they expired long ago");
        sources.keep(Some(Credentials::new("ASIA", "secret", None, None, "test")));
        assert!(sources.fallback_on_interrupt().is_some());
    }
}
