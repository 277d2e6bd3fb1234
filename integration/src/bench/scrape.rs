// SPDX-License-Identifier: Apache-2.0
//! `/metrics` of a node's daemon, asked for at the socket of root's commands.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::eventually::pass;
use crate::node::Node;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this a scrape is of what there is now.
const FRESH: Duration = Duration::from_secs(1);

/// The text of one scrape.
#[derive(Clone, Debug)]
pub(super) struct Scrape(String);

impl Scrape {
    pub(super) fn of(node: &Node) -> Result<Self, String> {
        // The daemon gives one page to all who ask within a fraction of a second.
        pass(FRESH);
        let text = |error: std::io::Error| format!("/metrics: {error}");
        let mut stream = UnixStream::connect(node.state_folder().join("enid.sock")).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        // HTTP/1.0: the answer ends with the connection.
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(Self::new(body)),
            _ => Err(format!("/metrics: {answer}")),
        }
    }

    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The value of a series without labels.
    pub(super) fn value(&self, series: &str) -> Result<f64, String> {
        let mut found = self.0.lines().filter_map(|line| line.split_once(' '));
        let value = found.find(|(name, _)| *name == series).and_then(|(_, value)| value.trim().parse().ok());
        value.ok_or_else(|| format!("/metrics has no {series}"))
    }
}
