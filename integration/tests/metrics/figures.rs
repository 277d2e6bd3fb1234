// SPDX-License-Identifier: Apache-2.0
//! What is served on a node with pods: the text, the figures, the labels, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::node::Node;
use integration::pods;
use integration::sandbox::NetnsPath;
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::Value;

use crate::promtool::promtool;
use crate::scrape::{self, PORT, Scrape};

/// The reference's families that it and we have, with their kinds (amazon-vpc-cni-k8s, utils/prometheusmetrics); promtool has
/// complaints about their names, which are as they are.
const REFERENCE: [(&str, &str); 18] = [
    ("awscni_add_ip_req_count", "counter"),
    ("awscni_assigned_ip_addresses", "gauge"),
    ("awscni_assigned_ip_per_eni", "gauge"),
    ("awscni_aws_api_error_count", "counter"),
    ("awscni_aws_api_latency_ms", "summary"),
    ("awscni_build_info", "gauge"),
    ("awscni_del_ip_req_count", "counter"),
    ("awscni_ec2api_error_count", "counter"),
    ("awscni_ec2api_req_count", "counter"),
    ("awscni_eni_allocated", "gauge"),
    ("awscni_eni_max", "gauge"),
    ("awscni_force_removed_enis", "counter"),
    ("awscni_force_removed_ips", "counter"),
    ("awscni_ip_max", "gauge"),
    ("awscni_ipamd_startup_duration_seconds", "histogram"),
    ("awscni_no_available_ip_addresses", "counter"),
    ("awscni_total_ip_addresses", "gauge"),
    ("awscni_total_ipv4_prefixes", "gauge"),
];

fn started(settings: &[(&str, &str)]) -> Topology {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(settings).unwrap();
    topology.node("n1").wait_answers(READY).unwrap();
    topology
}

fn scraped(node: &Node) -> Scrape {
    scrape::of(node).unwrap_or_else(|error| panic!("{error}\n{}", integration::process::tail(&node.log(), 20)))
}

/// Figures of the status, and the series that must show them.
const FIGURES: [(&str, &str); 14] = [
    ("/pool/allocated", "ipamd_pool_addresses{state=\"used\"}"),
    ("/pool/free", "ipamd_pool_addresses{state=\"free\"}"),
    ("/pool/cooling", "ipamd_pool_addresses{state=\"cooling\"}"),
    ("/pool/held", "ipamd_pool_addresses{state=\"held\"}"),
    ("/pool/leaving", "ipamd_pool_addresses{state=\"leaving\"}"),
    ("/pool/coming", "ipamd_pool_addresses{state=\"coming\"}"),
    ("/pool/wanted", "ipamd_pool_target_addresses"),
    ("/pool/shortfall", "ipamd_pool_shortfall_addresses"),
    ("/pool/surplus", "ipamd_pool_surplus_addresses"),
    ("/pool/maxEnis", "ipamd_enis_max"),
    ("/pool/total", "awscni_total_ip_addresses"),
    ("/pool/allocated", "awscni_assigned_ip_addresses"),
    ("/pool/enis", "awscni_eni_allocated"),
    ("/capacity/limit", "ipamd_capacity_pods{kind=\"limit\"}"),
];

/// What differs between the status and a scrape right after it.
fn differences(status: &Value, scrape: &Scrape) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: String, status: Option<f64>, scraped: f64| {
        if status != Some(scraped) {
            found.push(format!("{what}: {status:?} in the status, {scraped} in the scrape"));
        }
    };
    for (pointer, series) in FIGURES {
        compare(series.to_owned(), status.pointer(pointer).and_then(Value::as_f64), scrape.value(series));
    }
    for eni in status["enis"].as_array().unwrap() {
        let Some(id) = eni["eniId"].as_str() else { continue };
        for (field, state) in [("allocated", "used"), ("cooling", "cooling")] {
            let series = format!("ipamd_addresses{{state=\"{state}\",eni_id=\"{id}\"}}");
            compare(series.clone(), eni[field].as_f64(), scrape.value(&series));
        }
        let all = scrape.sum("ipamd_addresses", &[&format!("eni_id=\"{id}\"")]);
        compare(format!("all addresses of {id}"), eni["total"].as_f64(), all);
        compare(
            format!("reference's of {id}"),
            eni["allocated"].as_f64(),
            scrape.sum("awscni_assigned_ip_per_eni", &[id]),
        );
    }
    for subnet in status["subnets"].as_array().unwrap() {
        let id = subnet["subnetId"].as_str().unwrap();
        compare(id.to_owned(), subnet["free"].as_f64(), scrape.sum("ipamd_subnet_free_addresses", &[id]));
    }
    found
}

#[test]
fn the_text_and_the_figures_of_a_node_with_pods_are_right() {
    let topology = started(&[("WARM_IP_TARGET", "3"), ("IP_COOLDOWN_PERIOD", "600")]);
    let n1 = topology.node("n1");
    let mut pods = pods::start(n1, 12, 4, &AtomicUsize::new(0)).unwrap();
    let gone = pods.split_off(10);
    pods::end(n1, gone, 2).unwrap();
    let same = eventually("scrape and status say the same", Duration::from_secs(30), || {
        let (status, scrape) = (n1.status().unwrap(), scraped(n1));
        let differences = differences(&status, &scrape);
        if differences.is_empty() { Ok(scrape) } else { Err(differences.join("\n")) }
    });
    let scrape = same.unwrap();
    // Each pod's DEL is repeated without its namespace, as containerd does.
    assert_eq!(scrape.value("ipamd_add_duration_seconds_count{phase=\"total\",code=\"ok\"}"), 12.0);
    for phase in ["address", "journal"] {
        let series = format!("ipamd_add_duration_seconds_count{{phase=\"{phase}\",code=\"ok\"}}");
        assert_eq!(scrape.value(&series), 12.0, "{phase}");
    }
    assert_eq!(scrape.value("ipamd_del_duration_seconds_count{phase=\"total\",code=\"ok\"}"), 4.0);
    assert_eq!(scrape.value("awscni_add_ip_req_count"), 12.0);
    assert_eq!(scrape.value("awscni_del_ip_req_count{reason=\"PodDeleted\"}"), 4.0);
    assert_eq!(scrape.value("awscni_no_available_ip_addresses"), 0.0);
    assert_eq!(scrape.value("ipamd_add_possible"), 1.0);
    assert_eq!(scrape.value("ipamd_serving"), 1.0);
    assert_eq!(scrape.value("ipamd_snapshot_answered"), 1.0);
    assert!(scrape.value("ipamd_loop_age_seconds") < 1.0);
    assert!(scrape.value("ipamd_journal_writes_total{outcome=\"ok\"}") >= 14.0);
    ec2_is_counted(&topology, &scrape);
    let attached = "ipamd_eni_state_duration_seconds_count{state=\"attaching\"}";
    assert!(scrape.value(attached) >= 1.0, "a second ENI came");
    promtool_is_content(&scrape);
    for (name, kind) in REFERENCE.iter().filter(|(name, _)| *name != "awscni_aws_api_error_count") {
        assert_eq!(scrape.kinds().get(name), Some(kind), "{name}");
    }
}

/// The model of EC2 counts, too.
fn ec2_is_counted(topology: &Topology, scrape: &Scrape) {
    for action in ["CreateNetworkInterface", "AttachNetworkInterface"] {
        let calls = topology.calls(action) as f64;
        let of_action = format!("action=\"{action}\"");
        assert!(calls >= 1.0, "{action}");
        assert_eq!(scrape.sum("ipamd_ec2_calls_total", &[&of_action]), calls, "{action}");
        assert_eq!(scrape.sum("ipamd_ec2_calls_total", &[&of_action, "outcome=\"ok\""]), calls, "{action}");
        assert_eq!(scrape.sum("ipamd_ec2_call_duration_seconds_count", &[&of_action]), calls, "{action}");
        let reference = [format!("api=\"{action}\""), "error=\"false\"".to_owned(), "status=\"200\"".to_owned()];
        let reference: Vec<&str> = reference.iter().map(String::as_str).collect();
        assert_eq!(scrape.sum("awscni_aws_api_latency_ms_count", &reference), calls, "{action}");
    }
}

/// About our own families there is nothing to complain of; about the reference's there is, and only about these.
fn promtool_is_content(scrape: &Scrape) {
    let (content, said) = promtool(&["check", "metrics"], &scrape.only(|line| !line.starts_with("awscni_")));
    assert!(content && said.is_empty(), "{said}");
    let (content, said) = promtool(&["check", "metrics"], &scrape.0);
    assert!(!content, "promtool finds nothing wrong with the reference's names");
    let names: BTreeSet<&str> = REFERENCE.iter().map(|(name, _)| *name).collect();
    for line in said.lines() {
        let name = line.split(' ').next().unwrap();
        assert!(names.contains(name), "{line}");
    }
}

#[test]
fn pods_that_come_and_go_make_no_series() {
    let topology = started(&[("WARM_IP_TARGET", "4"), ("IP_COOLDOWN_PERIOD", "1")]);
    let n1 = topology.node("n1");
    let round = |count| pods::end(n1, pods::start(n1, count, 4, &AtomicUsize::new(0)).unwrap(), 4).unwrap();
    round(8);
    let before = scraped(n1).series();
    for _ in 0..3 {
        round(8);
    }
    let scrape = scraped(n1);
    let after = scrape.series();
    let new: Vec<&String> = after.keys().filter(|series| !before.contains_key(*series)).collect();
    // Another state that an ENI has left, an action that was not called before, an ENI that has come: closed sets.
    let closed = ["state=\"", "action=\"", "api=\"", "eni=\""];
    let is_closed = |series: &&&String| closed.iter().any(|label| series.contains(label));
    let open: Vec<_> = new.iter().filter(|series| !is_closed(series)).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(after.len() < before.len() + 120, "{} series, before {}", after.len(), before.len());
    assert!(after.len() < 900, "{} series", after.len());
    let text = &scrape.0;
    assert!(!text.contains("n1-pod-") && !text.contains("10.0.1."), "a pod or an address is in a label");
    let status = n1.status().unwrap();
    let enis = status["enis"].as_array().unwrap().iter().filter_map(|eni| eni["eniId"].as_str());
    let enis: BTreeSet<String> = enis.map(str::to_owned).collect();
    assert!(scrape.values_of("eni").is_subset(&enis), "{:?} and {enis:?}", scrape.values_of("eni"));
    assert!(scrape.values_of("eni_id").is_subset(&enis), "{:?} and {enis:?}", scrape.values_of("eni_id"));
}

#[test]
fn an_eni_that_goes_takes_its_series_with_it() {
    let topology = started(&[("WARM_IP_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "1")]);
    let n1 = topology.node("n1");
    let pods = pods::start(n1, 12, 4, &AtomicUsize::new(0)).unwrap();
    let ids = |scrape: &Scrape| (scrape.values_of("eni_id"), scrape.values_of("eni"));
    let (before, _) = ids(&scraped(n1));
    assert!(before.len() >= 2, "{before:?}");
    pods::end(n1, pods, 4).unwrap();
    // A surplus stands for a minute, an ENI is at least a minute old.
    let gone = eventually("the second ENI is gone", Duration::from_secs(180), || {
        let status = n1.status().map_err(|error| error.to_string())?;
        let enis = status["enis"].as_array().unwrap().len();
        if enis == 1 { Ok(()) } else { Err(format!("{enis} ENIs")) }
    });
    gone.unwrap();
    let scrape = scraped(n1);
    let (of_ours, of_reference) = ids(&scrape);
    assert_eq!((of_ours.len(), of_reference.len()), (1, 1), "{of_ours:?} {of_reference:?}");
    for state in ["draining", "detaching", "deleting"] {
        let series = format!("ipamd_eni_state_duration_seconds_count{{state=\"{state}\"}}");
        assert!(scrape.value(&series) >= 1.0, "{series}");
    }
}

#[test]
fn a_refusal_is_counted_with_its_reason() {
    let topology = started(&[("MAX_ENI", "1")]);
    let n1 = topology.node("n1");
    let _pods = pods::start(n1, 9, 3, &AtomicUsize::new(0)).unwrap();
    let sandbox = n1.next_sandbox().unwrap();
    let error = n1.runtime.add(&sandbox).expect_err("there is no tenth address");
    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
    assert!(error.to_string().contains("NodeFull"), "{error}");
    let scrape = scraped(n1);
    assert_eq!(scrape.value("ipamd_reason_total{code=\"NodeFull\"}"), 1.0);
    assert_eq!(scrape.value("ipamd_reason_active{code=\"NodeFull\"}"), 1.0);
    assert_eq!(scrape.value("ipamd_add_possible"), 0.0);
    assert_eq!(scrape.value("awscni_no_available_ip_addresses"), 1.0);
    assert_eq!(scrape.value("ipamd_add_duration_seconds_count{phase=\"total\",code=\"NodeFull\"}"), 1.0);
    assert_eq!(scrape.value("ipamd_enis_max"), 1.0);
}

#[test]
fn metrics_are_served_where_they_are_asked_for_and_nowhere_when_they_are_off() {
    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut topology = started(&[]);
    let outside = SocketAddr::from(([10, 0, 1, 11], PORT));
    let n1 = topology.node("n1");
    scrape::at(n1, outside).expect("on all of the host's addresses");
    scrape::by_name(n1, outside, "ip-10-0-1-11.ec2.internal:61678").expect("by the node's name");
    scrape::by_socket(n1).expect("at the socket of commands");
    for (settings, open, closed) in
        [(("METRICS_BIND_ADDRESS", "127.0.0.1:9099"), Some(9099), PORT), (("DISABLE_METRICS", "true"), None, 9099)]
    {
        let n1 = topology.node_mut("n1");
        n1.stop();
        n1.set(settings.0, settings.1);
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        n1.wait_answers(READY).unwrap();
        let by_socket = scrape::by_socket(n1).expect("at the socket of commands");
        assert_eq!(by_socket.value("ipamd_snapshot_answered"), 1.0);
        if let Some(port) = open {
            scrape::at(n1, loopback(port)).expect("where it was asked for");
        }
        let ports = BTreeMap::from([(closed, ()), (PORT, ())]);
        for port in ports.into_keys() {
            let error = scrape::at(n1, loopback(port)).expect_err("nobody serves there");
            assert!(error.contains("refused"), "{port}: {error}");
        }
    }
}
