// SPDX-License-Identifier: Apache-2.0
//! The program `vpc-emulator`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::served::get;

#[test]
fn the_program_serves_the_example_and_ends_when_told() {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/topology.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vpc-emulator"))
        .args(["--topology", topology, "--ec2-port", "0", "--control-port", "0", "--imds-port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| line != "# ready")
        .collect();
    let endpoint = |mark: &str| -> std::net::SocketAddr {
        let line = lines.iter().find(|line| line.contains(mark)).unwrap_or_else(|| panic!("no {mark} in {lines:?}"));
        line.rsplit_once("http://").unwrap().1.parse().unwrap()
    };
    let answer = get(endpoint("AWS_ENDPOINT_URL_EC2="), "/?Action=DescribeVpcs&Version=2016-11-15", &[]);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("vpc-0aaaaaaaaaaaaaaa1"), "{}", answer.body);
    assert_eq!(get(endpoint("control API"), "/state", &[]).status, 200);
    for node in ["node-1", "node-2"] {
        assert_eq!(get(endpoint(&format!("# {node} ")), "/latest/meta-data/mac", &[]).status, 401);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn bad_usage_is_said_with_code_64() {
    for (arguments, text) in [
        (vec!["--colour"], "--colour"),
        (vec![], "--topology is missing"),
        (vec!["--foreign-ec2", "127.0.0.1:1"], "--instance"),
        (vec!["--foreign-ec2", "127.0.0.1:1", "--instance", "i-1", "--fabric"], "--fabric does not go"),
        (vec!["--topology", "t.json", "--fabric", "--imds-port", "0"], "none can be 0"),
        (vec!["--topology", "t.json", "--fabric", "--rp-filter", "3"], "rp_filter is 0, 1 or 2"),
        (vec!["--topology", "t.json", "--rp-filter", "1"], "--rp-filter needs --fabric"),
        (vec!["--topology", "t.json", "--", "bash"], "bash"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_vpc-emulator")).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(text) && said.contains("Usage:"), "{said}");
    }
}
