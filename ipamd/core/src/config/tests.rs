// SPDX-License-Identifier: Apache-2.0
use super::*;

fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parsed(pairs: &[(&str, &str)]) -> Config {
    parse(&source(pairs)).expect("valid").0
}

/// The reference's shipped manifest, v1.23 (column "manifest" of its table of variables).
const MANIFEST: &[(&str, &str)] = &[
    ("WARM_ENI_TARGET", "1"),
    ("WARM_PREFIX_TARGET", "1"),
    ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
    ("ENABLE_SUBNET_DISCOVERY", "true"),
    ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false"),
    ("ENABLE_IMDS_ONLY_MODE", "false"),
    ("ENABLE_POD_ENI", "false"),
    ("DISABLE_TCP_EARLY_DEMUX", "false"),
    ("ENABLE_PREFIX_DELEGATION", "false"),
    ("ENABLE_IPv4", "true"),
    ("ENABLE_IPv6", "false"),
    ("ENABLE_MULTI_NIC", "false"),
    ("NETWORK_POLICY_ENFORCING_MODE", "standard"),
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
    ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true"),
    ("AWS_VPC_ENI_MTU", "9001"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
    ("ADDITIONAL_ENI_TAGS", "{}"),
    ("VPC_CNI_VERSION", "v1.23.1"),
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
    ("AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
    ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "/var/log/aws-routed-eni/plugin.log"),
    ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "DEBUG"),
    ("DISABLE_INTROSPECTION", "false"),
    ("DISABLE_METRICS", "false"),
    ("MY_NODE_NAME", "ip-10-0-0-1.ec2.internal"),
    ("MY_POD_NAME", "aws-node-x"),
];

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    assert_eq!(parsed(&[]), Config::default());
    assert_eq!(parsed(&[("WARM_ENI_TARGET", ""), ("MAX_ENI", " ")]), Config::default());
}

#[test]
fn the_reference_manifest_starts_with_notes_only() {
    let (config, notes) = parse(&source(MANIFEST)).expect("the manifest is accepted");
    let named: Vec<&str> = notes.iter().map(|note| note.variable).collect();
    assert_eq!(named, ["WARM_PREFIX_TARGET"]);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.policy_mode.as_deref(), Some("standard"));
}

#[test]
fn all_mistakes_are_reported_at_once_and_named() {
    let errors = parse(&source(&[
        ("WARM_IP_TARGET", "-1"),
        ("MAX_ENI", "three"),
        ("AWS_VPC_ENI_MTU", "9002"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "vlan"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "yes"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/8,fd00::/8"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0"),
        ("HTTP_TIMEOUT", "9"),
        ("ENABLE_IPv6", "true"),
        ("ENABLE_IPv4", "false"),
        ("ENID_SOKET", "/x"),
        ("ADDITIONAL_ENI_TAGS", "{\"a\":1}"),
        ("ENID_SNAT_PORT_RANGE", "2000-1000"),
        ("ENID_SNAT_INCLUDE_CIDRS", "everything"),
        ("ENID_SNAT_FILE", "relative/path"),
    ]))
    .expect_err("all wrong");
    let mut named: Vec<&str> = errors.iter().map(|error| error.variable.as_str()).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "ADDITIONAL_ENI_TAGS",
            "AWS_VPC_ENI_MTU",
            "AWS_VPC_K8S_CNI_CONNMARK",
            "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
            "AWS_VPC_K8S_CNI_EXTERNALSNAT",
            "AWS_VPC_K8S_CNI_VETHPREFIX",
            "ENABLE_IPv4",
            "ENABLE_IPv6",
            "ENID_SNAT_FILE",
            "ENID_SNAT_INCLUDE_CIDRS",
            "ENID_SNAT_PORT_RANGE",
            "ENID_SOKET",
            "HTTP_TIMEOUT",
            "MAX_ENI",
            "WARM_IP_TARGET",
        ]
    );
    let text = errors.iter().find(|error| error.variable == "AWS_VPC_ENI_MTU").expect("named").to_string();
    assert_eq!(text, "AWS_VPC_ENI_MTU=`9002`: a whole number from 576 to 9001 is allowed");
}

#[test]
fn a_variable_of_the_plugin_is_no_mistake() {
    parse(&source(&[("ENID_ADD_BUDGET_MS", "5000")])).expect("the plugin's, documented");
}

#[test]
fn every_setting_that_means_another_network_is_refused() {
    for (name, value) in [
        ("ENABLE_POD_ENI", "TRUE"),
        ("ENABLE_MULTI_NIC", "t"),
        ("ENABLE_IPv6", "true"),
        ("NETWORK_POLICY_ENFORCING_MODE", "lenient"),
        ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "stdout"),
    ] {
        let errors = parse(&source(&[(name, value)])).expect_err(name);
        assert_eq!(errors.len(), 1, "{name}");
        assert_eq!(errors[0].variable, name);
    }
}

#[test]
fn places_and_modes_are_read() {
    let config = parsed(&[("ENABLE_IMDS_ONLY_MODE", "true"), ("ENABLE_SUBNET_DISCOVERY", "false")]);
    assert_eq!((config.provisioning, config.subnets), (Provisioning::ImdsOnly, SubnetChoice::Primary));
    assert_eq!(parsed(&[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "1")]).provisioning, Provisioning::Disabled);
    assert!(parsed(&[("ENABLE_V6_EGRESS", "true")]).v6_egress);
    assert!(parsed(&[("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true")]).provisions_when_cordoned);
    assert_eq!(parsed(&[("ENID_LEAKED_ENI_AGE", "60")]).leaked_eni_age, Some(Duration::from_secs(60)));
    assert_eq!(parsed(&[("ENID_LEAKED_ENI_AGE", "60"), ("DISABLE_LEAKED_ENI_CLEANUP", "true")]).leaked_eni_age, None);
    assert!(parse(&source(&[("ENID_LEAKED_ENI_AGE", "4")])).is_err());
}

#[test]
fn custom_networking_goes_before_discovery_and_needs_a_node_name() {
    const CUSTOM: (&str, &str) = ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true");
    const NODE: (&str, &str) = ("MY_NODE_NAME", "n1");
    let config =
        parsed(&[CUSTOM, NODE, ("ENABLE_SUBNET_DISCOVERY", "true"), ("ENI_CONFIG_LABEL_DEF", "topology/zone")]);
    assert_eq!(config.subnets, SubnetChoice::EniConfig);
    let keys = &config.kubernetes.eni_config_keys;
    assert_eq!((keys.annotation.as_str(), keys.label.as_str()), ("k8s.amazonaws.com/eniConfig", "topology/zone"));
    let errors = parse(&source(&[CUSTOM])).expect_err("nobody says which ENIConfig");
    assert_eq!((errors.len(), errors[0].variable.as_str()), (1, CUSTOM.0));
    assert!(errors[0].problem.contains("MY_NODE_NAME"), "{}", errors[0].problem);
    let errors = parse(&source(&[CUSTOM, NODE, ("MAX_ENI", "1")])).expect_err("only the primary ENI");
    assert_eq!((errors.len(), errors[0].variable.as_str()), (1, "MAX_ENI"));
    assert!(errors[0].problem.contains(CUSTOM.0), "{}", errors[0].problem);
    assert!(parse(&source(&[CUSTOM, NODE, ("MAX_ENI", "2")])).is_ok());
    assert!(parse(&source(&[CUSTOM, NODE, ("MAX_ENI", "1"), ("ENABLE_IMDS_ONLY_MODE", "true")])).is_ok());
    let errors = parse(&source(&[CUSTOM, NODE, ("ENI_CONFIG_ANNOTATION_DEF", "a b")])).expect_err("no key");
    assert_eq!(errors[0].variable, "ENI_CONFIG_ANNOTATION_DEF");
}

#[test]
fn custom_networking_where_nothing_is_made_or_its_keys_without_it_are_noted() {
    let noted = |pairs: &[(&str, &str)]| {
        let (_, notes) = parse(&source(pairs)).expect("accepted");
        notes.into_iter().map(|note| note.variable).collect::<Vec<_>>()
    };
    const CUSTOM: (&str, &str) = ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true");
    assert_eq!(noted(&[CUSTOM, ("ENABLE_IMDS_ONLY_MODE", "true")]), [CUSTOM.0]);
    assert_eq!(noted(&[CUSTOM, ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true")]), [CUSTOM.0]);
    assert_eq!(noted(&[("ENI_CONFIG_LABEL_DEF", "a/b")]), ["ENI_CONFIG_LABEL_DEF"]);
}

#[test]
fn an_address_target_takes_the_place_of_the_eni_target() {
    assert_eq!(parsed(&[("WARM_ENI_TARGET", "2")]).warm, WarmTargets::Enis(2));
    assert_eq!(parsed(&[("WARM_IP_TARGET", "0")]).warm, WarmTargets::Adaptive, "0 is none, as in the reference");
    assert_eq!(parsed(&[]).warm, WarmTargets::Adaptive);
    assert_eq!(parsed(MANIFEST).warm, WarmTargets::Enis(1));
    assert_eq!(
        parsed(&[("WARM_ENI_TARGET", "2"), ("MINIMUM_IP_TARGET", "5")]).warm,
        WarmTargets::Addresses { warm: 0, minimum: 5 }
    );
}

#[test]
fn prefix_delegation_needs_a_target_as_in_the_reference() {
    let on = ("ENABLE_PREFIX_DELEGATION", "true");
    assert_eq!(
        parsed(&[on, ("WARM_PREFIX_TARGET", "1")]).address_mode,
        AddressMode::Prefixes { warm_prefixes: Some(1) }
    );
    assert_eq!(parsed(&[on, ("WARM_IP_TARGET", "5")]).address_mode, AddressMode::Prefixes { warm_prefixes: None });
    assert_eq!(parsed(&[("WARM_PREFIX_TARGET", "1")]).address_mode, AddressMode::SecondaryIps);
    let adapts = parsed(&[on]);
    assert_eq!(
        (adapts.address_mode, adapts.warm),
        (AddressMode::Prefixes { warm_prefixes: None }, WarmTargets::Adaptive)
    );
    for set in [&[on, ("WARM_PREFIX_TARGET", "0")][..], &[on, ("WARM_PREFIX_TARGET", "0"), ("WARM_ENI_TARGET", "1")]] {
        let errors = parse(&source(set)).expect_err("no target");
        assert_eq!(errors.iter().map(|error| error.variable.as_str()).collect::<Vec<_>>(), ["WARM_PREFIX_TARGET"]);
        assert!(errors[0].to_string().contains("MINIMUM_IP_TARGET"), "{}", errors[0]);
    }
}

#[test]
fn values_are_read_as_the_reference_reads_them() {
    let config = parsed(&[
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", " 192.168.1.7/16, 10.0.0.0/8 ,10.0.0.0/8"),
        ("IP_COOLDOWN_PERIOD", "0"),
        ("AWS_VPC_K8S_CNI_LOG_FILE", "stdout"),
        ("INTROSPECTION_BIND_ADDRESS", "unix:/run/x.sock"),
        ("AWS_ENDPOINT_URL", "http://a"),
        ("NETWORK_POLICY_ENFORCING_MODE", "Strict"),
        ("AWS_EC2_ENDPOINT", "http://b"),
        ("ADDITIONAL_ENI_TAGS", "{\"team\":\"a\",\"node.k8s.amazonaws.com/x\":\"y\"}"),
    ]);
    assert_eq!(config.snat.connmark, 0x100);
    let blocks: Vec<String> = config.snat.blocks.exclude.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.0.0/8", "192.168.0.0/16"]);
    assert_eq!(config.cooldown, Duration::ZERO);
    assert_eq!(config.log.target, LogTarget::Stdout);
    assert_eq!(config.introspection, Some(Bind::Unix("/run/x.sock".into())));
    assert_eq!(config.metrics, "[::]:61678".parse().ok());
    assert_eq!(config.ec2_endpoint.as_deref(), Some("http://b"));
    assert_eq!(config.policy_mode.as_deref(), Some("Strict"), "handed on as it was written");
    assert_eq!(config.additional_eni_tags.keys().collect::<Vec<_>>(), ["team"]);
}

#[test]
fn pods_have_no_larger_mtu_than_enis() {
    let mtu = |given: &[(&str, &str)]| parse(&source(given)).expect("right").0.pod_mtu;
    assert_eq!(mtu(&[]), 9001);
    assert_eq!(mtu(&[("AWS_VPC_ENI_MTU", "1500")]), 1500);
    assert_eq!(mtu(&[("POD_MTU", "1400")]), 1400);
    assert_eq!(mtu(&[("AWS_VPC_ENI_MTU", "1500"), ("POD_MTU", "9001")]), 1500);
}

#[test]
fn what_decides_of_translation_is_read() {
    let config = parsed(&[
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "false"),
        ("AWS_EXTERNAL_SERVICE_CIDRS", "172.20.0.0/16"),
        ("ENID_SNAT_INCLUDE_CIDRS", "198.51.100.7/24, 203.0.113.0/24"),
        ("ENID_SNAT_PORT_RANGE", "10000 - 60999"),
        ("ENID_SNAT_FILE", "/etc/enid/snat.json"),
    ]);
    let texts = |blocks: &[Ipv4Net]| blocks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(!config.snat.serves_node_ports && parsed(&[]).snat.serves_node_ports);
    assert_eq!(texts(&config.snat.blocks.external_services), ["172.20.0.0/16"]);
    assert_eq!(texts(&config.snat.blocks.include), ["198.51.100.0/24", "203.0.113.0/24"]);
    assert_eq!(config.snat.port_range, Some((10_000, 60_999)));
    assert_eq!(config.snat.file, Some("/etc/enid/snat.json".into()));
    for range in ["0-1", "1", "1-65536", "7-6", "-", "a-b"] {
        assert!(parse(&source(&[("ENID_SNAT_PORT_RANGE", range)])).is_err(), "{range}");
    }
}

#[test]
fn nothing_is_left_untracked_unless_asked_for_and_not_where_services_lie_in_the_vpc() {
    let vpc: Vec<Ipv4Net> = ["10.0.0.0/16", "10.2.0.0/16"].map(|block| block.parse().expect("a block")).to_vec();
    let leaves = |given: &[(&str, &str)]| parsed(given).leaves_untracked(&vpc);
    assert!(!leaves(&[]) && !leaves(&[("ENID_NOTRACK", "false")]));
    assert!(leaves(&[("ENID_NOTRACK", "true")]), "nothing is said of Services");
    let hidden = [("fd00::1", false), ("api.example", false)];
    for (service, untracked) in
        [("172.20.0.1", true), ("10.1.0.1", true), ("10.2.0.1", false)].into_iter().chain(hidden)
    {
        assert_eq!(leaves(&[("ENID_NOTRACK", "true"), ("KUBERNETES_SERVICE_HOST", service)]), untracked, "{service}");
    }
}

#[test]
fn nothing_is_left_untracked_beside_the_network_policy_agent() {
    let vpc = ["10.0.0.0/16".parse().expect("a block")];
    for mode in ["none", "standard", "strict"] {
        let config = parsed(&[("ENID_NOTRACK", "true"), ("NETWORK_POLICY_ENFORCING_MODE", mode)]);
        assert!(!config.leaves_untracked(&vpc), "{mode}");
        assert!(config.everything_is_tracked_because(&vpc).is_some_and(|why| why.contains(mode)), "{mode}");
    }
    assert_eq!(parsed(&[("NETWORK_POLICY_ENFORCING_MODE", "strict")]).everything_is_tracked_because(&vpc), None);
}

#[test]
fn the_layout_and_its_mark_are_read() {
    let config = parsed(&[("ENID_LAYOUT", "flat"), ("ENID_ENI_MARK_MASK", "0x3000")]);
    assert_eq!((config.layout, config.eni_mark_mask), (Layout::Flat, 0x3000));
    assert_eq!(parsed(&[("ENID_LAYOUT", "classic")]).layout, Layout::Classic);
    for wrong in
        [("ENID_LAYOUT", "Flat"), ("ENID_LAYOUT", "both"), ("ENID_ENI_MARK_MASK", "0x5"), ("ENID_ENI_MARK_MASK", "0")]
    {
        assert!(parse(&source(&[wrong])).is_err(), "{wrong:?}");
    }
}

#[test]
fn marks_that_overlap_are_a_mistake_that_names_both() {
    for pairs in [
        &[("AWS_VPC_K8S_CNI_CONNMARK", "0x10"), ("ENID_ENI_MARK_MASK", "0x7f")][..],
        &[("ENID_ENI_MARK_MASK", "0xf0")],
        &[("ENID_ENI_MARK_MASK", "0x3000"), ("AWS_VPC_K8S_CNI_CONNMARK", "0x2000")],
    ] {
        let errors = parse(&source(pairs)).expect_err("they overlap");
        let text = errors[0].to_string();
        assert!(text.contains("ENID_ENI_MARK_MASK") && text.contains("AWS_VPC_K8S_CNI_CONNMARK"), "{text}");
    }
    let (_, notes) = parse(&source(&[("ENID_ENI_MARK_MASK", "0x7000")])).expect("others may have moved their bits");
    assert!(notes[0].text.contains("0x4000") && notes[0].text.contains("kube-proxy"), "{}", notes[0]);
}

#[test]
fn the_table_says_in_a_word_what_becomes_of_values() {
    let label = |name: &str| VARIABLES.iter().find(|row| row.name == name).expect("a row").support.label();
    assert_eq!(label("ENABLE_IPv6"), "other values are refused");
    assert_eq!(label("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER"), "accepted with a warning");
    assert_eq!(label("VPC_CNI_VERSION"), "accepted, no effect");
    assert_eq!(label("NETWORK_POLICY_ENFORCING_MODE"), "honoured");
}

#[test]
fn every_variable_is_one_row_and_the_table_renders() {
    let mut names: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), VARIABLES.len());
    let page = configuration_page();
    for name in names {
        assert_eq!(page.matches(&format!("\n### `{name}`\n")).count(), 1, "{name}");
    }
    // In the README: the head, what is left out, and the rest a line each.
    let rows = markdown_table().lines().filter(|line| line.starts_with("| `")).count();
    assert!(rows < VARIABLES.len() && markdown_table().contains(&format!("Left out are {} ", VARIABLES.len() - rows)));
    assert!(markdown_table().contains("| `ENID_MAX_PODS` |"));
}

#[test]
fn any_connection_mark_leaves_a_mask_for_enis_that_is_clear_of_it() {
    for (connmark, mask) in [
        ("0x80", 0x7f),
        ("0x10", 0x0f),
        ("0x08", 0xf0),
        ("0x20", 0x1f),
        ("0x1", 0xfe),
        ("0x4000", 0x7f),
        ("0xff", 0x3f00),
        ("0xffff", 0x7f_0000),
    ] {
        for layout in ["classic", "flat"] {
            let config = parsed(&[("AWS_VPC_K8S_CNI_CONNMARK", connmark), ("ENID_LAYOUT", layout)]);
            assert_eq!(config.eni_mark_mask, mask, "{connmark}");
            assert_eq!(config.eni_mark_mask & config.snat.connmark, 0);
        }
    }
    let (_, notes) = parse(&source(&[("AWS_VPC_K8S_CNI_CONNMARK", "0xff")])).expect("a setting of the reference's");
    assert!(notes.iter().any(|note| note.text.contains("Cilium")), "{notes:?}");
    let errors = parse(&source(&[("AWS_VPC_K8S_CNI_CONNMARK", "0xffffffff")])).unwrap_err();
    assert!(errors[0].to_string().contains("ENID_ENI_MARK_MASK"), "{errors:?}");
}

#[test]
fn what_is_set_and_can_do_nothing_is_noted_once() {
    /// What is set, and which of it gets a note.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let external = ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true");
    let table: [Case<'_>; 10] = [
        (&[("POD_MTU", "9001"), ("AWS_VPC_ENI_MTU", "1500")], &["POD_MTU"]),
        (&[("POD_MTU", "1400"), ("AWS_VPC_ENI_MTU", "1500"), ("ENID_EXTERNAL_MTU", "1300")], &[]),
        (&[("POD_MTU", "1400"), ("ENID_EXTERNAL_MTU", "1500")], &["ENID_EXTERNAL_MTU"]),
        (
            &[
                external,
                ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/8"),
                ("ENID_SNAT_INCLUDE_CIDRS", "1.0.0.0/8"),
                ("AWS_EXTERNAL_SERVICE_CIDRS", "2.0.0.0/8"),
            ],
            &["AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "ENID_SNAT_INCLUDE_CIDRS"],
        ),
        (
            &[external, ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none"), ("ENID_SNAT_PORT_RANGE", "1-2")],
            &["AWS_VPC_K8S_CNI_RANDOMIZESNAT", "ENID_SNAT_PORT_RANGE"],
        ),
        (&[("ENID_LAYOUT", "classic"), ("ENID_ENI_MARK_MASK", "0x3")], &["ENID_ENI_MARK_MASK"]),
        (&[("DISABLE_LEAKED_ENI_CLEANUP", "true"), ("ENID_LEAKED_ENI_AGE", "60")], &["ENID_LEAKED_ENI_AGE"]),
        (
            &[("DISABLE_INTROSPECTION", "true"), ("INTROSPECTION_BIND_ADDRESS", "1.2.3.4:5")],
            &["INTROSPECTION_BIND_ADDRESS"],
        ),
        (&[("DISABLE_METRICS", "true"), ("METRICS_BIND_ADDRESS", ":1")], &["METRICS_BIND_ADDRESS"]),
        (
            &[
                ("WARM_ENI_TARGET", "1"),
                ("WARM_PREFIX_TARGET", "1"),
                ("WARM_IP_TARGET", "5"),
                ("ENABLE_PREFIX_DELEGATION", "true"),
            ],
            &["WARM_ENI_TARGET", "WARM_PREFIX_TARGET"],
        ),
    ];
    for (pairs, noted) in table {
        let (_, notes) = parse(&source(pairs)).expect("valid");
        let names: Vec<&str> = notes.iter().map(|note| note.variable).collect();
        assert_eq!(names, noted, "{pairs:?}");
    }
}

#[test]
fn metrics_are_served_where_the_reference_would() {
    for (set, bind) in [
        (None, Some("[::]:61678")),
        (Some(":9100"), Some("[::]:9100")),
        (Some("127.0.0.1:9100"), Some("127.0.0.1:9100")),
    ] {
        let set: Vec<_> = set.map(|value| ("METRICS_BIND_ADDRESS", value)).into_iter().collect();
        assert_eq!(parsed(&set).metrics, bind.map(|bind| bind.parse().expect("an address")));
    }
    assert_eq!(parsed(&[("DISABLE_METRICS", "true")]).metrics, None);
    let errors = parse(&source(&[("METRICS_BIND_ADDRESS", "61678")])).expect_err("no port");
    assert!(errors[0].to_string().contains("METRICS_BIND_ADDRESS"), "{errors:?}");
}
