// SPDX-License-Identifier: Apache-2.0
//! Real container runtimes on a node, which call the real plugin: [`containerd`], as kubelet and as `ctr` use it, and [`podman`];
//! and [`runc`] alone, for what runs beside the plugin.
//!
//! `scripts/runtimes.sh` unpacks them. All processes of a node's containers are in namespaces of their own ([`machine`]) that end
//! with the test; a runtime keeps all its files in a folder of the node's.
//!
//! ```text
//! /run/enid/<node>/<runtime>/…   cni-bin/{aws-cni, loopback}   cni-conf/10-aws.conflist
//! ```
#![expect(clippy::disallowed_methods, reason = "the harness makes folders and starts programs")]

pub mod containerd;
mod image;
mod machine;
pub mod podman;
pub mod runc;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipam_api::client::RuntimeError;

use crate::eventually::eventually;
use crate::netns::NetnsError;
use crate::node::{Node, NodeError, plugin_binary};
use crate::process::ProcessError;
use crate::world::{World, WorldError};

/// A call that works takes a second or two, on a busy machine.
pub const CALL: Duration = Duration::from_secs(60);

/// Where a runtime finds the host's programs.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long killed processes may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// What a runtime could not do.
#[derive(Debug, thiserror::Error)]
pub enum RuntimesError {
    /// The packages are not there.
    #[error("{} is not there: run `make runtimes`, or name a folder with it in ENID_RUNTIMES", .0.display())]
    NotUnpacked(PathBuf),
    /// A file, a folder, or a program of the packages.
    #[error("{doing}")]
    File {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused, or is not there.
    #[error("{doing}: {source}")]
    Call {
        /// What was asked.
        doing: String,
        /// Its answer.
        #[source]
        source: RuntimeError,
    },
    /// A command of it failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// What was run.
        command: String,
        /// What it printed.
        said: String,
    },
    /// It said something that it does not say.
    #[error("{0}")]
    Odd(String),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The plugin is not built, or the conflist is broken.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl RuntimesError {
    /// What the runtime said, if it refused a call.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Call { source: RuntimeError::Refused { message, .. }, .. } => Some(message),
            _ => None,
        }
    }
}

/// A static busybox.
///
/// # Errors
/// Its package is not there.
pub fn busybox() -> Result<PathBuf, RuntimesError> {
    Ok(packages()?.join("busybox"))
}

/// What `scripts/runtimes.sh` unpacked.
fn packages() -> Result<PathBuf, RuntimesError> {
    let folder = crate::tools::built("ENID_RUNTIMES", "enid/runtimes");
    let programs = ["containerd-1/containerd", "containerd-2/containerd", "podman/usr/bin/podman", "runc"];
    let needed = programs.into_iter().chain(["loopback", "busybox"]);
    match needed.map(|program| folder.join(program)).find(|path| !path.exists()) {
        Some(missing) => Err(RuntimesError::NotUnpacked(missing)),
        None => Ok(folder),
    }
}

/// What a runtime is told of CNI: the folder of the plugins, and that of the conflist as it is shipped, but for the node's paths. Where
/// the node has both from `ipamd install` and its daemon, those.
fn install(world: &World, node: &Node, packages: &Path) -> Result<(PathBuf, PathBuf), RuntimesError> {
    if let Some((plugins, conf)) = node.variable("HOST_CNI_BIN_PATH").zip(node.variable("HOST_CNI_CONFDIR_PATH")) {
        let (plugins, conf) = (PathBuf::from(plugins), PathBuf::from(conf));
        fs::copy(packages.join("loopback"), plugins.join("loopback")).map_err(failed("copying `loopback`"))?;
        return Ok((plugins, conf));
    }
    let place = |name: &str| world.folder(&format!("{}/{name}", node.name));
    let (plugins, conf) = (place("cni-bin")?, place("cni-conf")?);
    fs::copy(plugin_binary()?, plugins.join("aws-cni")).map_err(failed("copying the plugin"))?;
    fs::copy(packages.join("loopback"), plugins.join("loopback")).map_err(failed("copying `loopback`"))?;
    let conflist = node.runtime.conflist().map_err(NodeError::from)?.to_string();
    fs::write(conf.join("10-aws.conflist"), conflist).map_err(failed("writing the conflist"))?;
    Ok((plugins, conf))
}

/// Name of a node's cgroup for a runtime, below those of each controller.
fn cgroup_of(node: &Node) -> String {
    format!("enid-{}-{}", node.name, std::process::id())
}

/// Removes the cgroups of a name, of every controller or of the one tree. What was in them has been killed, but may take a moment to
/// be gone. Best effort: an empty cgroup costs nothing.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left: Vec<PathBuf> = controllers.chain([root.to_owned()]).map(|top| top.join(name)).collect();
    let _ = eventually("the cgroups are gone", LAST_BREATH, || {
        left.retain(|folder| folder.exists() && remove_tree(folder).is_err());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// rmdir from the leaves up: the files in a cgroup are the kernel's.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> RuntimesError + use<> {
    let doing = doing.to_owned();
    move |source| RuntimesError::File { doing, source }
}

fn called(doing: &str) -> impl FnOnce(RuntimeError) -> RuntimesError + use<> {
    let doing = doing.to_owned();
    move |source| RuntimesError::Call { doing, source }
}
