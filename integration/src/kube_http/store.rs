// SPDX-License-Identifier: Apache-2.0
//! What the server keeps: objects, the revision that counts every change, and the changes that watchers may still ask for.
//!
//! Pure: no clock, no IO. It does not validate what is in an object beyond its kind, name and namespace.
//!
//! Invariants: a change raises the revision by one and is written into the object as its `resourceVersion`; what changes
//! nothing raises nothing; a list and the changes since its revision together are the state of any later moment.
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes" and "Resource versions".

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::patch::{Part, Patch};
use super::refusal::Refusal;
use super::resource::{NODES, Resource};
use super::selector::Selector;

/// So many changes are remembered. etcd remembers those of five minutes.
const REMEMBERED: usize = 1000;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub resource: &'static Resource,
    /// Its namespace; empty where the kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// A Node's.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self { resource: &NODES, namespace: String::new(), name: name.to_owned() }
    }
}

/// Objects of a kind that a client looks at.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The kind.
    pub resource: &'static Resource,
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    /// Which of them.
    pub selector: Selector,
}

impl Scope {
    fn covers(&self, key: &Key) -> bool {
        key.resource == self.resource && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }
}

#[derive(Debug)]
struct Change {
    revision: u64,
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`, as the watcher's selector sees it.
    pub kind: &'static str,
    /// The object after the change; of one that is gone, the last there was.
    pub object: Value,
}

/// All objects.
#[derive(Debug, Default)]
pub struct Store {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    changes: VecDeque<Change>,
}

impl Store {
    /// Of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    ///
    /// # Errors
    /// It is not there.
    pub fn get(&self, key: &Key) -> Result<&Value, Refusal> {
        self.objects.get(key).ok_or_else(|| not_found(key))
    }

    /// Those of a scope, in the order of their names.
    #[must_use]
    pub fn list(&self, scope: &Scope) -> Vec<&Value> {
        let objects = self.objects.iter().filter(|(key, object)| scope.covers(key) && scope.selector.matches(object));
        objects.map(|(_, object)| object).collect()
    }

    /// Names of all objects of these kinds.
    #[must_use]
    pub fn keys(&self, resources: &[&'static Resource]) -> Vec<Key> {
        self.objects.keys().filter(|key| resources.contains(&key.resource)).cloned().collect()
    }

    /// Adds an object.
    ///
    /// # Errors
    /// Its name is taken, or its metadata don't fit.
    pub fn create(
        &mut self,
        resource: &'static Resource,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<Value, Refusal> {
        let (key, object) = read(resource, namespace, object)?;
        if self.objects.contains_key(&key) {
            return Err(Refusal::AlreadyExists { plural: resource.plural, name: key.name });
        }
        Ok(self.write(key, object))
    }

    /// Adds an object or replaces it; does nothing where it is there already.
    ///
    /// # Errors
    /// Its metadata don't fit.
    pub fn put(
        &mut self,
        resource: &'static Resource,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<Value, Refusal> {
        let (key, mut object) = read(resource, namespace, object)?;
        if let Some(present) = self.objects.get(&key) {
            for kept in ["uid", "resourceVersion"] {
                object["metadata"][kept] = present["metadata"][kept].clone();
            }
            if object == *present {
                return Ok(object);
            }
        }
        Ok(self.write(key, object))
    }

    /// Changes an object: its status alone, or all but that. A Node's metadata goes with either (kubelet annotates by the status).
    ///
    /// # Errors
    /// It is not there, or is not the one that the patch means.
    pub fn patch(&mut self, key: &Key, part: Part, patch: &Patch) -> Result<Value, Refusal> {
        let present = self.get(key)?;
        for (field, cause) in
            [("uid", "the UID in the precondition does not match"), ("resourceVersion", "the object has been modified")]
        {
            let meant = &patch.value["metadata"][field];
            if !meant.is_null() && *meant != present["metadata"][field] {
                return Err(Refusal::Conflict { plural: key.resource.plural, name: key.name.clone(), cause });
            }
        }
        let mut object = present.clone();
        patch.apply(&mut object);
        match part {
            Part::Status => {
                let mut whole = json_with(present.clone(), "status", object["status"].take());
                if *key.resource == NODES {
                    whole["metadata"] = object["metadata"].take();
                }
                object = whole;
            }
            Part::Object => object = json_with(object, "status", present["status"].clone()),
        }
        object["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
        if object == *present {
            return Ok(object);
        }
        Ok(self.write(key.clone(), object))
    }

    /// Forgets all changes, as etcd does when it compacts: whoever watches has to list anew.
    pub fn compact(&mut self) {
        self.revision += 1;
        self.changes.clear();
    }

    /// Takes an object away.
    ///
    /// # Errors
    /// It is not there.
    pub fn delete(&mut self, key: &Key) -> Result<(), Refusal> {
        let before = self.objects.remove(key).ok_or_else(|| not_found(key))?;
        self.remember(key.clone(), Some(before), None);
        Ok(())
    }

    /// What a watcher of a scope is told who has seen everything up to a revision.
    ///
    /// # Errors
    /// That revision is too old.
    pub fn since(&self, scope: &Scope, revision: u64) -> Result<Vec<Event>, Refusal> {
        let oldest = self.revision - self.changes.len() as u64;
        if revision < oldest {
            return Err(Refusal::Expired { asked: revision, oldest });
        }
        let changes = self.changes.iter().filter(|change| change.revision > revision && scope.covers(&change.key));
        Ok(changes.filter_map(|change| change.as_seen_by(&scope.selector)).collect())
    }

    fn write(&mut self, key: Key, mut object: Value) -> Value {
        let revision = self.revision + 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(revision.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("00000000-0000-4000-8000-{revision:012x}"));
        }
        let before = self.objects.insert(key.clone(), object.clone());
        self.remember(key, before, Some(object.clone()));
        object
    }

    fn remember(&mut self, key: Key, before: Option<Value>, after: Option<Value>) {
        self.revision += 1;
        self.changes.push_back(Change { revision: self.revision, key, before, after });
        if self.changes.len() > REMEMBERED {
            self.changes.pop_front();
        }
    }
}

impl Change {
    /// To who selects by labels an object comes and goes with its labels.
    fn as_seen_by(&self, selector: &Selector) -> Option<Event> {
        let seen = |object: &Option<Value>| object.clone().filter(|object| selector.matches(object));
        match (seen(&self.before), seen(&self.after)) {
            (None, None) => None,
            (None, Some(object)) => Some(Event { kind: "ADDED", object }),
            (Some(_), Some(object)) => Some(Event { kind: "MODIFIED", object }),
            (Some(mut object), None) => {
                object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
                Some(Event { kind: "DELETED", object })
            }
        }
    }
}

fn json_with(mut object: Value, field: &str, value: Value) -> Value {
    if value.is_null() {
        object.as_object_mut().map(|fields| fields.remove(field));
    } else {
        object[field] = value;
    }
    object
}

fn not_found(key: &Key) -> Refusal {
    Refusal::NotFound { plural: key.resource.plural, name: key.name.clone() }
}

/// Checks an object's kind, name and namespace against where it was sent to, and writes them in where it leaves them out.
fn read(resource: &'static Resource, namespace: Option<&str>, mut object: Value) -> Result<(Key, Value), Refusal> {
    let bad = |text: String| Refusal::BadRequest(text);
    let fields = object.as_object_mut().ok_or_else(|| bad("the body is no object".to_owned()))?;
    agree(fields, "kind", resource.kind)?;
    agree(fields, "apiVersion", &resource.api_version())?;
    let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| bad(format!("a {} without metadata", resource.kind)))?;
    let name = metadata.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| bad("name or generateName is required".to_owned()))?.to_owned();
    let namespace = match (resource.is_namespaced, namespace) {
        (false, _) => String::new(),
        (true, Some(namespace)) => namespace.to_owned(),
        (true, None) => return Err(bad("an empty namespace may not be set during creation".to_owned())),
    };
    if resource.is_namespaced {
        agree(metadata, "namespace", &namespace)?;
    }
    Ok((Key { resource, namespace, name }, object))
}

fn agree(fields: &mut Map<String, Value>, field: &str, wanted: &str) -> Result<(), Refusal> {
    let found = fields.entry(field).or_insert_with(|| json!(wanted));
    if *found == wanted {
        return Ok(());
    }
    Err(Refusal::BadRequest(format!("{field} of the object ({found}) does not match the request's ({wanted})")))
}

#[cfg(test)]
mod tests;
