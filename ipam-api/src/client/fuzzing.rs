// SPDX-License-Identifier: Apache-2.0
//! What must hold of what a server sends, whatever it is. Built for tests and fuzzers only (`fuzz/`); panics when something does not
//! hold.
#![allow(clippy::missing_panics_doc, reason = "a panic is what the caller looks for")]

use std::time::Duration;

use super::grpc;
use crate::rpc::{AddNetworkReply, DelNetworkRequest};
pub use crate::whole::fuzzing::first_bytes;

/// Bytes of a server: the outcome is the same in whatever pieces they come, and neither the answers nor the body grow beyond bounds.
pub fn response(data: &[u8]) {
    let whole = outcome([data].into_iter());
    assert_eq!(whole, outcome(data.chunks(1)), "byte by byte");
    assert_eq!(whole, outcome(data.chunks(9)), "by the length of a frame's header");
}

fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut exchange =
        grpc::request("/rpc.CNIBackend/DelNetwork", Duration::from_secs(1), &DelNetworkRequest::default());
    let mut taken = 0;
    for piece in pieces {
        if let Err(error) = exchange.receive(piece) {
            return error.to_string();
        }
        taken += piece.len();
    }
    // Each answer is to a frame that is as long at least, but for windows: two frames to a half of one.
    assert!(exchange.outgoing().len() <= 1_024 + 2 * taken, "{} bytes to send", exchange.outgoing().len());
    let Some(response) = exchange.response() else { return "not whole".to_owned() };
    assert!((200..1_000).contains(&response.status()), "{}", response.status());
    assert!(response.body().len() <= data_limit(), "{} bytes of body", response.body().len());
    format!("{:?}", grpc::reply::<AddNetworkReply>(response))
}

fn data_limit() -> usize {
    crate::MAX_MESSAGE_BYTES + 5
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
pub(crate) mod replay;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn the_corpus_of_the_fuzzers_holds() {
        super::replay::corpus("response", super::response);
    }

    /// Frames of every kind, those that are not known too, mostly of streams that they can be of.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let stream = prop_oneof![Just(0_u8), Just(1), 0..5_u8];
        // `:status: 200` and what else is in the static table are likely bytes of a header block.
        let payload = prop::collection::vec(prop_oneof![Just(0x88_u8), 0x80..0xc0_u8, any::<u8>()], 0..40);
        let frame = (0..11_u8, prop_oneof![Just(0_u8), Just(1), Just(4), Just(5), any::<u8>()], stream, payload);
        let bytes = |(kind, flags, stream, payload): (u8, u8, u8, Vec<u8>)| {
            let length = u8::try_from(payload.len()).unwrap_or_default();
            [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], &payload].concat()
        };
        let greeted = |frames: Vec<Vec<u8>>| [vec![0, 0, 0, 4, 0, 0, 0, 0, 0], frames.concat()].concat();
        prop::collection::vec(frame.prop_map(bytes), 0..12).prop_map(greeted)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_frames_come_the_outcome_is_the_same_in_any_pieces(data in frames()) {
            super::response(&data);
        }

        #[test]
        fn whatever_bytes_come_the_outcome_is_the_same_in_any_pieces(data in prop::collection::vec(any::<u8>(), 0..300)) {
            super::response(&data);
        }
    }
}
