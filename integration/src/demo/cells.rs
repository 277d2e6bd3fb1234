// SPDX-License-Identifier: Apache-2.0
//! Which checks the demo makes: every pairing of the table, with the twin that fits it.

use std::net::Ipv4Addr;

use super::DemoError;
use super::checks::{Check, Detour, End, Twin, Way};
use crate::fabric::{INTERNET_HOST, router_of};
use crate::node::Node;
use crate::pods::Pod;
use crate::topology::Topology;

/// A node with the pods that the checks use.
struct Side<'a> {
    node: &'a Node,
    address: Ipv4Addr,
    public: Ipv4Addr,
    /// On the primary ENI.
    primary: [&'a Pod; 1],
    /// On two different secondary ENIs.
    secondary: [&'a Pod; 2],
}

/// Builds all checks. `pods`: those of each node, in the order of `topology.nodes`.
pub(super) fn all(topology: &Topology, pods: [&[Pod]; 2]) -> Result<Vec<Check>, DemoError> {
    let [first, second] = [side(topology, 0, pods[0])?, side(topology, 1, pods[1])?];
    let mut checks = Vec::new();
    for here in [&first, &second] {
        checks.extend(inside_a_node(topology, here)?);
    }
    checks.extend(across(topology, &first, &second)?);
    for (here, there) in [(&first, &second), (&second, &first)] {
        checks.extend(nodes_and_pods(topology, here, there)?);
    }
    for here in [&first, &second] {
        checks.extend(outside(topology, here)?);
    }
    Ok(checks)
}

fn side<'a>(topology: &'a Topology, index: usize, pods: &'a [Pod]) -> Result<Side<'a>, DemoError> {
    let node = &topology.nodes[index];
    let missing = |what: &str| DemoError::State(format!("{} has no pod on {what}", node.name));
    let primary = pods.iter().find(|pod| pod.on_primary()).ok_or_else(|| missing("its primary ENI"))?;
    let one = pods.iter().find(|pod| !pod.on_primary()).ok_or_else(|| missing("a secondary ENI"))?;
    let other = pods.iter().find(|pod| !pod.on_primary() && pod.added.table != one.added.table);
    let other = other.ok_or_else(|| missing("a second secondary ENI"))?;
    let facts = topology.instance(&node.name)?;
    let public =
        facts.public_address.ok_or_else(|| DemoError::State(format!("{} has no public address", node.name)))?;
    Ok(Side { node, address: facts.address, public, primary: [primary], secondary: [one, other] })
}

impl Side<'_> {
    fn pod(&self, pod: &Pod) -> End {
        let place = if pod.on_primary() { "primary" } else { "secondary" };
        let label = format!("pod {}, {place} ENI", self.node.name);
        End { label, netns: pod.sandbox.netns.clone(), address: pod.added.address }
    }

    fn host(&self) -> End {
        End { label: format!("node {}", self.node.name), netns: self.node.netns.clone(), address: self.address }
    }

    /// What this node, or a pod on it, sends to `to`, out of the ENI of `table`.
    fn detour(&self, from: Option<&Pod>, to: Ipv4Addr, table: u32) -> Detour {
        Detour { node: self.node.name.clone(), from_link: from.map(|pod| pod.added.host_veth.clone()), to, table }
    }

    /// The packet with `address` moved to another ENI of this node.
    fn moved(&self, topology: &Topology, address: Ipv4Addr) -> Result<Twin, DemoError> {
        Ok(Twin::Moved { address, to: self.other_eni(topology, address)? })
    }

    /// An ENI of this node that does not have `address`.
    fn other_eni(&self, topology: &Topology, address: Ipv4Addr) -> Result<String, DemoError> {
        let owner = topology.fabric.owner(address);
        let enis = topology.enis(&self.node.name)?;
        let other = enis.into_iter().map(|eni| eni.id).find(|id| Some(id) != owner.as_ref());
        other.ok_or_else(|| DemoError::State(format!("{} has no other ENI for {address}", self.node.name)))
    }

    /// The route table of a secondary ENI.
    fn secondary_table(&self) -> u32 {
        self.secondary[0].added.table
    }
}

fn inside_a_node(topology: &Topology, here: &Side<'_>) -> Result<Vec<Check>, DemoError> {
    let [primary] = here.primary;
    let [one, other] = here.secondary;
    let mut checks = Vec::new();
    for (from, to) in [(one, primary), (one, other)] {
        let (from_end, to_end) = (here.pod(from), here.pod(to));
        let twin = Twin::DetourAndMoved {
            detour: here.detour(Some(from), to_end.address, from.added.table),
            address: from_end.address,
            to: here.other_eni(topology, from_end.address)?,
        };
        let seen = from_end.address;
        let what = "pod to pod, same node".to_owned();
        checks.push(Check { what, from: from_end, to: to_end, way: Way::Echo, seen, twin });
    }
    let alone =
        |label: &str| End { label: label.to_owned(), netns: one.sandbox.netns.clone(), address: Ipv4Addr::LOCALHOST };
    checks.push(Check {
        what: "two processes, one pod".to_owned(),
        from: alone(&format!("pod {}", here.node.name)),
        to: alone("itself, 127.0.0.1"),
        way: Way::Echo,
        seen: Ipv4Addr::LOCALHOST,
        twin: Twin::OtherPod(other.sandbox.netns.clone()),
    });
    Ok(checks)
}

fn across(topology: &Topology, here: &Side<'_>, there: &Side<'_>) -> Result<Vec<Check>, DemoError> {
    let mut checks = Vec::new();
    for from in [here.primary[0], here.secondary[0]] {
        for to in [there.primary[0], there.secondary[0]] {
            for (near, far, near_pod, far_pod) in [(here, there, from, to), (there, here, to, from)] {
                let (from, to) = (near.pod(near_pod), far.pod(far_pod));
                let twin = near.moved(topology, from.address)?;
                let (what, seen) = ("pod to pod, other node and subnet".to_owned(), from.address);
                checks.push(Check { what, from, to, way: Way::Echo, seen, twin });
            }
        }
    }
    Ok(checks)
}

fn nodes_and_pods(topology: &Topology, here: &Side<'_>, there: &Side<'_>) -> Result<Vec<Check>, DemoError> {
    let mut checks = Vec::new();
    let check = |what: &str, from: End, to: End, twin| {
        let (what, seen) = (what.to_owned(), from.address);
        Check { what, from, to, way: Way::Echo, seen, twin }
    };
    for pod in [here.primary[0], here.secondary[0]] {
        // Between a node and its own pod, what the node sends is the part that could take a wrong ENI.
        let table = if pod.on_primary() { here.secondary_table() } else { here.secondary[1].added.table };
        let twin = Twin::WrongEni { detour: here.detour(None, pod.added.address, table), source: here.address };
        checks.push(check("node to its own pod", here.host(), here.pod(pod), twin.clone()));
        checks.push(check("pod to its own node", here.pod(pod), here.host(), twin));
    }
    let far = there.secondary[0];
    let twin = there.moved(topology, far.added.address)?;
    checks.push(check("node to a pod elsewhere", here.host(), there.pod(far), twin.clone()));
    checks.push(check("pod to a node elsewhere", there.pod(far), here.host(), twin));
    Ok(checks)
}

fn outside(topology: &Topology, here: &Side<'_>) -> Result<Vec<Check>, DemoError> {
    let internet = End {
        label: format!("internet {INTERNET_HOST}"),
        netns: topology.fabric.internet().clone(),
        address: INTERNET_HOST,
    };
    let facts = topology.instance(&here.node.name)?;
    let router = router_of(facts.subnet);
    let router = End { label: format!("router {router}"), netns: topology.fabric.router().clone(), address: router };
    let mut checks = Vec::new();
    for pod in [here.primary[0], here.secondary[0]] {
        let from = here.pod(pod);
        let twin = Twin::WrongEni {
            detour: here.detour(Some(pod), INTERNET_HOST, here.secondary_table()),
            source: here.address,
        };
        let what = "pod to internet".to_owned();
        checks.push(Check { what, from: from.clone(), to: internet.clone(), way: Way::Echo, seen: here.public, twin });
        let (what, seen, twin) = ("pod to VPC router".to_owned(), from.address, here.moved(topology, from.address)?);
        checks.push(Check { what, from, to: router.clone(), way: Way::Ping, seen, twin });
    }
    Ok(checks)
}
