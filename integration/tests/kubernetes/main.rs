// SPDX-License-Identifier: Apache-2.0
//! The daemon and the Kubernetes API server: that it is not needed, what is read from it, what is written there.
//!
//! The server is `integration::kube_http`, over plain HTTP on the node's loopback, named by a kubeconfig.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "writes kubeconfigs, reads documents and measures time")]

mod annotation;
mod away;
mod bed;
mod capacity;
mod condition;
mod cordon;
mod demand;
mod full;
mod memory;
mod rights;
mod sweeper;
mod taint;
