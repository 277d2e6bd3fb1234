// SPDX-License-Identifier: Apache-2.0
//! What runs in the cluster: servers that say whom they see, and clients that keep a connection. All of it is busybox.

use std::net::Ipv4Addr;

use integration::cluster::IMAGE;
use serde_json::{Value, json};

/// Says from which address it is asked.
pub(crate) const WEB: u16 = 8080;
/// Says again what it is told.
pub(crate) const ECHO: u16 = 9000;

/// A server: a web server whose page is the address that it sees and its own name, and an echo.
const SERVE: &str = "b=/bin/busybox; $b mkdir -p /www/cgi-bin\n\
    { echo '#!/bin/sh'; echo 'echo \"Content-Type: text/plain\"; echo; echo $REMOTE_ADDR; cat /etc/hostname'; } >/www/cgi-bin/seen\n\
    $b chmod 755 /www/cgi-bin/seen; nc -ll -p 9000 -e cat & exec httpd -f -p 0.0.0.0:8080 -h /www";

/// Asks for the page, in a shell. (busybox's wget dies of a time-out option.)
pub(crate) fn asks(host: Ipv4Addr, port: u16) -> String {
    format!("printf 'GET /cgi-bin/seen HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {host} {port}")
}

/// What the page said: the address that the server saw, and the server's name.
pub(crate) fn seen(answer: &str) -> Result<(Ipv4Addr, String), String> {
    let body = answer.replace('\r', "");
    let mut lines =
        body.split_once("\n\n").map(|(_, body)| body.lines()).ok_or_else(|| format!("no page: {answer:?}"))?;
    let first = lines.next().unwrap_or_default().trim_start_matches("[::ffff:").trim_end_matches(']');
    let address = first.parse().map_err(|error| format!("{error}: {answer:?}"))?;
    Ok((address, lines.next().unwrap_or_default().to_owned()))
}

/// A template of pods that serve, and are ready when kubelet gets their page; on one node, or spread evenly over all.
fn template(app: &str, node: Option<&str>) -> Value {
    let probe = json!({ "httpGet": { "path": "/cgi-bin/seen", "port": WEB }, "periodSeconds": 1 });
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": true,
        "containers": [container(SERVE)],
    });
    spec["containers"][0]["readinessProbe"] = probe;
    match node {
        Some(node) => spec["nodeSelector"] = json!({ "kubernetes.io/hostname": node }),
        None => {
            spec["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": { "matchLabels": { "app": app } },
            }]);
        }
    }
    json!({ "metadata": { "labels": { "app": app } }, "spec": spec })
}

fn container(script: &str) -> Value {
    json!({ "name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script] })
}

/// A Deployment of servers.
pub(crate) fn deployment(app: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": app },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": app } }, "template": template(app, None),
        },
    })
}

/// A server by itself, on a node.
pub(crate) fn pod(app: &str, name: &str, node: &str) -> Value {
    let mut pod = template(app, Some(node));
    pod["metadata"]["name"] = json!(name);
    pod
}

/// A pod on a node that tells an echo something each half second over one connection, and ends with it.
pub(crate) fn client(app: &str, name: &str, node: &str, server: &str) -> Value {
    let script = format!("(while :; do echo tick; /bin/busybox usleep 500000; done) | nc {server} {ECHO} >/heard");
    json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": {
            "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "nodeSelector": { "kubernetes.io/hostname": node }, "containers": [container(&script)],
        },
    })
}

/// A Service in front of servers.
pub(crate) fn service(app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": app },
        "spec": { "selector": { "app": app }, "ports": [{ "port": 80, "targetPort": WEB }] },
    })
}
