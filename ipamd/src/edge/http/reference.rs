// SPDX-License-Identifier: Apache-2.0
//! The reference's introspection (amazon-vpc-cni-k8s 1.23): same paths, same JSON. Key parts that could forge a DEL are blank, as there.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/enis` | cards, ENIs, addresses |
//! | `/v1/eni-configs` | the name of the node's ENIConfig as a JSON string; 404 while none is known |
//! | `/v1/networkutils-env-settings` | settings of the host's network |
//! | `/v1/ipamd-env-settings` | settings of the pool |

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ipamd_core::Snapshot;
use ipamd_core::config::{ConfigSnapshot, PortChoice};
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot};
use serde_json::{Value, json};

use super::{Introspection, snapshot};

pub(super) async fn enis(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await {
        Ok(snapshot) => Json(reference_enis(&snapshot)).into_response(),
        Err(answer) => answer.into_response(),
    }
}

pub(super) async fn eni_configs(State(state): State<Introspection>) -> Response {
    match snapshot(&state).await.map(|snapshot| snapshot.pod_network) {
        Ok(Some(network)) if network.eni_config.is_some() => Json(json!(network.eni_config)).into_response(),
        Ok(Some(_)) => (StatusCode::NOT_FOUND, "nobody has said yet which ENIConfig this node has\n").into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "custom networking is off\n").into_response(),
        Err(answer) => answer.into_response(),
    }
}

pub(super) async fn network_settings(State(state): State<Introspection>) -> Json<Value> {
    let snat = &state.config.snat;
    let blocks = state.blocks.borrow();
    // A nil slice in Go's JSON.
    let list = |blocks: &[ipnet::Ipv4Net]| if blocks.is_empty() { Value::Null } else { json!(blocks) };
    let choice = match snat.port_choice {
        PortChoice::None => 0,
        PortChoice::HashRandom => 1,
        PortChoice::Prng => 2,
    };
    Json(json!({
        "AWS_VPC_K8S_CNI_CONNMARK": snat.connmark,
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": list(&blocks.exclude),
        "AWS_VPC_K8S_CNI_EXTERNALSNAT": snat.external,
        "AWS_EXTERNAL_SERVICE_CIDRS": list(&blocks.external_services),
        "AWS_VPC_ENI_MTU": state.config.eni_mtu,
        "AWS_VPC_K8S_CNI_VETHPREFIX": state.config.veth_prefix,
        "AWS_VPC_CNI_NODE_PORT_SUPPORT": snat.serves_node_ports,
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT": choice,
    }))
}

pub(super) async fn pool_settings(State(state): State<Introspection>) -> Json<Value> {
    let config = state.settings.snapshot();
    Json(json!({
        "WARM_IP_TARGET": number(&config, "WARM_IP_TARGET", 0),
        "WARM_ENI_TARGET": number(&config, "WARM_ENI_TARGET", 1),
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": switch(&config, "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", false),
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE": switch(&config, "AWS_MANAGE_ENIS_NON_SCHEDULABLE", false),
        "ENABLE_SUBNET_DISCOVERY": switch(&config, "ENABLE_SUBNET_DISCOVERY", true),
    }))
}

fn value<'a>(config: &'a ConfigSnapshot, name: &str) -> Option<&'a str> {
    config.variables.iter().find(|variable| variable.variable == name)?.value.as_deref()
}

/// What the reference has where nothing is set, in its own words.
fn number(config: &ConfigSnapshot, name: &str, default: u32) -> u32 {
    value(config, name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}

fn switch(config: &ConfigSnapshot, name: &str, default: bool) -> bool {
    value(config, name).and_then(|text| text.trim().to_lowercase().parse().ok()).unwrap_or(default)
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
