// SPDX-License-Identifier: Apache-2.0
//! How long the model's calls take: `cargo run --release -p vpc-model --example speed [nodes] [lag-ms]`.
//!
//! Nodes of one account in /16 subnets come up one after the other, each with three more ENIs of 14 addresses, a describe
//! of its own ENIs after each, ten rounds of assigning and unassigning, and a read of what its IMDS shows.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures and prints")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vpc_model::{Caller, Vpc};

type AnyError = Box<dyn std::error::Error>;

/// The model, and what its calls took.
struct Run {
    vpc: Vpc,
    now: Duration,
    took: BTreeMap<&'static str, (u32, Duration)>,
}

impl Run {
    fn call(&mut self, action: &'static str, params: &[(&str, &str)]) -> String {
        let params: Vec<_> = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let started = Instant::now();
        let answer = self.vpc.ec2(&Caller::default(), action, &params, self.now);
        self.vpc.advance(self.now);
        self.add(action, started);
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        self.now += Duration::from_millis(1);
        answer.body
    }

    fn add(&mut self, what: &'static str, started: Instant) {
        let took = self.took.entry(what).or_default();
        *took = (took.0 + 1, took.1 + started.elapsed());
    }

    fn eni(&mut self, instance: &str, subnet: &str, index: usize) -> String {
        let body = self.call(
            "CreateNetworkInterface",
            &[("SubnetId", subnet), ("SecondaryPrivateIpAddressCount", "14"), ("Description", "speed")],
        );
        let eni = between(&body, "networkInterfaceId");
        let index = index.to_string();
        self.call(
            "AttachNetworkInterface",
            &[
                ("NetworkInterfaceId", &eni),
                ("InstanceId", instance),
                ("DeviceIndex", &index),
                ("NetworkCardIndex", "0"),
            ],
        );
        let filter =
            [("Filter.1.Name", "attachment.instance-id"), ("Filter.1.Value.1", instance), ("MaxResults", "1000")];
        self.call("DescribeNetworkInterfaces", &filter);
        eni
    }
}

fn between(body: &str, name: &str) -> String {
    let after = body.split_once(&format!("<{name}>")).map_or("", |(_, after)| after);
    after.split('<').next().unwrap_or_default().to_owned()
}

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let nodes: usize = arguments.next().map_or(Ok(500), |text| text.parse())?;
    let lag: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let config = serde_json::json!({
        "vpcs": [{"name": "v", "cidr_blocks": ["10.0.0.0/8"]}],
        "subnets": (0..8).map(|n| serde_json::json!({
            "name": format!("s{n}"), "vpc": "v", "cidr_block": format!("10.{n}.0.0/16")})).collect::<Vec<_>>(),
        "instances": (0..nodes).map(|n| serde_json::json!({
            "name": format!("n{n}"), "instance_type": "m5.xlarge", "subnet": format!("s{}", n % 8)})).collect::<Vec<_>>(),
        "settings": {"throttle": {"enabled": false}, "lags": {"describe_ms": lag, "imds_ms": lag},
                     "quotas": {"network_interfaces": 1_000_000}},
    });
    let vpc = Vpc::new(serde_json::from_value(config)?, 1)?;
    let mut run = Run { vpc, now: Duration::ZERO, took: BTreeMap::new() };
    let places: Vec<(String, String)> = run.vpc.instances().map(|i| (i.id.to_string(), i.subnet.to_string())).collect();
    for (instance, subnet) in &places {
        for index in 1..=3 {
            let eni = run.eni(instance, subnet, index);
            let address = run.vpc.eni(&eni.as_str().into()).and_then(|e| e.secondaries.first().copied());
            let mut address = address.map(|a| a.to_string()).unwrap_or_default();
            for _ in 0..10 {
                run.call(
                    "UnassignPrivateIpAddresses",
                    &[("NetworkInterfaceId", &eni), ("PrivateIpAddress.1", &address)],
                );
                let one = [("NetworkInterfaceId", eni.as_str()), ("SecondaryPrivateIpAddressCount", "1")];
                address = between(&run.call("AssignPrivateIpAddresses", &one), "privateIpAddress");
            }
            let started = Instant::now();
            let view = run.vpc.imds_view(&instance.as_str().into(), run.now);
            run.add("imds_view", started);
            assert!(view.is_some());
        }
    }
    println!("{nodes} nodes, lag {lag} ms");
    for (what, (count, total)) in &run.took {
        println!("{what:32} {count:>7} x {:>9.2} us", total.as_secs_f64() * 1e6 / f64::from(*count));
    }
    Ok(())
}
