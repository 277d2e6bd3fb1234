// SPDX-License-Identifier: Apache-2.0
//! Which variable says where EC2 is.

use crate::bed::Bed;

/// Nobody listens there: a daemon that goes there gets nowhere.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn the_endpoint_is_the_first_of_the_three_variables_that_is_set() {
    let order = ["AWS_EC2_ENDPOINT", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"];
    for (at, first) in order.into_iter().enumerate() {
        let mut bed = Bed::new();
        let node = bed.node_mut();
        let right = node.variable("AWS_ENDPOINT_URL_EC2").unwrap().to_owned();
        node.unset("AWS_ENDPOINT_URL_EC2");
        node.set(first, &right);
        for later in &order[at + 1..] {
            node.set(later, NOBODY);
        }
        bed.start();
        bed.churn();
        assert!(!bed.signers().is_empty(), "{first}");
    }
}
