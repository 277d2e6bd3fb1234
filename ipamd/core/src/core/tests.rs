// SPDX-License-Identifier: Apache-2.0
//! The whole machine against a tiny EC2 and kernel (`world`), which check the invariants at every step.

mod adaptive;
mod adds;
mod announced;
mod capacity;
mod drift;
mod failures;
mod flush;
mod garbage;
mod journal;
mod leaks;
mod limits;
mod patience;
mod places;
mod pod_network;
mod pool;
mod prefixes;
mod property;
mod repair;
mod restart;
mod sandboxes;
mod settings;
mod supply;
mod unstuck;
mod upkeep;
mod urgency;
mod witness;
mod world;
