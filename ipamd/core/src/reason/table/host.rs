// SPDX-License-Identifier: Apache-2.0
//! Rows of the node's network: the kernel, what others do to it, host ports, the container runtime.

use super::Surface::{Log, Metric, NodeEvent, PluginLog};
use super::{FAILED, LOGGED, NOTICED, ReasonEntry, ReasonKind as Kind, STANDING, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::HostSetupFailed,
        Kind::Degraded,
        FAILED,
        "what the kernel answered, milliseconds until the next try",
        "No pod gets an address before the host's rules stand. The text has the step and the kernel's error: a missing module \
         (`nf_tables`, `nft_masq`), no right (`CAP_NET_ADMIN` of the daemon), a link that is gone. `ipamd plan-host` prints what is \
         wanted as commands to try by hand; `ipamd doctor` looks at the kernel.",
    ),
    row(
        Code::HostRepaired,
        Kind::Repair,
        NOTICED,
        "what was put back, object by object; the programs that were seen changing it",
        "Nothing: it is whole again. If it was not you, find out who removes rules: a firewall's reload, systemd-networkd or \
         NetworkManager without the files in deploy/systemd-networkd and deploy/NetworkManager. `ipamd_repairs_total` counts them by object.",
    ),
    row(
        Code::HostContested,
        Kind::Degraded,
        NOTICED,
        "how many repairs in how many seconds, the last of them, the programs that are likely behind it",
        "Two programs fight over the node's network, and pods lose packets between the blows. Stop the other one, or tell it to leave \
         alone what is ours: for systemd-networkd, NetworkManager and udev there are files in deploy and a section in the README; \
         a second CNI must not manage the same node.",
    ),
    row(Code::OrphansSwept, Kind::Repair, LOGGED, "the objects that were removed", "Nothing."),
    row(
        Code::RepairFailed,
        Kind::Degraded,
        STANDING,
        "which part, what the kernel answered, milliseconds until the next try",
        "The text has the kernel's words. `ipamd check` lists what differs, and the command that would put it right: run it by hand \
         and see what is in its way.",
    ),
    row(
        Code::KernelRefused,
        Kind::Degraded,
        STANDING,
        "ENI id, what the kernel answered, milliseconds until the next try",
        "It is tried again. What is left of an ENI that goes does no harm; rules of prefixes that cannot be written keep their \
         addresses from being given out. The kernel's words say what is in the way.",
    ),
    row(
        Code::KernelUnreadable,
        Kind::Degraded,
        STANDING,
        "what cannot be read, what the kernel answered",
        "It is tried again. Where it is pods' links and routes, nothing is given back meanwhile; where it is counters of connections or \
         of network cards, only they are not told. If it stays: the daemon needs the host's network namespace and \
         `CAP_NET_ADMIN`; `ipamd doctor`.",
    ),
    row(
        Code::KernelEventsLost,
        Kind::Degraded,
        NOTICED,
        "what the kernel answered, if it did",
        "Nothing: everything is looked at anew. Often: something changes the node's network so fast that notifications overflow; \
         find out what (`ip monitor`, `nft monitor`).",
    ),
    row(
        Code::FlushFailed,
        Kind::Degraded,
        STANDING,
        "how many addresses, what the kernel answered, milliseconds until the next try",
        "Nothing at first: the addresses wait, and after a while they are used all the same (AddressNotFlushed). If it stays, \
         connection tracking cannot be written: `conntrack -L` on the node, modules `nf_conntrack_netlink`.",
    ),
    row(
        Code::ConntrackFilling,
        Kind::Degraded,
        NOTICED,
        "tracked connections, the most there can be; the same code says so when it is over",
        "Raise `net.netfilter.nf_conntrack_max` (kube-proxy: `conntrack.maxPerCore`), or leave traffic inside the VPC untracked \
         (`ENID_NOTRACK`). `conntrack -L | awk '{print $4}' | sort | uniq -c` shows what kind they are.",
    ),
    row(
        Code::ConntrackDropping,
        Kind::Degraded,
        NOTICED,
        "packets dropped for want of room, and because tuples clashed; connections that gave way",
        "Want of room: as with ConntrackFilling. Clashes: many connections to one destination through one address; \
         `AWS_VPC_K8S_CNI_RANDOMIZESNAT`, `ENID_SNAT_PORT_RANGE`, or a NAT gateway (`AWS_VPC_K8S_CNI_EXTERNALSNAT`).",
    ),
    row(
        Code::AllowanceExceeded,
        Kind::Degraded,
        NOTICED,
        "by ENI, packets over each allowance since it was last said",
        "See which: `ethtool -S LINK | grep allowance`, `ipamd_eni_allowance_exceeded_total`. Bandwidth and packets a second: a larger          instance type, or fewer pods that send much. Link-local services: a DNS cache on the node. Connections: security groups that          need not track, or a larger type.",
    ),
    row(
        Code::AddressHeld,
        Kind::Degraded,
        NOTICED,
        "address, link",
        "See what link has the address (`ip -d link show LINK`, `ip route get ADDRESS`): a pod of another CNI, or a leftover. The \
         address comes back when the link is gone.",
    ),
    row(
        Code::SandboxUnplugged,
        Kind::Degraded,
        NOTICED,
        "address, sandbox, seconds",
        "Delete the pod: its network cannot be made anew in place. Find out who removed its link (`ip monitor link`, a script that \
         cleans up veths).",
    ),
    row(
        Code::OrphanReleased,
        Kind::Repair,
        NOTICED,
        "address, sandbox, pod, why it is taken for gone",
        "Nothing. Often: the runtime does not send DELs (it was killed, or its state removed). With `ENID_RUNTIME_ENDPOINT` the runtime \
         is asked before a sandbox is taken for gone.",
    ),
    row(
        Code::AddressAdopted,
        Kind::Repair,
        NOTICED,
        "link, address, sandbox",
        "Nothing: the pod keeps its address. It is seen after the journal was lost.",
    ),
    row(
        Code::RuntimeUnavailable,
        Kind::Degraded,
        STANDING,
        "what the runtime answered, milliseconds until the next try",
        "`ENID_RUNTIME_ENDPOINT` must be the runtime's socket (`crictl -r unix:///run/containerd/containerd.sock pods`), mounted into \
         the daemon's container. Addresses whose sandboxes have lost their host veth stay taken for ten minutes meanwhile.",
    ),
    row(
        Code::NotrackIneffective,
        Kind::Degraded,
        NOTICED,
        "which setting is in the way",
        "Traffic is tracked as without it. Unset `ENID_NOTRACK`, or change what the text names.",
    ),
    row(
        Code::EarlyDemuxOn,
        Kind::Degraded,
        NOTICED,
        "-",
        "`sysctl -w net.ipv4.tcp_early_demux=0` on the node (or in its sysctl.d), or let the daemon write /proc/sys (the chart's \
         init container).",
    ),
    row(
        Code::LinkGroupForeign,
        Kind::Degraded,
        NOTICED,
        "link, ENI id, group",
        "`ip link set dev LINK group 0`, and keep others from setting it: from the next look at the network on node ports are answered.",
    ),
    row(
        Code::EgressImpossible,
        Kind::Degraded,
        &[PluginLog, NodeEvent, Log, Metric],
        "what is missing",
        "Give the primary ENI an IPv6 address and the node an IPv6 default route, or unset `ENABLE_V6_EGRESS`. Pods that come later \
         find it without a restart.",
    ),
    row(
        Code::HostPortClosed,
        Kind::Degraded,
        NOTICED,
        "port, pod, who has it",
        "Two pods ask for one host port of the node: the later one keeps it closed. Change or remove `hostPort` of one, or keep them \
         apart by anti-affinity.",
    ),
    row(
        Code::HostPortsUnreadable,
        Kind::Degraded,
        NOTICED,
        "what the kernel or the folder answered",
        "It is looked at again in 20 s. If it stays, see the folder hostports in the state folder, and `nft list table ip enid_hostports`.",
    ),
    row(
        Code::VethsNotCollected,
        Kind::Degraded,
        NOTICED,
        "what the kernel answered",
        "Nothing: tried again in a minute. They belong to nobody.",
    ),
    row(
        Code::LegacyRulesLeft,
        Kind::Degraded,
        NOTICED,
        "the command that removes them",
        "Run the command of the text once on the node, or reboot it: until then the reference's rules go on translating by its old \
         lists (docs/takeover.md).",
    ),
    row(
        Code::LeftoversRemain,
        Kind::Degraded,
        &[PluginLog, NodeEvent, Log, Metric],
        "what the kernel answered, or the command that removes them",
        "Restart the daemon to try again, or remove them by hand; docs/takeover.md names the chains.",
    ),
];
