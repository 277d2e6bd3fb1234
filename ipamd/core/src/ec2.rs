// SPDX-License-Identifier: Apache-2.0
//! What is known of EC2 as a service, as pure functions: what an error code means for a decision, and how many requests a
//! node may send.
//!
//! Makes no call (crate `ipamd-aws`, which reads the wire and waits) and does not decide what follows from a failure (the
//! core). It is here so that the simulation (crate `ipamd-simulate`) runs the very same rules.
//!
//! # The call budget of a node
//!
//! What EC2 hears from a node in the long run, throttling and faults apart; measured at the VPC model by
//! `ipamd/simulate/tests/call_budget.rs`.
//!
//! | when | calls |
//! |---|---|
//! | idle | nothing mutating; one read an hour (plus up to a quarter): DescribeNetworkInterfaces, every 6 hours DescribeSubnets in its place; a look for leaked ENIs a day |
//! | from nothing to the first warm pool | at most 3 mutating ones |
//! | growth with prefixes | at most 1 for 16 pods; a new ENI is filled in its create call, and costs 2 more: to attach it, and to make it go with the instance |
//! | growth with single addresses | 1 for each ENI that is filled, however many ADDs wait; a new ENI as above |

mod bucket;
mod classify;

pub use bucket::{Bucket, Ceiling};
pub use classify::{Sent, classify};
