// SPDX-License-Identifier: Apache-2.0
//! Real containerd on a node, with runc, asked as kubelet asks it: sandboxes and containers by the Container Runtime Interface.
//!
//! `scripts/runtimes.sh` brings both lines, which call the plugin differently: 1.x speaks CNI up to 1.0.0, 2.x speaks 1.1.0 and asks
//! STATUS again and again. The plugin is the real one, with the conflist that is shipped (paths apart). Does not do what kubelet
//! does by itself: retries are a test's.
//!
//! ```text
//! /run/enid/<node>/containerd/{config.toml, root/, state/, containerd.sock}   cni-bin/{aws-cni, loopback}   cni-conf/10-aws.conflist
//! ```
//!
//! Invariant: everything that containerd starts ends with [`Containerd`], and its cgroups go.
#![expect(clippy::disallowed_methods, reason = "the harness makes folders and starts programs")]

mod config;
mod image;
mod machine;
mod pod;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ipam_api::client::{RuntimeClient, RuntimeError};
use rustix::process::Pid;

use crate::eventually::eventually;
use crate::node::{Node, NodeError, plugin_binary};
use crate::process::{ProcessError, Running, tail};
use crate::world::{World, WorldError};

use config::Places;
use machine::Machine;
pub use pod::{Pod, PodSpec, Ran};

/// A call that works takes a second or two, on a busy machine.
pub const CALL: Duration = Duration::from_secs(60);

/// How long killed processes may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// The lines of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// 1.x: CNI up to 1.0.0, no STATUS.
    One,
    /// 2.x: CNI 1.1.0, STATUS at each Status call of kubelet's.
    Two,
}

impl Line {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    fn folder(self) -> &'static str {
        match self {
            Self::One => "containerd-1",
            Self::Two => "containerd-2",
        }
    }
}

/// What containerd could not do.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The packages are not there.
    #[error("{} is not there: run `make runtimes`, or name a folder with it in ENID_RUNTIMES", .0.display())]
    NotUnpacked(PathBuf),
    /// A file, a folder, or a program of its packages.
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
    /// It said something that a CRI does not say.
    #[error("{0}")]
    Odd(String),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The plugin is not built.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl ContainerdError {
    /// What containerd said, if it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Call { source: RuntimeError::Refused { message, .. }, .. } => Some(message),
            _ => None,
        }
    }
}

/// containerd on a node; it, its shims and its containers end with this.
#[derive(Debug)]
pub struct Containerd {
    line: Line,
    packages: PathBuf,
    folder: PathBuf,
    /// Name of its cgroup, below those of each controller.
    cgroup: String,
    /// What asks it.
    pub client: RuntimeClient,
    running: Option<(Running, Pid)>,
    machine: Option<Machine>,
    node: crate::netns::Namespace,
}

impl Containerd {
    /// Sets it up on `node`, with the plugin and its conflist, and starts it.
    ///
    /// # Errors
    /// Its packages are not there, or it does not come up.
    pub fn start(world: &World, node: &Node, line: Line) -> Result<Self, ContainerdError> {
        let packages = packages()?;
        let folder = world.folder(&format!("{}/containerd", node.name))?;
        let places = |name: &str| world.folder(&format!("{}/{name}", node.name));
        let (plugins, conf) = (places("cni-bin")?, places("cni-conf")?);
        let in_file = |doing: &str| failed(doing.to_owned());
        fs::copy(plugin_binary()?, plugins.join("aws-cni")).map_err(in_file("copying the plugin"))?;
        fs::copy(packages.join("loopback"), plugins.join("loopback")).map_err(in_file("copying `loopback`"))?;
        let conflist = node.runtime.conflist().map_err(NodeError::from)?.to_string();
        fs::write(conf.join("10-aws.conflist"), conflist).map_err(in_file("writing the conflist"))?;
        let runc = packages.join("runc");
        let places = Places { folder: &folder, plugins: &plugins, conf: &conf, runc: &runc };
        fs::write(folder.join("config.toml"), places.text(line))
            .map_err(in_file("writing containerd's configuration"))?;
        let client = RuntimeClient::new(places.socket());
        let cgroup = format!("enid-{}-{}", node.name, std::process::id());
        let node = node.netns.clone();
        let mut made = Self { line, packages, folder, cgroup, client, running: None, machine: None, node };
        made.machine = Some(Machine::start(&made.node, &made.log())?);
        made.start_again()?;
        made.import_images()?;
        Ok(made)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Starts it after [`Containerd::kill`].
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Result<(), ContainerdError> {
        let programs = self.packages.join(self.line.folder());
        let words = [programs.join("containerd").display().to_string(), "--config".to_owned()];
        let config = self.folder.join("config.toml").display().to_string();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        let machine = match self.machine.take() {
            Some(machine) => machine,
            None => Machine::start(&self.node, &self.log())?,
        };
        let words = words.into_iter().chain([config]).collect();
        self.running = Some(machine.run(words, &path, &self.log())?);
        self.machine = Some(machine);
        // Its socket is there before its services are.
        let answers = eventually("containerd answers", CALL, || self.version().map_err(|error| error.to_string()));
        answers.map(drop).map_err(|error| ContainerdError::Odd(format!("{error}\n{}", tail(&self.log(), 20))))
    }

    /// SIGKILL to containerd alone: shims and containers go on.
    pub fn kill(&mut self) {
        if let Some((mut running, pid)) = self.running.take() {
            machine::kill(pid);
            running.wait(Duration::from_secs(10));
        }
    }

    /// Ends every process, as a power cut does: containerd's database stays, sandboxes' namespaces and links do not.
    ///
    /// # Errors
    /// Its state folder, which a boot empties, cannot be removed.
    pub fn power_off(&mut self) -> Result<(), ContainerdError> {
        self.kill();
        self.machine = None;
        remove_cgroups(&self.cgroup);
        match fs::remove_dir_all(self.folder.join("state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("emptying containerd's state folder".to_owned())(error))
            }
            _ => Ok(()),
        }
    }

    /// The condition `NetworkReady`, and its reason when it is not.
    ///
    /// # Errors
    /// containerd does not answer, or says nothing of the network.
    pub fn network_ready(&self) -> Result<Result<(), String>, ContainerdError> {
        let conditions = self.client.conditions(CALL).map_err(called("asking for the status"))?;
        let network = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
        let network = network.ok_or_else(|| ContainerdError::Odd("no condition NetworkReady".to_owned()))?;
        Ok(if network.status { Ok(()) } else { Err(format!("{}: {}", network.reason, network.message)) })
    }

    /// Which version it is, such as `2.1.9`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&self) -> Result<String, ContainerdError> {
        Ok(self.client.version(CALL).map_err(called("asking for the version"))?.runtime_version)
    }

    fn import_images(&self) -> Result<(), ContainerdError> {
        let archive = self.folder.join("images.tar");
        let bytes = image::archive(&self.packages.join("busybox")).map_err(failed("making the images".to_owned()))?;
        fs::write(&archive, bytes).map_err(failed("writing the images".to_owned()))?;
        let ctr = self.packages.join(self.line.folder()).join("ctr");
        let mut command = Command::new(ctr);
        command.arg("--address").arg(self.folder.join("containerd.sock"));
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(&archive);
        let output = command.output().map_err(failed("running ctr".to_owned()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ContainerdError::Odd(format!("`ctr images import`: {said}\n{}", tail(&self.log(), 20))))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // First what would start others anew.
        self.kill();
        self.machine = None;
        remove_cgroups(&self.cgroup);
    }
}

/// What `scripts/runtimes.sh` unpacked.
fn packages() -> Result<PathBuf, ContainerdError> {
    let named = std::env::var_os("ENID_RUNTIMES").map(PathBuf::from);
    let folder = named.or_else(|| Some(crate::tools::build_folder()?.join("enid/runtimes"))).unwrap_or_default();
    let needed = ["containerd-1/containerd", "containerd-2/containerd", "runc", "loopback", "busybox"];
    match needed.into_iter().map(|program| folder.join(program)).find(|path| !path.exists()) {
        Some(missing) => Err(ContainerdError::NotUnpacked(missing)),
        None => Ok(folder),
    }
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

fn failed(doing: String) -> impl FnOnce(io::Error) -> ContainerdError {
    move |source| ContainerdError::File { doing, source }
}

fn called(doing: &str) -> impl FnOnce(RuntimeError) -> ContainerdError + use<> {
    let doing = doing.to_owned();
    move |source| ContainerdError::Call { doing, source }
}
