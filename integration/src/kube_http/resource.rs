// SPDX-License-Identifier: Apache-2.0
//! The kinds of objects that there are, and where they are found: paths of the API.
//!
//! ```text
//! /api/v1/nodes/n1        /api/v1/namespaces/default/services        /apis/discovery.k8s.io/v1beta1/endpointslices
//!     core group              in one namespace                           of all namespaces
//! ```
//!
//! A kind that somebody's client asks for is a line in [`RESOURCES`].
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts", "Resource URIs".

/// A kind of objects.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// As paths have it.
    pub plural: &'static str,
    /// As objects have it.
    pub kind: &'static str,
    /// Whether objects are in namespaces.
    pub is_namespaced: bool,
}

/// Nodes.
pub static NODES: Resource = core("nodes", "Node", false);
/// Pods.
pub static PODS: Resource = core("pods", "Pod", true);
/// Services.
pub static SERVICES: Resource = core("services", "Service", true);
/// Events, which clients post.
pub static EVENTS: Resource = core("events", "Event", true);
/// Events in the version that clients since Kubernetes 1.19 know. The real server shows one store in both; here they are two.
pub static NEW_EVENTS: Resource =
    Resource { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", is_namespaced: true };
/// Endpoint slices, in the version that clients up to Kubernetes 1.20 know.
pub static ENDPOINT_SLICES: Resource = Resource {
    group: "discovery.k8s.io",
    version: "v1beta1",
    plural: "endpointslices",
    kind: "EndpointSlice",
    is_namespaced: true,
};

/// Who of many does something for all of them.
pub static LEASES: Resource =
    Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease", is_namespaced: true };
/// The reference's: subnet and security groups of pods.
pub static ENI_CONFIGS: Resource = Resource {
    group: "crd.k8s.amazonaws.com",
    version: "v1alpha1",
    plural: "eniconfigs",
    kind: "ENIConfig",
    is_namespaced: false,
};

static RESOURCES: [&Resource; 8] =
    [&NODES, &PODS, &SERVICES, &EVENTS, &NEW_EVENTS, &ENDPOINT_SLICES, &LEASES, &ENI_CONFIGS];

const fn core(plural: &'static str, kind: &'static str, is_namespaced: bool) -> Resource {
    Resource { group: "", version: "v1", plural, kind, is_namespaced }
}

impl Resource {
    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    /// `None`: of all namespaces, or of a kind that has none.
    pub(crate) namespace: Option<String>,
    /// `None`: the collection.
    pub(crate) name: Option<String>,
    /// Whether it is the object's `status` alone.
    pub(crate) is_status: bool,
}

impl Target {
    /// `None`: there is no such path.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let group = match segments.next()? {
            "api" => "",
            "apis" => segments.next()?,
            _ => return None,
        };
        let version = segments.next()?;
        let mut rest: Vec<&str> = segments.collect();
        // Only below an object's name: `namespaces/status/services` is a list.
        let is_status =
            rest.len() == if rest.first() == Some(&"namespaces") { 5 } else { 3 } && rest.last() == Some(&"status");
        if is_status {
            rest.pop();
        }
        let (namespace, plural, name) = match *rest.as_slice() {
            ["namespaces", namespace, plural] => (Some(namespace), plural, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
            [plural] => (None, plural, None),
            [plural, name] => (None, plural, Some(name)),
            _ => return None,
        };
        let is_meant =
            |resource: &&Resource| resource.group == group && resource.version == version && resource.plural == plural;
        let resource = RESOURCES.into_iter().find(is_meant)?;
        // An object of a namespace is named with it; what has no namespace is never named with one.
        let fits = if resource.is_namespaced { namespace.is_some() || name.is_none() } else { namespace.is_none() };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        fits.then(|| Self { resource, namespace: owned(namespace), name: owned(name), is_status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_and_objects() {
        let target = |resource, namespace: Option<&str>, name: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Some(Target { resource, namespace: owned(namespace), name: owned(name), is_status: false })
        };
        let status = |target: Option<Target>| target.map(|target| Target { is_status: true, ..target });
        let cases = [
            ("/api/v1/nodes", target(&NODES, None, None)),
            ("/api/v1/nodes/n1", target(&NODES, None, Some("n1"))),
            ("/api/v1/services", target(&SERVICES, None, None)),
            ("/api/v1/namespaces/default/services", target(&SERVICES, Some("default"), None)),
            ("/api/v1/namespaces/default/services/a", target(&SERVICES, Some("default"), Some("a"))),
            ("/apis/discovery.k8s.io/v1beta1/endpointslices", target(&ENDPOINT_SLICES, None, None)),
            ("/api/v1/services/a", None),
            ("/api/v1/namespaces/default/nodes", None),
            ("/apis/discovery.k8s.io/v1/endpointslices", None),
            ("/api/v1/nodes/n1/status", status(target(&NODES, None, Some("n1")))),
            ("/api/v1/namespaces/a/pods/p/status", status(target(&PODS, Some("a"), Some("p")))),
            ("/api/v1/namespaces/status/services", target(&SERVICES, Some("status"), None)),
            ("/apis/events.k8s.io/v1/namespaces/a/events", target(&NEW_EVENTS, Some("a"), None)),
            ("/api/v1/nodes/n1/proxy", None),
            ("/api/v1/secrets", None),
            ("/healthz", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(Target::of_path(path), wanted, "{path}");
        }
    }
}
