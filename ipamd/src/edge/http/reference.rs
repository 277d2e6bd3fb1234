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
#[cfg(test)]
use ipamd_core::snapshot::PodSnapshot;
use ipamd_core::snapshot::{AddressSnapshot, EniSnapshot};
use ipamd_core::tags::rfc3339;
use ipnet::Ipv4Net;
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
    let mut blocks: BTreeMap<String, (Option<Ipv4Net>, Vec<&AddressSnapshot>)> = BTreeMap::new();
    for address in snapshot.addresses.iter().filter(|address| address.eni_id == eni.eni_id) {
        let block = address.prefix.map_or_else(|| format!("{}/32", address.address), |prefix| prefix.to_string());
        blocks.entry(block).or_insert((address.prefix, Vec::new())).1.push(address);
    }
    let blocks: BTreeMap<String, Value> = blocks
        .into_iter()
        .map(|(block, (prefix, addresses))| (block, reference_cidr(prefix, &addresses, snapshot)))
        .collect();
    json!({
        "ID": eni.eni_id,
        "IsPrimary": eni.device_index.0 == 0,
        "IsTrunk": false,
        "IsEFA": false,
        "DeviceNumber": eni.device_index,
        "AvailableIPv4Cidrs": blocks,
        "IPv6Cidrs": {},
        "IsExcludedForPodIPs": eni.excluded,
        "RouteTableID": eni.table,
        "SubnetID": eni.subnet_id,
    })
}

/// A single address, or a /28 with those of its addresses that pods have.
fn reference_cidr(prefix: Option<Ipv4Net>, addresses: &[&AddressSnapshot], snapshot: &Snapshot) -> Value {
    let held: serde_json::Map<String, Value> =
        addresses.iter().filter_map(|address| Some((address.address.to_string(), held(address, snapshot)?))).collect();
    // Go's JSON has bytes in base64: 255.255.255.240, 255.255.255.255.
    let mask = if prefix.is_some() { "////8A==" } else { "/////w==" };
    let first = prefix.map(|prefix| prefix.addr()).or_else(|| addresses.first().map(|address| address.address));
    json!({
        "Cidr": { "IP": first, "Mask": mask },
        "IPAddresses": held,
        "IsPrefix": prefix.is_some(),
        "AddressFamily": "",
    })
}

/// Of an address that a pod has.
fn held(address: &AddressSnapshot, snapshot: &Snapshot) -> Option<Value> {
    let pod = snapshot.pods.iter().find(|pod| pod.address == address.address)?;
    let mut metadata = serde_json::Map::new();
    if !pod.pod.name.is_empty() {
        metadata.insert("k8sPodNamespace".to_owned(), json!(pod.pod.namespace));
        metadata.insert("k8sPodName".to_owned(), json!(pod.pod.name));
    }
    let network = pod.key.split('/').next().unwrap_or_default();
    Some(json!({
        "Address": address.address,
        "IPAMKey": { "networkName": network, "containerID": "", "ifName": "" },
        "IPAMMetadata": metadata,
        "AssignedTime": rfc3339(pod.allocated_unix_nanos),
        // Go's zero time.
        "UnassignedTime": "0001-01-01T00:00:00Z",
    }))
}

#[cfg(test)]
mod tests {
    use ipamd_core::event::KernelView;
    use ipamd_core::ids::PodRef;
    use ipamd_core::{Config, Core, Restored};

    use super::*;

    fn address(text: &str, prefix: Option<&str>) -> AddressSnapshot {
        AddressSnapshot {
            address: text.parse().unwrap(),
            eni_id: Some("eni-1".into()),
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            state: "free".to_owned(),
            cooling_for_ms: None,
        }
    }

    #[test]
    fn an_eni_in_an_excluded_subnet_says_so() {
        let found = Restored::read(None, None, KernelView::default(), "boot".to_owned());
        let (core, _) = Core::new(Config::default(), found, crate::clock::now());
        let mut snapshot = core.snapshot(crate::clock::now());
        let eni = |id: &str, device: u32, excluded: bool| {
            let shown = json!({
                "eniId": id, "state": "Ready", "stateForMs": 0, "deviceIndex": device, "table": device + 1, "subnetId": "subnet-1",
                "created": true, "excluded": excluded, "total": 0, "allocated": 0, "free": 0, "cooling": 0, "assigning": 0,
            });
            serde_json::from_value::<EniSnapshot>(shown).unwrap()
        };
        snapshot.enis = vec![eni("eni-1", 0, true), eni("eni-2", 1, false)];
        let enis = reference_enis(&snapshot)["0"]["ENIs"].take();
        assert_eq!(enis["eni-1"]["IsExcludedForPodIPs"], true);
        assert_eq!(enis["eni-2"]["IsExcludedForPodIPs"], false);
        assert_eq!((&enis["eni-1"]["IsPrimary"], &enis["eni-2"]["RouteTableID"]), (&json!(true), &json!(2)));
    }

    #[test]
    fn a_prefix_is_one_block_with_the_addresses_of_its_pods() {
        let found = Restored::read(None, None, KernelView::default(), "boot".to_owned());
        let (core, _) = Core::new(Config::default(), found, crate::clock::now());
        let mut snapshot = core.snapshot(crate::clock::now());
        let prefix = Some("10.0.1.16/28");
        snapshot.addresses =
            vec![address("10.0.1.17", prefix), address("10.0.1.18", prefix), address("10.0.2.5", None)];
        snapshot.pods = vec![PodSnapshot {
            key: "aws-cni/c1/eth0".to_owned(),
            pod: PodRef { namespace: "shop".to_owned(), name: "web-0".to_owned() },
            address: "10.0.1.18".parse().unwrap(),
            eni_id: Some("eni-1".into()),
            device_index: None,
            allocated_unix_nanos: 1_700_000_000_000_000_000,
            orphan_for_ms: None,
        }];
        let addresses: Vec<&AddressSnapshot> = snapshot.addresses.iter().collect();
        let block = reference_cidr(addresses[0].prefix, &addresses[..2], &snapshot);
        assert_eq!(block["Cidr"], json!({ "IP": "10.0.1.16", "Mask": "////8A==" }));
        assert_eq!((&block["IsPrefix"], block["IPAddresses"].as_object().unwrap().len()), (&json!(true), 1));
        let pod = &block["IPAddresses"]["10.0.1.18"];
        assert_eq!(pod["IPAMMetadata"], json!({ "k8sPodNamespace": "shop", "k8sPodName": "web-0" }));
        assert_eq!(pod["AssignedTime"], "2023-11-14T22:13:20Z");
        assert_eq!(pod["IPAMKey"]["containerID"], "");
        let single = reference_cidr(None, &addresses[2..], &snapshot);
        assert_eq!(single["Cidr"], json!({ "IP": "10.0.2.5", "Mask": "/////w==" }));
        assert_eq!((&single["IsPrefix"], &single["IPAddresses"]), (&json!(false), &json!({})));
    }
}
