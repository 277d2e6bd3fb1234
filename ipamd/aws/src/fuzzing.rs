// SPDX-License-Identifier: Apache-2.0
//! What must hold of the edges whatever EC2 and metadata answer: their bytes go through the real client of the SDK, its readers and its
//! retries, from an HTTP client that has no network. Built for tests and fuzzers only (`fuzz/`); each function takes one input and
//! panics when something does not hold.
//!
//! | function | input | holds |
//! |---|---|---|
//! | [`ec2`] | a line with call and status, then the body | a failure says what it is; nothing is made up; a call that must not be repeated is never called one that may |
//! | [`imds`] | a line with the item that is not as it should be, then what it holds | a fact that cannot be read is a failure that names its item; a list is never shorter than what was answered |
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

mod canned;
pub(crate) mod ec2;
pub(crate) mod imds;
#[cfg(test)]
mod mutator;
#[cfg(test)]
mod tests;

use std::future::Future;

/// An answer of EC2's. What no call or status begins is none.
pub fn ec2(data: &[u8]) {
    let Some((head, body)) = first_line(data) else { return };
    let Some((word, status)) = head.split_once(' ') else { return };
    let (Some(call), Ok(status)) = (ec2::Call::named(word), status.parse()) else { return };
    block_on(ec2::hold(call, status, body));
}

/// An answer of metadata's. What no item's name begins is none.
pub fn imds(data: &[u8]) {
    let Some((head, body)) = first_line(data) else { return };
    let Some(item) = imds::Item::named(&head) else { return };
    block_on(imds::hold(item, body));
}

fn first_line(data: &[u8]) -> Option<(String, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((String::from_utf8(data[..end].to_vec()).ok()?, &data[end + 1..]))
}

/// On a runtime of its own, so that one input has nothing of another's.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(work)
}
