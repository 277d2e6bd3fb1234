// SPDX-License-Identifier: Apache-2.0
//! A body of gRPC that is one message (grpc/grpc, `doc/PROTOCOL-HTTP2.md`), as both ends of a plugin's call have it; and what they say of
//! themselves.

/// Before each message: whether it is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// How our plugin's calls name their maker, `grpc-<language>-<variant>/<version>`; a version follows.
pub(crate) const CLIENT: &str = "grpc-rust-enid/";

/// The `:authority` of every call. C-core's default, the socket's path, is refused by HTTP/2 servers in Rust.
pub(crate) const AUTHORITY: &str = "localhost";

/// The body of an encoded message.
pub(crate) fn body(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// The one message of a body, or why there is none. Nothing of ours is compressed.
pub(crate) fn only(body: &[u8]) -> Result<&[u8], &'static str> {
    let Some((&[compressed, a, b, c, d], rest)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err("without a message");
    };
    if compressed != 0 {
        return Err("that is compressed, which nobody asked for");
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if rest.len() == length { Ok(rest) } else { Err("that is not one message") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_message_and_nothing_else() {
        assert_eq!(only(&[0, 0, 0, 0, 2, 8, 1]), Ok(&[8, 1][..]));
        assert_eq!(only(&[0, 0, 0, 0, 0]), Ok(&[][..]));
        assert_eq!(only(&body(&[7; 300])), Ok(&[7; 300][..]));
        for body in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 1, 8, 1]] {
            assert!(only(body).is_err(), "{body:?}");
        }
    }
}
