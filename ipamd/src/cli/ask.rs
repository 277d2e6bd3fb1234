// SPDX-License-Identifier: Apache-2.0
//! Asks the running daemon at its introspection address: one HTTP/1.0 request over a plain socket, no runtime, no client library.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipamd_core::config::Bind;

/// The daemon answers from memory; longer means that it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

fn shown(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The body of an answer with status 200.
///
/// # Errors
/// The daemon is not there, does not answer, or its answer has another status: that and the body.
pub(super) fn get(bind: &Bind, path: &str) -> Result<String, String> {
    let answer = match bind {
        Bind::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, path)
        }),
        Bind::Unix(socket) => UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, path)
        }),
    };
    let answer = answer.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("no daemon answers on {}: is ipamd running on this node? ({error})", shown(bind))
        }
        _ => format!("asking the daemon on {}: {error}", shown(bind)),
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the daemon's answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(format!("{status}: {body}")) }
}

fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
