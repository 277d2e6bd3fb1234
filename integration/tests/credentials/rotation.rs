// SPDX-License-Identifier: Apache-2.0
//! Tokens rotate and keys expire while the daemon runs.

use std::time::{Duration, Instant};

use integration::eventually::pass;

use crate::bed::{Bed, Source};

/// Life of keys; the SDK renews them when less than 10 s are left.
const LIFE: u64 = 15;

/// Keys of a few seconds, and for those who have one, a token that is no longer taken soon after the first keys: without a second
/// reading of its file there would be none for the second.
fn outlives_its_keys(source: Source) {
    let mut bed = Bed::new();
    bed.lives(LIFE);
    bed.offer(source, Duration::from_secs(4));
    bed.start();
    let process = bed.node_mut().daemon().unwrap().pid();
    let began = Instant::now();
    let mut rotations = 0;
    while began.elapsed() < Duration::from_secs(2 * LIFE) {
        bed.churn();
        // Each is good for little longer than the time to the next.
        if began.elapsed() > Duration::from_secs(3 * rotations) {
            rotations += 1;
            bed.rotate(source, &format!("rotated-{rotations}"), Duration::from_secs(5));
        }
        pass(Duration::from_millis(300));
    }
    let signers = bed.signers();
    assert!(signers.len() >= 2, "{source:?}: {signers:?}");
    assert!(signers.iter().all(|key| key.starts_with(source.keys_begin())), "{source:?}: {signers:?}");
    assert_eq!(bed.refused(), [], "{source:?}");
    assert_eq!(bed.node_mut().daemon().unwrap().pid(), process, "the daemon was not started again");
}

#[test]
fn a_web_identity_whose_token_rotates_outlives_its_keys() {
    outlives_its_keys(Source::WebIdentity);
}

#[test]
fn a_pod_identity_whose_token_rotates_outlives_its_keys() {
    outlives_its_keys(Source::PodIdentity);
}

#[test]
fn the_keys_of_an_instance_role_are_renewed() {
    outlives_its_keys(Source::InstanceRole);
}

/// The cluster's token is not taken any more, for a while longer than the keys live; then it is mended.
#[test]
fn a_token_that_is_refused_is_named_pods_are_served_and_its_successor_is_taken() {
    for (source, said) in [
        (Source::WebIdentity, &["web identity", "InvalidIdentityToken"][..]),
        (Source::PodIdentity, &["container credentials", "403"][..]),
    ] {
        let mut bed = Bed::new();
        bed.lives(LIFE);
        bed.offer(source, crate::bed::LONG);
        bed.start();
        bed.churn();
        bed.write_token(source, "of-another-cluster");
        pass(Duration::from_secs(LIFE));
        bed.churn();
        bed.names(said);
        // Not with the instance's role, which is there and might do more.
        assert!(!bed.signers().is_empty(), "{source:?}: nothing was called");
        assert!(bed.signers().iter().all(|key| key.starts_with(source.keys_begin())), "{source:?}");
        bed.churn();
        bed.rotate(source, "mended", crate::bed::LONG);
        let before = bed.signers();
        let mended = integration::eventually::eventually("keys come again", Duration::from_secs(40), || {
            bed.churn();
            if bed.signers() == before { Err("no new keys have signed".to_owned()) } else { Ok(()) }
        });
        mended.unwrap_or_else(|error| panic!("{source:?}: {error}"));
        assert_eq!(bed.refused(), [], "{source:?}");
    }
}
