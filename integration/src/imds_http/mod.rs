// SPDX-License-Identifier: Apache-2.0
//! The instance metadata service, version 2, over HTTP.
//!
//! Checks tokens and methods and gives what a source says about one instance. The source is the model, or a snapshot of an
//! EC2 that we did not write ([`ForeignEc2`]); what the paths are is in `vpc_model::imds`.
//!
//! Invariant: nothing is read without a token of this very service: 401, whatever the path.
//!
//! ```text
//! PUT /latest/api/token  (TTL 1..21600)      ─► 200 token   400 bad TTL   403 X-Forwarded-For, or a dated path
//! GET /latest/…  (X-aws-ec2-metadata-token)  ─► 200 text    401 no, unknown or expired token   404 no such item
//! ```
//!
//! Source: EC2 user guide, "Use IMDSv2", "Retrieve instance metadata".

#![expect(clippy::disallowed_methods, reason = "answers wait for their latency")]

mod foreign;
mod query;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use vpc_model::InstanceId;
use vpc_model::imds::{ImdsAnswer, Tokens};

use crate::emulator::{Shared, lock};

pub use foreign::{ForeignEc2, ForeignError};
pub use query::{QueryClient, QueryError};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A future of a source.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = ImdsAnswer> + Send + 'a>>;

/// Where the facts about one instance come from.
pub trait ImdsSource: Send + Sync {
    /// What a path (`/latest/…`) says.
    fn read(&self, path: String) -> ReadFuture<'_>;

    /// The time that tokens live by.
    fn now(&self) -> Duration;

    /// A number of this service alone, from which its tokens are drawn.
    fn seed(&self) -> u64;
}

/// The model as a source.
pub(crate) struct ModelSource {
    shared: Arc<Shared>,
    instance: InstanceId,
}

impl ModelSource {
    pub(crate) fn new(shared: Arc<Shared>, instance: InstanceId) -> Self {
        Self { shared, instance }
    }
}

impl ImdsSource for ModelSource {
    fn read(&self, path: String) -> ReadFuture<'_> {
        let (shared, instance) = (Arc::clone(&self.shared), self.instance.clone());
        Box::pin(shared.visit(move |vpc, now| vpc.imds(&instance, &path, now)))
    }

    fn now(&self) -> Duration {
        self.shared.now()
    }

    fn seed(&self) -> u64 {
        seed_of(self.instance.as_str())
    }
}

/// A number that differs between instances (FNV-1a, 64 bits).
pub(crate) fn seed_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Clone)]
struct Service {
    source: Arc<dyn ImdsSource>,
    tokens: Arc<Mutex<Tokens>>,
}

/// The service of one instance.
pub fn router(source: Arc<dyn ImdsSource>) -> Router {
    let tokens = Arc::new(Mutex::new(Tokens::new(source.seed())));
    Router::new().fallback(answer).with_state(Service { source, tokens })
}

async fn answer(State(service): State<Service>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    match method {
        Method::PUT => give_token(&service, uri.path(), &headers),
        Method::GET | Method::HEAD => read(&service, uri.path(), &headers).await,
        _ => plain(&ImdsAnswer::refusal(405)),
    }
}

fn give_token(service: &Service, path: &str, headers: &HeaderMap) -> Response {
    if path != TOKEN_PATH {
        // A dated path (`/2021-03-23/api/token`) is refused on purpose, anything else is not there.
        let status = if path.ends_with("/api/token") { 403 } else { 405 };
        return plain(&ImdsAnswer::refusal(status));
    }
    if headers.contains_key(FORWARDED) {
        return plain(&ImdsAnswer::refusal(403));
    }
    let ttl = headers.get(TTL).and_then(|value| value.to_str().ok());
    match lock(&service.tokens).issue(ttl, service.source.now()) {
        Ok((token, life)) => {
            let ttl = (TTL, HeaderValue::from(life.as_secs()));
            (StatusCode::OK, [ttl, (header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))], token)
                .into_response()
        }
        Err(error) => {
            tracing::debug!(%error, "no token given");
            plain(&ImdsAnswer::refusal(400))
        }
    }
}

async fn read(service: &Service, path: &str, headers: &HeaderMap) -> Response {
    let now = service.source.now();
    let token = headers.get(TOKEN).and_then(|value| value.to_str().ok());
    let good = token.is_some_and(|token| lock(&service.tokens).life_left(token, now).is_some());
    if !good {
        return plain(&ImdsAnswer::refusal(401));
    }
    if path == "/" {
        return plain(&ImdsAnswer { status: 200, body: "latest".to_owned(), delay: Duration::ZERO });
    }
    let answer = service.source.read(path.to_owned()).await;
    if answer.delay > Duration::ZERO {
        tokio::time::sleep(answer.delay).await;
    }
    plain(&answer)
}

fn plain(answer: &ImdsAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if answer.status == 200 { "text/plain" } else { "text/html" };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], answer.body.clone()).into_response()
}
