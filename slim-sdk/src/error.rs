// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, and what to do about it.

use std::path::PathBuf;

use crate::record::SDK;

/// Why there is no slim SDK.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// `cargo metadata` failed or said something unexpected.
    #[error("cargo metadata: {0}")]
    Metadata(String),
    /// The lock file does not have a package once.
    #[error("Cargo.lock has {versions} versions of {name}; the slim SDK needs exactly one")]
    Lock {
        /// The package.
        name: String,
        /// How many there are.
        versions: usize,
    },
    /// The locked SDK is not the one that was compared.
    #[error(
        "{SDK} {locked} has not been compared with its slim copy (compared: {checked:?}). Run `make check-slim` \
         (8 GB of memory, about 10 minutes) and commit slim-sdk/checked, or build with SDK=full"
    )]
    NotChecked {
        /// Version and checksum in Cargo.lock.
        locked: String,
        /// Version and checksum of the record.
        checked: String,
    },
    /// Something else that the EC2 edge is built from has changed.
    #[error(
        "Cargo.lock has changed in what the EC2 edge is built from since the slim SDK was compared with the full one. \
         Run `make check-slim` (8 GB of memory, about 10 minutes) and commit slim-sdk/checked"
    )]
    Stale,
    /// The source of the SDK is not laid out as the derivation knows it.
    #[error(
        "{SDK}, src/{path}: {what}. The derivation does not know this layout; build with SDK=full until slim-sdk does"
    )]
    Layout {
        /// The file below `src`.
        path: String,
        /// What is unexpected.
        what: String,
    },
    /// Our own code names no action.
    #[error("no crate of the workspace calls an action of {SDK}")]
    NoAction,
    /// The copy has something that the full crate has not.
    #[error("src/{path} of the slim {SDK} is not the full one's; this is a mistake in slim-sdk, build with SDK=full")]
    Altered {
        /// The file below `src`.
        path: String,
    },
    /// The slim and the full crate differ to their callers.
    #[error("the slim {SDK} is not the full one to its callers:\n{0}")]
    Differs(String),
}
