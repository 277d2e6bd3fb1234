// SPDX-License-Identifier: Apache-2.0
//! A unary gRPC call as a request and a response of HTTP/2 (grpc/grpc, `doc/PROTOCOL-HTTP2.md` and `doc/http-grpc-status-mapping.md`).
//!
//! Does *not* compress, and takes nothing that is compressed: it does not say that it would. Does not decide what to do about a failure
//! ([`super`]).

use std::time::Duration;

use prost::Message;
use tonic::Code;

use super::exchange::{Exchange, Response};
use crate::MAX_MESSAGE_BYTES;
use crate::http2::Http2Error;
use crate::message::{self, AUTHORITY, CLIENT, PREFIX_BYTES};

/// A call that was answered with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a broken exchange means to the caller. Resets are translated as the protocol says.
impl From<Http2Error> for Failure {
    fn from(error: Http2Error) -> Self {
        let code = match error {
            Http2Error::GoneAway { .. } => Code::Unavailable,
            Http2Error::TooLarge(_) => Code::OutOfRange,
            // REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY (RFC 9113, section 7).
            Http2Error::Reset(7) => Code::Unavailable,
            Http2Error::Reset(8) => Code::Cancelled,
            Http2Error::Reset(11) => Code::ResourceExhausted,
            Http2Error::Reset(12) => Code::PermissionDenied,
            Http2Error::Reset(_) | Http2Error::Violated(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// The request of a call that has `left` to be answered.
pub(crate) fn request(path: &str, left: Duration, message: &impl Message) -> Exchange {
    let agent = [CLIENT, env!("CARGO_PKG_VERSION")].concat();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", AUTHORITY),
        ("te", "trailers"),
        ("grpc-timeout", &timeout(left)),
        ("content-type", "application/grpc"),
        ("user-agent", &agent),
    ];
    Exchange::new(&fields, message::body(&message.encode_to_vec()), PREFIX_BYTES + MAX_MESSAGE_BYTES)
}

/// At most 8 digits and a unit.
fn timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match (left.as_micros(), left.as_millis()) {
        (micros, _) if micros <= MOST => format!("{micros}u"),
        (_, millis) if millis <= MOST => format!("{millis}m"),
        _ => format!("{}S", u128::from(left.as_secs()).min(MOST)),
    }
}

/// The message of a whole response.
pub(crate) fn reply<R: Message + Default>(response: &Response) -> Result<R, Failure> {
    let is_grpc = response.field("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"));
    match response.last_field("grpc-status") {
        Some(b"0") => {}
        Some(code) => return Err(Failure::new(Code::from_bytes(code), message_of(response))),
        None if response.status() != 200 => {
            let message = format!("an HTTP status of {} and no gRPC status", response.status());
            return Err(Failure::new(code_of(response.status()), message));
        }
        None => return Err(Failure::new(Code::Unknown, "a response without a gRPC status")),
    }
    if response.status() != 200 || !is_grpc {
        return Err(Failure::new(Code::Unknown, "a response that is not gRPC"));
    }
    let message =
        message::only(response.body()).map_err(|problem| Failure::new(Code::Internal, format!("a reply {problem}")))?;
    R::decode(message).map_err(|error| Failure::new(Code::Internal, format!("a reply that cannot be read: {error}")))
}

/// What a proxy's status means.
fn code_of(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn message_of(response: &Response) -> String {
    let bytes = unescaped(response.last_field("grpc-message").unwrap_or_default());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `%41` is `A`; what is no such escape stands for itself.
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        text = rest.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_has_eight_digits_at_most() {
        for (left, text) in [
            (Duration::from_micros(1), "1u"),
            (Duration::from_millis(20_000), "20000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout(left), text);
        }
    }

    #[test]
    fn a_status_s_text_is_unescaped() {
        for (text, plain) in
            [("plain", "plain"), ("a%20b%C3%A9", "a bé"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%+1", "%+1")]
        {
            assert_eq!(unescaped(text.as_bytes()), plain.as_bytes(), "{text}");
        }
    }
}
