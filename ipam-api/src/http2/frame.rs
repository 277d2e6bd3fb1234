// SPDX-License-Identifier: Apache-2.0
//! Frames as bytes (RFC 9113, sections 4.1 and 6). What they mean is [`super`]'s.
//!
//! Invariant: a frame that is longer than what we announced is refused by its header, before it is kept.

use super::Http2Error;

/// Length, type, flags, stream.
pub(crate) const HEADER_BYTES: usize = 9;
/// SETTINGS_MAX_FRAME_SIZE as it is when it is not sent: ours, and the least of the peer's.
pub(crate) const FRAME_BYTES: usize = 16_384;
/// The most that SETTINGS_MAX_FRAME_SIZE may be.
pub(crate) const LONGEST_FRAME: u32 = (1 << 24) - 1;

/// Flags; what one means is its frame's business.
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// Types of frames (section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// Whether a flag is set.
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub(crate) fn append(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // No payload of ours is longer than the peer's frames, whose length has three bytes.
    let length = u32::try_from(payload.len()).unwrap_or(LONGEST_FRAME).to_be_bytes();
    bytes.extend(length.get(1..).unwrap_or_default());
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// A frame's header and payload, and what comes after it.
pub(crate) type Frame<'a> = (Head, &'a [u8], &'a [u8]);

/// The first frame; `None`: it is not all there.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Http2Error> {
    let Some((&[a, b, c, kind, flags, w, x, y, z], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > FRAME_BYTES {
        return Err(Http2Error::Violated("a frame that is too long"));
    }
    let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
    Ok(rest.split_at_checked(length).map(|(payload, more)| (Head { kind, flags, stream }, payload, more)))
}

/// A payload that is one number.
pub(crate) fn number(payload: &[u8]) -> Result<u32, Http2Error> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| Http2Error::Violated("a frame of a wrong length"))
}

pub(crate) fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Http2Error> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let inner =
        payload.split_first().and_then(|(padding, rest)| rest.get(..rest.len().checked_sub(usize::from(*padding))?));
    inner.ok_or(Http2Error::Violated("more padding than there is"))
}
