// SPDX-License-Identifier: Apache-2.0
//! Nodes with an API server each, and one look at all the places where a code can show.

use std::collections::BTreeMap;
use std::time::Duration;

use integration::eventually::{eventually, pass};
use integration::kube_http::KubeApi;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::resource::NEW_EVENTS;
use integration::kube_http::store::Key;
use integration::node::Node;
use integration::sandbox::{NetnsPath, Refused, SandboxError};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::Value;
use vpc_model::{Fault, VpcConfig};

use crate::rows::{self, Row, Seen};

/// Within which a code that was provoked is at every place: events are written by a bell, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Looks for a row's code at one place.
type Look = fn(&Bed, &str, &Row) -> Result<(), String>;

pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) api: KubeApi,
}

impl Bed {
    /// Nodes n1 and so on of that type, nothing started; the API server answers and knows them.
    pub(crate) fn new(nodes: usize, instance_type: &str) -> Self {
        let nodes = (1..=nodes).map(|number| NodeSpec::new(&format!("n{number}"), instance_type, Subnet::A));
        Self::of(nodes.collect(), |_| {})
    }

    pub(crate) fn of(nodes: Vec<NodeSpec>, change: impl FnOnce(&mut VpcConfig)) -> Self {
        let spec = TopologySpec { nodes, ..TopologySpec::one("m5.large") };
        let topology = Topology::build_with(&spec, change).unwrap();
        let mut bed = Self { topology, api: KubeApi::default() };
        bed.topology.introduce(&bed.api).unwrap();
        bed.topology.serve_api(&bed.api).unwrap();
        bed
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.topology.node(name)
    }

    /// Starts a daemon that answers, whether it has addresses or not.
    pub(crate) fn launch(&mut self, name: &str, settings: &[(&str, &str)]) {
        let node = self.topology.node_mut(name);
        settings.iter().for_each(|(variable, value)| node.set(variable, value));
        node.start().unwrap();
        eventually("the daemon answers", READY, || self.get(name, "/v1/status")).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", integration::process::tail(&self.node(name).log(), 40))
        });
    }

    /// Starts a daemon that has addresses.
    pub(crate) fn start(&mut self, name: &str, settings: &[(&str, &str)]) {
        self.launch(name, settings);
        self.node(name).wait_ready(READY).unwrap();
    }

    /// The daemon is killed, `damage` happens, and it is there again.
    pub(crate) fn restart(&mut self, name: &str, damage: impl FnOnce(&Node)) {
        self.topology.node_mut(name).kill();
        damage(self.node(name));
        self.launch(name, &[]);
    }

    pub(crate) fn order(&self, fault: Fault) {
        self.topology.emulator.with_model(|vpc, _| vpc.order_fault(fault));
    }

    pub(crate) fn clear_faults(&self) {
        self.topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    }

    /// An EC2 call of somebody else's, which must succeed.
    pub(crate) fn ec2(&self, action: &str, params: &[(&str, &str)]) -> String {
        let answer = self.topology.emulator.ec2(action, params);
        assert_eq!(answer.status, 200, "{action} {params:?}: {}", answer.body);
        answer.body
    }

    pub(crate) fn subnet(&self, name: &str) -> String {
        self.topology.emulator.subnet_id(name)
    }

    pub(crate) fn change_node(&self, name: &str, part: Part, change: Value) {
        self.api.patch(&Key::node(name), part, &Patch::merge(change)).unwrap();
    }

    /// An ADD that is refused within so many milliseconds; its sandbox is gone again.
    pub(crate) fn refused(&self, name: &str, budget_ms: u32) -> Refused {
        self.try_add(name, budget_ms).expect_err("no address can be there")
    }

    pub(crate) fn try_add(&self, name: &str, budget_ms: u32) -> Result<(), Refused> {
        let node = self.node(name);
        let budget = format!("ENID_ADD_BUDGET_MS={budget_ms}");
        let sandbox = node.next_sandbox().unwrap();
        let error = match node.runtime.under(vec!["/usr/bin/env".to_owned(), budget]).add(&sandbox) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        node.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        Err(refusal(error))
    }

    /// ADDs, tried again like kubelet's, until one is refused with that code.
    pub(crate) fn refused_with(&self, name: &str, code: &str, budget_ms: u32) -> Refused {
        self.wait(name, &format!("an ADD is refused with {code}"), || match self.try_add(name, budget_ms) {
            Err(refused) if refused.message.starts_with(&format!("{code}: ")) => Ok(refused),
            other => Err(format!("{other:?}")),
        })
    }

    pub(crate) fn wait<T>(&self, name: &str, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, SOON, look).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", integration::process::tail(&self.node(name).log(), 40));
        })
    }

    /// The code shows at every place that its row of the table names; `refused`: what the plugin printed, where it did.
    pub(crate) fn shows(&self, name: &str, code: &str, refused: Option<&Refused>) {
        let row = rows::row(code);
        match (row.cni, refused) {
            (Seen::Yes, Some(refused)) => {
                assert!(refused.message.starts_with(&format!("{code}: ")), "{code} is not in the CNI error: {refused}");
            }
            (Seen::No(_), None) => {}
            (Seen::Yes, None) => panic!("{code}: the row says that the CNI error has it, the scenario has none"),
            (Seen::No(why), Some(refused)) => panic!("{code}: no CNI error ({why}), but {refused}"),
        }
        self.is_seen(name, (row, row.log, "the log"), Self::logged);
        self.is_seen(name, (row, row.metric, "ipamd_reason_total"), Self::counted);
        self.is_seen(name, (row, row.event, "an Event"), Self::told);
        self.is_seen(name, (row, row.status, "the status"), Self::stands);
    }

    fn is_seen(&self, name: &str, (row, seen, place): (&Row, Seen, &str), look: Look) {
        if matches!(seen, Seen::Yes) {
            self.wait(name, &format!("{} is in {place}", row.code), || look(self, name, row));
        }
    }

    /// A line of the daemon's log, or of the plugin's where the code is its own.
    fn logged(&self, name: &str, row: &Row) -> Result<(), String> {
        let node = self.node(name);
        let path = if row.of_plugin { node.plugin_log() } else { node.log() };
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let has = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line["code"] == row.code);
        if has { Ok(()) } else { Err(format!("no line of {}", path.display())) }
    }

    fn counted(&self, name: &str, row: &Row) -> Result<(), String> {
        let text = self.get(name, "/metrics")?;
        let start = format!("ipamd_reason_total{{code=\"{}\"}} ", row.code);
        let line = text.lines().find_map(|line| line.strip_prefix(&start)).ok_or_else(|| format!("no {start}"))?;
        match line.parse::<f64>() {
            Ok(count) if count >= 1.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// An Event of the node or of one of its pods.
    fn told(&self, name: &str, row: &Row) -> Result<(), String> {
        let of_node = |event: &Value| event["regarding"]["name"].as_str().is_some_and(|about| about.starts_with(name));
        let reasons: Vec<Value> =
            self.api.all(&NEW_EVENTS).into_iter().filter(of_node).map(|event| event["reason"].clone()).collect();
        if reasons.iter().any(|reason| reason == row.code) { Ok(()) } else { Err(format!("{reasons:?}")) }
    }

    /// The state as it is, or a record of what happened, as `ipamd status` and `ipamd events` show them.
    fn stands(&self, name: &str, row: &Row) -> Result<(), String> {
        let code = row.code;
        let status: Value = serde_json::from_str(&self.get(name, "/v1/status")?).map_err(|error| error.to_string())?;
        let state = [&status["supply"]["code"], &status["why"]["boundBy"]];
        let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
        let of_list = list("waiters").iter().any(|waiter| waiter["waitsFor"] == code)
            || list("failures").iter().any(|failure| failure["reason"] == code);
        if of_list || state.into_iter().any(|found| found == code) {
            return Ok(());
        }
        let records: Value =
            serde_json::from_str(&self.get(name, "/v1/events?since=0")?).map_err(|error| error.to_string())?;
        let records = records["records"].as_array().cloned().unwrap_or_default();
        let codes: BTreeMap<String, usize> =
            records.iter().filter_map(|record| record["code"].as_str()).fold(BTreeMap::new(), |mut codes, code| {
                *codes.entry(code.to_owned()).or_default() += 1;
                codes
            });
        if codes.contains_key(code) { Ok(()) } else { Err(format!("neither in the state nor in {codes:?}")) }
    }

    /// What the daemon serves at the socket for commands.
    pub(crate) fn get(&self, name: &str, path: &str) -> Result<String, String> {
        self.node(name).get(path).map(|answer| answer.body).map_err(|error| format!("{path}: {error}"))
    }
}

/// What the plugin printed.
pub(crate) fn refusal(error: SandboxError) -> Refused {
    match error {
        SandboxError::Refused(refused) => refused,
        other => panic!("not a CNI error: {other}"),
    }
}

/// Lets a daemon begin something.
pub(crate) fn moment() {
    pass(Duration::from_millis(300));
}
