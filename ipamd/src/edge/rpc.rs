// SPDX-License-Identifier: Apache-2.0
//! The plugin's calls as events, and the core's answers as replies of the wire.
//!
//! Decides nothing but whether a request can be one: version, key, no multi-NIC. An ordinary refusal is `Success=false`
//! with our `Refusal` field, as the reference answers, so that its plugin works with us.
//!
//! A GC is a service of its own, which the reference has not.
//!
//! Invariants: an ADD is answered before its caller's budget is over, a reason on the way included
//! ([`ANSWER_MARGIN`]); when its caller goes away its waiter goes too ([`Abandon`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapath::plan::pod::PodLayout;
use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, Attachment, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply,
    DelNetworkRequest, IpAllocationMetadata, NetworkPolicyAgentConfigReply, Refusal as WireRefusal, ReleasedAttachment,
};
use ipam_api::server::{CniBackend, ConfigServerBackend, EnidBackend, check_version};
use ipam_api::{ADD_BUDGET, ANSWER_MARGIN};
use ipamd_core::action::{Allocated, Freed};
use ipamd_core::config::NatBlocks;
use ipamd_core::event::{Garbage, InstanceFacts};
use ipamd_core::ids::{AllocationKey, PodRef, RequestId};
use ipamd_core::reason::{ReasonCode, Refusal};
use ipamd_core::{Config, Event, Reply};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::edge::host::{place, pod_layout};
use crate::edge::kube::Reporter;
use crate::inbox::Inbox;
use crate::metrics::{Phase, Verb};
use crate::observer::{self, Observer};

/// All services.
#[derive(Debug)]
pub(crate) struct Backend {
    inbox: Inbox,
    reporter: Reporter,
    observer: Observer,
    facts: watch::Receiver<Option<InstanceFacts>>,
    blocks: watch::Receiver<NatBlocks>,
    external_snat: bool,
    /// Named in answers: the plugin then asks the network policy agent. Empty: it does not.
    policy_mode: String,
    pod_mtu: u32,
    v6_egress: bool,
    eni_mark_mask: u32,
    next_request: AtomicU64,
}

impl Backend {
    pub(crate) fn new(
        config: &Config,
        (inbox, reporter, observer): (Inbox, Reporter, Observer),
        facts: watch::Receiver<Option<InstanceFacts>>,
        blocks: watch::Receiver<NatBlocks>,
    ) -> Self {
        Self {
            inbox,
            reporter,
            observer,
            facts,
            blocks,
            external_snat: config.snat.external,
            policy_mode: config.policy_mode.clone().unwrap_or_default(),
            pod_mtu: config.pod_mtu,
            v6_egress: config.v6_egress,
            eni_mark_mask: config.eni_mark_mask,
            next_request: AtomicU64::new(1),
        }
    }

    fn request_id(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    async fn ask(&self, request: RequestId, event: Event) -> Result<Reply, Status> {
        let answer = self.inbox.call(request, event);
        let abandon = Abandon { request, inbox: &self.inbox, answered: false };
        let reply = answer.await.map_err(|_| Status::unavailable("the daemon is stopping"));
        abandon.disarm();
        reply
    }

    /// Says what was done, of our plugin's call when the answer has left: a task of its own is polled after the one that answers. (tonic
    /// answers by one more.)
    fn afterwards(&self, tell: impl FnOnce(&Observer) + Send + 'static) {
        let observer = self.observer.clone();
        tokio::spawn(async move { tell(&observer) });
    }

    /// Blocks that are reached without SNAT: the VPC's, and the configured ones unless SNAT is done elsewhere.
    fn unmasked_cidrs(&self) -> Vec<String> {
        let facts = self.facts.borrow();
        let vpc = facts.iter().flat_map(|facts| facts.vpc_cidrs.iter());
        let blocks = self.blocks.borrow();
        let excluded = blocks.exclude.iter().filter(|_| !self.external_snat);
        vpc.chain(excluded).map(ToString::to_string).collect()
    }

    fn metadata(&self, allocated: &Allocated) -> IpAllocationMetadata {
        let place = place(allocated.network_card, allocated.device_index);
        let (pod_route_table, link_group) = match pod_layout(allocated.plumbing, place, self.eni_mark_mask) {
            PodLayout::Classic => (None, None),
            PodLayout::Flat { table, group } => (Some(table.0), Some(group).filter(|group| *group != 0)),
        };
        IpAllocationMetadata {
            ipv4_addr: allocated.address.to_string(),
            device_number: i32::try_from(allocated.device_index.0).unwrap_or(i32::MAX),
            route_table_id: i32::try_from(allocated.table.0).unwrap_or(i32::MAX),
            pod_route_table,
            link_group,
            ..IpAllocationMetadata::default()
        }
    }

    fn released(&self, freed: Freed) -> ReleasedAttachment {
        ReleasedAttachment {
            ip_allocation_metadata: vec![self.metadata(&freed.allocated)],
            container_id: freed.key.container_id,
            if_name: freed.key.ifname,
            k8s_pod_name: freed.pod.name,
            k8s_pod_namespace: freed.pod.namespace,
        }
    }

    /// Says so to everybody by the same code: the log, those who watch, the API server, the plugin.
    fn refuse(&self, call: &observer::Call<'_>, refusal: &Refusal) -> Response<AddNetworkReply> {
        let observer::Call { key, pod, took } = call;
        let waited_ms = clock::millis(*took);
        tracing::warn!(key, %pod, code = %refusal.code, waited_ms, "refused: {}", refusal.cause);
        self.reporter.refused(pod, refusal);
        self.observer.refused(call, refusal);
        Response::new(refused(&wire_refusal(refusal)))
    }

    fn added(&self, allocated: &Allocated) -> AddNetworkReply {
        AddNetworkReply {
            success: true,
            ip_allocation_metadata: vec![self.metadata(allocated)],
            use_external_snat: self.external_snat,
            vpc_v4_cidrs: self.unmasked_cidrs(),
            network_policy_mode: self.policy_mode.clone(),
            pod_mtu: Some(self.pod_mtu),
            v6_egress: self.v6_egress.then_some(true),
            ..AddNetworkReply::default()
        }
    }
}

/// Takes the waiter away when the handler's future is dropped before its answer: the caller is gone.
struct Abandon<'a> {
    request: RequestId,
    inbox: &'a Inbox,
    answered: bool,
}

impl Abandon<'_> {
    fn disarm(mut self) {
        self.answered = true;
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.inbox.event(Event::RequestAbandoned { request: self.request });
        }
    }
}

#[tonic::async_trait]
impl CniBackend for Backend {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let call = request.into_inner();
        check_version(&call.client_version).map_err(|status| *status)?;
        let started = clock::boot();
        let pod = PodRef { namespace: call.k8s_pod_namespace, name: call.k8s_pod_name };
        self.observer.metrics().add_asked();
        let Some(key) = key(&call.network_name, &call.container_id, &call.if_name) else {
            let cause = "container id, link name and network name must not be empty";
            return Ok(self.refuse(&observer::Call { key: "", pod: &pod, took: Duration::ZERO }, &invalid(cause)));
        };
        let text = key.to_string();
        if call.requires_multi_nic_attachment {
            let cause = "pods on several network cards are not supported";
            return Ok(self.refuse(&observer::Call { key: &text, pod: &pod, took: Duration::ZERO }, &invalid(cause)));
        }
        let budget = call.wait_budget_ms.map_or(ADD_BUDGET, |ms| Duration::from_millis(ms.into())).min(ADD_BUDGET);
        let request = self.request_id();
        let event = Event::AddRequested {
            request,
            key,
            deadline: started + budget.saturating_sub(ANSWER_MARGIN),
            pod: pod.clone(),
        };
        let reply = self.ask(request, event).await?;
        let took = clock::boot().since(started);
        let waited_ms = clock::millis(took);
        match reply {
            Reply::Add { result: Ok(allocated), .. } => {
                let answer = self.added(&allocated);
                self.afterwards(move |observer| {
                    let Allocated { address, eni_id, .. } = &allocated;
                    observer.added(&observer::Call { key: &text, pod: &pod, took }, &allocated);
                    tracing::info!(key = text, %pod, %address, %eni_id, waited_ms, "address allocated");
                });
                Ok(Response::new(answer))
            }
            // Not a refusal: the plugin asks the next daemon with what is left of its budget.
            Reply::Add { result: Err(refusal), .. } if refusal.code == ReasonCode::Stopping => {
                Err(Status::unavailable(refusal.cause))
            }
            Reply::Add { result: Err(refusal), .. } => {
                Ok(self.refuse(&observer::Call { key: &text, pod: &pod, took }, &refusal))
            }
            Reply::Del { .. } | Reply::Gc { .. } => Err(Status::internal("bug: another call's answer to an ADD")),
        }
    }

    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        let call = request.into_inner();
        check_version(&call.client_version).map_err(|status| *status)?;
        self.observer.metrics().del_asked(&call.reason);
        let mut reply = DelNetworkReply { success: true, ..DelNetworkReply::default() };
        // Without a key nothing can be held under it, and a DEL must not fail.
        let Some(key) = key(&call.network_name, &call.container_id, &call.if_name) else {
            return Ok(Response::new(reply));
        };
        let (text, started) = (key.to_string(), clock::boot());
        let request = self.request_id();
        let answer = self.ask(request, Event::DelRequested { request, key }).await?;
        let released = match answer {
            Reply::Del { released, .. } => released,
            // The driver's answer while it stops: the plugin leaves a tombstone.
            Reply::Add { .. } => return Err(Status::unavailable("the daemon is stopping")),
            Reply::Gc { .. } => return Err(Status::internal("bug: a GC's answer to a DEL")),
        };
        let took = clock::boot().since(started);
        // Only then: the agent knows pods by name, and at a DEL that is repeated the name may be the next pod's.
        if released.is_some() {
            reply.network_policy_mode.clone_from(&self.policy_mode);
        }
        reply.ip_allocation_metadata = released.iter().map(|released| self.metadata(released)).collect();
        self.afterwards(move |observer| {
            observer.metrics().call(Verb::Del, Phase::Total, took);
            let Some(allocated @ Allocated { address, .. }) = &released else {
                tracing::debug!(key = text, reason = call.reason, "nothing held under this key");
                return;
            };
            let pod = PodRef { namespace: call.k8s_pod_namespace, name: call.k8s_pod_name };
            observer.released(&observer::Call { key: &text, pod: &pod, took }, allocated);
            tracing::info!(key = text, %address, reason = call.reason, "address released");
        });
        Ok(Response::new(reply))
    }
}

#[tonic::async_trait]
impl EnidBackend for Backend {
    async fn collect_garbage(
        &self,
        request: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageReply>, Status> {
        let call = request.into_inner();
        check_version(&call.client_version).map_err(|status| *status)?;
        let network = call.network_name;
        let keys = |list: Vec<Attachment>| -> Result<BTreeSet<AllocationKey>, Status> {
            let key_of = |one: &Attachment| key(&network, &one.container_id, &one.if_name);
            // One that cannot be read is not dropped: what it means would be taken for garbage.
            let read = |one: Attachment| {
                key_of(&one).ok_or_else(|| Status::invalid_argument(format!("no attachment of a sandbox: {one:?}")))
            };
            list.into_iter().map(read).collect()
        };
        let garbage = Garbage {
            keep: keys(call.keep)?,
            gone: keys(call.gone)?,
            spare_younger: Duration::from_millis(call.spare_younger_ms.into()),
            network: network.clone(),
        };
        let (kept, gone) = (garbage.keep.len(), garbage.gone.len());
        let request = self.request_id();
        let released = match self.ask(request, Event::GcRequested { request, garbage }).await? {
            Reply::Gc { released, .. } => released,
            Reply::Add { .. } => return Err(Status::unavailable("the daemon is stopping")),
            Reply::Del { .. } => return Err(Status::internal("bug: a DEL's answer to a GC")),
        };
        tracing::info!(network, kept, gone, released = released.len(), "garbage collected");
        let released = released.into_iter().map(|freed| self.released(freed)).collect();
        Ok(Response::new(CollectGarbageReply { released }))
    }
}

#[tonic::async_trait]
impl ConfigServerBackend for Backend {
    /// What the network policy agent asks once at its start.
    async fn get_network_policy_configs(
        &self,
        _request: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        let facts = self.facts.borrow().clone();
        let facts = facts.ok_or_else(|| Status::unavailable("IMDS has not told yet who this node is"))?;
        Ok(Response::new(NetworkPolicyAgentConfigReply {
            network_policy_mode: self.policy_mode.clone(),
            node_ipv4: facts.primary_address.to_string(),
            instance_id: facts.instance_id.to_string(),
            region: facts.region,
            ..NetworkPolicyAgentConfigReply::default()
        }))
    }
}

fn key(network: &str, container_id: &str, ifname: &str) -> Option<AllocationKey> {
    let parts = [network, container_id, ifname];
    parts.iter().all(|part| !part.is_empty()).then(|| AllocationKey {
        network: network.to_owned(),
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    })
}

fn wire_refusal(refusal: &Refusal) -> WireRefusal {
    WireRefusal {
        code: refusal.code.to_string(),
        cause: refusal.cause.clone(),
        retry_after_ms: refusal.retry_after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
    }
}

/// A request that can never be served.
fn invalid(cause: &str) -> Refusal {
    Refusal { code: ReasonCode::InvalidRequest, cause: cause.to_owned(), retry_after: None }
}

fn refused(refusal: &WireRefusal) -> AddNetworkReply {
    AddNetworkReply { refusal: Some(refusal.clone()), ..AddNetworkReply::default() }
}

#[cfg(test)]
mod tests;
