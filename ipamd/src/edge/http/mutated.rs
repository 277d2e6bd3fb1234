// SPDX-License-Identifier: Apache-2.0
//! Requests that are not as they should be, into the router without a socket, and as bytes into the whole server: nothing panics, a status is
//! one of ours, no body has a secret or a container's id that could forge a DEL, a HEAD is its GET without a body, and over TCP who names the
//! host by a site's name gets nothing.
//!
//! Not guided by coverage, as the fuzzers of `fuzz/` are: what is behind the router is the daemon, with the SDK, which takes longer to
//! compile than this finds. The same seed makes the same requests; `ENID_MUTATIONS` says how many.

use std::collections::BTreeMap;
use std::ops::Range;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Response};
use ipamd_core::event::KernelView;
use ipamd_core::{Core, Restored};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::codegen::Service;

use super::*;
use crate::edge::layers::{Layering, RecordFile};
use crate::inbox::Input;

/// In the proxy's URL.
const SECRET: &str = "opensesame";
/// Of a sandbox: whoever knows it could send a DEL.
const CONTAINER: &str = "5ec4e7c0ffee";
const JOURNAL: &str = include_str!("../../../../fuzz/corpus/journal/everything");

const METHODS: [&str; 9] = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"];
const QUERIES: [&str; 10] = [
    "",
    "?since=0",
    "?since=1",
    "?since=18446744073709551615",
    "?since=18446744073709551616",
    "?since=-1",
    "?since=",
    "?since=1&since=2",
    "?%00",
    "?since=%31",
];
/// What names the host, and whether that is no site's name.
const HOSTS: [(&str, bool); 14] = [
    ("127.0.0.1:61679", true),
    ("localhost", true),
    ("LOCALHOST:1", true),
    ("[::1]:61679", true),
    ("10.0.0.7", true),
    ("", true),
    ("evil.example", false),
    ("evil.example:61679", false),
    ("127.0.0.1.evil.example", false),
    ("localhost.evil.example", false),
    ("evil.example@127.0.0.1", false),
    ("localhost:61679.evil.example", false),
    ("2130706433", false),
    ("127.1", false),
];
const IDS: [&str; 6] = ["", "1-2", "-5-18446744073709551615", "x", "99999999999999999999-1", "1-"];
const BYTES: &[u8] = b"/.%0aA?&=#;:@ ~\\\"{}";

/// Draws (xorshift64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % end.max(1)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// One of our paths, in half of the cases with a few bytes that are others, fewer or more.
    fn path(&mut self) -> String {
        let known = routes().map(|(path, _)| path);
        let mut path = if self.below(8) == 0 { b"/".to_vec() } else { self.of(&known).as_bytes().to_vec() };
        for _ in 0..self.below(2) * (1 + self.below(3)) {
            let at = 1 + self.below(path.len());
            match self.below(3) {
                0 if at < path.len() => path[at] = self.of(BYTES),
                1 if at < path.len() => drop(path.remove(at)),
                _ => path.insert(at.min(path.len()), self.of(BYTES)),
            }
        }
        String::from_utf8_lossy(&path).into_owned()
    }
}

/// How many requests a test makes: `ENID_MUTATIONS`, else 1,500.
fn rounds() -> Range<usize> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let asked = std::env::var("ENID_MUTATIONS").ok();
    0..asked.and_then(|text| text.parse().ok()).unwrap_or(1_500)
}

/// A daemon of which only the state is there: with pods, and a proxy that takes a password.
fn daemon() -> Introspection {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).display().to_string();
    let environment = BTreeMap::from(
        [
            ("HTTPS_PROXY", format!("http://user:{SECRET}@proxy.example:3128")),
            ("AWS_VPC_K8S_CNI_BACKING_STORE", text("ipam.json")),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let (config, _) = ipamd_core::config::parse(&environment).unwrap();
    let record = RecordFile::beside(&config.journal);
    let settings = Layering::new(Box::new(environment), &config, record, None).board();
    let journal = JOURNAL.replace("\"containerID\":\"a\"", &format!("\"containerID\":\"{CONTAINER}\""));
    let parts: Vec<&[u8]> = journal.splitn(3, "---\n").map(str::as_bytes).collect();
    let found = Restored::read(Some(parts[0]), Some(parts[1]), KernelView::default(), "boot-1");
    let (core, _) = Core::new(config.clone(), found, clock::now());
    assert!(core.snapshot(clock::now()).pods.iter().any(|pod| pod.key.contains(CONTAINER)), "the journal was read");
    let (inbox, mut inputs) = Inbox::new();
    tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            if let Input::Snapshot(answer) = input {
                let _ = answer.send(core.snapshot(clock::now()));
            }
        }
    });
    Introspection {
        inbox,
        settings,
        kubernetes: Status::new(None),
        conflist: watch::Sender::default().subscribe(),
        blocks: watch::Sender::new(config.snat.blocks.clone()).subscribe(),
        config: Arc::new(config),
        observer: Observer::new(clock::now()),
        scraped: Default::default(),
    }
}

/// An answer's head and, where it ends, its body.
async fn ask(router: &mut Router, request: Request) -> (Response<()>, Option<Vec<u8>>) {
    let answer = timeout(Duration::from_secs(10), router.call(request)).await.expect("an answer in time").unwrap();
    let (head, body) = answer.into_parts();
    let is_endless = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let body = if is_endless { None } else { Some(to_bytes(body, 16 << 20).await.unwrap().to_vec()) };
    (Response::from_parts(head, ()), body)
}

fn kind(answer: &Response<()>) -> String {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.unwrap_or_default().to_owned()
}

/// A request, where there can be one; the name of its host and whether that is no site's.
fn made(method: &str, target: &str, host: &str, id: &str, accept: &str) -> Option<Request> {
    let builder = axum::http::Request::builder().method(Method::from_bytes(method.as_bytes()).ok()?).uri(target);
    builder
        .header(header::HOST, host)
        .header("last-event-id", id)
        .header(header::ACCEPT, accept)
        .body(Body::empty())
        .ok()
}

#[tokio::test]
async fn whatever_is_asked_gets_one_of_our_answers_without_secrets_and_a_site_gets_none() {
    let mut router = guarded(router(daemon()));
    let mut draws = Draws(0x9e37_79b9_7f4a_7c15);
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in rounds() {
        let (method, (host, is_ours)) = (draws.of(&METHODS), draws.of(&HOSTS));
        let target = draws.path() + draws.of(&QUERIES);
        let (id, accept) = (draws.of(&IDS), draws.of(&["*/*", "text/html", ""]));
        let Some(request) = made(method, &target, host, id, accept) else { continue };
        let path = request.uri().path().to_owned();
        let (answer, body) = ask(&mut router, request).await;
        let (status, text) = (answer.status().as_u16(), String::from_utf8(body.clone().unwrap_or_default()).unwrap());
        *seen.entry(status).or_default() += 1;
        let told = format!("{method} {target} of {host:?}: {status} {text}");
        assert_eq!(status == 421, !is_ours, "{told}");
        assert!([200, 400, 404, 405, 421, 503].contains(&status), "{told}");
        assert!(!text.contains(SECRET) && !format!("{:?}", answer.headers()).contains(SECRET), "{told}");
        let forges = path != "/v1/status" && text.contains(CONTAINER);
        assert!(!forges, "{told}");
        if status == 200 {
            assert!(["GET", "HEAD"].contains(&method), "{told}");
        }
        // Of who follows there may be too many for a moment.
        if method == "HEAD" && is_ours && path != "/v1/events/follow" {
            assert_eq!(text, "", "{told}");
            let get = made("GET", &target, host, id, accept).unwrap();
            let (full, _) = ask(&mut router, get).await;
            assert_eq!((full.status(), kind(&full)), (answer.status(), kind(&answer)), "{told}");
        } else if method != "HEAD" && kind(&answer) == "application/json" {
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{told}");
        }
        let is_known = routes().iter().any(|(known, _)| *known == path);
        if status == 200 && method == "GET" && !is_known {
            let is_page = text.starts_with("<!DOCTYPE html>") && path == "/" && accept == "text/html";
            assert!(is_page || text.starts_with(r#"{"AvailableCommands":"#), "{told}");
        }
    }
    assert!([200, 400, 404, 405, 421].iter().all(|status| seen.contains_key(status)), "{seen:?}");
}

#[tokio::test]
async fn metrics_alone_are_served_at_their_own_place() {
    let mut router = only_metrics(daemon());
    let mut draws = Draws(0x2545_f491_4f6c_dd1d);
    for _ in 0..rounds().len() / 5 {
        let target = draws.path() + draws.of(&QUERIES);
        let Some(request) = made("GET", &target, draws.of(&HOSTS).0, "", "*/*") else { continue };
        let is_metrics = request.uri().path() == "/metrics";
        let (answer, body) = ask(&mut router, request).await;
        let text = String::from_utf8(body.unwrap()).unwrap();
        assert_eq!(answer.status().as_u16(), if is_metrics { 200 } else { 404 }, "{target}");
        assert!(is_metrics || text.is_empty(), "{target}: {text}");
        assert!(!text.contains(SECRET) && !text.contains("10.0.0."), "no secret, no address: {text}");
    }
}

/// Connections in memory.
struct Wires(mpsc::Receiver<DuplexStream>);

impl Listener for Wires {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(wire) => (wire, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether who asks says that nothing more comes. hyper takes that for one who is gone, and need not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Open,
}

/// What is answered to these bytes, until the other end closes.
async fn answered(wires: &mpsc::Sender<DuplexStream>, bytes: &[u8], end: End) -> Vec<u8> {
    let (mut ours, theirs) = duplex(1 << 20);
    wires.send(theirs).await.unwrap();
    // It may have closed already.
    let _ = ours.write_all(bytes).await;
    if end == End::Closed {
        let _ = ours.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), ours.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "no end of {:?}", String::from_utf8_lossy(bytes));
    answer
}

#[tokio::test]
async fn whatever_bytes_come_the_next_who_asks_is_answered() {
    let (wires, listener) = mpsc::channel(1);
    let router = guarded(router(daemon()));
    tokio::spawn(async move { axum::serve(Bounded::new(Wires(listener)), router).await });
    let good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut draws = Draws(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds().len() / 5 {
        let (method, (host, _), id) = (draws.of(&METHODS), draws.of(&HOSTS), draws.of(&IDS));
        let target = draws.path().replace("follow", "f") + draws.of(&QUERIES);
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nLast-Event-ID: {id}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes();
        for _ in 0..draws.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = draws.below(bytes.len());
            match draws.below(4) {
                0 => bytes[at] = u8::try_from(draws.below(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.splice(at..at, std::iter::repeat_n(b'A', draws.below(1 << 10))).for_each(drop),
            }
        }
        let answer = answered(&wires, &bytes, End::Closed).await;
        let sent = String::from_utf8_lossy(&bytes).into_owned();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{sent:?}");
        assert!(!String::from_utf8_lossy(&answer).contains(SECRET), "{sent:?}");
        let after = String::from_utf8(answered(&wires, good, End::Open).await).unwrap();
        assert!(after.starts_with("HTTP/1.1 200 OK\r\n") && after.ends_with("ok\n"), "{after} after {sent:?}");
    }
}
