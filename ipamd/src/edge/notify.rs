// SPDX-License-Identifier: Apache-2.0
//! systemd's protocol of readiness: one datagram to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). Without it nothing is sent.
//!
//! Ready is the daemon when it serves the plugin's socket: from then on pods get what journal and kernel have. That an address is
//! proven is for the runtime to know, by the configuration list; a node whose metadata service is away must not be started again
//! and again for it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use ipamd_core::reason::ReasonCode;

/// Tells that the daemon serves.
pub(crate) fn ready(socket: Option<&str>) {
    tell(socket, "READY=1\nSTATUS=serving the plugin's socket\n");
}

/// Tells that it ends.
pub(crate) fn stopping(socket: Option<&str>) {
    tell(socket, "STOPPING=1\n");
}

fn tell(socket: Option<&str>, words: &str) {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(socket, words) {
        tracing::warn!(code = %ReasonCode::SystemdNotTold, socket, %error, "systemd cannot be told (NOTIFY_SOCKET)");
    }
}

/// A name that begins with `@` is an abstract one (unix(7)).
fn send(socket: &str, words: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(words.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("enid-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
        ];
        for (socket, name) in sockets {
            ready(Some(&name));
            let mut bytes = [0; 100];
            let length = socket.recv(&mut bytes).unwrap();
            assert!(bytes[..length].starts_with(b"READY=1\n"));
        }
        ready(None);
        ready(Some("/no/where"));
    }
}
