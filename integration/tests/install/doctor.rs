// SPDX-License-Identifier: Apache-2.0
//! `ipamd doctor` finds nothing on a healthy node, and on one with a single fault just that.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use integration::eventually::eventually;
use integration::node::{Node, NodeError};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use serde_json::Value;
use vpc_model::Fault;

use crate::bed::{CONF, install, prepare};

/// Everything that is not ok: level, check, and what was found and is to be done.
fn ills(node: &Node) -> Vec<(String, String, String)> {
    let (text, has_failed) = match node.ask(&["doctor", "-o", "json"]) {
        Ok(text) => (text, false),
        Err(NodeError::Command { output, .. }) => (output, true),
        Err(error) => panic!("{error}"),
    };
    // A command that failed has its complaint behind what it printed.
    let findings = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    let findings =
        findings.unwrap_or_else(|| panic!("nothing printed: {text}")).unwrap_or_else(|error| panic!("{error}: {text}"));
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = findings.as_array().unwrap().iter();
    let ills: Vec<_> = all
        .filter(|finding| finding["level"] != "ok")
        .map(|finding| {
            let told = format!("{} / {}", word(finding, "found"), word(finding, "todo"));
            (word(finding, "level"), word(finding, "check"), told)
        })
        .collect();
    assert_eq!(has_failed, ills.iter().any(|(level, ..)| level == "fail"), "the exit code: {text}");
    ills
}

/// Just one ill, of this level and check, that names this.
fn only(node: &Node, level: &str, check: &str, names: &str) {
    let ills = ills(node);
    let [(found_level, found_check, told)] = ills.as_slice() else { panic!("one for {check}, not {ills:?}") };
    assert_eq!((found_level.as_str(), found_check.as_str()), (level, check), "{told}");
    assert!(told.contains(names), "{told}");
}

fn node(spec: NodeSpec) -> Topology {
    let mut topology = Topology::build(&TopologySpec { nodes: vec![spec], ..TopologySpec::one("m5.large") }).unwrap();
    prepare(&mut topology, true);
    install(topology.node("n1"), &[]);
    topology
}

fn healthy() -> Topology {
    let topology = node(NodeSpec::new("n1", "m5.large", Subnet::A));
    assert_eq!(ills(topology.node("n1")), []);
    topology
}

#[test]
fn metadata_that_is_away_or_too_many_hops_off_is_told_apart() {
    let mut topology = healthy();
    let n1 = topology.node_mut("n1");
    let endpoint = n1.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap().to_owned();
    n1.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9");
    only(n1, "fail", "imds", "no connection to 127.0.0.1:9");
    n1.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint);
    // The connection stands, and no packet with an answer in it arrives.
    let port = endpoint.rsplit(':').next().unwrap();
    n1.nft(&format!(
        "add table inet hops\nadd chain inet hops out {{ type filter hook output priority 0; }}\n\
         add rule inet hops out tcp sport {port} meta length > 100 drop\n"
    ))
    .unwrap();
    only(n1, "fail", "imds", "hop limit");
}

#[test]
fn a_denied_action_is_named() {
    let topology = healthy();
    let n1 = topology.node("n1");
    for (action, level) in [
        ("CreateNetworkInterface", "fail"),
        ("AttachNetworkInterface", "warn"),
        ("ModifyNetworkInterfaceAttribute", "warn"),
        ("CreateTags", "warn"),
        ("DetachNetworkInterface", "warn"),
        ("DeleteNetworkInterface", "warn"),
    ] {
        topology.emulator.with_model(|vpc, _| vpc.order_fault(Fault::always(action, "UnauthorizedOperation")));
        only(n1, level, "permissions", &format!("allow ec2:{action} "));
        topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    }
    let made = topology.unattached_enis();
    assert_eq!(made, 0, "nothing was done");
}

/// Of a call without a dry run only the daemon knows, once it has made it.
#[test]
fn what_the_running_daemon_is_denied_is_named_until_it_succeeds() {
    let mut topology = healthy();
    let denied = || Fault::always("AssignPrivateIpAddresses", "UnauthorizedOperation");
    topology.emulator.with_model(|vpc, _| vpc.order_fault(denied()));
    // It answers, and is not ready: it has no address to prove.
    let n1 = topology.node_mut("n1");
    n1.start().unwrap();
    n1.wait_answers(READY).unwrap();
    let n1 = topology.node("n1");
    let named = eventually("what it was denied is named", READY, || {
        let ills = ills(n1);
        let of = |wanted: &str| ills.iter().find(|(_, check, _)| check == wanted).map(|(_, _, told)| told.clone());
        let (rights, daemon) = (of("permissions").unwrap_or_default(), of("daemon").unwrap_or_default());
        let is_named =
            rights.contains("the daemon was denied it") && rights.contains("allow ec2:AssignPrivateIpAddresses ");
        if is_named && daemon.contains("[Ec2Denied]") { Ok(()) } else { Err(format!("{ills:?}")) }
    });
    named.unwrap();
    topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    // A denied call is not repeated at once.
    let gone = eventually("it has succeeded", Duration::from_secs(150), || match ills(n1).as_slice() {
        [] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    gone.unwrap();
}

#[test]
fn ec2_that_is_away_is_told_once() {
    let mut topology = healthy();
    let n1 = topology.node_mut("n1");
    n1.set("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9");
    only(n1, "fail", "ec2", "EC2 endpoint");
}

/// What systemd reads for the daemon, read for a command that is run by hand: the AWS SDK's variables among it.
#[test]
fn the_units_file_fills_what_the_environment_lacks() {
    let mut topology = healthy();
    let n1 = topology.node_mut("n1");
    let right = n1.variable("AWS_ENDPOINT_URL_EC2").unwrap().to_owned();
    let write = |text: &str| {
        fs::create_dir_all("/etc/enid").unwrap();
        fs::write("/etc/enid/ipamd.env", text).unwrap();
    };
    write("# where EC2 is\nAWS_ENDPOINT_URL_EC2=\"http://127.0.0.1:9\"\n");
    assert_eq!(ills(n1), [], "the environment goes first");
    n1.unset("AWS_ENDPOINT_URL_EC2");
    only(n1, "fail", "ec2", "EC2 endpoint");
    write(&format!("AWS_ENDPOINT_URL_EC2={right}\n"));
    assert_eq!(ills(n1), []);
    let role = "AWS_ROLE_ARN=arn:aws:iam::111122223333:role/cni\nAWS_WEB_IDENTITY_TOKEN_FILE='/run/no such/token'\n";
    write(&format!("AWS_ENDPOINT_URL_EC2={right}\n{role}"));
    only(n1, "fail", "ec2", "web identity");
    for command in [&["doctor"][..], &["status"], &["probe", "live"], &["install", "--dry-run"]] {
        write("WARM_IP_TARGET=5\nexport MAX_ENI=2\n");
        let refused = n1.ask(command).unwrap_err().to_string();
        assert!(
            refused.contains("/etc/enid/ipamd.env, line 2: ") && refused.contains("export"),
            "{command:?}: {refused}"
        );
        write("MAX_ENI=none\n");
        let refused = n1.ask(command).unwrap_err().to_string();
        assert!(refused.contains("MAX_ENI=`none`"), "{command:?}: {refused}");
        let told: Vec<&str> = refused.lines().filter(|line| line.contains("settings are read from")).collect();
        assert_eq!(told.len(), 1, "{command:?}: {refused}");
    }
    // The way back is not barred by a mistake in the file.
    let said = n1.ask(&["uninstall"]).unwrap();
    assert!(said.contains("/opt/cni/bin/aws-cni"), "{said}");
}

#[test]
fn the_list_that_is_looked_at_is_the_one_that_the_daemon_would_write() {
    let mut topology = healthy();
    let template = topology.world.folder("template").unwrap().join("list");
    let n1 = topology.node_mut("n1");
    n1.set("ENID_CONFLIST_TEMPLATE", template.to_str().unwrap());
    only(n1, "fail", "conflist", "there is no template");
    fs::write(&template, "{\"plugins\": [{\"type\": \"aws-cni\", \"mtu\": \"__SPEED__\"}]}").unwrap();
    only(n1, "fail", "conflist", "__SPEED__");
    fs::write(&template, "{\"plugins\": [{\"type\": \"aws-cni\"}, {\"type\": \"tuning\"}]}").unwrap();
    assert_eq!(ills(n1), []);
}

#[test]
fn a_type_that_is_not_in_the_table_is_named_and_so_is_a_full_subnet() {
    let spec = NodeSpec { limits_of: Some("m5.large".to_owned()), ..NodeSpec::new("n1", "m99.large", Subnet::A) };
    let topology = node(spec);
    only(topology.node("n1"), "warn", "instance", "m99.large");

    let mut topology = healthy();
    let a = topology.emulator.subnet_id("a");
    topology.emulator.exhaust(&a);
    let n1 = topology.node_mut("n1");
    only(n1, "warn", "subnet", &a);
    n1.set("ENABLE_SUBNET_DISCOVERY", "false");
    only(n1, "fail", "subnet", &a);
}

#[test]
fn what_is_wrong_with_the_nodes_files_is_named() {
    let mut topology = healthy();
    topology.world.make_read_only(Path::new(CONF)).unwrap();
    only(topology.node("n1"), "fail", "conflist", "/etc/cni/net.d cannot be written: Read-only");
    topology.world.unmount(Path::new(CONF)).unwrap();
    let other = format!("{CONF}/05-other.conflist");
    fs::write(&other, "{}").unwrap();
    only(topology.node("n1"), "warn", "conflist", "05-other.conflist");
    fs::remove_file(other).unwrap();
    let state = topology.node("n1").state_folder();
    topology.world.make_read_only(&state).unwrap();
    only(topology.node("n1"), "fail", "state folder", "cannot be written");
    topology.world.unmount(&state).unwrap();
    fs::write("/opt/cni/bin/aws-cni", "the reference's").unwrap();
    only(topology.node("n1"), "warn", "plugin", "another program");
    install(topology.node("n1"), &[]);
    let listener = UnixListener::bind(state.join("ipamd.sock")).unwrap();
    only(topology.node("n1"), "fail", "daemon", "another daemon listens");
    drop(listener);
    fs::remove_file(state.join("ipamd.sock")).unwrap();
    topology.start(&[]).unwrap();
    assert_eq!(ills(topology.node("n1")), [], "beside the running daemon");
}
