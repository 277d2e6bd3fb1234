// SPDX-License-Identifier: Apache-2.0
//! Rows of what an ADD waits for or is refused with: the pool, its places, its limits.

use super::Surface::{CniError, Log, Metric, PluginLog, PodEvent};
use super::{FAILED, LOGGED, NOTICED, NOWHERE, REFUSED, REFUSED_ALONE, ReasonEntry, ReasonKind as Kind, SHOWN, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::NodeFull,
        Kind::Refusal,
        REFUSED,
        "addresses in use of all, cooling ones, ENIs of the most, addresses (or prefixes) an ENI",
        "The node holds as many pods as it can have addresses. `ipamd max-pods` says how many that are, and how the number comes \
         about: set kubelet's max-pods to it, so that the scheduler sends no more. More pods a node: prefix delegation \
         (`ENABLE_PREFIX_DELEGATION`), a larger instance type, a higher `MAX_ENI` where that is set. If `ipamd pods` lists pods \
         that are gone, `ENID_RUNTIME_ENDPOINT` lets the daemon ask the container runtime.",
    ),
    row(
        Code::SubnetExhausted,
        Kind::Degraded,
        FAILED,
        "subnet id, free addresses it has left, seconds until it is asked again, the pool in numbers",
        "Give the subnet addresses back (`aws ec2 describe-network-interfaces --filters Name=subnet-id,Values=SUBNET` says who has \
         them), or give pods another: tag a larger subnet of VPC and zone `kubernetes.io/role/cni=1` \
         (`ENABLE_SUBNET_DISCOVERY`), or name it in the node's ENIConfig (custom networking). Smaller warm targets \
         (`WARM_IP_TARGET`, `MINIMUM_IP_TARGET`) leave more to other nodes. The subnet is asked again by itself.",
    ),
    row(
        Code::SubnetFragmented,
        Kind::Degraded,
        FAILED,
        "subnet id, seconds until a /28 is asked for again",
        "Prefix delegation needs whole /28 blocks. Reserve some in the subnet (`aws ec2 create-subnet-cidr-reservation \
         --reservation-type prefix`), or use a subnet of the pods' own. Meanwhile pods get single addresses, so fewer fit on \
         the node; nothing needs a restart.",
    ),
    row(
        Code::EniPending,
        Kind::Refusal,
        REFUSED,
        "what is asked for or the ENI's id, device index and state, seconds it has been so, the pool in numbers",
        "Usually nothing: an ENI takes 2 to 10 s, and the runtime tries again. If it is seen at every scale-up, keep more addresses \
         warm (`WARM_ENI_TARGET`, `WARM_IP_TARGET`). If it stays, `ipamd enis` has the ENI's last failure.",
    ),
    row(
        Code::EniStuck,
        Kind::Degraded,
        FAILED,
        "ENI id, seconds, what the kernel answered",
        "Look at the ENI in `ipamd enis`, and at the kernel's log for its driver (`dmesg | grep -i ena`): either its link never \
         appeared, or the kernel refused its addresses or routes. After five minutes an ENI that pods do not use is given back \
         and another one made. `ipamd check` compares the kernel with what must be there.",
    ),
    row(
        Code::BudgetSpent,
        Kind::Refusal,
        REFUSED,
        "the pool in numbers",
        "The runtime tries again by itself. Seen often: more pods start at once than the pool keeps warm (raise `WARM_IP_TARGET` or \
         `WARM_ENI_TARGET`), or the runtime's budget is short (`ENID_ADD_BUDGET_MS`). `ipamd status` has the time that calls to \
         EC2 take.",
    ),
    row(
        Code::AllCooling,
        Kind::Refusal,
        REFUSED,
        "milliseconds until the next address is free, the pool in numbers",
        "Wait: a released address rests for `IP_COOLDOWN_PERIOD` (30 s) so that nobody reaches the next pod with what was meant for \
         the last. Jobs that start and end faster than that need more addresses than run at once: leave room for them in \
         kubelet's max-pods, or shorten the period where stale traffic does no harm.",
    ),
    row(
        Code::Starting,
        Kind::Refusal,
        REFUSED,
        "what is being read or set up",
        "Nothing, for the first seconds. If it stays, `ipamd status` says what the daemon waits for, and `ipamd doctor` whether \
         metadata, EC2 and the kernel can be reached.",
    ),
    row(
        Code::Stopping,
        Kind::Passing,
        NOWHERE,
        "-",
        "Nothing: the plugin asks the next daemon with what is left of its budget. No pod sees it.",
    ),
    row(
        Code::Superseded,
        Kind::Passing,
        REFUSED_ALONE,
        "which of both",
        "Nothing: the runtime gave this sandbox up itself.",
    ),
    row(
        Code::InvalidRequest,
        Kind::Refusal,
        &[CniError, PluginLog, PodEvent, Log, Metric],
        "what is wrong with the request",
        "Whoever calls the daemon must say container id, link name and network name, and no multi-NIC: remove the annotation \
         `k8s.amazonaws.com/nicConfig` from the pod; install the plugin that came with the daemon (`ipamd install`).",
    ),
    row(
        Code::LimitsUnknown,
        Kind::Degraded,
        FAILED,
        "instance type, what EC2 answered",
        "The type is newer than this version's table. Allow `ec2:DescribeInstanceTypes` (deploy/iam) and the limits are read; without \
         it they are found out by trying, carefully. `ipamd limits TYPE` shows the table.",
    ),
    row(
        Code::AttachmentLimit,
        Kind::Degraded,
        FAILED,
        "ENIs that EC2 attaches, the pool in numbers",
        "On many types volumes take the same places as ENIs. Set `MAX_ENI` to the number of the text, and kubelet's max-pods to what \
         `ipamd max-pods --max-eni N` says for it; or attach fewer volumes. The limit is tried again after an hour.",
    ),
    row(
        Code::AddressLimit,
        Kind::Degraded,
        FAILED,
        "ENI id, addresses and prefixes that it may hold",
        "Nothing at first: EC2's word is taken for a while, and tried again. If `ipamd limits TYPE` differs from AWS' documentation \
         of the type, report it.",
    ),
    row(
        Code::NoUsableSubnet,
        Kind::Degraded,
        FAILED,
        "the pool in numbers",
        "Tag a subnet of the node's VPC and zone `kubernetes.io/role/cni=1` (where a subnet has tags \
         `cni.networking.k8s.aws/cluster/NAME`, one of them must be this cluster's), or remove `kubernetes.io/role/cni=0` from \
         the node's own; or turn `ENABLE_SUBNET_DISCOVERY` off. The tags are read again every few hours; a restart of the daemon \
         reads them at once.",
    ),
    row(
        Code::SubnetExcluded,
        Kind::Degraded,
        LOGGED,
        "subnet id, ENI id",
        "Nothing, if the subnet's tags are meant so: its pods stay, new ones get addresses elsewhere, and the ENI goes when it is \
         empty. Otherwise set the tag `kubernetes.io/role/cni=1`.",
    ),
    row(
        Code::EniConfigMissing,
        Kind::Degraded,
        FAILED,
        "name of the ENIConfig and where it is from, what the API server answered, the pool in numbers",
        "Create the ENIConfig of that name (`kubectl get eniconfigs`), or correct the Node's annotation or label that names it \
         (`ENI_CONFIG_ANNOTATION_DEF`, `ENI_CONFIG_LABEL_DEF`; without either it is `default`). 403: allow list and watch of \
         `eniconfigs.crd.k8s.amazonaws.com`. No such resource: install its CRD.",
    ),
    row(
        Code::EniConfigFaulty,
        Kind::Degraded,
        FAILED,
        "name of the ENIConfig, each subnet that cannot be used and why, the pool in numbers",
        "Correct the ENIConfig: subnets must be of the node's VPC and zone, so zones need an ENIConfig each, named by the label \
         `topology.kubernetes.io/zone` (`ENI_CONFIG_LABEL_DEF`). A subnet that appears later is found by itself.",
    ),
    row(
        Code::ProvisioningDisabled,
        Kind::Refusal,
        REFUSED,
        "-",
        "Whoever manages this node's ENIs must give it more addresses: the daemon follows at once. Or unset \
         `DISABLE_NETWORK_RESOURCE_PROVISIONING` and `ENABLE_IMDS_ONLY_MODE`.",
    ),
    row(
        Code::NodeCordoned,
        Kind::Refusal,
        REFUSED,
        "-",
        "`kubectl uncordon NODE`, or set `AWS_MANAGE_ENIS_NON_SCHEDULABLE=true` where pods (DaemonSets) start on cordoned nodes.",
    ),
    row(
        Code::PrefixesUnsupported,
        Kind::Degraded,
        NOTICED,
        "-",
        "Only Nitro and bare metal instances take prefixes. Unset `ENABLE_PREFIX_DELEGATION` for this class of nodes \
         (docs/settings.md), or use another type; kubelet's max-pods must be that of single addresses (`ipamd max-pods TYPE`).",
    ),
    row(
        Code::AddressNotFlushed,
        Kind::Degraded,
        NOTICED,
        "how many addresses, the first of them, seconds",
        "Connections of the last pod may reach the next one by these addresses, for as long as the kernel remembers them. The lines \
         with FlushFailed before say what the kernel answered. `ipamd check`; if it comes again, report it.",
    ),
    row(
        Code::AddressesAvailable,
        Kind::Recovery,
        SHOWN,
        "free addresses and those that can come",
        "Nothing: it is the reason of the Node's condition while the next ADD gets an address.",
    ),
];
