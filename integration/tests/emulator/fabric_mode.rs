// SPDX-License-Identifier: Apache-2.0
//! The program `vpc-emulator --fabric`: real packets in its world, and nothing left of it.
//!
//! What is looked at inside is done by a script of bash, coreutils and `ip` alone. The host is only read.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use integration::eventually::eventually;

/// Two instances in two subnets: node-1 10.0.0.10 with public address 203.0.113.10, node-2 10.0.16.10.
const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/topology.json");

/// Bash: a request over HTTP, with the calling shell's network namespace.
const HTTP: &str = r#"
http() { # http HOST PORT "METHOD PATH" [HEADER]
    exec 3<>"/dev/tcp/$1/$2" && printf '%s HTTP/1.0\r\nHost: h\r\n%s\r\n' "$3" "${4:+$4$'\r\n'}" >&3 && cat <&3
}
body() { http "$@" | sed '1,/^\r$/d'; }
on() { ip netns exec "$1" timeout 5 bash -c "$(declare -f http body); $2"; }
"#;

fn emulator(arguments: &[&str], script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vpc-emulator"));
    command.args(["--topology", TOPOLOGY, "--fabric"]).args(arguments);
    command.args(["--", "bash", "-c", &format!("{HTTP}\n{script}")]);
    command
}

fn run(arguments: &[&str], script: &str) -> (Output, String) {
    let output = emulator(arguments, script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

/// The value that the script printed as `name=value`.
#[track_caller]
fn value<'a>(said: &'a str, name: &str) -> &'a str {
    let found = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {said}"))
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect()
}

/// Processes in any of these network namespaces (`net:[4026532008]`).
fn inside(namespaces: &[&str]) -> Vec<String> {
    let in_one = |pid: &String| {
        let link = fs::read_link(format!("/proc/{pid}/ns/net"));
        link.is_ok_and(|link| namespaces.contains(&&*link.to_string_lossy()))
    };
    names("/proc").into_iter().filter(in_one).collect()
}

#[test]
fn each_instance_is_a_namespace_with_ec2_and_imds_and_the_world_has_ec2_and_the_control_api() {
    let (output, said) = run(
        &["--rp-filter", "1"],
        r#"
        echo "netns=$(ls /run/netns | sort | xargs)"
        echo "rp_filter=$(on node-2 'cat /proc/sys/net/ipv4/conf/all/rp_filter')"
        for node in node-1 node-2; do
            token=$(on $node 'body 127.0.0.1 4600 "PUT /latest/api/token" "X-aws-ec2-metadata-token-ttl-seconds: 60"')
            echo "imds-$node=$(on $node "body 127.0.0.1 4600 'GET /latest/meta-data/instance-id' 'X-aws-ec2-metadata-token: $token'")"
            echo "ec2-$node=$(on $node 'body 127.0.0.1 4599 "GET /?Action=DescribeVpcs&Version=2016-11-15"' | grep -o 'vpc-[0-9a-f]*' | head -1)"
        done
        echo "ec2=$(http 127.0.0.1 4599 'GET /?Action=DescribeVpcs&Version=2016-11-15' | head -1)"
        echo "control=$(http 127.0.0.1 4598 'GET /state' | head -1)"
        echo "exported=$AWS_ENDPOINT_URL_EC2 $AWS_EC2_METADATA_SERVICE_ENDPOINT $AWS_REGION"
        "#,
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(value(&said, "netns"), "internet node-1 node-2 vpc-router");
    assert_eq!(value(&said, "rp_filter"), "1");
    for (node, id) in [("node-1", "i-0aaaaaaaaaaaaaaa1"), ("node-2", "i-0aaaaaaaaaaaaaaa2")] {
        assert_eq!(value(&said, &format!("imds-{node}")), id);
        assert_eq!(value(&said, &format!("ec2-{node}")), "vpc-0aaaaaaaaaaaaaaa1");
    }
    assert!(value(&said, "ec2").contains("200 OK") && value(&said, "control").contains("200 OK"), "{said}");
    assert_eq!(value(&said, "exported"), "http://127.0.0.1:4599 http://127.0.0.1:4600 us-east-1");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("ip netns exec node-1 env ENID_SOCKET=") && text.contains("ipamd run"), "{text}");
}

/// EC2 user guide, "Elastic network interfaces", source/destination checking; VPC user guide, "Internet gateways".
#[test]
fn packets_pass_between_instances_and_to_the_internet_and_a_spoofed_source_dies_and_is_counted() {
    let (output, said) = run(
        &[],
        r#"
        echo "across=$(on node-1 'body 10.0.16.10 80 "GET /"')"
        echo "internet=$(on node-2 'body 198.51.100.10 80 "GET /"')"
        echo "clean=$(body 127.0.0.1 4598 'GET /fabric')"
        ip -n node-1 address add 10.0.0.99/32 dev lo
        ip -n node-1 route add 10.0.16.10 via 10.0.0.1 src 10.0.0.99
        ip netns exec node-1 timeout 0.5 bash -c '</dev/tcp/10.0.16.10/80' && echo spoofed=passed || echo spoofed=died
        echo "counted=$(body 127.0.0.1 4598 'GET /fabric')"
        "#,
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(value(&said, "across"), "10.0.0.10", "the address of node-1, untouched");
    assert_eq!(value(&said, "internet"), "203.0.113.11", "the public address of node-2");
    assert_eq!(value(&said, "clean"), r#"{"counters":[],"errors":[]}"#);
    assert_eq!(value(&said, "spoofed"), "died");
    let counted: serde_json::Value = serde_json::from_str(value(&said, "counted")).unwrap();
    let counters = counted["counters"].as_array().unwrap();
    assert_eq!(counters.len(), 1, "{counted}");
    assert_eq!((&counters[0]["reason"], &counters[0]["address"]), (&"source check".into(), &"10.0.0.99".into()));
    assert!(counters[0]["packets"].as_u64().unwrap() >= 1, "{counted}");
}

#[test]
fn the_exit_code_is_the_commands_and_nothing_is_left_not_even_what_it_put_into_the_background() {
    let before = (names("/run/netns"), names("/sys/class/net"));
    let (output, said) = run(
        &[],
        r#"
        echo "world=$(readlink /proc/self/ns/net)"
        echo "node=$(on node-1 'readlink /proc/self/ns/net')"
        (setsid ip netns exec node-1 sleep 600 >/dev/null 2>&1 & echo "asleep=$!")
        trap '' TERM HUP
        (setsid sleep 601 >/dev/null 2>&1 &)
        exit 7
        "#,
    );
    assert_eq!(output.status.code(), Some(7));
    let asleep = format!("/proc/{}", value(&said, "asleep"));
    assert!(!fs::exists(&asleep).unwrap(), "killed and waited for: {asleep}");
    let namespaces = [value(&said, "world"), value(&said, "node")];
    assert!(namespaces.iter().all(|name| name.starts_with("net:[")) && namespaces[0] != namespaces[1], "{said}");
    assert_eq!(inside(&namespaces), Vec::<String>::new());
    assert_eq!((names("/run/netns"), names("/sys/class/net")), before);
}

/// Starts a command that says its namespace and waits; returns when it has said it.
fn started(script: &str) -> (Child, String) {
    let mut child = emulator(&[], script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

#[test]
fn a_signal_ends_the_command_and_its_world_whether_it_listens_or_not() {
    for (script, code) in [
        ("trap 'exit 9' TERM; readlink /proc/self/ns/net; sleep 600 & wait", 9),
        ("trap '' TERM; readlink /proc/self/ns/net; sleep 600", 128 + 9),
    ] {
        let (mut child, world) = started(script);
        assert_ne!(inside(&[&world]).len(), 0, "{world}");
        let told = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{script}");
        assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
        assert_eq!(inside(&[&world]), Vec::<String>::new());
    }
}

#[test]
fn a_command_dies_with_a_killed_emulator() {
    let (mut child, world) = started("readlink /proc/self/ns/net; exec sleep 600");
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = eventually("the command is gone", Duration::from_secs(5), || {
        let left = inside(&[&world]);
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
    gone.unwrap();
}

#[test]
fn what_cannot_be_carried_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let topology = folder.path().join("two.json");
    let vpc = |name: &str, block: &str| format!(r#"{{"name":"{name}","cidr_blocks":["{block}"]}}"#);
    let text = format!(r#"{{"vpcs":[{},{}]}}"#, vpc("v", "10.0.0.0/16"), vpc("w", "10.1.0.0/16"));
    fs::write(&topology, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vpc-emulator"));
    let output = command.arg("--topology").arg(&topology).args(["--fabric", "--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("packets are carried for one VPC, and the topology has 2"), "{said}");
}
