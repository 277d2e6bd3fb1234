// SPDX-License-Identifier: Apache-2.0
//! What the daemon serves over HTTP, asked for without a program of ours in between.
//!
//! HTTP/1.0: the answer ends with the connection, and is not sent in pieces.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Node;

/// How long an answer may take: one that the loop does not give waits for a second.
pub const ANSWER: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its first line and its headers.
    pub head: String,
    /// The rest.
    pub body: String,
}

impl Node {
    /// What the daemon serves at the socket for commands.
    ///
    /// # Errors
    /// Nobody listens there, or the answer is not that it is all right.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        let stream = UnixStream::connect(self.state_folder().join("enid.sock"))?;
        stream.set_read_timeout(Some(ANSWER))?;
        get(stream, "localhost", path)
    }
}

/// Asks on a connection, with a name for the host.
///
/// # Errors
/// It breaks, or the answer is not that it is all right.
pub fn get(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.0 200 ") || head.starts_with("HTTP/1.1 200 ") => {
            Ok(Answer { head: head.to_owned(), body: body.to_owned() })
        }
        _ => Err(io::Error::other(format!("{path}: {answer}"))),
    }
}
