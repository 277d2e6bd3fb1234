// SPDX-License-Identifier: Apache-2.0
//! IPv6 of single ENIs: an address, the VPC's router behind it, and an internet that answers. As strict as IPv4 is: a packet
//! leaves an ENI only with the address that the ENI has.
//!
//! Does not know of subnets, prefixes or EC2's IPv6 actions: tests give an ENI its address by hand.

use std::net::Ipv6Addr;

use super::{Fabric, FabricError, port_of, sysctl};
use crate::netns::Namespace;

/// The VPC's router, as every ENI has it (VPC user guide, "IPv6 addressing").
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);
/// The host of the internet.
pub const INTERNET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80);
/// The internet's side of the gateway.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

impl Fabric {
    /// The IPv6 sources for which packets have died at the router.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn ipv6_wrong_sources(&self) -> Result<Vec<String>, FabricError> {
        let set = self.tools.nft_json(&self.router, &["list", "set", "ip6", "fabric", "wrong_source"])?;
        let items = set["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let elements = items.iter().filter_map(|item| item["set"]["elem"].as_array()).flatten();
        Ok(elements.map(ToString::to_string).collect())
    }

    /// Gives the ENI behind `guest_link` of an instance an address, and the instance a default route by it.
    ///
    /// # Errors
    /// The ENI is not plugged in, or the kernel refuses.
    pub fn give_ipv6(
        &self,
        eni: &str,
        instance: &Namespace,
        guest_link: &str,
        address: Ipv6Addr,
    ) -> Result<(), FabricError> {
        let link = port_of(&self.lock(), eni)?.link.clone();
        sysctl(&self.router, "net/ipv6/conf/all/forwarding", "1")?;
        for (namespace, link) in [(&self.router, link.as_str()), (&self.router, "igw"), (&self.internet, "eth0")] {
            // A link-local address that is still being detected as a duplicate asks for no neighbour.
            sysctl(namespace, &format!("net/ipv6/conf/{link}/accept_dad"), "0")?;
            sysctl(namespace, &format!("net/ipv6/conf/{link}/disable_ipv6"), "0")?;
        }
        self.tools.ip(
            &self.router,
            &format!(
                "address add {ROUTER}/64 dev {link} nodad\n\
                 address replace {GATEWAY}/64 dev igw nodad\n\
                 route replace {address}/128 dev {link}\n"
            ),
        )?;
        let lines = format!("address replace {INTERNET}/64 dev eth0 nodad\nroute replace ::/0 via {GATEWAY}\n");
        self.tools.ip(&self.internet, &lines)?;
        self.tools.nft(
            &self.router,
            &format!(
                "table ip6 fabric {{\n\
                 set assigned {{\n type ifname . ipv6_addr\n elements = {{ \"{link}\" . {address} }}\n}}\n\
                 set wrong_source {{\n type ipv6_addr\n size 65536\n flags dynamic\n}}\n\
                 chain source_check {{\n\
                 type filter hook prerouting priority raw; policy accept;\n\
                 iifname \"{link}\" ip6 saddr != {{ ::, fe80::/10 }} iifname . ip6 saddr != @assigned add @wrong_source {{ ip6 saddr }} drop\n\
                 }}\n}}\n"
            ),
        )?;
        let lines =
            format!("address add {address}/128 dev {guest_link} nodad\nroute add ::/0 via {ROUTER} dev {guest_link}\n");
        Ok(self.tools.ip(instance, &lines)?)
    }
}
