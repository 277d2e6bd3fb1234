// SPDX-License-Identifier: Apache-2.0
//! The daemon is restarted on both nodes while pods come, as a DaemonSet's roll-out does, and not as it does.

use std::collections::BTreeMap;
use std::time::Duration;

use integration::eventually::pass;
use serde_json::json;

use crate::bed::{Bed, DEPLOYMENTS, PODS, Pod};
use crate::workloads::{client, deployment};

/// Each daemon is ended so often, by kill -9 and by SIGTERM in turn.
const ROUNDS: usize = 3;
/// Without a daemon; an ADD waits for it.
const AWAY: Duration = Duration::from_millis(1500);

#[test]
fn rolling_restarts_of_the_daemon_while_pods_come_cost_no_readiness_no_address_and_no_connection() {
    let mut bed = Bed::started(&[]);
    bed.create(DEPLOYMENTS, &deployment("web", 4));
    let servers = bed.wait_pods("web", 4);
    // From each node to the other, and within each.
    let mut number = 0;
    for server in &servers {
        for node in ["n1", "n2"] {
            let address = server.address.unwrap().to_string();
            bed.create(PODS, &client("talk", &format!("talk-{number}"), node, &address));
            number += 1;
        }
    }
    let clients = bed.wait_pods("talk", number);
    let (since, heard) = (bed.ready_since(), heard(&bed, &clients));

    bed.create(DEPLOYMENTS, &deployment("more", 0));
    let mut wanted = 0;
    for round in 0..ROUNDS {
        for node in bed.cluster.nodes() {
            wanted += 1;
            let more = json!({ "spec": { "replicas": wanted } });
            bed.cluster.api().merge(&format!("{DEPLOYMENTS}/more"), &more).unwrap();
            let node = bed.cluster.topology.node_mut(&node);
            if round % 2 == 0 {
                node.kill();
            } else {
                assert!(node.stop(), "SIGTERM ends it well");
            }
            pass(AWAY);
            node.start().unwrap();
            pass(AWAY);
        }
    }
    bed.wait_pods("more", wanted);
    assert_eq!(bed.ready_since(), since, "a node was not Ready meanwhile");
    assert_eq!(bed.wait_pods("web", 4), servers, "a server lost its address, its readiness or its container");
    assert_eq!(bed.wait_pods("talk", number), clients, "a client lost its connection");
    for (name, before) in heard {
        let client = clients.iter().find(|client| client.name == name).unwrap();
        bed.wait(&format!("{name} hears more"), Duration::from_secs(10), || {
            let now = lines(&bed, client);
            if now > before + ROUNDS { Ok(()) } else { Err(format!("{now} lines, {before} before")) }
        });
    }
}

/// How much each client has heard.
fn heard(bed: &Bed, clients: &[Pod]) -> BTreeMap<String, usize> {
    clients.iter().map(|client| (client.name.clone(), lines(bed, client))).collect()
}

fn lines(bed: &Bed, client: &Pod) -> usize {
    bed.runs(client, "cat /heard").lines().count()
}
