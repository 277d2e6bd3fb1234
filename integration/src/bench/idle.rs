// SPDX-License-Identifier: Apache-2.0
//! A minute in which nothing happens on a node with pods and watches: what the daemon does all the same ([`crate::idle`]).

use std::error::Error;

use super::report::{Goal, Report, Table};
use crate::eventually::pass;
use crate::idle::{Idle, MINUTE, SETTLED};
use crate::kube_http::KubeApi;
use crate::pods;
use crate::topology::{READY, Topology, TopologySpec};

const PODS: usize = 3;
/// In a minute, all threads together.
const WAKE_UPS: f64 = 10.0;
const LINES: f64 = 10.0;

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut topology = Topology::build(&TopologySpec::one("m5.large"))?;
    let api = KubeApi::default();
    topology.introduce(&api)?;
    topology.serve_api(&api)?;
    topology.start(&[("AWS_VPC_K8S_CNI_LOGLEVEL", "info")])?;
    topology.node("n1").wait_answers(READY)?;
    let present = pods::start(topology.node("n1"), PODS, PODS, &Default::default())?;
    let (settled, minute) = if report.settings().is_quick { (SETTLED / 20, MINUTE / 20) } else { (SETTLED, MINUTE) };
    pass(settled);
    let Idle { woken, lines, calls } = Idle::watch(&mut topology, "n1", minute)?;
    drop(present);
    let all: u64 = woken.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "dozens")]
    let [all, lines, calls] = [all as f64, lines as f64, calls as f64];
    for (name, measured, limit) in
        [("EC2 calls", calls, 0.0), ("wake-ups of all threads", all, WAKE_UPS), ("lines of the log", lines, LINES)]
    {
        report.goal(Goal { name: format!("an idle minute: {name}"), measured, limit, unit: "" });
    }
    let mut rows: Vec<_> =
        woken.iter().map(|(thread, count)| vec![format!("wake-ups: {thread}"), count.to_string()]).collect();
    rows.extend(
        [("wake-ups: all", all), ("lines of the log", lines), ("EC2 calls", calls)]
            .map(|(what, count)| vec![what.to_owned(), count.to_string()]),
    );
    report.table(Table {
        title: format!("{} s in which nothing happens", minute.as_secs()),
        note: format!(
            "An m5.large with {PODS} pods and an API server that is watched, {} s after the last of them; a wake-up is a voluntary \
             context switch of a thread (/proc/<pid>/task).",
            settled.as_secs()
        ),
        columns: ["what".to_owned(), "so often".to_owned()].to_vec(),
        rows,
    });
    Ok(())
}
