// SPDX-License-Identifier: Apache-2.0
//! A restart changes nothing that is right; what became wrong meanwhile is put right, and what dead sandboxes left goes.

use std::collections::BTreeMap;
use std::time::Duration;

use integration::eventually::eventually;
use integration::process::{Program, Running};
use integration::topology::READY;

use crate::bed::Bed;

/// `ip monitor` or `nft monitor` on n1, and what it has written.
struct Monitor {
    running: Running,
    log: std::path::PathBuf,
}

impl Monitor {
    fn start(bed: &Bed, name: &str, arguments: &[&str]) -> Self {
        let label = arguments.join("-");
        let folder = bed.topology.world.folder("monitors").unwrap();
        let starter = folder.join(name);
        if !starter.exists() {
            bed.topology.world.tools.write_starters(&folder).unwrap();
        }
        let on_path = || ["/usr/sbin", "/sbin", "/usr/bin"].map(|f| std::path::Path::new(f).join(name));
        let path = if starter.exists() { starter } else { on_path().into_iter().find(|path| path.exists()).unwrap() };
        let log = folder.join(format!("{name}-{label}.log"));
        let program = Program {
            path,
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::new(),
            log: log.clone(),
        };
        let running = Running::start(&bed.n1().netns, &program).unwrap();
        Self { running, log }
    }

    fn heard(mut self) -> String {
        self.running.kill();
        std::fs::read_to_string(&self.log).unwrap()
    }
}

#[test]
fn a_restart_writes_nothing_to_a_kernel_that_is_right() {
    let mut bed = Bed::build();
    let rtnetlink = Monitor::start(&bed, "ip", &["monitor", "link", "address", "route", "rule"]);
    let neighbours = Monitor::start(&bed, "ip", &["-4", "monitor", "neigh"]);
    let nft = Monitor::start(&bed, "nft", &["monitor"]);
    // They are listening once they have told of this.
    let marker = "rule add priority 4242 to 10.77.7.7 lookup main\nrule del priority 4242\n";
    bed.n1().nft("add table ip marker\n").unwrap();
    let listening = eventually("the monitors listen", Duration::from_secs(10), || {
        bed.n1().ip(marker).unwrap();
        bed.n1().nft("delete table ip marker\nadd table ip marker\n").unwrap();
        let hears = |monitor: &Monitor, what: &str| std::fs::read_to_string(&monitor.log).unwrap().contains(what);
        if hears(&rtnetlink, "4242") && hears(&nft, "marker") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    listening.unwrap();
    for graceful in [true, false] {
        let n1 = bed.topology.node_mut("n1");
        if graceful {
            assert!(n1.stop());
        } else {
            n1.kill();
        }
        n1.start().unwrap();
        n1.wait_ready(READY).unwrap();
        let looked = eventually("it has looked", READY, || match bed.n1().number("/repair/looks") {
            Ok(looks) if looks > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        looked.unwrap();
    }
    // A look that is due anyway writes nothing either, nor does a sweep.
    bed.wait_look_by_itself();
    assert_eq!(bed.repaired(), []);
    let ours = |line: &&str| !line.contains("4242") && !line.contains("marker") && !line.starts_with("# ");
    let lines = |text: String| text.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>();
    // Neighbours that the kernel learns and forgets (routers) are its own business.
    let (heard, tables) = (lines(rtnetlink.heard()), lines(nft.heard()));
    let permanent: Vec<_> =
        neighbours.heard().lines().filter(|line| line.contains("PERMANENT")).map(str::to_owned).collect();
    assert_eq!((heard, tables, permanent), (vec![], vec![], vec![]));
    assert!(bed.wait_whole().is_ok());
}

#[test]
fn what_was_done_while_the_daemon_was_away_is_put_right_when_it_is_back() {
    let mut bed = Bed::build();
    bed.topology.node_mut("n1").kill();
    let veth = bed.two_pods()[1].added.host_veth.clone();
    let kernel = "rule add priority 32766 lookup main\nrule add priority 32767 lookup default\n";
    bed.n1().ip(&format!("rule flush\n{kernel}route flush table 2\nlink set {veth} down\n")).unwrap();
    bed.n1().nft("flush ruleset\n").unwrap();
    bed.topology.node_mut("n1").start().unwrap();
    bed.n1().wait_ready(READY).unwrap();
    bed.wait_whole().unwrap();
    bed.packets().unwrap();
}

#[test]
fn what_dead_sandboxes_left_goes_and_what_live_ones_have_stays() {
    let bed = Bed::build();
    // A plugin that was killed half-way through a DEL, long ago; and a live veth that no journal knows.
    let left = "rule add priority 512 to 10.66.0.7 lookup main protocol 158\n\
                rule add priority 1536 from 10.66.0.7 lookup 2 protocol 158\n\
                link add enistranger type veth peer name peer\nlink set enistranger up\n\
                link set enistranger alias 'enid other/sandbox/eth0 10.66.0.8'\n\
                rule add priority 512 to 10.66.0.8 lookup main protocol 158\n\
                route add 10.66.0.8/32 dev enistranger proto 158\n";
    bed.n1().ip(left).unwrap();
    let gone = eventually("the leftovers are gone", Duration::from_secs(110), || {
        let state = bed.state();
        let there: Vec<_> = state.iter().filter(|line| line.contains("10.66.0.7")).collect();
        if there.is_empty() { Ok(()) } else { Err(format!("{there:?}")) }
    });
    gone.unwrap();
    assert_eq!(bed.state().iter().filter(|line| line.contains("10.66.0.8")).count(), 3, "rule, route, alias");
    assert!(bed.whole.is_subset(&bed.state()));
    assert_eq!(bed.n1().number("/repair/swept").unwrap(), 2);
    assert!(bed.log().contains("OrphansSwept"));
    bed.packets().unwrap();
}
