// SPDX-License-Identifier: Apache-2.0
//! Counters that the kernel keeps for a network namespace.
#![expect(clippy::disallowed_methods, reason = "counters are files")]

use std::fs;
use std::io;

use crate::netns::{Namespace, NetnsError};

/// A counter cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    /// The file.
    #[error("reading {path}")]
    File {
        /// Which.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel has no such counter.
    #[error("{path} has no counter {name}")]
    Missing {
        /// Which file.
        path: &'static str,
        /// Which counter.
        name: String,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// A counter of `/proc/net/netstat`, such as `IPReversePathFilter`.
///
/// # Errors
/// It cannot be read, or is not there.
pub fn netstat(namespace: &Namespace, name: &str) -> Result<u64, CounterError> {
    const PATH: &str = "/proc/thread-self/net/netstat";
    let text = read(namespace, PATH)?;
    // Pairs of lines: names, values.
    let lines: Vec<&str> = text.lines().collect();
    let found = lines.chunks(2).find_map(|pair| {
        let [names, values] = pair else { return None };
        let at = names.split_whitespace().position(|found| found == name)?;
        values.split_whitespace().nth(at)?.parse().ok()
    });
    found.ok_or_else(|| CounterError::Missing { path: PATH, name: name.to_owned() })
}

/// A counter of conntrack, such as `insert_failed`: the sum over all processors (`/proc/net/stat/nf_conntrack`).
///
/// # Errors
/// It cannot be read, or is not there.
pub fn conntrack(namespace: &Namespace, name: &str) -> Result<u64, CounterError> {
    const PATH: &str = "/proc/thread-self/net/stat/nf_conntrack";
    let text = read(namespace, PATH)?;
    let mut lines = text.lines();
    let at = lines.next().and_then(|names| names.split_whitespace().position(|found| found == name));
    let at = at.ok_or_else(|| CounterError::Missing { path: PATH, name: name.to_owned() })?;
    let values = lines.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok());
    Ok(values.sum())
}

fn read(namespace: &Namespace, path: &'static str) -> Result<String, CounterError> {
    namespace.run(|| fs::read_to_string(path))?.map_err(|source| CounterError::File { path, source })
}
