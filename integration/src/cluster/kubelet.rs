// SPDX-License-Identifier: Apache-2.0
//! A node's kubelet, with containerd and kube-proxy: what makes an instance a node of a cluster. The daemon is the node's own.
//!
//! kubelet runs beside containerd, in its process and mount namespaces, where it finds folders and settings of its own in the place of the
//! machine's:
//!
//! | path | there | for |
//! |---|---|---|
//! | `/var/lib`, `/var/log` | over the machine's, in the node's folder | sockets of devices, logs of pods: paths that kubelet has no choice of |
//! | `/proc/sys/{vm,kernel}/…` | files that say what kubelet wants | it would write what is the whole machine's |
//!
//! Invariant: nothing of the machine is changed, and everything ends with [`NodeAgents`]; the cgroup goes with it.
#![expect(clippy::disallowed_methods, reason = "configuration is a file")]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::pki::Authority;
use super::programs::Programs;
use super::{ClusterError, cgroups};
use crate::kube_proxy::real;
use crate::node::Node;
use crate::process::{Program, Running, tail};
use crate::runtimes::containerd::{Containerd, Line};
use crate::tools::{Iptables, Tools};
use crate::world::World;

/// The settings of the machine that kubelet writes unless they are so (kubelet, `setupKernelTunables`).
pub(super) const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// From this release on kubelet is told of the runtime in its file, and asks more of it than containerd 1 answers.
const NEWER: u32 = 27;
/// From this release on kubelet refuses cgroup v1 unless it is told not to.
const ASKS_FOR_CGROUPS: u32 = 31;

/// What runs on a node besides the daemon. Fields end in this order.
#[derive(Debug)]
pub struct NodeAgents {
    _kube_proxy: Running,
    _kubelet: Running,
    /// The runtime.
    pub containerd: Containerd,
    folder: PathBuf,
}

/// A node to be.
pub(super) struct Place<'a> {
    pub world: &'a World,
    pub node: &'a Node,
    /// Of its primary ENI.
    pub address: Ipv4Addr,
    pub authority: &'a Authority,
    pub programs: &'a Programs,
}

impl NodeAgents {
    /// Starts them; does not wait for anything but containerd.
    pub(super) fn start(place: &Place<'_>) -> Result<Self, ClusterError> {
        let folder = place.world.folder(&format!("{}/kubelet", place.node.name))?;
        let line = if place.programs.minor < NEWER { Line::One } else { Line::Two };
        let containerd = Containerd::start(place.world, place.node, line)?;
        cgroups::make(containerd.cgroup())?;
        containerd.output_beside(&prepare(&folder))?;
        let tools = folder.join("bin");
        fs::create_dir_all(&tools).map_err(ClusterError::file("making a folder of programs"))?;
        Tools::write_iptables_starters(&tools, Iptables::Nft)?;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display());
        let config = folder.join("config.json");
        let text = configuration(place, &folder, &containerd).to_string();
        fs::write(&config, text).map_err(ClusterError::file("writing kubelet's configuration"))?;
        let words = kubelet(place, &folder, &containerd)?;
        let kubelet = containerd.run_beside(words, &path, &folder.join("kubelet.log"))?;
        let kube_proxy = Running::start(&place.node.netns, &kube_proxy(place, &folder, path)?)?;
        Ok(Self { _kube_proxy: kube_proxy, _kubelet: kubelet, containerd, folder })
    }

    /// The ends of the logs.
    #[must_use]
    pub fn log_tails(&self, lines: usize) -> String {
        let logs = [self.folder.join("kubelet.log"), self.containerd.log()];
        logs.map(|log| format!("--- {}\n{}", log.display(), tail(&log, lines))).join("\n")
    }
}

/// The script that gives kubelet folders and settings of its own.
fn prepare(folder: &Path) -> String {
    let own = folder.display();
    let mut script = String::new();
    for path in ["/var/lib", "/var/log"] {
        let layers = format!("{own}/own{path}");
        script += &format!(
            "mkdir -p {layers}/upper {layers}/work\n\
             mount -t overlay overlay -o lowerdir={path},upperdir={layers}/upper,workdir={layers}/work {path}\n"
        );
    }
    for (name, value) in TUNABLES {
        let file = format!("{own}/own/sys/{name}");
        script += &format!("mkdir -p $(dirname {file}); echo {value} >{file}; mount --bind {file} /proc/sys/{name}\n");
    }
    script
}

/// kubelet's file (kubelet.config.k8s.io/v1beta1).
fn configuration(place: &Place<'_>, folder: &Path, containerd: &Containerd) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", containerd.cgroup()),
        "enforceNodeAllocatable": ["none"], "failSwapOn": false,
        "address": place.address, "healthzBindAddress": "127.0.0.1", "resolvConf": folder.join("resolv.conf"),
        // It makes this folder, which is /usr's by default.
        "volumePluginDir": folder.join("volume-plugins"),
        // What the machine has left is not ours to judge.
        "evictionHard": { "memory.available": "50Mi" },
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        // More than a node has addresses for.
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "2s", "eventRecordQPS": 50,
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": false },
            "x509": { "clientCAFile": place.authority.path("ca.crt") },
        },
        "authorization": { "mode": "AlwaysAllow" },
    });
    if place.programs.minor >= NEWER {
        config["containerRuntimeEndpoint"] = json!(endpoint(containerd));
    }
    if place.programs.minor >= ASKS_FOR_CGROUPS {
        config["failCgroupV1"] = json!(false);
    }
    config
}

fn endpoint(containerd: &Containerd) -> String {
    format!("unix://{}", containerd.socket().display())
}

/// kubelet's command line.
fn kubelet(place: &Place<'_>, folder: &Path, containerd: &Containerd) -> Result<Vec<String>, ClusterError> {
    let name = &place.node.name;
    let kubeconfig = place.authority.client(name, &format!("system:node:{name}"), "system:nodes")?;
    fs::write(folder.join("resolv.conf"), "").map_err(ClusterError::file("writing a resolv.conf"))?;
    let shown = |path: PathBuf| path.display().to_string();
    let mut words = vec![
        shown(place.programs.kubernetes("kubelet")),
        format!("--config={}", shown(folder.join("config.json"))),
        format!("--kubeconfig={}", shown(kubeconfig)),
        format!("--root-dir={}", shown(folder.join("root"))),
        format!("--cert-dir={}", shown(folder.join("certificates"))),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", place.address),
    ];
    if place.programs.minor < NEWER {
        words.push("--container-runtime=remote".to_owned());
        words.push(format!("--container-runtime-endpoint={}", endpoint(containerd)));
    }
    Ok(words)
}

fn kube_proxy(place: &Place<'_>, folder: &Path, path: String) -> Result<Program, ClusterError> {
    let name = &place.node.name;
    let kubeconfig = place.authority.client(&format!("{name}-proxy"), "system:kube-proxy", "")?;
    let mut arguments = real::own_arguments(name);
    arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
    Ok(Program {
        path: place.programs.kube_proxy(),
        arguments,
        environment: BTreeMap::from([("PATH".to_owned(), path)]),
        log: folder.join("kube-proxy.log"),
    })
}
