// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes lives on Enid: API server, scheduler, controllers, kubelets, containerd and kube-proxy that we did not write,
//! on two nodes of the emulated VPC, with the rights of the chart. `make test-cluster`; `make test` leaves it out.
//!
//! Each test has a cluster of its own, which takes half a minute to come up.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed; runs helm and reads the clock"
)]

mod bed;
mod chart;
#[path = "../deploy/charts.rs"]
#[expect(dead_code, reason = "the suite `deploy` uses the rest of it")]
mod charts;
mod full;
mod pods;
mod ready;
mod restart;
mod workloads;
