// SPDX-License-Identifier: Apache-2.0
//! The pure core of the IPAM daemon: one state machine that takes [`Event`]s and the time, and returns [`Effects`].
//!
//! No clock, no IO, no tasks, no environment: the driver (crate `ipamd`) owns a [`Core`], feeds it, makes its state
//! durable, sends its replies and runs its actions, in that order.
//!
//! ```text
//!   ids event action reason      the contract with the driver
//!   config                       environment to settings
//!   conflist                     the network configuration list for the runtime, merged with what others chained
//!   core                         events in, effects out: notes an event, then advances the state
//!     ├─ store                   addresses: Free ► Allocated ► Cooling ► Free
//!     ├─ lifecycle               ENIs: Requested ► Attaching ► Configuring ► Ready ► Draining ► Detaching ► Deleting
//!     ├─ waiters                 ADDs without an address, first come first served
//!     ├─ planner                 how much is missing or too much, and what to ask for (pure functions)
//!     └─ reads, backoff, tags    what is known since when, when to try again, whose an ENI is
//!   repair                       what must be in the kernel at any time, and what a look found
//!   election                     which of many nodes does a thing for all of them
//!   ec2                          error codes as classes, the request bucket; for the EC2 edge and the simulation
//!   checkpoint, restore          state to bytes; bytes and kernel to state
//!   pod_network                  custom networking: what the API server says of the node's ENIConfig
//!   snapshot                     the state for `ipamd status`
//!   metrics                      what `/metrics` has: families, their text, what of them follows from a snapshot
//!   chronicle                    the newest of what happened, for `ipamd events` and `ipamd why`
//! ```

pub mod action;
mod backoff;
pub mod checkpoint;
pub mod chronicle;
pub mod config;
pub mod conflist;
pub mod core;
pub mod ec2;
pub mod election;
pub mod event;
#[doc(hidden)]
pub mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod ids;
mod lifecycle;
pub mod metrics;
mod planner;
pub mod pod_network;
mod reads;
pub mod reason;
pub mod repair;
pub mod restore;
pub mod snapshot;
mod store;
pub mod tags;
mod veth;
mod waiters;

pub use crate::core::Core;
pub use action::{Action, ActionKind, Effects, Reply};
pub use checkpoint::{Checkpoint, Drafts};
pub use config::Config;
pub use event::Event;
pub use ids::{BootTime, Now};
pub use restore::Restored;
pub use snapshot::Snapshot;
