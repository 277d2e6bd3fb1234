// SPDX-License-Identifier: Apache-2.0
//! The pure core of the IPAM daemon: one state machine that takes [`Event`]s and the time, and returns [`Effects`].
//!
//! No clock, no IO, no tasks, no environment: the driver (crate `ipamd`) owns a [`Core`], feeds it, makes its state
//! durable, sends its replies and runs its actions, in that order.

pub mod action;
pub mod checkpoint;
pub mod config;
pub mod core;
pub mod event;
pub mod ids;
pub mod reason;
pub mod restore;
pub mod snapshot;

pub use crate::core::Core;
pub use action::{Action, ActionKind, Effects, Reply};
pub use checkpoint::Checkpoint;
pub use config::Config;
pub use event::Event;
pub use ids::{BootTime, Now};
pub use restore::Restored;
pub use snapshot::Snapshot;
