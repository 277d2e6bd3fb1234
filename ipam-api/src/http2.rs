// SPDX-License-Identifier: Apache-2.0
//! What both ends of a plugin's call know of HTTP/2 (RFC 9113): frames, header blocks, numbers. The plugin's end makes a call of it
//! (`client::exchange`), the daemon's end knows one by it (`whole`); everything else of a server's is tonic's.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;

/// What a connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS_INITIAL_WINDOW_SIZE as it is when it is not sent.
#[cfg(feature = "client")]
pub(crate) const WINDOW: i64 = 65_535;
/// The most that a window may be.
#[cfg(feature = "client")]
pub(crate) const LARGEST_WINDOW: i64 = (1 << 31) - 1;
/// The first stream of a client's: the only one of a plugin's connection.
pub(crate) const STREAM: u32 = 1;

/// All that our plugin sets: SETTINGS_ENABLE_PUSH is 0.
pub(crate) const NO_PUSH: [u8; 6] = [0, 2, 0, 0, 0, 0];

/// Settings (section 6.5.2).
#[cfg(feature = "client")]
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// Why there will be no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Http2Error {
    /// The peer does not keep to the protocol.
    #[error("not HTTP/2 as it must be: {0}")]
    Violated(&'static str),
    /// The peer ended the stream.
    #[error("the call was reset with code {0}")]
    Reset(u32),
    /// The peer is going and has not taken the request.
    #[error("the connection was closed with code {code}{}", told(reason))]
    GoneAway {
        /// Why, as a number.
        code: u32,
        /// Why, in its words; may be empty.
        reason: String,
    },
    /// The body is longer than the caller takes.
    #[error("a response over {0} bytes")]
    TooLarge(usize),
}

fn told(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
