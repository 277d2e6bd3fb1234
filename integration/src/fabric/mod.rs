// SPDX-License-Identifier: Apache-2.0
//! The packet fabric: what the VPC does with packets, built from a router namespace and veth pairs.
//!
//! It moves and kills packets as EC2's assignments say; who is assigned what is the model's business (`vpc-model`), and how
//! nodes use it the daemon's. Strict on purpose: an address on the wrong ENI, or one that EC2 does not know, does not work.
//!
//! ```text
//!  node-a          node-b                       vpc-router                                    internet
//!  eth0 ───────────────────────────── v<eni>  10.0.1.1/32 ┐                                   eth0 198.51.100.10
//!  ens5 ───────────────────────────── v<eni>  10.0.1.1/32 ├ routes, source check, 1:1 NAT ── igw ──┘
//!                  eth0 ───────────── v<eni>  10.0.2.1/32 ┘
//! ```
//!
//! | VPC rule (VPC user guide) | here |
//! |---|---|
//! | forwarding by (VPC, IP) to an ENI | a /32 or /28 route an assigned block, through the ENI's primary address, onlink |
//! | no learning: only the API moves an address | one permanent neighbour an ENI: its primary address at its MAC |
//! | .1 is the router, in its own subnet only | .1/32 on every ENI link, `arp_ignore` 1 |
//! | ARP for a live address of the subnet is answered, for a dead one not | `proxy_arp`, with the router's MAC (EC2: the ENI's) |
//! | source/destination check | nft set (link, address); drops counted by link and source; destination by route |
//! | an address nobody has | blackhole, counted |
//! | TTL untouched inside the VPC | raised by one before routing lowers it |
//! | MTU 9001 inside, 1500 outside | on the links; the guest's own end is made with 1500, as the kernel makes it |
//! | internet gateway: 1:1 NAT of private addresses with a public one | nft maps; the rest dropped, counted |
//! | security groups | an empty chain, [`Fabric::set_security_rules`] |
//!
//! Invariant: routes and check agree, as both are written from one map, block to ENI, in which a block has one owner.
#![expect(clippy::disallowed_methods, reason = "sysctls are files")]

mod counters;
mod events;
pub mod ipv6;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

pub use counters::{DropReason, Dropped, Drops};

use crate::netns::{Namespace, NetnsError};
use crate::tools::{ToolError, Tools};

/// The host on the internet (RFC 5737, TEST-NET-2).
pub const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

/// The router's address towards it.
const INTERNET_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Public addresses that the internet gateway may hand out (RFC 5737, TEST-NET-3).
pub const PUBLIC_BLOCK: &str = "203.0.113.0/24";

/// Jumbo frames inside a VPC (EC2 user guide, "Network MTU for your EC2 instance").
const VPC_MTU: u32 = 9001;

/// What the fabric could not do.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// `ip` or `nft` refused.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A sysctl could not be written.
    #[error("writing sysctl {name} in {namespace}")]
    Sysctl {
        /// Dotted path below /proc/sys, with slashes.
        name: String,
        /// Where.
        namespace: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An instance that has no namespace.
    #[error("instance {name} has no namespace in the fabric")]
    UnknownInstance {
        /// Its name in the topology.
        name: String,
    },
    /// An ENI that is not plugged in.
    #[error("{eni} is not attached to anything in the fabric")]
    UnknownEni {
        /// Its id.
        eni: String,
    },
}

/// The VPC that the fabric carries.
#[derive(Clone, Debug)]
pub struct VpcBlocks {
    /// Its address blocks.
    pub blocks: Vec<Ipv4Net>,
}

/// An ENI as the fabric needs it.
#[derive(Clone, Debug)]
pub struct EniPort {
    /// `eni-…`
    pub eni: String,
    /// Its MAC, lower-case hex with colons.
    pub mac: String,
    /// Block of its subnet.
    pub subnet: Ipv4Net,
    /// Its primary address.
    pub primary: Ipv4Addr,
    /// What else is assigned to it: /32 for an address, /28 for a prefix.
    pub blocks: Vec<Ipv4Net>,
    /// Whether packets of other addresses are dropped.
    pub source_dest_check: bool,
}

#[derive(Debug)]
struct Port {
    link: String,
    primary: Ipv4Addr,
}

#[derive(Debug, Default)]
struct State {
    /// Name of the instance -> the namespace of its guest.
    guests: BTreeMap<String, Namespace>,
    /// ENI id -> its port.
    ports: BTreeMap<String, Port>,
    /// Assigned block -> id of the ENI that has it.
    owners: BTreeMap<Ipv4Net, String>,
}

/// The running fabric. Dropping it removes its namespaces and so every ENI link.
#[derive(Debug)]
pub struct Fabric {
    tools: Tools,
    router: Namespace,
    internet: Namespace,
    state: Mutex<State>,
}

impl Fabric {
    /// Builds router and internet, with no ENI yet.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn build(tools: &Tools, vpc: &VpcBlocks) -> Result<Self, FabricError> {
        let router = Namespace::create("vpc-router")?;
        let internet = Namespace::create("internet")?;
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/default/arp_ignore", "1"),
            ("net/ipv4/conf/default/proxy_arp", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
        ] {
            sysctl(&router, name, value)?;
        }
        sysctl(&internet, "net/ipv6/conf/default/disable_ipv6", "1")?;
        tools.ip(
            &router,
            &format!(
                "link set lo up\n\
                 link add igw mtu 1500 type veth peer name eth0 mtu 1500 netns internet\n\
                 address add {INTERNET_ROUTER}/24 dev igw\n\
                 link set igw up\n"
            ),
        )?;
        tools.ip(
            &internet,
            &format!(
                "link set lo up\n\
                 address add {INTERNET_HOST}/24 dev eth0\n\
                 link set eth0 up\n\
                 route add {PUBLIC_BLOCK} via {INTERNET_ROUTER}\n"
            ),
        )?;
        let blackholes: String = vpc.blocks.iter().map(|block| format!("route add blackhole {block}\n")).collect();
        tools.ip(&router, &blackholes)?;
        tools.nft(&router, &ruleset::base(&vpc.blocks))?;
        Ok(Self { tools: tools.clone(), router, internet, state: Mutex::default() })
    }

    /// The router's namespace.
    #[must_use]
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The internet host's namespace.
    #[must_use]
    pub fn internet(&self) -> &Namespace {
        &self.internet
    }

    /// Plugs an ENI into `instance` as link `guest_link`: down, without address, MTU 1500, as the kernel shows a new device.
    ///
    /// # Errors
    /// The kernel refuses, such as for a link name that is taken.
    pub fn attach(&self, port: &EniPort, instance: &Namespace, guest_link: &str) -> Result<(), FabricError> {
        let mut state = self.lock();
        let link = link_name(&port.eni);
        let (mac, primary, gateway) = (&port.mac, port.primary, router_of(port.subnet));
        let node = instance.name();
        self.tools.ip(
            &self.router,
            &format!(
                "link add {link} mtu {VPC_MTU} type veth peer name {guest_link} address {mac} mtu 1500 netns {node}\n\
                 address add {gateway}/32 dev {link}\n\
                 link set {link} up\n\
                 neighbour replace {primary} lladdr {mac} nud permanent dev {link}\n"
            ),
        )?;
        // The kernel would wait up to 0.8 s before it answers for another (arp(7), proxy_delay).
        sysctl(&self.router, &format!("net/ipv4/neigh/{link}/proxy_delay"), "0")?;
        if !port.source_dest_check {
            self.tools.nft(&self.router, &ruleset::source_check(&link, false))?;
        }
        state.ports.insert(port.eni.clone(), Port { link, primary });
        let blocks: Vec<Ipv4Net> = std::iter::once(Ipv4Net::from(primary)).chain(port.blocks.iter().copied()).collect();
        self.give(&mut state, &port.eni, &blocks)
    }

    /// Unplugs an ENI: its links go, its addresses reach nobody.
    ///
    /// # Errors
    /// It is not plugged in, or the kernel refuses.
    pub fn detach(&self, eni: &str) -> Result<(), FabricError> {
        let mut state = self.lock();
        let owned: Vec<Ipv4Net> =
            state.owners.iter().filter(|(_, owner)| *owner == eni).map(|(block, _)| *block).collect();
        let port = state.ports.remove(eni).ok_or_else(|| FabricError::UnknownEni { eni: eni.to_owned() })?;
        state.owners.retain(|_, owner| owner != eni);
        let checked = ruleset::source_check(&port.link, true);
        self.tools.nft(&self.router, &(checked + &ruleset::elements("delete", &port.link, &owned)))?;
        // Routes and neighbours go with the link.
        Ok(self.tools.ip(&self.router, &format!("link delete {}\n", port.link))?)
    }

    /// Assigns blocks (/32 or /28) to an ENI; one that another ENI has moves over.
    ///
    /// # Errors
    /// The ENI is not plugged in, or the kernel refuses.
    pub fn assign(&self, eni: &str, blocks: &[Ipv4Net]) -> Result<(), FabricError> {
        let mut state = self.lock();
        self.give(&mut state, eni, blocks)
    }

    /// Takes blocks from an ENI; those it does not have are left alone.
    ///
    /// # Errors
    /// The ENI is not plugged in, or the kernel refuses.
    pub fn unassign(&self, eni: &str, blocks: &[Ipv4Net]) -> Result<(), FabricError> {
        let mut state = self.lock();
        let owned: Vec<Ipv4Net> =
            blocks.iter().copied().filter(|block| state.owners.get(block).is_some_and(|owner| owner == eni)).collect();
        let link = port_of(&state, eni)?.link.clone();
        let routes: String = owned.iter().map(|block| format!("route delete {block} dev {link}\n")).collect();
        self.tools.ip(&self.router, &routes)?;
        self.tools.nft(&self.router, &ruleset::elements("delete", &link, &owned))?;
        state.owners.retain(|block, _| !owned.contains(block));
        Ok(())
    }

    /// The ENI that has `address`.
    #[must_use]
    pub fn owner(&self, address: Ipv4Addr) -> Option<String> {
        let state = self.lock();
        state.owners.iter().find(|(block, _)| block.contains(&address)).map(|(_, eni)| eni.clone())
    }

    /// Maps a private address 1:1 to a public one at the internet gateway.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn associate_public(&self, private: Ipv4Addr, public: Ipv4Addr) -> Result<(), FabricError> {
        Ok(self.tools.nft(&self.router, &ruleset::public(private, public))?)
    }

    /// Turns the source/destination check of an ENI.
    ///
    /// # Errors
    /// The ENI is not plugged in, or the kernel refuses.
    pub fn set_source_dest_check(&self, eni: &str, enabled: bool) -> Result<(), FabricError> {
        let state = self.lock();
        let link = &port_of(&state, eni)?.link;
        Ok(self.tools.nft(&self.router, &ruleset::source_check(link, enabled))?)
    }

    /// Replaces the rules of the security-group chain, through which every forwarded packet goes: nft rules, one a line.
    ///
    /// # Errors
    /// nft refuses; the old rules stay.
    pub fn set_security_rules(&self, rules: &str) -> Result<(), FabricError> {
        Ok(self.tools.nft(&self.router, &ruleset::security_groups(rules))?)
    }

    /// What has died at the router since it was built.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn drops(&self) -> Result<Drops, FabricError> {
        let links: BTreeMap<String, String> = {
            let state = self.lock();
            state.ports.iter().map(|(eni, port)| (port.link.clone(), eni.clone())).collect()
        };
        counters::read(&self.tools, &self.router, &links)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, state: &mut State, eni: &str, blocks: &[Ipv4Net]) -> Result<(), FabricError> {
        let Port { link, primary } = port_of(state, eni)?;
        let mut nft = String::new();
        for (former, moved) in moved(state, eni, blocks) {
            nft += &ruleset::elements("delete", &former, &moved);
        }
        let routes: String = blocks
            .iter()
            .map(|block| {
                if *block == Ipv4Net::from(*primary) {
                    format!("route replace {block} dev {link}\n")
                } else {
                    format!("route replace {block} via {primary} dev {link} onlink\n")
                }
            })
            .collect();
        nft += &ruleset::elements("add", link, blocks);
        self.tools.ip(&self.router, &routes)?;
        self.tools.nft(&self.router, &nft)?;
        state.owners.extend(blocks.iter().map(|block| (*block, eni.to_owned())));
        Ok(())
    }
}

/// Router link of another ENI -> those of `blocks` that it has.
fn moved(state: &State, eni: &str, blocks: &[Ipv4Net]) -> BTreeMap<String, Vec<Ipv4Net>> {
    let mut moved: BTreeMap<String, Vec<Ipv4Net>> = BTreeMap::new();
    for block in blocks.iter().collect::<BTreeSet<_>>() {
        let former = state.owners.get(block).filter(|owner| *owner != eni).and_then(|owner| state.ports.get(owner));
        if let Some(port) = former {
            moved.entry(port.link.clone()).or_default().push(*block);
        }
    }
    moved
}

fn port_of<'a>(state: &'a State, eni: &str) -> Result<&'a Port, FabricError> {
    state.ports.get(eni).ok_or_else(|| FabricError::UnknownEni { eni: eni.to_owned() })
}

/// The router's link to an ENI: `v` and the end of the id, within the kernel's 15 bytes (include/uapi/linux/if.h, IFNAMSIZ).
fn link_name(eni: &str) -> String {
    let id = eni.strip_prefix("eni-").unwrap_or(eni);
    format!("v{}", &id[id.len().saturating_sub(13)..])
}

/// The router of a subnet: its network address + 1 (VPC user guide, "Subnet sizing").
#[must_use]
pub fn router_of(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

/// Writes a sysctl of `namespace`; `name` is its path below `/proc/sys`.
///
/// # Errors
/// There is none of that name, or the value is refused.
pub fn sysctl(namespace: &Namespace, name: &str, value: &str) -> Result<(), FabricError> {
    namespace.run(|| fs::write(format!("/proc/sys/{name}"), value))?.map_err(|source| FabricError::Sysctl {
        name: name.to_owned(),
        namespace: namespace.name().to_owned(),
        source,
    })
}
