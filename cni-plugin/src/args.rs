// SPDX-License-Identifier: Apache-2.0
//! CNI_ARGS: `KEY=value;KEY=value`, in any order (containerd's changes from call to call), from nothing at all (`ctr`)
//! to all of Kubernetes' keys.

use crate::error::{CniError, Code};
use crate::reason::Reason;

/// The pod behind a sandbox, as far as the runtime names it; empty otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodArgs {
    /// K8S_POD_NAME.
    pub name: String,
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_INFRA_CONTAINER_ID.
    pub infra_container_id: String,
    /// K8S_POD_UID.
    pub uid: String,
}

impl PodArgs {
    /// Whether the caller is a runtime of Kubernetes: podman names a pod, too, and nothing else.
    pub(crate) fn is_of_kubernetes(&self) -> bool {
        !self.namespace.is_empty() || !self.infra_container_id.is_empty()
    }

    /// Code 4 for a pair without `=`, and for a key that is not known unless IgnoreUnknown is set.
    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        let (pod, unknown) = Self::collect(text);
        match unknown.first() {
            Some(first) => Err(CniError::new(
                Code::Environment,
                Reason::ParametersInvalid,
                format!("CNI_ARGS: {first:?} is not known; set IgnoreUnknown=1 if that is meant"),
            )),
            None => Ok(pod),
        }
    }

    /// The same without errors: a DEL must not fail for its arguments.
    pub(crate) fn parse_leniently(text: &str) -> Self {
        Self::collect(text).0
    }

    /// The pod, and the pairs that are in the way.
    fn collect(text: &str) -> (Self, Vec<&str>) {
        let mut pod = Self::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "K8S_POD_NAME" => pod.name = value.to_owned(),
                "K8S_POD_NAMESPACE" => pod.namespace = value.to_owned(),
                "K8S_POD_INFRA_CONTAINER_ID" => pod.infra_container_id = value.to_owned(),
                "K8S_POD_UID" => pod.uid = value.to_owned(),
                "IgnoreUnknown" => ignore_unknown = matches!(value.to_ascii_lowercase().as_str(), "1" | "true"),
                _ => unknown.push(pair),
            }
        }
        if ignore_unknown {
            unknown.clear();
        }
        (pod, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_keys_does_not_matter() {
        let pairs = ["IgnoreUnknown=1", "K8S_POD_NAME=web-0", "K8S_POD_NAMESPACE=shop", "K8S_POD_UID=u", "OTHER=x"];
        let mut orders = pairs.to_vec();
        for _ in 0..pairs.len() {
            orders.rotate_left(1);
            let pod = PodArgs::parse(&orders.join(";")).unwrap();
            assert_eq!((pod.name.as_str(), pod.namespace.as_str(), pod.uid.as_str()), ("web-0", "shop", "u"));
        }
    }

    #[test]
    fn what_podman_and_ctr_send_is_enough() {
        assert_eq!(PodArgs::parse("").unwrap(), PodArgs::default());
        let pod = PodArgs::parse("IgnoreUnknown=1;K8S_POD_NAME=a").unwrap();
        assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("a", ""));
    }

    #[test]
    fn unknown_keys_are_errors_only_without_ignore_unknown_and_only_for_an_add() {
        for (text, accepted) in [
            ("OTHER=1", false),
            ("K8S_POD_NAME=a;OTHER=1;IgnoreUnknown=0", false),
            ("nonsense", false),
            ("OTHER=1;IgnoreUnknown=true", true),
            ("OTHER=1;IgnoreUnknown=TRUE;", true),
        ] {
            let parsed = PodArgs::parse(text);
            assert_eq!(parsed.is_ok(), accepted, "{text}");
            assert!(parsed.is_ok() || parsed.unwrap_err().message.contains("CNI_ARGS"));
        }
        assert_eq!(PodArgs::parse_leniently("OTHER;K8S_POD_NAME=a").name, "a");
    }
}
