// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;
use crate::config::CniFiles;

/// As the reference's entrypoint writes it.
const REFERENCE: &str = r#"{ "cniVersion": "0.4.0", "name": "aws-cni", "disableCheck": true, "plugins": [
    { "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001", "podSGEnforcingMode": "strict",
      "pluginLogFile": "/var/log/aws-routed-eni/plugin.log", "pluginLogLevel": "DEBUG",
      "capabilities": { "io.kubernetes.cri.pod-annotations": true } },
    { "name": "egress-cni", "type": "egress-cni", "mtu": "9001", "enabled": "false", "nodeIP": "" },
    { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true } ] }"#;

fn default() -> Value {
    wanted(&Config::default(), None).unwrap()
}

fn with(cni: CniFiles) -> Value {
    wanted(&Config { cni, ..Config::default() }, None).unwrap()
}

fn types(list: &Value) -> Vec<&str> {
    list["plugins"].as_array().unwrap().iter().map(type_of).collect()
}

/// What a service mesh does: its plugin at the end of the list, unless it is there already.
fn append(list: &mut Value, entry: &Value) {
    let plugins = list["plugins"].as_array_mut().unwrap();
    plugins.retain(|found| type_of(found) != type_of(entry));
    plugins.push(entry.clone());
}

fn linkerd() -> Value {
    json!({ "name": "linkerd-cni", "type": "linkerd-cni", "linkerd": { "incoming-proxy-port": 4143 }, "policy": {} })
}

fn istio() -> Value {
    json!({ "name": "istio-cni", "type": "istio-cni", "plugin_log_level": "info" })
}

#[test]
fn without_settings_it_is_the_shipped_file() {
    assert_eq!(default(), serde_json::from_str::<Value>(SHIPPED).unwrap());
}

#[test]
fn the_settings_are_in_our_entry_and_further_plugins_come_behind_it() {
    let cni = CniFiles {
        plugin_log: "/log/\"p\"".to_owned(),
        plugin_log_level: "WARN".to_owned(),
        has_bandwidth: true,
        disables_pod_ipv6: true,
        ..CniFiles::default()
    };
    let journal = PathBuf::from("/state/ipam.json");
    let config =
        Config { cni, veth_prefix: "pod".to_owned(), pod_mtu: 1400, socket: "/s".into(), journal, ..Config::default() };
    let list = wanted(&config, None).unwrap();
    assert_eq!(types(&list), ["aws-cni", "bandwidth", "tuning"]);
    let own = &list["plugins"][0];
    let said = ["vethPrefix", "mtu", "pluginLogFile", "pluginLogLevel", "ipamdSocket", "stateDir"].map(|key| &own[key]);
    assert_eq!(said, ["pod", "1400", "/log/\"p\"", "WARN", "/s", "/state"]);
}

#[test]
fn the_references_list_becomes_ours_with_what_a_mesh_appended_to_it() {
    let mut found: Value = serde_json::from_str(REFERENCE).unwrap();
    append(&mut found, &linkerd());
    let Merged { list, others } = merged(&default(), &found.to_string()).unwrap();
    let mut ours = default();
    append(&mut ours, &linkerd());
    assert_eq!(list, ours);
    assert_eq!(others, ["linkerd-cni"]);
}

/// Every order of two meshes and our start, each chain living through three more starts and a change of settings.
#[test]
fn whoever_comes_first_the_chain_has_all_and_no_start_changes_it() {
    for order in [["us", "linkerd", "istio"], ["us", "istio", "linkerd"]] {
        let mut list = default();
        for who in &order[1..] {
            append(&mut list, &if *who == "linkerd" { linkerd() } else { istio() });
            list = merged(&default(), &text(&list)).unwrap().list;
        }
        let wanted_types: Vec<String> =
            std::iter::once("aws-cni".to_owned()).chain(order[1..].iter().map(|who| format!("{who}-cni"))).collect();
        assert_eq!(types(&list), wanted_types);
        let before = text(&list);
        for _ in 0..3 {
            list = merged(&default(), &text(&list)).unwrap().list;
            assert_eq!(text(&list), before);
        }
        let both = with(CniFiles { has_bandwidth: true, disables_pod_ipv6: true, ..CniFiles::default() });
        let changed = merged(&both, &before).unwrap().list;
        let behind = [&["aws-cni", "bandwidth", "tuning"][..], &types(&list)[1..]].concat();
        assert_eq!(types(&changed), behind);
        assert_eq!(text(&merged(&default(), &text(&changed)).unwrap().list), before, "and back again");
    }
}

#[test]
fn what_others_wrote_stays_in_its_place_and_merging_again_changes_nothing() {
    let odd_bandwidth = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true }, "ingressRate": 1000 });
    let before_ours = json!({ "type": "sbr" });
    let own_portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true }, "backend": "nftables" });
    for foreign in [linkerd(), odd_bandwidth, own_portmap, json!({ "type": "firewall" })] {
        for cni in [CniFiles::default(), CniFiles { has_bandwidth: true, ..CniFiles::default() }] {
            let ours = with(cni);
            let mut found = default();
            found["disableGC"] = true.into();
            found["plugins"][0]["args"] = json!({ "team": "a" });
            found["plugins"][0]["vethPrefix"] = "old".into();
            found["plugins"][0]["stateDir"] = "/old".into();
            found["plugins"].as_array_mut().unwrap().insert(0, before_ours.clone());
            append(&mut found, &foreign);
            let Merged { list, others } = merged(&ours, &found.to_string()).unwrap();
            assert_eq!(list["disableGC"], true);
            assert_eq!(types(&list)[..2], ["sbr", "aws-cni"]);
            let own = &list["plugins"][1];
            assert_eq!(own["args"], json!({ "team": "a" }));
            assert_eq!((&own["vethPrefix"], own.get("stateDir")), (&json!("eni"), None));
            assert_eq!(list["plugins"].as_array().unwrap().last(), Some(&foreign), "{list}");
            let is_told = types(&ours).contains(&type_of(&foreign)) || others.contains(&type_of(&foreign).to_owned());
            assert!(is_told, "{others:?}");
            let opens_ports = own["capabilities"].get("portMappings") == Some(&Value::Bool(true));
            assert_eq!(opens_ports, type_of(&foreign) != "portmap", "ports are opened once");
            assert_eq!(merged(&ours, &text(&list)).unwrap().list, list);
        }
    }
}

#[test]
fn what_is_no_list_of_ours_is_refused_with_the_reason() {
    for (text, reason) in [
        ("", "it is not JSON"),
        ("{ \"plugins\": [", "it is not JSON"),
        ("[]", "it has no object"),
        ("{}", "it has no array `plugins`"),
        ("{\"plugins\": []}", "it has no plugin of type aws-cni"),
        ("{\"plugins\": [{\"type\": \"bridge\"}]}", "it has no plugin of type aws-cni"),
        ("{\"plugins\": [{\"type\": \"aws-cni\"}, {}]}", "it has no `type` in one of its plugins"),
    ] {
        let error = merged(&default(), text).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{text}: {error}");
    }
}

#[test]
fn a_template_is_filled_in_and_its_own_words_win() {
    let config = Config { socket: "/s".into(), ..Config::default() };
    let template = REFERENCE
        .replace("\"vethPrefix\": \"eni\"", "\"vethPrefix\": \"__VETHPREFIX__\"")
        .replace("\"mtu\": \"9001\", \"pod", "\"mtu\": \"1400\", \"pod")
        .replace("\"nodeIP\": \"\"", "\"nodeIP\": \"__NODEIP__\"");
    let list = wanted(&config, Some(&template)).unwrap();
    assert_eq!(types(&list), ["aws-cni"]);
    let own = &list["plugins"][0];
    assert_eq!(["vethPrefix", "mtu", "ipamdSocket"].map(|key| &own[key]), ["eni", "1400", "/s"]);
    assert_eq!(own["capabilities"]["portMappings"], true, "in portmap's place");
    assert_eq!((&list["cniVersion"], list.get("cniVersions")), (&json!("0.4.0"), None));
    let found = merged(&list, SHIPPED).unwrap().list;
    assert_eq!(found, list, "over a file of ours");
    let error = wanted(&config, Some(&template.replace("\"strict\"", "\"__WHAT__\""))).unwrap_err();
    assert_eq!(error.to_string(), "nothing is known to put in place of __WHAT__");
}

#[test]
fn the_references_file_is_not_taken_for_ours() {
    assert_eq!(ours(SHIPPED), Some(Vec::new()));
    assert_eq!(ours(REFERENCE), None);
    assert_eq!(ours("{}"), None);
    let mut chained = default();
    append(&mut chained, &istio());
    assert_eq!(ours(&chained.to_string()), Some(vec!["istio-cni".to_owned()]));
}

#[test]
fn files_that_runtimes_take_first_are_found_by_name() {
    let names =
        ["99-loopback.conf", "10-aws.conflist", "05-cilium.conflist", "00-multus.conf", "10-aws.conf", "00.txt"];
    assert_eq!(taken_before(names), ["00-multus.conf", "05-cilium.conflist", "10-aws.conf"]);
}

/// Both are run: each writes its own settings.
#[test]
fn what_somebody_else_tunes_stays_beside_what_we_do() {
    let theirs = json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" } });
    let ours = with(CniFiles { disables_pod_ipv6: true, ..CniFiles::default() });
    let mut found = default();
    append(&mut found, &theirs);
    let Merged { list, others } = merged(&ours, &found.to_string()).unwrap();
    assert_eq!(types(&list), ["aws-cni", "tuning", "tuning"]);
    assert_eq!((&list["plugins"][1], &list["plugins"][2]), (&ours["plugins"][1], &theirs));
    assert_eq!(others, ["tuning"]);
    assert_eq!(merged(&ours, &text(&list)).unwrap().list, list, "once");
    assert_eq!(merged(&default(), &text(&list)).unwrap().list, found, "and back again");
}

#[test]
fn several_entries_of_one_type_in_a_template_are_each_there_once_however_often_it_is_merged() {
    let first = json!({ "type": "sbr", "table": 1 });
    let second = json!({ "type": "sbr", "table": 2 });
    for several in [[&first, &second], [&second, &first], [&first, &first]] {
        let template = json!({ "plugins": [{ "type": "aws-cni" }, several[0], several[1]] }).to_string();
        let wanted = wanted(&Config::default(), Some(&template)).unwrap();
        for there in [vec![], vec![&first], vec![&second], vec![&second, &first], vec![&first, &second]] {
            let mut plugins = vec![json!({ "type": "aws-cni" })];
            plugins.extend(there.iter().map(|entry| (*entry).clone()));
            plugins.push(linkerd());
            let mut list = json!({ "name": "aws-cni", "plugins": plugins });
            for round in 0..3 {
                list = merged(&wanted, &text(&list)).unwrap().list;
                let has =
                    |entry: &Value| list["plugins"].as_array().unwrap().iter().filter(|one| *one == entry).count();
                let wanted = |entry: &Value| several.iter().filter(|one| **one == entry).count();
                assert!(has(&first) >= wanted(&first) && has(&second) >= wanted(&second), "{round}: {there:?} {list}");
                assert_eq!(has(&linkerd()), 1, "{round}: {list}");
            }
            assert_eq!(merged(&wanted, &text(&list)).unwrap().list, list, "{there:?}");
        }
    }
}
