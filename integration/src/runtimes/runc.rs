// SPDX-License-Identifier: Apache-2.0
//! One container by runc, in a node's network namespace, as kubelet runs a host-network pod's: a read-only root, /proc/sys read-only,
//! no new privileges, the capabilities and the seccomp profile that are named. What kubelet adds for its own ends (cgroup limits) is
//! not there.
//!
//! ```text
//! Machine (pid and mount namespace) ─ runc ─ container     all of it ends with this
//! ```

use std::path::PathBuf;

use serde_json::{Value, json};

use super::machine::Machine;
use super::{CALL, PATH, RuntimesError, cgroup_of, failed, packages, remove_cgroups};
use crate::node::Node;
use crate::process::Running;
use crate::world::World;

/// What is run.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The unpacked image.
    pub root: PathBuf,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Capabilities that it has, without `CAP_`.
    pub capabilities: Vec<&'static str>,
    /// Which system calls it may make (`linux.seccomp` of the OCI runtime specification); `None`: all.
    pub seccomp: Option<Value>,
    /// Folders and files of outside and where they are inside, writable.
    pub mounts: Vec<(PathBuf, String)>,
    /// The same, and read-only.
    pub shown: Vec<(PathBuf, String)>,
}

/// runc on a node; its containers end with this.
#[derive(Debug)]
pub struct Runc {
    program: PathBuf,
    folder: PathBuf,
    cgroup: String,
    netns: PathBuf,
    machine: Option<Machine>,
}

/// A container that runs.
#[derive(Debug)]
pub struct Container {
    runc: Running,
    log: PathBuf,
}

impl Runc {
    /// Gets ready on `node`.
    ///
    /// # Errors
    /// Its package is not there.
    pub fn start(world: &World, node: &Node) -> Result<Self, RuntimesError> {
        let folder = world.folder(&format!("{}/runc", node.name))?;
        let machine = Machine::start(&node.netns, &folder.join("log"))?;
        let netns = node.netns.path().to_owned();
        Ok(Self { program: packages()?.join("runc"), folder, cgroup: cgroup_of(node), netns, machine: Some(machine) })
    }

    /// Runs a container to its end: what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, name: &str, spec: &ContainerSpec) -> Result<String, RuntimesError> {
        let words = self.prepare(name, spec)?;
        self.machine()?.output(&words, &[("PATH", PATH)])
    }

    /// Starts a container.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_container(&self, name: &str, spec: &ContainerSpec) -> Result<Container, RuntimesError> {
        let words = self.prepare(name, spec)?;
        let log = self.folder.join(format!("{name}.log"));
        let (runc, _) = self.machine()?.run(words, PATH, &log)?;
        Ok(Container { runc, log })
    }

    /// Runs a program in a container that runs, as a probe does: what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn exec(&self, name: &str, command: &[&str]) -> Result<String, RuntimesError> {
        let mut words = self.words(&["exec", name]);
        words.extend(command.iter().map(|word| (*word).to_owned()));
        self.machine()?.output(&words, &[("PATH", PATH)])
    }

    /// Ends a container as kubelet does.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self, name: &str, container: &mut Container) -> Result<(), RuntimesError> {
        self.machine()?.output(&self.words(&["kill", name, "TERM"]), &[("PATH", PATH)])?;
        let ended = container.runc.wait(CALL).is_some_and(|status| status.success());
        if ended {
            Ok(())
        } else {
            Err(RuntimesError::Odd(format!("{name} did not end well: {}", container.log_tail(20))))
        }
    }

    fn machine(&self) -> Result<&Machine, RuntimesError> {
        self.machine.as_ref().ok_or_else(|| RuntimesError::Odd("runc has ended".to_owned()))
    }

    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let state = self.folder.join("state").display().to_string();
        let first = [self.program.display().to_string(), "--root".to_owned(), state];
        first.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Writes the bundle: the words that run it.
    fn prepare(&self, name: &str, spec: &ContainerSpec) -> Result<Vec<String>, RuntimesError> {
        let bundle = self.folder.join(name);
        std::fs::create_dir_all(&bundle).map_err(failed("making a bundle"))?;
        let config = self.config(name, spec).to_string();
        std::fs::write(bundle.join("config.json"), config).map_err(failed("writing a bundle"))?;
        Ok(self.words(&["run", "--bundle", &bundle.display().to_string(), name]))
    }

    /// OCI runtime specification 1.0.
    fn config(&self, name: &str, spec: &ContainerSpec) -> Value {
        let capabilities: Vec<String> = spec.capabilities.iter().map(|it| format!("CAP_{it}")).collect();
        let environment: Vec<String> = spec.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let kernels = [
            ("proc", "/proc", vec![]),
            ("tmpfs", "/dev", vec!["nosuid", "mode=755", "size=65536k"]),
            ("sysfs", "/sys", vec!["nosuid", "noexec", "nodev", "ro"]),
        ];
        let mount = |(kind, at, options)| json!({"destination": at, "type": kind, "source": kind, "options": options});
        let mut mounts: Vec<Value> = kernels.map(mount).into();
        let bind = |(outside, inside): &(PathBuf, String), mode: &str| {
            let options = ["rbind", mode];
            json!({"destination": inside, "type": "bind", "source": outside, "options": options})
        };
        mounts.extend(spec.mounts.iter().map(|mount| bind(mount, "rw")));
        mounts.extend(spec.shown.iter().map(|mount| bind(mount, "ro")));
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": spec.command,
                "env": environment,
                "cwd": "/",
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
                "noNewPrivileges": true,
            },
            "root": {"path": spec.root, "readonly": true},
            "mounts": mounts,
            "linux": {
                "cgroupsPath": format!("/{}/{name}", self.cgroup),
                "namespaces": [
                    {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "network", "path": self.netns},
                ],
                // Of containerd's defaults.
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            },
        });
        if let Some(seccomp) = &spec.seccomp {
            config["linux"]["seccomp"] = seccomp.clone();
        }
        config
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        self.machine = None;
        remove_cgroups(&self.cgroup);
    }
}

impl Container {
    /// The last lines that it printed.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(&self.log, lines)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.runc.has_ended()
    }
}
