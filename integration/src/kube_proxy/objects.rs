// SPDX-License-Identifier: Apache-2.0
//! Services as the cluster's objects: what a user, the endpoint slice controller and the kubelet would have written.
//!
//! Replicas listen on ports of their own, and the ports of a slice are those of all its endpoints: so each has its own slice.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::kube_http::resource::{ENDPOINT_SLICES, Resource, SERVICES};

use super::{Policy, Service};

/// Where all of it is.
pub(super) const NAMESPACE: &str = "default";

/// A node that is not this one.
const ELSEWHERE: &str = "elsewhere";

/// A node with an address.
pub(super) fn node(name: &str, address: Ipv4Addr) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
    })
}

/// The objects of Services, seen from the node called so.
pub(super) fn all(services: &[Service], node: &str) -> Vec<(&'static Resource, Value)> {
    let objects = services.iter().enumerate().flat_map(|(number, service)| {
        let name = format!("service-{number}");
        let slices =
            (0..service.endpoints.len()).map(|position| (&ENDPOINT_SLICES, slice(&name, service, position, node)));
        std::iter::once((&SERVICES, object(&name, service))).chain(slices.collect::<Vec<_>>())
    });
    objects.collect()
}

fn object(name: &str, service: &Service) -> Value {
    let port = |transport: &str| {
        let mut port = json!({ "name": transport.to_lowercase(), "protocol": transport, "port": service.port });
        if let Some((node_port, _)) = service.node_port {
            port["nodePort"] = json!(node_port);
        }
        port
    };
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": service.address, "sessionAffinity": "None",
        "ports": [port("TCP"), port("UDP")],
    });
    if let Some((_, policy)) = service.node_port {
        spec["type"] = json!("NodePort");
        spec["externalTrafficPolicy"] = json!(if policy == Policy::Local { "Local" } else { "Cluster" });
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn slice(service: &str, of: &Service, position: usize, node: &str) -> Value {
    let (endpoint, is_local) = of.endpoints[position];
    let hostname = if is_local { node } else { ELSEWHERE };
    let port =
        |transport: &str| json!({ "name": transport.to_lowercase(), "protocol": transport, "port": endpoint.port() });
    json!({
        "metadata": {
            "name": format!("{service}-{position}"), "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [endpoint.ip()], "conditions": { "ready": true },
            "topology": { "kubernetes.io/hostname": hostname },
        }],
        "ports": [port("TCP"), port("UDP")],
    })
}
