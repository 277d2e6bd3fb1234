// SPDX-License-Identifier: Apache-2.0
//! A call that is all there with the first bytes of its connection, as our plugin makes it: read and answered as bytes, without what
//! keeps a connection of many calls. A single ADD is a seventh quicker for it and a DEL a fifth: a daemon that has slept since the last
//! call finds nothing of tonic and h2 in the processor's caches, and a third of its part was theirs.
//!
//! Only the simplest that can be is taken: HTTP/2's preface, SETTINGS, one header block, one message, the end, by a client that says it is
//! ours and so makes no second call. Whatever else it is, tonic has those bytes and all that follows, and says what is wrong with them.
//!
//! Invariant: what is taken is the same call to h2 and tonic, and what is answered is an answer to any client of HTTP/2. It differs from
//! theirs in what our plugin does not ask for: a call that is late ends with DEADLINE_EXCEEDED (tonic: CANCELLED), a status has its text
//! alone, and the connection ends.

use std::time::Duration;

use prost::Message;
use tonic::Status;

use crate::http2::frame::{ACK, END_HEADERS, END_STREAM, FRAME_BYTES, append, frame, kind};
use crate::http2::hpack::{self, Decoder, Field, find};
use crate::http2::{NO_PUSH, PREFACE, STREAM};
use crate::message::{self, AUTHORITY, CLIENT, PREFIX_BYTES};
use crate::rpc::{AddNetworkRequest, DelNetworkRequest};

/// Of a message that goes out in one frame, within the window that every client has.
const LARGEST_REPLY: usize = FRAME_BYTES - PREFIX_BYTES;

/// What is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Add(AddNetworkRequest),
    Del(DelNetworkRequest),
}

/// The call.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) asked: Asked,
    /// How long the client waits.
    pub(crate) left: Option<Duration>,
}

/// The call that `bytes` are, if they are one and nothing else.
pub(crate) fn call(bytes: &[u8]) -> Option<Call> {
    let mut rest = bytes.strip_prefix(PREFACE)?;
    let mut next = || {
        let (head, payload, more) = frame(rest).ok()??;
        rest = more;
        Some((head.kind, head.flags, head.stream, payload))
    };
    let (kind::SETTINGS, 0, 0, settings) = next()? else { return None };
    let (kind::HEADERS, END_HEADERS, STREAM, block) = next()? else { return None };
    let (kind::DATA, END_STREAM, STREAM, body) = next()? else { return None };
    // Others may set what would have to be kept to.
    if settings != NO_PUSH || !rest.is_empty() {
        return None;
    }
    let fields = Decoder::default().decode(block).ok()?;
    let left = limit(&fields)?;
    let message = message::only(body).ok()?;
    let asked = match find(&fields, ":path")? {
        b"/rpc.CNIBackend/AddNetwork" => Asked::Add(AddNetworkRequest::decode(message).ok()?),
        b"/rpc.CNIBackend/DelNetwork" => Asked::Del(DelNetworkRequest::decode(message).ok()?),
        _ => return None,
    };
    Some(Call { asked, left })
}

/// What the client's fields allow, if they are all as ours are; `Some(None)`: it sets no limit.
fn limit(fields: &[Field]) -> Option<Option<Duration>> {
    const EXPECTED: [(&str, &[u8]); 5] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", AUTHORITY.as_bytes()),
        ("te", b"trailers"),
        ("content-type", b"application/grpc"),
    ];
    let has_all = EXPECTED.iter().all(|(name, value)| find(fields, name) == Some(value));
    let agent = find(fields, "user-agent")?;
    let is_ours = agent.starts_with(CLIENT.as_bytes()) && agent.iter().all(u8::is_ascii_graphic);
    let is_ordered = fields.is_sorted_by_key(|field| !field.name.starts_with(b":"));
    let time = find(fields, "grpc-timeout");
    // Path, agent and time are the others; a field more would mean something.
    if !has_all || !is_ours || !is_ordered || fields.len() != EXPECTED.len() + 2 + usize::from(time.is_some()) {
        return None;
    }
    match time {
        Some(text) => duration(text).map(Some),
        None => Some(None),
    }
}

/// At most 8 digits and a unit.
fn duration(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        _ => return None,
    })
}

/// All that the server says on such a connection: its greeting, the reply or why there is none, and that it takes no second call.
pub(crate) fn answer(outcome: Result<Vec<u8>, Status>) -> Vec<u8> {
    let too_long = |reply: Vec<u8>| {
        if reply.len() > LARGEST_REPLY { Err(Status::internal("bug: a reply that is too long")) } else { Ok(reply) }
    };
    let mut bytes = Vec::with_capacity(512);
    append(&mut bytes, kind::SETTINGS, 0, 0, &[]);
    append(&mut bytes, kind::SETTINGS, ACK, 0, &[]);
    let head = [(":status", "200"), ("content-type", "application/grpc")];
    match outcome.and_then(too_long) {
        Ok(reply) => {
            append_block(&mut bytes, 0, &head);
            append(&mut bytes, kind::DATA, 0, STREAM, &message::body(&reply));
            append_block(&mut bytes, END_STREAM, &[("grpc-status", "0")]);
        }
        Err(status) => {
            let code = i32::from(status.code()).to_string();
            let text = escaped(status.message());
            let told = [("grpc-status", code.as_str()), ("grpc-message", &text)];
            append_block(&mut bytes, END_STREAM, &[&head[..], &told].concat());
        }
    }
    // NO_ERROR, and stream 1 was the last.
    append(&mut bytes, kind::GOAWAY, 0, 0, &[STREAM.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    bytes
}

fn append_block(bytes: &mut Vec<u8>, flags: u8, fields: &[(&str, &str)]) {
    let mut block = Vec::with_capacity(64);
    for (name, value) in fields {
        hpack::append(&mut block, name, value);
    }
    // A status' text is the only part that could be long, and is cut.
    append(bytes, kind::HEADERS, flags | END_HEADERS, STREAM, &block);
}

/// As much of a status' text as a frame surely takes; what is not printable, and `%`, as `%XX`.
fn escaped(text: &str) -> String {
    const MOST: usize = FRAME_BYTES / 8;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes().take(MOST) {
        match byte {
            b'%' | ..=0x1f | 0x7f.. => {
                out.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
            byte => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
