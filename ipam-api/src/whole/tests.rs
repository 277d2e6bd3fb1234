// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::client::fuzzing::replay;
use crate::client::grpc;
use crate::rpc::AddNetworkReply;

const SECOND: Duration = Duration::from_secs(1);

fn add(container: &str) -> AddNetworkRequest {
    AddNetworkRequest { container_id: container.into(), wait_budget_ms: Some(900), ..Default::default() }
}

/// What the plugin sends.
fn sent(path: &str, message: &impl Message) -> Vec<u8> {
    grpc::request(path, SECOND, message).outgoing().clone()
}

/// The frames of a header block of ours, with other fields.
fn with_fields(fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    append(&mut bytes, kind::SETTINGS, 0, 0, &NO_PUSH);
    append_block(&mut bytes, 0, fields);
    append(&mut bytes, kind::DATA, END_STREAM, STREAM, body);
    bytes
}

const FIELDS: [(&str, &str); 8] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/rpc.CNIBackend/AddNetwork"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("grpc-timeout", "1000000u"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-rust-enid/9.9.9"),
];

#[test]
fn what_our_plugin_sends_is_a_whole_call() {
    let taken = call(&sent("/rpc.CNIBackend/AddNetwork", &add("c1"))).unwrap();
    assert_eq!(taken, Call { asked: Asked::Add(add("c1")), left: Some(SECOND) });
    let request = DelNetworkRequest { container_id: "c2".into(), ..Default::default() };
    let taken = call(&sent("/rpc.CNIBackend/DelNetwork", &request)).unwrap();
    assert_eq!(taken, Call { asked: Asked::Del(request), left: Some(SECOND) });
}

#[test]
fn a_call_that_is_cut_or_goes_on_is_left_to_tonic() {
    let bytes = sent("/rpc.CNIBackend/AddNetwork", &add("c1"));
    for length in 0..bytes.len() {
        assert_eq!(call(&bytes[..length]), None, "{length} of {}", bytes.len());
    }
    let mut longer = bytes.clone();
    append(&mut longer, kind::SETTINGS, ACK, 0, &[]);
    assert_eq!(call(&longer), None);
}

#[test]
fn a_call_that_is_not_as_ours_is_left_to_tonic() {
    let message = add("c1").encode_to_vec();
    let body = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    assert!(call(&with_fields(&FIELDS, &body)).is_some(), "the others differ from this one");
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/rpc.EnidBackend/CollectGarbage"),
        (":path", "/rpc.CNIBackend/addnetwork"),
        (":authority", "127.0.0.1"),
        ("te", "gzip"),
        ("grpc-timeout", "1000000000u"),
        ("grpc-timeout", "1"),
        ("grpc-timeout", "-1u"),
        ("content-type", "application/grpc+json"),
        ("user-agent", "grpc-go/1.60.0"),
        ("user-agent", "grpc-rust-enid/1\n"),
    ] {
        let fields = FIELDS.map(|field| if field.0 == name { (name, value) } else { field });
        assert_eq!(call(&with_fields(&fields, &body)), None, "{name}: {value}");
        let fields: Vec<_> = FIELDS.into_iter().filter(|field| field.0 != name).collect();
        assert_eq!(call(&with_fields(&fields, &body)).is_some(), name == "grpc-timeout", "without {name}");
        let fields = [&FIELDS[..], &[(name, value)]].concat();
        assert_eq!(call(&with_fields(&fields, &body)), None, "{name} twice");
    }
    let more = [&FIELDS[..], &[("grpc-encoding", "gzip")]].concat();
    assert_eq!(call(&with_fields(&more, &body)), None, "a field that ours has not");
    let mut late = FIELDS;
    late.rotate_left(1);
    assert_eq!(call(&with_fields(&late, &body)), None, "a pseudo field after others");
    let compressed = [&[1][..], &body[1..]].concat();
    let two = [&body[..], &body].concat();
    for body in [&b""[..], &body[..4], &body[..body.len() - 1], &compressed, &two, &[0, 0, 0, 0, 1, 0xff]] {
        assert_eq!(call(&with_fields(&FIELDS, body)), None, "{body:?}");
    }
}

/// The plugin's end reads an answer.
fn heard(outcome: Result<Vec<u8>, Status>) -> Result<AddNetworkReply, (tonic::Code, String)> {
    let mut exchange = grpc::request("/rpc.CNIBackend/AddNetwork", SECOND, &add("c1"));
    exchange.receive(&answer(outcome)).unwrap();
    grpc::reply(exchange.response().expect("a whole response")).map_err(|failure| (failure.code, failure.message))
}

#[test]
fn the_plugin_hears_what_was_answered() {
    let reply = AddNetworkReply { success: true, vpc_v4_cidrs: vec!["10.0.0.0/16".into(); 5], ..Default::default() };
    assert_eq!(heard(Ok(reply.encode_to_vec())).unwrap(), reply);
    assert_eq!(heard(Ok(Vec::new())).unwrap(), AddNetworkReply::default());
    for text in ["", "plain", "100 %, \u{fc}ber\nalles", "\u{7f}"] {
        let (code, heard) = heard(Err(Status::failed_precondition(text))).unwrap_err();
        assert_eq!((code, heard.as_str()), (tonic::Code::FailedPrecondition, text));
    }
}

/// h2 as the client, which is strict about what a server may say when.
#[tokio::test]
async fn an_answer_is_one_to_any_client_of_http2() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for outcome in [Ok(vec![8, 1]), Err(Status::not_found("nobody"))] {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let expected = outcome.clone().map_err(|status| status.code());
        let server = tokio::spawn(async move {
            let mut heard = Vec::new();
            // A stream must be open to be answered: the body has come.
            while !heard.ends_with(b"the end") {
                assert!(theirs.read_buf(&mut heard).await.unwrap() > 0);
            }
            theirs.write_all(&answer(outcome)).await.unwrap();
            // It acknowledges what it has read, and goes.
            while theirs.read_buf(&mut heard).await.unwrap() > 0 {}
        });
        let (sender, connection) = h2::client::handshake(ours).await.unwrap();
        let ended = tokio::spawn(connection);
        let request = tonic::codegen::http::Request::post("http://localhost/a/b").body(()).unwrap();
        let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data("the end".into(), true).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), &head.headers["content-type"]), (200, &"application/grpc".parse().unwrap()));
        match expected {
            Ok(reply) => {
                assert_eq!(body.data().await.unwrap().unwrap(), message::body(&reply));
                assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
            }
            Err(code) => assert_eq!(head.headers["grpc-status"], i32::from(code).to_string()),
        }
        // GOAWAY with NO_ERROR is no error.
        ended.await.unwrap().unwrap();
        server.await.unwrap();
    }
}

#[test]
fn what_is_too_long_for_one_frame_is_an_error_or_cut() {
    let (code, _) = heard(Ok(vec![0; LARGEST_REPLY + 1])).unwrap_err();
    assert_eq!(code, tonic::Code::Internal);
    let (code, text) = heard(Err(Status::unknown("%".repeat(100_000)))).unwrap_err();
    assert!(code == tonic::Code::Unknown && (1_000..16_384).contains(&text.len()), "{}", text.len());
}

#[test]
fn the_corpus_of_the_fuzzers_holds() {
    replay::corpus("first_bytes", fuzzing::first_bytes);
}

proptest! {
    #[test]
    fn a_call_with_a_byte_changed_is_a_call_or_none(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = sent("/rpc.CNIBackend/AddNetwork", &add("c1"));
        *place.get_mut(&mut bytes) = byte;
        fuzzing::first_bytes(&bytes);
    }

    #[test]
    fn any_bytes_after_a_preface_are_a_call_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzzing::first_bytes(&[PREFACE, &bytes].concat());
    }
}
