// SPDX-License-Identifier: Apache-2.0
//! Real containerd on a node, with runc, asked as kubelet asks it: sandboxes and containers by the Container Runtime Interface; and
//! as `ctr run --cni` uses it, which calls the plugin itself.
//!
//! Both lines, which call the plugin differently: 1.x speaks CNI up to 1.0.0, 2.x speaks 1.1.0 and asks STATUS again and again. Does
//! not do what kubelet does by itself: retries are a test's.
//!
//! Invariant: everything that containerd starts ends with [`Containerd`], and its cgroups go.
#![expect(clippy::disallowed_methods, reason = "the harness makes folders and starts programs")]

mod config;
mod pod;
mod seccomp;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipam_api::client::RuntimeClient;
use rustix::process::Pid;

use super::image::{self, BUSYBOX, PAUSE};
use super::machine::{self, Machine};
use super::{CALL, PATH, RuntimesError, called, cgroup_of, failed, install, packages, remove_cgroups};
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::node::Node;
use crate::process::{Running, tail};
use crate::world::World;

use config::Places;
pub use pod::{Pod, PodSpec, Ran};

/// The lines of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// 1.x: CNI up to 1.0.0, no STATUS.
    One,
    /// 2.x: CNI 1.1.0, STATUS at each Status call of kubelet's.
    Two,
}

impl Line {
    fn folder(self) -> &'static str {
        match self {
            Self::One => "containerd-1",
            Self::Two => "containerd-2",
        }
    }
}

/// containerd on a node; it, its shims and its containers end with this.
#[derive(Debug)]
pub struct Containerd {
    /// What asks it.
    pub client: RuntimeClient,
    line: Line,
    packages: PathBuf,
    folder: PathBuf,
    plugins: PathBuf,
    conf: PathBuf,
    cgroup: String,
    running: Option<(Running, Pid)>,
    machine: Option<Machine>,
    node: Namespace,
}

impl Containerd {
    /// Sets it up on `node`, with the plugin and its conflist, and starts it.
    ///
    /// # Errors
    /// Its packages are not there, or it does not come up.
    pub fn start(world: &World, node: &Node, line: Line) -> Result<Self, RuntimesError> {
        let packages = packages()?;
        let (plugins, conf) = install(world, node, &packages)?;
        let folder = world.folder(&format!("{}/containerd", node.name))?;
        let runc = packages.join("runc");
        let places = Places { folder: &folder, plugins: &plugins, conf: &conf, runc: &runc };
        let written = fs::write(folder.join("config.toml"), places.text(line));
        written.map_err(failed("writing containerd's configuration"))?;
        let client = RuntimeClient::new(places.socket());
        let (cgroup, node) = (cgroup_of(node), node.netns.clone());
        let (running, machine) = (None, None);
        let mut made = Self { client, line, packages, folder, plugins, conf, cgroup, running, machine, node };
        made.start_again()?;
        made.import_images()?;
        Ok(made)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where it answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        config::socket(&self.folder)
    }

    /// Starts it after [`Containerd::kill`] or [`Containerd::power_off`].
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_again(&mut self) -> Result<(), RuntimesError> {
        let machine = match self.machine.take() {
            Some(machine) => machine,
            None => Machine::start(&self.node, &self.log())?,
        };
        let config = self.folder.join("config.toml");
        let words = [self.program("containerd"), "--config".to_owned(), config.display().to_string()];
        let started = machine.run(words.to_vec(), &self.path(), &self.log());
        self.machine = Some(machine);
        self.running = Some(started?);
        // Its socket is there before its services are.
        let answers = eventually("containerd answers", CALL, || self.version().map_err(|error| error.to_string()));
        answers.map(drop).map_err(|error| RuntimesError::Odd(format!("{error}\n{}", tail(&self.log(), 20))))
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
    pub fn power_off(&mut self) -> Result<(), RuntimesError> {
        self.kill();
        self.machine = None;
        remove_cgroups(&self.cgroup);
        match fs::remove_dir_all(self.folder.join("state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("emptying containerd's state folder")(error))
            }
            _ => Ok(()),
        }
    }

    /// The condition `NetworkReady`, and its reason when it is not.
    ///
    /// # Errors
    /// containerd does not answer, or says nothing of the network.
    pub fn network_ready(&self) -> Result<Result<(), String>, RuntimesError> {
        let conditions = self.client.conditions(CALL).map_err(called("asking for the status"))?;
        let network = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
        let network = network.ok_or_else(|| RuntimesError::Odd("no condition NetworkReady".to_owned()))?;
        Ok(if network.status { Ok(()) } else { Err(format!("{}: {}", network.reason, network.message)) })
    }

    /// Which version it is, such as `2.1.9`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&self) -> Result<String, RuntimesError> {
        Ok(self.client.version(CALL).map_err(called("asking for the version"))?.runtime_version)
    }

    /// Runs a command line of the shell to its end in a container of its own, as `ctr run --rm --cni` does: what it printed. ctr reads
    /// /etc/cni/net.d and /opt/cni/bin, and calls the plugin itself, without CNI_ARGS and with a namespace path in /proc.
    ///
    /// # Errors
    /// It fails.
    pub fn ctr_run(&self, name: &str, line: &str) -> Result<String, RuntimesError> {
        let machine = self.machine()?;
        machine.show(&self.conf, "/etc/cni/net.d", &self.folder.join("etc"))?;
        machine.show(&self.plugins, "/opt/cni/bin", &self.folder.join("opt"))?;
        let (runc, cgroup) = (self.packages.join("runc").display().to_string(), format!("/{}/{name}", self.cgroup));
        let words = ["run", "--rm", "--cni", "--runc-binary", &runc, "--cgroup", &cgroup];
        self.ctr(&[&words[..], &[BUSYBOX, name, "/bin/sh", "-c", line]].concat())
    }

    /// Starts a program beside it, in its process and mount namespaces, as kubelet is: words, PATH, log.
    ///
    /// # Errors
    /// containerd is not running, or the program cannot be started.
    pub fn run_beside(&self, words: Vec<String>, path: &str, log: &Path) -> Result<Running, RuntimesError> {
        Ok(self.machine()?.run(words, path, log)?.0)
    }

    /// Runs a script of the shell to its end beside it: what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn output_beside(&self, script: &str) -> Result<String, RuntimesError> {
        self.machine()?.output(&["/bin/bash", "-ec", script].map(str::to_owned), &[("PATH", PATH)])
    }

    /// Name of the cgroup, in every controller's tree, in which its pods are to be and which goes with it.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Runs a command of ctr among the CRI's containers: what it printed.
    fn ctr(&self, words: &[&str]) -> Result<String, RuntimesError> {
        let (program, socket) = (self.program("ctr"), self.folder.join("containerd.sock").display().to_string());
        let before = [program.as_str(), "--address", &socket, "--namespace", "k8s.io"];
        let all: Vec<_> = before.iter().chain(words).map(|word| (*word).to_owned()).collect();
        self.machine()?.output(&all, &[("PATH", &self.path())])
    }

    fn machine(&self) -> Result<&Machine, RuntimesError> {
        self.machine.as_ref().ok_or_else(|| RuntimesError::Odd("containerd is not running".to_owned()))
    }

    fn program(&self, name: &str) -> String {
        self.packages.join(self.line.folder()).join(name).display().to_string()
    }

    /// It finds its shim by this.
    fn path(&self) -> String {
        format!("{}:{PATH}", self.packages.join(self.line.folder()).display())
    }

    fn import_images(&self) -> Result<(), RuntimesError> {
        let archive = image::write(&self.packages.join("busybox"), &[BUSYBOX, PAUSE], &self.folder)?;
        self.ctr(&["images", "import", &archive.display().to_string()]).map(drop)
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
