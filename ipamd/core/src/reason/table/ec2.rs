// SPDX-License-Identifier: Apache-2.0
//! Rows of EC2 and instance metadata: calls that fail, and objects that are not as the journal has them.

use super::{FAILED, NOTICED, ReasonEntry, ReasonKind as Kind, row};
use crate::reason::ReasonCode as Code;

pub(super) const ENTRIES: &[ReasonEntry] = &[
    row(
        Code::Ec2Throttled,
        Kind::Degraded,
        FAILED,
        "what was asked, EC2's code and words, milliseconds until the next try; in the edge's line the requests a second",
        "The account's request rate in the region is spent, by whomever: the daemon asks less often by itself, and asks again. \
         `ipamd_ec2_throttled_total{by}` tells EC2's throttling from the daemon's own bucket. Look for other callers in \
         CloudTrail, have AWS raise the limits, or change warm targets so that less is asked (`WARM_IP_TARGET` of 1 asks for \
         every pod).",
    ),
    row(
        Code::Ec2Denied,
        Kind::Degraded,
        FAILED,
        "what was asked, EC2's code and words, milliseconds until the next try",
        "The action of the text is missing in the role's policy, or its condition does not fit, or there are no credentials: \
         `ipamd doctor` tries every right without changing anything and names the source of the keys. Policies: deploy/iam; a node \
         that makes ENIs needs `ec2:CreateNetworkInterface`, `ec2:AttachNetworkInterface`, `ec2:DetachNetworkInterface`, \
         `ec2:DeleteNetworkInterface`, `ec2:ModifyNetworkInterfaceAttribute`, `ec2:AssignPrivateIpAddresses`, \
         `ec2:UnassignPrivateIpAddresses`, `ec2:DescribeNetworkInterfaces`, `ec2:DescribeSubnets` and `ec2:CreateTags`. It is \
         tried again by itself, two and a half minutes later at most.",
    ),
    row(
        Code::Ec2Unavailable,
        Kind::Degraded,
        FAILED,
        "endpoint or what was asked, seconds without an answer, EC2's code and words, milliseconds until the next try",
        "`ipamd doctor` tells name, connection and TLS of the endpoint apart. Usual causes: no route from the node's subnet to EC2 (NAT \
         gateway or VPC endpoint `com.amazonaws.REGION.ec2`), a proxy (`HTTPS_PROXY`, `NO_PROXY`), a certificate (`AWS_CA_BUNDLE`), \
         an outage. Pods go on, and what is free is given out.",
    ),
    row(
        Code::NoCertificateAuthorities,
        Kind::Degraded,
        FAILED,
        "what was asked, the places that were looked at or the bundle's path, milliseconds until the next try",
        "Install the node's `ca-certificates`, or show the daemon an authority where the image has them \
         (`/etc/ssl/certs/ca-certificates.crt`), or name a PEM file in `AWS_CA_BUNDLE`; of a bundle the text says which certificate \
         cannot be used. No restart is needed: it is looked again at each try. Pods go on, and what is free is given out.",
    ),
    row(
        Code::Ec2Rejected,
        Kind::Degraded,
        FAILED,
        "what was asked, EC2's code and words, milliseconds until the next try",
        "Read EC2's words: they name what cannot be. Usual causes: a security group of another VPC, too many groups on an ENI, \
         `ADDITIONAL_ENI_TAGS` that EC2 does not take, an action that the endpoint does not know. If it is none of the settings', \
         report it with `ipamd support-bundle`.",
    ),
    row(
        Code::Ec2NotFound,
        Kind::Degraded,
        FAILED,
        "what was asked, EC2's code and words, milliseconds until the next try",
        "Once, right after an ENI was made: nothing, EC2's reads lag by seconds. Again and again: somebody deleted a subnet, a security \
         group or an ENI that the node uses; the text has its id.",
    ),
    row(
        Code::Ec2WrongState,
        Kind::Degraded,
        FAILED,
        "what was asked, EC2's code and words, milliseconds until the next try",
        "Nothing at first: an ENI that is being detached comes free in seconds, and the call is repeated. If it stays, look at the \
         object in EC2: somebody else uses or holds it (a manual attachment, a requester-managed ENI), or the instance is not \
         running.",
    ),
    row(
        Code::DeviceIndexTaken,
        Kind::Degraded,
        FAILED,
        "ENI id, device index, milliseconds until the next try",
        "Nothing: another index is taken. If it comes again and again, something else attaches ENIs to this instance: tag its ENIs \
         `node.k8s.amazonaws.com/no_manage=true`, or let one of both do it alone.",
    ),
    row(
        Code::ClientTokenMismatch,
        Kind::Degraded,
        FAILED,
        "what was asked, milliseconds until the next try",
        "Nothing: the next try has a token of its own. If it comes again and again, two daemons use one journal: see that one \
         `ipamd` runs on the node, and that the state folder is no copy of another node's.",
    ),
    row(
        Code::ImdsUnavailable,
        Kind::Degraded,
        FAILED,
        "metadata's code and words, milliseconds until the next try",
        "Metadata must be turned on for the instance (`aws ec2 modify-instance-metadata-options --http-endpoint enabled`), and \
         http://169.254.169.254 must be reached from the host's network: look for rules of a firewall or a proxy. From a pod that \
         is not on the host's network it takes a hop limit of 2. `ipamd doctor` asks it.",
    ),
    row(
        Code::EniNotListed,
        Kind::Degraded,
        NOTICED,
        "ENI id",
        "Somebody detached or deleted an ENI that is ours, or EC2's read lags. Its pods are left alone, and it gives no address out. \
         If it was detached by hand, its pods have no network: delete them, they get other addresses.",
    ),
    row(
        Code::AddressNotListed,
        Kind::Degraded,
        NOTICED,
        "address, ENI id, whether it is in use",
        "Somebody unassigned an address that is ours. A free one is forgotten. One in use is kept until its pod ends, but the VPC \
         does not deliver to it: delete the pod, or assign the address again (`aws ec2 assign-private-ip-addresses`).",
    ),
    row(
        Code::SurplusKept,
        Kind::Passing,
        NOTICED,
        "ENI id or how many addresses of it, who objects",
        "Nothing: what is in use is not given back. It is tried again later. An address that the text says a link has, and no pod \
         uses, is on a link of somebody else's.",
    ),
    row(
        Code::LeakedEniDeleted,
        Kind::Repair,
        NOTICED,
        "ENI id",
        "Nothing. Many of them: nodes end without detaching, or an autoscaler ends them before delete-on-termination is set. \
         `DISABLE_LEAKED_ENI_CLEANUP` stops the sweep, `ENID_LEAKED_ENI_AGE` says how old they must be.",
    ),
    row(
        Code::SweepDenied,
        Kind::Degraded,
        NOTICED,
        "-",
        "Another node of the cluster takes over. If all of them may not, allow `ec2:DescribeNetworkInterfaces`, `ec2:CreateTags` and \
         `ec2:DeleteNetworkInterface` (deploy/iam), or set `DISABLE_LEAKED_ENI_CLEANUP`.",
    ),
    row(
        Code::CredentialsStale,
        Kind::Degraded,
        NOTICED,
        "what metadata answered",
        "Nothing yet: calls go on with the old keys. If it stays until these expire, Ec2Denied follows: see that the instance has its \
         role (`aws sts get-caller-identity` on the node) and that metadata answers (`ipamd doctor`).",
    ),
];
