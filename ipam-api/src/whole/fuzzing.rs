// SPDX-License-Identifier: Apache-2.0
//! What must hold of what a connection begins with, whatever it is. Built for tests and fuzzers only (`fuzz/`); panics when something does
//! not hold.
#![allow(clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

use std::time::Duration;

use prost::Message;

use super::{Asked, call};
use crate::client::exchange_of;

/// First bytes of a connection: what is taken for a call is the same one as the plugin would send it, and none when its end is missing.
pub fn first_bytes(data: &[u8]) {
    let Some(taken) = call(data) else { return };
    let left = taken.left.unwrap_or(Duration::from_secs(1));
    let sent = match &taken.asked {
        Asked::Add(request) => sent("/rpc.CNIBackend/AddNetwork", left, request),
        Asked::Del(request) => sent("/rpc.CNIBackend/DelNetwork", left, request),
    };
    let again = call(&sent).expect("a call of the plugin's");
    assert_eq!(again.asked, taken.asked);
    assert!(call(&data[..data.len() - 1]).is_none(), "a call without its last byte");
}

fn sent(path: &str, left: Duration, message: &impl Message) -> Vec<u8> {
    exchange_of(path, left, message).outgoing().clone()
}
