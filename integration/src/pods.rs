// SPDX-License-Identifier: Apache-2.0
//! Pods by the dozen: started and ended several at a time, as a kubelet does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::node::{Node, NodeError};
use crate::probe::{EchoServer, ProbeError, reach_both};
use crate::sandbox::{Added, NetnsPath, Sandbox};

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// What the plugin answered.
    pub added: Added,
}

impl Pod {
    /// Whether its address is the primary ENI's: then the main table (254) routes it.
    #[must_use]
    pub fn on_primary(&self) -> bool {
        matches!(self.added.table, 0 | 254)
    }

    /// Serves in the pod and reaches it from `from` over UDP and TCP: the source address that the pod saw.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn reached_from(&self, from: &crate::netns::Namespace) -> Result<std::net::Ipv4Addr, ProbeError> {
        let server = EchoServer::start(&self.sandbox.netns)?;
        reach_both(from, std::net::SocketAddrV4::new(self.added.address, server.port()))
    }
}

/// A pod of each ENI that has some.
#[must_use]
pub fn one_of_each(pods: &[Pod]) -> Vec<&Pod> {
    let mut tables: Vec<u32> = pods.iter().map(|pod| pod.added.table).collect();
    tables.sort_unstable();
    tables.dedup();
    tables.iter().filter_map(|table| pods.iter().find(|pod| pod.added.table == *table)).collect()
}

/// Starts `count` pods, each with a name of its own, `at_once` at a time; `started` is told of each. Order is not kept.
///
/// # Errors
/// The first ADD that fails; pods that had started are lost with it.
pub fn start(node: &Node, count: usize, at_once: usize, started: &AtomicUsize) -> Result<Vec<Pod>, NodeError> {
    let next = AtomicUsize::new(0);
    let pods = Mutex::new(Vec::with_capacity(count));
    in_parallel(at_once, || {
        loop {
            if next.fetch_add(1, Ordering::Relaxed) >= count {
                return Ok(());
            }
            let sandbox = node.next_sandbox()?;
            let added = node.runtime.add(&sandbox)?;
            started.fetch_add(1, Ordering::Relaxed);
            pods.lock().unwrap_or_else(PoisonError::into_inner).push(Pod { sandbox, added });
        }
    })?;
    Ok(pods.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Ends pods, `at_once` at a time: DEL, and the DEL that containerd repeats without the namespace.
///
/// # Errors
/// The first DEL that fails.
pub fn end(node: &Node, pods: Vec<Pod>, at_once: usize) -> Result<(), NodeError> {
    let pods = Mutex::new(pods);
    in_parallel(at_once, || {
        loop {
            let Some(pod) = pods.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
            node.runtime.del(&pod.sandbox, NetnsPath::Given)?;
            node.runtime.del(&pod.sandbox, NetnsPath::Empty)?;
        }
    })
}

fn in_parallel(threads: usize, work: impl Fn() -> Result<(), NodeError> + Sync) -> Result<(), NodeError> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let joined =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // All are joined before the first error is looked at.
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}
