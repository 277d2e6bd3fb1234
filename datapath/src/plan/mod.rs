// SPDX-License-Identifier: Apache-2.0
//! What the kernel must look like, as plain data. No IO, no clock, no randomness: the same input gives the same plan.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | every number and name of ours in the kernel: priorities, protocol, marks, names |
//! | [`model`] | link, address, route, rule, neighbour, sysctl; operations on them; `Display` as `ip` commands |
//! | [`name`] | link names, MAC addresses, the host veth's name |
//! | [`addresses`] | the addresses of a pod, one of a family |
//! | [`alias`] | the text on a host veth that says whose it is |
//! | [`pod`] | attach and detach of a pod |
//! | [`pods`], [`repair`] | what is missing of plumbed pods, and orphans; writes with their reasons |
//! | [`eni`] | an ENI's link, table, rule; the difference to what is there |
//! | [`host`] | the node's own rule, sysctls and nft table |
//! | [`settings`] | what outlives us of it, and what an uninstall puts back |
//! | [`nft`], [`snat`] | an nft table as data and text; the one we own |
//! | [`marks`] | the chain in it that marks packets by the ENI of their pod |
//! | [`answers`] | its chains that lead answers to the secondary ENI that was asked |
//! | [`egress`] | its chains for pods that get out in a family of which they have no address |
//! | [`mss`] | its chain against paths with a smaller MTU |
//! | [`notrack`] | its chains that keep plain traffic inside the VPC out of connection tracking |
//! | [`uninstall`] | what goes with us, and what living pods keep |
//! | [`hand_back`] | live pods as the reference must find them |

pub mod addresses;
pub mod alias;
pub mod answers;
pub mod egress;
pub mod eni;
#[cfg(test)]
mod golden;
pub mod hand_back;
pub mod host;
pub mod hostport;
pub mod ids;
pub mod marks;
pub mod model;
pub mod mss;
pub mod name;
pub mod nft;
pub mod notrack;
pub mod pod;
pub mod pods;
pub mod repair;
pub mod settings;
pub mod snat;
pub mod uninstall;

pub use addresses::PodAddresses;
pub use alias::{AliasError, VethAlias};
pub use model::{
    Address, Family, LinkRef, LinkSet, Mark, Neighbour, Op, Plan, Route, RouteScope, Rule, Sysctl, VethPair,
};
pub use name::{LinkName, LinkNameError, MacAddr, MacAddrError, RouteTable};
