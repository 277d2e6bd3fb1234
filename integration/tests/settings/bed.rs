// SPDX-License-Identifier: Apache-2.0
//! Nodes with a file of settings each; and for one node an API server at its loopback.

use std::path::PathBuf;
use std::time::Duration;

use integration::eventually::eventually;
use integration::kube_http::KubeApi;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::resource::{NEW_EVENTS, NODES};
use integration::kube_http::store::Key;
use integration::node::Node;
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::{Value, json};

/// The file is read every 5 s, the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(25);

/// Writes a node's file of settings, and names it to the daemon at its next start.
pub(crate) fn write(node: &mut Node, text: &str) {
    let path = file(node);
    node.set("ENID_SETTINGS_FILE", &path.to_string_lossy());
    rewrite(node, text);
}

/// Writes it anew while the daemon runs: as editors and kubelet do, by rename.
pub(crate) fn rewrite(node: &Node, text: &str) {
    let path = file(node);
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

fn file(node: &Node) -> PathBuf {
    node.log().with_file_name("settings.yaml")
}

/// A variable as `ipamd config` has it: its value, its source and its class.
pub(crate) fn variable(node: &Node, name: &str) -> Value {
    let shown: Value = serde_json::from_str(&node.ask(&["config", "-o", "json"]).unwrap()).unwrap();
    let rows = shown["variables"].as_array().unwrap();
    let row = rows.iter().find(|row| row["variable"] == name).unwrap();
    json!([row["value"], row["source"], row["class"]])
}

/// Waits until a variable is so.
pub(crate) fn wait_variable(node: &Node, name: &str, wanted: &Value) {
    wait(node, &format!("{name} is {wanted}"), || {
        let found = variable(node, name);
        if found == *wanted { Ok(()) } else { Err(found.to_string()) }
    });
}

pub(crate) fn wait<T>(node: &Node, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    eventually(what, SOON, look)
        .unwrap_or_else(|error| panic!("{error}\n{}", integration::process::tail(&node.log(), 40)))
}

/// The warm target that the pool has.
pub(crate) fn warm(node: &Node) -> u64 {
    node.number("/pool/targets/Addresses/warm").unwrap()
}

/// One node and the API server that knows it.
pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) api: KubeApi,
}

impl Bed {
    /// A node with these labels and this file; the daemon runs and has heard of the Node.
    pub(crate) fn started(labels: &Value, file: &str) -> Self {
        let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        let mut bed = Self { topology, api: KubeApi::default() };
        let node =
            json!({ "metadata": { "name": "n1", "labels": labels }, "spec": {}, "status": { "conditions": [] } });
        bed.api.put(&NODES, None, node).unwrap();
        let n1 = bed.topology.node_mut("n1");
        n1.name_api_server().unwrap();
        write(n1, file);
        {
            let _inside = bed.topology.runtime.enter();
            bed.node().serve_api(&bed.api).unwrap();
        }
        bed.topology.start(&[("WARM_IP_TARGET", "2")]).unwrap();
        bed.node().wait_answers(READY).unwrap();
        bed
    }

    pub(crate) fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    pub(crate) fn annotate(&self, variable: &str, value: &Value) {
        let name = format!("setting.enid.dev/{variable}");
        let change = json!({ "metadata": { "annotations": { name: value } } });
        self.api.patch(&Key::node("n1"), Part::Object, &Patch::merge(change)).unwrap();
    }

    pub(crate) fn wait_condition(&self, status: &str) -> Value {
        wait(self.node(), &format!("EnidConfigurationValid is {status}"), || {
            let condition = self.api.node_condition("n1", "EnidConfigurationValid");
            condition.clone().filter(|condition| condition["status"] == status).ok_or_else(|| format!("{condition:?}"))
        })
    }

    pub(crate) fn wait_event(&self, reason: &str) -> Value {
        wait(self.node(), &format!("an event {reason}"), || {
            let all = self.api.all(&NEW_EVENTS);
            all.iter().find(|event| event["reason"] == reason).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }
}
