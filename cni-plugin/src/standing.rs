// SPDX-License-Identifier: Apache-2.0
//! Is a pod plumbed already? Runtimes give every attempt a new sandbox, so an ADD for a key that is attached is rare; but
//! it must neither cut the living pod's network nor give its address back. Only reads.
//!
//! | the host veth of that name | standing |
//! |---|---|
//! | is not there, is dead, or is another's | [`Standing::Absent`]: attach (which replaces a stale link of the name) |
//! | is live and carries this key and address, with host route, rules, and the pod's link and address in this namespace | [`Standing::Plumbed`]: nothing to do |
//! | is live and carries this key, and something of that is missing | [`Standing::Partial`]: attach makes it anew |

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;

use datapath::apply::observe;
use datapath::plan::pod::PodAttachment;
use datapath::plan::{LinkName, Op, ids};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// What of a pod is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing of this key.
    Absent,
    /// Some of it.
    Partial,
    /// All of it.
    Plumbed,
}

/// Looks. When the kernel cannot be read the answer is `Absent`, and the attach that follows has the error to tell.
pub(crate) fn of(pod: &PodAttachment, netns: &str, veth_prefix: &str) -> Standing {
    // One ioctl in the usual case; the dump below costs more the more pods there are.
    if !exists(&pod.host_veth) {
        return Standing::Absent;
    }
    let Ok(kernel) = observe::kernel(veth_prefix) else { return Standing::Absent };
    let Some(veth) = kernel.pods.iter().find(|observed| observed.link == pod.host_veth) else {
        return Standing::Absent;
    };
    let is_own = veth.alias.as_ref().is_some_and(|alias| alias.owner == pod.owner);
    if !is_own || veth.group == ids::DEAD_GROUP {
        return Standing::Absent;
    }
    let has_address =
        veth.alias.as_ref().is_some_and(|alias| alias.address == pod.address) && veth.host_route == Some(pod.address);
    let plan = datapath::plan::pod::attach(pod);
    let has_rules = plan.rules.iter().all(|op| match op {
        Op::RuleAdd(rule) => kernel.ours.rules.contains(rule),
        _ => true,
    });
    if has_address && has_rules && pod_side_stands(netns, &pod.pod_link, pod.address) {
        Standing::Plumbed
    } else {
        Standing::Partial
    }
}

fn exists(link: &LinkName) -> bool {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .is_ok_and(|socket| netdevice::name_to_index(socket, link.as_str()).is_ok())
}

/// Reads the pod's namespace from a thread that enters it and ends there.
fn pod_side_stands(netns: &str, link: &LinkName, address: Ipv4Addr) -> bool {
    let Ok(namespace) = File::open(netns) else { return false };
    let look = || {
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network).is_ok()
            && has_line(Path::new("/proc/thread-self/net/dev"), &format!("{link}:"))
            && has_line(Path::new("/proc/thread-self/net/fib_trie"), &format!("|-- {address}"))
    };
    std::thread::scope(|scope| scope.spawn(look).join().unwrap_or(false))
}

fn has_line(path: &Path, wanted: &str) -> bool {
    let text = crate::state_file::read(path).ok().flatten().unwrap_or_default();
    text.lines().any(|line| {
        let line = line.trim();
        line == wanted || (wanted.ends_with(':') && line.starts_with(wanted))
    })
}
