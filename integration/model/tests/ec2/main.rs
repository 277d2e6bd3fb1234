// SPDX-License-Identifier: Apache-2.0
//! The model's EC2 and IMDS, held against what AWS documents. Expected values are those of the EC2 API reference, the EC2
//! and VPC user guides and logs of the real service, named at each test; never what the model happens to say.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod address;
mod attach;
mod blind;
mod common;
mod consistency;
mod create;
mod describe;
mod iam;
mod imds;
mod interface_types;
mod invariants;
mod keys;
mod refusals;
mod reservations;
mod tags;
