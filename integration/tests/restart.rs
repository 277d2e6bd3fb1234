// SPDX-License-Identifier: Apache-2.0
//! The daemon ends and comes back: by request, by kill -9, during ADDs, with pods talking all the while.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "waits on real time")]

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::node::Node;
use integration::pods::{self, Pod};
use integration::probe::{EchoServer, Protocol, ask, reach};
use integration::sandbox::{NetnsPath, Runtime, Sandbox};
use integration::topology::{NodeSpec, READY, Subnet, Topology, TopologySpec};
use integration::world::World;

const PODS: usize = 20;

/// Starts a pod as kubelet does: what is refused is deleted, and tried again with a new sandbox.
fn insist(world: &World, runtime: &Runtime, name: &str) -> Pod {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let sandbox = Sandbox::create(&world.tools, name).unwrap();
        match runtime.add(&sandbox) {
            Ok(added) => return Pod { sandbox, added },
            Err(error) => {
                assert!(error.refusal().is_some_and(|refused| refused.code == 11), "not a refusal to retry: {error}");
                assert!(Instant::now() < end, "{error}");
                runtime.del(&sandbox, NetnsPath::Given).unwrap();
                pass(Duration::from_millis(100));
            }
        }
    }
}

/// Starts [`PODS`] pods on n1, six at a time, while `disturb` is called again and again.
fn pods_during(topology: &mut Topology, mut disturb: impl FnMut(&mut Node, usize)) -> Vec<Pod> {
    let runtime = topology.node("n1").runtime.clone();
    let Topology { nodes, world, .. } = topology;
    let (next, running) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PODS {
                        return;
                    }
                    let pod = insist(world, &runtime, &format!("pod-{number}"));
                    running.lock().unwrap().push(pod);
                }
            });
        }
        for round in 0.. {
            if running.lock().unwrap().len() == PODS {
                return;
            }
            disturb(&mut nodes[0], round);
        }
    });
    running.into_inner().unwrap()
}

/// No address twice, every pod answers, the daemon counts them, and all can be deleted.
fn check(topology: &Topology, pods: Vec<Pod>) {
    let n1 = topology.node("n1");
    n1.wait_ready(READY).unwrap();
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.added.address).collect();
    assert_eq!(addresses.len(), PODS, "an address was given twice");
    for pod in &pods {
        pod.reached_from(&n1.netns).unwrap();
    }
    let counted = eventually("the daemon counts the pods", READY, || {
        let allocated = n1.number("/pool/allocated").map_err(|error| error.to_string())?;
        if allocated == PODS as u64 { Ok(()) } else { Err(format!("{allocated} allocated")) }
    });
    counted.unwrap();
    n1.check().unwrap();
    pods::end(n1, pods, 6).unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
}

#[test]
fn graceful_restarts_during_adds_lose_no_pod_and_give_no_address_twice() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let pods = pods_during(&mut topology, |n1, round| {
        pass(Duration::from_millis(150));
        if round < 3 {
            assert!(n1.stop(), "SIGTERM did not end it with success");
            n1.start().unwrap();
            n1.wait_ready(READY).unwrap();
        }
    });
    check(&topology, pods);
}

#[test]
fn kill_minus_nine_during_adds_loses_no_pod_and_gives_no_address_twice() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let pods = pods_during(&mut topology, |n1, round| {
        pass(Duration::from_millis(60 + 35 * round as u64));
        if round < 6 {
            n1.kill();
            n1.start().unwrap();
        }
    });
    check(&topology, pods);
}

#[test]
fn pods_keep_talking_while_the_daemon_is_killed_and_comes_back() {
    let mut spec = TopologySpec::one("m5.large");
    spec.nodes.push(NodeSpec::new("n2", "m5.large", Subnet::B));
    let mut topology = Topology::build(&spec).unwrap();
    topology.start(&[]).unwrap();
    let near = pods::start(topology.node("n1"), 12, 4, &AtomicUsize::new(0)).unwrap();
    let far = pods::start(topology.node("n2"), 1, 1, &AtomicUsize::new(0)).unwrap();
    let server = EchoServer::start(&far[0].sandbox.netns).unwrap();
    let target = SocketAddrV4::new(far[0].added.address, server.port());
    let asking = [near.iter().find(|pod| pod.on_primary()), near.iter().find(|pod| !pod.on_primary())];
    let asking: Vec<&Pod> = asking.into_iter().map(|pod| pod.expect("12 pods are on both ENIs")).collect();
    for pod in &asking {
        reach(&pod.sandbox.netns, Protocol::Udp, target).unwrap();
    }

    let done = AtomicBool::new(false);
    let (asked, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for pod in &asking {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let answer = ask(&pod.sandbox.netns, Protocol::Udp, target);
                    if answer.map(|seen| *seen.ip()).ok() != Some(pod.added.address) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    pass(Duration::from_millis(5));
                }
            });
        }
        for _ in 0..2 {
            let n1 = topology.node_mut("n1");
            n1.kill();
            pass(Duration::from_millis(300));
            n1.start().unwrap();
            n1.wait_ready(READY).unwrap();
            pass(Duration::from_millis(700));
        }
        assert!(topology.node_mut("n1").stop());
        topology.node_mut("n1").start().unwrap();
        topology.node("n1").wait_ready(READY).unwrap();
        done.store(true, Ordering::Relaxed);
    });
    let (asked, lost) = (asked.into_inner(), lost.into_inner());
    assert!(asked > 100, "only {asked} packets");
    assert_eq!(lost, 0, "of {asked} packets");
}

#[test]
fn a_del_while_the_daemon_is_down_succeeds_and_is_carried_out_when_it_is_back() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[]).unwrap();
    let n1 = topology.node_mut("n1");
    let pods = pods::start(n1, 3, 3, &AtomicUsize::new(0)).unwrap();
    n1.kill();
    for pod in &pods {
        let took = n1.runtime.del(&pod.sandbox, NetnsPath::Given).unwrap();
        assert!(took < Duration::from_secs(2), "a DEL took {took:?}");
    }
    let left = n1.leftovers().unwrap().of_pods();
    assert!(left.rules.is_empty() && left.routes.is_empty(), "{left}");
    n1.start().unwrap();
    n1.wait_ready(READY).unwrap();
    let released = eventually("the tombstones are worked off", Duration::from_secs(5), || {
        let allocated = n1.number("/pool/allocated").map_err(|error| error.to_string())?;
        if allocated == 0 { Ok(()) } else { Err(format!("{allocated} allocated")) }
    });
    released.unwrap();
}
