// SPDX-License-Identifier: Apache-2.0
//! Each source alone, and which goes before which.

use crate::bed::{Bed, LONG, SOURCES, Source};

#[test]
fn each_source_signs_every_call_and_is_named_in_the_log() {
    for source in SOURCES {
        let mut bed = Bed::new();
        bed.offer(source, LONG);
        bed.start();
        bed.churn();
        let signers = bed.signers();
        assert!(!signers.is_empty(), "{source:?}: nothing was called");
        assert!(signers.iter().all(|key| key.starts_with(source.keys_begin())), "{source:?}: {signers:?}");
        assert_eq!(bed.refused(), [], "{source:?}");
        let log = bed.log();
        let said = log.lines().find(|line| line.contains("AWS credentials") && line.contains(source.name()));
        assert!(said.is_some_and(|line| signers.iter().any(|key| line.contains(key))), "{source:?} is not in the log");
        for secret in ["emulated-secret", "emulated-session", "token-of"] {
            assert!(!log.contains(secret), "{source:?}: {secret} is in the log");
        }
    }
}

#[test]
fn sts_is_told_the_role_and_the_name_of_the_session() {
    let mut bed = Bed::new();
    bed.offer(Source::WebIdentity, LONG);
    bed.start();
    let calls = bed.topology.emulator.with_model(|vpc, _| {
        let sts = vpc.calls().filter(|call| call.action == "AssumeRoleWithWebIdentity");
        sts.map(|call| call.parameters.clone()).collect::<Vec<_>>()
    });
    assert_eq!(calls.len(), 1, "once for all calls of an hour: {calls:?}");
    for (name, value) in
        [("RoleArn", crate::bed::ROLE), ("RoleSessionName", "enid-test"), ("WebIdentityToken", "token-of-web")]
    {
        assert!(calls[0].contains(&(name.to_owned(), value.to_owned())), "{name}: {:?}", calls[0]);
    }
}

/// The order of AWS SDKs: environment, web identity, container, instance role.
#[test]
fn of_two_sources_the_earlier_one_signs() {
    for (earlier, later) in [
        (Source::Environment, Source::WebIdentity),
        (Source::WebIdentity, Source::PodIdentity),
        (Source::PodIdentity, Source::InstanceRole),
    ] {
        let mut bed = Bed::new();
        bed.offer(later, LONG);
        bed.offer(earlier, LONG);
        bed.start();
        let signers = bed.signers();
        assert!(!signers.is_empty(), "{earlier:?} {later:?}: nothing was called");
        assert!(signers.iter().all(|key| key.starts_with(earlier.keys_begin())), "{earlier:?} {later:?}: {signers:?}");
    }
}
