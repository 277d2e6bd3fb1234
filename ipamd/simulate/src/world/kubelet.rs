// SPDX-License-Identifier: Apache-2.0
//! Kubelet: when it tries a pod's sandbox at all, and when again.
//!
//! Two kinds. The eager one asks at once and often, whatever the daemon is at: that finds bugs. The real one does what
//! kubelet does, for figures that users will see:
//!
//! ```text
//!   pod bound ─► network configuration there? ─no─► looks for it every 5 s, then each pod within 1-1.5 s
//!                          └─yes─► sandbox ─ fails ─► again after 10-15 s
//! ```
//! Source: Kubernetes, `pkg/kubelet/pod_workers.go` (back-off of 10 s, 1 s while the network is not ready, half of it as
//! jitter) and `pkg/kubelet/kubelet.go` (the runtime's status every 5 s).

use std::time::Duration;

use crate::allocator::{Allocator, Strategy};

use super::runtime::PodMoment;
use super::{Happening, NodeId, World};

/// Eager: first and longest pause before a pod gets another sandbox.
const EAGER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Real: pause after a sandbox that failed, and the jitter on top.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Real: how often the runtime's status is read.
const STATUS: Duration = Duration::from_secs(5);
/// Real: longest pause of a pod that waits for the network.
const NOT_READY: Duration = Duration::from_millis(1_500);

/// Which kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kubelet {
    /// Asks at once and often.
    Eager,
    /// As it is.
    Real,
}

impl<S: Strategy> World<S> {
    /// Whether the pod has to wait for the node's network; it is then noted down and tried when that is there.
    pub(super) fn waits_for_network(&mut self, id: NodeId, pod: usize) -> bool {
        let node = &mut self.nodes[id.0];
        let waits = self.kubelet == Kubelet::Real && !node.network;
        if waits {
            node.before_network.push(pod);
        }
        waits
    }

    /// The network configuration is written when the daemon is ready for the first time; kubelet finds it a little later.
    pub(super) fn look_for_network(&mut self, id: NodeId) {
        let now = self.both_clocks();
        let node = &mut self.nodes[id.0];
        let ready = || node.daemon.as_ref().is_some_and(|daemon| daemon.is_ready(now));
        if node.network || self.kubelet == Kubelet::Eager || !ready() {
            return;
        }
        node.network = true;
        let waiting = std::mem::take(&mut node.before_network);
        let found = now.boot + self.runtime.time(Duration::ZERO, STATUS);
        for pod in waiting {
            let tries = found + self.runtime.time(Duration::ZERO, NOT_READY);
            self.queue.put(tries, Happening::Pod(pod, PodMoment::Retries));
        }
    }

    /// How long before a pod gets another sandbox; `tries`: those it had.
    pub(super) fn pause_before_retry(&mut self, tries: u32) -> Duration {
        match self.kubelet {
            Kubelet::Eager => {
                let (first, longest) = EAGER;
                let doublings = tries.saturating_sub(1).min(6);
                self.runtime.latency((first * (1 << doublings)).min(longest))
            }
            Kubelet::Real => {
                let (pause, jitter) = BACK_OFF;
                self.runtime.time(pause, pause + jitter)
            }
        }
    }
}
