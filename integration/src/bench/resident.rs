// SPDX-License-Identifier: Apache-2.0
//! What a daemon holds in memory on a full m4.4xlarge with 232 pods that the Kubernetes API knows, too, its watches on; and how large the
//! programs are.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::report::{Goal, Report, Table};
use crate::eventually::pass;
use crate::kube_http::KubeApi;
use crate::kube_http::resource::PODS;
use crate::node::{Node, daemon_binary, plugin_binary};
use crate::pods;
use crate::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};

/// Pods of a full m4.4xlarge: 8 ENIs x 29.
const FULL: usize = 232;
const AT_ONCE: usize = 8;
/// What was set off by the last pod is over by then: the annotation of pods, events, the journal.
const SETTLED: Duration = Duration::from_secs(5);
/// Of the daemon, in MiB.
const RESIDENT: f64 = 20.0;
/// Of the plugin, in MB; of a build with musl.
const PLUGIN: f64 = 2.0;

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let spec =
        TopologySpec { nodes: vec![NodeSpec::new("n1", "m4.4xlarge", Subnet::B)], ..TopologySpec::one("m4.4xlarge") };
    let mut topology = Topology::build(&spec)?;
    let api = KubeApi::default();
    topology.introduce(&api)?;
    topology.serve_api(&api)?;
    topology.start(&[("AWS_VPC_K8S_CNI_LOGLEVEL", "info")])?;
    topology.node("n1").wait_answers(READY)?;
    pass(SETTLED);
    let mut rows = held(topology.node_mut("n1"), "daemon without pods")?;
    for pod in 0..FULL {
        bind(&api, &format!("n1-pod-{pod}"))?;
    }
    let present = pods::start(topology.node("n1"), FULL, AT_ONCE, &Default::default())?;
    pass(SETTLED);
    let full = mebibytes(topology.node_mut("n1"), "VmRSS")?;
    rows.extend(held(topology.node_mut("n1"), &format!("daemon with {FULL} pods, watches on"))?);
    drop(present);
    let [plugin, daemon] = [size(&plugin_binary()?)?, size(&daemon_binary()?)?];
    rows.extend([row("plugin, its file", plugin, "MB"), row("daemon, its file", daemon, "MB")]);
    let name = format!("daemon with {FULL} pods and watches on, resident");
    report.goal(Goal { name, measured: full, limit: RESIDENT, unit: "MiB" });
    report.goal(Goal {
        name: "plugin, its file (the goal is of a build with musl)".to_owned(),
        measured: plugin,
        limit: PLUGIN,
        unit: "MB",
    });
    report.table(Table {
        title: "Memory of the daemon, sizes of the programs".to_owned(),
        note: format!(
            "A full m4.4xlarge, once; the Kubernetes API server is emulated and has the {FULL} pods. From /proc/<pid>/status: VmRSS, \
             RssAnon, RssFile."
        ),
        columns: ["of", "is", "unit"].map(str::to_owned).to_vec(),
        rows,
    });
    Ok(())
}

fn row(what: &str, number: f64, unit: &str) -> Vec<String> {
    vec![what.to_owned(), format!("{number:.2}"), unit.to_owned()]
}

/// A pod that the scheduler has bound to the node and that waits for its sandbox, with as much in it as pods have.
fn bind(api: &KubeApi, name: &str) -> Result<(), String> {
    let variables: Vec<_> =
        (0..20).map(|number| json!({ "name": format!("V{number}"), "value": "x".repeat(40) })).collect();
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": "bench", "pod-template-hash": "5d4f8c7b9" } },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "c", "image": "registry.example/bench:1", "env": variables }],
        },
        "status": { "phase": "Pending" },
    });
    api.put(&PODS, Some("default"), pod).map_err(|error| format!("{name}: {error:?}"))
}

/// Resident memory of the daemon, and what of it is its own and what pages of its program's file.
fn held(node: &mut Node, who: &str) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let of = [("VmRSS", "resident"), ("RssAnon", "heap and stacks"), ("RssFile", "pages of its file")];
    let line = |(figure, what)| mebibytes(node, figure).map(|number| row(&format!("{who}: {what}"), number, "MiB"));
    of.into_iter().map(line).collect()
}

/// A figure of the daemon's memory, in MiB.
fn mebibytes(node: &mut Node, figure: &str) -> Result<f64, Box<dyn Error>> {
    let kibibytes = node.daemon().ok_or("the daemon does not run")?.memory_kib(figure)?;
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let kibibytes = kibibytes as f64;
    Ok(kibibytes / 1_024.0)
}

/// Size of a file, in MB.
fn size(path: &Path) -> std::io::Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let bytes = fs::metadata(path)?.len() as f64;
    Ok(bytes / 1e6)
}
