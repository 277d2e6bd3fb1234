// SPDX-License-Identifier: Apache-2.0
//! No source has keys.

use std::time::Duration;

use integration::eventually::eventually;

use crate::bed::{Bed, LONG, Source};

const ALL: [&str; 6] = [
    "NoCredentials",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "instance role",
];

#[test]
fn a_node_with_pods_serves_on_and_names_every_source_that_was_tried() {
    let mut bed = Bed::new();
    bed.start();
    bed.churn();
    bed.take_the_role_away();
    bed.restart();
    bed.churn();
    bed.names(&ALL);
    bed.churn();
}

#[test]
fn a_new_node_says_so_in_status_log_and_the_refusal_of_a_pod() {
    let mut bed = Bed::new();
    bed.take_the_role_away();
    bed.node_mut().start().unwrap();
    bed.names(&ALL);
    let node = bed.node();
    let sandbox = node.next_sandbox().unwrap();
    let refused = node.runtime.add(&sandbox).unwrap_err().to_string();
    assert!(refused.contains("NoCredentials") && refused.contains("instance role"), "{refused}");
}

#[test]
fn a_token_file_that_is_not_there_is_named() {
    let mut bed = Bed::new();
    bed.offer(Source::WebIdentity, LONG);
    bed.node_mut().set("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/enid/no/such/token");
    bed.node_mut().start().unwrap();
    bed.names(&["web identity", "No such file"]);
}

/// Somebody gives the instance its role while the daemon waits.
#[test]
fn a_role_that_comes_later_is_taken_without_a_restart() {
    let mut bed = Bed::new();
    bed.take_the_role_away();
    bed.node_mut().start().unwrap();
    bed.names(&ALL[..1]);
    bed.topology.emulator.with_model(|vpc, _| vpc.clear_faults());
    let node = bed.node();
    let served = eventually("a pod is served", Duration::from_secs(60), || {
        let sandbox = node.next_sandbox().map_err(|error| error.to_string())?;
        node.runtime.add(&sandbox).map(drop).map_err(|error| error.to_string())
    });
    served.unwrap_or_else(|error| panic!("{error}"));
    bed.churn();
    assert!(bed.log().contains("AWS credentials"));
}
