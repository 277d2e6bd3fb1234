// SPDX-License-Identifier: Apache-2.0
//! Calls of a daemon on their way: to EC2 and back with retries and faults, to IMDS, to the kernel.
//!
//! How long an attach, a link or a detach takes is drawn anew for each: the model's latencies are set before the call.

use std::rc::Rc;
use std::time::Duration;

use ipamd_core::BootTime;
use ipamd_core::event::{Failure, FailureClass};
use vpc_model::{Caller, Delivery, Response};

use crate::allocator::{CallId, Input, KernelCall, Strategy};
use crate::client::{Ec2Call, Return, Verdict};

use super::node::{Life, OpenCall};
use super::{Happening, NodeId, World};

impl<S: Strategy> World<S> {
    /// A daemon makes a call.
    pub(super) fn call_ec2(&mut self, id: NodeId, call: CallId, request: Ec2Call) {
        let now = self.queue.now();
        self.trace.note(now, id, || format!("#{} {}", call.0, brief(&request)));
        let node = &self.nodes[id.0];
        self.checker.emitted(id, &request, (&self.vpc, &node.kernel), &node.enis);
        let node = &mut self.nodes[id.0];
        let life = node.life;
        match node.client.admit(&request, now.0) {
            Ok(wait) => {
                let open = OpenCall { request: Rc::new(request), began: now, attempt: 1 };
                node.calls.insert(call, open);
                self.queue.put(now + wait, Happening::Leave(id, life, call));
            }
            Err(failure) => {
                // The caller hears at once, but not in the same breath.
                let open = OpenCall { request: Rc::new(request), began: now, attempt: u32::MAX };
                node.calls.insert(call, open);
                let returned = Box::new(Return::Refused(failure));
                self.queue.put(now + Duration::from_millis(1), Happening::Return(id, life, call, returned));
            }
        }
    }

    /// An attempt leaves; it arrives whatever becomes of the daemon meanwhile.
    pub(super) fn leave(&mut self, id: NodeId, life: Life, call: CallId) {
        if !self.lives(id, life) {
            return;
        }
        let Some(open) = self.nodes[id.0].calls.get(&call) else { return };
        let request = Rc::clone(&open.request);
        let half = self.latency.latency(self.pace.call) / 2;
        self.queue.put(self.now() + half, Happening::Arrive(id, life, call, request));
    }

    /// An attempt reaches EC2.
    pub(super) fn arrive(&mut self, (id, life, call): (NodeId, Life, CallId), request: &Ec2Call) {
        let now = self.queue.now();
        self.draw_latencies(request);
        if let Some(fault) = self.fault_for(id, request) {
            self.vpc.order_fault(fault);
        }
        self.checker.arriving(id, request, &self.vpc);
        let response = self.vpc.ec2(&Caller::default(), request.action, &request.params, now.0);
        self.trace.note(now, id, || format!("#{} arrives: {}", call.0, outcome(&response)));
        let stats = &mut self.nodes[id.0].stats;
        *stats.calls.entry(request.action).or_default() += 1;
        if response.status == 503 && response.body.contains("RequestLimitExceeded") {
            stats.throttled += 1;
        }
        if request.action == "CreateNetworkInterface" && !response.body.contains("<Error>") {
            self.learn_created(id, &response);
        }
        let half = self.latency.latency(self.pace.call) / 2;
        let timeout = self.nodes[id.0].client.manners().attempt_timeout;
        let (returned, after) = match response.delivery {
            Delivery::Answer if half < timeout => (Return::Answer(response), half),
            Delivery::Answer | Delivery::Hang => (Return::TimedOut, timeout),
            Delivery::Close => (Return::Broken, half),
        };
        self.checker.arrived(id, request, matches!(&returned, Return::Answer(answer) if answer.status < 300));
        self.queue.put(now + after, Happening::Return(id, life, call, Box::new(returned)));
        self.vpc_changed();
        if !request.action.starts_with("Describe") {
            self.count_held(id);
        }
    }

    fn draw_latencies(&mut self, request: &Ec2Call) {
        let mut drawn = |typical| u64::try_from(self.latency.latency(typical).as_millis()).unwrap_or(u64::MAX);
        match request.action {
            "CreateNetworkInterface" => {
                let pending = drawn(self.pace.pending);
                self.vpc.change_settings(|settings| settings.latencies.pending_ms = pending);
            }
            "AttachNetworkInterface" => {
                let (attach, link) = (drawn(self.pace.attach), drawn(self.pace.link));
                self.vpc.change_settings(|settings| {
                    settings.latencies.attach_ms = attach;
                    settings.latencies.link_ms = link;
                });
            }
            "DetachNetworkInterface" => {
                let detach = drawn(self.pace.detach);
                self.vpc.change_settings(|settings| settings.latencies.detach_ms = detach);
            }
            _ => {}
        }
    }

    fn learn_created(&mut self, id: NodeId, response: &Response) {
        let text = response.body.split_once("<networkInterfaceId>").and_then(|(_, rest)| rest.split_once('<'));
        let Some((eni, _)) = text else { return };
        let eni = vpc_model::EniId::from(eni);
        if self.eni_owners.insert(eni.clone(), id).is_none() {
            self.nodes[id.0].enis.push(eni);
        }
    }

    /// An answer, or none, comes back to the node.
    pub(super) fn returned(&mut self, (id, life, call): (NodeId, Life, CallId), returned: Return) {
        if !self.lives(id, life) {
            return;
        }
        let now = self.queue.now();
        let node = &mut self.nodes[id.0];
        let Some(open) = node.calls.get_mut(&call) else { return };
        let spent = (open.attempt, now.since(open.began));
        match node.client.judge(&open.request, returned, spent, now.0) {
            Verdict::Again(pause) => {
                open.attempt += 1;
                self.queue.put(now + pause, Happening::Leave(id, life, call));
            }
            Verdict::Ended(answer) => {
                let open = node.calls.remove(&call);
                if let Some(open) = open {
                    self.checker.returned(id, &open.request, &answer);
                }
                if let Err(failure) = &answer {
                    self.trace.note(now, id, || format!("#{} failed: {:?} {}", call.0, failure.class, failure.message));
                }
                self.feed(id, Input::Ec2 { call, answer });
            }
        }
    }

    pub(super) fn read_imds(&mut self, id: NodeId, life: Life, call: CallId) {
        if !self.lives(id, life) {
            return;
        }
        let now = self.queue.now();
        let node = &mut self.nodes[id.0];
        let fails = node.imds_fails > 0;
        node.imds_fails = node.imds_fails.saturating_sub(1);
        let answer = match self.vpc.imds_view(&node.instance, now.0).filter(|_| !fails) {
            Some(view) => Ok(Box::new(view)),
            None => Err(Failure {
                class: FailureClass::Transient,
                code: "ImdsUnavailable".to_owned(),
                message: "IMDS does not answer".to_owned(),
                retry_after: None,
            }),
        };
        let took = self.latency.latency(self.pace.imds);
        self.queue.put(now + took, Happening::ImdsReturn(id, life, call, answer));
    }

    pub(super) fn call_kernel(
        &mut self,
        (id, life, call): (NodeId, Life, CallId),
        request: &KernelCall,
        ends: BootTime,
    ) {
        if !self.lives(id, life) {
            return;
        }
        let now = self.queue.now();
        let node = &mut self.nodes[id.0];
        let answer = node.kernel.run(request);
        if !matches!(request, KernelCall::Observe) {
            self.trace
                .note(now, id, || format!("kernel {request:?}: {}", if answer.is_ok() { "done" } else { "failed" }));
        }
        self.queue.put(ends, Happening::KernelReturn(id, life, call, answer));
    }

    /// Counts what EC2 has assigned to the node's ENIs for pods.
    pub(super) fn count_held(&mut self, id: NodeId) {
        let now = self.queue.now();
        let node = &mut self.nodes[id.0];
        let vpc = &self.vpc;
        node.enis.retain(|eni| vpc.eni(eni).is_some());
        let held: usize = node
            .enis
            .iter()
            .filter_map(|eni| vpc.eni(eni))
            .map(|eni| eni.secondaries.len() + 16 * eni.prefixes.len())
            .sum();
        node.stats.held.set(now, u32::try_from(held).unwrap_or(u32::MAX));
    }
}

/// A call in one line.
fn brief(request: &Ec2Call) -> String {
    let shown = |name: &str| !name.starts_with("TagSpecification") && name != "Description" && name != "MaxResults";
    let params: Vec<String> =
        request.params.iter().filter(|(name, _)| shown(name)).map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}", request.action, params.join(" "))
}

fn outcome(response: &Response) -> String {
    let code = response.body.split_once("<Code>").and_then(|(_, rest)| rest.split_once('<')).map(|(code, _)| code);
    let delivery = if response.delivery == Delivery::Answer { "" } else { ", nobody hears of it" };
    format!("{}{delivery}", code.unwrap_or("done"))
}
