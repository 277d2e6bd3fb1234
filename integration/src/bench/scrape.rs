// SPDX-License-Identifier: Apache-2.0
//! `/metrics` of a node's daemon, asked for at the socket of root's commands.

use std::time::Duration;

use crate::eventually::pass;
use crate::node::Node;

/// After this a scrape is of what there is now.
const FRESH: Duration = Duration::from_secs(1);

/// The text of one scrape.
#[derive(Clone, Debug)]
pub(super) struct Scrape(String);

impl Scrape {
    pub(super) fn of(node: &Node) -> Result<Self, String> {
        // The daemon gives one page to all who ask within a fraction of a second.
        pass(FRESH);
        let answer = node.get("/metrics").map_err(|error| error.to_string())?;
        Ok(Self::new(&answer.body))
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
