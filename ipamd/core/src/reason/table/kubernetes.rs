// SPDX-License-Identifier: Apache-2.0
//! Rows of Kubernetes: the API server, kubelet's max-pods.

use super::Surface::{Condition, NodeEvent};
use super::{NOWHERE, ReasonEntry, ReasonKind as Kind, SHOWN, STANDING, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::ApiServerUnavailable,
        Kind::Degraded,
        STANDING,
        "which read or write, what the API server answered",
        "Pods are served all the same; conditions, events and annotations wait. 403: the chart's ClusterRole is missing or older. \
         Otherwise `CLUSTER_ENDPOINT`, `KUBERNETES_SERVICE_HOST` or `KUBECONFIG`, and whether the node reaches it.",
    ),
    row(
        Code::MaxPodsTooHigh,
        Kind::Degraded,
        &[Condition, NodeEvent],
        "kubelet's max-pods, pods that can have an address, pods on the host's network, how the number comes about",
        "Set kubelet's max-pods to the number of the text; `ipamd max-pods TYPE` tells it for every type and mode. Until then the \
         scheduler sends pods that are refused with NodeFull.",
    ),
    row(
        Code::MaxPodsFits,
        Kind::Recovery,
        SHOWN,
        "kubelet's max-pods, pods that can have an address",
        "Nothing: it is the reason of the Node's condition while the number fits.",
    ),
    row(
        Code::UnknownCode,
        Kind::Passing,
        NOWHERE,
        "-",
        "Update the older of both programs. The code's own name is in the daemon's log, and in `ipamd status -o json`.",
    ),
];
