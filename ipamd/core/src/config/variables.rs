// SPDX-License-Identifier: Apache-2.0
//! The table of variables: one row each, with type, default, unit, meaning and how far it is supported ([`super::variable`]).

use super::variable::Support::{ByValue, Elsewhere, Honoured};
use super::variable::Verdict::{self, Noted, Refused, Same};
use super::variable::{Support, Variable};

/// A row, written on few lines.
const fn row(
    name: &'static str,
    shape: (&'static str, &'static str, &'static str),
    support: Support,
    doc: &'static str,
) -> Variable {
    let (kind, default, unit) = shape;
    Variable { name, kind, default, unit, doc, support, is_live: false }
}

const BOOL_FALSE: (&str, &str, &str) = ("boolean", "false", "");
const BOOL_TRUE: (&str, &str, &str) = ("boolean", "true", "");
const TEXT: (&str, &str, &str) = ("text", "", "");

/// Case lists that several rows share.
const MUST_BE_FALSE: &[(&str, Verdict)] =
    &[("false", Same), ("*", Refused("not supported yet; only false is allowed"))];
const ANY: &[(&str, Verdict)] = &[("*", Same)];

/// Every variable, sorted by group as in the reference's documentation.
pub const VARIABLES: &[Variable] = &[
    row(
        "WARM_ENI_TARGET",
        ("whole number", "", "ENIs"),
        Honoured,
        "Spare ENIs' worth of free addresses to keep; not used when an address target is set. No target set: the pool adapts.",
    )
    .live(),
    row(
        "WARM_IP_TARGET",
        ("whole number", "0", "addresses"),
        Honoured,
        "Free addresses to keep, cooling ones not counted; takes the place of WARM_ENI_TARGET when not 0.",
    )
    .live(),
    row(
        "MINIMUM_IP_TARGET",
        ("whole number", "0", "addresses"),
        Honoured,
        "Floor on all addresses held; takes the place of WARM_ENI_TARGET when not 0.",
    )
    .live(),
    row(
        "WARM_PREFIX_TARGET",
        ("whole number", "", "prefixes"),
        Honoured,
        "Free /28 prefixes to keep in prefix mode; not used when an address target is set.",
    )
    .live(),
    row(
        "MAX_ENI",
        ("whole number", "", "ENIs"),
        Honoured,
        "Cap on ENIs, the primary one counted; not set: the instance type's limit alone.",
    )
    .live(),
    row(
        "ENID_MAX_PODS",
        ("whole number", "", "pods"),
        Honoured,
        "Addresses at which warm targets stop growing the pool; waiting pods are served beyond it.",
    )
    .live(),
    row(
        "IP_COOLDOWN_PERIOD",
        ("whole number", "30", "seconds"),
        Honoured,
        "How long a released address rests before another pod gets it; survives restarts.",
    )
    .live(),
    row(
        "MANAGE_UNTAGGED_ENI",
        BOOL_TRUE,
        Honoured,
        "Whether attached ENIs without our tag serve pods. They are never detached; false leaves them alone altogether.",
    ),
    row(
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
        BOOL_FALSE,
        Honoured,
        "Whether the pool grows and shrinks while the node is cordoned, which the API server tells.",
    )
    .live(),
    row(
        "ENABLE_SUBNET_DISCOVERY",
        BOOL_TRUE,
        Honoured,
        "Make new ENIs in any subnet of VPC and zone that its tags offer; excluded subnets serve no new pod.",
    )
    .live(),
    row("DISABLE_LEAKED_ENI_CLEANUP", BOOL_FALSE, Honoured, "Stop the sweep of leaked ENIs.").live(),
    row(
        "ENID_LEAKED_ENI_AGE",
        ("whole number", "300", "seconds"),
        Honoured,
        "How old a leaked ENI must be, and how far apart (0.4 of it) it must be seen unattached twice, before it is deleted; at least 5.",
    )
    .live(),
    row(
        "DISABLE_NETWORK_RESOURCE_PROVISIONING",
        BOOL_FALSE,
        Honoured,
        "Leave ENIs and addresses to someone else: serve what is there, follow what comes, change nothing.",
    ),
    row(
        "ENABLE_IMDS_ONLY_MODE",
        BOOL_FALSE,
        Honoured,
        "Never call EC2: instance metadata tells what there is; implies DISABLE_NETWORK_RESOURCE_PROVISIONING.",
    ),
    row(
        "ENABLE_PREFIX_DELEGATION",
        BOOL_FALSE,
        Honoured,
        "Assign /28 prefixes instead of single addresses, where the instance type and the subnet have them.",
    )
    .live(),
    row(
        "ENABLE_IPv4",
        BOOL_TRUE,
        ByValue(&[("true", Same), ("*", Refused("only IPv4 is supported yet; only true is allowed"))]),
        "IPv4 pods.",
    ),
    row("ENABLE_IPv6", BOOL_FALSE, ByValue(MUST_BE_FALSE), "IPv6 pods."),
    row(
        "ENABLE_V6_EGRESS",
        BOOL_FALSE,
        Honoured,
        "IPv6 egress for pods of an IPv4 cluster, behind the node's address; needs a node with IPv6.",
    ),
    row(
        "ENABLE_V4_EGRESS",
        BOOL_TRUE,
        Elsewhere,
        "IPv4 egress for pods of an IPv6 cluster; of no meaning in an IPv4 cluster.",
    ),
    row(
        "ENABLE_MULTI_NIC",
        BOOL_FALSE,
        ByValue(&[
            ("false", Same),
            ("*", Refused("pods with an interface on each network card are not supported yet; only false is allowed")),
        ]),
        "Use network cards other than 0, for pods with several interfaces.",
    ),
    row(
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
        BOOL_FALSE,
        Honoured,
        "Make ENIs in the subnets, and with the security groups, of the ENIConfig that the Node names; the primary ENI gets no pods' addresses.",
    ),
    row(
        "ENI_CONFIG_ANNOTATION_DEF",
        ("text", "k8s.amazonaws.com/eniConfig", ""),
        Honoured,
        "Node annotation that names the ENIConfig; goes before the label.",
    ),
    row(
        "ENI_CONFIG_LABEL_DEF",
        ("text", "k8s.amazonaws.com/eniConfig", ""),
        Honoured,
        "Node label that names the ENIConfig; without either it is `default`.",
    ),
    row(
        "ENABLE_POD_ENI",
        BOOL_FALSE,
        ByValue(&[
            ("false", Same),
            ("*", Refused("pods with security groups of their own are not supported yet; only false is allowed")),
        ]),
        "Security groups for pods (trunk and branch ENIs).",
    ),
    row(
        "POD_SECURITY_GROUP_ENFORCING_MODE",
        ("strict or standard", "strict", ""),
        ByValue(&[("strict", Same), ("standard", Same), ("*", Refused("strict or standard is allowed"))]),
        "How security groups for pods are enforced; of no meaning without ENABLE_POD_ENI.",
    ),
    row(
        "NETWORK_POLICY_ENFORCING_MODE",
        ("none, standard or strict", "", ""),
        Honoured,
        "How the plugin asks the network policy agent at ADD, which then must run on the node; not set: it is not asked.",
    ),
    row(
        "ANNOTATE_POD_IP",
        BOOL_FALSE,
        Honoured,
        "Annotate pods with their address (vpc.amazonaws.com/pod-ips); no ADD waits for it.",
    ),
    row("AWS_VPC_K8S_CNI_EXTERNALSNAT", BOOL_FALSE, Honoured, "Someone else translates what leaves the VPC."),
    row(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
        ("comma list of IPv4 blocks", "", ""),
        Honoured,
        "Further destinations reached with the pod's own address.",
    )
    .live(),
    row(
        "ENID_SNAT_INCLUDE_CIDRS",
        ("comma list of IPv4 blocks", "", ""),
        Honoured,
        "The only destinations outside the VPC that are reached with the node's address; excluded ones are left out. Not set: all.",
    )
    .live(),
    row(
        "ENID_RUNTIME_ENDPOINT",
        ("path", "", ""),
        Honoured,
        "Socket of the container runtime, such as /run/containerd/containerd.sock (unix:// before it is allowed): whether a sandbox \
         lives whose host veth is gone is asked there. Not set: such an address is released after 60 s.",
    ),
    row(
        "ENID_SNAT_FILE",
        ("path", "", ""),
        Honoured,
        "JSON file with lists exclude, include and external_services, each in place of its variable; looked at every 5 s, \
         established connections go on.",
    ),
    row(
        "ENID_SETTINGS_FILE",
        ("path", "", ""),
        Honoured,
        "YAML or JSON file of settings by class of nodes (docs/settings.md), over the environment; looked at every 5 s.",
    ),
    row(
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
        ("prng, hashrandom or none", "prng", ""),
        Honoured,
        "How source ports are chosen.",
    ),
    row(
        "ENID_SNAT_PORT_RANGE",
        ("first-last", "", "ports"),
        Honoured,
        "Source ports of translated TCP and UDP; not set: as the kernel likes.",
    ),
    row(
        "AWS_VPC_K8S_CNI_CONNMARK",
        ("number, any base", "0x80", ""),
        Honoured,
        "Mark of connections that leave and enter through the primary ENI; only these bits are written.",
    ),
    row(
        "ENID_LAYOUT",
        ("flat or classic", "flat", ""),
        Honoured,
        "How pods are plumbed: flat has one policy rule for all, one an ENI or /28 prefix; classic, as the reference, rules for each pod.",
    ),
    row(
        "ENID_ENI_MARK_MASK",
        ("number, any base", "0x7f", ""),
        Honoured,
        "Bits of the packet mark that name a pod's ENI in layout flat; next to each other, and none of AWS_VPC_K8S_CNI_CONNMARK's. \
         Not set: 0x7f, or where that overlaps the connection mark other bits that are free.",
    ),
    row(
        "AWS_VPC_CNI_NODE_PORT_SUPPORT",
        BOOL_TRUE,
        Honoured,
        "Answers to connections to the node's address (node ports) leave through the primary ENI, whatever ENI the pod is on.",
    ),
    row(
        "AWS_EXTERNAL_SERVICE_CIDRS",
        ("comma list of IPv4 blocks", "", ""),
        Honoured,
        "Blocks routed by the main table for every pod.",
    )
    .live(),
    row("AWS_VPC_ENI_MTU", ("whole number", "9001", "bytes"), Honoured, "MTU of every ENI, 576 to 9001."),
    row(
        "POD_MTU",
        ("whole number", "", "bytes"),
        Honoured,
        "MTU of pods, 576 to 9001 and no more than the ENIs'; not set: the ENIs'. The network configuration's mtu can lower it.",
    ),
    row(
        "ENID_EXTERNAL_MTU",
        ("whole number", "", "bytes"),
        Honoured,
        "MTU of the paths out of the VPC, 576 to 9001: pods' TCP connections to there use segments that fit, also where ICMP is dropped.",
    ),
    row(
        "ENID_NOTRACK",
        BOOL_FALSE,
        Honoured,
        "TCP, UDP and SCTP between pods and addresses of the VPC that nobody translates are not tracked (conntrack); not where a Service's \
         address lies, or may lie, in a block of the VPC, nor with NETWORK_POLICY_ENFORCING_MODE.",
    ),
    row(
        "KUBERNETES_SERVICE_HOST",
        ("IPv4 address or name", "", ""),
        Honoured,
        "Set by Kubernetes: an address of the Services' block, looked at with ENID_NOTRACK.",
    ),
    row(
        "AWS_VPC_K8S_CNI_VETHPREFIX",
        ("text, at most 4 letters", "eni", ""),
        Honoured,
        "First letters of host veth names; not eth, lo or vlan.",
    ),
    row(
        "DISABLE_TCP_EARLY_DEMUX",
        BOOL_FALSE,
        Honoured,
        "Keeps net.ipv4.tcp_early_demux at 0; false: the node's own value stays, or comes back if it was ours that changed it.",
    ),
    row(
        "AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER",
        BOOL_TRUE,
        ByValue(&[("true", Same), ("*", Noted("rp_filter is always set to 2 on ENIs"))]),
        "Deprecated; no effect in the reference either.",
    ),
    row(
        "ENABLE_NFTABLES",
        BOOL_TRUE,
        ByValue(&[("true", Same), ("*", Noted("nftables is always used"))]),
        "Deprecated; no effect in the reference either.",
    ),
    row("ADDITIONAL_ENI_TAGS", ("JSON object of texts", "{}", ""), Honoured, "Further tags of ENIs that serve pods.").live(),
    row(
        "CLUSTER_NAME",
        TEXT,
        Honoured,
        "Cluster name for tags of ENIs, for subnets tagged for it, and for its leaked ENIs.",
    ),
    row(
        "CLUSTER_ENDPOINT",
        TEXT,
        Honoured,
        "Host or URL of the API server in place of KUBERNETES_SERVICE_HOST and its port, so that kube-proxy is not needed.",
    ),
    row(
        "KUBERNETES_SERVICE_PORT",
        ("port", "443", ""),
        Honoured,
        "Set by Kubernetes: the port of KUBERNETES_SERVICE_HOST, at which the API server is found.",
    ),
    row(
        "KUBECONFIG",
        ("path", "", ""),
        Honoured,
        "How the API server is reached, in place of the pod's service account.",
    ),
    row(
        "ENID_STARTUP_TAINT",
        ("key:effect", "", ""),
        Honoured,
        "Taint that the node was started with, such as enid.dev/starting:NoSchedule; removed once an address is proven.",
    ),
    row(
        "ENID_FULL_TAINT",
        ("key:effect", "", ""),
        Honoured,
        "Taint that the node gets while it has no address for the next pod, such as enid.dev/full:NoSchedule; effects NoSchedule and PreferNoSchedule.",
    ),
    row(
        "ENID_EXTENDED_RESOURCE",
        ("domain/name", "", ""),
        Honoured,
        "Extended resource of the node, such as enid.dev/address: how many pods can have an address, for pods that ask for one in their limits.",
    ),
    row("AWS_EC2_ENDPOINT", ("URL", "", ""), Honoured, "Base URL of EC2."),
    row(
        "AWS_ENDPOINT_URL_EC2",
        ("URL", "", ""),
        Honoured,
        "Base URL of EC2 as the AWS SDKs read it; AWS_EC2_ENDPOINT goes first.",
    ),
    row("AWS_ENDPOINT_URL", ("URL", "", ""), Honoured, "Base URL of every AWS service; the two above go first."),
    row("AWS_EC2_METADATA_SERVICE_ENDPOINT", ("URL", "", ""), Honoured, "Base URL of the instance metadata service."),
    row("AWS_REGION", TEXT, Elsewhere, "Read by the AWS SDK; the daemon takes the region from instance metadata."),
    row(
        "AWS_ENDPOINT_URL_STS",
        ("URL", "", ""),
        Elsewhere,
        "Read by the AWS SDK: base URL of STS, which gives web identities their keys.",
    ),
    row(
        "AWS_ROLE_ARN",
        TEXT,
        Elsewhere,
        "Read by the AWS SDK: the role of a web identity; EKS sets it (IRSA, docs/credentials.md).",
    ),
    row(
        "AWS_ROLE_SESSION_NAME",
        TEXT,
        Elsewhere,
        "Read by the AWS SDK: what the role's session is called in CloudTrail.",
    ),
    row(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        ("path", "", ""),
        Elsewhere,
        "Read by the AWS SDK: the token of a web identity; EKS sets it.",
    ),
    row(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ("URL", "", ""),
        Elsewhere,
        "Read by the AWS SDK: where an agent on the node gives keys; EKS sets it (Pod Identity, docs/credentials.md).",
    ),
    row(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ("path", "", ""),
        Elsewhere,
        "Read by the AWS SDK: the token for that agent; EKS sets it.",
    ),
    row(
        "HTTP_TIMEOUT",
        ("whole number", "10", "seconds"),
        Honoured,
        "Time limit of one call to EC2 with all its attempts, at least 10.",
    ),
    row(
        "VPC_CNI_VERSION",
        TEXT,
        ByValue(ANY),
        "The reference's version for its user agent; ours names this daemon and its version.",
    ),
    row(
        "AWS_CA_BUNDLE",
        ("path", "", ""),
        Honoured,
        "PEM file of the certificate authorities by which AWS's endpoints are trusted, in place of the system's.",
    ),
    row(
        "HTTPS_PROXY",
        ("URL", "", ""),
        Honoured,
        "Proxy to AWS's endpoints over https, such as http://10.0.0.5:3128; https_proxy where it is not set (docs/credentials.md).",
    ),
    row("HTTP_PROXY", ("URL", "", ""), Honoured, "The same for endpoints over http; http_proxy where it is not set."),
    row(
        "NO_PROXY",
        ("comma list", "", ""),
        Honoured,
        "Names, addresses and blocks that are reached without a proxy, as Go reads it; metadata and loopback always are.",
    ),
    row(
        "AWS_VPC_K8S_CNI_BACKING_STORE",
        ("path", "/var/run/aws-node/ipam.json", ""),
        Honoured,
        "The journal in the reference's format; the daemon's own state lies beside it.",
    ),
    row(
        "ENID_SOCKET",
        ("path", "/var/run/aws-node/ipamd.sock", ""),
        Honoured,
        "The plugin's socket. `enid.sock` beside it is root's commands': status, why, check and the like.",
    ),
    row("ENID_PAGE", BOOL_TRUE, Honoured, "A page for browsers where introspection is served."),
    row(
        "ENID_ADD_BUDGET_MS",
        ("whole number", "20000", "milliseconds"),
        Elsewhere,
        "Read by the plugin, in the runtime's environment: how long an ADD may take, 20 s at most.",
    ),
    row(
        "ENID_GC_SPARE_MS",
        ("whole number", "60000", "milliseconds"),
        Elsewhere,
        "Read by the plugin, in the runtime's environment: how young a sandbox is spared by a GC, 60 s at most.",
    ),
    row(
        "AWS_VPC_K8S_CNI_LOGLEVEL",
        ("debug, info, warn, error or fatal", "info", ""),
        Honoured,
        "Least level that is logged.",
    )
    .live(),
    row("AWS_VPC_K8S_CNI_LOG_FILE", ("stdout, stderr or path", "stderr", ""), Honoured, "Where the log goes."),
    row(
        "AWS_VPC_K8S_PLUGIN_LOG_FILE",
        ("path or stderr", "/var/log/aws-routed-eni/plugin.log", ""),
        Honoured,
        "The plugin's log, as the configuration list tells it.",
    ),
    row(
        "AWS_VPC_K8S_PLUGIN_LOG_LEVEL",
        ("debug, info, warn, error or fatal", "debug", ""),
        Honoured,
        "Least level that the plugin logs, as the configuration list tells it.",
    ),
    row(
        "AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE",
        ("path", "", ""),
        Elsewhere,
        "Log of the egress plugin; egress is the plugin's own work and in its log.",
    ),
    row(
        "AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE",
        ("path", "", ""),
        Elsewhere,
        "Log of the egress plugin; egress is the plugin's own work and in its log.",
    ),
    row(
        "INTROSPECTION_BIND_ADDRESS",
        ("address:port or unix:path", "127.0.0.1:61679", ""),
        Honoured,
        "Where introspection is served.",
    ),
    row(
        "DISABLE_INTROSPECTION",
        BOOL_FALSE,
        Honoured,
        "No introspection, but for `enid.sock` beside the plugin's socket, where root's commands ask.",
    ),
    row(
        "METRICS_BIND_ADDRESS",
        ("address:port or :port", ":61678", ""),
        Honoured,
        "Where metrics are served (`/metrics`, nothing else); without an address: on all of the host's.",
    ),
    row("DISABLE_METRICS", BOOL_FALSE, Honoured, "No metrics."),
    row(
        "ENABLE_BANDWIDTH_PLUGIN",
        BOOL_FALSE,
        Honoured,
        "The configuration list has the plugin bandwidth behind ours; that must be on the node.",
    ),
    row(
        "DISABLE_POD_V6",
        BOOL_FALSE,
        Honoured,
        "The configuration list has the plugin tuning behind ours, which turns IPv6 off inside pods; that must be on the node.",
    ),
    row(
        "HOST_CNI_BIN_PATH",
        ("path", "", ""),
        Honoured,
        "Folder that ipamd install puts the plugin into; not set: /host/opt/cni/bin where that is there, else /opt/cni/bin.",
    ),
    row(
        "HOST_CNI_CONFDIR_PATH",
        ("path", "", ""),
        Honoured,
        "Folder that the daemon writes 10-aws.conflist into, as soon as an ADD would succeed; not set: none is written.",
    ),
    row(
        "ENID_CONFLIST_TEMPLATE",
        ("path", "", ""),
        Honoured,
        "A configuration list of one's own in place of ours; __VETHPREFIX__, __MTU__ and the reference's other words are replaced.",
    ),
    row("MY_NODE_NAME", TEXT, Honoured, "Name of the Kubernetes node; not set: the API server is not talked to."),
    row("MY_POD_NAME", TEXT, Elsewhere, "Target of the reference's events; ours are about the node and its pods."),
    row(
        "MY_POD_NAMESPACE",
        ("text", "kube-system", ""),
        Honoured,
        "Namespace of the Lease enid-sweeper, by which the cluster's nodes elect one that sweeps leaked ENIs; needs CLUSTER_NAME.",
    ),
    row("USE_CLOUDWATCH", TEXT, Elsewhere, "Read by cni-metrics-helper only."),
    row("USE_PROMETHEUS", TEXT, Elsewhere, "Read by cni-metrics-helper only."),
    row("METRIC_UPDATE_INTERVAL", TEXT, Elsewhere, "Read by cni-metrics-helper only."),
    row("AWS_CLUSTER_ID", TEXT, Elsewhere, "Read by cni-metrics-helper only."),
];
