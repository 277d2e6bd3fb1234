// SPDX-License-Identifier: Apache-2.0
//! Introspection, metrics, the page and the probes over HTTP, without secrets.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/status` | the core's snapshot, with the notes of settings and of the configuration list, and how Kubernetes is talked to |
//! | `/v1/config` | every variable, its value, and the layer that it comes from; what is wrong with the layers now |
//! | `/v1/events`, `/v1/events/follow`, `/v1/history` | what happened lately, the same as it happens, the pool over the last hour: [`events`] |
//! | `/v1/reasons` | every stable code: what it means, which numbers its text carries, what to do |
//! | `/v1/enis` and the like | the reference's: [`reference`] |
//! | `/healthz` | 200 while the driver's loop turns; answered from an atomic, never by the loop |
//! | `/readyz` | 200 once an address of this boot was proven |
//! | `/metrics` | Prometheus' text: [`metrics`] |
//! | `/` | the page, for a browser; else, and for any other path, the list of paths |
//!
//! Served at three places: where introspection is bound to (loopback by default); at `enid.sock` beside the plugin's socket, for the
//! commands of root on this node, whatever else is off; and `/metrics` alone where metrics are bound to.
//!
//! Invariants: over TCP, metrics apart, only who names the host by an address or as `localhost` is answered, so that no page of the
//! web can read it through a name of its own that leads here (DNS rebinding); `enid.sock` answers root and the daemon's own user only.

#![expect(clippy::disallowed_methods, reason = "waits before it listens again")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::serve::Listener;
use axum::{Json, Router};
use ipamd_core::config::{Bind, ConfigSnapshot, NatBlocks};
use ipamd_core::reason::{ReasonCode, ReasonEntry};
use ipamd_core::{Config, Snapshot};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::clock;
use crate::edge::kube::Status;
use crate::edge::layers::Board;
use crate::inbox::Inbox;
use crate::observer::Observer;

mod bounded;
mod events;
mod metrics;
#[cfg(test)]
mod mutated;
mod page;
mod reference;

use bounded::Bounded;

/// Pause before listening is tried again: another process may hold the port.
const PAUSE: Duration = Duration::from_secs(5);

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 128;

/// What the handlers see.
#[derive(Clone, Debug)]
pub(crate) struct Introspection {
    pub(crate) inbox: Inbox,
    /// What settings have come to.
    pub(crate) settings: Board,
    pub(crate) kubernetes: Status,
    /// Of the configuration list, as they are now.
    pub(crate) conflist: watch::Receiver<Vec<String>>,
    /// What the daemon started with.
    pub(crate) config: Arc<Config>,
    pub(crate) blocks: watch::Receiver<NatBlocks>,
    pub(crate) observer: Observer,
    pub(crate) scraped: metrics::Scraped,
}

/// The socket of root's commands, beside the plugin's.
pub(crate) fn control_socket(plugin_socket: &Path) -> PathBuf {
    plugin_socket.with_file_name("enid.sock")
}

/// Serves at all places for ever, on a thread of its own: a loop that does not turn, or that waits for a disk, must not take its
/// probes and figures with it.
pub(crate) fn start(state: Introspection) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("http".to_owned());
    thread.spawn(move || runtime.block_on(serve_all(state)))?;
    Ok(())
}

async fn serve_all(state: Introspection) {
    let config = state.config.clone();
    let control = control_socket(&config.socket);
    let everything = router(state.clone());
    if let Some(bind) = config.introspection.clone() {
        let router = everything.clone();
        tokio::spawn(keep("introspection", move || serve_at(bind.clone(), router.clone())));
    }
    if let Some(address) = config.metrics {
        let router = only_metrics(state);
        tokio::spawn(keep("metrics", move || serve_metrics(address, router.clone())));
    }
    keep("commands", move || serve_control(control.clone(), everything.clone())).await;
}

/// Serves again when serving ends; what is in the way is said once, and again when it is something else.
async fn keep<F: Future<Output = io::Result<()>>>(what: &str, serve: impl Fn() -> F) {
    let mut told = String::new();
    loop {
        if let Err(error) = serve().await {
            let error = error.to_string();
            if error != told {
                tracing::warn!(
                    code = %ReasonCode::IntrospectionUnavailable, what, %error,
                    "cannot be served over HTTP, trying again"
                );
                told = error;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serve_at(bind: Bind, router: Router) -> io::Result<()> {
    match bind {
        Bind::Tcp(address) => axum::serve(Bounded::new(listen(address)?), guarded(router)).await,
        Bind::Unix(path) => axum::serve(Bounded::new(listen_on(&path).await?), router).await,
    }
}

/// To whoever asks, by whatever name: Prometheus may know a node by its name in DNS, and the figures are no secret.
async fn serve_metrics(address: SocketAddr, router: Router) -> io::Result<()> {
    axum::serve(Bounded::new(listen(address)?), router).await
}

/// The unspecified IPv6 address is every address of both families, whatever net.ipv6.bindv6only says; of a kernel without IPv6 every
/// IPv4 address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match listen_at(address) {
        Err(error) if address.ip() == IpAddr::from([0_u16; 8]) && error.kind() != io::ErrorKind::AddrInUse => {
            listen_at((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        listening => listening,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket of mode 0600; one that nobody listens on is replaced.
async fn listen_on(path: &Path) -> io::Result<UnixListener> {
    ipam_api::server::bind(path).await.map_err(|error| io::Error::other(crate::telemetry::chain(&error)))
}

async fn serve_control(path: PathBuf, router: Router) -> io::Result<()> {
    axum::serve(Bounded::new(OfRoot(listen_on(&path).await?)), router).await
}

/// Connections of root and of the daemon's own user; others are closed unread.
struct OfRoot(UnixListener);

impl Listener for OfRoot {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            if uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw()) {
                return (stream, address);
            }
            tracing::warn!(
                code = %ReasonCode::ConnectionRefused, ?uid,
                "a connection to the socket of commands was refused"
            );
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// All paths, in the order in which they are listed.
fn routes() -> [(&'static str, MethodRouter<Introspection>); 13] {
    [
        ("/v1/status", get(status)),
        ("/v1/config", get(config)),
        ("/v1/events", get(events::events)),
        ("/v1/events/follow", get(events::follow)),
        ("/v1/history", get(events::history)),
        ("/v1/reasons", get(reasons)),
        ("/v1/enis", get(reference::enis)),
        ("/v1/eni-configs", get(reference::eni_configs)),
        ("/v1/networkutils-env-settings", get(reference::network_settings)),
        ("/v1/ipamd-env-settings", get(reference::pool_settings)),
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics::metrics)),
    ]
}

fn router(state: Introspection) -> Router {
    let all = routes().into_iter().fold(Router::new(), |router, (path, answer)| router.route(path, answer));
    // Of whoever reads: nothing here writes.
    all.fallback(get(others)).with_state(state)
}

fn only_metrics(state: Introspection) -> Router {
    Router::new().route("/metrics", get(metrics::metrics)).with_state(state)
}

/// As it is served over TCP.
fn guarded(router: Router) -> Router {
    router.layer(middleware::from_fn(by_address))
}

/// Lets those pass that name the host by an address, as `localhost`, or not at all (HTTP/1.0).
async fn by_address(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if host.is_none_or(names_no_site) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "ask by an address or as localhost\n").into_response()
}

/// Whether what a `Host` header names cannot be a web site's own.
fn names_no_site(host: &str) -> bool {
    let bare = host
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>());
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let is_localhost = name.eq_ignore_ascii_case("localhost") && port.bytes().all(|byte| byte.is_ascii_digit());
    bare.is_ok() || host.is_empty() || is_localhost
}

async fn others(State(state): State<Introspection>, headers: HeaderMap, request: Request) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if state.config.page && request.uri().path() == "/" && accepts.contains("text/html") {
        return page::page();
    }
    let list: Json<Value> = Json(json!({ "AvailableCommands": routes().map(|(path, _)| path) }));
    list.into_response()
}

async fn snapshot(state: &Introspection) -> Result<Snapshot, (StatusCode, &'static str)> {
    let snapshot = state.inbox.snapshot().await;
    let snapshot = snapshot.ok_or((StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n"))?;
    let notes = state.settings.notes().into_iter().chain(state.conflist.borrow().iter().cloned()).collect();
    Ok(Snapshot { notes, kubernetes: state.kubernetes.show(), ..snapshot })
}

async fn status(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) => Json(snapshot).into_response(),
        Err(answer) => answer.into_response(),
    }
}

async fn config(State(state): State<Introspection>) -> Json<ConfigSnapshot> {
    Json(state.settings.snapshot())
}

async fn reasons() -> Json<Vec<&'static ReasonEntry>> {
    Json(ReasonCode::ALL.iter().map(|code| code.entry()).collect())
}

async fn healthz(State(state): State<Introspection>) -> Response {
    match state.inbox.heartbeat().lag(clock::boot()) {
        (_, true) => "ok\n".into_response(),
        (lag, false) => {
            let text = format!("the driver's loop had to turn {} s ago\n", lag.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) if snapshot.serving => "ok\n".into_response(),
        Ok(snapshot) => {
            let text = format!("no address of this boot proven yet: {}\n", snapshot.why.text);
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(answer) => answer.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_is_an_address_or_localhost() {
        for host in [
            "127.0.0.1:61679",
            "127.0.0.1",
            "[::1]:61679",
            "[::1]",
            "localhost",
            "LOCALHOST:61679",
            "",
            "10.0.0.7:61678",
        ] {
            assert!(names_no_site(host), "{host}");
        }
        for host in ["evil.example", "evil.example:61679", "127.0.0.1.evil.example", "localhost.evil.example:80", "?"] {
            assert!(!names_no_site(host), "{host}");
        }
    }
}
