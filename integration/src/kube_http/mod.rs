// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes API server as far as clients on our nodes ask: objects are kept, listed and watched, over plain HTTP.
//!
//! A stateful model: what is put in, by the harness or by a client, is what is listed and watched, with revisions, selectors,
//! bookmarks and `Status` objects as the real server has them. It has no authentication, admission, defaults or validation,
//! no protobuf, no PUT or DELETE over HTTP, and the kinds of [`resource`] alone. What it does not serve it refuses
//! as the real server would; it never answers what it does not know.
//!
//! It can be made to fail ([`Failing`]), to refuse what a client has no right to, and to forget changes; and it keeps which
//! rights a client has used.
//!
//! Invariant: a client that lists and then watches from the list's revision misses no change and sees none twice, or is told
//! `Expired`.
//!
//! ```text
//! harness ── put, delete ──►┌───────┐            GET …        get, list
//!                           │ store │◄── HTTP ── GET …?watch  one JSON object a line, until timeoutSeconds are over
//!                           └───────┘            POST …       create; PATCH …  change, the status or the rest
//! ```
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts".

pub mod patch;
pub mod refusal;
pub mod resource;
pub mod selector;
pub mod store;
mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::sync::watch as latest;

use patch::{Part, Patch};
use refusal::Refusal;
use resource::{Resource, Target};
use selector::Selector;
use store::{Key, Scope, Store};

/// How the server fails, if it does. Watches that run end with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failing {
    /// It does not.
    #[default]
    No,
    /// Every request is refused with 503.
    Unavailable,
    /// Requests are taken and not answered, until it fails otherwise or not at all.
    Hanging,
}

/// A right as rules of RBAC have it: group (empty: core), resource with its part, verb.
pub type Right = (&'static str, String, &'static str);

/// The server; clones are the same one.
#[derive(Clone, Debug)]
pub struct KubeApi(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// The store's revision, for who waits for the next.
    revision: latest::Sender<u64>,
    failing: latest::Sender<Failing>,
    denied: Mutex<BTreeSet<Right>>,
    used: Mutex<BTreeSet<Right>>,
    /// Kinds whose definition is not installed.
    unknown: Mutex<BTreeSet<&'static Resource>>,
}

impl Default for KubeApi {
    fn default() -> Self {
        Self(Arc::new(Shared {
            store: Mutex::default(),
            revision: latest::Sender::new(0),
            failing: latest::Sender::default(),
            denied: Mutex::default(),
            used: Mutex::default(),
            unknown: Mutex::default(),
        }))
    }
}

impl KubeApi {
    /// Adds an object or replaces it, as `kubectl replace --force` would but with its uid kept.
    ///
    /// # Errors
    /// Its metadata don't fit.
    pub fn put(&self, resource: &'static Resource, namespace: Option<&str>, object: Value) -> Result<(), Refusal> {
        self.change(|store| store.put(resource, namespace, object)).map(drop)
    }

    /// Takes an object away.
    ///
    /// # Errors
    /// It is not there.
    pub fn delete(&self, key: &Key) -> Result<(), Refusal> {
        self.change(|store| store.delete(key))
    }

    /// Changes an object, as its controllers would.
    ///
    /// # Errors
    /// It is not there.
    pub fn patch(&self, key: &Key, part: Part, patch: &Patch) -> Result<(), Refusal> {
        self.change(|store| store.patch(key, part, patch)).map(drop)
    }

    /// Forgets all changes: watches end with `Expired`.
    pub fn compact(&self) {
        self.change(Store::compact);
    }

    /// Fails from now on, or not any more.
    pub fn fail(&self, failing: Failing) {
        self.0.failing.send_replace(failing);
    }

    /// Refuses what needs this right from now on, or not any more.
    pub fn deny(&self, right: Right, denied: bool) {
        let mut all = lock(&self.0.denied);
        if denied {
            all.insert(right)
        } else {
            all.remove(&right)
        };
    }

    /// Knows no such kind from now on, as if its CustomResourceDefinition was not installed; or knows it again.
    pub fn unlearn(&self, resource: &'static Resource, unknown: bool) {
        let mut all = lock(&self.0.unknown);
        if unknown {
            all.insert(resource)
        } else {
            all.remove(resource)
        };
    }

    /// Rights that clients have used, denied ones among them.
    #[must_use]
    pub fn used(&self) -> BTreeSet<Right> {
        lock(&self.0.used).clone()
    }

    /// Looks at the store.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&lock(&self.0.store))
    }

    /// All objects of a kind, in the order of their names.
    #[must_use]
    pub fn all(&self, resource: &'static Resource) -> Vec<Value> {
        let scope = Scope { resource, namespace: None, selector: Selector::default() };
        self.read(|store| store.list(&scope).into_iter().cloned().collect())
    }

    /// A condition of a Node, by its type; `None`: there is no such Node, or it does not show it.
    #[must_use]
    pub fn node_condition(&self, node: &str, kind: &str) -> Option<Value> {
        let object = self.read(|store| store.get(&Key::node(node)).cloned()).ok()?;
        object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
    }

    /// What to serve.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = lock(&self.0.store);
        let outcome = change(&mut store);
        // Told under the lock, so that revisions are told in their order.
        self.0.revision.send_if_modified(|revision| std::mem::replace(revision, store.revision()) != store.revision());
        outcome
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(api): State<KubeApi>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    // An error is a server that ends.
    let _ = api.0.failing.subscribe().wait_for(|failing| *failing != Failing::Hanging).await;
    let outcome = match *api.0.failing.borrow() {
        Failing::No | Failing::Hanging => respond(&api, &method, &uri, &headers, &body),
        Failing::Unavailable => Err(Refusal::Unavailable),
    };
    outcome.unwrap_or_else(|refusal| {
        tracing::debug!(%method, %uri, %refusal, "refused");
        let status = StatusCode::from_u16(refusal.code().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(refusal.status())).into_response()
    })
}

fn respond(api: &KubeApi, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response, Refusal> {
    let target = Target::of_path(uri.path()).ok_or(Refusal::NoSuchPath)?;
    if lock(&api.0.unknown).contains(target.resource) {
        return Err(Refusal::NoSuchPath);
    }
    if !is_json(headers, header::ACCEPT) {
        return Err(Refusal::NotAcceptable);
    }
    let query = Query::read(uri.query().unwrap_or_default());
    check_right(api, method, &target, &query)?;
    match (method, target.name) {
        (&Method::GET, Some(name)) if !target.is_status => {
            let key = Key { resource: target.resource, namespace: target.namespace.unwrap_or_default(), name };
            api.read(|store| store.get(&key).cloned()).map(|object| Json(object).into_response())
        }
        (&Method::GET, None) => {
            let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"));
            let selector = selector.map_err(Refusal::BadRequest)?;
            let scope = Scope { resource: target.resource, namespace: target.namespace, selector };
            if matches!(query.get("watch"), "true" | "1") {
                return watch::start(api.clone(), scope, &query);
            }
            Ok(Json(api.read(|store| list(store, &scope))).into_response())
        }
        (&Method::POST, None) => {
            if !is_json(headers, header::CONTENT_TYPE) {
                return Err(Refusal::UnsupportedMediaType);
            }
            let object = serde_json::from_slice(body).map_err(|error| Refusal::BadRequest(error.to_string()))?;
            let made = api.change(|store| store.create(target.resource, target.namespace.as_deref(), object))?;
            Ok((StatusCode::CREATED, Json(made)).into_response())
        }
        (&Method::PATCH, Some(name)) => {
            let key = Key { resource: target.resource, namespace: target.namespace.unwrap_or_default(), name };
            let patch = Patch::read(headers.get(header::CONTENT_TYPE), body)?;
            let part = if target.is_status { Part::Status } else { Part::Object };
            Ok(Json(api.change(|store| store.patch(&key, part, &patch))?).into_response())
        }
        _ => Err(Refusal::MethodNotAllowed),
    }
}

/// Notes the right that a request needs, and refuses it where it was taken away.
fn check_right(api: &KubeApi, method: &Method, target: &Target, query: &Query) -> Result<(), Refusal> {
    let verb = match (method, &target.name) {
        (&Method::GET, None) if matches!(query.get("watch"), "true" | "1") => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PATCH, Some(_)) => "patch",
        _ => return Err(Refusal::MethodNotAllowed),
    };
    let plural = format!("{}{}", target.resource.plural, if target.is_status { "/status" } else { "" });
    let right = (target.resource.group, plural, verb);
    let denied = lock(&api.0.denied).contains(&right);
    lock(&api.0.used).insert(right.clone());
    if denied { Err(Refusal::Forbidden { verb, plural: right.1 }) } else { Ok(()) }
}

/// All of it, whatever `limit` and `resourceVersion` say: at most a limit, and at least that version, are asked for.
fn list(store: &Store, scope: &Scope) -> Value {
    json!({
        "kind": format!("{}List", scope.resource.kind),
        "apiVersion": scope.resource.api_version(),
        "metadata": { "resourceVersion": store.revision().to_string() },
        "items": store.list(scope),
    })
}

/// Whether a header is absent or has JSON among the types that it names.
fn is_json(headers: &HeaderMap, name: HeaderName) -> bool {
    let Some(value) = headers.get(name) else { return true };
    let text = value.to_str().unwrap_or_default();
    text.split(',').any(|kind| matches!(kind.split(';').next().map(str::trim), Some("application/json" | "*/*")))
}

/// Parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Empty when it is not given: the server makes no difference.
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Zero when it is not given.
    fn number(&self, name: &str) -> Result<u64, Refusal> {
        match self.get(name) {
            "" => Ok(0),
            text => text.parse().map_err(|_| Refusal::BadRequest(format!("{name} is no number: {text:?}"))),
        }
    }
}

#[cfg(test)]
mod tests;
