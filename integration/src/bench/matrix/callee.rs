// SPDX-License-Identifier: Apache-2.0
//! Who is called: Enid, the floor, a peer. Each has a node of its own, and pods of its own there.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::burst::{Burst, Call, Failed, burst};
use super::super::floor::Floor;
use super::super::peers::Peer;
use super::super::roomy;
use crate::eventually::NotYet;
use crate::netns::Namespace;
use crate::node::Node;
use crate::sandbox::{Sandbox, SandboxError};
use crate::world::World;

/// Threads that make sandboxes.
const MAKERS: usize = 4;

/// ADD or DEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(super) const BOTH: [Self; 2] = [Self::Add, Self::Del];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// Whose plugin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Callee<'a> {
    Enid(&'a Node),
    Floor(&'a Floor),
    Peer(&'a Peer),
}

/// A pod of one callee's, plumbed or not.
#[derive(Debug)]
pub(super) struct Pod {
    sandbox: Sandbox,
    /// No other pod's.
    number: u32,
}

impl Callee<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Enid(_) => "enid",
            Self::Floor(_) => "floor",
            Self::Peer(peer) => &peer.name,
        }
    }

    /// Its node's.
    pub(super) fn netns(&self) -> &Namespace {
        match self {
            Self::Enid(node) => &node.netns,
            Self::Floor(floor) => &floor.netns,
            Self::Peer(peer) => &peer.netns,
        }
    }

    /// Makes the calls at once. What an ADD prints is kept for the DEL.
    ///
    /// # Errors
    /// The first that failed, and whose it was.
    pub(super) fn call(&self, verb: Verb, pods: &[Pod]) -> Result<Burst, Box<dyn Error>> {
        let told = |error: Failed| format!("{} of {}: {error}", verb.name(), self.name());
        let calls = pods.iter().map(|pod| self.one(verb, pod)).collect::<Result<Vec<_>, _>>().map_err(told)?;
        let ended = burst(self.netns(), calls).map_err(told)?;
        if verb == Verb::Add {
            for (pod, said) in pods.iter().zip(&ended.said) {
                let no_json = |error: serde_json::Error| told(format!("what it printed is no JSON: {error}").into());
                pod.sandbox.remember(serde_json::from_slice(said).map_err(no_json)?);
            }
        }
        Ok(ended)
    }

    fn one(&self, verb: Verb, pod: &Pod) -> Result<Call, Failed> {
        match self {
            Self::Enid(node) => {
                let (command, input) = node.runtime.prepared(verb.name(), &pod.sandbox)?;
                Ok(Call { command, input })
            }
            Self::Floor(floor) => Ok(floor.call(verb.name(), &pod.sandbox, pod.number)),
            Self::Peer(peer) => peer.call(verb.name(), &pod.sandbox),
        }
    }

    /// Waits until so many ADDs at once have their addresses without EC2. For Enid; nobody else runs out of any.
    pub(super) fn ready_for(&self, at_once: usize) -> Result<(), NotYet> {
        let Self::Enid(node) = self else { return Ok(()) };
        roomy::filled(node, at_once)
    }
}

/// Pods to be: their namespaces are there, their links are not.
///
/// # Errors
/// The kernel refuses.
pub(super) fn pods(world: &World, count: usize) -> Result<Vec<Pod>, SandboxError> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let some = |count: usize| -> Result<Vec<Pod>, SandboxError> {
        let numbers = std::iter::repeat_with(|| NUMBER.fetch_add(1, Ordering::Relaxed)).take(count);
        numbers
            .map(|number| Ok(Pod { sandbox: Sandbox::create(&world.tools, &format!("pod-{number}"))?, number }))
            .collect()
    };
    let shares = (0..MAKERS).map(|maker| (count + maker) / MAKERS);
    std::thread::scope(|scope| {
        let some = &some;
        let makers: Vec<_> = shares.map(|share| scope.spawn(move || some(share))).collect();
        let mut pods = Vec::with_capacity(count);
        for maker in makers {
            pods.extend(maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(pods)
    })
}
