// SPDX-License-Identifier: Apache-2.0
//! systemd-networkd, told to configure the node's links anew: it takes our rules, routes and addresses away; with our drop-in it
//! leaves the rules.

use std::time::Duration;

use integration::eventually::pass;

use crate::bed::Bed;
use crate::programs::{Distribution, Setup, primary_address, repaired, wait_nothing_missing};

const DROP_IN: &str = include_str!("../../../../deploy/systemd-networkd/90-enid.conf");

/// Starts it with the node's two links configured as an image would, and further files.
fn start(bed: &Bed, name: &'static str, eni: &str, more: &[(&str, &str)]) -> Distribution {
    let (address, router) = primary_address(bed);
    let unasked = "LinkLocalAddressing=no\nIPv6AcceptRA=no\n";
    let eth0 =
        format!("[Match]\nName=eth0\n[Link]\nMTUBytes=9001\n[Network]\nAddress={address}\nGateway={router}\n{unasked}");
    let second = format!("[Match]\nName={eni}\n[Network]\n{unasked}");
    let mut files = vec![("systemd/network/10-eth0.network", eth0), ("systemd/network/20-eni.network", second)];
    files.extend(more.iter().map(|(path, text)| (*path, (*text).to_owned())));
    let program = "/lib/systemd/systemd-networkd";
    Distribution::start(
        &bed.topology,
        &Setup { name, with_udev: false, files: &files, program, ready: "networkctl list" },
    )
}

fn reconfigure(networkd: &Distribution, eni: &str) {
    networkd.run(&format!("networkctl reconfigure {eni} && networkctl reconfigure eth0"));
}

fn rules_put_back(bed: &Bed) -> u64 {
    bed.repaired().into_iter().find(|(kind, _)| kind == "rule missing").map_or(0, |(_, count)| count)
}

#[test]
fn what_networkd_takes_away_is_put_back_and_networkd_is_named_when_it_does_not_end() {
    let bed = Bed::build();
    let eni = bed.eni_link();
    let networkd = start(&bed, "networkd", &eni, &[]);
    wait_nothing_missing(&bed).unwrap();
    let before = repaired(&bed);
    reconfigure(&networkd, &eni);
    pass(Duration::from_secs(1));
    wait_nothing_missing(&bed).unwrap();
    bed.packets().unwrap();
    assert!(repaired(&bed) > before, "networkd did nothing to us: {:?}", bed.repaired());
    for _ in 0..40 {
        reconfigure(&networkd, &eni);
        pass(Duration::from_millis(700));
        if bed.log().contains("HostContested") {
            break;
        }
    }
    let log = bed.log();
    let told = log
        .lines()
        .find(|line| line.contains("HostContested"))
        .unwrap_or_else(|| panic!("not told: {:?}", bed.repaired()));
    assert!(told.contains("systemd-networkd: set ManageForeignRoutingPolicyRules=no"), "{told}");
    wait_nothing_missing(&bed).unwrap();
    bed.packets().unwrap();
    assert_ne!(rules_put_back(&bed), 0, "networkd took no rule: {:?}", bed.repaired());
    drop(networkd);
    rules_survive_with_the_drop_in(&bed, &eni);
}

fn rules_survive_with_the_drop_in(bed: &Bed, eni: &str) {
    let networkd = start(bed, "networkd-told", eni, &[("systemd/networkd.conf.d/90-enid.conf", DROP_IN)]);
    wait_nothing_missing(bed).unwrap();
    let (rules, all) = (rules_put_back(bed), repaired(bed));
    for _ in 0..3 {
        reconfigure(&networkd, eni);
        // Longer than a look takes to come, also in a fight.
        pass(Duration::from_millis(700));
        let state = bed.state();
        let missing: Vec<_> = bed.whole.difference(&state).filter(|line| line.starts_with("rule")).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
    wait_nothing_missing(bed).unwrap();
    assert_eq!(rules_put_back(bed), rules, "a rule was put back");
    // It did configure the links anew.
    assert!(repaired(bed) > all, "{:?}", bed.repaired());
    bed.packets().unwrap();
}
