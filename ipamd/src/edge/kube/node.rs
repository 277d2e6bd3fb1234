// SPDX-License-Identifier: Apache-2.0
//! What of our Node decides: is it cordoned, which labels and taints has it, what do its conditions show. Pure.

use std::collections::BTreeMap;

use ipamd_core::config::Taint;
use kube::core::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::{PREFIX, Shown};

/// What `kubectl cordon` leaves; the reference looks at the taint alone.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A Node, as far as it is read.
pub(super) type Node = Object<NodeSpec, NodeStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    unschedulable: bool,
    /// Whole: what is written back has fields that we do not know.
    taints: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    conditions: Vec<Shown>,
    /// Quantities by resource.
    capacity: BTreeMap<String, String>,
}

/// What is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) uid: String,
    pub(super) cordoned: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// What kubelet takes for its `max-pods`; `None`: it did not say so yet.
    pub(super) max_pods: Option<u32>,
    /// Resources that are not Kubernetes' own, with their quantities.
    pub(super) extended: BTreeMap<String, String>,
    /// Conditions of ours, sorted by name.
    conditions: Vec<Shown>,
    version: Option<String>,
    taints: Vec<Value>,
}

impl View {
    pub(super) fn of(node: Node) -> Self {
        let NodeSpec { unschedulable, taints } = node.spec;
        let mut status = node.status.unwrap_or_default();
        let max_pods = status.capacity.get("pods").and_then(|pods| pods.parse().ok());
        status.capacity.retain(|name, _| name.contains('/'));
        let mut conditions = status.conditions;
        conditions.retain(|shown| shown.kind.starts_with(PREFIX));
        conditions.sort_by(|one, other| one.kind.cmp(&other.kind));
        let cordon = |taint: &Value| taint["key"] == UNSCHEDULABLE && taint["effect"] == "NoSchedule";
        Self {
            uid: node.metadata.uid.unwrap_or_default(),
            cordoned: unschedulable || taints.iter().any(cordon),
            labels: node.metadata.labels.unwrap_or_default(),
            annotations: node.metadata.annotations.unwrap_or_default(),
            max_pods,
            extended: status.capacity,
            conditions,
            version: node.metadata.resource_version,
            taints,
        }
    }

    /// What the Node shows for a condition.
    pub(super) fn shown(&self, kind: &str) -> Option<&Shown> {
        self.conditions.iter().find(|shown| shown.kind == kind)
    }

    /// The merge patch that takes a taint away; `None`: it is not there. A Node that was changed meanwhile refuses it, and the
    /// watch tells what there is now.
    pub(super) fn without(&self, taint: &Taint) -> Option<Value> {
        if !self.has(taint) {
            return None;
        }
        let left: Vec<&Value> = self.taints.iter().filter(|present| !is(present, taint)).collect();
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        Some(self.taints_patch(left))
    }

    /// The merge patch that puts a taint on; `None`: it is there. As [`Self::without`] otherwise.
    pub(super) fn with(&self, taint: &Taint) -> Option<Value> {
        if self.has(taint) {
            return None;
        }
        let ours = json!({ "key": taint.key, "effect": taint.effect });
        let all: Vec<&Value> = self.taints.iter().chain([&ours]).collect();
        Some(self.taints_patch(json!(all)))
    }

    fn has(&self, taint: &Taint) -> bool {
        self.taints.iter().any(|present| is(present, taint))
    }

    fn taints_patch(&self, taints: Value) -> Value {
        json!({ "metadata": { "resourceVersion": self.version }, "spec": { "taints": taints } })
    }
}

/// Whatever its value.
fn is(present: &Value, taint: &Taint) -> bool {
    present["key"] == taint.key.as_str() && present["effect"] == taint.effect.as_str()
}

#[cfg(test)]
mod tests {
    use super::super::condition::TYPE;
    use super::*;

    fn view(spec: Value) -> View {
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "spec": spec,
            "metadata": { "name": "n1", "uid": "u1", "resourceVersion": "7" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }, { "type": TYPE, "status": "True" }],
                "capacity": { "pods": "29", "memory": "8Gi" } },
        });
        View::of(serde_json::from_value(object).unwrap())
    }

    fn taint(key: &str, effect: &str) -> Value {
        json!({ "key": key, "effect": effect, "value": "v", "timeAdded": "2026-01-01T00:00:00Z" })
    }

    #[test]
    fn a_node_is_cordoned_by_its_taint_or_its_field() {
        let cases = [
            (json!({}), false),
            (json!({ "unschedulable": true }), true),
            (json!({ "taints": [taint(UNSCHEDULABLE, "NoSchedule")] }), true),
            (json!({ "taints": [taint(UNSCHEDULABLE, "NoExecute"), taint("a/b", "NoSchedule")] }), false),
        ];
        for (spec, wanted) in cases {
            assert_eq!(view(spec.clone()).cordoned, wanted, "{spec}");
        }
        let view = view(json!({}));
        assert_eq!(view.shown(TYPE).map(|shown| shown.status.as_str()), Some("True"));
        assert_eq!(view.shown("Ready"), None, "of ours only");
        assert_eq!(view.max_pods, Some(29));
    }

    #[test]
    fn a_taint_goes_and_the_others_stay_as_they_are() {
        let ours = Taint { key: "enid.dev/starting".to_owned(), effect: "NoSchedule".to_owned() };
        let (starting, other) = (taint("enid.dev/starting", "NoSchedule"), taint("a/b", "NoSchedule"));
        let executes = taint("enid.dev/starting", "NoExecute");
        assert_eq!(view(json!({ "taints": [other] })).without(&ours), None);
        let patch = view(json!({ "taints": [other, starting, executes] })).without(&ours).unwrap();
        assert_eq!(patch["spec"]["taints"], json!([other, executes]));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(view(json!({ "taints": [starting] })).without(&ours).unwrap()["spec"]["taints"], Value::Null);
    }

    #[test]
    fn a_taint_is_put_on_beside_the_others_once() {
        let full = Taint { key: "enid.dev/full".to_owned(), effect: "NoSchedule".to_owned() };
        let other = taint("a/b", "NoSchedule");
        let patch = view(json!({ "taints": [other] })).with(&full).unwrap();
        assert_eq!(patch["spec"]["taints"], json!([other, { "key": "enid.dev/full", "effect": "NoSchedule" }]));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(view(json!({ "taints": [taint("enid.dev/full", "NoSchedule")] })).with(&full), None);
        assert!(view(json!({})).with(&full).is_some());
    }

    #[test]
    fn of_capacity_pods_and_extended_resources_are_kept() {
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "spec": {}, "metadata": { "name": "n1" },
            "status": { "capacity": { "pods": "58", "cpu": "2", "enid.dev/address": "27" } },
        });
        let view = View::of(serde_json::from_value(object).unwrap());
        assert_eq!(view.max_pods, Some(58));
        assert_eq!(view.extended, [("enid.dev/address".to_owned(), "27".to_owned())].into());
    }
}
