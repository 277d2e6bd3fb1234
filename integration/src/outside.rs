// SPDX-License-Identifier: Apache-2.0
//! What a VPC is connected to besides the internet: a peered VPC, a network behind a transit gateway, clients of a load
//! balancer. One namespace with an address for each, on a link of the router: packets keep their addresses both ways.
//!
//! A load balancer is a rule of the router: what clients send to [`Outside::balance`]'s address goes to a target, a pod's
//! address, with the client's address as source (a Network Load Balancer with targets of type `ip` that preserves client
//! addresses, Elastic Load Balancing user guide, "Client IP preservation").

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::fabric::{Fabric, FabricError};
use crate::netns::Namespace;
use crate::tools::Tools;

/// A host of a peered VPC.
pub const PEER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 10);
/// A host behind a transit gateway.
pub const BEHIND_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 10);
/// A client of a load balancer (RFC 5737, TEST-NET-1).
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The load balancer's address.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

/// The router's address on the link.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);

/// The namespace.
#[derive(Debug)]
pub struct Outside {
    /// Where its hosts are.
    pub netns: Namespace,
    tools: Tools,
    router: Namespace,
}

impl Outside {
    /// Connects it to a fabric's router.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connect(tools: &Tools, fabric: &Fabric) -> Result<Self, FabricError> {
        let netns = Namespace::create("outside")?;
        let router = fabric.router().clone();
        tools.ip(
            &router,
            &format!(
                "link add outside mtu 1500 type veth peer name eth0 mtu 1500 netns outside\n\
                 address add {ROUTER}/32 dev outside\n\
                 link set outside up\n\
                 route add {PEER} dev outside\n\
                 route add {BEHIND_GATEWAY} dev outside\n\
                 route add {CLIENT} dev outside\n"
            ),
        )?;
        tools.ip(
            &netns,
            &format!(
                "link set lo up\n\
                 address add {PEER}/32 dev eth0\n\
                 address add {BEHIND_GATEWAY}/32 dev eth0\n\
                 address add {CLIENT}/32 dev eth0\n\
                 link set eth0 up\n\
                 route add default via {ROUTER} dev eth0 onlink\n"
            ),
        )?;
        tools.nft(
            &router,
            "table ip balancer {\nchain balance {\n type nat hook prerouting priority dstnat; policy accept;\n}\n}\n",
        )?;
        Ok(Self { netns, tools: tools.clone(), router })
    }

    /// Sends what comes to the load balancer's `port` to `target`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn balance(&self, port: u16, target: SocketAddrV4) -> Result<SocketAddrV4, FabricError> {
        let rule = |transport: &str| {
            format!("add rule ip balancer balance ip daddr {BALANCER} {transport} dport {port} dnat to {target}\n")
        };
        self.tools.nft(&self.router, &["tcp", "udp"].map(rule).concat())?;
        Ok(SocketAddrV4::new(BALANCER, port))
    }
}
