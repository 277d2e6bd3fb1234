// SPDX-License-Identifier: Apache-2.0
//! podman on a node, with its CNI back end (podman 4): no daemon, every command calls the plugin itself.
//!
//! What it does that containerd does not: VERSION with dummy parameters before all else, CNI_ARGS with the pod's name only, port mappings
//! with lower-case keys, and `network reload`: a DEL and an ADD for a container that lives, with the same id and namespace.

use std::path::PathBuf;

use serde_json::Value;

use super::image::{self, BUSYBOX, PAUSE};
use super::machine::Machine;
use super::{PATH, RuntimesError, cgroup_of, failed, install, packages, remove_cgroups};
use crate::node::Node;
use crate::world::World;

/// podman on a node; its containers end with this.
#[derive(Debug)]
pub struct Podman {
    packages: PathBuf,
    folder: PathBuf,
    conf: PathBuf,
    cgroup: String,
    machine: Option<Machine>,
}

impl Podman {
    /// Sets it up on `node`, with the plugin and its conflist.
    ///
    /// # Errors
    /// Its packages are not there, or it does not take the image.
    pub fn start(world: &World, node: &Node) -> Result<Self, RuntimesError> {
        let packages = packages()?;
        let (plugins, conf) = install(world, node, &packages)?;
        let folder = world.folder(&format!("{}/podman", node.name))?;
        let (runc, conmon) = (packages.join("runc"), packages.join("podman/usr/bin/conmon"));
        let text = format!(
            "[containers]\napparmor_profile = ''\ndefault_ulimits = ['nofile=1024:4096', 'nproc=4096:4096']\n\
             log_driver = 'k8s-file'\n\
             [engine]\ncgroup_manager = 'cgroupfs'\nevents_logger = 'file'\nruntime = 'runc'\ninfra_image = '{PAUSE}'\n\
             tmp_dir = '{folder}/tmp'\nconmon_path = ['{conmon}']\n[engine.runtimes]\nrunc = ['{runc}']\n\
             [network]\nnetwork_backend = 'cni'\ncni_plugin_dirs = ['{plugins}']\nnetwork_config_dir = '{conf}'\n\
             default_network = 'aws-cni'\n",
            folder = folder.display(),
            conmon = conmon.display(),
            runc = runc.display(),
            plugins = plugins.display(),
            conf = conf.display(),
        );
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).map_err(failed("writing podman's configuration"))
        };
        write("containers.conf", &text)?;
        write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        let machine = Some(Machine::start(&node.netns, &folder.join("log"))?);
        let podman = Self { packages, folder, conf, cgroup: cgroup_of(node), machine };
        let archive = image::write(&podman.packages.join("busybox"), &[BUSYBOX], &podman.folder)?.display().to_string();
        let policy = podman.folder.join("policy.json").display().to_string();
        podman.run(&["load", "--signature-policy", &policy, "-i", &archive])?;
        Ok(podman)
    }

    /// Runs a command of podman: what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, RuntimesError> {
        let machine = self.machine.as_ref().ok_or_else(|| RuntimesError::Odd("podman has ended".to_owned()))?;
        let text = |path: PathBuf| path.display().to_string();
        let root = self.packages.join("podman");
        let options = [
            ("--root", text(self.folder.join("root"))),
            ("--runroot", text(self.folder.join("run"))),
            ("--network-config-dir", text(self.conf.clone())),
            ("--storage-driver", "overlay".to_owned()),
        ];
        let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
        let words = [text(root.join("usr/bin/podman"))].into_iter().chain(options);
        let words: Vec<_> = words.chain(arguments.iter().map(|word| (*word).to_owned())).collect();
        let libraries = format!("{}/usr/lib/{}-linux-gnu", root.display(), std::env::consts::ARCH);
        let configuration = text(self.folder.join("containers.conf"));
        let environment = [
            ("LD_LIBRARY_PATH", libraries.as_str()),
            ("CONTAINERS_CONF", &configuration),
            ("HOME", "/root"),
            ("PATH", PATH),
        ];
        machine.output(&words, &environment)
    }

    /// Starts a container that waits, with further options before the image: its id.
    ///
    /// # Errors
    /// It fails, in the plugin for one.
    pub fn start_container(&self, name: &str, options: &[&str]) -> Result<String, RuntimesError> {
        let cgroup = format!("/{}", self.cgroup);
        let before = ["run", "--detach", "--name", name, "--cgroup-parent", &cgroup];
        let words: Vec<_> = before.into_iter().chain(options.iter().copied()).chain([BUSYBOX]).collect();
        self.run(&words)
    }

    /// The address that podman has for a container.
    ///
    /// # Errors
    /// It has none.
    pub fn address_of(&self, name: &str) -> Result<std::net::Ipv4Addr, RuntimesError> {
        let text = self.run(&["inspect", name])?;
        let odd = |what: &str| RuntimesError::Odd(format!("podman inspect {name}: {what}: {text}"));
        let inspected: Value = serde_json::from_str(&text).map_err(|error| odd(&error.to_string()))?;
        let address = &inspected[0]["NetworkSettings"]["Networks"]["aws-cni"]["IPAddress"];
        address.as_str().and_then(|address| address.parse().ok()).ok_or_else(|| odd("no address"))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.machine = None;
        remove_cgroups(&self.cgroup);
    }
}
