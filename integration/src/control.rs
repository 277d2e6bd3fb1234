// SPDX-License-Identifier: Apache-2.0
//! The control API: JSON over HTTP, for tests and people.
//!
//! Offers over HTTP what `vpc_model::Vpc` offers to its owner: settings, faults, the end of instances, a look at everything.
//! Decides nothing. It is no part of AWS.
//!
//! | method and path | body | does |
//! | --- | --- | --- |
//! | GET /state | | everything there is |
//! | GET, DELETE /calls | | the EC2 calls made so far; forgets them |
//! | GET, PUT /settings | the parts to change | latencies, lags, throttle, quotas, choice of addresses |
//! | GET, POST, DELETE /faults | a fault (`action` …) | faults of the EC2 API; DELETE takes all faults back |
//! | POST /attach-faults | `{instance?, count?, kind}` | an attach that shows no link, or late, or never attaches |
//! | POST /imds-faults | `{instance?, path_prefix, status, count?}` | a status instead of an answer |
//! | POST /move-address | `{from, to, address}` | a secondary address to another ENI, behind everybody's back |
//! | POST /instances | an instance, as in the topology | launches it |
//! | POST /instances/{id}/{stop,start,terminate} | | does so |
//! | POST /vpcs/{id}/cidr-blocks | `"10.1.0.0/16"` | adds a block |
//! | GET /fabric | | counters of the data plane, and what it could not do |

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Value, json};
use vpc_model::{AttachFault, EniId, Fault, ImdsFault, InstanceId, InstanceSpec, InstanceState, Settings, VpcId};

use crate::emulator::Shared;

type Model = State<Arc<Shared>>;

/// Every path of the table above.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/state", get(state))
        .route("/calls", get(calls).delete(forget_calls))
        .route("/settings", get(settings).put(change_settings))
        .route("/faults", get(faults).post(order_fault).delete(clear_faults))
        .route("/attach-faults", post(order_attach_fault))
        .route("/imds-faults", post(order_imds_fault))
        .route("/move-address", post(move_address))
        .route("/instances", post(launch))
        .route("/instances/{id}/{verb}", post(set_instance_state))
        .route("/vpcs/{id}/cidr-blocks", post(add_cidr_block))
        .route("/fabric", get(fabric))
        .with_state(shared)
}

/// The chain of an error, as the body of a 400.
fn refused(error: &dyn std::error::Error) -> Response {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    (StatusCode::BAD_REQUEST, Json(json!({ "error": text }))).into_response()
}

fn done() -> Response {
    Json(json!({})).into_response()
}

async fn state(State(shared): Model) -> Json<Value> {
    Json(shared.visit(|vpc, _| vpc.state()).await)
}

async fn calls(State(shared): Model) -> Json<Value> {
    Json(shared.visit(|vpc, _| json!(vpc.calls().collect::<Vec<_>>())).await)
}

async fn forget_calls(State(shared): Model) -> Response {
    shared.visit(|vpc, _| vpc.forget_calls()).await;
    done()
}

async fn settings(State(shared): Model) -> Json<Value> {
    Json(shared.visit(|vpc, _| json!(vpc.settings())).await)
}

/// Changes what the body names and leaves the rest.
async fn change_settings(State(shared): Model, Json(parts): Json<Value>) -> Response {
    let outcome = shared.visit(move |vpc, _| {
        let mut whole = json!(vpc.settings());
        merge(&mut whole, &parts);
        let changed: Settings = serde_json::from_value(whole)?;
        vpc.change_settings(|settings| *settings = changed);
        Ok::<Value, serde_json::Error>(json!(vpc.settings()))
    });
    match outcome.await {
        Ok(settings) => Json(settings).into_response(),
        Err(error) => refused(&error),
    }
}

/// Objects are merged member by member, everything else is replaced.
fn merge(whole: &mut Value, parts: &Value) {
    match (whole, parts) {
        (Value::Object(whole), Value::Object(parts)) => {
            for (name, part) in parts {
                merge(whole.entry(name.clone()).or_insert(Value::Null), part);
            }
        }
        (whole, parts) => *whole = parts.clone(),
    }
}

async fn faults(State(shared): Model) -> Json<Value> {
    Json(shared.visit(|vpc, _| vpc.faults()).await)
}

async fn order_fault(State(shared): Model, Json(fault): Json<Fault>) -> Response {
    shared.visit(move |vpc, _| vpc.order_fault(fault)).await;
    done()
}

async fn clear_faults(State(shared): Model) -> Response {
    shared.visit(|vpc, _| vpc.clear_faults()).await;
    done()
}

async fn order_attach_fault(State(shared): Model, Json(fault): Json<AttachFault>) -> Response {
    shared.visit(move |vpc, _| vpc.order_attach_fault(fault)).await;
    done()
}

async fn order_imds_fault(State(shared): Model, Json(fault): Json<ImdsFault>) -> Response {
    shared.visit(move |vpc, _| vpc.order_imds_fault(fault)).await;
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: EniId,
    to: EniId,
    address: Ipv4Addr,
}

async fn move_address(State(shared): Model, Json(order): Json<Move>) -> Response {
    let outcome =
        shared.visit(move |vpc, now| vpc.move_address_behind_back(&order.from, &order.to, order.address, now)).await;
    match outcome {
        Ok(()) => done(),
        Err(error) => refused(&error),
    }
}

async fn launch(State(shared): Model, Json(spec): Json<InstanceSpec>) -> Response {
    match shared.visit(move |vpc, now| vpc.launch(spec, now)).await {
        Ok(id) => Json(json!({ "instance": id })).into_response(),
        Err(error) => refused(&error),
    }
}

async fn set_instance_state(State(shared): Model, Path((id, verb)): Path<(String, String)>) -> Response {
    let state = match verb.as_str() {
        "start" => InstanceState::Running,
        "stop" => InstanceState::Stopped,
        "terminate" => InstanceState::Terminated,
        _ => return (StatusCode::NOT_FOUND, Json(json!({"error": "start, stop or terminate"}))).into_response(),
    };
    match shared.visit(move |vpc, now| vpc.set_instance_state(&InstanceId(id), state, now)).await {
        Ok(()) => done(),
        Err(error) => refused(&error),
    }
}

async fn add_cidr_block(State(shared): Model, Path(id): Path<String>, Json(block): Json<Ipv4Net>) -> Response {
    match shared.visit(move |vpc, _| vpc.associate_cidr_block(&VpcId(id), block)).await {
        Ok(()) => done(),
        Err(error) => refused(&error),
    }
}

async fn fabric(State(shared): Model) -> Json<Value> {
    let looked = tokio::task::spawn_blocking(move || (shared.counters(), shared.data_plane_errors())).await;
    let (counters, errors) = looked.unwrap_or((Value::Null, Vec::new()));
    Json(json!({ "counters": counters, "errors": errors }))
}
