// SPDX-License-Identifier: Apache-2.0
//! A forward proxy: what a node with HTTPS_PROXY and HTTP_PROXY finds there. It writes down what passes.
//!
//! Takes `CONNECT host:port` and requests in absolute form (RFC 9110 §9.3.6, RFC 9112 §3.2.2) and carries them to where a table says
//! that host and port are; whom it does not know it answers 502. One request a connection in absolute form.
//!
//! Invariant: nothing passes that is not written down, and nothing is written down that did not ask.
//!
//! ```text
//! node ─► CONNECT ec2.…:443 ─► table ─► 127.0.0.1:port   (the TLS inside is between the ends)
//!      ─► POST http://ec2.…/ ─► table ─► 127.0.0.1:port
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream as StdStream};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::emulator::lock;
use crate::netns::{Namespace, NetnsError};

/// Longest head of a request that is read.
const LONGEST_HEAD: usize = 64 * 1024;

/// What somebody asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// `CONNECT`, or the method of a request in absolute form.
    pub method: String,
    /// Host and port that were asked for.
    pub place: String,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// A proxy, until the runtime that carries it ends.
#[derive(Debug)]
pub struct ForwardProxy {
    /// Where it listens, on the node's loopback.
    pub address: SocketAddrV4,
    passed: Arc<Mutex<Vec<Passed>>>,
}

/// What a connection needs.
#[derive(Clone)]
struct Inside {
    netns: Namespace,
    table: Arc<BTreeMap<String, SocketAddrV4>>,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl ForwardProxy {
    /// Listens on the node's loopback; `table`: `host:port` to where that is, on the same loopback.
    ///
    /// # Errors
    /// The namespace is gone, or the socket cannot be had.
    pub fn serve(runtime: &Runtime, netns: &Namespace, table: &[(&str, SocketAddrV4)]) -> Result<Self, NetnsError> {
        let bound = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = bound.expect("a free port of a loopback");
        listener.set_nonblocking(true).expect("a fresh socket");
        let port = listener.local_addr().map(|address| address.port()).expect("a bound socket");
        let passed = Arc::new(Mutex::new(Vec::new()));
        let table = Arc::new(table.iter().map(|(place, at)| ((*place).to_owned(), *at)).collect());
        let inside = Inside { netns: netns.clone(), table, passed: Arc::clone(&passed) };
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket of this runtime");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inside = inside.clone();
                tokio::spawn(async move {
                    // Either side may go away at any time.
                    let _ended = carry(stream, inside).await;
                });
            }
        });
        Ok(Self { address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), passed })
    }

    /// What passed so far, oldest first.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        lock(&self.passed).clone()
    }
}

async fn carry(mut client: TcpStream, inside: Inside) -> std::io::Result<()> {
    let Some((head, rest)) = read_head(&mut client).await? else { return Ok(()) };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let headers: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (place, path) = match target.strip_prefix("http://") {
        Some(target) => {
            let (place, path) = target.split_once('/').unwrap_or((target, ""));
            let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
            (place, Some(format!("/{path}")))
        }
        None => (target.to_owned(), None),
    };
    let authorization = header(&headers, "proxy-authorization");
    lock(&inside.passed).push(Passed { method: method.to_owned(), place: place.clone(), authorization });
    let Some(at) = inside.table.get(&place).copied() else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let netns = inside.netns.clone();
    let connected = tokio::task::spawn_blocking(move || netns.run(|| StdStream::connect(SocketAddr::from(at))));
    let server = connected.await.ok().and_then(Result::ok).ok_or(std::io::ErrorKind::NotConnected)??;
    server.set_nonblocking(true)?;
    let mut server = TcpStream::from_std(server)?;
    match path {
        None if method == "CONNECT" => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        None => return client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await,
        Some(path) => {
            // A second request of this connection could be for somebody else.
            let kept = headers.iter().filter(|line| !is_hop(line)).map(|line| format!("{line}\r\n"));
            let head = format!("{method} {path} HTTP/1.1\r\n{}Connection: close\r\n\r\n", kept.collect::<String>());
            server.write_all(head.as_bytes()).await?;
        }
    }
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The head of a request, and what came after it; `None`: there is none.
async fn read_head(client: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_HEAD {
        let mut part = [0; 4096];
        let count = client.read(&mut part).await?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), rest)));
        }
    }
    Ok(None)
}

fn header(headers: &[&str], name: &str) -> Option<String> {
    let found = headers.iter().filter_map(|line| line.split_once(':')).find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned())
}

/// A header that is for the proxy alone.
fn is_hop(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    matches!(name.as_str(), "connection" | "proxy-connection" | "proxy-authorization")
}
