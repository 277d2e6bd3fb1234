// SPDX-License-Identifier: Apache-2.0
//! ENIs that are not Enid's, of every odd kind, on the instance when the daemon starts and while it runs: they take their
//! slots, nothing of theirs is changed in EC2 or in the kernel, no pod gets an address of theirs, and the daemon stays up.
//!
//! 24 kinds in four groups. Each group is there at the start of one test and comes at run time in another; every test ends
//! with a restart in the presence of all. What is attached is an ordinary ENI that others see as odd (`vpc_model::Oddity`):
//! even the kinds that show no link on AWS have one here, which makes it harder to leave them alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::emulator::text_of;
use integration::eventually::{eventually, pass};
use integration::pods;
use integration::topology::{READY, SECOND_GROUP, Topology, TopologySpec};
use serde_json::Value;
use vpc_model::{AttachFault, AttachFaultKind, EniId, Oddity};

/// 15 ENIs of 49 addresses for pods: 12 odd ones, the primary one and two of ours.
const INSTANCE_TYPE: &str = "m5.24xlarge";
/// All of the primary ENI's addresses and all but one of another's.
const WARM: u64 = 97;
/// With these a third ENI is needed.
const PODS: usize = 3;
const NO_MANAGE: (&str, &str) = ("node.k8s.amazonaws.com/no_manage", "true");
const RED: &[(&str, &str)] =
    &[("cluster.k8s.amazonaws.com/name", "red"), ("node.k8s.amazonaws.com/instance_id", "i-9")];
const ENVIRONMENT: [(&str, &str); 4] = [
    ("CLUSTER_NAME", "blue"),
    ("ADDITIONAL_ENI_TAGS", r#"{"team":"a"}"#),
    ("ENID_LEAKED_ENI_AGE", "5"),
    ("WARM_IP_TARGET", "97"),
];

/// What somebody attaches.
#[derive(Default)]
struct Kind {
    name: &'static str,
    tags: &'static [(&'static str, &'static str)],
    odd: Oddity,
    description: &'static str,
    /// Secondary addresses that it is made with.
    secondary: u8,
    fault: Option<AttachFaultKind>,
    /// What its owner does with it besides.
    used: bool,
}

fn kind(name: &'static str) -> Kind {
    Kind { name, ..Kind::default() }
}

fn typed(interface_type: &'static str, without_ipv4: bool) -> Kind {
    let odd = Oddity { interface_type: Some(interface_type.to_owned()), without_ipv4, ..Oddity::default() };
    Kind { name: interface_type, odd, ..Kind::default() }
}

fn types() -> Vec<Kind> {
    let ipv6 = Some("2001:db8::5".parse().unwrap());
    let only_ipv6 = Oddity { without_ipv4: true, ipv6, ..Oddity::default() };
    vec![
        Kind { odd: only_ipv6, ..kind("IPv6-only") },
        typed("efa-only", true),
        Kind { tags: &[NO_MANAGE], ..typed("efa", false) },
        typed("trunk", false),
        typed("branch", false),
        typed("of-tomorrow", false),
    ]
}

fn owners() -> Vec<Kind> {
    let odd = Oddity::default;
    let elsewhere = ("vpc-0123456789abcdef0".to_owned(), "subnet-0123456789abcdef0".to_owned());
    vec![
        Kind { odd: Oddity { owner: Some("999999999999".to_owned()), ..odd() }, ..kind("of another account") },
        Kind { odd: Oddity { elsewhere: Some(elsewhere), ..odd() }, ..kind("of another VPC") },
        Kind { odd: Oddity { requester_managed: true, ..odd() }, ..kind("managed by its requester") },
        Kind { odd: Oddity { operator: Some("eks.amazonaws.com".to_owned()), ..odd() }, ..kind("with an operator") },
        Kind { tags: &[("node.k8s.amazonaws.com/instance_id", "i-0")], ..kind("tagged for another instance") },
        Kind { tags: RED, description: "aws-K8S-i-0", ..kind("of another cluster's node") },
    ]
}

fn tags() -> Vec<Kind> {
    vec![
        Kind { tags: &[NO_MANAGE], ..kind("tagged no_manage") },
        kind("without tags"),
        Kind { tags: &[("team", "b")], ..kind("with a tag of ours that says something else") },
        Kind { tags: &[NO_MANAGE], secondary: 7, ..kind("with addresses of its own") },
        Kind { tags: &[("node.k8s.amazonaws.com/createdAt", "yesterday")], ..kind("with half of our tags") },
        Kind { tags: &[("cluster.k8s.amazonaws.com/name", "blue")], ..kind("with the cluster's tag only") },
    ]
}

fn states() -> Vec<Kind> {
    let odd = Oddity::default;
    vec![
        Kind { odd: Oddity { hidden_from_imds: true, ..odd() }, ..kind("404 in IMDS") },
        Kind { odd: Oddity { hidden_from_describe: true, ..odd() }, ..kind("not described") },
        Kind { fault: Some(AttachFaultKind::NeverAttached), ..kind("attaching for ever") },
        Kind { fault: Some(AttachFaultKind::NoLink), ..kind("without a link") },
        Kind { used: true, ..kind("used by its owner") },
        Kind { tags: &[NO_MANAGE], used: true, secondary: 2, ..kind("used by its owner, with more addresses") },
    ]
}

/// An odd ENI, and all that must stay as it is.
struct Stranger {
    name: &'static str,
    id: String,
    mac: String,
    in_ec2: String,
    in_kernel: Vec<String>,
}

fn ec2(topology: &Topology, action: &str, params: &[(&str, &str)]) -> String {
    let answer = topology.emulator.ec2(action, params);
    assert_eq!(answer.status, 200, "{action} {params:?}: {}", answer.body);
    answer.body
}

/// Somebody makes and attaches an ENI; what its owner does with it is done a moment later.
fn attach(topology: &Topology, kind: &Kind, index: u32) -> Stranger {
    let subnet = topology.emulator.subnet_id("a");
    let secondary = kind.secondary.to_string();
    let mut params = vec![("SubnetId", subnet.as_str()), ("Description", kind.description)];
    if kind.secondary > 0 {
        params.push(("SecondaryPrivateIpAddressCount", &secondary));
    }
    let made = ec2(topology, "CreateNetworkInterface", &params);
    let (id, mac) = (text_of(&made, "networkInterfaceId").to_owned(), text_of(&made, "macAddress").to_owned());
    for (key, value) in kind.tags {
        ec2(topology, "CreateTags", &[("ResourceId.1", &id), ("Tag.1.Key", key), ("Tag.1.Value", value)]);
    }
    if let Some(kind) = kind.fault {
        let fault = AttachFault { instance: None, count: Some(1), kind };
        topology.emulator.with_model(|vpc, _| vpc.order_attach_fault(fault));
    }
    let odd = topology.emulator.with_model(|vpc, now| vpc.make_odd(&EniId::from(id.as_str()), kind.odd.clone(), now));
    assert!(odd, "{id} is there");
    let (instance, index) = (topology.instance("n1").unwrap().id, index.to_string());
    let params = [("NetworkInterfaceId", id.as_str()), ("InstanceId", &instance), ("DeviceIndex", &index)];
    ec2(topology, "AttachNetworkInterface", &params);
    if kind.used {
        let group = [("NetworkInterfaceId", id.as_str()), ("SecurityGroupId.1", SECOND_GROUP)];
        ec2(topology, "ModifyNetworkInterfaceAttribute", &group);
        let check = [("NetworkInterfaceId", id.as_str()), ("SourceDestCheck.Value", "false")];
        ec2(topology, "ModifyNetworkInterfaceAttribute", &check);
    }
    Stranger { name: kind.name, id, mac, in_ec2: String::new(), in_kernel: Vec::new() }
}

fn attach_all(topology: &Topology, kinds: &[Kind], first_index: u32) -> Vec<Stranger> {
    let mut strangers = Vec::new();
    for (kind, index) in kinds.iter().zip(first_index..) {
        // Nobody can know that its index is taken: one that the daemon does not come to.
        let index = if kind.odd.hidden_from_describe { 29 } else { index };
        strangers.push(attach(topology, kind, index));
    }
    // Until all that comes by itself has come: attached after 0.4 s, the link with it.
    pass(Duration::from_secs(1));
    for (stranger, kind) in strangers.iter_mut().zip(kinds) {
        if kind.used {
            let name = link(topology, &stranger.mac).map(|link| link["ifname"].as_str().unwrap().to_owned()).unwrap();
            let last = stranger.id.bytes().fold(0_u8, u8::wrapping_add);
            let lines = format!(
                "link set {name} up\naddress add 192.0.2.{last}/32 dev {name}\nroute add 198.51.100.{last} dev {name}\n"
            );
            topology.node("n1").ip(&lines).unwrap();
        }
        stranger.in_ec2 = in_ec2(topology, &stranger.id);
        stranger.in_kernel = in_kernel(topology, &stranger.mac);
    }
    strangers
}

fn link(topology: &Topology, mac: &str) -> Option<Value> {
    let links = topology.world.tools.ip_json(&topology.node("n1").netns, &["address", "show"]).unwrap();
    links.as_array().unwrap().iter().find(|link| link["address"] == mac).cloned()
}

/// Everything that EC2 has of it.
fn in_ec2(topology: &Topology, id: &str) -> String {
    topology.emulator.with_model(|vpc, _| format!("{:?}", vpc.eni(&EniId::from(id))))
}

/// Its link, with addresses and routes; empty: there is none.
fn in_kernel(topology: &Topology, mac: &str) -> Vec<String> {
    let Some(link) = link(topology, mac) else { return Vec::new() };
    let addresses = link["addr_info"].as_array().into_iter().flatten();
    let addresses = addresses.filter(|address| address["family"] == "inet").map(|address| address["local"].to_string());
    let up = link["flags"].as_array().unwrap().contains(&Value::from("UP"));
    let routes = ["route", "show", "table", "all", "dev", link["ifname"].as_str().unwrap()];
    let routes = topology.world.tools.ip_json(&topology.node("n1").netns, &routes).unwrap();
    let routes = routes.as_array().unwrap().iter().filter(|route| route["protocol"] != "kernel");
    let routes: Vec<String> = routes.map(|route| format!("{} {}", route["dst"], route["table"])).collect();
    [format!("up {up}, MTU {}", link["mtu"])].into_iter().chain(addresses).chain(routes).collect()
}

/// Nothing of theirs has changed, and no call tried to.
fn check(topology: &Topology, strangers: &[Stranger]) {
    for stranger in strangers {
        assert_eq!(in_ec2(topology, &stranger.id), stranger.in_ec2, "{}", stranger.name);
        assert_eq!(in_kernel(topology, &stranger.mac), stranger.in_kernel, "{}", stranger.name);
        let attachment = topology.emulator.with_model(|vpc, _| {
            let eni = vpc.eni(&EniId::from(stranger.id.as_str())).unwrap();
            eni.attachment().unwrap().id.to_string()
        });
        let naming = topology.emulator.with_model(|vpc, _| {
            let changing = vpc.calls().filter(|call| !call.action.starts_with("Describe"));
            let named = |value: &String| *value == stranger.id || *value == attachment;
            let calls = changing.filter(|call| call.parameters.iter().any(|(_, value)| named(value)));
            calls.map(|call| call.action.clone()).collect::<Vec<_>>()
        });
        assert!(naming.is_empty(), "{}: {naming:?}", stranger.name);
    }
}

/// So many ENIs of ours serve the warm pool.
fn filled(topology: &Topology, enis: u64) {
    let filled = eventually("the pool is filled beside the strangers", Duration::from_secs(40), || {
        let n1 = topology.node("n1");
        let free = n1.number("/pool/free").map_err(|error| error.to_string())?;
        let ours = n1.number("/pool/enis").map_err(|error| error.to_string())?;
        if free >= WARM && ours == enis { Ok(()) } else { Err(format!("{free} free addresses, {ours} ENIs")) }
    });
    filled.unwrap();
}

/// `untagged`: MANAGE_UNTAGGED_ENI. Odd types and owners are left alone even when ENIs without our tags are to be used.
fn touches_none(at_start: &[Kind], at_run_time: &[Kind], untagged: &str) {
    let mut topology = Topology::build(&TopologySpec::one(INSTANCE_TYPE)).unwrap();
    let mut strangers = attach_all(&topology, at_start, 1);
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    topology.node_mut("n1").set("MANAGE_UNTAGGED_ENI", untagged);
    topology.start(&ENVIRONMENT).unwrap();
    filled(&topology, 2);
    check(&topology, &strangers);

    // Ours has index 7, and thinks that 8 is free.
    strangers.extend(attach_all(&topology, at_run_time, 8));
    topology.emulator.with_model(|vpc, _| vpc.forget_calls());
    let mut pods = pods::start(topology.node("n1"), PODS, 1, &AtomicUsize::new(0)).unwrap();
    filled(&topology, 3);
    check(&topology, &strangers);
    assert!(!topology.node_mut("n1").daemon().unwrap().has_ended(), "it lived through it all");

    let n1 = topology.node_mut("n1");
    n1.kill();
    n1.start().and_then(|()| n1.wait_ready(READY)).unwrap();
    pods.extend(pods::start(topology.node("n1"), 1, 1, &AtomicUsize::new(0)).unwrap());
    // A sweep of leaked ENIs falls into this time, too.
    pass(Duration::from_secs(5));
    check(&topology, &strangers);
    let n1 = topology.node("n1");
    let theirs: Vec<_> = topology.emulator.with_model(|vpc, _| {
        let enis = strangers.iter().filter_map(|stranger| vpc.eni(&EniId::from(stranger.id.as_str())));
        enis.flat_map(|eni| eni.addresses().collect::<Vec<_>>()).collect()
    });
    for pod in &pods {
        assert!(!theirs.contains(&pod.added.address), "{} is a stranger's", pod.added.address);
        pod.reached_from(&n1.netns).unwrap();
    }
}

#[test]
fn odd_types_at_start_and_odd_owners_at_run_time_are_left_alone() {
    touches_none(&types(), &owners(), "true");
}

#[test]
fn odd_owners_at_start_and_odd_types_at_run_time_are_left_alone() {
    touches_none(&owners(), &types(), "true");
}

#[test]
fn odd_tags_at_start_and_odd_states_at_run_time_are_left_alone() {
    touches_none(&tags(), &states(), "false");
}

#[test]
fn odd_states_at_start_and_odd_tags_at_run_time_are_left_alone() {
    touches_none(&states(), &tags(), "false");
}
