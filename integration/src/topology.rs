// SPDX-License-Identifier: Apache-2.0
//! A whole cluster's worth of emulation: world, fabric, emulator and nodes, put together.
//!
//! ```text
//! 10.0.0.0/16   subnet a 10.0.1.0/24 ── nodes 10.0.1.11, .12, …   public 203.0.113.11, .12, …
//!               subnet b 10.0.2.0/23 ── nodes 10.0.2.11, .12, …   public 203.0.113.…
//!               subnet c 10.0.16.0/20 ─ nodes 10.0.16.11, …       only for nodes with hundreds of pods
//! ```
//!
//! The daemons are not started: that is what scenarios are about. Dropping a topology ends them, the emulator and the fabric, in
//! this order.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_model::{InstanceSpec, InterfaceSpec, SecurityGroupSpec, Settings, SubnetSpec, VpcConfig, VpcSpec};

use crate::emulator::Emulator;
use crate::fabric::Fabric;
use crate::facts::{enis, instance};
use crate::node::{Node, NodeError, RpFilter};
use crate::running_vpc::{Choices, RunningVpc, RunningVpcError};
use crate::world::World;

pub use crate::facts::{EniFacts, InstanceFacts};

/// How long a daemon may take until it is ready, on a busy machine.
pub const READY: Duration = Duration::from_secs(20);

/// Seed of the model: which free addresses EC2 picks, and its ids.
const SEED: u64 = 1;

/// A security group that no ENI has at the start; they have the VPC's default one.
pub const SECOND_GROUP: &str = "sg-0123456789abcdef0";

/// The topology cannot be built or asked.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No VPC.
    #[error(transparent)]
    Vpc(#[from] RunningVpcError),
    /// No node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A node that is not part of it.
    #[error("no node is called {0}")]
    NoNode(String),
}

/// One of the subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// 10.0.1.0/24.
    A,
    /// 10.0.2.0/23.
    B,
    /// 10.0.16.0/20, only there when a node is in it: for nodes with hundreds of pods.
    C,
}

impl Subnet {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
        }
    }

    /// Its block.
    #[must_use]
    pub fn block(self) -> Ipv4Net {
        let (third, length) = match self {
            Self::A => (1, 24),
            Self::B => (2, 23),
            Self::C => (16, 20),
        };
        Ipv4Net::new_assert(Ipv4Addr::new(10, 0, third, 0), length)
    }
}

/// A node to be.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Name of the node, its namespace and its instance.
    pub name: String,
    /// Instance type.
    pub instance_type: String,
    /// The known type whose limits it has, when its own is one that nobody knows.
    pub limits_of: Option<String>,
    /// ENIs that it is launched with besides the primary one.
    pub network_interfaces: Vec<InterfaceSpec>,
    /// Subnet of its primary ENI.
    pub subnet: Subnet,
    /// rp_filter of the host before Enid starts.
    pub rp_filter: RpFilter,
}

impl NodeSpec {
    /// A node with systemd's rp_filter.
    #[must_use]
    pub fn new(name: &str, instance_type: &str, subnet: Subnet) -> Self {
        Self {
            name: name.to_owned(),
            instance_type: instance_type.to_owned(),
            limits_of: None,
            network_interfaces: Vec::new(),
            subnet,
            rp_filter: RpFilter::default(),
        }
    }
}

/// How slow EC2 is.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// A call.
    pub call: Duration,
    /// From AttachNetworkInterface to the link in the guest.
    pub attach: Duration,
    /// From DetachNetworkInterface until the ENI is available.
    pub detach: Duration,
}

impl Default for Latency {
    /// Quick enough for a suite of tests, slow enough that everything overlaps.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { call: ms(30), attach: ms(400), detach: ms(200) }
    }
}

/// A topology to be.
#[derive(Clone, Debug)]
pub struct TopologySpec {
    /// Its nodes, at most 200.
    pub nodes: Vec<NodeSpec>,
    /// How slow EC2 is.
    pub latency: Latency,
}

impl TopologySpec {
    /// One node `n1` in subnet a, with quick latencies.
    #[must_use]
    pub fn one(instance_type: &str) -> Self {
        Self { nodes: vec![NodeSpec::new("n1", instance_type, Subnet::A)], latency: Latency::default() }
    }
}

/// Everything, running. Fields end in this order.
#[derive(Debug)]
pub struct Topology {
    /// The nodes, in the order of the specification.
    pub nodes: Vec<Node>,
    /// EC2 and IMDS.
    pub emulator: Emulator,
    /// The packets.
    pub fabric: Arc<Fabric>,
    /// The threads of EC2 and IMDS.
    pub runtime: tokio::runtime::Runtime,
    /// Where it all is.
    pub world: World,
}

impl Topology {
    /// Builds it in a world of its own: the calling thread is in it from now on.
    ///
    /// # Errors
    /// Not root, a program or binary is missing, or the kernel refuses.
    pub fn build(spec: &TopologySpec) -> Result<Self, TopologyError> {
        Self::build_with(spec, |_| {})
    }

    /// The same, with whatever else the VPC is to have: further subnets, security groups.
    ///
    /// # Errors
    /// As [`Self::build`]; what was added does not fit.
    pub fn build_with(spec: &TopologySpec, change: impl FnOnce(&mut VpcConfig)) -> Result<Self, TopologyError> {
        let mut config = config(spec);
        change(&mut config);
        let rp_filter = spec.nodes.iter().map(|node| (node.name.clone(), node.rp_filter)).collect();
        let choices = Choices { seed: SEED, rp_filter, ..Choices::default() };
        let RunningVpc { emulator, runtime, fabric, instances, world } = RunningVpc::build(config, &choices)?;
        let nodes = instances.iter().map(|booted| Node::new(&world, &booted.netns, booted.endpoints));
        let nodes = nodes.collect::<Result<_, _>>()?;
        Ok(Self { nodes, emulator, fabric, runtime, world })
    }

    /// Starts every node's daemon with these variables besides, and waits until all are ready.
    ///
    /// # Errors
    /// One does not become ready.
    pub fn start(&mut self, environment: &[(&str, &str)]) -> Result<(), TopologyError> {
        for node in &mut self.nodes {
            for (variable, value) in environment {
                node.set(variable, value);
            }
            node.start()?;
        }
        self.nodes.iter().try_for_each(|node| Ok(node.wait_ready(READY)?))
    }

    /// The node called so.
    ///
    /// # Panics
    /// There is none: the specification named them.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("a node of the specification")
    }

    /// The node called so.
    ///
    /// # Panics
    /// There is none: the specification named them.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).expect("a node of the specification")
    }

    /// EC2's facts about a node's instance.
    ///
    /// # Errors
    /// There is no such node.
    pub fn instance(&self, node: &str) -> Result<InstanceFacts, TopologyError> {
        self.emulator.with_model(|vpc, _| instance(vpc, node)).ok_or_else(|| TopologyError::NoNode(node.to_owned()))
    }

    /// EC2's ENIs of a node's instance, by device index.
    ///
    /// # Errors
    /// There is no such node.
    pub fn enis(&self, node: &str) -> Result<Vec<EniFacts>, TopologyError> {
        self.emulator.with_model(|vpc, _| enis(vpc, node)).ok_or_else(|| TopologyError::NoNode(node.to_owned()))
    }

    /// How many ENIs of EC2's are not attached to anything.
    #[must_use]
    pub fn unattached_enis(&self) -> usize {
        self.emulator.with_model(|vpc, _| vpc.enis().filter(|eni| eni.attachment().is_none()).count())
    }

    /// How often an action was called since the start.
    #[must_use]
    pub fn calls(&self, action: &str) -> usize {
        self.emulator.with_model(|vpc, _| vpc.calls().filter(|call| call.action == action).count())
    }
}

fn config(spec: &TopologySpec) -> VpcConfig {
    let subnet = |subnet: Subnet| SubnetSpec {
        name: subnet.name().to_owned(),
        id: None,
        vpc: "v".to_owned(),
        cidr_block: subnet.block(),
        availability_zone: None,
        tags: Default::default(),
        cidr_reservations: Vec::new(),
    };
    let big = spec.nodes.iter().any(|node| node.subnet == Subnet::C).then_some(Subnet::C);
    let mut settings = Settings::default();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    settings.latencies.call_ms = ms(spec.latency.call);
    settings.latencies.attach_ms = ms(spec.latency.attach);
    settings.latencies.detach_ms = ms(spec.latency.detach);
    let instances = spec.nodes.iter().zip(11u8..).map(|(node, host)| {
        let [a, b, c, _] = node.subnet.block().network().octets();
        InstanceSpec {
            name: node.name.clone(),
            id: None,
            instance_type: node.instance_type.clone(),
            limits_of: node.limits_of.clone(),
            subnet: node.subnet.name().to_owned(),
            private_address: Some(Ipv4Addr::new(a, b, c, host)),
            public_address: Some(Ipv4Addr::new(203, 0, 113, host)),
            security_groups: Vec::new(),
            role: Some("node".to_owned()),
            tags: Default::default(),
            network_interfaces: node.network_interfaces.clone(),
        }
    });
    VpcConfig {
        region: "us-east-1".to_owned(),
        account_id: "111122223333".to_owned(),
        epoch_unix_seconds: None,
        vpcs: vec![VpcSpec {
            name: "v".to_owned(),
            id: None,
            cidr_blocks: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16)],
            tags: Default::default(),
        }],
        subnets: [Subnet::A, Subnet::B].into_iter().chain(big).map(subnet).collect(),
        security_groups: vec![SecurityGroupSpec {
            name: "second".to_owned(),
            id: Some(SECOND_GROUP.to_owned()),
            vpc: "v".to_owned(),
            tags: Default::default(),
        }],
        instances: instances.collect(),
        settings,
    }
}
