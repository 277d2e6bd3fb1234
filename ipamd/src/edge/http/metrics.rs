// SPDX-License-Identifier: Apache-2.0
//! `/metrics`, in Prometheus' text format 0.0.4.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Introspection;

/// Prometheus' text.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(state): State<Introspection>) -> Response {
    let serving = super::snapshot(&state).await.is_ok_and(|snapshot| snapshot.serving);
    let text = format!(
        "# HELP ipamd_serving Whether an address of this boot was proven.\n# TYPE ipamd_serving gauge\nipamd_serving {}\n",
        u8::from(serving)
    );
    ([(header::CONTENT_TYPE, FORMAT)], text).into_response()
}
