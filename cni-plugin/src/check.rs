// SPDX-License-Identifier: Apache-2.0
//! CHECK: is the pod's network as its ADD left it? Judged by the kernel and `prevResult` alone, so that neither a daemon that is
//! restarting nor one that is gone makes a pod look broken. Writes nothing.
//!
//! What is compared: `datapath::plan::pods::check` (pod and node) and the sandbox's host ports. Of `prevResult` only names and
//! addresses are read: what the reference's marker interface and MACs carry is about the time of the ADD. Interfaces and addresses
//! that later plugins have added elsewhere are theirs.
//!
//! ```text
//! look ─ nothing differs ─► success
//!   │ something, or the kernel cannot be read: the daemon may be putting it back, or a DEL of another pod be at work
//!   ▼
//! 1 s after its end: look ─ nothing differs ─► success │ something: error 101 with every difference
//! ```
//! CRI-O calls it after each ADD and for each pod at its start; the specification has it from 0.4.0 on.
#![expect(clippy::disallowed_methods, reason = "looks again after a pause")]

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use datapath::apply::{hostport, pod as apply};
use datapath::plan::LinkName;
use datapath::plan::pods::check::PodCheck;
use serde_json::Value;

use crate::call::Call;
use crate::error::{CniError, Code, chain};
use crate::reason::Reason;

/// The daemon hears of a loss at once, looks 100 ms later, and 400 ms after its last look at the earliest.
const PAUSE: Duration = Duration::from_secs(1);

/// When the second look begins at the latest, since the start of the process: where a first look took long.
pub(crate) const CHECK_BUDGET: Duration = Duration::from_secs(5);

/// Compares; error 101 when something differs both times.
pub(crate) fn check(call: &Call) -> Result<(), CniError> {
    let wanted = wanted(call)?;
    let first = match differences(call, &wanted) {
        Ok(none) if none.is_empty() => return Ok(()),
        Ok(differences) => differences.join("; "),
        Err(error) => error.to_string(),
    };
    call.log.debug("looking again", &[("differences", &first)]);
    std::thread::sleep(call.budget.up_to(PAUSE));
    let left = differences(call, &wanted)?;
    if left.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the network of sandbox {} is not as it was attached ({} found): what is on the node the IPAM daemon puts right, so look \
         whether it runs and what its log says; what is in the pod comes back with a new sandbox, so delete the pod",
        call.key(),
        if left.len() == 1 { "1 difference".to_owned() } else { format!("{} differences", left.len()) }
    );
    Err(CniError::new(Code::NotAsAttached, Reason::NotAsAttached, message).because(left.join("; ")))
}

fn differences(call: &Call, wanted: &PodCheck) -> Result<Vec<String>, CniError> {
    let unread = |what: &str, details: String| {
        let message = format!("CHECK cannot read {what} from the kernel");
        CniError::new(Code::Internal, Reason::KernelUnreadable, message).because(details)
    };
    let found = apply::check(Path::new(&call.parameters.netns), wanted)
        .map_err(|error| unread("the pod's network", chain(&error)))?;
    let mut differences: Vec<String> = found.iter().map(ToString::to_string).collect();
    match hostport::missing_ports(&call.host_ports(), &wanted.owner) {
        Ok(ports) => {
            differences.extend(ports.iter().map(|command| format!("on the node, host port missing: {command}")));
        }
        Err(error @ datapath::apply::ApplyError::Invalid { .. }) => differences.push(error.to_string()),
        Err(error) => return Err(unread("host ports", chain(&error))),
    }
    Ok(differences)
}

/// What the runtime remembers of the pod.
pub(crate) fn wanted(call: &Call) -> Result<PodCheck, CniError> {
    let Some(previous) = &call.conf.previous else {
        let message = "CHECK needs `prevResult`, the result of the ADD, in the network configuration: there is none";
        return Err(CniError::new(Code::Config, Reason::NetworkConfigInvalid, message));
    };
    let ifname = &call.parameters.ifname;
    let invalid = |what: &str| {
        let message = format!("`prevResult` of the network configuration {what}");
        CniError::new(Code::Config, Reason::NetworkConfigInvalid, message).because(previous.to_string())
    };
    let interfaces = list(previous, "interfaces").ok_or_else(|| invalid("has `interfaces` that are no list"))?;
    let mut here = Vec::new();
    for ip in list(previous, "ips").ok_or_else(|| invalid("has `ips` that are no list"))? {
        let address = ip.get("address").and_then(Value::as_str).and_then(|text| text.split('/').next()?.parse().ok());
        let address: IpAddr = address.ok_or_else(|| invalid(&format!("has no address in {ip}")))?;
        // One that names no interface is the only one's.
        let place = ip.get("interface").and_then(Value::as_u64).and_then(|place| usize::try_from(place).ok());
        if place.is_none_or(|place| interfaces.get(place).is_some_and(|interface| name(interface) == ifname)) {
            here.push(address);
        }
    }
    if here.is_empty() {
        return Err(invalid(&format!("has no address of {ifname}")));
    }
    let pod_link = LinkName::new(ifname)
        .map_err(|error| CniError::new(Code::Environment, Reason::ParametersInvalid, format!("CNI_IFNAME: {error}")))?;
    let on_node = interfaces.iter().filter(|interface| interface.get("sandbox").is_none_or(|text| text == ""));
    let by_result = on_node.filter_map(|interface| LinkName::new(name(interface)).ok());
    Ok(PodCheck {
        owner: call.key().to_string(),
        host_veths: call.host_veth().ok().into_iter().chain(by_result).collect(),
        pod_link,
        addresses: here,
    })
}

/// An array of the result, empty when it is not there; `None`: it is something else.
fn list<'a>(result: &'a Value, key: &str) -> Option<&'a [Value]> {
    match result.get(key) {
        None | Some(Value::Null) => Some(&[]),
        Some(value) => value.as_array().map(Vec::as_slice),
    }
}

fn name(interface: &Value) -> &str {
    interface.get("name").and_then(Value::as_str).unwrap_or_default()
}
