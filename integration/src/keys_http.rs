// SPDX-License-Identifier: Apache-2.0
//! Those who give access keys, over HTTP: STS, and the agent of EKS Pod Identity.
//!
//! Takes requests apart; what is given to whom is the model's decision. The role of an instance is IMDS's (`imds_http`).
//!
//! Source: STS API reference, "Making Query Requests"; AWS SDKs reference guide, "Container credential provider" (the token is the whole
//! value of `Authorization`).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use crate::ec2_http::{deliver, read_pairs, xml};
use crate::emulator::Shared;

/// STS: the query protocol has one path.
pub(crate) fn sts(shared: Arc<Shared>) -> Router {
    Router::new().fallback(assume).with_state(shared)
}

/// The agent: one path, too.
pub(crate) fn pod_identity(shared: Arc<Shared>) -> Router {
    Router::new().route("/v1/credentials", get(credentials)).with_state(shared)
}

async fn assume(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let pairs = match read_pairs(&method, &uri, &body) {
        Ok(pairs) => pairs,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let answer = shared.visit(move |vpc, now| vpc.sts(&pairs, now)).await;
    deliver(answer.delivery, answer.delay).await;
    xml(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer.body)
}

async fn credentials(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|token| token.to_str().ok()).map(str::to_owned);
    let answer = shared.visit(move |vpc, now| vpc.pod_identity(token.as_deref(), now)).await;
    deliver(answer.delivery, answer.delay).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status == StatusCode::OK { "application/json" } else { "text/plain" };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], answer.body).into_response()
}
