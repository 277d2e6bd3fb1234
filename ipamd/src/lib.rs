// SPDX-License-Identifier: Apache-2.0
//! The IPAM daemon: the driver that owns the pure core (`ipamd-core`), and the edges that turn the world into events.
//!
//! Does: read the configuration once, keep the journal, serve the plugin, run the core's actions, show the state. Does not
//! decide: which pod gets which address, when an ENI is made or given back, and why an ADD is refused are the core's.
//!
//! Invariants: the core is fed by one task and never across an await; nothing is answered or started before what it rests
//! on is in the journal; a panic anywhere ends the process.
//!
//! ```text
//!  plugin ── rpc ──┐                                ┌─► store (journal)          1. durable
//!  netlink ─ watch ┤                                ├─► rpc (replies)            2. answers
//!  IMDS ──── facts ┼─► Inbox ─► driver ─► Core ─► Effects
//!  disk ─ tombstones                                ├─► ec2 (a task each) ──┐    3. actions
//!  kube ─ cordon, ─┤                                ├─► host, flush (a      │
//!         pods     │                                │   thread each) ───────┤
//!  time ───────────┘                                ├─► container runtime ──┤
//!        ▲                                          └─► log, kube (notices) │
//!        └──────────────────────── ActionEnded ◄────────────────────────────┘
//! ```

mod alarm;
mod background;
pub mod cli;
mod clock;
mod driver;
mod edge;
mod inbox;
mod memory;
mod metrics;
mod observer;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;
mod startup;
mod telemetry;

pub use startup::{InitError, run};
