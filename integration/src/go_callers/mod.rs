// SPDX-License-Identifier: Apache-2.0
//! Peers that we did not write, in Go: [`libcni`], the reference implementation of a CNI runtime, as a caller of the plugin; and
//! [`wire`], gRPC's own implementation playing the reference's plugin, its daemon and the network policy agent.
//!
//! `scripts/go-callers.sh` builds the two programs (`integration/go`) on Debian's packages of these libraries. What they understand
//! of the contract they have from a description of the reference's (`integration/go/wire/reference.proto`), not from ours.
#![expect(clippy::disallowed_methods, reason = "the harness makes files and starts programs")]

pub mod libcni;
pub mod wire;

use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde::de::DeserializeOwned;

use crate::netns::{Namespace, NetnsError};
use crate::node::NodeError;
use crate::process::ProcessError;
use crate::sandbox::SandboxError;
use crate::world::WorldError;

/// What a program of them could not do.
#[derive(Debug, thiserror::Error)]
pub enum GoCallerError {
    /// It is not built.
    #[error("{} is not there: run `make go-callers`, or name a folder with it in ENID_GO_CALLERS", .0.display())]
    NotBuilt(PathBuf),
    /// A file or folder.
    #[error("{doing}")]
    File {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// libcni, or the plugin by it, refused.
    #[error(transparent)]
    Refused(#[from] libcni::Refused),
    /// It failed by itself, or printed something else than it does.
    #[error("`{command}`: {said}")]
    Odd {
        /// What was run.
        command: String,
        /// What it printed.
        said: String,
    },
    /// A server did not listen in time; the end of its log.
    #[error("{0}")]
    NotServing(String),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The plugin is not built.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The conflist is broken, or there is no random source.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// A file of what `scripts/go-callers.sh` built.
fn built(name: &str) -> Result<PathBuf, GoCallerError> {
    let path = crate::tools::built("ENID_GO_CALLERS", "enid/go-callers").join(name);
    if path.is_file() { Ok(path) } else { Err(GoCallerError::NotBuilt(path)) }
}

/// Runs a command in a namespace to its end, and reads the JSON that it printed.
fn answer<T: DeserializeOwned>(namespace: &Namespace, command: &mut Command) -> Result<T, GoCallerError> {
    let shown = format!("{command:?}");
    let ran: io::Result<Output> = namespace.run(|| command.output())?;
    let output = ran.map_err(|source| GoCallerError::File { doing: format!("starting {shown}"), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let odd = |why: String| GoCallerError::Odd {
        said: format!("{why}: {text}{}", String::from_utf8_lossy(&output.stderr)),
        command: shown.clone(),
    };
    if !output.status.success() {
        return Err(odd(output.status.to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| odd(error.to_string()))
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> GoCallerError + use<> {
    let doing = doing.to_owned();
    move |source| GoCallerError::File { doing, source }
}
