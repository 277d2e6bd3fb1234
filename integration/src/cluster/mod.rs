// SPDX-License-Identifier: Apache-2.0
//! A whole Kubernetes on the emulated VPC: real etcd, API server, controller manager and scheduler, and on each node real kubelet,
//! containerd, runc and kube-proxy, which call the real plugin and live with the real daemon.
//!
//! It makes the cluster and asks it; daemons are started by the test, who decides when and with what, and what they may do is what the
//! chart gives their account. kubelet is 1.20 with containerd 1, or what `ENID_KUBERNETES` names, from 1.27 on with containerd 2.
//!
//! ```text
//! control (an instance: etcd, kube-apiserver, controller manager, scheduler)
//!    ▲ 10.0.1.x:6443, over the fabric
//! n1, n2 (instances)  kube-proxy, ipamd │ kubelet, containerd ─ runc ─ pods     namespaces of processes and mounts of their own
//! ```
//!
//! | who | is to the API server |
//! |---|---|
//! | test ([`Api`], [`Cluster::kubectl`]) | `system:masters` |
//! | kubelet, kube-proxy | `system:node:<node>`, `system:kube-proxy` |
//! | daemon | [`ACCOUNT`], by a token of its own |
//!
//! Invariant: the machine's settings and folders stay as they are; all processes, mounts, links and cgroups end with [`Cluster`].
#![expect(clippy::disallowed_methods, reason = "reads the machine's settings and starts kubectl")]

mod api;
mod audit;
mod cgroups;
mod control_plane;
mod kubelet;
mod pki;
mod programs;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

pub use api::Api;
pub use audit::Asked;
pub use kubelet::NodeAgents;

use crate::eventually::NotYet;
use crate::netns::NetnsError;
use crate::node::{NodeError, plugin_binary};
use crate::process::{ProcessError, fed};
use crate::runtimes::RuntimesError;
use crate::tools::ToolError;
use crate::topology::{NodeSpec, Subnet, Topology, TopologyError, TopologySpec};
use crate::world::WorldError;
use control_plane::ControlPlane;
use pki::Authority;
use programs::Programs;

/// The daemon's account in the chart, as a user of the API.
pub const ACCOUNT: &str = "system:serviceaccount:kube-system:enid";

/// The image of containers: busybox.
pub const IMAGE: &str = "localhost/busybox:1";

/// The instance of the control plane.
const CONTROL: &str = "control";

/// What a cluster could not do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A program is missing.
    #[error("{} is not there: {todo}", path.display())]
    NotThere {
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        todo: &'static str,
    },
    /// A file, or a connection.
    #[error("{doing}")]
    File {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API server said no.
    #[error("{doing}: {status} {said}")]
    Refused {
        /// Method and path.
        doing: String,
        /// HTTP's status.
        status: u16,
        /// Its answer.
        said: String,
    },
    /// kubectl failed.
    #[error("kubectl {arguments}: {said}")]
    Kubectl {
        /// What was asked.
        arguments: String,
        /// What it said.
        said: String,
    },
    /// Something said what it does not say.
    #[error("{0}")]
    Odd(String),
    /// No certificate.
    #[error("making a certificate")]
    Certificate(#[from] rcgen::Error),
    /// containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimesError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The VPC.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// iptables or conntrack.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A folder.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// It did not come.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

impl ClusterError {
    fn file(doing: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let doing = doing.to_owned();
        move |source| Self::File { doing, source }
    }
}

/// A cluster, running. Fields end in this order.
#[derive(Debug)]
pub struct Cluster {
    /// What runs on the nodes besides the daemons, in their order.
    pub agents: Vec<NodeAgents>,
    control: ControlPlane,
    authority: Authority,
    programs: Programs,
    folder: PathBuf,
    /// The VPC; the last of its nodes is the control plane's.
    pub topology: Topology,
}

impl Cluster {
    /// Starts a control plane, and an instance for each of the nodes on which nothing runs yet.
    ///
    /// # Errors
    /// A program is missing, or does not start.
    pub fn start(nodes: Vec<NodeSpec>) -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let mut spec = TopologySpec { nodes, latency: Default::default() };
        spec.nodes.push(NodeSpec::new(CONTROL, "m5.large", Subnet::A));
        let topology = Topology::build(&spec)?;
        let folder = topology.world.folder(&format!("{CONTROL}/kubernetes"))?;
        let address = topology.instance(CONTROL)?.address;
        let authority = Authority::make(topology.world.folder("pki")?, &control_plane::url(address))?;
        let netns = &topology.node(CONTROL).netns;
        let place =
            control_plane::Place { netns, address, folder: &folder, authority: &authority, programs: &programs };
        let control = ControlPlane::start(&place)?;
        Ok(Self { agents: Vec::new(), control, authority, programs, folder, topology })
    }

    /// The API server.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.control.api
    }

    /// Which Kubernetes it is: 20 of 1.20.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.programs.minor
    }

    /// Names of the nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.topology.nodes.iter().map(|node| node.name.clone()).filter(|name| name != CONTROL).collect()
    }

    /// Installs Enid on each node, as the chart's init container does, and starts containerd, kubelet and kube-proxy.
    ///
    /// # Errors
    /// One does not start.
    pub fn join_nodes(&mut self) -> Result<(), ClusterError> {
        for name in self.nodes() {
            self.install(&name)?;
            let (address, node) = (self.topology.instance(&name)?.address, self.topology.node(&name));
            let (world, authority, programs) = (&self.topology.world, &self.authority, &self.programs);
            let agents = NodeAgents::start(&kubelet::Place { world, node, address, authority, programs })?;
            self.agents.push(agents);
        }
        Ok(())
    }

    fn install(&mut self, name: &str) -> Result<(), ClusterError> {
        let [plugins, conf] =
            ["cni-bin", "cni-conf"].map(|folder| self.topology.world.folder(&format!("{name}/{folder}")));
        let log = self.topology.node(name).plugin_log();
        let node = self.topology.node_mut(name);
        node.set("HOST_CNI_BIN_PATH", &plugins?.to_string_lossy());
        node.set("HOST_CNI_CONFDIR_PATH", &conf?.to_string_lossy());
        node.set("AWS_VPC_K8S_PLUGIN_LOG_FILE", &log.to_string_lossy());
        node.ask(&["install", "--plugin", &plugin_binary()?.to_string_lossy()])?;
        Ok(())
    }

    /// Gives each daemon a token of its account, which must be there.
    ///
    /// # Errors
    /// The API server has no such account.
    pub fn give_tokens(&mut self) -> Result<(), ClusterError> {
        let path = "/api/v1/namespaces/kube-system/serviceaccounts/enid/token";
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        for name in self.nodes() {
            let given = self.api().create(path, &asked)?;
            let token = given["status"]["token"].as_str().unwrap_or_default();
            let kubeconfig = self.authority.with_token(&format!("{name}-enid"), token)?;
            self.topology.node_mut(&name).set("KUBECONFIG", &kubeconfig.to_string_lossy());
        }
        Ok(())
    }

    /// The requests of the daemons that the API server has answered, each kind once.
    ///
    /// # Errors
    /// It has written down none yet.
    pub fn asked_by_daemons(&self) -> Result<BTreeSet<Asked>, ClusterError> {
        audit::read(&self.control.audit_log())
    }

    /// Runs kubectl, `input` on its standard input: what it printed.
    ///
    /// # Errors
    /// It failed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, ClusterError> {
        let mut command = Command::new(&self.programs.kubectl);
        command.args(arguments).env_clear().env("HOME", &self.folder);
        command.env("KUBECONFIG", self.authority.path("admin.kubeconfig"));
        let ran = self.topology.node(CONTROL).netns.run(|| fed(&mut command, input))?;
        let output = ran.map_err(ClusterError::file("running kubectl"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(ClusterError::Kubectl { arguments: arguments.join(" "), said: text(&output.stderr) })
    }

    /// The ends of the logs of control plane, kubelets and daemons.
    #[must_use]
    pub fn log_tails(&self, lines: usize) -> String {
        let daemons = self.topology.nodes.iter().map(|node| crate::process::tail(&node.log(), lines));
        let agents = self.agents.iter().map(|agents| agents.log_tails(lines));
        let all = [self.control.log_tails(lines)].into_iter().chain(agents).chain(daemons);
        all.collect::<Vec<_>>().join("\n---\n")
    }
}

/// The machine's settings that a kubelet writes where it may, as they are: path below /proc/sys and value.
///
/// # Errors
/// One cannot be read.
pub fn machine_settings() -> io::Result<Vec<(String, String)>> {
    let read = |name: &str| Ok((name.to_owned(), std::fs::read_to_string(Path::new("/proc/sys").join(name))?));
    kubelet::TUNABLES.iter().map(|(name, _)| read(name)).collect()
}
