// SPDX-License-Identifier: Apache-2.0
//! What a takeover of 110 live pods costs: the figures of docs/takeover.md.

use std::time::{Duration, Instant};

use integration::aws_node::{Filling, Spec};
use integration::eventually::{eventually, pass};
use integration::flows::Flows;
use integration::topology::READY;

use crate::bed::{A_WHILE, Bed, PREFIXES, assert_nothing_lost};

const PODS: usize = 110;

/// Loose: what is measured on a machine that runs other tests beside this one is printed, not asserted.
const MOST: Duration = Duration::from_secs(15);

#[test]
fn a_hundred_and_ten_live_pods_are_taken_over_in_seconds_without_losing_a_datagram() {
    let spec = Spec { filling: Filling::Prefixes(4, 4), on_primary: PODS / 2, on_secondary: PODS / 2, ..PREFIXES };
    let mut bed = Bed::build(&spec);
    let flows = Flows::start(bed.paths(&bed.aws.pods));
    pass(A_WHILE);
    let start = Instant::now();
    let n1 = bed.topology.node_mut("n1");
    n1.start().unwrap();
    let adopted = eventually("all pods are adopted", READY, || {
        let allocated = n1.number("/pool/allocated").map_err(|error| error.to_string())?;
        if allocated == PODS as u64 { Ok(start.elapsed()) } else { Err(format!("{allocated}")) }
    });
    let adopted = adopted.unwrap();
    n1.wait_ready(READY).unwrap();
    let ready = start.elapsed();
    bed.wait_taken_over(PODS);
    let clean = start.elapsed();
    pass(A_WHILE);
    let tallies = flows.end();
    let (sent, missing) =
        tallies.iter().fold((0, 0), |(sent, missing), tally| (sent + tally.sent, missing + tally.missing.len()));
    println!("{PODS} live pods, from exec: adopted {adopted:?}, ready {ready:?}, the reference's rules gone {clean:?}");
    println!("{sent} datagrams on {} paths, {missing} lost", tallies.len());
    assert!(ready < MOST, "{ready:?}");
    assert_nothing_lost(&tallies);
    bed.assert_as_the_reference_has_them(&bed.aws.pods);
}
