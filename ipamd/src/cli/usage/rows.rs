// SPDX-License-Identifier: Apache-2.0
//! The rows of the table: one for each command, in the order of the help.

use super::{Argument, CommandRow, Group, OptionRow, Values};

const JSON: OptionRow = OptionRow {
    name: "output",
    letter: Some('o'),
    value: Some("FORMAT"),
    values: Values::OneOf(&["json"]),
    repeats: false,
    brief: "as JSON, for programs",
};

const ADDRESS: OptionRow = OptionRow {
    name: "address",
    letter: None,
    value: Some("ADDRESS"),
    values: Values::Any,
    repeats: false,
    brief: "where the daemon answers: address:port or unix:/path, and nowhere else",
};

const DRY_RUN: OptionRow = flag("dry-run", "say what would be done, and do nothing");

const fn flag(name: &'static str, brief: &'static str) -> OptionRow {
    OptionRow { name, letter: None, value: None, values: Values::Any, repeats: false, brief }
}

const fn option(name: &'static str, value: &'static str, values: Values, brief: &'static str) -> OptionRow {
    OptionRow { name, letter: None, value: Some(value), values, repeats: false, brief }
}

const fn argument(name: &'static str, is_needed: bool, values: Values) -> Option<Argument> {
    Some(Argument { name, is_needed, values })
}

/// Every command.
pub const COMMANDS: &[CommandRow] = &[
    CommandRow {
        name: "status",
        group: Group::Look,
        argument: None,
        options: &[JSON, ADDRESS],
        brief: "the node on one screen: ENIs, pool, what it does and why",
        long: "What the daemon holds, what it does and why: the pool and its target, each ENI as a bar of addresses, ADDs that wait, calls \
               under way, the last failure of each kind, and every reason that holds now with its stable code (ipamd reasons CODE says \
               more).",
        examples: &[("ipamd status", "first of all"), ("ipamd status -o json", "the same for programs")],
    },
    CommandRow {
        name: "pods",
        group: Group::Look,
        argument: None,
        options: &[JSON, ADDRESS, option("namespace", "NAMESPACE", Values::Any, "only pods of this namespace")],
        brief: "pods with their addresses, ENIs and ages",
        long: "Every address that a pod has, by the daemon's journal: the pod, the ENI that the address is on, how long it has had it, and \
               the sandbox's container id as the runtime knows it.",
        examples: &[("ipamd pods --namespace kube-system", "those of one namespace")],
    },
    CommandRow {
        name: "enis",
        group: Group::Look,
        argument: None,
        options: &[JSON, ADDRESS],
        brief: "ENIs with their addresses, subnets and prefixes",
        long: "Every ENI of ours, and those that are left alone: state and since when, place on the instance, subnet, and its addresses by \
               state. With prefixes, which.",
        examples: &[],
    },
    CommandRow {
        name: "why",
        group: Group::Look,
        argument: argument("WHAT", true, Values::Perhaps(&["no-address"])),
        options: &[JSON, ADDRESS],
        brief: "why a pod has its address or none, or what an address is",
        long: "WHAT is one of\n\
               \n  NAMESPACE/POD or POD   its address, where that is from, how long the pod waited; refusals with code, cause and next try\
               \n  SANDBOX                the same by its id or the beginning of it, as `crictl pods` shows it\
               \n  ADDRESS                whose it is, in which state, and what has become of it before\
               \n  no-address             why pods get none now: what is there, what is on its way, what binds, when next, what to do\n\
               \nWhat was lately is in the daemon's memory: after its restart only the state is told.",
        examples: &[
            ("ipamd why no-address", "pods hang in ContainerCreating"),
            ("ipamd why default/web-0", "one pod"),
            ("ipamd why 10.0.1.23", "one address"),
        ],
    },
    CommandRow {
        name: "check",
        group: Group::Look,
        argument: None,
        options: &[
            JSON,
            ADDRESS,
            flag("strict", "what could not be compared, and what time will mend, is a mismatch too"),
            flag("without-daemon", "no daemon is meant to run: its files are taken for its word"),
        ],
        brief: "whether journal, kernel, EC2, IMDS and runtime agree",
        long: "Compares five witnesses of this node's addresses: the daemon's journal, the kernel (links, routes, rules), EC2 (one \
               DescribeNetworkInterfaces), instance metadata, and, with ENID_RUNTIME_ENDPOINT, the container runtime. Each difference is a \
               line that names the object, both words, and what to do. What two looks a moment apart do not both see was under way and \
               is none.\n\
               \nA witness that cannot be asked is named and not compared. Without a running daemon its journal's files are read.\n\
               \nExit code 1: something differs, or no daemon runs and that is not meant (`--without-daemon`).",
        examples: &[("ipamd check", "after anything odd"), ("ipamd check -o json --strict", "in an automated test")],
    },
    CommandRow {
        name: "events",
        group: Group::Look,
        argument: None,
        options: &[
            JSON,
            ADDRESS,
            flag("follow", "go on until interrupted, over restarts of the daemon"),
            option("since", "SEQ", Values::Any, "only those after this number"),
            option(
                "level",
                "LEVEL",
                Values::OneOf(&["debug", "info", "warn", "error"]),
                "this level and louder ones; info by default",
            ),
            option("pod", "NAMESPACE/POD", Values::Any, "only those of this pod"),
        ],
        brief: "what the daemon did lately, and did not, with reasons",
        long: "The daemon's own log of what mattered, from its memory: addresses given and taken back, refusals, decisions, calls to EC2 and \
               what came of them, repairs. --level debug has the decisions with their inputs. As JSON: one record a line.",
        examples: &[
            ("ipamd events --follow", "watch the node"),
            ("ipamd events --level warn", "what went wrong"),
            ("ipamd events --pod default/web-0 --level debug", "all of one pod"),
        ],
    },
    CommandRow {
        name: "config",
        group: Group::Look,
        argument: None,
        options: &[
            JSON,
            ADDRESS,
            option(
                "file",
                "FILE",
                Values::File,
                "off the node: of this file of settings by class; - for standard input",
            ),
            option("type", "TYPE", Values::Any, "with --file: the node's instance type"),
            option("zone", "ZONE", Values::Any, "with --file: its availability zone"),
            OptionRow { repeats: true, ..option("label", "NAME=VALUE", Values::Any, "with --file: one of its labels") },
        ],
        brief: "every setting, its value, and where that comes from",
        long: "Every variable, its value, and the layer that it comes from: default, environment, a class of nodes, an annotation of the \
               node.\n\
               \nWith --file the same, off the node, of what FILE (as of ENID_SETTINGS_FILE) would come to on such a node; every mistake of \
               the file, and exit code 1.",
        examples: &[(
            "ipamd config --file settings.yaml --type m5.large --label size=big",
            "before a cluster reads it",
        )],
    },
    CommandRow {
        name: "doctor",
        group: Group::Look,
        argument: None,
        options: &[JSON],
        brief: "whether this node is fit, before or after the install",
        long: "Metadata, EC2 and the role's rights, subnet, kernel, files, and programs that configure networks too; changes nothing. Each \
               finding that is not as it should be says what to do. Exit code 1: pods will not work.",
        examples: &[],
    },
    CommandRow {
        name: "probe",
        group: Group::Look,
        argument: argument("live|ready", true, Values::OneOf(&["live", "ready"])),
        options: &[],
        brief: "the daemon's health as an exit code",
        long: "live: the daemon's loop turns. ready: it has been able to serve a pod in this boot. Exit code 1: no, and why.",
        examples: &[("ipamd probe ready", "in a Kubernetes probe (exec)")],
    },
    CommandRow {
        name: "support-bundle",
        group: Group::Look,
        argument: None,
        options: &[
            ADDRESS,
            OptionRow {
                letter: Some('o'),
                ..option(
                    "output",
                    "FILE",
                    Values::File,
                    "where it goes; - for standard output; by default enid-support-NODE-TIME.tar here",
                )
            },
        ],
        brief: "one .tar with all that is needed to find out, no secrets",
        long: "Status, settings, ENIs, events, history, metrics, doctor, check, the host's plan, the kernel's links, addresses, routes, rules \
               and nft table, versions, the configuration list, journal files and the environment as far as it is ours. Works with what \
               there is when the daemon is down; MANIFEST in it says what is missing and why.\n\
               \nNo secret goes in: of the environment only variables of our own table, of these no keys, tokens or passwords; the same \
               of files, and of every text once more.",
        examples: &[
            ("ipamd support-bundle", "for an issue"),
            ("ipamd support-bundle -o - > node.tar", "through kubectl exec, from afar"),
        ],
    },
    CommandRow {
        name: "run",
        group: Group::Node,
        argument: None,
        options: &[],
        brief: "the daemon; the same as no command",
        long: "Runs the daemon until it is told to stop (SIGTERM). Its configuration is the environment: ipamd config lists it.",
        examples: &[],
    },
    CommandRow {
        name: "install",
        group: Group::Node,
        argument: None,
        options: &[
            option("plugin", "FILE", Values::File, "the plugin aws-cni; by default the one beside this program"),
            flag("systemd", "a unit for the daemon, too"),
            DRY_RUN,
        ],
        brief: "put plugin and the node's settings in place",
        long: "Puts the plugin aws-cni into HOST_CNI_BIN_PATH and sets the node's settings that the daemon may not; with --systemd a unit \
               for the daemon, too.",
        examples: &[("ipamd install --systemd", "on nodes that you look after yourself")],
    },
    CommandRow {
        name: "uninstall",
        group: Group::Node,
        argument: None,
        options: &[],
        brief: "the way back, once the daemon is stopped",
        long: "cleanup-host, then configuration list and plugin (while pods live they stay), and the unit.",
        examples: &[],
    },
    CommandRow {
        name: "plan-host",
        group: Group::Node,
        argument: None,
        options: &[],
        brief: "what would be written to the kernel; writes nothing",
        long: "Prints what the daemon would program on this node, as ip and nft commands. Asks metadata which ENIs there are.",
        examples: &[],
    },
    CommandRow {
        name: "cleanup-host",
        group: Group::Node,
        argument: None,
        options: &[],
        brief: "take what is ours out of the kernel",
        long: "For an uninstall, once the daemon is stopped: removes what is ours from the kernel. What living pods need stays and is told, \
               until it is run again.",
        examples: &[],
    },
    CommandRow {
        name: "takeover",
        group: Group::Node,
        argument: None,
        options: &[flag("dry-run", "needed: the daemon itself takes over when it starts"), JSON],
        brief: "what would become of a node of amazon-vpc-cni-k8s",
        long: "What a start of the daemon would make of a node that is amazon-vpc-cni-k8s's, and what is in the way; writes nothing.",
        examples: &[("ipamd takeover --dry-run", "before the first start")],
    },
    CommandRow {
        name: "hand-back",
        group: Group::Node,
        argument: None,
        options: &[flag("finish", "once that is ready: what has translated for its pods until then goes")],
        brief: "give the node back to amazon-vpc-cni-k8s",
        long: "Once the daemon is stopped: living pods and ipam.json as amazon-vpc-cni-k8s has them.",
        examples: &[],
    },
    CommandRow {
        name: "limits",
        group: Group::Anywhere,
        argument: argument("TYPE", false, Values::Any),
        options: &[flag("all", "of every instance type, a line each"), JSON, ADDRESS],
        brief: "what EC2 allows an instance type: ENIs, addresses, prefixes",
        long: "ENIs, network cards, addresses and prefixes of an ENI, hypervisor, and how many pods that makes; from the table that is \
               compiled in. Without TYPE: this node's, by its daemon.",
        examples: &[("ipamd limits m5.large", "one type"), ("ipamd limits --all", "the whole table")],
    },
    CommandRow {
        name: "max-pods",
        group: Group::Anywhere,
        argument: argument("TYPE", false, Values::Any),
        options: &[
            flag("prefixes", "with ENABLE_PREFIX_DELEGATION"),
            flag("custom-networking", "with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: the primary ENI has no pods"),
            flag("trunk", "with a trunk ENI"),
            option("max-eni", "N", Values::Any, "with MAX_ENI"),
            JSON,
        ],
        brief: "how many pods a node can hold, and why",
        long: "The number for kubelet's max-pods, and how it comes about; needs no node. Without TYPE: this node, by its daemon.",
        examples: &[("ipamd max-pods m5.large --prefixes", "before there is a node")],
    },
    CommandRow {
        name: "reasons",
        group: Group::Anywhere,
        argument: argument("CODE", false, Values::Reason),
        options: &[JSON],
        brief: "the stable codes: what they mean and what to do",
        long: "Every code that a refusal, an event, a metric or the status may carry: what it means, which numbers stand beside it, and what \
               to do. With CODE: that one, at length.",
        examples: &[("ipamd reasons SubnetExhausted", "one code")],
    },
    CommandRow {
        name: "simulate",
        group: Group::Anywhere,
        argument: None,
        options: &[
            option("instance-type", "TYPE", Values::Any, "type of the node; needed"),
            option("pods", "FILE", Values::File, "the trace of pods; needed"),
            OptionRow {
                repeats: true,
                ..option(
                    "with",
                    "'NAME=value …'",
                    Values::Any,
                    "a column: this daemon with these settings; '' for none",
                )
            },
            OptionRow {
                repeats: true,
                ..option("reference", "'NAME=value …'", Values::Any, "a column: amazon-vpc-cni-k8s, as a model")
            },
            option("svg", "FILE", Values::File, "a plot besides"),
        ],
        brief: "what settings would cost on a trace of pods",
        long: "What settings would cost on a trace of pods: addresses held, waits, EC2 calls; one column for each --with and --reference, \
               both as often as wanted.\n\
               \nFILE is CSV, first line name,starts,ends, times in seconds since the node joined, a year at most, no end for a pod that \
               stays; watched for ten minutes after the last.",
        examples: &[(
            "ipamd simulate --instance-type m5.large --pods ci.csv --with 'WARM_IP_TARGET=5' --reference ''",
            "ours beside theirs",
        )],
    },
    CommandRow {
        name: "completions",
        group: Group::Program,
        argument: argument("bash|zsh|fish", true, Values::OneOf(&["bash", "zsh", "fish"])),
        options: &[],
        brief: "completions for a shell",
        long: "Prints a script for the shell that completes commands and options.",
        examples: &[
            ("source <(ipamd completions bash)", "in ~/.bashrc"),
            ("ipamd completions zsh > \"${fpath[1]}/_ipamd\"", "once"),
            ("ipamd completions fish > ~/.config/fish/completions/ipamd.fish", "once"),
        ],
    },
    CommandRow {
        name: "man",
        group: Group::Program,
        argument: None,
        options: &[],
        brief: "the man page, ipamd.8",
        long: "Prints the man page as roff.",
        examples: &[("ipamd man > /usr/local/share/man/man8/ipamd.8", "to install it")],
    },
    CommandRow {
        name: "version",
        group: Group::Program,
        argument: None,
        options: &[],
        brief: "the version",
        long: "Prints the version; so does ipamd --version.",
        examples: &[],
    },
    CommandRow {
        name: "help",
        group: Group::Program,
        argument: argument("COMMAND", false, Values::Command),
        options: &[],
        brief: "this help, or a command's",
        long: "Prints the help; so does --help, after any command that one's.",
        examples: &[],
    },
];
