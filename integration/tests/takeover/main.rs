// SPDX-License-Identifier: Apache-2.0
//! Enid takes a node over from aws-node while its pods live, and hands it back. The node is as aws-node leaves it
//! (`integration::aws_node`); what must be true of a pod afterwards is what the reference's own suites assert.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads and writes files of state, measures")]

mod back;
mod bed;
mod figures;
mod report;
mod there;
