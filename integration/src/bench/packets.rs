// SPDX-License-Identifier: Apache-2.0
//! What a packet from pod to pod across nodes costs with more and more pods on the sender's node: layout `classic`, layout `flat`
//! inside prefixes and by marks, and no policy routing at all, in turn.
//!
//! Four nodes and the far one run the real daemon and have real pods, one of which sends. Then the daemons end, so that what
//! pads the nodes up to a number of pods is left alone: a route for each, and the rules that so many pods have. In layout classic
//! the sender's own rules stand in the middle of the list.
//!
//! ```text
//! pod ─ n (rules, nft, conntrack) ─ router of the emulated VPC ─ far ─ pod        all of it is in each figure
//! ```
//!
//! The emulated VPC, the far node and the pods are the same for all and are in all figures, so ratios say too little: the
//! difference from "no policy routing" is what the rules cost.

use std::error::Error;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;

use super::meter::{Path, measure};
use super::report::{Line, Plot, Report, Table};
use crate::node::Node;
use crate::pods::{self, Pod};
use crate::topology::{NodeSpec, Subnet, Topology, TopologySpec};

/// Pods on the sender's node.
const PODS: [u32; 4] = [10, 110, 250, 735];
/// Rounds of each path at each number of pods.
const ROUNDS: usize = 80;
/// Two ENIs with one slot for pods each: the second pod, or the second prefix, is on the second ENI.
const INSTANCE_TYPE: &str = "t3.micro";
/// Pods of an ENI of an m5.24xlarge, which takes 735: every 49 pods have another ENI, and so a mark.
const PODS_OF_ENI: u32 = 49;
/// Device index that the first further ENI would have.
const FURTHER_ENI: u32 = 3;
/// Addresses that pad the nodes count up from here; nobody has them.
const PADDING: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 0);
/// What `ip rule flush` leaves out of the kernel's own.
pub(super) const KERNEL_RULES: &str = "rule add priority 32766 lookup main\nrule add priority 32767 lookup default\n";

/// How a node steers its pods' packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Classic,
    Prefixes,
    Marks,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Nothing, "no policy routing"),
    (Way::Classic, "classic"),
    (Way::Prefixes, "flat, prefixes"),
    (Way::Marks, "flat, marks"),
];

impl Way {
    fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Nothing | Self::Classic => &[("ENID_LAYOUT", "classic")],
            Self::Prefixes => &[("ENID_LAYOUT", "flat"), ("ENABLE_PREFIX_DELEGATION", "true")],
            Self::Marks => &[("ENID_LAYOUT", "flat")],
        }
    }

    /// As many as are needed for one on a secondary ENI.
    fn pods(self) -> usize {
        if self == Self::Prefixes { 17 } else { 2 }
    }

    fn table(self) -> &'static str {
        if matches!(self, Self::Nothing | Self::Classic) { "main" } else { "158000" }
    }

    /// Rules that so many further pods would have, as `priority … selector … lookup …`.
    fn rules(self, pods: std::ops::Range<u32>) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Classic => pods
                .flat_map(|pod| {
                    let address = padding(pod);
                    let to = format!("priority 512 to {address} lookup main");
                    answer_rule(pod).into_iter().chain([to, format!("priority 1536 from {address} lookup 2")])
                })
                .collect(),
            Self::Prefixes => {
                let first = pods.filter(|pod| pod % 16 == 0);
                first.map(|pod| format!("priority 1536 from {}/28 lookup 2", padding(pod))).collect()
            }
            Self::Marks => {
                let of_pods =
                    |pod| format!("priority 1536 fwmark {:#x}/0x7f lookup 2", FURTHER_ENI + pod / PODS_OF_ENI);
                pods.filter_map(|pod| Some([answer_rule(pod)?, of_pods(pod)])).flatten().collect()
            }
        }
    }
}

/// The rule for the answers of a further ENI, where this pod is its first one.
fn answer_rule(pod: u32) -> Option<String> {
    let number = 23 + FURTHER_ENI + pod / PODS_OF_ENI;
    pod.is_multiple_of(PODS_OF_ENI).then(|| format!("priority 1025 fwmark {number:#x}/0x7f lookup 2"))
}

fn padding(pod: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(PADDING) + pod)
}

/// A node whose pod sends.
struct Padded<'a> {
    way: Way,
    node: &'a Node,
    sender: Pod,
    present: u32,
}

impl Padded<'_> {
    /// Routes and rules for so many pods, those of the sender among them.
    fn pad(&mut self, pods: u32) -> Result<(), Box<dyn Error>> {
        let more = pods - 1;
        let (veth, table) = (&self.sender.added.host_veth, self.way.table());
        let mut lines = String::new();
        for pod in self.present..more {
            writeln!(lines, "route add {}/32 dev {veth} table {table}", padding(pod))?;
        }
        for rule in self.way.rules(0..self.present) {
            writeln!(lines, "rule del {rule}")?;
        }
        let address = self.sender.added.address;
        let own = [format!("priority 512 to {address} lookup main"), format!("priority 1536 from {address} lookup 2")];
        let mut add =
            |rules: Vec<String>, verb: &str| rules.iter().try_for_each(|rule| writeln!(lines, "rule {verb} {rule}"));
        add(self.way.rules(0..more / 2), "add")?;
        if self.way == Way::Classic {
            add(own.to_vec(), "del")?;
            add(own.to_vec(), "add")?;
        }
        add(self.way.rules(more / 2..more), "add")?;
        self.present = more;
        Ok(self.node.ip(&lines)?)
    }
}

/// Measures.
pub(super) fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = (0..=WAYS.len()).map(|number| format!("n{number}")).collect();
    let nodes = names.iter().map(|name| NodeSpec::new(name, INSTANCE_TYPE, Subnet::B)).collect();
    let mut topology = Topology::build(&TopologySpec { nodes, ..TopologySpec::one(INSTANCE_TYPE) })?;
    for (node, (way, _)) in topology.nodes.iter_mut().zip(WAYS) {
        way.environment().iter().for_each(|(variable, value)| node.set(variable, value));
    }
    topology.start(&[])?;
    let start = |node, count| pods::start(node, count, 1, &AtomicUsize::new(0));
    let mut senders = Vec::new();
    for (node, (way, _)) in topology.nodes.iter().zip(WAYS) {
        let mut pods = start(node, way.pods())?;
        let wanted = |pod: &Pod| pod.on_primary() == (way == Way::Nothing);
        let at = pods.iter().position(wanted).ok_or("no pod is on the ENI that is to send")?;
        senders.push((pods.swap_remove(at), pods));
    }
    let far = start(&topology.nodes[WAYS.len()], 1)?.remove(0);
    for node in &mut topology.nodes {
        node.stop();
    }
    topology.nodes[0].ip(&format!("rule flush\n{KERNEL_RULES}"))?;
    let mut paths = Vec::new();
    let mut padded = Vec::new();
    let mut others = Vec::new();
    for ((node, (way, name)), (sender, rest)) in topology.nodes.iter().zip(WAYS).zip(senders) {
        let far = (&far.sandbox.netns, far.added.address);
        paths.push(Path::open(name, (&sender.sandbox.netns, sender.added.address), far)?);
        padded.push(Padded { way, node, sender, present: 0 });
        others.push(rest);
    }
    table(&topology, &mut padded, &mut paths, report)
}

fn table(
    topology: &Topology,
    padded: &mut [Padded<'_>],
    paths: &mut [Path],
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let rounds = report.settings().rounds(ROUNDS);
    let mut rows = Vec::new();
    let mut lines = WAYS.map(|(_, name)| Line { name: name.to_owned(), points: Vec::new() });
    for pods in PODS {
        padded.iter_mut().try_for_each(|node| node.pad(pods))?;
        measure(paths, rounds, false)?;
        let mut without = 0.0;
        for ((node, path), line) in padded.iter().zip(paths.iter_mut()).zip(&mut lines) {
            let rules = topology.world.tools.ip_json(&node.node.netns, &["rule", "show"])?;
            let rules = rules.as_array().map_or(0, Vec::len);
            let [median, p10] = [50, 10].map(|percent| path.costs.packet.percentile(percent) * 1e3);
            if node.way == Way::Nothing {
                without = median;
            }
            let (rate, more) = (1e6 / median, median - without);
            let [median_text, p10, more] = [median, p10, more].map(|figure| format!("{figure:.2}"));
            let counts = [pods.to_string(), rules.to_string(), path.name.to_owned()];
            rows.push(counts.into_iter().chain([median_text, p10, format!("{rate:.0}"), more]).collect());
            line.points.push((f64::from(pods), median));
        }
    }
    let columns = [
        "pods on the sender's node",
        "rules",
        "way",
        "us a packet p50",
        "p10",
        "packets/s",
        "more than no policy routing, us",
    ];
    report.table(Table {
        title: "A packet, by pods on the node and layout".to_owned(),
        note: format!("64 bytes, pod to pod across nodes, the sender's time; {rounds} rounds of 300 packets, the four nodes in turn."),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    });
    report.plot(Plot {
        name: "packets".to_owned(),
        title: "A packet from pod to pod across nodes".to_owned(),
        x: "pods on the sender's node".to_owned(),
        y: "us, p50".to_owned(),
        log_y: false,
        lines: lines.into(),
    });
    Ok(())
}
