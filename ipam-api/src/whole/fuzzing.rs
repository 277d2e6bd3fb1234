// SPDX-License-Identifier: Apache-2.0
//! What must hold of what a connection begins with, whatever it is. Built for tests and fuzzers only (`fuzz/`); panics when something does
//! not hold.
#![allow(clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

use std::time::Duration;

use prost::Message;
use tonic::Status;

use super::{Asked, answer, call};
use crate::client::grpc;
use crate::message;
use crate::rpc::AddNetworkRequest;

/// First bytes of a connection: what is taken for a call is the same one as the plugin would send it, and none when its end is missing.
/// The plugin hears whatever it is answered.
pub fn first_bytes(data: &[u8]) {
    let Some(taken) = call(data) else { return };
    let left = taken.left.unwrap_or(Duration::from_secs(1));
    let (path, message) = match &taken.asked {
        Asked::Add(request) => ("/rpc.CNIBackend/AddNetwork", request.encode_to_vec()),
        Asked::Del(request) => ("/rpc.CNIBackend/DelNetwork", request.encode_to_vec()),
    };
    let mut exchange = match &taken.asked {
        Asked::Add(request) => grpc::request(path, left, request),
        Asked::Del(request) => grpc::request(path, left, request),
    };
    let again = call(exchange.outgoing()).expect("a call of the plugin's");
    assert_eq!(again.asked, taken.asked);
    assert!(call(&data[..data.len() - 1]).is_none(), "a call without its last byte");

    exchange.receive(&answer(Ok(message.clone()))).expect("an answer");
    assert_eq!(exchange.response().expect("all of it").body(), message::body(&message));
    let mut exchange = grpc::request(path, left, &AddNetworkRequest::default());
    exchange.receive(&answer(Err(Status::unknown(String::from_utf8_lossy(data))))).expect("an answer");
    assert_eq!(exchange.response().expect("all of it").last_field("grpc-status"), Some(&b"2"[..]));
}
