// SPDX-License-Identifier: Apache-2.0
//! The page for browsers: one file, nothing from elsewhere.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

/// All of it.
const PAGE: &str = include_str!("page.html");

/// It may load nothing and talk to nobody but this daemon, and be shown in no other page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(PAGE)).into_response()
}
