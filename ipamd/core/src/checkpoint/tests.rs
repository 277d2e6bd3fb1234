// SPDX-License-Identifier: Apache-2.0
use super::*;

/// As the reference writes it: unsorted, metadata partly absent, a newline at the end.
const WRITTEN_BY_THE_REFERENCE: &str = r#"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"b","ifName":"eth0","ipv4":"10.0.0.9","allocationTimestamp":1725000000000000000,"metadata":{"k8sPodNamespace":"default","k8sPodName":"web","interfacesCount":1}},{"networkName":"aws-cni","containerID":"a","ifName":"eth0","ipv4":"10.0.0.7","allocationTimestamp":5,"metadata":{}}]}
"#;

#[test]
fn the_reference_file_is_read_and_written_back_byte_for_byte() {
    let journal = parse_reference(WRITTEN_BY_THE_REFERENCE.as_bytes()).expect("valid");
    assert_eq!(journal.allocations[0].pod(), PodRef { namespace: "default".into(), name: "web".into() });
    assert_eq!(journal.allocations[1].key().to_string(), "aws-cni/a/eth0");
    assert_eq!(String::from_utf8(encode(&journal)).expect("text"), WRITTEN_BY_THE_REFERENCE);
}

#[test]
fn an_empty_or_null_list_is_no_allocation() {
    for text in [r#"{"version":"vpc-cni-ipam/1","allocations":null}"#, r#"{"version":"vpc-cni-ipam/1"}"#] {
        assert!(parse_reference(text.as_bytes()).expect("valid").allocations.is_empty());
    }
}

#[test]
fn another_version_and_rubbish_are_typed_errors() {
    let other = parse_reference(br#"{"version":"vpc-cni-ipam/2","allocations":[]}"#).expect_err("version");
    assert!(matches!(other, JournalError::Version { ref found, .. } if found == "vpc-cni-ipam/2"));
    assert!(matches!(parse_reference(b"{\"vers"), Err(JournalError::Corrupt(_))));
    assert!(matches!(parse_reference(b""), Err(JournalError::Corrupt(_))));
    let other = parse_own(br#"{"version":"enid/2","somethingElse":1}"#).expect_err("version");
    assert!(matches!(other, JournalError::Version { ref found, .. } if found == "enid/2"));
    assert!(matches!(parse_own(br#"{"version":"enid/1"}"#), Err(JournalError::Corrupt(_))));
}
