// SPDX-License-Identifier: Apache-2.0
//! What the API server wrote down of the daemons' requests: an independent word on which rights they used, and which they lacked.
#![expect(clippy::disallowed_methods, reason = "the log is a file")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::ClusterError;

/// A request of a daemon's, as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `list`, `watch`, `patch`, …
    pub verb: String,
    /// Such as `events.k8s.io`; empty: the core group.
    pub group: String,
    /// With its subresource: `nodes/status`.
    pub resource: String,
    /// HTTP's.
    pub code: u64,
}

/// All requests that have been answered, each kind once.
///
/// # Errors
/// The log cannot be read.
pub(super) fn read(log: &Path) -> Result<BTreeSet<Asked>, ClusterError> {
    let text = fs::read_to_string(log).map_err(ClusterError::file("reading the audit log"))?;
    // The last line may be under way.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(|entry| asked(&entry)).collect())
}

fn asked(entry: &Value) -> Asked {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = &entry["objectRef"];
    let subresource = of["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
    Asked {
        verb: text(&entry["verb"]),
        group: text(&of["apiGroup"]),
        resource: text(&of["resource"]) + &subresource,
        code: entry["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }
}
