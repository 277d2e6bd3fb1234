// SPDX-License-Identifier: Apache-2.0
//! Pods come and go: no address has two holders, none comes back before its cooldown is over, nothing is left at the end.
#![expect(clippy::disallowed_methods, reason = "records when calls were made")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use integration::eventually::{eventually, pass};
use integration::holdings::{Holding, check_rests};
use integration::sandbox::NetnsPath;
use integration::topology::{Topology, TopologySpec};

const COOLDOWN: Duration = Duration::from_secs(1);
const CHURN: Duration = Duration::from_secs(20);
const WORKERS: u64 = 6;

#[test]
fn twenty_seconds_of_adds_and_dels_give_no_address_twice_and_none_before_its_cooldown_is_over() {
    let mut topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
    topology.start(&[("IP_COOLDOWN_PERIOD", "1")]).unwrap();
    let n1 = topology.node("n1");
    let holdings = Mutex::new(Vec::new());
    let end = Instant::now() + CHURN;
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let holdings = &holdings;
            scope.spawn(move || {
                for turn in 0u64.. {
                    if Instant::now() > end {
                        return;
                    }
                    let sandbox = n1.sandbox(&format!("w{worker}-{turn}")).unwrap();
                    let added = n1.runtime.add(&sandbox).unwrap();
                    let holding = Holding { address: added.address, added: Instant::now(), deleting: Instant::now() };
                    // Uneven, so that workers do not fall into step.
                    pass(Duration::from_millis((worker * 37 + turn * 61) % 300));
                    let holding = Holding { deleting: Instant::now(), ..holding };
                    n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
                    holdings.lock().unwrap().push(holding);
                    drop(sandbox);
                }
            });
        }
    });

    let holdings = holdings.into_inner().unwrap();
    assert!(holdings.len() > 100, "only {} pods in {CHURN:?}", holdings.len());
    check_rests(holdings, COOLDOWN).unwrap();

    let gone = eventually("nothing of a pod is left", Duration::from_secs(10), || {
        let left = n1.leftovers().unwrap().of_pods();
        if left.is_empty() { Ok(()) } else { Err(left.to_string()) }
    });
    gone.unwrap();
    assert_eq!(n1.number("/pool/allocated").unwrap(), 0);
    assert_eq!(n1.number("/pool/waiters").unwrap(), 0);
    n1.check().unwrap();
}
