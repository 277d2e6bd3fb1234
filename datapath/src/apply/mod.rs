// SPDX-License-Identifier: Apache-2.0
//! Plans applied to the kernel, by netlink only. Everything blocks for microseconds to milliseconds: the plugin calls it
//! directly, the daemon from one thread of its own. Every call opens its sockets itself, in the namespace of the calling
//! thread, and needs CAP_NET_ADMIN there (pod attach also CAP_SYS_ADMIN, for setns).
//!
//! | module | does |
//! |---|---|
//! | [`pod`] | attach with undo, detach that goes on |
//! | [`egress`] | attach a pod that also gets out in the other family |
//! | [`eni`] | write and prove an ENI's set-up; remove it |
//! | [`host`] | write and prove the node's set-up |
//! | [`ethtool`] | what EC2 held back of a network card |
//! | [`ledger`] | settings of the node as they were before us, and back |
//! | [`observe`] | read what is ours, and who holds which address |
//! | [`inspect`] | what a pass would do, and the kernel's state as text |
//! | [`repair`] | one pass over everything that must be there |
//! | [`hostport`] | ports of the node that lead into pods |
//! | [`conntrack`] | forget the connections of addresses |
//! | [`neighbours`] | forget the neighbours of addresses |
//! | [`garbage`] | delete the dead link group |
//! | [`uninstall`] | take away what no living pod needs |
//! | [`takeover`] | read what a node of the reference's has |
//! | [`hand_back`] | give a node back to the reference with its pods |

pub mod conntrack;
pub mod egress;
pub mod eni;
pub mod error;
pub mod ethtool;
mod execute;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod garbage;
pub mod hand_back;
pub mod host;
pub mod hostport;
pub mod inspect;
pub mod ledger;
pub mod neighbours;
mod netlink;
mod netns;
mod nftables;
pub mod observe;
pub mod pod;
pub mod repair;
mod sysctl;
pub mod takeover;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod tests;
pub mod uninstall;
pub mod watch;

pub use error::{ApplyError, Refusal};
