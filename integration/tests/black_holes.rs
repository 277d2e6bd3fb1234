// SPDX-License-Identifier: Apache-2.0
//! Packets to IMDS, EC2, STS or the name server are lost: no answer, no refusal, as behind a wrong route or security group.
//!
//! A new node says within 15 s what it waits for; a node with a journal serves on.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; reads the clock, writes files"
)]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};

/// How soon the cause must be named.
const NAMED: Duration = Duration::from_secs(15);
/// A port of which nobody listens.
const NOBODY: u16 = 4_567;

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// The status of the node, asked again and again, has one of these signs; so has the log.
fn names(topology: &Topology, what: &str, signs: &[&str]) {
    let n1 = topology.node("n1");
    let named = eventually("the status names the cause", NAMED, || {
        let status = n1.ask(&["status"]).map_err(|error| error.to_string())?;
        if signs.iter().all(|sign| status.contains(sign)) { Ok(()) } else { Err(status) }
    });
    named.unwrap_or_else(|error| panic!("{what}: {error}"));
    let log = fs::read_to_string(n1.log()).unwrap();
    assert!(log.contains(signs[0]), "{what}: the log does not say {:?}", signs[0]);
}

fn new_node() -> Topology {
    Topology::build(&TopologySpec::one("m5.large")).unwrap()
}

#[test]
fn a_new_node_whose_imds_is_a_black_hole_says_so() {
    let mut topology = new_node();
    let n1 = topology.node_mut("n1");
    n1.black_hole(port(n1.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap())).unwrap();
    n1.start().unwrap();
    names(&topology, "IMDS", &["instance metadata cannot be read"]);
}

#[test]
fn a_new_node_whose_ec2_is_a_black_hole_says_so() {
    let mut topology = new_node();
    let n1 = topology.node_mut("n1");
    n1.black_hole(port(n1.variable("AWS_ENDPOINT_URL_EC2").unwrap())).unwrap();
    n1.start().unwrap();
    names(&topology, "EC2", &["has not answered for", "us-east-1"]);
}

#[test]
fn a_new_node_whose_sts_is_a_black_hole_says_that_it_has_no_credentials() {
    let mut topology = new_node();
    let token = topology.world.folder("token").unwrap().join("token");
    fs::write(&token, "a web identity token").unwrap();
    let n1 = topology.node_mut("n1");
    n1.set("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/cni");
    n1.set("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap());
    n1.set("AWS_ENDPOINT_URL_STS", &format!("http://127.0.0.1:{NOBODY}"));
    n1.black_hole(NOBODY).unwrap();
    n1.start().unwrap();
    names(&topology, "STS", &["credentials"]);
}

#[test]
fn a_new_node_whose_name_server_is_a_black_hole_says_that_ec2_is_out_of_reach() {
    let mut topology = new_node();
    let file = topology.world.folder("dns").unwrap().join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    topology.world.show_file(&file, Path::new("/etc/resolv.conf")).unwrap();
    let n1 = topology.node_mut("n1");
    n1.black_hole(53).unwrap();
    n1.set("AWS_ENDPOINT_URL_EC2", "http://ec2.us-east-1.example.test:80");
    n1.start().unwrap();
    names(&topology, "DNS", &["has not answered for", "us-east-1"]);
}

/// Everything remote goes away at once, for more than a call's limit; pods come and go as before.
#[test]
fn a_running_node_serves_its_pool_while_everything_remote_is_a_black_hole_and_over_a_restart() {
    let mut topology = new_node();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let first = pods::start(topology.node("n1"), 2, 2, &AtomicUsize::new(0)).unwrap();
    let n1 = topology.node_mut("n1");
    for variable in ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL_EC2"] {
        n1.black_hole(port(n1.variable(variable).unwrap())).unwrap();
    }
    let mut slowest = Duration::ZERO;
    let mut churn = |n1: &integration::node::Node| {
        for _ in 0..10 {
            let sandbox = n1.next_sandbox().unwrap();
            slowest = slowest.max(n1.runtime.add(&sandbox).unwrap().took);
            slowest = slowest.max(n1.runtime.del(&sandbox, NetnsPath::Given).unwrap());
            pass(Duration::from_millis(500));
        }
    };
    churn(n1);
    n1.kill();
    let began = Instant::now();
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the start waited: {:?}", began.elapsed());
    churn(n1);
    assert!(slowest < Duration::from_secs(1), "a call of the plugin waited {slowest:?}");
    for pod in &first {
        pod.reached_from(&n1.netns).unwrap();
    }
}
