// SPDX-License-Identifier: Apache-2.0
//! What others do to the node's network, and what is left in it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use integration::eventually::{RaisedOnDrop, eventually, pass};
use integration::pods;

use crate::bed::Bed;

/// All rules but the kernel's own are gone.
const FLUSH: &str = "rule flush\nrule add priority 32766 lookup main\nrule add priority 32767 lookup default\n";

#[test]
fn a_blow_and_a_fight() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[("WARM_IP_TARGET", "1")]);
    bed.node("n1").ip(FLUSH).unwrap();
    bed.shows("n1", "HostRepaired", None);
    let done = AtomicBool::new(false);
    let n1 = bed.node("n1");
    std::thread::scope(|scope| {
        let _done = RaisedOnDrop(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Rules that came between its steps are fine.
                let _ = n1.ip(FLUSH);
                pass(Duration::from_millis(200));
            }
        });
        bed.shows("n1", "HostContested", None);
    });
}

/// A minute, in which the daemon makes sure.
#[test]
fn what_is_left_and_what_is_taken_away() {
    let mut bed = Bed::new(2, "m5.large");
    bed.start("n1", &[("WARM_IP_TARGET", "3")]);
    bed.start("n2", &[("WARM_IP_TARGET", "1"), ("ENID_RUNTIME_ENDPOINT", "/nowhere/containerd.sock")]);
    let pods = ["n1", "n2"].map(|name| pods::start(bed.node(name), 1, 1, &AtomicUsize::new(0)).unwrap().remove(0));
    let status = bed.node("n1").status().unwrap();
    let addresses = status["addresses"].as_array().unwrap();
    let free = addresses.iter().find(|address| address["state"] == "free").unwrap_or_else(|| panic!("{status}"));
    let free = free["address"].as_str().unwrap();
    let left = format!(
        "rule add priority 512 to 10.66.0.7 lookup main protocol 158\n\
         rule add priority 1536 from 10.66.0.7 lookup 2 protocol 158\n\
         link add enistranger type veth peer name peer\n\
         link set enistranger up\n\
         route add {free}/32 dev enistranger proto 158\n"
    );
    // Seen at the start, not at the look that is due within a minute.
    for (name, left, pod) in [("n1", left.as_str(), &pods[0]), ("n2", "", &pods[1])] {
        bed.restart(name, |node| node.ip(&format!("link del {}\n{left}", pod.added.host_veth)).unwrap());
    }
    let gone = eventually("the pods are taken for gone", Duration::from_secs(100), || {
        let log = |name: &str| std::fs::read_to_string(bed.node(name).log()).unwrap();
        let (one, other) = (log("n1"), log("n2"));
        let told = one.contains("OrphanReleased") && one.contains("OrphansSwept") && one.contains("AddressHeld");
        if told && other.contains("RuntimeUnavailable") {
            Ok(())
        } else {
            Err(integration::process::tail(&bed.node("n1").log(), 20))
        }
    });
    gone.unwrap();
    for code in ["OrphanReleased", "OrphansSwept", "AddressHeld"] {
        bed.shows("n1", code, None);
    }
    bed.shows("n2", "RuntimeUnavailable", None);
}
