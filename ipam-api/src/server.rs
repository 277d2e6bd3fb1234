// SPDX-License-Identifier: Apache-2.0
//! The daemon's end: the socket, the peer check, the services and their limits.
//!
//! Handlers are the generated traits [`CniBackend`], [`EnidBackend`] and [`ConfigServerBackend`]; what they decide is the daemon's. When
//! a caller goes away its handler's future is dropped, which is how a waiting ADD learns that nobody waits any more.
//!
//! Invariants: a connection whose peer's uid (SO_PEERCRED, unix(7)) is not allowed is closed before a byte of it is
//! read; no call runs longer than [`ServeOptions::call_limit`].

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::health::health_server::HealthServer;
use crate::rpc::cni_backend_server::CniBackendServer;
use crate::rpc::config_server_backend_server::ConfigServerBackendServer;
use crate::rpc::enid_backend_server::EnidBackendServer;
use crate::{ADD_BUDGET, MAX_MESSAGE_BYTES, is_known_version};

mod door;
mod health;

pub use crate::rpc::cni_backend_server::CniBackend;
pub use crate::rpc::config_server_backend_server::ConfigServerBackend;
pub use crate::rpc::enid_backend_server::EnidBackend;
pub use door::ConnectionEvent;

/// The handlers that are served.
#[derive(Debug)]
pub struct Services<B, C> {
    /// ADD, DEL and GC.
    pub backend: Arc<B>,
    /// What the network policy agent asks at its start.
    pub config: Arc<C>,
}

/// Who may call, for how long, and who is told about connections that come to nothing.
#[derive(Clone)]
pub struct ServeOptions {
    /// User ids whose processes may connect; root only by default.
    pub allowed_uids: Vec<u32>,
    /// A call is ended after this time whatever its own deadline says (the reference's plugin sets none).
    pub call_limit: Duration,
    /// Told of refused connections and of failures to accept one.
    pub on_event: Arc<dyn Fn(&ConnectionEvent) + Send + Sync>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { allowed_uids: vec![0], call_limit: ADD_BUDGET + Duration::from_secs(10), on_event: Arc::new(|_| {}) }
    }
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("allowed_uids", &self.allowed_uids)
            .field("call_limit", &self.call_limit)
            .finish_non_exhaustive()
    }
}

/// Why serving could not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process accepts connections on this socket: another daemon runs.
    #[error("another process listens on {}", socket.display())]
    InUse {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket could not be made.
    #[error("listening on {}", socket.display())]
    Bind {
        /// The socket.
        socket: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The transport gave up.
    #[error("serving")]
    Transport(#[source] tonic::transport::Error),
}

/// Makes the listening socket, mode 0600, and its folder, mode 0755. A socket file that nobody listens on is replaced;
/// one that somebody does listen on is an error, so that a second daemon does not take the first one's plugin away.
pub async fn bind(socket: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Bind { socket: socket.to_owned(), source };
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        return Err(ServeError::InUse { socket: socket.to_owned() });
    }
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    remove_stale(socket).map_err(failed)?;
    let listener = UnixListener::bind(socket).map_err(failed)?;
    // Between bind and this line the mode is the umask's; the peer check holds from the first connection on.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

#[expect(clippy::disallowed_methods, reason = "the socket file is this edge's own")]
fn remove_stale(socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Serves until `shutdown` completes; then stops accepting at once and waits for the calls in progress. The socket's
/// file stays: the next [`bind`] replaces it.
pub async fn serve<B: CniBackend + EnidBackend, C: ConfigServerBackend>(
    listener: UnixListener,
    services: Services<B, C>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let backend: Arc<dyn CniBackend> = Arc::clone(&services.backend) as _;
    let enid = EnidBackendServer::from_arc(Arc::clone(&services.backend)).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let cni = CniBackendServer::from_arc(services.backend).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let config = ConfigServerBackendServer::from_arc(services.config).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let health = HealthServer::new(health::AlwaysServing).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(cni).add_service(enid).add_service(config).add_service(health);
    let ServeOptions { allowed_uids, call_limit, on_event } = options;
    let door = door::Door { listener, allowed_uids, on_event, backend, call_limit };
    transport(door, routes, Box::pin(shutdown)).await
}

/// What is under the services. Without type parameters, and boxed: so it is compiled with this crate, for speed (`Cargo.toml`), and not
/// with the one that serves.
fn transport(door: door::Door, routes: Routes, shutdown: Boxed<()>) -> Boxed<Result<(), ServeError>> {
    Box::pin(async move {
        let server = tonic::transport::Server::builder().timeout(door.call_limit).add_routes(routes);
        let (stop, stopped) = watch::channel(false);
        let (connections, at_the_door) = door.open(stopped.clone());
        // They end with this future, if it is dropped: nobody is let in any more.
        let mut beside = JoinSet::new();
        beside.spawn(at_the_door);
        beside.spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        });
        let connections = ReceiverStream::new(connections);
        let served = server.serve_with_incoming_shutdown(connections, door::stopped(stopped)).await;
        served.map_err(ServeError::Transport)?;
        while beside.join_next().await.is_some() {}
        Ok(())
    })
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The handshake of the reference: a caller of another version is refused with FailedPrecondition.
pub fn check_version(client_version: &str) -> Result<(), Box<tonic::Status>> {
    if is_known_version(client_version) {
        return Ok(());
    }
    Err(Box::new(tonic::Status::failed_precondition(format!(
        "wrong client version {client_version:?}: this daemon works with {:?} and {:?}; install the plugin that came with it",
        crate::CLIENT_VERSION,
        env!("CARGO_PKG_VERSION")
    ))))
}
