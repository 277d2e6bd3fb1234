// SPDX-License-Identifier: Apache-2.0
//! No source has keys.

use std::time::Duration;

use integration::eventually::{eventually, pass};

use crate::bed::{Bed, LONG, ROLE, Source};

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

/// The keys of a role that is taken away are not used after their end, nor is anything else.
#[test]
fn a_role_that_is_taken_away_is_told_without_a_restart() {
    const LIFE: u64 = 15;
    let mut bed = Bed::new();
    bed.lives(LIFE);
    bed.start();
    bed.churn();
    bed.take_the_role_away();
    pass(Duration::from_secs(LIFE));
    bed.churn();
    bed.names(&ALL);
    bed.churn();
    assert_eq!(bed.refused(), []);
}

/// The instance has a role, with other rights than what was meant.
#[test]
fn a_source_that_is_set_up_in_part_is_named_and_no_other_signs_in_its_place() {
    for (variable, value, source) in [
        ("AWS_ACCESS_KEY_ID", "AKIATEST", "environment keys"),
        ("AWS_PROFILE", "nobody", "profile"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/run/enid/no/such/file", "profile"),
        ("AWS_CONFIG_FILE", "/run/enid/no/such/file", "profile"),
        ("AWS_ROLE_ARN", ROLE, "web identity"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/enid/no/such/token", "web identity"),
    ] {
        let mut bed = Bed::new();
        bed.node_mut().set(variable, value);
        bed.node_mut().start().unwrap();
        bed.names(&[source, variable]);
        assert!(bed.signers().is_empty(), "{variable}: {:?}", bed.signers());
    }
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
