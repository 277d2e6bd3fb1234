// SPDX-License-Identifier: Apache-2.0
//! ADD: an address from the daemon, the pod plumbed, the result printed. One time budget over all of it.
//!
//! Invariant: a failed ADD leaves nothing: attach takes its own work back, and the address goes back to the daemon,
//! unless a live pod of the same key holds it (an earlier ADD succeeded): the kernel is asked before.
//!
//! ```text
//! withdraw a tombstone of the key ─► AddNetwork (rest of 20 s) ─► plan ─► pod lock ─► attach, unless plumbed already
//!                                       │   meanwhile: the pod's namespace is opened     │
//!                                       │ refused: code 11           │                   │
//!                                       ▼                            └───── failed ──────┴─► a live link of the key? no: DelNetwork
//!                                     error                                                                     SetupNSFailed
//! host ports ─► policy agent, when the daemon names a mode ─► result
//! ```
//! The attach is with egress in another family when the daemon says so and the node has a way out.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use datapath::apply::egress::{self, Egress};
use datapath::apply::pod::{self as apply, Attached as Plumbed, Site};
use datapath::apply::{ApplyError, hostport};
use datapath::plan::hostport::Mapping;
use datapath::plan::pod::{PodAttachment, PodDetachment};
use datapath::plan::{Family, LinkName};
use ipam_api::rpc::{AddNetworkReply, AddNetworkRequest, DelNetworkRequest, EnforceNpRequest};

use crate::call::Call;
use crate::del;
use crate::error::{CniError, Code, chain};
use crate::intent::{self, Wanted};
use crate::pod_lock::{NoLock, PodLock};
use crate::reason::Reason;
use crate::result::{self, Attached};

/// Another ADD of the same sandbox is done with plumbing long before this.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// For giving an address back after a failure, beyond the ADD's own budget if that is spent: a daemon that has just
/// answered does so again at once.
const GIVE_BACK_BUDGET: Duration = Duration::from_secs(1);

/// For the policy agent to be there, as long as the reference's plugin dials. When it is, its answer may take what is left of the ADD.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// Attaches the pod; the result as JSON.
pub(crate) fn add(call: &Call) -> Result<String, CniError> {
    if call.conf.wants_multi_nic {
        let message = "the pod asks for an interface on every network card (annotation k8s.amazonaws.com/nicConfig), \
                       which this version does not do: remove the annotation";
        return Err(CniError::new(Code::Config, Reason::InvalidRequest, message));
    }
    let host_veth = call.host_veth()?;
    let pod_link = LinkName::new(&call.parameters.ifname)
        .map_err(|error| CniError::new(Code::Environment, Reason::ParametersInvalid, format!("CNI_IFNAME: {error}")))?;
    // Its connection is closed by the end of the process: what the daemon does then is in nobody's way.
    let daemon = ManuallyDrop::new(call.daemon());
    del::withdraw_tombstone(call);
    let asked = daemon.begin_add_network(request(call), call.budget.left());
    // What is wrong with it is said when there is an address: a daemon that refuses has the better reason.
    let site = Site::open(Path::new(&call.parameters.netns));
    let reply = asked.answer().map_err(|error| CniError::call(&error))?;
    if !reply.success {
        return Err(CniError::refused(reply.refusal.as_ref()));
    }
    let wanted = Wanted {
        hash: call.conf.hash_of(&host_veth),
        host_veth,
        pod_link,
        netns: call.parameters.netns.clone(),
        owner: call.key().to_string(),
        mtu: call.conf.mtu,
        is_kubernetes: call.pod.is_of_kubernetes(),
    };
    // Also while the address is given back: another ADD of the sandbox would be given it, and plumb it, between the question who has it
    // and that.
    let _lock = lock(call)?;
    match plumb(call, &reply, &wanted, site.and_then(Site::current)) {
        Ok(attached) => Ok(result::to_json(&attached, &call.conf.version)),
        Err(error) => {
            give_back(call);
            Err(error)
        }
    }
}

/// `None`: there is no such namespace, which [`Site::current`] says in its own words.
fn lock(call: &Call) -> Result<Option<PodLock>, CniError> {
    match PodLock::take(&call.parameters.netns, call.budget.up_to(LOCK_WAIT)) {
        Ok(lock) => Ok(Some(lock)),
        Err(NoLock::NoNamespace) => Ok(None),
        // Whose the address is.
        Err(NoLock::Busy) => {
            let message = "another ADD or DEL of the same sandbox is in progress";
            Err(CniError::new(Code::TryAgainLater, Reason::SandboxBusy, message))
        }
    }
}

fn plumb(
    call: &Call,
    reply: &AddNetworkReply,
    wanted: &Wanted,
    site: Result<Site, ApplyError>,
) -> Result<Attached, CniError> {
    let (mut pod, mut attached) = intent::from_reply(reply, wanted)?;
    call.log.debug(
        "address allocated",
        &[("address", &pod.addresses.to_string()), ("table", &attached.route_table.to_string())],
    );
    let egress = intent::egress(reply, pod.addresses);
    let plumbed = site.and_then(|mut site| attach(call, &mut site, &pod, egress)).map_err(|error| {
        let message = format!("plumbing the pod's network failed: {}", chain(&error));
        CniError::new(Code::Internal, Reason::PlumbingFailed, message)
            .because(format!("attaching {} to {} in {}", pod.addresses, pod.host_veth, wanted.netns))
    })?;
    let is_new = matches!(plumbed, Plumbed::Now(_));
    if let Plumbed::Before(host_veth) = plumbed {
        let fields = [("address", &*pod.addresses.to_string()), ("host_veth", host_veth.as_str())];
        call.log.info("attached already", &fields);
        (pod.host_veth, attached.host_veth) = (host_veth.clone(), host_veth);
    }
    if let Err(error) = open_ports(call, &pod).and_then(|()| enforce_policy(call, reply)) {
        // Not taken back when it was there: the pod may run since an earlier ADD. Or that was killed before the agent was asked.
        if is_new {
            take_back(call, &pod);
            // The agent may have begun, and the runtime's DEL will find nothing held by which it would be told.
            del::delete_policy(call, &reply.network_policy_mode, del::AGENT_BUDGET);
        }
        return Err(error);
    }
    Ok(attached)
}

/// With a way out in another family when the daemon wants that and the node has one.
fn attach(call: &Call, site: &mut Site, pod: &PodAttachment, egress: Option<Family>) -> Result<Plumbed, ApplyError> {
    let Some(family) = egress else { return site.attach(pod) };
    let (plumbed, egress) = egress::attach(site, pod, family)?;
    match egress {
        Egress::By(address) => call.log.debug("egress", &[("address", &address.to_string())]),
        Egress::None(cause) => {
            let code = Reason::EgressImpossible.name();
            call.log.warn("the pod has no egress", &[("code", &code), ("cause", &cause)]);
        }
        Egress::AsBefore => {}
    }
    Ok(plumbed)
}

fn open_ports(call: &Call, pod: &PodAttachment) -> Result<(), CniError> {
    let Some(address) = pod.addresses.v4() else {
        if call.conf.host_ports.is_empty() {
            return Ok(());
        }
        let message =
            "host ports of a pod without an IPv4 address are not done by this version: remove `hostPort` from the pod";
        return Err(CniError::new(Code::Config, Reason::InvalidRequest, message)
            .because(format!("its address is {}", pod.addresses)));
    };
    let mapping = Mapping {
        owner: pod.owner.clone(),
        host_veth: pod.host_veth.clone(),
        address,
        ports: call.conf.host_ports.clone(),
    };
    hostport::publish(&call.host_ports(), &mapping).map_err(|error| {
        let message = format!("opening the pod's host ports failed: {}", chain(&error));
        CniError::new(Code::Internal, Reason::HostPortsFailed, message)
    })
}

fn request(call: &Call) -> AddNetworkRequest {
    AddNetworkRequest {
        k8s_pod_name: call.pod.name.clone(),
        k8s_pod_namespace: call.pod.namespace.clone(),
        k8s_pod_infra_container_id: call.pod.infra_container_id.clone(),
        netns: call.parameters.netns.clone(),
        if_name: call.parameters.ifname.clone(),
        network_name: call.conf.name.clone(),
        container_id: call.parameters.container_id.clone(),
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        requires_multi_nic_attachment: false,
        wait_budget_ms: None,
    }
}

/// Tells the network policy agent, which the daemon asks for by naming a mode.
fn enforce_policy(call: &Call, reply: &AddNetworkReply) -> Result<(), CniError> {
    if reply.network_policy_mode.is_empty() {
        return Ok(());
    }
    let request = EnforceNpRequest {
        k8s_pod_name: call.pod.name.clone(),
        k8s_pod_namespace: call.pod.namespace.clone(),
        network_policy_mode: reply.network_policy_mode.clone(),
        interface_count: 1,
    };
    let message = "the network policy agent did not take the pod on: is it running on this node?";
    let failed =
        |details: String| CniError::new(Code::TryAgainLater, Reason::PolicyAgentUnavailable, message).because(details);
    match call.policy_agent().connecting_within(AGENT_PATIENCE).enforce_policy(request, call.budget.left()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed("EnforceNpToPod answered Success=false".to_owned())),
        Err(error) => Err(failed(chain(&error))),
    }
}

fn take_back(call: &Call, pod: &PodAttachment) {
    del::close_ports(call);
    let detachment = PodDetachment {
        host_veth: pod.host_veth.clone(),
        owner: pod.owner.clone(),
        addresses: pod.addresses.iter().collect(),
    };
    if let Err(errors) = apply::take_back(&detachment) {
        for error in errors {
            let code = Reason::GarbageLeft.name();
            call.log.error("taking a failed ADD back", &[("code", &code), ("error", &chain(&error))]);
        }
    }
}

/// Unless the sandbox lives, or nobody can say: a living pod's address would be given to another.
fn give_back(call: &Call) {
    match apply::is_living(&call.key().to_string()) {
        Ok(false) => {}
        Ok(true) => return call.log.info("address not given back: the sandbox lives since an earlier ADD", &[]),
        Err(error) => {
            let code = Reason::KernelUnreadable.name();
            return call.log.warn("address not given back", &[("code", &code), ("error", &chain(&error))]);
        }
    }
    let request = DelNetworkRequest { reason: "SetupNSFailed".to_owned(), ..request(call).del() };
    // The runtime sends a DEL after a failed ADD, so an address that stays allocated here is only late.
    if let Err(error) = call.daemon().del_network(request, GIVE_BACK_BUDGET) {
        let code = Reason::DelUnconfirmed.name();
        call.log.warn("address not given back", &[("code", &code), ("error", &chain(&error))]);
    }
}
