// SPDX-License-Identifier: Apache-2.0
//! How long things take: typical times, around which each single one is drawn.
//!
//! Defaults: an EC2 call 300 ms, an attach 5 s with its link 0.5 s later, a detach 3 s (issue reports of the reference,
//! amazon-vpc-cni-k8s #608, and of cilium #16494), milliseconds for the kernel and IMDS.

use std::time::Duration;

/// Typical times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// An EC2 call, there and back.
    pub call: Duration,
    /// From Attach to `attached`.
    pub attach: Duration,
    /// From `attached` to the link.
    pub link: Duration,
    /// From Detach to `available`.
    pub detach: Duration,
    /// From Create to `available`.
    pub pending: Duration,
    /// A read of IMDS.
    pub imds: Duration,
    /// A call on the kernel.
    pub kernel: Duration,
    /// What the plugin needs to plumb a pod.
    pub plumb: Duration,
    /// From the daemon's death to its next start.
    pub restart: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            call: millis(300),
            attach: millis(5_000),
            link: millis(500),
            detach: millis(3_000),
            pending: millis(500),
            imds: millis(5),
            kernel: millis(3),
            plumb: millis(15),
            restart: millis(1_500),
        }
    }
}
