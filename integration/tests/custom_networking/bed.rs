// SPDX-License-Identifier: Apache-2.0
//! Nodes in subnet a whose pods are to be elsewhere, and an API server at the loopback of each.
//!
//! ```text
//! a   10.0.1.0/24   the nodes          one, two   10.0.64.0/24, 10.0.65.0/24   pods
//! far 10.0.70.0/24  of another zone    tiny       10.0.66.0/28                 pods, eleven addresses
//! ```

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::eventually::eventually;
use integration::kube_http::KubeApi;
use integration::kube_http::patch::{Part, Patch};
use integration::kube_http::resource::{ENI_CONFIGS, NEW_EVENTS};
use integration::kube_http::store::Key;
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use vpc_model::{SubnetSpec, VpcConfig};

const CUSTOM: (&str, &str) = ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true");
/// Told by a watch, or done at EC2, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Bed {
    pub(crate) topology: Topology,
    pub(crate) api: KubeApi,
}

fn add_subnets(config: &mut VpcConfig) {
    let mut add = |name: &str, block: [u8; 2], length: u8, zone: &str| {
        config.subnets.push(SubnetSpec {
            name: name.to_owned(),
            id: None,
            vpc: "v".to_owned(),
            cidr_block: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, block[0], block[1]), length),
            availability_zone: Some(zone.to_owned()),
            tags: [("for".to_owned(), "pods".to_owned()), ("Name".to_owned(), name.to_owned())].into(),
            cidr_reservations: Vec::new(),
        });
    };
    add("one", [64, 0], 24, "us-east-1a");
    add("two", [65, 0], 24, "us-east-1a");
    add("tiny", [66, 0], 28, "us-east-1a");
    add("far", [70, 0], 24, "us-east-1b");
}

impl Bed {
    /// Nodes n1 and so on, nothing started; the API server answers and knows them.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut spec = TopologySpec::one("m5.large");
        spec.nodes = (1..=nodes).map(|number| NodeSpec::new(&format!("n{number}"), "m5.large", Subnet::A)).collect();
        let topology = Topology::build_with(&spec, add_subnets).unwrap();
        let mut bed = Self { topology, api: KubeApi::default() };
        bed.topology.introduce(&bed.api).unwrap();
        bed.topology.serve_api(&bed.api).unwrap();
        bed
    }

    /// Starts the daemons with custom networking and one address to spare.
    pub(crate) fn start(&mut self, settings: &[(&str, &str)]) {
        let all: Vec<_> = [CUSTOM, ("WARM_IP_TARGET", "1")].into_iter().chain(settings.iter().copied()).collect();
        self.topology.start(&all).unwrap();
    }

    /// The same where no address can come yet: no node is ready before it has one.
    pub(crate) fn start_without_addresses(&mut self) {
        for node in &mut self.topology.nodes {
            node.set(CUSTOM.0, CUSTOM.1);
            node.set("WARM_IP_TARGET", "1");
            node.start().unwrap();
            node.wait_answers(READY).unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        let node = self.topology.node_mut("n1");
        assert!(node.stop());
        node.start().unwrap();
        node.wait_answers(READY).unwrap();
    }

    pub(crate) fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    pub(crate) fn subnet(&self, name: &str) -> String {
        self.topology.emulator.subnet_id(name)
    }

    pub(crate) fn block(&self, name: &str) -> Ipv4Net {
        self.topology.emulator.with_model(|vpc, _| vpc.subnet_named(name).unwrap().cidr_block())
    }

    /// An EC2 call of somebody else; whether it was done.
    pub(crate) fn ec2(&self, action: &str, params: &[(&str, &str)]) -> bool {
        self.topology.emulator.ec2(action, params).status == 200
    }

    /// The ENIConfig is so from now on.
    pub(crate) fn configure(&self, name: &str, spec: Value) {
        self.api.put(&ENI_CONFIGS, None, json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
    }

    pub(crate) fn change_node(&self, metadata: Value) {
        self.api.patch(&Key::node("n1"), Part::Object, &Patch::merge(json!({ "metadata": metadata }))).unwrap();
    }

    pub(crate) fn pods(&self, node: &str, count: usize) -> Vec<Pod> {
        pods::start(self.topology.node(node), count, 6, &AtomicUsize::new(0))
            .unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    /// Names of the subnets of a node's secondary ENIs, and their groups, by device index.
    pub(crate) fn secondary(&self, node: &str) -> Vec<(String, Vec<String>)> {
        let ids: Vec<String> = self.topology.enis(node).unwrap().into_iter().skip(1).map(|eni| eni.id).collect();
        self.topology.emulator.with_model(|vpc, _| {
            let of = |id: &String| {
                let eni = vpc.enis().find(|eni| eni.id.as_str() == id).unwrap();
                let subnet = vpc.subnets().find(|subnet| subnet.id == eni.subnet).unwrap();
                let groups = eni.security_groups.iter().map(ToString::to_string).collect();
                (subnet.tags.get("Name").cloned().unwrap_or_default(), groups)
            };
            ids.iter().map(of).collect()
        })
    }

    pub(crate) fn subnets(&self, node: &str) -> Vec<String> {
        self.secondary(node).into_iter().map(|(subnet, _)| subnet).collect()
    }

    /// What the daemon shows of custom networking.
    pub(crate) fn shown(&self) -> Value {
        self.node().status().unwrap()["podNetwork"].clone()
    }

    pub(crate) fn wait_named(&self, name: &str) -> Value {
        self.wait(&format!("the ENIConfig is {name}"), || match self.shown() {
            shown if shown["eniConfig"]["name"] == name => Ok(shown),
            other => Err(other.to_string()),
        })
    }

    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, SOON, look).unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    fn fail(&self, error: &str) -> ! {
        panic!("{error}\n{}\n{}", self.shown(), integration::process::tail(&self.node().log(), 40))
    }

    /// An ADD that is refused, with its text.
    pub(crate) fn refused(&self) -> String {
        let sandbox = self.node().next_sandbox().unwrap();
        self.node().runtime.add(&sandbox).unwrap_err().to_string()
    }

    pub(crate) fn wait_event(&self, reason: &str) -> Value {
        self.wait(&format!("an event {reason} about the node"), || {
            let all = self.api.all(&NEW_EVENTS);
            let about = |event: &&Value| event["regarding"]["kind"] == "Node" && event["reason"] == reason;
            all.iter().find(about).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    pub(crate) fn wait_condition(&self, status: &str, reason: &str) -> Value {
        // Well again when it has been so for 30 s.
        let within = SOON + Duration::from_secs(30);
        let found = eventually(&format!("the condition is {status}"), within, || {
            let ours = self.api.node_condition("n1", "EnidAddressesAvailable");
            let fits = |it: &Value| it["status"] == status && it["reason"] == reason;
            ours.clone().filter(fits).ok_or_else(|| format!("{ours:?}"))
        });
        found.unwrap_or_else(|error| self.fail(&error.to_string()))
    }
}
