// SPDX-License-Identifier: Apache-2.0
//! Everything that can go wrong with a call as a [`Failure`]: EC2's error answers by code, lost answers by what they may
//! have done, connections that were never made, credentials that are not there.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use ipamd_core::action::ActionKind;
use ipamd_core::ec2::{Sent, classify};
use ipamd_core::event::{Failure, FailureClass};
use ipamd_core::reason::ReasonCode;

use super::Ec2;
use crate::credentials::causes;
use crate::trust::NoAuthorities;
use crate::watch::End;
use crate::{cause_of, chain};

impl Ec2 {
    /// The answer of a call that is sent now, or the failure; who watches is told.
    pub(super) async fn sent<T, E>(
        &self,
        action: &'static str,
        sent: Sent,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
    {
        let began = (self.throttle.clock())();
        let answer = call.await;
        let status = match &answer {
            Ok(_) => Some(200),
            Err(error) => error.raw_response().map(|response| response.status().as_u16()),
        };
        let answer = answer.map_err(|error| self.failed(action, sent, error));
        if let Some(watcher) = self.throttle.watcher() {
            let took = (self.throttle.clock())().since(began);
            watcher.ended(action, &End { failure: answer.as_ref().err(), status, took });
        }
        answer
    }

    /// The failure behind an SDK error; one that is throttled says when our own bucket lets the next request go.
    pub(super) fn failed<E>(&self, action: &'static str, sent: Sent, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
    {
        let mut failure = failed(action, sent, error);
        if failure.class == FailureClass::Throttled {
            failure.retry_after = Some(self.throttle.wait(action, self.priority));
        }
        failure
    }
}

fn failed<E>(action: &str, sent: Sent, error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
{
    let failure = match &error {
        // EC2 has done it, and what it says of it cannot be read.
        SdkError::ServiceError(context) if context.raw().status().is_success() => {
            lost(action, sent, "UnreadableAnswer", &error)
        }
        SdkError::ServiceError(context) => answered(action, sent, context.err(), context.raw().status().as_u16()),
        SdkError::TimeoutError(_) => lost(action, sent, "Timeout", &error),
        SdkError::ResponseError(_) => lost(action, sent, "UnreadableAnswer", &error),
        _ => undelivered(action, sent, &error),
    };
    tracing::debug!(action, class = ?failure.class, code = %failure.code, "EC2 call failed");
    failure
}

/// EC2 answered with an error.
fn answered<E: ProvideErrorMetadata + RequestId>(action: &str, sent: Sent, error: &E, status: u16) -> Failure {
    let text = error.message().unwrap_or("no message");
    let named = error.code().map(str::trim).filter(|code| !code.is_empty());
    let (code, class) = match named {
        Some(code) => (code.to_owned(), classify(code, text, sent)),
        None if status >= 500 && sent == Sent::Once => (format!("Http{status}"), FailureClass::Unknown),
        None if status >= 500 => (format!("Http{status}"), FailureClass::Transient),
        None => (format!("Http{status}"), FailureClass::Rejected),
    };
    let request = error.request_id().map(|id| format!(" (request {id})")).unwrap_or_default();
    Failure { class, message: format!("{action}: {code}: {text}{request}"), code, retry_after: None }
}

/// The request left and no answer came.
fn lost<E: Error + 'static>(action: &str, sent: Sent, code: &str, error: &E) -> Failure {
    let class = if sent == Sent::Read { FailureClass::Transient } else { FailureClass::Unknown };
    Failure { class, code: code.to_owned(), message: full_text(action, error), retry_after: None }
}

/// The request could not be sent, or the connection broke on the way.
fn undelivered<E: Error + 'static>(action: &str, sent: Sent, error: &E) -> Failure {
    if let Some(missing) = cause_of(error) {
        return untrusting(action, missing);
    }
    if let Some(credentials) = cause_of(error) {
        return unsigned(action, credentials);
    }
    let (class, code) = match never_left(error) {
        Some(found) => found,
        None if sent == Sent::Read => (FailureClass::Transient, "ConnectionLost"),
        None => (FailureClass::Unknown, "ConnectionLost"),
    };
    Failure { class, code: code.to_owned(), message: full_text(action, error), retry_after: None }
}

/// Nobody to trust, so nothing was sent: neither the call, nor what would have got the keys for it.
fn untrusting(action: &str, missing: &NoAuthorities) -> Failure {
    let code = ReasonCode::NoCertificateAuthorities.name();
    let message = format!("{action}: {code}: {missing}");
    Failure { class: FailureClass::Transient, code: code.to_owned(), message, retry_after: None }
}

/// No credentials, so nothing was sent. What a source answers may pass; what is not there or not right, stands.
fn unsigned(action: &str, error: &CredentialsError) -> Failure {
    let (class, code) = match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            (FailureClass::Denied, "NoCredentials")
        }
        _ => (FailureClass::Transient, "CredentialsUnavailable"),
    };
    let message = format!("{action}: {code}: no AWS credentials to sign with: {}", causes(error));
    Failure { class, code: code.to_owned(), message, retry_after: None }
}

/// Looks for a cause that proves that nothing was sent: no connection.
fn never_left(error: &(dyn Error + 'static)) -> Option<(FailureClass, &'static str)> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            if matches!(io.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) {
                return Some((FailureClass::Transient, "NoConnection"));
            }
        }
        cause = error.source();
    }
    None
}

/// An answer that lacks what it must have: for a write, we do not know what it did.
pub(super) fn incomplete(action: &str, message: String) -> Failure {
    let class = if action.starts_with("Describe") { FailureClass::Transient } else { FailureClass::Unknown };
    Failure { class, code: "UnreadableAnswer".to_owned(), message: format!("{action}: {message}"), retry_after: None }
}

/// Our own bucket is empty for longer than we wait here.
pub(super) fn own_bucket(action: &str, wait: Duration) -> Failure {
    Failure {
        class: FailureClass::Throttled,
        code: "OwnRequestLimit".to_owned(),
        message: format!(
            "{action}: held back for {:.1} s to keep to this node's share of requests",
            wait.as_secs_f64()
        ),
        retry_after: Some(wait),
    }
}

/// The kernel's and the state folder's actions are run elsewhere.
pub(super) fn not_ec2(kind: &ActionKind) -> Failure {
    let message = format!("{kind:?} is not an action of EC2");
    Failure { class: FailureClass::Rejected, code: "NotEc2".to_owned(), message, retry_after: None }
}

fn full_text<E: Error + 'static>(action: &str, error: &E) -> String {
    format!("{action}: {}", chain(error))
}
