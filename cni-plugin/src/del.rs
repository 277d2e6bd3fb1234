// SPDX-License-Identifier: Apache-2.0
//! DEL: within 2 s and successful in every state, because a runtime repeats a failed one for ever and keeps the pod. The
//! same DEL may come up to three times, the last ones without a namespace and after the address has another owner, so
//! nothing is found by address that the key does not vouch for.
//!
//! ```text
//! kernel: the key's host ports, portmap's too; what carries the key, to the dead group; its route and rules go,
//!         and the connections of its egress address                                               (daemon not needed)
//! daemon: DelNetwork, 1.2 s at most
//!   Success, or "unknown pod" ─► kernel: the addresses it names, unless a live pod of another key has them
//!   anything else            ─► tombstone for the daemon; kernel: prevResult's addresses, the same way
//! ```
//! Why prevResult only then: while the daemon is away nobody can be given the address anew.

use std::mem::ManuallyDrop;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use datapath::apply::host::has_legacy_tables;
use datapath::apply::{ApplyError, egress, hostport};
use datapath::plan::LinkName;
use datapath::plan::pod::PodDetachment;
use ipam_api::rpc::{DelNetworkReply, DelNetworkRequest, DeleteNpRequest, IpAllocationMetadata};
use ipam_api::{CallError, Client, UNKNOWN_POD};

use crate::call::Call;
use crate::error::chain;
use crate::log;
use crate::pod_lock::PodLock;
use crate::reason::Reason;
use crate::tombstone;

/// All of a DEL.
pub(crate) const DEL_BUDGET: Duration = Duration::from_secs(2);

/// An ADD that is plumbing this pod right now is done within this; one that hangs does not hold a DEL up.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// The daemon's share.
const DAEMON_BUDGET: Duration = Duration::from_millis(1_200);

/// For forgetting connections, begun within it: some 100 ms where there are 100,000.
const FORGET_BUDGET: Duration = Duration::from_millis(300);

/// The network policy agent's share.
pub(crate) const AGENT_BUDGET: Duration = Duration::from_millis(300);

/// Detaches the pod. Never fails: what could not be done is logged, and found by the daemon.
pub(crate) fn del(call: &Call) {
    // Its connection is closed by the end of the process: what the daemon does then is in nobody's way.
    let daemon = ManuallyDrop::new(call.daemon());
    let _lock = PodLock::take(&call.parameters.netns, LOCK_WAIT).ok();
    close_all_ports(call);
    let known = detach(call, Vec::new());
    forget_egress(call, &known);
    let addresses = match confirmed(call, &daemon) {
        Ok(reply) => {
            withdraw_tombstone(call);
            delete_policy(call, &reply.network_policy_mode, call.budget.up_to(AGENT_BUDGET));
            addresses_of(&reply.ip_allocation_metadata)
        }
        Err(cause) => {
            leave_tombstone(call, &cause);
            call.conf.previous_addresses.clone()
        }
    };
    let unknown: Vec<_> = addresses.into_iter().filter(|address| !known.contains(address)).collect();
    if !unknown.is_empty() {
        detach(call, unknown);
    }
}

/// Asks the daemon to release what was taken down already, and leaves that for it when it does not.
pub(crate) fn settle(call: &Call) {
    match confirmed(call, &call.daemon()) {
        Ok(_) => withdraw_tombstone(call),
        Err(cause) => leave_tombstone(call, &cause),
    }
}

/// A DEL that the daemon has confirmed needs none, nor one before this ADD.
pub(crate) fn withdraw_tombstone(call: &Call) {
    if let Err(error) = tombstone::withdraw(&call.conf.state_dir, &call.key()) {
        let code = Reason::StateNotDurable.name();
        call.log.warn("tombstone not withdrawn", &[("code", &code), ("error", &error.to_string())]);
    }
}

/// The link is dead: nothing of the pod's makes new connections.
pub(crate) fn forget_egress(call: &Call, addresses: &[IpAddr]) {
    let end = Instant::now() + FORGET_BUDGET;
    if let Err(error) = egress::forget(addresses, &|| Instant::now() < end) {
        let fields = [("code", &*Reason::GarbageLeft.name()), ("error", &chain(&error))];
        call.log.warn("connections by the pod's egress address are not forgotten", &fields);
    }
}

/// Closes the ports that the sandbox has on the node, and those that a chained `portmap` has opened for it: that was made by a
/// configuration that is no more. Never fails, for the daemon sweeps ours.
fn close_all_ports(call: &Call) {
    let container = &call.parameters.container_id;
    let sandbox = hostport::Sandbox { network: &call.conf.name, container };
    let withdrawn = match hostport::withdraw_all(&call.host_ports(), &call.key().to_string(), sandbox) {
        Ok(withdrawn) => withdrawn,
        Err(error) => return ports_not_closed(call, &error),
    };
    let closed = withdrawn.closed.unwrap_or_else(|error| {
        ports_not_closed(call, &error);
        0
    });
    let found = match withdrawn.of_portmap {
        Ok(found) => found,
        Err(error) => {
            let fields = [("code", &*Reason::LeftoversRemain.name()), ("error", &chain(&error))];
            call.log.error("portmap's rules of this sandbox are not removed", &fields);
            return;
        }
    };
    if !found.is_empty() {
        call.log.info("portmap's rules of this sandbox are removed", &[("commands", &found.join("; "))]);
    } else if closed == 0 && !call.conf.host_ports.is_empty() && has_legacy_tables() {
        call.log.warn(
            "host ports that are not ours: if portmap opened them by iptables-legacy they stay until the command is run",
            &[
                ("code", &Reason::LeftoversRemain.name()),
                ("command", &hostport::portmap_legacy_cleanup(container)),
            ],
        );
    }
}

/// Closes the ports of ours alone: what a failed ADD has opened.
pub(crate) fn close_ports(call: &Call) {
    if let Err(error) = hostport::withdraw(&call.host_ports(), &call.key().to_string()) {
        ports_not_closed(call, &error);
    }
}

fn ports_not_closed(call: &Call, error: &ApplyError) {
    let fields = [("code", &*Reason::GarbageLeft.name()), ("error", &chain(error))];
    call.log.error("host ports not closed: left to the daemon", &fields);
}

/// Takes down what carries the key, and of `addresses` those that nobody else has; what was freed.
fn detach(call: &Call, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let host_veth = match call.host_veth() {
        Ok(host_veth) => host_veth,
        Err(error) => {
            call.log.error("no host veth", &[("code", &error.reason), ("error", &error.message)]);
            return Vec::new();
        }
    };
    detach_from(call, &host_veth, addresses).unwrap_or_default()
}

/// The same by the host veth that the kernel told; the errors are logged.
fn detach_from(call: &Call, host_veth: &LinkName, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Vec<String>> {
    let pod = PodDetachment { host_veth: host_veth.clone(), owner: call.key().to_string(), addresses };
    match datapath::apply::pod::detach(&pod) {
        Ok(detached) => {
            let freed = detached.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            call.log.debug("detached", &[("address", &freed), ("host_veth", host_veth.as_str())]);
            Ok(detached.addresses)
        }
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(|error| chain(error)).collect();
            for error in &errors {
                let code = Reason::GarbageLeft.name();
                let fields = [("code", code.as_str()), ("host_veth", host_veth.as_str()), ("error", error)];
                call.log.error("detaching", &fields);
            }
            Err(errors)
        }
    }
}

/// The node's side of a sandbox that has this host veth: its host ports, and what carries its key; of `addresses` those that nobody
/// else has. What was freed, or all that went wrong.
pub(crate) fn take_down(call: &Call, host_veth: &LinkName, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Vec<String>> {
    close_all_ports(call);
    detach_from(call, host_veth, addresses)
}

/// The daemon's reply, when it has settled the DEL; otherwise why not.
fn confirmed(call: &Call, daemon: &Client) -> Result<DelNetworkReply, String> {
    let request = DelNetworkRequest {
        k8s_pod_name: call.pod.name.clone(),
        k8s_pod_namespace: call.pod.namespace.clone(),
        k8s_pod_infra_container_id: call.pod.infra_container_id.clone(),
        reason: "PodDeleted".to_owned(),
        if_name: call.parameters.ifname.clone(),
        network_name: call.conf.name.clone(),
        container_id: call.parameters.container_id.clone(),
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        k8s_pod_uid: call.pod.uid.clone(),
    };
    match daemon.del_network(request, call.budget.up_to(DAEMON_BUDGET)) {
        Ok(reply) if reply.success => Ok(reply),
        Ok(reply) => {
            let reason = reply.refusal.map(|refusal| format!(": {}: {}", refusal.code, refusal.cause));
            Err(format!("DelNetwork answered Success=false{}", reason.unwrap_or_default()))
        }
        Err(CallError::Failed { message, .. }) if message.contains(UNKNOWN_POD) => Ok(DelNetworkReply::default()),
        Err(error) => Err(chain(&error)),
    }
}

pub(crate) fn addresses_of(allocations: &[IpAllocationMetadata]) -> Vec<IpAddr> {
    let texts = allocations.iter().flat_map(|allocation| [&allocation.ipv4_addr, &allocation.ipv6_addr]);
    texts.filter_map(|text| text.parse().ok()).collect()
}

pub(crate) fn leave_tombstone(call: &Call, cause: &str) {
    let code = Reason::DelUnconfirmed.name();
    match tombstone::leave(&call.conf.state_dir, &call.key(), log::unix_now()) {
        Ok(path) => call.log.warn(
            "the daemon has not confirmed this DEL: left for it to find",
            &[("code", &code), ("path", &path.to_string_lossy()), ("error", cause)],
        ),
        Err(error) => call.log.error(
            "the daemon has not confirmed this DEL, and it could not be left for it",
            &[("code", &code), ("error", cause), ("tombstone", &error.to_string())],
        ),
    }
}

/// Tells the network policy agent when the daemon names a mode, as the reference does; its answer decides nothing.
pub(crate) fn delete_policy(call: &Call, mode: &str, budget: Duration) {
    if mode.is_empty() {
        return;
    }
    let request =
        DeleteNpRequest { k8s_pod_name: call.pod.name.clone(), k8s_pod_namespace: call.pod.namespace.clone() };
    if let Err(error) = call.policy_agent().delete_policy(request, budget) {
        let code = Reason::PolicyAgentUnavailable.name();
        call.log.warn("network policy agent not told", &[("code", &code), ("error", &chain(&error))]);
    }
}
