// SPDX-License-Identifier: Apache-2.0
//! Deterministic simulation: allocators of pod addresses against the VPC model, under a virtual clock and a seed.
//!
//! The real core (`ipamd_core::Core`) runs here as in the daemon, but time is a number, EC2 and IMDS are the strict model
//! (`vpc_model`), and the daemon can be killed between any two steps and started from its journal. The same seed gives the
//! same run. It answers two questions: does any invariant break ([`check`]), and what does a setting cost ([`stats`]).
//!
//! No IO, no clock, no threads: whoever runs it gives the seed.
//!
//! ```text
//!   rng queue pace            chance, the clock, how long things take
//!   allocator                 what runs on a node: inputs in, steps out
//!     ├─ ours                 our daemon: the core, its actions as EC2 calls (translate)
//!     └─ reference            a model of the reference's algorithm
//!   client answer             EC2 calls: bucket, retries; answers read
//!   layout kernel world       VPCs, nodes, runtime, VPC, blows; one queue of happenings
//!   check stats trace         invariants, measures, a readable account
//!   pods figures              traces of pods; what settings cost on them, as table and plot
//!   seed                      a life with faults, drawn from a number; what must hold in the end
//! ```

pub mod allocator;
pub mod answer;
pub mod check;
pub mod client;
pub mod figures;
pub mod kernel;
pub mod layout;
pub mod ours;
pub mod pace;
pub mod pods;
pub mod queue;
pub mod reference;
pub mod rng;
pub mod scale;
pub mod seed;
pub mod stats;
pub mod trace;
pub mod world;
