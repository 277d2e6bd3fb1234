// SPDX-License-Identifier: Apache-2.0
//! Calls to EC2 and their throttling, as the page counts them from the daemon's metrics.

use std::time::Duration;

use vpc_model::Fault;

use crate::bed::{Bed, PAGE};

/// The table's cell of an action and an outcome; empty when there is none.
const CELL: &str = "(action, outcome) => { const table = document.getElementById('calls'); \
     const at = [...table.tHead.querySelectorAll('th')].findIndex(cell => cell.textContent === outcome); \
     const row = [...table.tBodies[0].rows].find(row => row.cells[0].textContent === action); \
     return row?.cells[at]?.textContent ?? ''; }";

#[test]
fn calls_to_ec2_are_counted_by_outcome_and_throttling_is_said() {
    // 9 addresses of the primary ENI and a second one for the rest of 12.
    let bed = Bed::prepared("m5.large", &[("WARM_IP_TARGET", "12")], |topology| {
        let throttled = Fault::once("CreateNetworkInterface", "RequestLimitExceeded");
        topology.emulator.with_model(|vpc, _| vpc.order_fault(throttled));
    });
    bed.browser.open(PAGE).unwrap();
    let attached = format!("({CELL})('AttachNetworkInterface', 'ok') === '1'");
    // After a throttled call the daemon keeps to its share of requests for a while.
    bed.shows_within(Duration::from_secs(60), "the call that attached the second ENI", &attached);
    assert_eq!(bed.topology.calls("AttachNetworkInterface"), 1);
    bed.shows(
        "that EC2 throttled",
        "/throttled: [1-9]\\d* by EC2/.test(document.getElementById('throttle').textContent)",
    );
    bed.is_sound();
    bed.picture("calls");
}
