// SPDX-License-Identifier: Apache-2.0
//! `runtimeConfig.portMappings` (CNI conventions): containerd writes `HostPort`, others `hostPort`, so keys count in any case.
//!
//! | key | default | rule |
//! |---|---|---|
//! | `hostPort` | 0: none, the mapping is left out | 0..=65535 |
//! | `containerPort` | required | 1..=65535 |
//! | `protocol` | `tcp` | `tcp`, `udp`, `sctp` in any case |
//! | `hostIP` | any | an address; an IPv6 one is for pods with IPv6, and left out |

use std::net::IpAddr;

use datapath::plan::hostport::{HostPort, Protocol};
use serde_json::{Map, Value};

use super::invalid;
use crate::error::CniError;

const KEY: &str = "runtimeConfig.portMappings";

/// Sorted, each once.
pub(super) fn host_ports(keys: &Map<String, Value>) -> Result<Vec<HostPort>, CniError> {
    let list = match keys.get("runtimeConfig").and_then(|config| config.get("portMappings")) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(invalid(KEY, "a list", other)),
    };
    let mut ports: Vec<HostPort> =
        list.iter().map(host_port).filter_map(Result::transpose).collect::<Result<_, _>>()?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

fn host_port(mapping: &Value) -> Result<Option<HostPort>, CniError> {
    let wrong = || invalid(KEY, "a list of {hostPort, containerPort, protocol, hostIP}", mapping);
    let fields = mapping.as_object().ok_or_else(wrong)?;
    let field = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let number = |name| match field(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().and_then(|number| u16::try_from(number).ok()).ok_or_else(wrong),
    };
    let text = |name| match field(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => value.as_str().map(str::to_ascii_lowercase).ok_or_else(wrong),
    };
    let (host_port, pod_port) = (number("hostPort")?, number("containerPort")?);
    if host_port == 0 {
        return Ok(None);
    }
    let protocol = match text("protocol")?.as_str() {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(wrong()),
    };
    let host_address = match text("hostIP")?.as_str() {
        "" => None,
        address => match address.parse().map_err(|_| wrong())? {
            IpAddr::V4(address) if address.is_unspecified() => None,
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(address) if address.is_unspecified() => None,
            IpAddr::V6(_) => return Ok(None),
        },
    };
    if pod_port == 0 { Err(wrong()) } else { Ok(Some(HostPort { protocol, host_address, host_port, pod_port })) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(mappings: Value) -> Result<Vec<String>, CniError> {
        let conf = json!({ "runtimeConfig": { "portMappings": mappings } });
        let ports = host_ports(conf.as_object().unwrap())?;
        Ok(ports.iter().map(|port| format!("{port} to {}", port.pod_port)).collect())
    }

    #[test]
    fn mappings_are_read_as_each_runtime_writes_them() {
        let containerd = json!([{ "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }]);
        let podman = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "TCP" }]);
        for mappings in [containerd, podman] {
            assert_eq!(parse(mappings).unwrap(), ["8080/tcp to 80"]);
        }
        let table = [
            (json!(null), vec![]),
            (json!([{ "hostPort": 0, "containerPort": 80 }]), vec![]),
            (
                json!([{ "hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "10.0.0.10" }]),
                vec!["10.0.0.10:53/udp to 5353"],
            ),
            (
                json!([{ "hostPort": 1, "containerPort": 2, "hostIP": "0.0.0.0" }, { "hostPort": 1, "containerPort": 2 }]),
                vec!["1/tcp to 2"],
            ),
            (json!([{ "hostPort": 1, "containerPort": 2, "hostIP": "fd00::1", "protocol": "sctp" }]), vec![]),
        ];
        for (mappings, expected) in table {
            assert_eq!(parse(mappings.clone()).unwrap(), expected, "{mappings}");
        }
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for mappings in [
            json!({}),
            json!(["8080:80"]),
            json!([{ "hostPort": 8080 }]),
            json!([{ "hostPort": 70000, "containerPort": 80 }]),
            json!([{ "hostPort": 1, "containerPort": 1, "protocol": "icmp" }]),
            json!([{ "hostPort": 1, "containerPort": 1, "hostIP": "here" }]),
        ] {
            assert!(parse(mappings.clone()).is_err(), "{mappings}");
        }
    }
}
