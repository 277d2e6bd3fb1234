// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes API server as far as clients on our nodes ask: objects are kept, listed and watched, over plain HTTP.
//!
//! A stateful model: what is put in, by the harness or by a POST, is what is listed and watched, with revisions, selectors,
//! bookmarks and `Status` objects as the real server has them. It has no authentication, admission, defaults or validation,
//! no protobuf, no PUT, PATCH or DELETE over HTTP, and the kinds of [`resource`] alone. What it does not serve it refuses
//! as the real server would; it never answers what it does not know.
//!
//! Invariant: a client that lists and then watches from the list's revision misses no change and sees none twice, or is told
//! `Expired`.
//!
//! ```text
//! harness ── put, delete ──►┌───────┐            GET …        get, list
//!                           │ store │◄── HTTP ── GET …?watch  one JSON object a line, until timeoutSeconds are over
//!                           └───────┘            POST …       create
//! ```
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts".

pub mod refusal;
pub mod resource;
pub mod selector;
pub mod store;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::sync::watch as latest;

use refusal::Refusal;
use resource::{Resource, Target};
use selector::Selector;
use store::{Key, Scope, Store};

/// The server; clones are the same one.
#[derive(Clone, Debug)]
pub struct KubeApi(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// The store's revision, for who waits for the next.
    revision: latest::Sender<u64>,
}

impl Default for KubeApi {
    fn default() -> Self {
        Self(Arc::new(Shared { store: Mutex::default(), revision: latest::Sender::new(0) }))
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

    /// Looks at the store.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.0.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What to serve.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut store);
        // Told under the lock, so that revisions are told in their order.
        self.0.revision.send_if_modified(|revision| std::mem::replace(revision, store.revision()) != store.revision());
        outcome
    }
}

async fn answer(State(api): State<KubeApi>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let outcome = respond(&api, &method, &uri, &headers, &body);
    outcome.unwrap_or_else(|refusal| {
        tracing::debug!(%method, %uri, %refusal, "refused");
        let status = StatusCode::from_u16(refusal.code().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(refusal.status())).into_response()
    })
}

fn respond(api: &KubeApi, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response, Refusal> {
    let target = Target::of_path(uri.path()).ok_or(Refusal::NoSuchPath)?;
    if !is_json(headers, header::ACCEPT) {
        return Err(Refusal::NotAcceptable);
    }
    let query = Query::read(uri.query().unwrap_or_default());
    match (method, target.name) {
        (&Method::GET, Some(name)) => {
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
        _ => Err(Refusal::MethodNotAllowed),
    }
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
