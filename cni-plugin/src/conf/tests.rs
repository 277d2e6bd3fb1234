// SPDX-License-Identifier: Apache-2.0
use std::net::IpAddr;

use serde_json::json;

use super::*;

fn parse_for(verb: Verb, value: &Value) -> Result<NetConf, CniError> {
    NetConf::parse(value.to_string().as_bytes(), verb, &|_| None)
}

fn with(key: &str, value: Value) -> Value {
    let mut conf = json!({"cniVersion": "1.0.0", "name": "aws-cni", "type": "aws-cni"});
    conf[key] = value;
    conf
}

#[test]
fn the_least_configuration_has_the_reference_s_defaults() {
    for version in VERSIONS {
        let conf = parse_for(Verb::Add, &with("cniVersion", version.into())).unwrap();
        let expected = NetConf {
            version: version.into(),
            name: "aws-cni".into(),
            veth_prefix: "eni".into(),
            mtu: 9001,
            socket: "/var/run/aws-node/ipamd.sock".into(),
            state_dir: "/var/run/aws-node".into(),
            log_target: LogTarget::File("/var/log/aws-routed-eni/plugin.log".into()),
            log_level: LogLevel::Debug,
            wants_multi_nic: false,
            host_ports: vec![],
            previous: None,
            previous_addresses: vec![],
            keep: None,
        };
        assert_eq!(conf, expected);
    }
}

#[test]
fn the_shipped_conflist_parses_for_every_version_it_offers() {
    let list: Value = serde_json::from_str(include_str!("../../../deploy/10-aws.conflist")).unwrap();
    assert_eq!((&list["cniVersion"], &list["cniVersions"]), (&json!("1.0.0"), &json!(["1.0.0", "1.1.0"])));
    assert_eq!((&list["name"], &list["plugins"][0]["type"]), (&json!("aws-cni"), &json!("aws-cni")));
    for version in list["cniVersions"].as_array().unwrap() {
        // What libcni does to a plugin's entry before it is handed over.
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = version.clone();
        let conf = parse_for(Verb::Add, &plugin).unwrap();
        assert_eq!((conf.mtu, conf.veth_prefix.as_str()), (9001, "eni"));
    }
}

#[test]
fn a_key_of_the_wrong_kind_is_code_7_with_its_name() {
    let table = [
        ("cniVersion", json!(1)),
        ("name", json!(null)),
        ("name", json!("a/b")),
        ("name", json!(["aws-cni"])),
        ("vethPrefix", json!("toolong")),
        ("vethPrefix", json!("e/i")),
        ("vethPrefix", json!(4)),
        ("mtu", json!({"value": 9001})),
        ("ipamdSocket", json!(false)),
        ("stateDir", json!(1)),
        ("pluginLogFile", json!("stdout")),
        ("pluginLogLevel", json!("loud")),
    ];
    for (key, value) in table {
        let error = parse_for(Verb::Add, &with(key, value.clone())).unwrap_err();
        assert_eq!(error.code, Code::Config, "{key}: {value}");
        assert!(error.message.contains(&format!("`{key}`")), "{error}");
    }
}

#[test]
fn a_del_does_without_what_is_not_valid_unless_it_is_its_key() {
    for (key, value) in
        [("vethPrefix", "toolong"), ("mtu", "x"), ("pluginLogFile", "stdout"), ("pluginLogLevel", "loud")]
    {
        let conf = parse_for(Verb::Del, &with(key, value.into())).unwrap();
        assert_eq!((conf.veth_prefix.as_str(), conf.mtu, conf.log_level), ("eni", 9001, LogLevel::Debug), "{key}");
    }
    assert_eq!(parse_for(Verb::Del, &with("name", "a/b".into())).unwrap_err().code, Code::Config);
}

#[test]
fn text_that_is_no_json_object_is_code_6() {
    for stdin in ["", "nonsense", "[]", "\"x\"", "{\"cniVersion\":", "\u{0}"] {
        let error = NetConf::parse(stdin.as_bytes(), Verb::Del, &|_| None).unwrap_err();
        assert_eq!(error.code, Code::Decode, "{stdin:?}");
    }
}

#[test]
fn an_mtu_out_of_range_counts_as_9001() {
    for (given, mtu) in [
        (json!("1500"), 1500),
        (json!(1500), 1500),
        (json!("576"), 576),
        (json!("575"), 9001),
        (json!("9002"), 9001),
        (json!("many"), 9001),
        (json!(-1), 9001),
        (json!(null), 9001),
    ] {
        assert_eq!(parse_for(Verb::Add, &with("mtu", given.clone())).unwrap().mtu, mtu, "{given}");
    }
}

#[test]
fn versions_that_do_not_do_for_a_verb_are_code_1() {
    let table = [
        (Verb::Add, "0.2.0", false),
        (Verb::Add, "0.4.0", true),
        (Verb::Add, "1.2.0", false),
        (Verb::Status, "1.0.0", false),
        (Verb::Status, "1.1.0", true),
        (Verb::Del, "0.1.0", true),
        (Verb::Del, "9.9.9", true),
    ];
    for (verb, version, accepted) in table {
        let parsed = parse_for(verb, &with("cniVersion", version.into()));
        assert_eq!(parsed.is_ok(), accepted, "{verb:?} {version}");
        assert!(parsed.is_ok() || parsed.unwrap_err().code == Code::IncompatibleVersion);
    }
    let without = json!({"name": "aws-cni"});
    assert_eq!(parse_for(Verb::Add, &without).unwrap_err().code, Code::IncompatibleVersion);
}

#[test]
fn the_socket_is_the_configuration_s_then_the_environment_s() {
    let environment = |name: &str| (name == "ENID_SOCKET").then(|| "/env.sock".to_owned());
    let socket = |conf: &Value| NetConf::parse(conf.to_string().as_bytes(), Verb::Add, &environment).unwrap().socket;
    assert_eq!(socket(&with("ipamdSocket", "/key.sock".into())), PathBuf::from("/key.sock"));
    assert_eq!(socket(&with("mtu", "1500".into())), PathBuf::from("/env.sock"));
}

#[test]
fn unknown_keys_are_tolerated_and_the_multi_nic_annotation_is_seen() {
    assert!(parse_for(Verb::Add, &with("podSGEnforcingMode", "strict".into())).is_ok());
    let annotated = |value: &str| {
        with("runtimeConfig", json!({"io.kubernetes.cri.pod-annotations": {"k8s.amazonaws.com/nicConfig": value}}))
    };
    assert!(parse_for(Verb::Add, &annotated("multi-nic-attachment")).unwrap().wants_multi_nic);
    assert!(!parse_for(Verb::Add, &annotated("other")).unwrap().wants_multi_nic);
}

#[test]
fn addresses_of_a_previous_result_are_found_in_every_version_and_nonsense_is_not() {
    let of = |result: Value| parse_for(Verb::Del, &with("prevResult", result)).unwrap().previous_addresses;
    let address = ["10.0.1.7".parse::<IpAddr>().unwrap()];
    let both = ["10.0.1.7", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(of(json!({"ips": [{"version": "4", "address": "10.0.1.7/32", "interface": 1}]})), address);
    assert_eq!(of(json!({"ips": [{"address": "10.0.1.7/32"}, {"address": "2001:db8::1/128"}]})), both);
    for nonsense in [json!(null), json!([]), json!({"ips": 5}), json!({"ips": [{"address": 5}, 7, {}]})] {
        assert!(of(nonsense.clone()).is_empty(), "{nonsense}");
    }
}

#[test]
fn the_hash_of_a_host_veth_is_whole_whatever_letter_the_prefix_is() {
    for prefix in ["eni", "c", "cc"] {
        let conf = parse_for(Verb::Add, &with("vethPrefix", prefix.into())).unwrap();
        let name = LinkName::host_veth(&conf.veth_prefix, "default", "sample-pod", "").unwrap();
        assert_eq!(conf.hash_of(&name), "cc21c2d7785", "of {name}");
    }
}
