// SPDX-License-Identifier: Apache-2.0
//! Rows of what the plugin says itself, without the daemon or in its place.

use super::{OF_PLUGIN, PLUGIN_LOG, ReasonEntry, ReasonKind as Kind, UNLOGGED, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::DaemonUnreachable,
        Kind::Refusal,
        OF_PLUGIN,
        "socket, what the connection answered, in STATUS for how many seconds",
        "See that the daemon runs on this node (`kubectl -n kube-system get pods -o wide`, `systemctl status ipamd`) and what its log \
         says last; plugin and daemon must mean one socket (`ENID_SOCKET`). The runtime tries again, and pods that run are not \
         touched.",
    ),
    row(
        Code::DaemonSilent,
        Kind::Refusal,
        OF_PLUGIN,
        "socket, budget in milliseconds",
        "`ipamd probe live` says whether the daemon's loop turns; its log, what it did last. A node without processor time or memory \
         does the same to every program on it.",
    ),
    row(
        Code::DaemonWentAway,
        Kind::Passing,
        OF_PLUGIN,
        "what the connection answered",
        "Nothing: it is restarting, and the runtime tries again. If it comes again and again, `kubectl describe pod` says why the \
         daemon ends.",
    ),
    row(
        Code::VersionMismatch,
        Kind::Refusal,
        OF_PLUGIN,
        "the daemon's words, with both versions",
        "Install the plugin that came with the daemon: the chart's init container does, or `ipamd install`.",
    ),
    row(
        Code::DaemonFailed,
        Kind::Refusal,
        OF_PLUGIN,
        "gRPC's code and words, or what of the answer makes no sense",
        "See the daemon's log at that time; it is a mistake of the daemon's or another program's socket (`ENID_SOCKET`).",
    ),
    row(
        Code::NoReasonGiven,
        Kind::Refusal,
        OF_PLUGIN,
        "-",
        "The daemon is amazon-vpc-cni-k8s', which gives none: see /var/log/aws-routed-eni/ipamd.log on the node. During a takeover \
         install the plugin that fits the daemon (docs/takeover.md).",
    ),
    row(
        Code::ReplyUnsupported,
        Kind::Refusal,
        OF_PLUGIN,
        "what of the answer",
        "Several network cards and IPv6 pods are not done by this version: remove `k8s.amazonaws.com/nicConfig` from the pod, and see \
         that the daemon is Enid's.",
    ),
    row(
        Code::PlumbingFailed,
        Kind::Refusal,
        OF_PLUGIN,
        "address, host veth, namespace, the kernel's words",
        "The chain of causes names the step and the kernel's error. The namespace is gone: the runtime gave the sandbox up. No such \
         device, not supported: modules `veth`, `nf_tables`. Exists: something of an earlier pod is left, and goes with the next look.",
    ),
    row(Code::SandboxBusy, Kind::Passing, OF_PLUGIN, "-", "Nothing: the runtime tries again."),
    row(
        Code::HostPortsFailed,
        Kind::Refusal,
        OF_PLUGIN,
        "port, who has it or the kernel's words",
        "Another pod has the host port: change `hostPort`, or keep the pods apart. Otherwise the kernel's words, and `nft list table ip \
         enid_hostports`.",
    ),
    row(
        Code::PolicyAgentUnavailable,
        Kind::Refusal,
        OF_PLUGIN,
        "what the agent's socket answered",
        "The daemon names a mode (`NETWORK_POLICY_ENFORCING_MODE`), so the agent must run on the node: see its pod and its log. Or \
         unset the variable.",
    ),
    row(
        Code::ParametersInvalid,
        Kind::Refusal,
        OF_PLUGIN,
        "every variable and what it must be; of a GC, what is wrong with its list",
        "The caller breaks the CNI specification: `CNI_COMMAND`, `CNI_CONTAINERID`, `CNI_NETNS`, `CNI_IFNAME`, `CNI_ARGS`, for a GC \
         cni.dev/valid-attachments in the configuration that it sends. By hand: run the plugin through `cnitool`.",
    ),
    row(
        Code::NetworkConfigInvalid,
        Kind::Refusal,
        OF_PLUGIN,
        "key, its value, what it must be",
        "Correct the configuration list in /etc/cni/net.d (usually 10-aws.conflist, which the daemon writes again when it is removed), or \
         what the pod asks for.",
    ),
    row(
        Code::CniVersionUnsupported,
        Kind::Refusal,
        UNLOGGED,
        "the version, and those that are spoken",
        "Set `cniVersion` of the configuration list to one of those that are listed; CHECK needs 0.4.0, STATUS and GC 1.1.0.",
    ),
    row(
        Code::StdioFailed,
        Kind::Refusal,
        UNLOGGED,
        "what the operating system answered",
        "The caller must give the network configuration on standard input and read standard output.",
    ),
    row(
        Code::NotAsAttached,
        Kind::Degraded,
        OF_PLUGIN,
        "sandbox, every difference",
        "What is on the node the daemon puts back: see that it runs (`ipamd status`, `ipamd check`). What is inside the pod comes back \
         with a new sandbox: delete the pod.",
    ),
    row(
        Code::NothingProven,
        Kind::Refusal,
        OF_PLUGIN,
        "what the socket answered, if it did not answer well",
        "Nothing, for the first seconds of a node. If it stays: `ipamd status`, `ipamd doctor`, the daemon's log.",
    ),
    row(
        Code::GarbageLeft,
        Kind::Degraded,
        OF_PLUGIN,
        "how many failures, what the kernel answered",
        "Nothing: the daemon sweeps it. If it stays, `ipamd check` lists it.",
    ),
    row(
        Code::DelUnconfirmed,
        Kind::Degraded,
        PLUGIN_LOG,
        "path of the tombstone, why the daemon did not answer",
        "Nothing: the daemon releases the address when it finds the tombstone. If that could not be written either, the address is free a \
         minute later.",
    ),
    row(Code::PluginAborted, Kind::Refusal, UNLOGGED, "where", "Report it with the text. The runtime tries again."),
];
