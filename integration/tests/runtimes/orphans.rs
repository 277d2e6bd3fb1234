// SPDX-License-Identifier: Apache-2.0
//! Whose sandbox lives when the kernel cannot tell: the daemon asks containerd (`ENID_RUNTIME_ENDPOINT`).

use std::net::Ipv4Addr;
use std::time::Duration;

use integration::eventually::eventually;
use integration::runtimes::containerd::Line;
use integration::topology::READY;

use crate::bed::{Bed, run};

/// An orphan is one after a minute without its link, seen every twenty seconds; the machine may be busy.
const ORPHANED: Duration = Duration::from_secs(150);

/// The host veth that leads to a pod.
fn host_veth(bed: &Bed, address: Ipv4Addr) -> String {
    let routes = bed.topology.node("n1").leftovers().unwrap().of_pods().routes;
    let route = routes.iter().find(|route| route.contains(&address.to_string()));
    let route = route.unwrap_or_else(|| panic!("no route to {address}: {routes:?}"));
    let mut words = route.split(' ').skip_while(|word| *word != "dev").skip(1);
    words.next().unwrap().to_owned()
}

#[test]
fn an_address_without_link_stays_while_containerd_has_the_sandbox_and_goes_when_it_has_none() {
    let mut bed = Bed::build(Line::Two, "m5.large", &[]);
    let [robbed, lost] = ["robbed", "lost"].map(|name| run(&bed.n1, name));
    let socket = format!("unix://{}", bed.n1.socket().display());
    let veth = host_veth(&bed, robbed.pod.address);
    bed.topology.node_mut("n1").kill();
    // A pod that ends, and of whose end the daemon never hears.
    bed.n1.stop_pod(&lost.pod).unwrap();
    bed.n1.remove_pod(&lost.pod).unwrap();
    std::fs::remove_dir_all(bed.topology.node("n1").state_folder().join("tombstones")).unwrap();
    bed.topology.node_mut("n1").set("ENID_RUNTIME_ENDPOINT", &socket);
    bed.topology.node_mut("n1").start().unwrap();
    bed.topology.node("n1").wait_ready(READY).unwrap();
    // And one whose link somebody takes.
    bed.topology.node("n1").ip(&format!("link delete {veth}\n")).unwrap();

    let told = eventually("both are judged", ORPHANED, || {
        let log = std::fs::read_to_string(bed.topology.node("n1").log()).unwrap_or_default();
        let says = |address: Ipv4Addr, words: [&str; 2]| {
            let part = format!("{address} of ");
            log.lines().any(|line| line.contains(&part) && words.iter().all(|word| line.contains(word)))
        };
        let stays = says(robbed.pod.address, ["stays", "the runtime has the sandbox"]);
        let goes = says(lost.pod.address, ["is released", "the runtime has no such sandbox"]);
        if stays && goes { Ok(()) } else { Err(format!("stays {stays}, goes {goes}")) }
    });
    told.unwrap();
    bed.wait_allocated(1);
    // Its end is the runtime's to tell.
    bed.n1.stop_pod(&robbed.pod).unwrap();
    bed.n1.remove_pod(&robbed.pod).unwrap();
    bed.no_pod_is_left();
}
