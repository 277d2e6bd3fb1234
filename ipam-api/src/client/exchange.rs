// SPDX-License-Identifier: Apache-2.0
//! One request and its response over one HTTP/2 connection of its own (RFC 9113, with prior knowledge), as bytes in and bytes out: no
//! socket, no clock, no task. Why not hyper's, which is well kept: a process that makes one call pays for a runtime, channels and
//! buffers that serve thousands; and all of them are code that a cold process must have in memory.
//!
//! Every frame is dealt with as the RFC says for a client whose one stream is 1, and a peer that breaks it is told from one that is only
//! slow. Does *not* know what gRPC is ([`super::grpc`]) and does not wait ([`super::connection`]).
//!
//! Invariants: what the peer can make us keep is bounded (a frame, [`BLOCK_BYTES`] of header block, the limit of the body, and
//! [`OUTGOING_BYTES`] of answers to its pings); no more of the request is given out than the peer's windows allow.
//!
//! ```text
//! new ─► outgoing: preface, SETTINGS, HEADERS, DATA as far as the windows go
//! receive ─► SETTINGS (first) ─► WINDOW_UPDATE: more DATA ─► HEADERS ─► DATA ─► HEADERS, END_STREAM ─► response
//!            SETTINGS, PING: acknowledged     GOAWAY beyond 1: noted     RST_STREAM, GOAWAY below 1, anything wrong: error
//! ```

mod response;

use crate::http2::frame::{
    ACK, END_HEADERS, END_STREAM, FRAME_BYTES, Head, LONGEST_FRAME, WITH_PRIORITY, append, frame, kind, number,
    unpadded,
};
use crate::http2::hpack::{self, Decoder};
use crate::http2::{Http2Error, LARGEST_WINDOW, NO_PUSH, PREFACE, STREAM, WINDOW, setting};
pub(crate) use response::Response;

/// A header block as it is sent, over all its frames.
const BLOCK_BYTES: usize = 64 * 1024;
/// Acknowledgements that the peer does not take.
const OUTGOING_BYTES: usize = 1024 * 1024;

/// A header block whose frames are not all there.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    ends_stream: bool,
}

/// The request, and the response as far as it is there.
#[derive(Debug)]
pub(crate) struct Exchange {
    outgoing: Vec<u8>,
    /// Bytes of a frame that is not all there.
    incoming: Vec<u8>,
    /// What of the request's body is not given out.
    body: Vec<u8>,
    given: usize,
    /// How much the peer takes, of the stream and of the connection; a setting can make the first negative.
    windows: [i64; 2],
    initial_window: i64,
    peer_frame: usize,
    /// Bytes that came since the peer's windows, which are alike, were opened again.
    consumed: i64,
    decoder: Decoder,
    block: Option<Block>,
    response: Response,
    has_peer_greeted: bool,
}

impl Exchange {
    /// A request of these fields, pseudo fields first; a response body over `limit` bytes is an error.
    pub(crate) fn new(fields: &[(&str, &str)], body: Vec<u8>, limit: usize) -> Self {
        let mut exchange = Self {
            outgoing: Vec::with_capacity(512 + body.len().min(FRAME_BYTES)),
            incoming: Vec::new(),
            body,
            given: 0,
            windows: [WINDOW; 2],
            initial_window: WINDOW,
            peer_frame: FRAME_BYTES,
            consumed: 0,
            decoder: Decoder::default(),
            block: None,
            response: Response::new(limit),
            has_peer_greeted: false,
        };
        exchange.outgoing.extend(PREFACE);
        exchange.append(kind::SETTINGS, 0, 0, &NO_PUSH);
        let mut block = Vec::with_capacity(256);
        for (name, value) in fields {
            hpack::append(&mut block, name, value);
        }
        exchange.append_block(&block);
        exchange.give_out();
        exchange
    }

    /// What is to be sent; the caller takes away what it has sent.
    pub(crate) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// The whole response, once it is.
    pub(crate) fn response(&self) -> Option<&Response> {
        Some(&self.response).filter(|response| response.is_whole())
    }

    /// Takes what came. After an error, or the response, nothing more is taken.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Http2Error> {
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.extend(bytes);
        let mut rest = incoming.as_slice();
        while !self.response.is_whole() {
            let Some((head, payload, more)) = frame(rest)? else { break };
            self.take(head, payload)?;
            rest = more;
        }
        let taken = incoming.len() - rest.len();
        incoming.drain(..taken);
        self.incoming = incoming;
        Ok(())
    }

    fn take(&mut self, head: Head, payload: &[u8]) -> Result<(), Http2Error> {
        if !self.has_peer_greeted && (head.kind != kind::SETTINGS || head.has(ACK)) {
            return Err(Http2Error::Violated("the first frame is not SETTINGS"));
        }
        self.has_peer_greeted = true;
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(Http2Error::Violated("another frame within a header block"));
        }
        let of_stream = matches!(head.kind, kind::DATA | kind::HEADERS | kind::RST_STREAM | kind::CONTINUATION);
        let of_connection = matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        if of_stream && head.stream != STREAM || of_connection && head.stream != 0 {
            return Err(Http2Error::Violated("a frame of a stream that it cannot be of"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.more_headers(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::RST_STREAM => Err(Http2Error::Reset(number(payload)?)),
            kind::PING if payload.len() != 8 => Err(Http2Error::Violated("a PING of a wrong length")),
            kind::PING if head.has(ACK) => Ok(()),
            kind::PING => self.answer(kind::PING, payload),
            kind::GOAWAY => goaway(payload),
            kind::PRIORITY if payload.len() != 5 || head.stream == 0 => {
                Err(Http2Error::Violated("a PRIORITY that is none"))
            }
            kind::PUSH_PROMISE => Err(Http2Error::Violated("a push, which was not asked for")),
            // Types that are not known are left out (section 4.1).
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Http2Error> {
        // Padding counts, too.
        self.consumed += i64::try_from(payload.len()).unwrap_or(i64::MAX);
        if self.consumed > WINDOW {
            return Err(Http2Error::Violated("more data than the window holds"));
        }
        self.response.add_data(unpadded(head, payload)?, head.has(END_STREAM))?;
        if self.consumed > WINDOW / 2 && !self.response.is_whole() {
            let opened = u32::try_from(std::mem::take(&mut self.consumed)).unwrap_or_default().to_be_bytes();
            self.append(kind::WINDOW_UPDATE, 0, 0, &opened);
            self.append(kind::WINDOW_UPDATE, 0, STREAM, &opened);
        }
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Http2Error> {
        let mut fragment = unpadded(head, payload)?;
        if head.has(WITH_PRIORITY) {
            fragment = fragment.get(5..).ok_or(Http2Error::Violated("a priority that is cut"))?;
        }
        self.block = Some(Block { bytes: Vec::new(), ends_stream: head.has(END_STREAM) });
        self.more_headers(head, fragment)
    }

    fn more_headers(&mut self, head: Head, fragment: &[u8]) -> Result<(), Http2Error> {
        let mut block = self.block.take().ok_or(Http2Error::Violated("a CONTINUATION of nothing"))?;
        block.bytes.extend(fragment);
        // An empty frame after the other would go on for ever, but adds to what is kept by nothing.
        if block.bytes.len() > BLOCK_BYTES {
            return Err(Http2Error::Violated("a header block that is too long"));
        }
        if !head.has(END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let fields = self.decoder.decode(&block.bytes).map_err(Http2Error::Violated)?;
        self.response.add_fields(fields, block.ends_stream)
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Http2Error> {
        if head.has(ACK) {
            return if payload.is_empty() {
                Ok(())
            } else {
                Err(Http2Error::Violated("an acknowledgement with settings"))
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Http2Error::Violated("SETTINGS of a wrong length"));
        }
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::ENABLE_PUSH if value != 0 => return Err(Http2Error::Violated("a server that enables push")),
                setting::INITIAL_WINDOW_SIZE => {
                    let initial = i64::from(value);
                    if initial > LARGEST_WINDOW {
                        return Err(Http2Error::Violated("a window that is too large"));
                    }
                    self.widen(0, initial - self.initial_window)?;
                    self.initial_window = initial;
                }
                setting::MAX_FRAME_SIZE if value > LONGEST_FRAME || (value as usize) < FRAME_BYTES => {
                    return Err(Http2Error::Violated("a size of frames that cannot be"));
                }
                setting::MAX_FRAME_SIZE => self.peer_frame = value as usize,
                // The rest is about what we do not do: a table of ours, further streams, longer header blocks.
                _ => {}
            }
        }
        self.answer(kind::SETTINGS, &[])?;
        self.give_out();
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Http2Error> {
        let which = match head.stream {
            STREAM => 0,
            0 => 1,
            _ => return Err(Http2Error::Violated("a window of a stream that there is not")),
        };
        match i64::from(number(payload)? & 0x7fff_ffff) {
            0 => return Err(Http2Error::Violated("a window that is opened by nothing")),
            more => self.widen(which, more)?,
        }
        self.give_out();
        Ok(())
    }

    fn widen(&mut self, which: usize, by: i64) -> Result<(), Http2Error> {
        if let Some(window) = self.windows.get_mut(which) {
            *window += by;
            if *window > LARGEST_WINDOW {
                return Err(Http2Error::Violated("a window that is too large"));
            }
        }
        Ok(())
    }

    /// As much of the body as the windows hold; the last frame ends the stream.
    fn give_out(&mut self) {
        loop {
            let rest = self.body.get(self.given..).unwrap_or_default();
            let room = self.windows.into_iter().min().and_then(|room| usize::try_from(room).ok()).unwrap_or(0);
            let part = rest.len().min(room).min(self.peer_frame);
            if part == 0 {
                return;
            }
            let flags = if part == rest.len() { END_STREAM } else { 0 };
            let part = rest.get(..part).unwrap_or_default().to_vec();
            self.append(kind::DATA, flags, STREAM, &part);
            self.given += part.len();
            let taken = i64::try_from(part.len()).unwrap_or(i64::MAX);
            self.windows = self.windows.map(|window| window - taken);
        }
    }

    /// Ours is far below one frame, but need not be.
    fn append_block(&mut self, block: &[u8]) {
        let frames = block.chunks(FRAME_BYTES).count();
        for (number, part) in (1..).zip(block.chunks(FRAME_BYTES)) {
            let kind = if number == 1 { kind::HEADERS } else { kind::CONTINUATION };
            let flags = if number == frames { END_HEADERS } else { 0 };
            self.append(kind, flags, STREAM, part);
        }
    }

    fn answer(&mut self, kind: u8, payload: &[u8]) -> Result<(), Http2Error> {
        if self.outgoing.len() > OUTGOING_BYTES {
            return Err(Http2Error::Violated("it asks and does not read the answers"));
        }
        self.append(kind, ACK, 0, payload);
        Ok(())
    }

    fn append(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        append(&mut self.outgoing, kind, flags, stream, payload);
    }
}

/// A peer that goes after this call is no reason to give it up.
fn goaway(payload: &[u8]) -> Result<(), Http2Error> {
    let Some((&[a, b, c, d, e, f, g, h], reason)) = payload.split_first_chunk::<8>() else {
        return Err(Http2Error::Violated("a GOAWAY of a wrong length"));
    };
    if u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff >= STREAM {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(reason).into_owned();
    Err(Http2Error::GoneAway { code: u32::from_be_bytes([e, f, g, h]), reason })
}

#[cfg(test)]
mod tests;
