// SPDX-License-Identifier: Apache-2.0
//! The EC2 query API over HTTP.
//!
//! Takes a request apart (form body or query string, `Action`, who signed it) and gives the model's answer when it is due.
//! What it answers is the model's decision. Signatures are not computed anew: of one that is there, the access key and the session
//! token go to the model, and its scope must be EC2.
//!
//! Invariant: the effect of a call is at its arrival; only the answer is late. A caller who gives up changes nothing.
//!
//! Source: EC2 API reference, "Query requests"; AWS General Reference, "Signature Version 4" (the credential scope).

#![expect(clippy::disallowed_methods, reason = "answers wait for their latency")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use vpc_model::{Caller, Delivery, Ec2Error};

use crate::emulator::Shared;

/// Carries the session token of temporary keys.
const SECURITY_TOKEN: &str = "x-amz-security-token";

/// Answers every path: the query protocol has only one.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let pairs = match read_pairs(&method, &uri, &body) {
        Ok(pairs) => pairs,
        Err(error) => return refusal(&error),
    };
    let Some(action) = pairs.iter().find(|(name, _)| name == "Action").map(|(_, action)| action.clone()) else {
        return refusal(&Ec2Error::new("MissingAction", "The request is missing an action."));
    };
    let caller = match caller(&headers) {
        Ok(caller) => caller,
        Err(error) => return refusal(&error),
    };
    let answer = shared.visit(move |vpc, now| vpc.ec2(&caller, &action, &pairs, now)).await;
    deliver(answer.delivery, answer.delay).await;
    xml(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer.body)
}

/// Until the answer is due; no further where none is to come.
pub(crate) async fn deliver(delivery: Delivery, delay: Duration) {
    if delivery == Delivery::Hang {
        std::future::pending::<()>().await;
    }
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    if delivery == Delivery::Close {
        // The connection's own task ends here, and with it the connection: no answer, no panic message.
        std::panic::resume_unwind(Box::new("a fault on order closed the connection"));
    }
}

/// The parameters: the form of a POST, the query string of a GET.
pub(crate) fn read_pairs(method: &Method, uri: &Uri, body: &[u8]) -> Result<Vec<(String, String)>, Ec2Error> {
    let form = match *method {
        Method::POST => body,
        Method::GET => uri.query().unwrap_or_default().as_bytes(),
        _ => {
            let text = format!("The HTTP method {method} is not supported.");
            return Err(Ec2Error::new("MalformedQueryString", text));
        }
    };
    Ok(form_urlencoded::parse(form).into_owned().collect())
}

/// Who signed the request: `AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/ec2/aws4_request, …`. A request without a
/// signature is taken, so that people can call with curl.
fn caller(headers: &HeaderMap) -> Result<Caller, Ec2Error> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else { return Ok(Caller::default()) };
    let incomplete = || Ec2Error::new("IncompleteSignature", "The Authorization header has no readable Credential.");
    let text = authorization.to_str().map_err(|_| incomplete())?;
    let credential = text.split_once("Credential=").map(|(_, rest)| rest).ok_or_else(incomplete)?;
    let mut scope = credential.split([',', ' ']).next().unwrap_or_default().split('/');
    let access_key = scope.next().filter(|key| !key.is_empty()).ok_or_else(incomplete)?;
    match scope.nth(2) {
        Some("ec2") => {
            let token = headers.get(SECURITY_TOKEN).and_then(|token| token.to_str().ok()).map(str::to_owned);
            Ok(Caller { access_key: Some(access_key.to_owned()), session_token: token })
        }
        other => {
            let text = format!("Credential should be scoped to correct service: 'ec2' (it is {other:?}).");
            Err(Ec2Error::new("SignatureDoesNotMatch", text))
        }
    }
}

/// The refusal of a request that never reached the model.
fn refusal(error: &Ec2Error) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error>\
         </Errors><RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>",
        error.code,
        error.message.replace('&', "&amp;").replace('<', "&lt;")
    );
    xml(StatusCode::BAD_REQUEST, body)
}

pub(crate) fn xml(status: StatusCode, body: String) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
    (status, [kind], body).into_response()
}
