// SPDX-License-Identifier: Apache-2.0
//! Which pods of this node are demand, and which have an annotation of theirs: pure, fed by a watch.
//!
//! | a pod of this node | is demand |
//! |---|---|
//! | on the host's network | no |
//! | finished (`Succeeded`, `Failed`), or being deleted | no: it asks for nothing any more |
//! | with an address in its status | no: its ADD is done |
//! | else | yes, until its ADD comes (that is the core's to see) |
//!
//! Pods on the host's network that are not finished are counted: they are of kubelet's max-pods, too. Of a pod only what is needed
//! is kept: name and uid while it is demand, name, uid and annotation of every pod where pods are annotated. A list replaces everything, so what a watch missed mends itself.

use std::collections::{BTreeMap, BTreeSet};

use ipamd_core::ids::PodRef;
use kube::core::Object;
use kube::runtime::watcher::Event;
use serde::Deserialize;

use super::annotation::KEY;

/// A pod, as far as it is read.
pub(super) type Pod = Object<PodSpec, PodStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    host_network: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) uid: String,
    pub(super) is_demand: bool,
    /// The annotation's value.
    pub(super) annotation: Option<String>,
}

/// Pods of this node.
#[derive(Debug)]
pub(super) struct Pods {
    keeps_all: bool,
    known: BTreeMap<PodRef, Kept>,
    /// Those on the host's network.
    on_host: BTreeSet<PodRef>,
    /// A list was whole, or none can be had.
    counts: bool,
    /// A list that is coming in: both of the above.
    listing: Option<(BTreeMap<PodRef, Kept>, BTreeSet<PodRef>)>,
}

/// What is to be kept of a pod.
enum Read {
    Nothing,
    OnHost,
    Pod(Kept),
}

impl Pods {
    /// `keeps_all`: also of those that are no demand, for their annotation.
    pub(super) fn new(keeps_all: bool) -> Self {
        Self { keeps_all, known: BTreeMap::new(), on_host: BTreeSet::new(), counts: false, listing: None }
    }

    /// Takes what the watch tells; whether anything that is kept is different.
    pub(super) fn apply(&mut self, event: Event<Pod>) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(Default::default());
                false
            }
            Event::InitApply(pod) => {
                let read = self.read(&pod);
                if let (Some(name), Some((known, on_host))) = (name(&pod), &mut self.listing) {
                    keep(known, on_host, name, read);
                }
                false
            }
            Event::InitDone => {
                let (known, on_host) = self.listing.take().unwrap_or_default();
                let differs = known != self.known || on_host != self.on_host;
                (self.known, self.on_host) = (known, on_host);
                // That there are none is news as well, the first time.
                differs | !std::mem::replace(&mut self.counts, true)
            }
            Event::Apply(pod) => {
                let read = self.read(&pod);
                name(&pod).is_some_and(|name| keep(&mut self.known, &mut self.on_host, name, read))
            }
            Event::Delete(pod) => {
                name(&pod).is_some_and(|name| keep(&mut self.known, &mut self.on_host, name, Read::Nothing))
            }
        }
    }

    /// How many are on the host's network, as far as may be known; `None`: the list is still to come.
    pub(super) fn on_host(&self) -> Option<u32> {
        self.counts.then(|| u32::try_from(self.on_host.len()).unwrap_or(u32::MAX))
    }

    /// Pods may not be read: no list is going to come.
    pub(super) fn refused(&mut self) {
        self.counts = true;
    }

    /// Nobody tells of pods any more: what was known is no demand.
    pub(super) fn forget_demand(&mut self) {
        self.known.values_mut().for_each(|kept| kept.is_demand = false);
    }

    /// Pods that will ask for an address, or are asking.
    pub(super) fn bound(&self) -> BTreeSet<PodRef> {
        self.known.iter().filter(|(_, kept)| kept.is_demand).map(|(name, _)| name.clone()).collect()
    }

    /// It shows this now, as the watch is going to tell.
    pub(super) fn annotated(&mut self, pod: &PodRef, value: String) {
        if let Some(kept) = self.known.get_mut(pod) {
            kept.annotation = Some(value);
        }
    }

    /// It is gone, or another of its name is there: the watch is going to tell.
    pub(super) fn forget(&mut self, pod: &PodRef) {
        self.known.remove(pod);
    }

    pub(super) fn get(&self, pod: &PodRef) -> Option<&Kept> {
        self.known.get(pod)
    }

    fn read(&self, pod: &Pod) -> Read {
        let status = pod.status.as_ref();
        let finished = status.is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed"));
        let served = status.is_some_and(|status| !status.pod_ip.is_empty());
        let leaving = pod.metadata.deletion_timestamp.is_some();
        if pod.spec.host_network {
            return if finished { Read::Nothing } else { Read::OnHost };
        }
        let kept = Kept {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            is_demand: !(finished || served || leaving),
            annotation: pod.metadata.annotations.as_ref().and_then(|all| all.get(KEY)).cloned(),
        };
        if kept.is_demand || self.keeps_all { Read::Pod(kept) } else { Read::Nothing }
    }
}

/// Whether anything is different by it.
fn keep(known: &mut BTreeMap<PodRef, Kept>, on_host: &mut BTreeSet<PodRef>, name: PodRef, read: Read) -> bool {
    match read {
        Read::OnHost => known.remove(&name).is_some() | on_host.insert(name),
        Read::Pod(kept) => on_host.remove(&name) | (known.insert(name, kept.clone()) != Some(kept)),
        Read::Nothing => known.remove(&name).is_some() | on_host.remove(&name),
    }
}

fn name(pod: &Pod) -> Option<PodRef> {
    Some(PodRef { namespace: pod.metadata.namespace.clone()?, name: pod.metadata.name.clone()? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: Value, status: Value) -> Pod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec, "status": status,
            "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") },
        }))
        .unwrap()
    }

    fn names(pods: &Pods) -> Vec<String> {
        pods.bound().into_iter().map(|pod| pod.name).collect()
    }

    #[test]
    fn pods_that_will_ask_are_demand_and_others_are_not() {
        let mut leaving = pod("leaving", json!({}), json!({ "phase": "Pending" }));
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let cases = [
            (pod("new", json!({ "nodeName": "n1" }), json!({ "phase": "Pending" })), true),
            (pod("starting", json!({}), json!({ "phase": "Pending", "hostIP": "10.0.0.1" })), true),
            (pod("recreated", json!({}), json!({ "phase": "Running" })), true),
            (pod("host", json!({ "hostNetwork": true }), json!({ "phase": "Pending" })), false),
            (pod("done", json!({}), json!({ "phase": "Succeeded" })), false),
            (pod("failed", json!({}), json!({ "phase": "Failed" })), false),
            (pod("served", json!({}), json!({ "phase": "Running", "podIP": "10.0.1.5" })), false),
            (leaving, false),
        ];
        for (pod, wanted) in cases {
            let mut pods = Pods::new(false);
            let name = pod.metadata.name.clone().unwrap();
            let counts = pod.spec.host_network;
            assert_eq!(pods.apply(Event::Apply(pod)), wanted || counts, "{name}");
            assert_eq!((pods.bound().len(), pods.on_host.len()), (usize::from(wanted), usize::from(counts)), "{name}");
            assert_eq!(pods.known.len(), usize::from(wanted), "nothing else is kept");
        }
    }

    #[test]
    fn a_list_replaces_what_was_known_when_it_is_whole() {
        let mut pods = Pods::new(false);
        let waiting = |name: &str| pod(name, json!({}), json!({ "phase": "Pending" }));
        assert!(pods.apply(Event::Apply(waiting("a"))));
        assert!(!pods.apply(Event::Apply(waiting("a"))), "nothing new");
        pods.apply(Event::Init);
        pods.apply(Event::InitApply(waiting("b")));
        assert_eq!(names(&pods), ["a"]);
        assert!(pods.apply(Event::InitDone));
        assert_eq!(names(&pods), ["b"]);
        assert!(pods.apply(Event::Apply(pod("b", json!({}), json!({ "podIP": "10.0.1.5" })))));
        assert_eq!(names(&pods), [""; 0]);
        pods.apply(Event::Apply(waiting("c")));
        assert!(pods.apply(Event::Delete(waiting("c"))));
        pods.apply(Event::Apply(waiting("d")));
        pods.forget_demand();
        assert_eq!(names(&pods), [""; 0]);
    }

    #[test]
    fn pods_on_the_hosts_network_are_counted_until_they_are_finished_or_gone() {
        let mut pods = Pods::new(true);
        let host = |name: &str, phase: &str| pod(name, json!({ "hostNetwork": true }), json!({ "phase": phase }));
        pods.apply(Event::Init);
        for name in ["proxy", "node", "job"] {
            pods.apply(Event::InitApply(host(name, "Running")));
        }
        assert_eq!(pods.on_host(), None, "a list that is not whole");
        assert!(pods.apply(Event::InitDone));
        assert_eq!(pods.on_host(), Some(3));
        assert!(!pods.apply(Event::Apply(host("node", "Running"))), "nothing new");
        assert!(pods.apply(Event::Apply(host("job", "Succeeded"))));
        assert!(pods.apply(Event::Delete(host("node", "Running"))));
        assert_eq!((pods.on_host(), pods.bound().len(), pods.known.len()), (Some(1), 0, 0));
        // Another pod of the same name.
        assert!(pods.apply(Event::Apply(pod("proxy", json!({}), json!({ "phase": "Pending" })))));
        assert_eq!((pods.on_host(), pods.bound().len()), (Some(0), 1));
        assert!(pods.apply(Event::Apply(host("proxy", "Pending"))));
        assert_eq!((pods.on_host(), pods.bound().len()), (Some(1), 0));
    }

    #[test]
    fn a_list_without_pods_and_one_that_may_not_be_had_say_that_none_is_known_on_the_host() {
        let mut pods = Pods::new(false);
        pods.apply(Event::Init);
        assert!(pods.apply(Event::InitDone), "the first word");
        assert_eq!(pods.on_host(), Some(0));
        pods.apply(Event::Init);
        assert!(!pods.apply(Event::InitDone), "nothing new");
        let mut pods = Pods::new(false);
        pods.refused();
        assert_eq!(pods.on_host(), Some(0));
    }

    #[test]
    fn where_pods_are_annotated_all_of_the_pod_network_are_kept() {
        let mut pods = Pods::new(true);
        let mut served = pod("served", json!({}), json!({ "podIP": "10.0.1.5" }));
        served.metadata.annotations = Some([(KEY.to_owned(), "10.0.1.5".to_owned())].into());
        pods.apply(Event::Apply(served));
        pods.apply(Event::Apply(pod("host", json!({ "hostNetwork": true }), json!({}))));
        assert_eq!(pods.bound().len(), 0);
        let served = PodRef { namespace: "shop".to_owned(), name: "served".to_owned() };
        assert_eq!(pods.get(&served).and_then(|kept| kept.annotation.as_deref()), Some("10.0.1.5"));
        assert_eq!(pods.known.len(), 1);
    }
}
