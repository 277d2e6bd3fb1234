// SPDX-License-Identifier: Apache-2.0
//! Callers other than kubelet's containerd: podman with its CNI back end, and `ctr run --cni`.

use std::net::SocketAddrV4;

use integration::probe;
use integration::runtimes::containerd::{Containerd, Line};
use integration::runtimes::podman::Podman;

use crate::bed::{connects, nodes, wait_allocated};

#[test]
fn podman_runs_containers_with_addresses_of_the_vpc_and_reloads_their_network() {
    let mut topology = nodes("m5.large");
    topology.start(&[]).unwrap();
    let podman = Podman::start(&topology.world, topology.node("n1")).unwrap();
    let n2 = &topology.node("n2").netns;
    podman.start_container("web", &["--publish", "18080:8080"]).unwrap();
    podman.run(&["exec", "web", "httpd", "-p", "8080", "-h", "/bin"]).unwrap();
    let node = topology.instance("n1").unwrap().address;
    let host_port = SocketAddrV4::new(node, 18080);
    let reached = |after: &str| {
        let address = podman.address_of("web").unwrap();
        assert!(topology.enis("n1").unwrap().iter().any(|eni| eni.secondary.contains(&address)), "{address}");
        probe::ping(n2, address, 56).unwrap_or_else(|error| panic!("{after}: {error}"));
        let own = podman.run(&["exec", "web", "ip", "-4", "-o", "address", "show", "dev", "eth0"]).unwrap();
        assert!(own.contains(&format!("inet {address}/32")), "{after}: {own}");
        connects(n2, host_port).unwrap_or_else(|error| panic!("{after}: {error}"));
    };
    reached("run");
    wait_allocated(&topology, 1);
    podman.run(&["network", "reload", "web"]).unwrap();
    reached("network reload");
    wait_allocated(&topology, 1);
    podman.run(&["restart", "--time", "0", "web"]).unwrap();
    podman.run(&["exec", "web", "httpd", "-p", "8080", "-h", "/bin"]).unwrap();
    reached("restart");
    podman.run(&["rm", "--force", "--time", "0", "web"]).unwrap();
    wait_allocated(&topology, 0);
    assert!(topology.node("n1").leftovers().unwrap().of_pods().is_empty());
}

#[test]
fn ctr_runs_containers_with_addresses_of_the_vpc() {
    let mut topology = nodes("m5.large");
    topology.start(&[]).unwrap();
    let containerd = Containerd::start(&topology.world, topology.node("n1"), Line::One).unwrap();
    let far = topology.instance("n2").unwrap().address;
    for name in ["one", "two"] {
        // More than one: the fabric's end of a link that has just come up loses what it is sent before the kernel has noticed the carrier.
        let line = format!("ip -4 -o address show dev eth0; ping -c 3 -W 2 {far} >/dev/null && echo far");
        let said = containerd.ctr_run(name, &line).unwrap();
        let own = topology.enis("n1").unwrap().into_iter().flat_map(|eni| eni.secondary);
        assert!(own.into_iter().any(|address| said.contains(&format!("inet {address}/32"))), "{said}");
        assert!(said.ends_with("far"), "{said}");
        wait_allocated(&topology, 0);
    }
    assert!(topology.node("n1").leftovers().unwrap().of_pods().is_empty());
}
