// SPDX-License-Identifier: Apache-2.0
//! What a PATCH changes: merge patches, and strategic ones as far as they differ for what clients on our nodes write.
//!
//! | kind | objects | lists |
//! |---|---|---|
//! | merge (RFC 7386) | merged, `null` removes | replaced |
//! | strategic | merged, `null` removes | replaced, but `status.conditions` are merged by their `type` |
//!
//! Directives (`$patch` and the like) are refused, as are JSON patches and applies: nobody here sends them.
//!
//! Source: Kubernetes documentation, "Update API Objects in Place Using kubectl patch"; `patchMergeKey` of NodeStatus.

use axum::body::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What of an object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but its status.
    Object,
    /// Its status.
    Status,
}

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// What is merged into it.
    pub value: Value,
    /// Whether lists that have a key are merged by it.
    pub is_strategic: bool,
}

impl Patch {
    /// A merge patch.
    #[must_use]
    pub fn merge(value: Value) -> Self {
        Self { value, is_strategic: false }
    }

    pub(super) fn read(kind: Option<&HeaderValue>, body: &Bytes) -> Result<Self, Refusal> {
        let is_strategic = match kind.and_then(|kind| kind.to_str().ok()) {
            Some("application/merge-patch+json") => false,
            Some("application/strategic-merge-patch+json") => true,
            _ => return Err(Refusal::UnsupportedMediaType),
        };
        let value: Value = serde_json::from_slice(body).map_err(|error| Refusal::BadRequest(error.to_string()))?;
        if value.is_object() {
            Ok(Self { value, is_strategic })
        } else {
            Err(Refusal::BadRequest("a patch that is no object".to_owned()))
        }
    }

    pub(super) fn apply(&self, object: &mut Value) {
        merge(object, &self.value, self.is_strategic);
    }
}

fn merge(object: &mut Value, patch: &Value, is_strategic: bool) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return };
    for (name, change) in changes {
        match (change, fields.get_mut(name)) {
            (Value::Null, _) => {
                fields.remove(name);
            }
            (Value::Array(items), Some(Value::Array(present))) if is_strategic && name == "conditions" => {
                items.iter().for_each(|item| merge_item(present, item));
            }
            (change, _) => merge(fields.entry(name).or_insert(Value::Null), change, is_strategic),
        }
    }
}

fn merge_item(present: &mut Vec<Value>, item: &Value) {
    match present.iter_mut().find(|known| known["type"] == item["type"]) {
        Some(known) => merge(known, item, true),
        None => present.push(item.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_change_what_they_name() {
        let node = json!({
            "spec": { "taints": [{ "key": "a" }, { "key": "b" }], "unschedulable": true },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }, { "type": "X", "status": "True", "reason": "r" }] },
        });
        let mut merged = node.clone();
        Patch::merge(json!({ "spec": { "taints": [{ "key": "b" }], "unschedulable": null } })).apply(&mut merged);
        assert_eq!(merged["spec"], json!({ "taints": [{ "key": "b" }] }));
        assert_eq!(merged["status"], node["status"]);
        let mut merged = node.clone();
        let value = json!({ "status": { "conditions": [{ "type": "X", "status": "False" }, { "type": "Y", "status": "True" }] } });
        Patch { value: value.clone(), is_strategic: true }.apply(&mut merged);
        let wanted = json!([
            { "type": "Ready", "status": "True" },
            { "type": "X", "status": "False", "reason": "r" },
            { "type": "Y", "status": "True" },
        ]);
        assert_eq!(merged["status"]["conditions"], wanted);
        let mut replaced = node;
        Patch::merge(value.clone()).apply(&mut replaced);
        assert_eq!(replaced["status"], value["status"]);
    }

    #[test]
    fn other_kinds_of_patches_are_refused() {
        let body = Bytes::from_static(b"[]");
        let kind = |text: &'static str| Some(HeaderValue::from_static(text));
        assert_eq!(
            Patch::read(kind("application/json-patch+json").as_ref(), &body),
            Err(Refusal::UnsupportedMediaType)
        );
        assert_eq!(Patch::read(None, &body), Err(Refusal::UnsupportedMediaType));
        assert!(matches!(
            Patch::read(kind("application/merge-patch+json").as_ref(), &body),
            Err(Refusal::BadRequest(_))
        ));
    }
}
