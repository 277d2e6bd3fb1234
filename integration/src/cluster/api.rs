// SPDX-License-Identifier: Apache-2.0
//! The API server asked, by a user who may do everything: objects as JSON, by path.
//!
//! `kubectl proxy` beside the API server has the certificates and the TLS; what goes to it is plain HTTP on a loopback, a connection
//! a request (HTTP/1.0, so that answers are not in chunks).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::ClusterError;
use crate::netns::Namespace;

/// Where `kubectl proxy` listens.
pub(super) const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_001);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The API server.
#[derive(Clone, Debug)]
pub struct Api {
    netns: Namespace,
}

impl Api {
    pub(super) fn new(netns: &Namespace) -> Self {
        Self { netns: netns.clone() }
    }

    /// An object, or a list of them.
    ///
    /// # Errors
    /// It is not there, or the API server does not answer.
    pub fn get(&self, path: &str) -> Result<Value, ClusterError> {
        self.ask("GET", path, "application/json", "")
    }

    /// The members of a list.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn list(&self, path: &str) -> Result<Vec<Value>, ClusterError> {
        Ok(self.get(path)?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Creates an object in the list at a path, or calls a subresource such as `…/token`: the answer.
    ///
    /// # Errors
    /// The API server does not take it.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.ask("POST", path, "application/json", &object.to_string())
    }

    /// Changes an object by a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    /// The API server does not take it.
    pub fn merge(&self, path: &str, change: &Value) -> Result<Value, ClusterError> {
        self.ask("PATCH", path, "application/merge-patch+json", &change.to_string())
    }

    /// Deletes an object, as its own grace period says.
    ///
    /// # Errors
    /// It is not there, or the API server does not answer.
    pub fn delete(&self, path: &str) -> Result<Value, ClusterError> {
        self.ask("DELETE", path, "application/json", "")
    }

    /// Whether it can serve: its `/readyz`.
    pub(super) fn ready(&self) -> Result<(), String> {
        let answer = self.exchange("GET", "/readyz", "application/json", "").map_err(|error| error.to_string())?;
        if answer.starts_with("HTTP/1.0 200") { Ok(()) } else { Err(answer) }
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Value, ClusterError> {
        let doing = format!("{method} {path}");
        let answer = self.exchange(method, path, kind, body).map_err(ClusterError::file(&doing))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok()).unwrap_or_default();
        if !(200..300).contains(&status) {
            return Err(ClusterError::Refused { doing, status, said: body.trim().to_owned() });
        }
        serde_json::from_str(body).map_err(|error| ClusterError::Odd(format!("{doing}: {error}: {body}")))
    }

    fn exchange(&self, method: &str, path: &str, kind: &str, body: &str) -> io::Result<String> {
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = self.netns.run(|| TcpStream::connect_timeout(&PROXY.into(), ANSWER)).map_err(io::Error::other)?;
        let mut stream = stream?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
