// SPDX-License-Identifier: Apache-2.0
//! One node or more, an API server at their loopback that knows them, and a kubeconfig that names it.

use std::time::Duration;

use integration::eventually::eventually;
use integration::kube_http::KubeApi;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::resource::{NEW_EVENTS, PODS};
use integration::kube_http::store::Key;
use integration::node::Node;
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::{Value, json};

/// How long something may take that is told by a watch, or is written by a bell, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const CONDITION: &str = "EnidAddressesAvailable";
pub(crate) const ANNOTATION: &str = "vpc.amazonaws.com/pod-ips";

pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) api: KubeApi,
}

impl Bed {
    /// Nothing started yet, nobody at the address of the API server.
    pub(crate) fn new() -> Self {
        Self::of(&TopologySpec::one("m5.large"))
    }

    pub(crate) fn of(spec: &TopologySpec) -> Self {
        let topology = Topology::build(spec).unwrap();
        let mut bed = Self { topology, api: KubeApi::default() };
        bed.topology.introduce(&bed.api).unwrap();
        bed
    }

    /// The API server answers, and the daemon is ready.
    pub(crate) fn started(settings: &[(&str, &str)]) -> Self {
        let mut bed = Self::new();
        bed.open();
        bed.start(settings);
        bed.wait_state("connected");
        bed
    }

    /// The API server comes.
    pub(crate) fn open(&self) {
        let _inside = self.topology.runtime.enter();
        for node in &self.topology.nodes {
            node.serve_api(&self.api).unwrap();
        }
    }

    pub(crate) fn start(&mut self, settings: &[(&str, &str)]) {
        self.topology.start(settings).unwrap();
        self.node().wait_answers(READY).unwrap();
    }

    pub(crate) fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    pub(crate) fn kubernetes(&self) -> Value {
        self.node().status().unwrap()["kubernetes"].clone()
    }

    pub(crate) fn wait_state(&self, state: &str) -> Value {
        self.wait(&format!("the edge is {state}"), SOON, || {
            let found = self.kubernetes();
            if found["state"] == state { Ok(found) } else { Err(found.to_string()) }
        })
    }

    pub(crate) fn wait<T>(&self, what: &str, within: Duration, look: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, within, look).unwrap_or_else(|error| {
            panic!("{error}\n{}", integration::process::tail(&self.node().log(), 40));
        })
    }

    pub(crate) fn wait_number(&self, pointer: &str, what: &str, wanted: impl Fn(u64) -> bool) {
        self.wait(what, SOON, || match self.node().number(pointer) {
            Ok(number) if wanted(number) => Ok(()),
            other => Err(format!("{pointer}: {other:?}")),
        });
    }

    /// A pod that is bound to the node and waits for its sandbox; `change` is merged into it.
    pub(crate) fn bind_pod(&self, name: &str, change: Value) {
        let pod = json!({
            "metadata": { "name": name }, "spec": { "nodeName": "n1" }, "status": { "phase": "Pending" },
        });
        self.api.put(&PODS, Some("default"), pod).unwrap();
        for part in [Part::Object, Part::Status] {
            self.api.patch(&self.pod(name), part, &Patch::merge(change.clone())).unwrap();
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Key {
        Key { resource: &PODS, namespace: "default".to_owned(), name: name.to_owned() }
    }

    pub(crate) fn change_node(&self, change: Value) {
        self.api.patch(&Key::node("n1"), Part::Object, &Patch::merge(change)).unwrap();
    }

    /// What kubelet says in the Node's status.
    pub(crate) fn change_status(&self, change: Value) {
        self.api.patch(&Key::node("n1"), Part::Status, &Patch::merge(json!({ "status": change }))).unwrap();
    }

    pub(crate) fn shown_node(&self) -> Value {
        self.api.read(|store| store.get(&Key::node("n1")).unwrap().clone())
    }

    pub(crate) fn annotation(&self, pod: &str) -> Option<String> {
        let pod = self.api.read(|store| store.get(&self.pod(pod)).unwrap().clone());
        pod["metadata"]["annotations"][ANNOTATION].as_str().map(str::to_owned)
    }

    pub(crate) fn wait_annotation(&self, pod: &str, wanted: &str) {
        self.wait("the annotation", SOON, || match self.annotation(pod) {
            Some(value) if value == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Events about an object of this kind with this reason.
    pub(crate) fn events(&self, kind: &str, reason: &str) -> Vec<Value> {
        let all = self.api.all(&NEW_EVENTS);
        all.into_iter().filter(|event| event["regarding"]["kind"] == kind && event["reason"] == reason).collect()
    }

    pub(crate) fn wait_event(&self, kind: &str, reason: &str) -> Value {
        self.wait(&format!("an event {reason} about a {kind}"), SOON, || {
            self.events(kind, reason).pop().ok_or_else(|| format!("{:?}", self.api.all(&NEW_EVENTS)))
        })
    }

    pub(crate) fn condition(&self) -> Option<Value> {
        self.condition_of(CONDITION)
    }

    pub(crate) fn condition_of(&self, kind: &str) -> Option<Value> {
        self.api.node_condition("n1", kind)
    }

    pub(crate) fn wait_condition(&self, status: &str, within: Duration) -> Value {
        self.wait(&format!("the condition is {status}"), within, || match self.condition() {
            Some(condition) if condition["status"] == status => Ok(condition),
            other => Err(format!("{other:?}")),
        })
    }
}
