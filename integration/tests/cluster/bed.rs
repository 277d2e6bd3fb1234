// SPDX-License-Identifier: Apache-2.0
//! A cluster of two nodes with the chart's account and rights, and what is asked of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use integration::cluster::Cluster;
use integration::eventually::eventually;
use integration::topology::{NodeSpec, READY, Subnet};
use serde_json::{Value, json};

use crate::charts::{object, rendered};
use crate::workloads::{asks, seen};

/// How long something may take that several programs do one after another, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The chart with all that these tests' daemons want of the API server.
pub(crate) const VALUES: &str = "features: {annotatePodIP: true, startupTaint: true}";

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A small type: three ENIs with three addresses for pods each.
pub(crate) const SMALL: &str = "n2";
pub(crate) const SMALL_HOLDS: usize = 9;

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
}

/// A pod, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) address: Option<Ipv4Addr>,
    /// Since when its condition Ready is what it is.
    pub(crate) ready_since: String,
    pub(crate) is_ready: bool,
    pub(crate) restarts: u64,
    container: String,
}

impl Bed {
    /// Nodes have joined; their daemons have a token, the account has no rights, and no daemon runs.
    pub(crate) fn new() -> Self {
        let nodes = vec![NodeSpec::new("n1", "m5.large", Subnet::A), NodeSpec::new(SMALL, "t3.small", Subnet::B)];
        let mut bed = Self { cluster: Cluster::start(nodes).unwrap() };
        bed.cluster.join_nodes().unwrap();
        let chart = rendered(VALUES);
        bed.apply(&[object(&chart, "ServiceAccount", "enid").clone()]);
        bed.cluster.give_tokens().unwrap();
        bed.wait("the nodes have registered", PATIENCE, || {
            let nodes = bed.cluster.api().list("/api/v1/nodes").map_err(|error| error.to_string())?;
            if nodes.len() == 2 { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
        bed
    }

    /// The daemons run with the chart's rights and these settings, and the nodes are Ready.
    pub(crate) fn started(settings: &[(&str, &str)]) -> Self {
        let mut bed = Self::new();
        bed.grant();
        bed.start(settings);
        for node in bed.cluster.nodes() {
            bed.wait_ready(&node);
        }
        bed
    }

    /// Gives the account the rights of the chart's ClusterRole.
    pub(crate) fn grant(&self) {
        let chart = rendered(VALUES);
        let rights = ["ClusterRole", "ClusterRoleBinding"].map(|kind| object(&chart, kind, "enid").clone());
        self.apply(&rights);
    }

    pub(crate) fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.cluster.kubectl(&["create", "-f", "-"], &list.to_string()).unwrap();
    }

    /// Starts the daemons of all nodes.
    pub(crate) fn start(&mut self, settings: &[(&str, &str)]) {
        for name in self.cluster.nodes() {
            let node = self.cluster.topology.node_mut(&name);
            node.set("ANNOTATE_POD_IP", "true");
            settings.iter().for_each(|(variable, value)| node.set(variable, value));
            node.start().unwrap();
        }
    }

    pub(crate) fn wait<T>(&self, what: &str, within: Duration, look: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, within, look).unwrap_or_else(|error| panic!("{error}\n{}", self.cluster.log_tails(25)))
    }

    /// A condition of a node.
    pub(crate) fn condition(&self, node: &str, of: &str) -> Option<Value> {
        let node = self.cluster.api().get(&format!("/api/v1/nodes/{node}")).unwrap();
        node["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == of).cloned()
    }

    /// Waits until the node is Ready: since when.
    pub(crate) fn wait_ready(&self, node: &str) -> String {
        self.wait_condition(node, "Ready", "True")["lastTransitionTime"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_condition(&self, node: &str, of: &str, status: &str) -> Value {
        self.wait(&format!("{of} of {node} is {status}"), PATIENCE, || match self.condition(node, of) {
            Some(condition) if condition["status"] == status => Ok(condition),
            other => Err(format!("{other:?}")),
        })
    }

    /// Since when each node has been Ready.
    pub(crate) fn ready_since(&self) -> Vec<(String, String)> {
        self.cluster.nodes().into_iter().map(|node| (node.clone(), self.wait_ready(&node))).collect()
    }

    pub(crate) fn create(&self, path: &str, object: &Value) {
        self.cluster.api().create(path, object).unwrap();
    }

    /// All pods of an app, by name.
    pub(crate) fn pods(&self, app: &str) -> Vec<Pod> {
        let list = self.cluster.api().list(&format!("{PODS}?labelSelector=app%3D{app}")).unwrap();
        list.iter().map(pod).collect()
    }

    /// Waits until an app has exactly so many pods and all of them are ready.
    pub(crate) fn wait_pods(&self, app: &str, count: usize) -> Vec<Pod> {
        self.wait(&format!("{count} pods of {app} are ready"), PATIENCE, || {
            let pods = self.pods(app);
            let all = pods.len() == count && pods.iter().all(|pod| pod.is_ready && pod.address.is_some());
            if all { Ok(pods) } else { Err(format!("{pods:#?}\n{:#?}", self.warnings())) }
        })
    }

    /// Messages of Warning events, with what they are about and why.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.cluster.api().list("/api/v1/namespaces/default/events").unwrap();
        let warnings = events.iter().filter(|event| event["type"] == "Warning");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        warnings
            .map(|it| {
                format!("{} {}: {}", text(&it["involvedObject"]["name"]), text(&it["reason"]), text(&it["message"]))
            })
            .collect()
    }

    /// Runs a command line of the shell in a pod: what it printed.
    pub(crate) fn run(&self, pod: &Pod, line: &str) -> Result<String, String> {
        let at = self.cluster.nodes().iter().position(|node| *node == pod.node).unwrap();
        let ran = self.cluster.agents[at].containerd.exec(&pod.container, line).map_err(|error| error.to_string())?;
        if ran.code == 0 { Ok(ran.output) } else { Err(format!("`{line}` in {}: {}", pod.name, ran.output)) }
    }

    /// Runs a command line that may take a moment to succeed.
    pub(crate) fn runs(&self, pod: &Pod, line: &str) -> String {
        self.wait(&format!("`{line}` in {}", pod.name), READY, || self.run(pod, line))
    }

    /// Asks a server's page from a pod: the address that it saw, and its name.
    pub(crate) fn asks(&self, pod: &Pod, host: Ipv4Addr, port: u16) -> Result<(Ipv4Addr, String), String> {
        seen(&self.run(pod, &asks(host, port))?)
    }

    /// The pod's address is one that EC2 has assigned to an ENI of its node.
    pub(crate) fn is_of_its_node(&self, pod: &Pod) -> bool {
        let enis = self.cluster.topology.enis(&pod.node).unwrap();
        enis.iter().any(|eni| pod.address.is_some_and(|address| eni.secondary.contains(&address)))
    }

    /// A number of a daemon's status.
    pub(crate) fn number(&self, node: &str, pointer: &str) -> Result<u64, String> {
        self.cluster.topology.node(node).number(pointer).map_err(|error| error.to_string())
    }
}

fn pod(object: &Value) -> Pod {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let container = text(&status["containerStatuses"][0]["containerID"]);
    Pod {
        name: text(&object["metadata"]["name"]),
        node: text(&object["spec"]["nodeName"]),
        address: status["podIP"].as_str().and_then(|address| address.parse().ok()),
        ready_since: text(&ready["lastTransitionTime"]),
        is_ready: ready["status"] == "True",
        restarts: status["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default(),
        container: container.trim_start_matches("containerd://").to_owned(),
    }
}
