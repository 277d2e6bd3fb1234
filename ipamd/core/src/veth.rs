// SPDX-License-Identifier: Apache-2.0
//! Names of host veths, as far as the journal needs them: to see whether an allocation's pod still has its link.
//!
//! Prefix and the first 11 lower-case hex digits of SHA-1 of `<namespace>.<pod>`, as the reference names them
//! (amazon-vpc-cni-k8s, `pkg/networkutils/names.go`). Who *makes* links is the datapath, which has its own copy of the rule
//! with the same vectors in its tests.

use sha1::{Digest, Sha1};

use crate::ids::PodRef;

const HASH_DIGITS: usize = 11;

/// `None`: the pod has no name, so its link's name cannot be known.
pub(crate) fn host_veth(prefix: &str, pod: &PodRef) -> Option<String> {
    if pod.name.is_empty() {
        return None;
    }
    let digest = Sha1::digest(format!("{}.{}", pod.namespace, pod.name).as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{prefix}{}", &hex[..HASH_DIGITS]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference_s_test_vectors() {
        for (namespace, name, expected) in
            [("default", "sample-pod", "enicc21c2d7785"), ("kube-system", "coredns-57ff979f67-qqbdh", "enib5faff8a083")]
        {
            let pod = PodRef { namespace: namespace.into(), name: name.into() };
            assert_eq!(host_veth("eni", &pod).as_deref(), Some(expected));
        }
        assert_eq!(host_veth("eni", &PodRef::default()), None);
    }
}
