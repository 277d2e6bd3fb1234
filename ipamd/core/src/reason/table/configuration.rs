// SPDX-License-Identifier: Apache-2.0
//! Rows of settings: the environment, files, annotations, and what the configuration list says.

use super::Surface::{Condition, Log, Metric, NodeEvent, Status};
use super::{NOTICED, ReasonEntry, ReasonKind as Kind, SHOWN, STANDING, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::EnvironmentInvalid,
        Kind::Refusal,
        &[Log],
        "every variable, its value and what is allowed",
        "Correct the variables that are listed; all of them are, at once. `ipamd config` shows each with its value and where that is \
         from. Exit code 64: a restart alone does not help.",
    ),
    row(
        Code::ConfigurationInvalid,
        Kind::Degraded,
        &[Condition, NodeEvent, Status, Log, Metric],
        "file or annotation, variable, value, what is allowed",
        "What was there before holds. Correct the file of `ENID_SETTINGS_FILE` or the Node's annotation; `ipamd config --file FILE` \
         checks a file off the node (docs/settings.md). It is read again by itself.",
    ),
    row(
        Code::ConfigurationValid,
        Kind::Recovery,
        SHOWN,
        "-",
        "Nothing: it is the reason of the Node's condition while its settings have no mistake.",
    ),
    row(
        Code::SettingIneffective,
        Kind::Degraded,
        STANDING,
        "variable, its value, why",
        "Remove the variable, or change what the text names. Pods work all the same.",
    ),
    row(
        Code::SettingsFileMissing,
        Kind::Degraded,
        STANDING,
        "path",
        "Create the file (the chart mounts it from a ConfigMap), or unset `ENID_SETTINGS_FILE`. It is looked for every 5 s.",
    ),
    row(
        Code::SnatFileMissing,
        Kind::Degraded,
        NOTICED,
        "path",
        "Create the file, or unset `ENID_SNAT_FILE`. It is looked for every 5 s.",
    ),
    row(
        Code::SnatFileInvalid,
        Kind::Degraded,
        NOTICED,
        "path, what is wrong, the lists that hold",
        "Correct the file: JSON with lists `exclude`, `include` and `external_services` of IPv4 blocks. It is read again by itself.",
    ),
    row(
        Code::ConflistNotWritten,
        Kind::Degraded,
        STANDING,
        "folder, what the file system or the template answered",
        "`HOST_CNI_CONFDIR_PATH` must be there and writable, `ENID_CONFLIST_TEMPLATE` valid. Until the list is there the runtime calls \
         the node's network not ready. Tried every 5 s.",
    ),
    row(
        Code::ConflistReplaced,
        Kind::Repair,
        NOTICED,
        "what was wrong, where it was set aside",
        "Nothing, unless plugins were chained in it that you need: copy them from the file that was set aside into the new list.",
    ),
    row(
        Code::ConflistShadowed,
        Kind::Degraded,
        STANDING,
        "file",
        "Remove the file of another CNI that sorts before 10-aws.conflist, or rename it: pods go to that CNI.",
    ),
    row(
        Code::IntrospectionUnavailable,
        Kind::Degraded,
        NOTICED,
        "address, what it answered",
        "Another program listens there: change `INTROSPECTION_BIND_ADDRESS` or `METRICS_BIND_ADDRESS` (`ss -ltnp` says who). `ipamd \
         status` works all the same by the control socket. Tried again by itself.",
    ),
];
