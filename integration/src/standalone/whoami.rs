// SPDX-License-Identifier: Apache-2.0
//! A web server that answers every request with the source address it sees, so that `curl` alone shows which way packets go.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use axum::Router;
use axum::extract::ConnectInfo;

/// HTTP's.
const PORT: u16 = 80;

/// A listening socket at `address` of the calling thread's namespace.
pub(super) fn listen(address: Ipv4Addr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address, PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers there until the runtime ends. Inside a tokio runtime.
pub(super) fn serve(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router =
        Router::new().fallback(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { format!("{}\n", peer.ip()) });
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "serving HTTP");
        }
    });
    Ok(())
}
