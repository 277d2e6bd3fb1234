// SPDX-License-Identifier: Apache-2.0
//! The router's nft table as text: source check, TTL, NAT at the internet gateway, the security-group hook.
//!
//! Pure: text out, nothing loaded. ENI links are all called `v…`, which is how rules tell them from `igw`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The table.
pub(super) const TABLE: &str = "ip fabric";

/// Counting sets: name -> what dies there. Keyed by (link, address).
pub(super) const WRONG_SOURCE: &str = "wrong_source";
/// See [`WRONG_SOURCE`].
pub(super) const NO_DESTINATION: &str = "no_destination";
/// See [`WRONG_SOURCE`].
pub(super) const NO_PUBLIC_ADDRESS: &str = "no_public_address";

/// The whole table, with no ENI in it.
///
/// The source check stands before connection tracking (priority raw), so that what dies leaves no trace in it. A packet's TTL
/// is raised by a chain an initial value, because nft has no arithmetic on it; 255 cannot be raised and loses one.
pub(super) fn base(vpc: &[Ipv4Net]) -> String {
    let blocks = vpc.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("table {TABLE} {{\n");
    text += "set assigned {\n type ifname . ipv4_addr\n}\n";
    text += "set unchecked {\n type ifname\n}\n";
    text += "set has_public {\n type ipv4_addr\n}\n";
    text += "map to_public {\n type ipv4_addr : ipv4_addr\n}\n";
    text += "map to_private {\n type ipv4_addr : ipv4_addr\n}\n";
    for counted in [WRONG_SOURCE, NO_DESTINATION, NO_PUBLIC_ADDRESS] {
        let _ = write!(text, "set {counted} {{\n type ifname . ipv4_addr\n size 65536\n flags dynamic\n counter\n}}\n");
    }
    for ttl in 1..=254 {
        let raised = ttl + 1;
        let _ = write!(text, "chain ttl{raised} {{\n ip ttl set {raised}\n}}\n");
    }
    let raises = (1..=254).map(|ttl| format!("{ttl} : jump ttl{}", ttl + 1)).collect::<Vec<_>>().join(", ");
    let _ = write!(
        text,
        "chain source_check {{\n\
         type filter hook prerouting priority raw; policy accept;\n\
         iifname \"v*\" iifname != @unchecked iifname . ip saddr != @assigned add @{WRONG_SOURCE} {{ iifname . ip saddr }} drop\n\
         iifname \"v*\" fib daddr type != local fib daddr oif missing add @{NO_DESTINATION} {{ iifname . ip daddr }} drop\n\
         iifname \"v*\" ip daddr {{ {blocks} }} ip ttl vmap {{ {raises} }}\n\
         }}\n\
         chain security_groups {{\n}}\n\
         chain forward {{\n\
         type filter hook forward priority filter; policy accept;\n\
         iifname \"v*\" oifname \"igw\" ip saddr != @has_public add @{NO_PUBLIC_ADDRESS} {{ iifname . ip saddr }} drop\n\
         jump security_groups\n\
         }}\n\
         chain from_internet {{\n\
         type nat hook prerouting priority dstnat; policy accept;\n\
         iifname \"igw\" dnat to ip daddr map @to_private\n\
         }}\n\
         chain to_internet {{\n\
         type nat hook postrouting priority srcnat; policy accept;\n\
         oifname \"igw\" snat to ip saddr map @to_public\n\
         }}\n\
         }}\n"
    );
    text
}

/// `add` or `delete` the addresses of `blocks` to or from those that may come in by `link`. Prefixes are spelled out: a hash
/// set of addresses, no intervals. Empty for no blocks.
pub(super) fn elements(verb: &str, link: &str, blocks: &[Ipv4Net]) -> String {
    let addresses = blocks.iter().flat_map(|block| {
        let first = u32::from(block.network());
        (first..=u32::from(block.broadcast())).map(Ipv4Addr::from)
    });
    let elements = addresses.map(|address| format!("\"{link}\" . {address}")).collect::<Vec<_>>();
    if elements.is_empty() {
        return String::new();
    }
    format!("{verb} element {TABLE} assigned {{ {} }}\n", elements.join(", "))
}

/// Turns the source check of one link. Adding first makes the deletion of what was never there a success.
pub(super) fn source_check(link: &str, enabled: bool) -> String {
    let add = format!("add element {TABLE} unchecked {{ \"{link}\" }}\n");
    if enabled { format!("{add}delete element {TABLE} unchecked {{ \"{link}\" }}\n") } else { add }
}

/// Maps `private` and `public` to each other.
pub(super) fn public(private: Ipv4Addr, public: Ipv4Addr) -> String {
    format!(
        "add element {TABLE} has_public {{ {private} }}\n\
         add element {TABLE} to_public {{ {private} : {public} }}\n\
         add element {TABLE} to_private {{ {public} : {private} }}\n"
    )
}

/// Replaces the rules of the security-group chain.
pub(super) fn security_groups(rules: &str) -> String {
    let added: String = rules.lines().map(|rule| format!("add rule {TABLE} security_groups {rule}\n")).collect();
    format!("flush chain {TABLE} security_groups\n{added}")
}
