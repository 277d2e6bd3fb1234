// SPDX-License-Identifier: Apache-2.0

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::KubeApi;
use super::resource::{NODES, SERVICES};
use super::store::Key;
use crate::emulator::serve;
use crate::running_vpc::listen;

struct Server {
    api: KubeApi,
    at: SocketAddrV4,
    _runtime: Runtime,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (listener, at) = listen(0).unwrap();
        let api = KubeApi::default();
        let inside = runtime.enter();
        serve(listener, api.router()).unwrap();
        drop(inside);
        Self { api, at, _runtime: runtime }
    }

    /// HTTP 1.0: the body ends with the connection.
    fn send(&self, request: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).unwrap();
        write!(stream, "{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    fn ask(&self, request: &str, body: &str) -> (u16, Value) {
        let (status, text) = answer(self.send(request, body));
        (status, serde_json::from_str(&text).unwrap())
    }

    fn service(&self, name: &str, labels: &Value) {
        let object = json!({ "metadata": { "name": name, "labels": labels } });
        self.api.put(&SERVICES, Some("default"), object).unwrap();
    }
}

fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn lines(stream: TcpStream) -> Vec<(String, String, String)> {
    let (status, text) = answer(stream);
    assert_eq!(status, 200, "{text}");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |event: Value| {
        let metadata = &event["object"]["metadata"];
        (word(&event["type"]), word(&metadata["name"]), word(&metadata["resourceVersion"]))
    };
    events.map(event).collect()
}

#[test]
fn who_lists_and_watches_from_there_misses_nothing() {
    let server = Server::start();
    server.service("a", &json!({}));
    let (status, list) = server.ask("GET /api/v1/services?limit=500&resourceVersion=0", "");
    assert_eq!((status, list["kind"].as_str()), (200, Some("ServiceList")));
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    server.service("b", &json!({}));
    let selected = "allowWatchBookmarks=true&labelSelector=%21hidden&timeoutSeconds=1&watch=true";
    let watch = server.send(&format!("GET /api/v1/services?{selected}&resourceVersion={revision}"), "");
    server.service("c", &json!({ "hidden": "" }));
    server.service("a", &json!({ "app": "web" }));
    server.api.delete(&Key { resource: &SERVICES, namespace: "default".to_owned(), name: "b".to_owned() }).unwrap();
    let line = |kind: &str, name: &str, revision: &str| (kind.to_owned(), name.to_owned(), revision.to_owned());
    let wanted =
        [line("ADDED", "b", "2"), line("MODIFIED", "a", "4"), line("DELETED", "b", "5"), line("BOOKMARK", "", "5")];
    assert_eq!(lines(watch), wanted);
}

#[test]
fn a_watch_without_a_revision_begins_with_what_is_there() {
    let server = Server::start();
    server.service("a", &json!({}));
    server.api.put(&NODES, None, json!({ "metadata": { "name": "n1" } })).unwrap();
    let watch = server.send("GET /api/v1/namespaces/default/services?timeoutSeconds=1&watch=true", "");
    assert_eq!(lines(watch), [("ADDED".to_owned(), "a".to_owned(), "1".to_owned())]);
}

#[test]
fn objects_are_posted_and_read() {
    let server = Server::start();
    let event = json!({ "metadata": { "name": "n1.1", "namespace": "default" }, "reason": "Starting" }).to_string();
    let (status, made) = server.ask("POST /api/v1/namespaces/default/events", &event);
    assert_eq!((status, made["kind"].as_str()), (201, Some("Event")));
    assert_eq!(server.ask("GET /api/v1/namespaces/default/events/n1.1", ""), (200, made));
    let (status, again) = server.ask("POST /api/v1/namespaces/default/events", &event);
    assert_eq!((status, again["reason"].as_str()), (409, Some("AlreadyExists")));
}

#[test]
fn what_is_not_served_is_refused_with_a_status() {
    let server = Server::start();
    let cases = [
        ("GET /api/v1/nodes/n1", "", 404, "nodes \"n1\" not found"),
        ("GET /apis/apps/v1/deployments", "", 404, "the server could not find the requested resource"),
        ("DELETE /api/v1/nodes/n1", "", 405, "the server does not allow this method on the requested resource"),
        ("GET /api/v1/nodes?fieldSelector=spec.x%3D1", "", 400, "field label not supported: spec.x=1"),
        ("GET /api/v1/nodes?watch=true&resourceVersion=x", "", 400, "resourceVersion is no number: \"x\""),
        ("POST /api/v1/nodes", "{}", 400, "a Node without metadata"),
    ];
    for (request, body, code, message) in cases {
        let (status, answer) = server.ask(request, body);
        assert_eq!((status, answer["message"].as_str()), (code, Some(message)), "{request}");
        assert_eq!((answer["kind"].as_str(), answer["code"].as_u64()), (Some("Status"), Some(u64::from(code))));
    }
    let mut stream = TcpStream::connect(server.at).unwrap();
    stream.write_all(b"GET /api/v1/nodes HTTP/1.0\r\nAccept: application/vnd.kubernetes.protobuf\r\n\r\n").unwrap();
    assert_eq!(answer(stream).0, 406);
}
