// SPDX-License-Identifier: Apache-2.0
//! Settings by class of nodes and by annotation of the Node, with the real daemon: what is changed takes effect without a restart and
//! without a pod that notices, what is wrong changes nothing and is told, and a restart without an API server changes nothing either.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "writes files of settings and kubeconfigs")]

mod bed;
mod classes;
mod node;
mod wrong;
