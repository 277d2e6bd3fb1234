// SPDX-License-Identifier: Apache-2.0
//! A VPC of a topology with everything that it has without Enid: world, router, EC2, IMDS and booted instances.
//!
//! It puts the pieces together and boots the instances as AWS and their operating system do. Daemons, runtimes and pods are
//! others' (`node`, `topology`); what people type in it is `standalone`'s.
//!
//! ```text
//! World::enter ─ Fabric::build ─ a namespace per instance ─ threads ─ Emulator::start ─ per instance: eth0 up by DHCP,
//!                                                                                       EC2 and IMDS on its loopback
//! ```
//!
//! Invariant: an instance is given out only when its router has answered it, so packets of EC2's primary addresses flow.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use vpc_model::{InstanceId, VpcConfig, VpcSpec};

use crate::emulator::{Emulator, StartError, WallClock};
use crate::eventually::{NotYet, eventually};
use crate::fabric::{Fabric, FabricError, PUBLIC_BLOCK, VpcBlocks, router_of};
use crate::facts::{InstanceFacts, instance};
use crate::netns::{Namespace, NetnsError};
use crate::node::{Endpoints, NodeError, RpFilter, boot_primary_link, instance_namespace};
use crate::probe::ping;
use crate::tools::ToolError;
use crate::world::{World, WorldError};

/// How long a link or the router's first answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// There is no such VPC to be had.
#[derive(Debug, thiserror::Error)]
pub enum RunningVpcError {
    /// The fabric has one router, of one VPC.
    #[error("packets are carried for one VPC, and the topology has {count}")]
    NotOneVpc {
        /// How many it has.
        count: usize,
    },
    /// A name that no namespace or folder can have.
    #[error("instance name {name:?} cannot name a network namespace: letters, digits, `-` and `_` only")]
    Name {
        /// The name.
        name: String,
    },
    /// The internet host would not find the way back.
    #[error("public address {address} of {instance} is not of {PUBLIC_BLOCK}, which the internet gateway serves")]
    PublicAddress {
        /// Whose.
        instance: String,
        /// Which.
        address: Ipv4Addr,
    },
    /// No world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// No fabric.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// No emulator.
    #[error(transparent)]
    Emulator(#[from] StartError),
    /// The primary ENIs cannot be plugged in.
    #[error("plugging in the primary ENIs: {0}")]
    DataPlane(String),
    /// An instance that does not boot.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// `ip` or `nft`.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A primary link that did not come.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// No threads for the emulator.
    #[error("starting the emulator's threads")]
    Threads(#[source] std::io::Error),
    /// No EC2 or IMDS on an instance.
    #[error("serving EC2 and IMDS on the loopback of {instance}")]
    Serve {
        /// Which.
        instance: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An instance that EC2 does not know.
    #[error("EC2 knows no running instance {0}")]
    NoInstance(String),
}

/// What is chosen about a VPC besides its topology.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// What ids, MACs and chosen addresses are drawn from.
    pub seed: u64,
    /// Instance name -> its rp_filter before anything of Enid's runs; absent: [`RpFilter::default`].
    pub rp_filter: BTreeMap<String, RpFilter>,
    /// Port of EC2 on every instance's loopback; 0: any free one.
    pub ec2_port: u16,
    /// Port of IMDS on every instance's loopback; 0: any free one.
    pub imds_port: u16,
}

/// An instance, booted.
#[derive(Clone, Debug)]
pub struct Booted {
    /// Its network namespace, called as the instance is.
    pub netns: Namespace,
    /// EC2's facts about it.
    pub facts: InstanceFacts,
    /// Where it finds EC2 and IMDS.
    pub endpoints: Endpoints,
}

/// A VPC, running. Fields end in this order.
#[derive(Debug)]
pub struct RunningVpc {
    /// EC2 and IMDS.
    pub emulator: Emulator,
    /// What carries them; dropping it waits for calls under way.
    pub runtime: tokio::runtime::Runtime,
    /// The packets.
    pub fabric: Arc<Fabric>,
    /// The instances, in the order of the topology.
    pub instances: Vec<Booted>,
    /// Where it all is.
    pub world: World,
}

impl RunningVpc {
    /// Builds it in a world of its own: the calling thread is in it from now on, so no other may have been started.
    ///
    /// # Errors
    /// The topology is not one VPC with usable names, not root, a program is missing, or the kernel refuses.
    pub fn build(config: VpcConfig, choices: &Choices) -> Result<Self, RunningVpcError> {
        let blocks = VpcBlocks { blocks: carried(&config)?.cidr_blocks.clone() };
        let world = World::enter()?;
        world.tools.ip_here("link set lo up\n")?;
        let fabric = Arc::new(Fabric::build(&world.tools, &blocks)?);
        let mut guests = Vec::new();
        for spec in &config.instances {
            let rp_filter = choices.rp_filter.get(&spec.name).copied().unwrap_or_default();
            let guest = instance_namespace(&world.tools, &spec.name, rp_filter)?;
            fabric.register(&spec.name, &guest);
            guests.push(guest);
        }
        // Made after the world was entered: its threads are in it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(RunningVpcError::Threads)?;
        let emulator = {
            let _inside = runtime.enter();
            Emulator::start(config, choices.seed, WallClock::start(), Box::new(Arc::clone(&fabric)))?
        };
        if let Some(error) = emulator.data_plane_errors().into_iter().next() {
            return Err(RunningVpcError::DataPlane(error));
        }
        let mut vpc = Self { emulator, runtime, fabric, instances: Vec::new(), world };
        vpc.instances = guests.into_iter().map(|guest| vpc.boot(guest, choices)).collect::<Result<_, _>>()?;
        Ok(vpc)
    }

    /// What an instance and its operating system do until a kubelet could start: primary link by DHCP, EC2 and IMDS in reach.
    fn boot(&self, guest: Namespace, choices: &Choices) -> Result<Booted, RunningVpcError> {
        let name = guest.name();
        let no_instance = || RunningVpcError::NoInstance(name.to_owned());
        let facts = self.emulator.with_model(|vpc, _| instance(vpc, name)).ok_or_else(no_instance)?;
        eventually("the primary link appears", PATIENCE, || {
            let links = self.world.tools.ip_json(&guest, &["link", "show", "dev", "eth0"]);
            links.map(drop).map_err(|error| error.to_string())
        })?;
        boot_primary_link(&self.world.tools, &guest, facts.address, facts.subnet)?;
        // The kernel drops what is sent in the moment before it has noticed the carrier.
        eventually("the router answers", PATIENCE, || {
            ping(&guest, router_of(facts.subnet), 56).map_err(|error| error.to_string())
        })?;
        let failed = |source| RunningVpcError::Serve { instance: name.to_owned(), source };
        let (ec2_listener, ec2) = guest.run(|| listen(choices.ec2_port))?.map_err(failed)?;
        let (imds_listener, imds) = guest.run(|| listen(choices.imds_port))?.map_err(failed)?;
        let _inside = self.runtime.enter();
        self.emulator.serve_ec2(ec2_listener).map_err(failed)?;
        self.emulator.serve_imds(imds_listener, InstanceId(facts.id.clone())).map_err(failed)?;
        Ok(Booted { netns: guest, facts, endpoints: Endpoints { ec2, imds } })
    }
}

/// A listening socket on the loopback of the calling thread's namespace: it stays there, whoever accepts from it.
pub(crate) fn listen(port: u16) -> std::io::Result<(TcpListener, SocketAddrV4)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = listener.local_addr()?.port();
    listener.set_nonblocking(true)?;
    Ok((listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
}

/// The one VPC of the topology, when a fabric can carry it.
fn carried(config: &VpcConfig) -> Result<&VpcSpec, RunningVpcError> {
    let [vpc] = config.vpcs.as_slice() else {
        return Err(RunningVpcError::NotOneVpc { count: config.vpcs.len() });
    };
    let public_block: Ipv4Net = PUBLIC_BLOCK.parse().expect("a constant of TEST-NET-3");
    for instance in &config.instances {
        let name = &instance.name;
        // It becomes a file name and a word of `ip` commands.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(plain) {
            return Err(RunningVpcError::Name { name: name.clone() });
        }
        if let Some(address) = instance.public_address.filter(|address| !public_block.contains(address)) {
            return Err(RunningVpcError::PublicAddress { instance: name.clone(), address });
        }
    }
    Ok(vpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(vpcs: &str, instance: &str) -> VpcConfig {
        let text = format!(
            r#"{{"vpcs":[{vpcs}],"subnets":[{{"name":"a","vpc":"v","cidr_block":"10.0.1.0/24"}}],
                "instances":[{{{instance},"instance_type":"m5.large","subnet":"a"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn only_a_topology_that_a_fabric_can_carry_is_accepted_and_the_reason_is_said() {
        let v = r#"{"name":"v","cidr_blocks":["10.0.0.0/16"]}"#;
        let two = format!(r#"{v},{{"name":"w","cidr_blocks":["10.1.0.0/16"]}}"#);
        for (vpcs, instance, said) in [
            (two.as_str(), r#""name":"n""#, "packets are carried for one VPC, and the topology has 2"),
            ("", r#""name":"n""#, "has 0"),
            (v, r#""name":"../n""#, "cannot name a network namespace"),
            (v, r#""name":"""#, "cannot name a network namespace"),
            (v, r#""name":"n","public_address":"192.0.2.1""#, "public address 192.0.2.1 of n"),
        ] {
            let error = carried(&topology(vpcs, instance)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(carried(&topology(v, r#""name":"n","public_address":"203.0.113.7""#)).unwrap().name, "v");
    }
}
