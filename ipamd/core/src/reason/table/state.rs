// SPDX-License-Identifier: Apache-2.0
//! Rows of what the daemon keeps on disk, and of its start.

use super::Surface::{CniError, Condition, Log, Metric, NodeEvent, PluginLog, PodEvent, Status};
use super::{NOTICED, ReasonEntry, ReasonKind as Kind, STANDING, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::StateNotDurable,
        Kind::Degraded,
        // The plugin keeps tombstones and STATUS' patience beside the daemon's files.
        &[CniError, PluginLog, PodEvent, NodeEvent, Condition, Status, Log, Metric],
        "file, what the file system answered",
        "No address is given out that could not be written down first. Make room in, or rights for, the state folder (that of \
         `AWS_VPC_K8S_CNI_BACKING_STORE`, usually /var/run/aws-node, a tmpfs): `df -i`, `df -h`, read-only mounts. It is tried \
         every second; pods that run are not touched.",
    ),
    row(
        Code::JournalUnreadable,
        Kind::Degraded,
        STANDING,
        "file, what is wrong with it, where it was set aside",
        "Nothing is lost that runs: pods' addresses are read from the kernel's links, ENIs from EC2, and the rest waits one cooldown. \
         `ipamd status` has what was adopted or dropped. Keep the file that was set aside and report it.",
    ),
    row(
        Code::StateOfOtherInstance,
        Kind::Degraded,
        STANDING,
        "-",
        "The state folder was copied: usually an image was made of a node that ran. It lies on a tmpfs for that reason; remove it \
         from the image.",
    ),
    row(
        Code::JournalOfOtherBoot,
        Kind::Passing,
        STANDING,
        "both boot ids",
        "Nothing, after a reboot. It is only seen where the state folder is not on a tmpfs.",
    ),
    row(
        Code::AllocationDropped,
        Kind::Repair,
        STANDING,
        "how many, whose",
        "Nothing: their pods have ended. The addresses rest for one cooldown.",
    ),
    row(
        Code::AllocationConflict,
        Kind::Repair,
        STANDING,
        "address, both sandboxes",
        "The first keeps the address. If the second's pod runs, delete it. ipam.json was written by something else, or by hand.",
    ),
    row(
        Code::Ipv6AllocationDropped,
        Kind::Repair,
        STANDING,
        "sandbox",
        "This version serves IPv4 clusters. Do not take IPv6 nodes over.",
    ),
    row(
        Code::AllocationUnconfirmed,
        Kind::Repair,
        STANDING,
        "address",
        "Nothing: the daemon ended between two writes, and the address waits one cooldown.",
    ),
    row(
        Code::StateFileUnreadable,
        Kind::Degraded,
        NOTICED,
        "file, what is wrong with it, where it was set aside",
        "A tombstone: its DEL is lost, and the address is found free a minute later. Settings in force: they are read anew. Settings of \
         the node: an uninstall does not put sysctls back that this file knew. The file that was set aside shows what was in it.",
    ),
    row(
        Code::TombstonesUnwatched,
        Kind::Degraded,
        NOTICED,
        "folder, what the kernel answered",
        "Nothing is lost: a DEL that the plugin left on disk frees its address up to a minute later. Usually other programs of root have \
         taken all instances of inotify (`sysctl fs.inotify.max_user_instances`); it is tried again every minute.",
    ),
    row(
        Code::TakenOver,
        Kind::Passing,
        NOTICED,
        "seconds between both files, where the older was set aside",
        "Nothing (docs/takeover.md).",
    ),
    row(
        Code::StartFailed,
        Kind::Degraded,
        &[Log],
        "which step, and what it answered",
        "lock: another `ipamd` runs on this node. state folder, journal: see StateNotDurable. socket: another program listens at \
         `ENID_SOCKET`. kernel: the daemon needs the host's network namespace and `CAP_NET_ADMIN`. `ipamd doctor` tells more.",
    ),
    row(
        Code::DaemonAborted,
        Kind::Degraded,
        &[Log],
        "where, or what the socket answered",
        "Nothing: it is started anew, and pods keep their network. Report it with the line of the log.",
    ),
    row(
        Code::LogLevelUnchanged,
        Kind::Degraded,
        NOTICED,
        "what was in the way",
        "Restart the daemon: it starts with the level of its settings.",
    ),
    row(
        Code::ConnectionRefused,
        Kind::Degraded,
        NOTICED,
        "the peer's user id or what it sent",
        "The socket is for root and the daemon's own user. See which program connects to `ENID_SOCKET`.",
    ),
    row(
        Code::SystemdNotTold,
        Kind::Degraded,
        NOTICED,
        "socket, what it answered",
        "With `Type=notify` systemd ends a daemon that it does not hear of: see NOTIFY_SOCKET in the daemon's environment, and \
         deploy/systemd.",
    ),
];
