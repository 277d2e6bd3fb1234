// SPDX-License-Identifier: Apache-2.0
//! The record of what the derivation was last compared with the full crate for: `slim-sdk/checked`, written by
//! `make check-slim` and committed.
//!
//! Two questions are asked of it. At each build: is the locked SDK the one that was compared? If not, the derivation is refused.
//! In `make lint`: is everything else that the EC2 edge is built from still what it was? If not, the comparison is due again.

use crate::Error;
use crate::lock::Lock;

/// The SDK's crate, and the crate of ours whose build is compared.
pub const SDK: &str = "aws-sdk-ec2";
const EDGE: &str = "ipamd-aws";

/// What was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Version and checksum of the SDK.
    pub sdk: String,
    /// Digest of all that the EC2 edge is built from.
    pub tree: String,
}

impl Record {
    /// What a lock file asks for.
    ///
    /// # Errors
    /// [`Error::Lock`] when the SDK or the edge is not in it once.
    pub fn of(lock: &Lock) -> Result<Self, Error> {
        let sdk = lock.only(SDK)?;
        Ok(Self { sdk: format!("{} {}", sdk.version, sdk.checksum), tree: lock.digest(EDGE)? })
    }

    /// Reads a record; lines of another kind are comments.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap_or_default().to_owned()
        };
        Self { sdk: value(SDK), tree: value("tree") }
    }

    /// The record as a file.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "# What the slim SDK was last compared with the full one for. Written by `make check-slim`; not to be edited.\n{SDK} {}\ntree {}\n",
            self.sdk, self.tree
        )
    }

    /// Whether a slim SDK may be derived for `locked`.
    ///
    /// # Errors
    /// [`Error::NotChecked`] when the SDK is not the one of this record.
    pub fn allows(&self, locked: &Self) -> Result<(), Error> {
        if self.sdk == locked.sdk {
            return Ok(());
        }
        Err(Error::NotChecked { locked: locked.sdk.clone(), checked: self.sdk.clone() })
    }

    /// Whether the comparison still stands for `locked`.
    ///
    /// # Errors
    /// [`Error::NotChecked`] or [`Error::Stale`] when it is due again.
    pub fn is_of(&self, locked: &Self) -> Result<(), Error> {
        self.allows(locked)?;
        if self.tree == locked.tree { Ok(()) } else { Err(Error::Stale) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sdk: &str, tree: &str) -> Record {
        Record { sdk: sdk.into(), tree: tree.into() }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = record("1.274.0 13e3", "ab");
        assert_eq!(Record::parse(&written.text()), written);
    }

    #[test]
    fn another_sdk_is_refused_and_the_message_says_what_to_do() {
        let refusal = record("1.274.0 aa", "t").allows(&record("1.275.0 bb", "t")).unwrap_err().to_string();
        for part in ["1.274.0", "1.275.0", "make check-slim", "SDK=full"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(record("1.274.0 aa", "t").allows(&record("1.274.0 bb", "t")).is_err(), "same version, other content");
        assert!(Record::parse("").allows(&record("1.274.0 aa", "t")).is_err(), "no record at all");
    }

    #[test]
    fn another_tree_builds_but_is_due_for_a_check() {
        let (checked, locked) = (record("1.274.0 aa", "t"), record("1.274.0 aa", "u"));
        checked.allows(&locked).unwrap();
        assert!(checked.is_of(&locked).unwrap_err().to_string().contains("make check-slim"));
        checked.is_of(&checked).unwrap();
    }
}
