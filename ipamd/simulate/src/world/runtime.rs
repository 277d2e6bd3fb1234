// SPDX-License-Identifier: Apache-2.0
//! Kubelet, container runtime and plugin of a node: pods come, ask, are plumbed, retried, and go.
//!
//! ```text
//!   pod wanted ─► ADD ─ waits for the socket while the daemon is away, 20 s in all ─► answered well ─► plumbed ─► runs
//!                  │ refused, connection lost, no daemon in time                                            │ ends
//!                  └──► DEL, and after a pause a new sandbox (kubelet's back-off)              DEL ◄────────┘
//!   DEL ─► the host veth goes to the dead group ─► the daemon is told, or a tombstone is left on disk
//! ```
//!
//! Source: the plugin's budget and tombstones are `cni-plugin`'s; kubelet retries a sandbox with a pause of about a second
//! that grows.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::action::Allocated;
use ipamd_core::ids::{AllocationKey, PodRef, RequestId};
use ipamd_core::reason::Refusal;

use crate::allocator::{Input, Strategy};

use super::{Happening, Life, NodeId, SCAN, World};

/// How long an ADD may take, and how much earlier the daemon answers (`ipam-api`).
const ADD_BUDGET: Duration = Duration::from_millis(20_000);
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// A pod as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Where.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// When it is bound to the node.
    pub starts: BootTime,
    /// When it is deleted; `None`: never.
    pub ends: Option<BootTime>,
}

/// A pod.
#[derive(Debug)]
pub(super) struct Pod {
    plan: PodPlan,
    /// Sandboxes made for it so far.
    tries: u32,
    /// Whether it was deleted.
    over: bool,
}

/// What a pod's runtime does at a moment.
#[derive(Debug)]
pub(super) enum PodMoment {
    Starts,
    Ends,
    /// The plugin has plumbed this sandbox.
    Plumbed(AllocationKey),
    /// The plugin has waited for the socket for its whole budget.
    NoDaemon(AllocationKey),
    /// The runtime removes a sandbox that came to nothing.
    Cleans(AllocationKey),
    /// The runtime asks again for a sandbox that is there.
    AddAgain(AllocationKey),
    /// The runtime removes a sandbox once more.
    DelAgain(AllocationKey),
    /// Another sandbox is tried.
    Retries,
}

/// A sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pod: usize,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The plugin waits for the socket until then.
    AtTheDoor(BootTime),
    Asking(RequestId),
    Plumbing(Ipv4Addr),
    Running(Ipv4Addr),
    /// It came to nothing and will be removed.
    Failed,
}

impl<S: Strategy> World<S> {
    /// A pod comes and goes.
    pub fn plan_pod(&mut self, plan: PodPlan) {
        let pod = self.pods.len();
        self.queue.put(plan.starts, Happening::Pod(pod, PodMoment::Starts));
        if let Some(ends) = plan.ends {
            self.queue.put(ends, Happening::Pod(pod, PodMoment::Ends));
        }
        self.pods.push(Pod { plan, tries: 0, over: false });
    }

    /// ADD calls that wait for an answer, on all nodes.
    #[must_use]
    pub fn waiting_adds(&self) -> usize {
        self.nodes.iter().map(|node| node.adds.len()).sum()
    }

    pub(super) fn pod_moment(&mut self, pod: usize, moment: PodMoment) {
        match moment {
            PodMoment::Starts | PodMoment::Retries => self.try_sandbox(pod),
            PodMoment::Ends => self.end_pod(pod),
            PodMoment::Plumbed(key) => self.plumbed(pod, key),
            PodMoment::NoDaemon(key) => self.no_daemon(pod, &key),
            PodMoment::Cleans(key) => {
                let id = self.pods[pod].plan.node;
                if self.nodes[id.0].sandboxes.remove(&key).is_some() {
                    self.del(id, key);
                }
            }
            PodMoment::AddAgain(key) => self.add_again(pod, &key),
            PodMoment::DelAgain(key) => self.del(self.pods[pod].plan.node, key),
        }
    }

    fn key_of(&self, pod: usize) -> AllocationKey {
        AllocationKey {
            network: "aws-cni".to_owned(),
            container_id: format!("{pod}x{}", self.pods[pod].tries),
            ifname: "eth0".to_owned(),
        }
    }

    fn try_sandbox(&mut self, pod: usize) {
        if self.pods[pod].over {
            return;
        }
        let id = self.pods[pod].plan.node;
        if self.waits_for_network(id, pod) {
            return;
        }
        self.pods[pod].tries += 1;
        let key = self.key_of(pod);
        let until = self.now() + ADD_BUDGET;
        let sandbox = Sandbox { pod, state: State::AtTheDoor(until) };
        self.nodes[id.0].sandboxes.insert(key.clone(), sandbox);
        if self.nodes[id.0].daemon.is_some() {
            self.ask(id, &key, until);
        } else {
            self.queue.put(until, Happening::Pod(pod, PodMoment::NoDaemon(key)));
        }
    }

    /// The plugin's ADD reaches the daemon.
    fn ask(&mut self, id: NodeId, key: &AllocationKey, until: BootTime) {
        let deadline = BootTime(until.0.saturating_sub(ANSWER_MARGIN));
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let node = &mut self.nodes[id.0];
        let Some(sandbox) = node.sandboxes.get_mut(key) else { return };
        if !matches!(sandbox.state, State::Running(_) | State::Plumbing(_)) {
            sandbox.state = State::Asking(request);
        }
        let pod = PodRef { namespace: "default".to_owned(), name: self.pods[sandbox.pod].plan.name.clone() };
        node.adds.insert(request, key.clone());
        node.stats.pod_events += 1;
        self.trace.note(self.queue.now(), id, || format!("ADD {}", key.container_id));
        self.checker.asked(id, (request, key), deadline);
        self.feed(id, Input::Add { request, key: key.clone(), pod, deadline });
    }

    /// The plugins that waited for the socket find it.
    pub(super) fn serve_socket(&mut self, id: NodeId) {
        let now = self.now();
        let mut waiting: Vec<(BootTime, AllocationKey)> = self.nodes[id.0]
            .sandboxes
            .iter()
            .filter_map(|(key, sandbox)| match sandbox.state {
                State::AtTheDoor(until) if now + ANSWER_MARGIN < until => Some((until, key.clone())),
                _ => None,
            })
            .collect();
        waiting.sort();
        for (until, key) in waiting {
            if self.nodes[id.0].daemon.is_some() {
                self.ask(id, &key, until);
            }
        }
    }

    pub(super) fn add_replied(&mut self, id: NodeId, request: RequestId, result: Result<Allocated, Refusal>) {
        let now = self.now();
        let Some(key) = self.nodes[id.0].adds.remove(&request) else {
            self.checker.unasked(id, request);
            return;
        };
        self.trace.note(now, id, || match &result {
            Ok(allocated) => format!("ADD {}: {} on {}", key.container_id, allocated.address, allocated.eni_id),
            Err(refusal) => format!("ADD {} refused: {} ({})", key.container_id, refusal.code, refusal.cause),
        });
        self.checker.replied(id, (request, &key), &result, (&self.vpc, &self.nodes[id.0].kernel));
        let node = &mut self.nodes[id.0];
        let Some(sandbox) = node.sandboxes.get_mut(&key) else { return };
        let pod = sandbox.pod;
        match result {
            Ok(allocated) => {
                if matches!(sandbox.state, State::Asking(asked) if asked == request) {
                    sandbox.state = State::Plumbing(allocated.address);
                    let plumbed = now + self.runtime.latency(self.pace.plumb);
                    self.queue.put(plumbed, Happening::Pod(pod, PodMoment::Plumbed(key)));
                    let wait = now.since(self.pods[pod].plan.starts);
                    node.stats.waits.add(wait);
                    node.stats.pods.set(now, node.stats.pods.last() + 1);
                }
            }
            Err(refusal) => {
                *node.stats.refusals.entry(refusal.code.to_string()).or_default() += 1;
                if matches!(sandbox.state, State::Asking(asked) if asked == request) {
                    self.give_up(id, key, pod);
                }
            }
        }
    }

    /// A sandbox came to nothing: it is removed, and another one tried later.
    fn give_up(&mut self, id: NodeId, key: AllocationKey, pod: usize) {
        let now = self.now();
        if let Some(sandbox) = self.nodes[id.0].sandboxes.get_mut(&key) {
            sandbox.state = State::Failed;
        }
        let cleans = now + self.runtime.millis(5, 200);
        self.queue.put(cleans, Happening::Pod(pod, PodMoment::Cleans(key)));
        let pause = self.pause_before_retry(self.pods[pod].tries);
        let retries = now + pause;
        self.queue.put(retries, Happening::Pod(pod, PodMoment::Retries));
    }

    fn no_daemon(&mut self, pod: usize, key: &AllocationKey) {
        let id = self.pods[pod].plan.node;
        let waits = |sandbox: &Sandbox| matches!(sandbox.state, State::AtTheDoor(_));
        if self.nodes[id.0].sandboxes.get(key).is_some_and(waits) {
            self.give_up(id, key.clone(), pod);
        }
    }

    fn plumbed(&mut self, pod: usize, key: AllocationKey) {
        let id = self.pods[pod].plan.node;
        let node = &mut self.nodes[id.0];
        let Some(sandbox) = node.sandboxes.get_mut(&key) else { return };
        let State::Plumbing(address) = sandbox.state else { return };
        sandbox.state = State::Running(address);
        node.kernel.plumb(key.clone(), address);
        if self.runtime.chance(10) {
            let again = self.now() + self.runtime.millis(100, 5_000);
            self.queue.put(again, Happening::Pod(pod, PodMoment::AddAgain(key)));
        }
    }

    fn add_again(&mut self, pod: usize, key: &AllocationKey) {
        let id = self.pods[pod].plan.node;
        let node = &self.nodes[id.0];
        let runs = |sandbox: &Sandbox| matches!(sandbox.state, State::Running(_));
        if node.daemon.is_some() && node.sandboxes.get(key).is_some_and(runs) {
            self.ask(id, key, self.now() + ADD_BUDGET);
        }
    }

    fn end_pod(&mut self, pod: usize) {
        self.pods[pod].over = true;
        let id = self.pods[pod].plan.node;
        let key = self.key_of(pod);
        let Some(sandbox) = self.nodes[id.0].sandboxes.remove(&key) else { return };
        match sandbox.state {
            State::Asking(request) => {
                self.nodes[id.0].adds.remove(&request);
                self.checker.abandoned(id, request);
                self.feed(id, Input::Abandoned { request });
            }
            State::Plumbing(_) | State::Running(_) => self.one_pod_less(id),
            State::AtTheDoor(_) | State::Failed => {}
        }
        self.del(id, key.clone());
        if self.runtime.chance(30) {
            let again = self.now() + self.runtime.millis(100, 10_000);
            self.queue.put(again, Happening::Pod(pod, PodMoment::DelAgain(key)));
        }
    }

    fn one_pod_less(&mut self, id: NodeId) {
        let now = self.now();
        let pods = &mut self.nodes[id.0].stats.pods;
        pods.set(now, pods.last().saturating_sub(1));
    }

    /// The plugin's DEL.
    fn del(&mut self, id: NodeId, key: AllocationKey) {
        let now = self.now();
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let node = &mut self.nodes[id.0];
        node.kernel.unplumb(&key);
        node.stats.pod_events += 1;
        self.checker.released(id, &key);
        if node.daemon.is_some() {
            self.trace.note(now, id, || format!("DEL {}", key.container_id));
            node.dels.insert(request, key.clone());
            self.feed(id, Input::Del { request, key });
        } else {
            self.trace.note(now, id, || format!("DEL {}, left as a tombstone", key.container_id));
            node.tombstones.insert(key);
        }
    }

    /// A sandbox dies without a DEL.
    pub(super) fn vanish(&mut self, id: NodeId, which: u64) {
        let now = self.now();
        let node = &mut self.nodes[id.0];
        let running: Vec<AllocationKey> = node
            .sandboxes
            .iter()
            .filter(|(_, sandbox)| matches!(sandbox.state, State::Running(_)))
            .map(|(key, _)| key.clone())
            .collect();
        let index = usize::try_from(which).unwrap_or(0).checked_rem(running.len());
        let Some(key) = index.and_then(|index| running.get(index)) else { return };
        let Some(sandbox) = node.sandboxes.remove(key) else { return };
        node.kernel.die(key);
        self.pods[sandbox.pod].over = true;
        self.one_pod_less(id);
        self.checker.released(id, key);
        self.trace.note(now, id, || format!("{} dies without a DEL", key.container_id));
    }

    /// The daemon is gone, and with it every connection.
    pub(super) fn hang_up(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let lost: Vec<(usize, AllocationKey)> = std::mem::take(&mut node.adds)
            .into_values()
            .filter_map(|key| {
                let sandbox = node.sandboxes.get(&key)?;
                matches!(sandbox.state, State::Asking(_)).then_some((sandbox.pod, key))
            })
            .collect();
        node.tombstones.extend(std::mem::take(&mut node.dels).into_values());
        for (pod, key) in lost {
            self.give_up(id, key, pod);
        }
    }

    pub(super) fn scan_tombstones(&mut self, id: NodeId, life: Life) {
        if !self.lives(id, life) {
            return;
        }
        let node = &mut self.nodes[id.0];
        node.told.retain(|key| node.tombstones.contains(key));
        let found: Vec<AllocationKey> = node.tombstones.difference(&node.told).cloned().collect();
        node.told.extend(found.iter().cloned());
        for key in found {
            self.trace.note(self.queue.now(), id, || format!("tombstone of {} found", key.container_id));
            self.feed(id, Input::Tombstone { key });
            if !self.lives(id, life) {
                return;
            }
        }
        if !self.nodes[id.0].tombstones.is_empty() {
            self.queue.put(self.now() + SCAN, Happening::Scan(id, life));
        }
    }
}
