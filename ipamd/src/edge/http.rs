// SPDX-License-Identifier: Apache-2.0
//! Introspection: the state as JSON and the probes, on loopback or a Unix socket, without secrets.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/status` | the core's snapshot, with the notes of settings and of the configuration list, and how Kubernetes is talked to |
//! | `/v1/config` | every variable, its value, and the layer that it comes from; what is wrong with the layers now |
//! | `/v1/enis` | the reference's shape: cards, ENIs, addresses (key parts that could forge a DEL are blank, as there) |
//! | `/healthz` | 200 while the driver's loop turns; answered from an atomic, never by the loop |
//! | `/readyz` | 200 once an address of this boot was proven |

#![expect(clippy::disallowed_methods, reason = "waits before it listens again; removes its own stale socket")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipamd_core::Snapshot;
use ipamd_core::config::{Bind, ConfigSnapshot};
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::clock;
use crate::driver::Heartbeat;
use crate::edge::kube::Status;
use crate::edge::layers::Board;
use crate::inbox::Inbox;

/// Pause before listening is tried again: another process may hold the port.
const PAUSE: Duration = Duration::from_secs(5);

/// What the handlers see.
#[derive(Clone, Debug)]
pub(crate) struct Introspection {
    pub(crate) inbox: Inbox,
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// What settings have come to.
    pub(crate) settings: Board,
    pub(crate) kubernetes: Status,
    /// Of the configuration list, as they are now.
    pub(crate) conflist: watch::Receiver<Vec<String>>,
}

/// Serves for ever.
pub(crate) async fn serve(bind: Bind, state: Introspection) {
    loop {
        if let Err(error) = serve_once(&bind, router(state.clone())).await {
            tracing::warn!(?bind, %error, "introspection cannot be served, trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serve_once(bind: &Bind, router: Router) -> std::io::Result<()> {
    match bind {
        Bind::Tcp(address) => axum::serve(TcpListener::bind(address).await?, router).await,
        Bind::Unix(path) => {
            // Ours: the single-instance lock is held.
            let _ = std::fs::remove_file(path);
            axum::serve(UnixListener::bind(path)?, router).await
        }
    }
}

fn router(state: Introspection) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/config", get(config))
        .route("/v1/enis", get(enis))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(commands)
        .with_state(state)
}

async fn commands() -> Json<Value> {
    Json(json!({ "AvailableCommands": ["/v1/status", "/v1/config", "/v1/enis", "/healthz", "/readyz"] }))
}

async fn snapshot(state: &Introspection) -> Result<Snapshot, (StatusCode, &'static str)> {
    let snapshot = state.inbox.snapshot().await;
    let snapshot = snapshot.ok_or((StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n"))?;
    let notes = state.settings.notes().into_iter().chain(state.conflist.borrow().iter().cloned()).collect();
    Ok(Snapshot { notes, kubernetes: state.kubernetes.show(), ..snapshot })
}

async fn status(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) => Json(snapshot).into_response(),
        Err(answer) => answer.into_response(),
    }
}

async fn config(State(state): State<Introspection>) -> Json<ConfigSnapshot> {
    Json(state.settings.snapshot())
}

async fn enis(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) => Json(reference_enis(&snapshot)).into_response(),
        Err(answer) => answer.into_response(),
    }
}

async fn healthz(State(state): State<Introspection>) -> Response {
    match state.heartbeat.age(clock::boot()) {
        (_, true) => "ok\n".into_response(),
        (age, false) => {
            let text = format!("the driver's loop has not turned for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) if snapshot.serving => "ok\n".into_response(),
        Ok(snapshot) => {
            let text = format!("no address of this boot proven yet: {}\n", snapshot.why.text);
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(answer) => answer.into_response(),
    }
}

/// The reference's `/v1/enis` (amazon-vpc-cni-k8s, introspection), card 0.
fn reference_enis(snapshot: &Snapshot) -> Value {
    let enis: BTreeMap<String, Value> = snapshot
        .enis
        .iter()
        .filter_map(|eni| Some((eni.eni_id.as_ref()?.to_string(), reference_eni(eni, snapshot))))
        .collect();
    json!({ "0": {
        "TotalIPs": snapshot.pool.total,
        "AssignedIPs": snapshot.pool.allocated,
        "ENIs": enis,
    }})
}

fn reference_eni(eni: &EniSnapshot, snapshot: &Snapshot) -> Value {
    let addresses: BTreeMap<String, Value> = snapshot
        .addresses
        .iter()
        .filter(|address| address.eni_id == eni.eni_id)
        .map(|address| (format!("{}/32", address.address), reference_cidr(address, snapshot)))
        .collect();
    json!({
        "ID": eni.eni_id,
        "IsPrimary": eni.device_index.0 == 0,
        "IsTrunk": false,
        "IsEFA": false,
        "DeviceNumber": eni.device_index,
        "AvailableIPv4Cidrs": addresses,
        "IPv6Cidrs": {},
        "IsExcludedForPodIPs": false,
        "RouteTableID": eni.table,
        "SubnetID": eni.subnet_id,
    })
}

fn reference_cidr(address: &AddressSnapshot, snapshot: &Snapshot) -> Value {
    let pod = snapshot.pods.iter().find(|pod| pod.address == address.address);
    let network = pod.and_then(|pod| pod.key.split('/').next()).unwrap_or_default();
    let mut metadata = serde_json::Map::new();
    if let Some(pod) = pod.filter(|pod| !pod.pod.name.is_empty()) {
        metadata.insert("k8sPodNamespace".to_owned(), json!(pod.pod.namespace));
        metadata.insert("k8sPodName".to_owned(), json!(pod.pod.name));
    }
    let mut held = serde_json::Map::new();
    if pod.is_some() {
        let key = json!({ "networkName": network, "containerID": "", "ifName": "" });
        let value = json!({ "Address": address.address, "IPAMKey": key, "IPAMMetadata": metadata });
        held.insert(address.address.to_string(), value);
    }
    json!({
        "Cidr": { "IP": address.address, "Mask": "/////w==" },
        "IPAddresses": held,
        "IsPrefix": false,
        "AddressFamily": "",
    })
}
