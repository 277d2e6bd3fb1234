// SPDX-License-Identifier: Apache-2.0
//! The exchange against a server that we did not write (h2's), and against frames that no server should send.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use h2::server::Builder;
use proptest::prelude::*;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Response as Answer};

use super::*;
use crate::client::connection::Connection;
use crate::http2::frame::PADDED;

const LIMIT: usize = 300_000;

/// A frame as bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn settings() -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[])
}

/// `:status: 200` from the static table.
const OK: u8 = 0x88;

fn exchange(body: &[u8]) -> Exchange {
    Exchange::new(&[(":method", "POST"), (":path", "/")], body.to_vec(), LIMIT)
}

/// What all of the frames come to.
fn outcome(frames: &[Vec<u8>]) -> Result<Exchange, Http2Error> {
    let mut exchange = exchange(b"body");
    exchange.receive(&[settings(), frames.concat()].concat())?;
    Ok(exchange)
}

#[test]
fn a_request_is_preface_settings_head_and_body() {
    let mut exchange = exchange(b"body");
    let head = [&[0, 7][..], b":method", &[4], b"POST", &[0, 5], b":path", &[1], b"/"].concat();
    let expected = [
        PREFACE.to_vec(),
        frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]),
        frame(kind::HEADERS, END_HEADERS, 1, &head),
        frame(kind::DATA, END_STREAM, 1, b"body"),
    ];
    assert_eq!(*exchange.outgoing(), expected.concat());
}

#[test]
fn a_response_is_the_same_whatever_pieces_it_comes_in() {
    let trailer = [&[0x40, 11][..], b"grpc-status", &[1], b"0"].concat();
    let bytes = [
        settings(),
        frame(kind::PING, 0, 0, b"12345678"),
        frame(kind::HEADERS, END_HEADERS, 1, &[0x48, 3, b'1', b'0', b'3']),
        frame(kind::HEADERS, PADDED | WITH_PRIORITY, 1, &[2, 0, 0, 0, 0, 16, OK, 0, 0]),
        frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
        frame(0xfa, 0xff, 7, b"not known"),
        frame(kind::DATA, PADDED, 1, &[1, b'a', b'b', 0]),
        frame(kind::GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        frame(kind::DATA, 0, 1, b"c"),
        frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &trailer),
        b"what comes after is nobody's".to_vec(),
    ]
    .concat();
    for size in [1, 2, 3, 8, 9, 10, 33, bytes.len()] {
        let mut exchange = exchange(b"");
        exchange.outgoing().clear();
        bytes.chunks(size).for_each(|piece| exchange.receive(piece).unwrap());
        let answers = [frame(kind::SETTINGS, ACK, 0, &[]), frame(kind::PING, ACK, 0, b"12345678")].concat();
        assert_eq!(*exchange.outgoing(), answers);
        let response = exchange.response().unwrap();
        assert_eq!((response.status(), response.body()), (200, &b"abc"[..]));
        assert_eq!(response.last_field("grpc-status"), Some(&b"0"[..]));
    }
}

#[test]
fn no_more_is_given_out_than_the_windows_hold() {
    let mut exchange = exchange(&[7; 200_000]);
    let mut given = usize::try_from(WINDOW).unwrap();
    assert_eq!(exchange.given, given);
    let update = |stream, by: u32| frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    exchange.receive(&[settings(), update(1, 1_000)].concat()).unwrap();
    assert_eq!(exchange.given, given, "the connection's is closed");
    exchange.receive(&update(0, 70_000)).unwrap();
    given += 1_000;
    assert_eq!(exchange.given, given);
    // The stream's window falls below nothing, and must be opened by more than that.
    exchange.receive(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    exchange.receive(&update(1, 65_535)).unwrap();
    assert_eq!(exchange.given, given);
    exchange.receive(&update(1, 10)).unwrap();
    assert_eq!(exchange.given, given + 10);
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let head = || frame(kind::HEADERS, END_HEADERS, 1, &[OK]);
    let (long, window) = (vec![0; FRAME_BYTES + 1], frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]));
    let table: [(&[Vec<u8>], &str); 24] = [
        (&[frame(kind::DATA, 0, 1, b"a")], "before the head"),
        (&[frame(kind::DATA, 0, 3, b"a")], "a stream that it cannot be of"),
        (&[frame(kind::SETTINGS, 0, 1, &[])], "a stream that it cannot be of"),
        (&[frame(kind::SETTINGS, 0, 0, &[0; 5])], "SETTINGS of a wrong length"),
        (&[frame(kind::SETTINGS, ACK, 0, &[0; 6])], "an acknowledgement with settings"),
        (&[frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1])], "enables push"),
        (&[frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])], "size of frames"),
        (&[window], "too large"),
        (&[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])], "opened by nothing"),
        (&[frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])], "too large"),
        (&[frame(kind::WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1])], "stream that there is not"),
        (&[frame(kind::RST_STREAM, 0, 1, &[0; 3])], "wrong length"),
        (&[frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7])], "reset with code 7"),
        (&[frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2, b'x'])], "closed with code 2: x"),
        (&[frame(kind::GOAWAY, 0, 0, &[0; 7])], "GOAWAY of a wrong length"),
        (&[frame(kind::PING, 0, 0, &[0; 7])], "PING of a wrong length"),
        (&[frame(kind::PUSH_PROMISE, 0, 1, &[0; 4])], "a push"),
        (&[frame(kind::CONTINUATION, 0, 1, &[])], "CONTINUATION of nothing"),
        (&[frame(kind::HEADERS, 0, 1, &[OK]), head()], "within a header block"),
        (&[frame(kind::HEADERS, END_HEADERS | PADDED, 1, &[2, OK])], "more padding"),
        (&[frame(kind::HEADERS, END_HEADERS, 1, &[0x80 | 32])], "without `:status`"),
        (&[frame(kind::HEADERS, END_HEADERS, 1, &[0x80 | 32, OK])], "after others"),
        (&[head(), head()], "trailers that do not end"),
        (&[frame(kind::DATA, 0, 1, &long)], "a frame that is too long"),
    ];
    for (frames, why) in table {
        let error = outcome(frames).unwrap_err().to_string();
        assert!(error.contains(why), "{error} is not {why}");
    }
    let without_settings = exchange(b"").receive(&frame(kind::PING, 0, 0, &[0; 8]));
    assert_eq!(without_settings, Err(Http2Error::Violated("the first frame is not SETTINGS")));
}

#[test]
fn what_a_peer_can_make_us_keep_is_bounded() {
    let head = frame(kind::HEADERS, END_HEADERS, 1, &[OK]);
    let data = frame(kind::DATA, 0, 1, &[0; FRAME_BYTES]);
    let mut body = outcome(&[head]).unwrap();
    let pieces = (0..).map_while(|_| body.receive(&data).ok()).count();
    assert_eq!(pieces, LIMIT / FRAME_BYTES);
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    let mut asked = outcome(&[]).unwrap();
    let pings = (0..).map_while(|_| asked.receive(&ping).ok()).count();
    assert!(asked.outgoing().len() <= OUTGOING_BYTES + ping.len() && pings > 10_000, "{pings}");
    let mut block = outcome(&[frame(kind::HEADERS, 0, 1, &[OK])]).unwrap();
    let more = frame(kind::CONTINUATION, 0, 1, &[0; FRAME_BYTES]);
    assert_eq!((0..).map_while(|_| block.receive(&more).ok()).count(), BLOCK_BYTES / FRAME_BYTES - 1);
}

/// What a server does.
#[derive(Clone, Debug)]
struct Served {
    request: usize,
    initial_window: u32,
    frame: u32,
    head: Vec<(String, String)>,
    body: Vec<usize>,
    trailers: Vec<(String, String)>,
}

fn served() -> impl Strategy<Value = Served> {
    let fields = || prop::collection::vec(("[a-z][a-z0-9-]{0,12}", "[ -~]{0,300}"), 0..12);
    let sizes = prop::collection::vec(prop_oneof![0..100_usize, 0..90_000_usize], 0..3);
    (0..200_000_usize, 1..100_000_u32, 16_384..60_000_u32, fields(), sizes, fields()).prop_map(
        |(request, initial_window, frame, head, body, trailers)| Served {
            request,
            initial_window,
            frame,
            head,
            body,
            trailers,
        },
    )
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        Some((HeaderName::try_from(format!("x-{name}")).ok()?, HeaderValue::from_str(value).ok()?))
    };
    fields.iter().filter_map(field).collect()
}

/// Serves one call by the h2 crate; what it was asked with.
fn serve(socket: std::os::unix::net::UnixStream, served: &Served) -> (HeaderMap, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        socket.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(socket).unwrap();
        let mut builder = Builder::new();
        builder.initial_window_size(served.initial_window).max_frame_size(served.frame);
        let mut connection = builder.handshake::<_, tonic::codegen::Bytes>(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let work = async {
            let (parts, mut body) = request.into_parts();
            let mut taken = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                taken += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            let mut answer = Answer::new(());
            *answer.headers_mut() = map(&served.head);
            let mut stream = respond.send_response(answer, false).unwrap();
            for size in &served.body {
                stream.send_data(vec![1; *size].into(), false).unwrap();
            }
            stream.send_trailers(map(&served.trailers)).unwrap();
            (parts.headers, taken)
        };
        tokio::pin!(work);
        let asked = tokio::select! {
            asked = &mut work => asked,
            _ = connection.accept() => panic!("the caller went away"),
        };
        // Until the caller has it all and goes.
        while connection.accept().await.is_some_and(|next| next.is_ok()) {}
        asked
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_call_comes_through_to_a_server_of_the_h2_crate_and_back(served in served()) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let told = served.clone();
        let server = std::thread::spawn(move || serve(theirs, &told));
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "localhost"), ("x-asked", "yes")];
        let mut exchange = Exchange::new(&fields, vec![7; served.request.max(1)], LIMIT);
        let connection = Connection::from(OwnedFd::from(ours));
        #[allow(clippy::disallowed_methods, reason = "a time limit, so that a call that hangs is a failure")]
        let end = Instant::now() + Duration::from_secs(10);
        let response = connection.carry_out(&mut exchange, end).unwrap();
        prop_assert_eq!(response.body().len(), served.body.iter().sum::<usize>());
        for (name, value) in &map(&served.head) {
            prop_assert!(response.fields().any(|field| field.name == name.as_str().as_bytes() && field.value == value.as_bytes()));
        }
        for (name, value) in &map(&served.trailers) {
            prop_assert!(response.trailers().any(|field| field.name == name.as_str().as_bytes() && field.value == value.as_bytes()));
        }
        drop(connection);
        let (asked, taken) = server.join().unwrap();
        prop_assert_eq!((taken, asked.get("x-asked").map(HeaderValue::as_bytes)), (served.request.max(1), Some(&b"yes"[..])));
    }
}
