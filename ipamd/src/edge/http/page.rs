// SPDX-License-Identifier: Apache-2.0
//! The page for browsers: one file, nothing from elsewhere.
//!
//! Does not ask for anything itself: the page asks the other paths. Invariant: the browser runs the page's one script and applies its
//! one style and nothing else, whatever a pod is called: the policy names both by their hashes, which are those of this very text.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use sha2::{Digest, Sha256};

/// All of it.
const PAGE: &str = include_str!("page.html");

/// It may load nothing and talk to nobody but this daemon, and be shown in no other page (Content Security Policy Level 3).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        base64(&Sha256::digest(inside("style"))),
        base64(&Sha256::digest(inside("script"))),
    )
});

pub(super) fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(PAGE)).into_response()
}

/// The text of the page's first element of a kind; empty when it has none.
fn inside(tag: &str) -> &'static str {
    let text = PAGE.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
    text.split_once(&format!("</{tag}>")).map_or("", |(text, _)| text)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |word, at| word << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 63;
            text.push(if digit > three.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in rows {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_policy_allows_this_style_and_this_script_and_nothing_else_of_the_page_needs_leave() {
        assert!(inside("style").len() > 1_000 && inside("script").len() > 10_000);
        for tag in ["<style", "<script", "</script"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "one hash allows one {tag}");
        }
        // Attributes that the policy would stop, and line ends that browsers read as others.
        for forbidden in [" style=\"", " onclick=", " onload=", "javascript:", "http://www.google", "\r"] {
            assert!(!PAGE.contains(forbidden), "{forbidden:?}");
        }
        assert!(!POLICY.contains("unsafe"), "{}", *POLICY);
    }

    #[test]
    fn data_reaches_the_page_as_text_only() {
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"]
        {
            assert!(!PAGE.contains(sink), "{sink}");
        }
    }

    #[test]
    fn the_page_is_one_small_file_that_loads_nothing() {
        assert!(PAGE.len() < 64 << 10, "{} bytes", PAGE.len());
        let elsewhere = PAGE.matches("http://").count() + PAGE.matches("https://").count();
        // The namespace of SVG, in the icon and in the script: a name, not an address.
        assert_eq!(elsewhere, PAGE.matches("http://www.w3.org/2000/svg").count());
        for loads in [" src=", "@import", "url(http", "<iframe", "<object"] {
            assert!(!PAGE.contains(loads), "{loads}");
        }
    }
}
