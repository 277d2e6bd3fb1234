// SPDX-License-Identifier: Apache-2.0
//! What is deployed, without a cluster: the chart rendered by helm with values that mean something and with wrong ones, every object
//! held to Kubernetes' own schemas, the committed manifests, the Dockerfile, and the IAM policies on a node that has no other rights.
//! The image itself is another suite's (`image`, `make test-image`): it takes a static build of the daemon.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "runs helm and reads files of the repository")]

mod charts;
mod files;
mod policies;
mod refused;
mod rendered;
mod rights;
