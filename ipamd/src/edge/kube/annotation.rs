// SPDX-License-Identifier: Apache-2.0
//! The pods' annotation with their address (`ANNOTATE_POD_IP`): what is to be written, pure.
//!
//! Level-triggered: who has which address (the core's word) against what the pods show (the watch's). So it comes right whatever
//! was missed while the API server or the daemon was away. An annotation is emptied only if its pod had that very address and we
//! saw it released: what a pod shows of before our time is left to whoever wrote it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipamd_core::ids::PodRef;
use ipamd_core::snapshot::PodSnapshot;

use super::demand::Pods;

/// The reference's key.
pub(super) const KEY: &str = "vpc.amazonaws.com/pod-ips";

/// What is to be written, and on which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Annotate {
    pub(super) pod: PodRef,
    /// So that a pod of the same name that comes later is not meant.
    pub(super) uid: String,
    /// Empty: it has none any more.
    pub(super) value: String,
}

/// Who had which address when it was last looked.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    held: BTreeMap<PodRef, Ipv4Addr>,
    /// Released, and perhaps still shown.
    released: BTreeMap<PodRef, Ipv4Addr>,
}

impl Annotations {
    /// Takes the present allocations. Of a pod with two sandboxes the later one counts.
    pub(super) fn look(&mut self, allocations: &[PodSnapshot]) {
        let mut named: Vec<_> = allocations.iter().filter(|allocation| !allocation.pod.name.is_empty()).collect();
        named.sort_by_key(|allocation| allocation.allocated_unix_nanos);
        let held: BTreeMap<_, _> =
            named.into_iter().map(|allocation| (allocation.pod.clone(), allocation.address)).collect();
        for (pod, address) in std::mem::replace(&mut self.held, held) {
            if !self.held.contains_key(&pod) {
                self.released.insert(pod, address);
            }
        }
        self.released.retain(|pod, _| !self.held.contains_key(pod));
    }

    /// What the pods do not show as they should. Pods that are not seen (yet, or any more) are not written to.
    pub(super) fn due(&mut self, pods: &Pods) -> Vec<Annotate> {
        self.released.retain(|pod, address| {
            pods.get(pod).is_some_and(|kept| kept.annotation.as_deref() == Some(&address.to_string()))
        });
        let given = self.held.iter().map(|(pod, address)| (pod, address.to_string()));
        let taken = self.released.keys().map(|pod| (pod, String::new()));
        let differs = |(pod, value): (&PodRef, String)| {
            let kept = pods.get(pod).filter(|kept| kept.annotation.as_deref() != Some(&value))?;
            Some(Annotate { pod: pod.clone(), uid: kept.uid.clone(), value })
        };
        given.chain(taken).filter_map(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn name(name: &str) -> PodRef {
        PodRef { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn allocation(pod: &str, address: [u8; 4], at: i64) -> PodSnapshot {
        PodSnapshot {
            key: format!("aws-cni/{pod}-{at}/eth0"),
            pod: name(pod),
            address: Ipv4Addr::from(address),
            eni_id: None,
            device_index: None,
            allocated_unix_nanos: at,
            orphan_for_ms: None,
        }
    }

    fn shows(pods: &mut Pods, pod: &str, annotation: Option<&str>) {
        let annotations = annotation.map(|value| json!({ KEY: value }));
        let metadata = json!({ "name": pod, "namespace": "shop", "uid": "u", "annotations": annotations });
        let object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {} });
        pods.apply(Event::Apply(serde_json::from_value(object).unwrap()));
    }

    fn due(annotations: &mut Annotations, pods: &Pods) -> Vec<(String, String)> {
        annotations.due(pods).into_iter().map(|annotate| (annotate.pod.name, annotate.value)).collect()
    }

    fn line(pod: &str, value: &str) -> (String, String) {
        (pod.to_owned(), value.to_owned())
    }

    #[test]
    fn an_address_is_shown_while_it_is_held_and_emptied_after() {
        let (mut annotations, mut pods) = (Annotations::default(), Pods::new(true));
        annotations.look(&[allocation("a", [10, 0, 1, 5], 1)]);
        assert_eq!(due(&mut annotations, &pods), [], "the watch has not shown it yet");
        shows(&mut pods, "a", None);
        assert_eq!(due(&mut annotations, &pods), [line("a", "10.0.1.5")]);
        shows(&mut pods, "a", Some("10.0.1.5"));
        assert_eq!(due(&mut annotations, &pods), []);
        annotations.look(&[]);
        assert_eq!(due(&mut annotations, &pods), [line("a", "")]);
        shows(&mut pods, "a", Some(""));
        assert_eq!(due(&mut annotations, &pods), []);
    }

    #[test]
    fn what_is_not_the_released_address_stays() {
        let (mut annotations, mut pods) = (Annotations::default(), Pods::new(true));
        shows(&mut pods, "a", Some("10.0.1.9"));
        annotations.look(&[]);
        assert_eq!(due(&mut annotations, &pods), [], "never ours");
        annotations.look(&[allocation("a", [10, 0, 1, 5], 1)]);
        annotations.look(&[]);
        assert_eq!(due(&mut annotations, &pods), [], "another's");
    }

    #[test]
    fn of_two_sandboxes_the_later_one_counts() {
        let (mut annotations, mut pods) = (Annotations::default(), Pods::new(true));
        shows(&mut pods, "a", None);
        let (first, second) = (allocation("a", [10, 0, 1, 5], 1), allocation("a", [10, 0, 1, 4], 2));
        annotations.look(&[first.clone(), second.clone()]);
        assert_eq!(due(&mut annotations, &pods), [line("a", "10.0.1.4")]);
        shows(&mut pods, "a", Some("10.0.1.4"));
        annotations.look(&[second]);
        assert_eq!(due(&mut annotations, &pods), []);
    }
}
