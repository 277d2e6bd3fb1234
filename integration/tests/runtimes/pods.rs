// SPDX-License-Identifier: Apache-2.0
//! Pods as kubelet makes and ends them.

use std::net::SocketAddrV4;

use integration::eventually::eventually;
use integration::probe;
use integration::runtimes::containerd::{Line, PodSpec};

use crate::bed::{Bed, PATIENCE, calls, connects, pings, run, succeeds};

#[test]
fn pods_have_addresses_of_the_vpc_with_containerd_1() {
    pods_have_addresses_of_the_vpc(Line::One);
}

#[test]
fn pods_have_addresses_of_the_vpc_with_containerd_2() {
    pods_have_addresses_of_the_vpc(Line::Two);
}

fn pods_have_addresses_of_the_vpc(line: Line) {
    let bed = Bed::build(line, "m5.large", &[]);
    let near = [run(&bed.n1, "a"), run(&bed.n1, "b")];
    let far = run(&bed.n2, "c");
    for pod in &near {
        let address = pod.pod.address;
        assert!(bed.is_of_the_vpc("n1", address), "{address}");
        // What the pod sees of itself is what containerd, EC2 and others see.
        let own = succeeds(&bed.n1, pod, "ip -4 -o address show dev eth0");
        assert!(own.contains(&format!("inet {address}/32")), "{own}");
        pings(&bed.n1, pod, far.pod.address);
        pings(&bed.n2, &far, address);
        probe::ping(&bed.topology.node("n1").netns, address, 56).unwrap();
    }
    pings(&bed.n1, &near[0], near[1].pod.address);

    let result = bed.n1.cni_result(&near[0].pod).unwrap();
    let address = result["Interfaces"]["eth0"]["IPConfigs"][0]["IP"].as_str().unwrap().to_owned();
    assert_eq!(address, near[0].pod.address.to_string(), "{result}");

    two_containers_share_localhost(&bed);
    for pod in &near {
        bed.n1.stop_pod(&pod.pod).unwrap();
        bed.n1.remove_pod(&pod.pod).unwrap();
    }
    bed.no_pod_is_left();
    let dels = calls(&bed).into_iter().filter(|(verb, id, _)| verb == "DEL" && *id == near[0].pod.id);
    let paths: Vec<bool> = dels.map(|(_, _, netns)| netns.is_empty()).collect();
    assert_eq!(paths, [false, true], "containerd's two DELs, the second without a namespace");
}

fn two_containers_share_localhost(bed: &Bed) {
    let pod = run(&bed.n1, "two");
    let second = bed.n1.run_container(&pod.pod, "second").unwrap();
    succeeds(&bed.n1, &pod, "httpd -p 127.0.0.1:8080 -h /bin");
    let asked = bed.n1.exec(&second, "wget -q -O /dev/null http://127.0.0.1:8080/busybox && echo got it").unwrap();
    assert_eq!(asked.output, "got it");
    bed.n1.stop_pod(&pod.pod).unwrap();
    bed.n1.remove_pod(&pod.pod).unwrap();
}

#[test]
fn a_full_node_says_why_and_a_late_del_leaves_the_next_owner_alone_with_containerd_1() {
    a_full_node_says_why(Line::One);
}

#[test]
fn a_full_node_says_why_and_a_late_del_leaves_the_next_owner_alone_with_containerd_2() {
    a_full_node_says_why(Line::Two);
}

/// A node with one address for pods.
fn a_full_node_says_why(line: Line) {
    let bed = Bed::build(line, "t3.nano", &[("MAX_ENI", "1"), ("IP_COOLDOWN_PERIOD", "0")]);
    let first = run(&bed.n1, "first");
    let refused = bed.n1.run_pod(&PodSpec::new("second")).unwrap_err();
    let words = refused.refusal().unwrap_or_else(|| panic!("{refused}"));
    assert!(words.contains("NodeFull") && words.contains("plugin type=\"aws-cni\""), "{words}");
    let kept = bed.n1.client.sandboxes(PATIENCE).unwrap();
    assert_eq!(kept.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(), [first.pod.id.as_str()]);
    let undone = calls(&bed).into_iter().filter(|(verb, id, _)| verb == "DEL" && *id != first.pod.id).count();
    assert!(undone >= 1, "containerd follows a failed ADD with a DEL: {:?}", calls(&bed));

    bed.n1.stop_pod(&first.pod).unwrap();
    // kubelet tries again, with a new sandbox of the same pod.
    let second = run(&bed.n1, "second");
    assert_eq!(second.pod.address, first.pod.address, "the only address there is");
    // The DEL of the first one, again, when its address is the second one's.
    bed.n1.remove_pod(&first.pod).unwrap();
    bed.wait_allocated(1);
    let far = run(&bed.n2, "far");
    pings(&bed.n2, &far, second.pod.address);
    pings(&bed.n1, &second, far.pod.address);
}

#[test]
fn host_ports_reach_the_pod_while_it_lives_with_containerd_1() {
    host_ports_reach_the_pod(Line::One);
}

#[test]
fn host_ports_reach_the_pod_while_it_lives_with_containerd_2() {
    host_ports_reach_the_pod(Line::Two);
}

fn host_ports_reach_the_pod(line: Line) {
    let bed = Bed::build(line, "m5.large", &[]);
    let spec = PodSpec { host_ports: vec![(8080, 18080)], ..PodSpec::new("web") };
    let pod = bed.n1.run_pod(&spec).unwrap();
    let container = bed.n1.run_container(&pod, "main").unwrap();
    bed.n1.exec(&container, "httpd -p 8080 -h /bin").unwrap();
    let asker = run(&bed.n2, "asker");
    let node = bed.topology.instance("n1").unwrap().address;
    let line = format!("wget -q -O /dev/null http://{node}:18080/busybox && echo got it");
    assert_eq!(succeeds(&bed.n2, &asker, &line), "got it");
    let (n2, port) = (&bed.topology.node("n2").netns, SocketAddrV4::new(node, 18080));
    connects(n2, port).unwrap();
    bed.n1.stop_pod(&pod).unwrap();
    bed.n1.remove_pod(&pod).unwrap();
    let closed = eventually("the port is closed", PATIENCE, || {
        if connects(n2, port).is_err() { Ok(()) } else { Err("somebody takes connections".to_owned()) }
    });
    closed.unwrap();
    bed.no_pod_is_left();
}
