// SPDX-License-Identifier: Apache-2.0
//! SIGKILL to containerd and to the daemon, in every order, with pods that live through it and pods that end meanwhile.

use integration::runtimes::containerd::{Line, PodSpec};
use integration::topology::READY;

use crate::bed::{Bed, calls, pings, run};

/// Who is killed, and who is up again first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Containerd,
    Daemon,
}

impl Who {
    fn kill(self, bed: &mut Bed) {
        match self {
            Self::Containerd => bed.n1.kill(),
            Self::Daemon => bed.topology.node_mut("n1").kill(),
        }
    }

    fn start(self, bed: &mut Bed) {
        match self {
            Self::Containerd => bed.n1.start_again().unwrap(),
            Self::Daemon => {
                bed.topology.node_mut("n1").start().unwrap();
                bed.topology.node("n1").wait_ready(READY).unwrap();
            }
        }
    }
}

const ORDERS: [[Who; 2]; 2] = [[Who::Containerd, Who::Daemon], [Who::Daemon, Who::Containerd]];

#[test]
fn pods_live_on_and_ended_ones_free_their_address_with_containerd_1() {
    in_every_order(Line::One);
}

#[test]
fn pods_live_on_and_ended_ones_free_their_address_with_containerd_2() {
    in_every_order(Line::Two);
}

fn in_every_order(line: Line) {
    let mut bed = Bed::build(line, "m5.large", &[("IP_COOLDOWN_PERIOD", "1")]);
    let far = run(&bed.n2, "far");
    let lives = run(&bed.n1, "lives");
    let mut round = 0;
    for killed in ORDERS {
        for started in ORDERS {
            round += 1;
            let ends = run(&bed.n1, &format!("ends-{round}"));
            killed.iter().for_each(|who| who.kill(&mut bed));
            started[0].start(&mut bed);
            if started[0] == Who::Containerd {
                // The daemon is down: the DEL is left for it, the pod ends all the same.
                bed.n1.stop_pod(&ends.pod).unwrap();
            }
            started[1].start(&mut bed);
            assert_eq!(bed.n1.address_of(&lives.pod.id).unwrap(), lives.pod.address, "{killed:?} {started:?}");
            pings(&bed.n2, &far, lives.pod.address);
            pings(&bed.n1, &lives, far.pod.address);
            if started[0] == Who::Daemon {
                bed.n1.stop_pod(&ends.pod).unwrap();
            }
            bed.n1.remove_pod(&ends.pod).unwrap();
            bed.wait_allocated(1);
            let of_it = calls(&bed).into_iter().filter(|(verb, id, _)| verb == "DEL" && *id == ends.pod.id);
            let paths: Vec<String> = of_it.map(|(_, _, netns)| netns).collect();
            assert!(paths[0].starts_with("/var/run/netns/cni-"), "a DEL after the restart has the path: {paths:?}");
        }
    }
    // A new pod in place of an ended one, as a StatefulSet's.
    let again = bed.n1.run_pod(&PodSpec { attempt: 1, ..PodSpec::new("ends-1") }).unwrap();
    pings(&bed.n2, &far, again.address);
}
