// SPDX-License-Identifier: Apache-2.0
//! The demo: the main job of Enid from end to end, in one process tree, without an AWS account.
//!
//! It brings up the emulated VPC and two nodes with the real daemon and the real plugin, fills both to the last address,
//! checks with real packets who can talk to whom and that wrong packets die, is refused one pod more, deletes everything and
//! looks for what is left. It prints what it does and why, and decides by what it has seen itself: the kernel read with `ip`
//! and `nft`, EC2 by the model, packets by their answers.
//!
//! | node | type | ENIs x addresses | room for pods |
//! |---|---|---|---|
//! | large | m5.large | 3 x 10 | 3 x 9 = 27 |
//! | xlarge | m4.4xlarge | 8 x 30 | 8 x 29 = 232 |
//!
//! (EC2 user guide, "Maximum IP addresses per network interface"; one address an ENI is its own.)

mod cells;
mod checks;
mod console;
mod fill;

use std::time::Duration;

use console::Console;

use crate::eventually::{NotYet, eventually};
use crate::fabric::{FabricError, INTERNET_HOST};
use crate::netns::NetnsError;
use crate::node::NodeError;
use crate::pods::Pod;
use crate::probe::ProbeError;
use crate::sandbox::{NetnsPath, SandboxError};
use crate::topology::{Latency, NodeSpec, Subnet, Topology, TopologyError, TopologySpec};

/// EC2's time for a call.
const CALL: Duration = Duration::from_millis(300);

/// From AttachNetworkInterface to the link in the guest: "usually within 5 s" (cilium #16494).
const ATTACH: Duration = Duration::from_secs(5);

/// IP_COOLDOWN_PERIOD of the demo, so that the pool shrinks while one watches; the default is 30 s.
const COOLDOWN: Duration = Duration::from_secs(10);

/// Pods that fill `large` and `xlarge`.
const ROOM: [usize; 2] = [27, 232];

/// The demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The emulated VPC.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A call of the plugin.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The router.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// A probe that could not be made at all.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Something that was waited for.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// The state is not what the next step needs.
    #[error("{0}")]
    State(String),
    /// It ran to its end, and this many checks failed.
    #[error("{0} of the checks above failed")]
    ChecksFailed(usize),
}

/// Runs the demo, printing to standard output.
///
/// # Errors
/// It could not go on, or a check failed. Everything it made is gone when it returns.
pub fn run() -> Result<(), DemoError> {
    let console = Console::new();
    console
        .plain("Enid: pods on two emulated EC2 nodes get VPC addresses from the real daemon and the real CNI plugin.");
    console.plain("Everything runs in network namespaces of this process; nothing leaves the machine or stays on it.");
    let mut topology = build(&console)?;
    start(&mut topology, &console)?;
    let [large, xlarge] = fill_nodes(&topology, &console)?;
    check_packets(&topology, &console, [&large, &xlarge])?;
    refuse_one_more(&topology, &console)?;
    delete_everything(&topology, &console, [large, xlarge])?;
    uninstall(&mut topology, &console)?;
    console.section("Result");
    console.plain(&format!("{:.0} s in all, {} failed.", console.elapsed().as_secs_f32(), console.failures()));
    match console.failures() {
        0 => Ok(()),
        failures => Err(DemoError::ChecksFailed(failures)),
    }
}

fn build(console: &Console) -> Result<Topology, DemoError> {
    console.section("1. The emulated VPC");
    let spec = TopologySpec {
        nodes: vec![NodeSpec::new("large", "m5.large", Subnet::A), NodeSpec::new("xlarge", "m4.4xlarge", Subnet::B)],
        latency: Latency { call: CALL, attach: ATTACH, ..Latency::default() },
    };
    let topology = Topology::build(&spec)?;
    let (call, attach) = (CALL.as_millis(), ATTACH.as_secs());
    console.say(
        "VPC 10.0.0.0/16 with subnets a 10.0.1.0/24 and b 10.0.2.0/23 in one zone, a router that checks every source",
    );
    console.say(&format!(
        "address against EC2's assignments, an internet gateway, a host on the internet at {INTERNET_HOST}"
    ));
    console.say(&format!("EC2 takes {call} ms a call, and {attach} s until an attached ENI shows up in its instance"));
    for (node, room) in topology.nodes.iter().zip(ROOM) {
        let facts = topology.instance(&node.name)?;
        let (name, kind, address) = (&node.name, &facts.instance_type, facts.address);
        let (enis, slots) = (facts.max_enis, facts.addresses_per_eni);
        console.say(&format!(
            "node {name:<7} {kind:<11} {address:<10} {enis} ENIs x {slots} addresses: room for {room} pods"
        ));
    }
    Ok(topology)
}

fn start(topology: &mut Topology, console: &Console) -> Result<(), DemoError> {
    let cooldown = COOLDOWN.as_secs();
    console.section(&format!(
        "2. The daemon on each node, told where its EC2 and IMDS are, and to cool addresses {cooldown} s"
    ));
    for node in &mut topology.nodes {
        node.set("WARM_ENI_TARGET", "1");
        node.set("IP_COOLDOWN_PERIOD", &COOLDOWN.as_secs().to_string());
        node.start()?;
    }
    for node in &topology.nodes {
        node.wait_ready(Duration::from_secs(20))?;
        console.say(&format!("ipamd on {} is ready: the plugin's STATUS says that an ADD would succeed", node.name));
    }
    Ok(())
}

fn fill_nodes(topology: &Topology, console: &Console) -> Result<[Vec<Pod>; 2], DemoError> {
    console.section("3. Pods until the last address: the CNI plugin is called as containerd calls it");
    let pods = fill::fill(topology, console, ROOM)?;
    for ((node, pods), room) in topology.nodes.iter().zip(&pods).zip(ROOM) {
        let enis = topology.enis(&node.name)?;
        let facts = topology.instance(&node.name)?;
        let assigned: usize = enis.iter().map(|eni| eni.secondary.len()).sum();
        let full = enis.len() == facts.max_enis && assigned == room && pods.len() == room;
        let name = &node.name;
        console
            .verdict(full, &format!("EC2: {name} has {} ENIs with {assigned} pod addresses, all in use", enis.len()));
        let mut addresses: Vec<_> = pods.iter().map(|pod| pod.added.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        console.verdict(addresses.len() == room, &format!("{name}: no address was given twice"));
    }
    Ok(pods)
}

fn check_packets(topology: &Topology, console: &Console, pods: [&[Pod]; 2]) -> Result<(), DemoError> {
    console.section("4. Packets: UDP and TCP both ways, and a twin of each that must die");
    console.plain(
        "A twin is the same packet with the pod's address moved to another ENI, or sent out of an ENI that its source",
    );
    console.plain("does not belong to. The router kills it, as the VPC does, and counts it by source address.");
    let mut rows = vec![["check", "from", "to", "far end saw", "", "its twin died at", ""].map(str::to_owned).to_vec()];
    let mut failures = 0;
    let checks = cells::all(topology, pods)?;
    for check in &checks {
        let outcome = check.run(&topology.fabric, &topology.nodes)?;
        failures += usize::from(outcome.alive.is_err()) + usize::from(outcome.died.is_err());
        rows.push(vec![
            check.what.clone(),
            check.from.label.clone(),
            check.to.label.clone(),
            outcome.alive.clone().unwrap_or_else(|reason| reason),
            console.mark(outcome.alive.is_ok()),
            outcome.died.clone().unwrap_or_else(|reason| reason),
            console.mark(outcome.died.is_ok()),
        ]);
    }
    console.table(&rows);
    console.add_failures(failures);
    console.say(&format!("{} checks and as many twins, {failures} failed", checks.len()));
    Ok(())
}

fn refuse_one_more(topology: &Topology, console: &Console) -> Result<(), DemoError> {
    console.section("5. One more pod on a full node");
    let node = &topology.nodes[0];
    let sandbox = node.sandbox("one-too-many")?;
    match node.runtime.add(&sandbox) {
        Ok(added) => console.verdict(false, &format!("{} gave {} to a pod too many", node.name, added.address)),
        Err(SandboxError::Refused(refused)) => {
            let (code, ms) = (refused.code, refused.took.as_millis());
            let told = code == 11 && refused.to_string().contains("NodeFull");
            console.verdict(told, &format!("refused after {ms} ms with CNI code {code}, try again later:"));
            console.plain(&format!("             {}", refused.message));
            console.plain(&format!("             {}", refused.details));
        }
        Err(error) => return Err(error.into()),
    }
    // What runtimes do after a failed ADD.
    node.runtime.del(&sandbox, NetnsPath::Given)?;
    Ok(())
}

fn delete_everything(topology: &Topology, console: &Console, pods: [Vec<Pod>; 2]) -> Result<(), DemoError> {
    console.section("6. All pods deleted");
    for (node, pods) in topology.nodes.iter().zip(pods) {
        let count = pods.len();
        let took = fill::empty(node, pods)?;
        console.say(&format!("{:<7} {count} pods deleted in {:.1} s (two DELs each)", node.name, took.as_secs_f32()));
    }
    for node in &topology.nodes {
        // A veth goes with the namespace of its other end, which the kernel takes away in its own time.
        let gone = eventually("the last pod's objects are gone", Duration::from_secs(10), || {
            let left = node.leftovers().map_err(|error| error.to_string())?.of_pods();
            if left.is_empty() { Ok(()) } else { Err(left.to_string()) }
        });
        let text =
            gone.as_ref().map_or_else(ToString::to_string, |()| "no rule, route, link or neighbour of a pod".into());
        console.verdict(gone.is_ok(), &format!("{}: {text}", node.name));
    }
    console.say(&format!(
        "the pool shrinks when addresses have cooled down ({} s) and ENIs are a minute old: about 50 s …",
        COOLDOWN.as_secs()
    ));
    for node in &topology.nodes {
        let per_eni = topology.instance(&node.name)?.addresses_per_eni - 1;
        let shrunk = eventually("EC2 holds the warm pool only", Duration::from_secs(90), || {
            let enis = topology.enis(&node.name).map_err(|error| error.to_string())?;
            let assigned: usize = enis.iter().map(|eni| eni.secondary.len()).sum();
            let held = format!("{} ENI with {assigned} free addresses", enis.len());
            if enis.len() == 1 && assigned == per_eni { Ok(held) } else { Err(held) }
        });
        let text = shrunk.as_ref().map_or_else(ToString::to_string, Clone::clone);
        console.verdict(
            shrunk.is_ok(),
            &format!("{}: EC2 holds the warm pool only, WARM_ENI_TARGET=1: {text}", node.name),
        );
    }
    let deleted = eventually("no ENI is left in EC2 without an instance", Duration::from_secs(60), || {
        match topology.unattached_enis() {
            0 => Ok(()),
            left => Err(format!("{left} ENIs")),
        }
    });
    let text = deleted.as_ref().map_or_else(ToString::to_string, |()| "the other ENIs are deleted".to_owned());
    console.verdict(deleted.is_ok(), &text);
    Ok(())
}

fn uninstall(topology: &mut Topology, console: &Console) -> Result<(), DemoError> {
    console.section("7. Enid stopped and removed");
    for node in &mut topology.nodes {
        let clean = node.stop();
        console.verdict(clean, &format!("{}: ipamd ended on SIGTERM with success", node.name));
        node.ask(&["cleanup-host"])?;
        let left = node.leftovers()?;
        console
            .verdict(left.is_empty(), &format!("{}: after `ipamd cleanup-host`, of ours is left: {left}", node.name));
    }
    Ok(())
}
