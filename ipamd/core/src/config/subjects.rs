// SPDX-License-Identifier: Apache-2.0
//! The variables by subject, each with what the reference makes of it: what docs/configuration.md adds to a row of
//! [`super::VARIABLES`].
//!
//! It decides nothing about a value. Invariant: every row of the table stands here once, under one subject (a test of the page).

/// What becomes of a variable beside amazon-vpc-cni-k8s ("the reference", v1.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Same name, same meaning.
    Same,
    /// Same name; the text says what is different.
    Differs(&'static str),
    /// Enid's own; the reference has nothing of that name.
    Own,
    /// Of Kubernetes, the AWS SDKs or proxies at large, with the meaning that it has there.
    Common,
}

/// A variable in its subject.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name, as in the table.
    pub name: &'static str,
    /// Beside the reference.
    pub beside: Beside,
    /// The first version that has it.
    pub since: &'static str,
}

/// Variables that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Heading.
    pub title: &'static str,
    /// What to know of all of them; Markdown.
    pub lead: &'static str,
    /// In the order in which one asks.
    pub entries: &'static [Entry],
}

const fn entry(name: &'static str, beside: Beside) -> Entry {
    Entry { name, beside, since: "0.1.0" }
}

const fn same(name: &'static str) -> Entry {
    entry(name, Beside::Same)
}

const fn own(name: &'static str) -> Entry {
    entry(name, Beside::Own)
}

const fn common(name: &'static str) -> Entry {
    entry(name, Beside::Common)
}

const fn differs(name: &'static str, how: &'static str) -> Entry {
    entry(name, Beside::Differs(how))
}

/// All subjects; what is asked for most comes first.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        title: "The pool",
        lead: "How many addresses a node holds. With no target set the pool follows what arrives. How to choose: \
               [choosing-settings.md](choosing-settings.md).",
        entries: &[
            differs(
                "WARM_ENI_TARGET",
                "there the default is 1; here nothing is the default, and the pool adapts. The meaning of a value is the same, but \
                 addresses that rest are not counted as spare.",
            ),
            differs("WARM_IP_TARGET", "there addresses that rest are counted as free."),
            differs(
                "MINIMUM_IP_TARGET",
                "There, set alone, it stops the pool at the floor; here waiting pods make it grow.",
            ),
            differs(
                "WARM_PREFIX_TARGET",
                "there one of the three targets must be set in prefix mode, or it does not start; here none need be.",
            ),
            same("MAX_ENI"),
            own("ENID_MAX_PODS"),
            differs(
                "IP_COOLDOWN_PERIOD",
                "there the rest ends at a restart, and nothing is flushed before an address is given again.",
            ),
            differs(
                "ENABLE_PREFIX_DELEGATION",
                "there a subnet without a free /28 stops growth; here single addresses serve meanwhile.",
            ),
            same("AWS_MANAGE_ENIS_NON_SCHEDULABLE"),
        ],
    },
    Subject {
        title: "ENIs and subnets",
        lead: "Whose ENIs serve pods, and where new ones are made. Custom networking: [kubernetes.md](kubernetes.md#custom-networking).",
        entries: &[
            same("MANAGE_UNTAGGED_ENI"),
            differs(
                "ENABLE_SUBNET_DISCOVERY",
                "there a read of the subnets that fails leads to the primary ENI's subnet; here the last good answer stands.",
            ),
            differs(
                "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
                "there the API server must answer at the start, and an ENIConfig has one subnet; here the last word serves, and it may \
                 have several.",
            ),
            same("ENI_CONFIG_ANNOTATION_DEF"),
            same("ENI_CONFIG_LABEL_DEF"),
            differs("ADDITIONAL_ENI_TAGS", "there a value that cannot be read is passed over."),
            same("CLUSTER_NAME"),
            differs(
                "DISABLE_LEAKED_ENI_CLEANUP",
                "there every node sweeps, by age alone; here one node that the cluster elects does, and marks before it deletes.",
            ),
            own("ENID_LEAKED_ENI_AGE"),
            same("DISABLE_NETWORK_RESOURCE_PROVISIONING"),
            differs("ENABLE_IMDS_ONLY_MODE", "there subnet discovery must be turned off by hand as well."),
            differs("ENABLE_MULTI_NIC", "not there yet: ENIs of cards other than 0 are left alone."),
        ],
    },
    Subject {
        title: "IPv4 and IPv6",
        lead: "Pods have IPv4 addresses of the VPC. IPv6 out of an IPv4 cluster: \
               [README](../README.md#ipv6-out-of-an-ipv4-cluster).",
        entries: &[
            differs("ENABLE_IPv4", "there the program's own default is false, and the manifest sets true."),
            differs("ENABLE_IPv6", "not there yet."),
            differs(
                "ENABLE_V6_EGRESS",
                "there a second plugin with a link of its own in the pod; here a second address on the pod's one link.",
            ),
            differs("ENABLE_V4_EGRESS", "of IPv6 clusters, which Enid does not serve yet."),
        ],
    },
    Subject {
        title: "Security groups and network policies",
        lead: "Enid enforces no network policy by itself; it works with amazon-vpc-cni-k8s' agent.",
        entries: &[
            differs("ENABLE_POD_ENI", "not there yet."),
            same("POD_SECURITY_GROUP_ENFORCING_MODE"),
            differs(
                "NETWORK_POLICY_ENFORCING_MODE",
                "there a DEL fails while the agent is away, and an ADD that the agent refuses leaves what it made to the runtime.",
            ),
        ],
    },
    Subject {
        title: "Source addresses, and what leaves the VPC",
        lead: "Whose address the other end sees: [comparison.md](comparison.md), [host-network.md](host-network.md).",
        entries: &[
            same("AWS_VPC_K8S_CNI_EXTERNALSNAT"),
            differs(
                "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
                "there an entry that is no IPv4 block is passed over, and a change needs a start.",
            ),
            own("ENID_SNAT_INCLUDE_CIDRS"),
            own("ENID_SNAT_FILE"),
            differs(
                "AWS_EXTERNAL_SERVICE_CIDRS",
                "there an entry that is no IPv4 block is passed over, and a change needs a start.",
            ),
            differs(
                "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
                "there the rule is for the node's own traffic, too; here for pods alone.",
            ),
            own("ENID_SNAT_PORT_RANGE"),
            own("ENID_EXTERNAL_MTU"),
        ],
    },
    Subject {
        title: "Links, rules and marks on the node",
        lead: "Layouts and marks: [README](../README.md#layouts-of-pods-and-marks).",
        entries: &[
            same("AWS_VPC_ENI_MTU"),
            same("POD_MTU"),
            same("AWS_VPC_K8S_CNI_VETHPREFIX"),
            own("ENID_LAYOUT"),
            own("ENID_ENI_MARK_MASK"),
            differs("AWS_VPC_K8S_CNI_CONNMARK", "there its nftables back end writes the whole packet mark."),
            differs(
                "AWS_VPC_CNI_NODE_PORT_SUPPORT",
                "there a node port asked for at a secondary ENI's own address is answered by the pod's ENI; here by the ENI asked.",
            ),
            own("ENID_NOTRACK"),
            differs(
                "DISABLE_TCP_EARLY_DEMUX",
                "there an init container writes 0 or 1; here 1 is never written unless it was ours that changed it.",
            ),
            same("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER"),
            same("ENABLE_NFTABLES"),
        ],
    },
    Subject {
        title: "Kubernetes",
        lead: "What is read and written, and the rights: [kubernetes.md](kubernetes.md). Settings by class of nodes: \
               [settings.md](settings.md).",
        entries: &[
            differs("MY_NODE_NAME", "there it must be set; here nothing of the API server's is used without it."),
            differs("MY_POD_NAME", "there events are about the daemon's own pod."),
            own("MY_POD_NAMESPACE"),
            same("CLUSTER_ENDPOINT"),
            common("KUBERNETES_SERVICE_HOST"),
            common("KUBERNETES_SERVICE_PORT"),
            common("KUBECONFIG"),
            differs(
                "ANNOTATE_POD_IP",
                "there the API server must answer at the start, and the ADD of a pod that cannot be annotated fails.",
            ),
            own("ENID_STARTUP_TAINT"),
            own("ENID_FULL_TAINT"),
            own("ENID_EXTENDED_RESOURCE"),
            own("ENID_SETTINGS_FILE"),
        ],
    },
    Subject {
        title: "AWS: endpoints, credentials, proxies",
        lead: "[credentials.md](credentials.md) has the order of sources, IRSA, Pod Identity and proxies. The AWS SDK reads more \
               variables than these; those are named there.",
        entries: &[
            differs("AWS_EC2_ENDPOINT", "There, in v1.23, it does not reach the daemon's EC2 client."),
            common("AWS_ENDPOINT_URL_EC2"),
            common("AWS_ENDPOINT_URL"),
            common("AWS_ENDPOINT_URL_STS"),
            common("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            differs("HTTP_TIMEOUT", "there of one attempt; here of one call with all its attempts."),
            common("AWS_REGION"),
            common("AWS_ROLE_ARN"),
            common("AWS_ROLE_SESSION_NAME"),
            common("AWS_WEB_IDENTITY_TOKEN_FILE"),
            common("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            common("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            common("AWS_CA_BUNDLE"),
            common("HTTPS_PROXY"),
            common("HTTP_PROXY"),
            common("NO_PROXY"),
            differs("VPC_CNI_VERSION", "there a part of the user agent."),
        ],
    },
    Subject {
        title: "Plugin, runtime and state",
        lead: "Files of the node: [operations.md](operations.md#files-on-the-node). What the list for the runtime says: \
               [self-managed.md](self-managed.md#the-list-and-others-who-write-into-it).",
        entries: &[
            same("AWS_VPC_K8S_CNI_BACKING_STORE"),
            own("ENID_SOCKET"),
            own("ENID_ADD_BUDGET_MS"),
            own("ENID_GC_SPARE_MS"),
            own("ENID_RUNTIME_ENDPOINT"),
            differs("HOST_CNI_BIN_PATH", "there the default is /host/opt/cni/bin, whatever is there."),
            differs(
                "HOST_CNI_CONFDIR_PATH",
                "there the default is /host/etc/cni/net.d, and the list is written anew at each start.",
            ),
            own("ENID_CONFLIST_TEMPLATE"),
            same("ENABLE_BANDWIDTH_PLUGIN"),
            same("DISABLE_POD_V6"),
        ],
    },
    Subject {
        title: "Logs, introspection and metrics",
        lead: "[operations.md](operations.md#logs-metrics-and-alerts).",
        entries: &[
            differs("AWS_VPC_K8S_CNI_LOGLEVEL", "there the default is debug, and so is any other word."),
            differs(
                "AWS_VPC_K8S_CNI_LOG_FILE",
                "there the default is a file below /var/log/aws-routed-eni, six of 100 MB; here stderr, and of a file that you name two of \
                 100 MiB are kept.",
            ),
            same("AWS_VPC_K8S_PLUGIN_LOG_FILE"),
            same("AWS_VPC_K8S_PLUGIN_LOG_LEVEL"),
            differs("AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE", "there of a plugin of its own."),
            differs("AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE", "there of a plugin of its own."),
            same("INTROSPECTION_BIND_ADDRESS"),
            differs("DISABLE_INTROSPECTION", "there nothing is left to ask then."),
            own("ENID_PAGE"),
            differs("METRICS_BIND_ADDRESS", "there it is always :61678, under no variable."),
            same("DISABLE_METRICS"),
        ],
    },
    Subject {
        title: "Of cni-metrics-helper",
        lead: "That is a program of its own; the daemon takes these in its environment and does not look at them.",
        entries: &[
            same("USE_CLOUDWATCH"),
            same("USE_PROMETHEUS"),
            same("METRIC_UPDATE_INTERVAL"),
            same("AWS_CLUSTER_ID"),
        ],
    },
];
