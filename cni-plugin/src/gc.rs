// SPDX-License-Identifier: Apache-2.0
//! GC: the runtime says which attachments of this network there are; everything of ours that belongs to others is taken down as by
//! DEL, and the daemon is told. What can be done is done, and then what could not be is the error. A list that is `null` says nothing:
//! a warning, and nothing is done.
//!
//! ```text
//! kernel: each host veth with an alias of this network that is not on the list, and is not young: as DEL     (daemon not needed)
//! daemon: CollectGarbage, with the list, what was spared, and what was taken down
//!   released ─► tombstones withdrawn; kernel: its addresses, unless a live pod of another key has them (pods of the reference)
//!   does not know the call (the reference's) ─► DelNetwork for each one that was taken down
//!   not there ─► a tombstone for each one that was taken down
//! ```
//! The race "list made, a pod is added, GC arrives": the specification has the runtime keep the two apart, and we do not rely on it.
//! A sandbox is spared for [`SPARE_YOUNGER`] after its attach, by the kernel's word ([`apply::sandboxes`]), and the daemon spares what
//! it has given out less than that ago, taken down or not. An ADD takes 20 s at most, so its address is as old as the attach or that
//! much older. A link whose ADD is at work has no alias yet. Just before it is taken down a sandbox is read once more, and left when it
//! is not as it was: an ADD may have made it anew. The lock that ADD and DEL take goes by the path of the pod's namespace, which a GC
//! is not told: it holds none.
//!
//! A list can be older than a minute: CRI-O makes it at its start, and calls when STATUS succeeds for the first time. A sandbox that was
//! added between and is old by then would be garbage to us; nothing in the call tells how old its list is. When most of what is old
//! enough goes, the log warns of it.
//!
//! A plugin that is killed on the way leaves links in the dead group: their allocations are released by the next GC, or as
//! orphans. The network policy agent is not told: it knows pods by name, and the name may be a living pod's by now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use datapath::apply::pod::{self as apply, AttachedSandbox};
use datapath::plan::LinkName;
use ipam_api::rpc::{Attachment, CollectGarbageReply, CollectGarbageRequest, ReleasedAttachment};
use ipam_api::{CallError, Code as GrpcCode};

use crate::args::PodArgs;
use crate::call::Call;
use crate::command::Environment;
use crate::del;
use crate::error::{CniError, Code, chain};
use crate::reason::Reason;

/// All of a GC.
pub(crate) const GC_BUDGET: Duration = Duration::from_secs(30);

/// The daemon's share: a restart is waited for.
const DAEMON_BUDGET: Duration = Duration::from_secs(5);

/// What is younger is left alone.
const SPARE_YOUNGER: Duration = Duration::from_secs(60);

/// More than this, and more than half of what is attached: worth a warning.
const MANY: usize = 2;

/// 60 s; ENID_GC_SPARE_MS can make it shorter, not longer.
pub(crate) fn spare_younger(environment: Environment<'_>) -> Duration {
    let shorter = environment("ENID_GC_SPARE_MS").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    shorter.map_or(SPARE_YOUNGER, |shorter| shorter.min(SPARE_YOUNGER))
}

/// What became of the sandboxes that the kernel has.
#[derive(Debug, Default)]
struct Swept {
    /// Taken down, with the addresses that are free now.
    gone: Vec<(Attachment, Vec<IpAddr>)>,
    /// Left: young, or it failed.
    spared: Vec<Attachment>,
    errors: Vec<String>,
}

/// Takes down what is not on the list; `spare_younger`: what is not looked at.
pub(crate) fn gc(call: &Call, spare_younger: Duration) -> Result<(), CniError> {
    let Some(keep) = &call.conf.keep else {
        let code = Reason::ParametersInvalid.name();
        call.log.warn("the runtime's list of what is there is null: nothing is taken down", &[("code", &code)]);
        return Ok(());
    };
    let mut swept = kernel(call, keep, spare_younger)?;
    let keep_told = keep.iter().chain(&swept.spared).cloned().collect();
    let request = CollectGarbageRequest {
        network_name: call.conf.name.clone(),
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        keep: keep_told,
        gone: swept.gone.iter().map(|(attachment, _)| attachment.clone()).collect(),
        spare_younger_ms: u32::try_from(spare_younger.as_millis()).unwrap_or(u32::MAX),
    };
    match call.daemon().collect_garbage(request, call.budget.up_to(DAEMON_BUDGET)) {
        Ok(CollectGarbageReply { released }) => settle(call, &mut swept, &released),
        Err(CallError::Failed { code: GrpcCode::Unimplemented, .. }) => {
            for (attachment, _) in &swept.gone {
                del::settle(&of(call, attachment, PodArgs::default()));
            }
        }
        Err(error) => {
            let cause = chain(&error);
            let code = Reason::DelUnconfirmed.name();
            call.log.warn("the daemon has not collected its garbage", &[("code", &code), ("error", &cause)]);
            for (attachment, _) in &swept.gone {
                del::leave_tombstone(&of(call, attachment, PodArgs::default()), &cause);
            }
        }
    }
    call.log.info(
        "garbage collected",
        &[
            ("kept", &keep.len().to_string()),
            ("taken_down", &swept.gone.len().to_string()),
            ("spared", &swept.spared.len().to_string()),
        ],
    );
    if swept.errors.is_empty() {
        return Ok(());
    }
    let message = format!(
        "GC could not take all of its garbage down ({} failures): what is left is for the next GC or the IPAM daemon",
        swept.errors.len()
    );
    Err(CniError::new(Code::Internal, Reason::GarbageLeft, message).because(swept.errors.join("; ")))
}

/// The node's side of every sandbox of this network that is neither kept nor young.
fn kernel(call: &Call, keep: &[Attachment], spare_younger: Duration) -> Result<Swept, CniError> {
    let found = apply::sandboxes().map_err(|error| {
        let message = "GC cannot list the host veths of this node";
        CniError::new(Code::Internal, Reason::KernelUnreadable, message).because(chain(&error))
    })?;
    let key = |one: &Attachment| (one.container_id.clone(), one.if_name.clone());
    let keep: BTreeSet<_> = keep.iter().map(key).collect();
    let mut swept = Swept::default();
    let (mut garbage, mut old) = (Vec::new(), 0);
    for sandbox in found.into_iter().filter(|sandbox| !sandbox.is_detached) {
        let Some(attachment) = attachment_of(&sandbox.owner, &call.conf.name) else { continue };
        let is_young = sandbox.age.is_none_or(|age| age < spare_younger);
        old += usize::from(!is_young);
        if keep.contains(&key(&attachment)) {
            continue;
        }
        if is_young {
            call.log.debug("not on the list of the runtime, but young: spared", &[("key", &sandbox.owner)]);
            swept.spared.push(attachment);
        } else {
            garbage.push((attachment, sandbox));
        }
    }
    if garbage.len() > MANY && garbage.len() * 2 > old {
        let (taken_down, attached) = (garbage.len().to_string(), old.to_string());
        call.log.warn(
            "the runtime's list names less than half of this network's sandboxes: the rest is taken down",
            &[("code", &Reason::ParametersInvalid.name()), ("taken_down", &taken_down), ("attached", &attached)],
        );
    }
    for (attachment, sandbox) in garbage {
        take_down(call, attachment, &sandbox, &mut swept);
    }
    let freed: Vec<IpAddr> = swept.gone.iter().flat_map(|(_, freed)| freed).copied().collect();
    del::forget_egress(call, &freed);
    Ok(swept)
}

/// One that is still as it was read.
fn take_down(call: &Call, attachment: Attachment, sandbox: &AttachedSandbox, swept: &mut Swept) {
    let one = of(call, &attachment, PodArgs::default());
    let (owner, host_veth) = (&sandbox.owner, &sandbox.host_veth);
    let taken_down = match apply::is_as_read(sandbox) {
        Ok(true) => {
            let fields = [("key", owner.as_str()), ("host_veth", host_veth.as_str())];
            one.log.info("not on the list of the runtime: taken down", &fields);
            del::take_down(&one, host_veth, Vec::new())
        }
        Ok(false) => {
            one.log
                .info("not on the list of the runtime, but made anew or taken down meanwhile: left", &[("key", owner)]);
            swept.spared.push(attachment);
            return;
        }
        Err(error) => Err(vec![chain(&error)]),
    };
    match taken_down {
        Ok(freed) => swept.gone.push((attachment, freed)),
        Err(errors) => {
            swept.errors.extend(errors.into_iter().map(|error| format!("{owner}: {error}")));
            swept.spared.push(attachment);
        }
    }
}

/// The daemon has released: its tombstones are done, and what the kernel has of the addresses goes where the alias did not tell.
fn settle(call: &Call, swept: &mut Swept, released: &[ReleasedAttachment]) {
    for (attachment, _) in &swept.gone {
        del::withdraw_tombstone(&of(call, attachment, PodArgs::default()));
    }
    for one in released {
        let attachment = Attachment { container_id: one.container_id.clone(), if_name: one.if_name.clone() };
        let known = swept.gone.iter().find(|(gone, _)| *gone == attachment);
        let known = known.map(|(_, freed)| freed.as_slice()).unwrap_or_default();
        let mut addresses = del::addresses_of(&one.ip_allocation_metadata);
        addresses.retain(|address| !known.contains(address));
        let pod =
            PodArgs { name: one.k8s_pod_name.clone(), namespace: one.k8s_pod_namespace.clone(), ..PodArgs::default() };
        let one = of(call, &attachment, pod);
        del::withdraw_tombstone(&one);
        if addresses.is_empty() {
            continue;
        }
        let taken_down = one.host_veth().map_err(|error| vec![error.message]);
        let taken_down = taken_down.and_then(|host_veth: LinkName| del::take_down(&one, &host_veth, addresses));
        if let Err(errors) = taken_down {
            swept.errors.extend(errors.into_iter().map(|error| format!("{}: {error}", one.key())));
        }
    }
}

/// The attachment that a key of this network names.
fn attachment_of(owner: &str, network: &str) -> Option<Attachment> {
    let (container_id, if_name) = owner.strip_prefix(network)?.strip_prefix('/')?.rsplit_once('/')?;
    Some(Attachment { container_id: container_id.to_owned(), if_name: if_name.to_owned() })
}

/// The call as it would be for a DEL of one of them.
fn of(call: &Call, attachment: &Attachment, pod: PodArgs) -> Call {
    let mut one = call.clone();
    one.parameters.container_id.clone_from(&attachment.container_id);
    one.parameters.ifname.clone_from(&attachment.if_name);
    one.pod = pod;
    one
}
