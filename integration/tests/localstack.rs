// SPDX-License-Identifier: Apache-2.0
//! The daemon's life with an EC2 that we did not write: LocalStack core 4.14.0, in host mode, in the node's namespace.
//!
//! Everything that is asserted about EC2 is read from LocalStack's own Describe answers. IMDS and the links are ours, fed from
//! those answers. LocalStack runs with the two mends that `scripts/localstack.sh` names: well-formed MACs, and private addresses
//! that are free. It knows no limits, no latencies and no throttling: those are the model's to test.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of processes")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::emulator::DataPlane;
use integration::eventually::eventually;
use integration::fabric::{Fabric, VpcBlocks};
use integration::imds_http::{self, ForeignEc2, QueryClient};
use integration::netns::Namespace;
use integration::node::{Endpoints, Node, RpFilter, boot_primary_link, instance_namespace};
use integration::pods;
use integration::process::{Program, Running};
use integration::world::World;
use serde_json::Value;

/// What `scripts/peers/localstack-preload.py` makes.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
const SUBNET: &str = "10.0.1.0/24";
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4566);
/// m5.large: 3 ENIs of 10 addresses, one of each its own (EC2 user guide, "Maximum IP addresses per network interface").
const PER_ENI: usize = 9;

#[test]
fn the_daemons_ec2_life_runs_against_localstack() {
    let world = World::enter().unwrap();
    let guest = instance_namespace(&world.tools, "node", RpFilter::Loose).unwrap();
    let (_localstack, instance) = start_localstack(&world, &guest);
    // Sockets belong to the namespace of the thread that makes them: the runtime's threads are the node's.
    let runtime =
        guest.run(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let runtime = runtime.unwrap();
    let ec2 = Ec2 { client: QueryClient::new(SocketAddr::V4(ENDPOINT), "us-east-1"), instance, runtime };
    let _fabric = plug_in(&world, &guest, &ec2);
    let mut node = Node::new(&world, &guest, Endpoints { ec2: ENDPOINT, imds: ec2.serve_imds(&guest) }).unwrap();

    let primary = ec2.enis();
    assert_eq!(primary.len(), 1, "only the primary ENI before the daemon starts: {primary:?}");
    node.unset("AWS_ENDPOINT_URL_EC2");
    node.set("AWS_ENDPOINT_URL", &format!("http://{ENDPOINT}"));
    node.set("WARM_ENI_TARGET", "1");
    node.set("IP_COOLDOWN_PERIOD", "2");
    node.start().unwrap();
    node.wait_ready(Duration::from_secs(60)).unwrap();
    ec2.eventually("WARM_ENI_TARGET=1: one ENI's worth of addresses is free", 30, |enis| {
        addresses(enis).len() == PER_ENI && enis.len() == 1
    });

    // 14 pods leave fewer than 9 free on two ENIs, so the third comes too.
    let pods = pods::start(&node, 14, 4, &AtomicUsize::new(0)).unwrap();
    let grown = ec2.eventually("three ENIs with all their addresses", 30, |enis| {
        enis.len() == 3 && addresses(enis).len() == 3 * PER_ENI
    });
    let given: BTreeSet<Ipv4Addr> = pods.iter().map(|pod| pod.added.address).collect();
    assert_eq!(given.len(), pods.len(), "no address is given twice");
    assert!(given.is_subset(&addresses(&grown)), "{given:?} are all assigned in EC2: {grown:?}");
    assert!(!given.contains(&NODE));
    for eni in grown.iter().filter(|eni| eni.device_index != 0) {
        assert_eq!(eni.description, format!("aws-K8S-{}", ec2.instance));
        assert_eq!(eni.tags.get("node.k8s.amazonaws.com/instance_id"), Some(&ec2.instance), "{eni:?}");
    }
    assert!(pods.iter().any(|pod| !pod.on_primary()), "14 pods do not fit on the primary ENI");
    for pod in &pods {
        pod.reached_from(&guest).unwrap();
    }

    for pod in pods {
        node.runtime.del(&pod.sandbox, integration::sandbox::NetnsPath::Given).unwrap();
    }
    // A smaller warm pool from here on: unassign on the primary ENI, detach and delete of the others.
    assert!(node.stop(), "the daemon ends on SIGTERM with success");
    node.set("WARM_IP_TARGET", "2");
    node.start().unwrap();
    node.wait_ready(Duration::from_secs(30)).unwrap();
    let shrunk = ec2.eventually("one ENI with WARM_IP_TARGET=2 addresses", 200, |enis| {
        enis.len() == 1 && addresses(enis).len() == 2
    });
    assert_eq!(shrunk[0].id, primary[0].id, "the primary ENI stays");
    eventually("the other ENIs are deleted, not only detached", Duration::from_secs(30), || {
        let all = ec2.all_eni_ids();
        if all == BTreeSet::from([primary[0].id.clone()]) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .unwrap();
}

/// LocalStack in the node's namespace, preloaded; with the id of the instance that the node is.
fn start_localstack(world: &World, guest: &Namespace) -> (Running, String) {
    let root =
        std::env::var("ENID_LOCALSTACK").expect("ENID_LOCALSTACK names the folder of scripts/localstack.sh install");
    assert!(Path::new(&root).join("installed").is_file(), "LocalStack is not installed in {root}: make localstack");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/localstack.sh");
    let folder = world.folder("localstack").unwrap();
    let program = Program {
        path: script.canonicalize().unwrap(),
        arguments: ["run", &ENDPOINT.port().to_string(), folder.to_str().unwrap()].map(str::to_owned).to_vec(),
        environment: [
            ("ENID_LOCALSTACK", root.as_str()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", folder.to_str().unwrap()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        log: folder.join("log"),
    };
    let running = Running::start(guest, &program).unwrap();
    let preload = eventually("LocalStack is up and preloaded", Duration::from_secs(90), || {
        let text = std::fs::read_to_string(folder.join("preload.json"));
        text.map_err(|_| format!("the end of its log:\n{}", running.log_tail(12)))
    });
    let preload: Value = serde_json::from_str(&preload.unwrap()).unwrap();
    (running, preload["instance"].as_str().unwrap().to_owned())
}

/// Router, links and IMDS follow what LocalStack says. The primary link is up when this returns.
fn plug_in(world: &World, guest: &Namespace, ec2: &Ec2) -> Arc<Fabric> {
    let blocks = VpcBlocks { blocks: vec!["10.0.0.0/16".parse().unwrap()] };
    let fabric = Arc::new(Fabric::build(&world.tools, &blocks).unwrap());
    fabric.register(&ec2.instance, guest);
    let foreign = ec2.foreign();
    let first = foreign.clone();
    let events = ec2.wait(async move { first.refresh().await.unwrap() });
    let mut plane = Arc::clone(&fabric);
    for event in &events {
        plane.apply(event).unwrap();
    }
    let handle = ec2.runtime.handle().clone();
    handle.spawn(async move {
        let polling = foreign.poll(Duration::from_millis(300), Box::new(plane));
        polling.await.unwrap();
    });
    boot_primary_link(&world.tools, guest, NODE, SUBNET.parse().unwrap()).unwrap();
    fabric
}

/// LocalStack, asked directly.
struct Ec2 {
    client: QueryClient,
    instance: String,
    runtime: tokio::runtime::Runtime,
}

/// An ENI in one of its Describe answers.
#[derive(Clone, Debug)]
struct Eni {
    id: String,
    device_index: u32,
    description: String,
    secondary: Vec<Ipv4Addr>,
    tags: BTreeMap<String, String>,
}

fn addresses(enis: &[Eni]) -> BTreeSet<Ipv4Addr> {
    enis.iter().flat_map(|eni| eni.secondary.iter().copied()).collect()
}

impl Ec2 {
    /// Runs a future on the runtime's own threads, which are in the node's namespace.
    fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(future)).unwrap()
    }

    fn foreign(&self) -> Arc<ForeignEc2> {
        Arc::new(ForeignEc2::new(self.client.clone(), &self.instance))
    }

    fn serve_imds(&self, guest: &Namespace) -> SocketAddrV4 {
        let foreign = self.foreign();
        let polled = foreign.clone();
        self.wait(async move { polled.refresh().await.map(drop).unwrap() });
        let polled = foreign.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let _ = polled.refresh().await;
            }
        });
        let listener = guest.run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, imds_http::router(foreign)).await.unwrap();
        });
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    fn describe(&self, filter: Option<(&'static str, String)>) -> Vec<Eni> {
        let client = self.client.clone();
        let answer = self.wait(async move {
            let params =
                filter.iter().flat_map(|(name, value)| [("Filter.1.Name", *name), ("Filter.1.Value.1", value)]);
            let params: Vec<(&str, &str)> = params.collect();
            client.call("DescribeNetworkInterfaces", &params).await.unwrap()
        });
        let document = roxmltree::Document::parse(&answer).unwrap();
        let set =
            document.root_element().children().find(|node| node.has_tag_name_like("networkInterfaceSet")).unwrap();
        set.children().filter(roxmltree::Node::is_element).map(eni).collect()
    }

    /// The ENIs attached to the instance.
    fn enis(&self) -> Vec<Eni> {
        self.describe(Some(("attachment.instance-id", self.instance.clone())))
    }

    fn all_eni_ids(&self) -> BTreeSet<String> {
        self.describe(None).into_iter().map(|eni| eni.id).collect()
    }

    fn eventually(&self, what: &str, seconds: u64, holds: impl Fn(&[Eni]) -> bool) -> Vec<Eni> {
        eventually(what, Duration::from_secs(seconds), || {
            let enis = self.enis();
            if holds(&enis) { Ok(enis) } else { Err(format!("{enis:?}")) }
        })
        .unwrap()
    }
}

/// XML without its namespace: only local names count.
trait LocalName {
    fn has_tag_name_like(&self, name: &str) -> bool;
    fn text_at(&self, path: &[&str]) -> Option<String>;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_tag_name_like(&self, name: &str) -> bool {
        self.tag_name().name() == name
    }

    fn text_at(&self, path: &[&str]) -> Option<String> {
        let found =
            path.iter().try_fold(*self, |node, name| node.children().find(|child| child.has_tag_name_like(name)));
        found?.text().map(str::to_owned)
    }
}

fn eni(node: roxmltree::Node<'_, '_>) -> Eni {
    let items = |set: &str| {
        let set = node.children().find(|child| child.has_tag_name_like(set));
        set.map(|set| set.children().filter(roxmltree::Node::is_element).collect::<Vec<_>>()).unwrap_or_default()
    };
    let secondary = items("privateIpAddressesSet").into_iter();
    let secondary = secondary.filter(|item| item.text_at(&["primary"]).as_deref() != Some("true"));
    let tag =
        |item: roxmltree::Node<'_, '_>| (item.text_at(&["key"]).unwrap(), item.text_at(&["value"]).unwrap_or_default());
    Eni {
        id: node.text_at(&["networkInterfaceId"]).unwrap(),
        device_index: node.text_at(&["attachment", "deviceIndex"]).map_or(0, |index| index.parse().unwrap()),
        description: node.text_at(&["description"]).unwrap_or_default(),
        secondary: secondary.map(|item| item.text_at(&["privateIpAddress"]).unwrap().parse().unwrap()).collect(),
        tags: items("tagSet").into_iter().map(tag).collect(),
    }
}
