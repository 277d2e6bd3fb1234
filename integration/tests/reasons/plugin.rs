// SPDX-License-Identifier: Apache-2.0
//! What the plugin says by itself: wrong calls, a kernel or an agent that does not do its part, a daemon that is not there.

use integration::sandbox::{NetnsPath, Refused};
use rustix::process::Signal;
use serde_json::json;

use crate::bed::{Bed, refusal};

fn env(variable: &str) -> Vec<String> {
    vec!["/usr/bin/env".to_owned(), variable.to_owned()]
}

fn refused_under(bed: &Bed, variable: &str) -> Refused {
    let n1 = bed.node("n1");
    refusal(n1.runtime.under(env(variable)).add(&n1.next_sandbox().unwrap()).unwrap_err())
}

#[test]
fn calls_that_are_wrong_and_pods_that_cannot_be_plumbed() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[]);
    bed.shows("n1", "PlumbingFailed", Some(&refused_under(&bed, "CNI_NETNS=/run/netns/nowhere")));
    bed.shows("n1", "ParametersInvalid", Some(&refused_under(&bed, "CNI_IFNAME=lo")));
    let n1 = bed.node("n1");
    let sandbox = || n1.next_sandbox().unwrap();
    let refused = refusal(n1.runtime.with_ports(json!("x")).add(&sandbox()).unwrap_err());
    bed.shows("n1", "NetworkConfigInvalid", Some(&refused));
    let refused = refusal(n1.runtime.speaking("9.9.9").add(&sandbox()).unwrap_err());
    bed.shows("n1", "CniVersionUnsupported", Some(&refused));

    let with_port = n1.runtime.with_ports(json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]));
    let (first, second) = (sandbox(), sandbox());
    with_port.add(&first).unwrap();
    bed.shows("n1", "HostPortsFailed", Some(&refusal(with_port.add(&second).unwrap_err())));
    bed.topology.world.tools.ip(&first.netns, "link del eth0\n").unwrap();
    bed.shows("n1", "NotAsAttached", Some(&refusal(with_port.check(&first).unwrap_err())));
}

#[test]
fn an_agent_and_a_daemon_that_are_not_there() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[("NETWORK_POLICY_ENFORCING_MODE", "standard")]);
    bed.shows("n1", "PolicyAgentUnavailable", Some(&bed.refused("n1", 5_000)));
    bed.topology.node_mut("n1").daemon().unwrap().signal(Signal::STOP).unwrap();
    let silent = refused_under(&bed, "ENID_ADD_BUDGET_MS=1000");
    bed.topology.node_mut("n1").daemon().unwrap().signal(Signal::CONT).unwrap();
    bed.shows("n1", "DaemonSilent", Some(&silent));
    assert!(bed.topology.node_mut("n1").stop());
    bed.shows("n1", "DaemonUnreachable", Some(&refused_under(&bed, "ENID_ADD_BUDGET_MS=1000")));
    let n1 = bed.node("n1");
    n1.runtime.del(&n1.next_sandbox().unwrap(), NetnsPath::Given).unwrap();
    bed.shows("n1", "DelUnconfirmed", None);
}
