// SPDX-License-Identifier: Apache-2.0
//! What the command is told: variables in its environment, and a text on standard error that says what there is to try.
//!
//! Standard output is the command's own.
#![expect(clippy::print_stderr, reason = "a command line")]

use std::fmt::Write as _;

use ipnet::Ipv4Net;

use crate::fabric::INTERNET_HOST;
use crate::running_vpc::{Choices, RunningVpc};

/// The variables that are true on every instance; IMDS is not there where the command starts.
pub(super) fn environment(region: &str, choices: &Choices) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL_EC2", format!("http://127.0.0.1:{}", choices.ec2_port)),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://127.0.0.1:{}", choices.imds_port)),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
}

/// Prints what there is: the VPC's blocks, its instances, the variables, and commands to paste.
pub(super) fn announce(vpc: &RunningVpc, blocks: &[Ipv4Net], environment: &[(&str, String)], control_port: u16) {
    eprint!("{}", text(vpc, blocks, environment, control_port));
}

fn text(vpc: &RunningVpc, blocks: &[Ipv4Net], environment: &[(&str, String)], control_port: u16) -> String {
    let blocks = blocks.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "The emulated VPC {blocks}; a host on the internet at {INTERNET_HOST}. Instances, each a network namespace:\n"
    );
    for instance in &vpc.instances {
        let facts = &instance.facts;
        let public = facts.public_address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let _ = writeln!(
            text,
            "  {:<10} {} {:<12} {:<15} public {:<15} subnet {:<18} {} ENIs x {} addresses",
            instance.netns.name(),
            facts.id,
            facts.instance_type,
            facts.address.to_string(),
            public,
            facts.subnet.to_string(),
            facts.max_enis,
            facts.addresses_per_eni,
        );
    }
    text += "Exported, and true on every instance:\n";
    for (name, value) in environment {
        let _ = writeln!(text, "  {name}={value}");
    }
    text += "To try (the web servers answer with the address they see):\n";
    let mut lines = vec![format!("curl -s http://127.0.0.1:{control_port}/fabric")];
    if let [first, .., last] = vpc.instances.as_slice() {
        lines.push(format!("ip netns exec {} curl -s http://{}/", first.netns.name(), last.facts.address));
    }
    if let Some(first) = vpc.instances.first() {
        lines.push(format!("ip netns exec {} curl -s http://{INTERNET_HOST}/", first.netns.name()));
    }
    for instance in &vpc.instances {
        let name = instance.netns.name();
        let state = format!("/run/enid/{name}");
        lines.push(format!(
            "ip netns exec {name} env ENID_SOCKET={state}/ipamd.sock \
             AWS_VPC_K8S_CNI_BACKING_STORE={state}/ipam.json ipamd run"
        ));
    }
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    text + "Everything here ends with the command; /run is empty and the world's own, other folders are the host's.\n"
}
