// SPDX-License-Identifier: Apache-2.0
//! Settings of the Kubernetes edge: who this node is, where the API server is, and what is written there.
//!
//! The edge is on where `MY_NODE_NAME` is set. Whether a client can be had (a kubeconfig, a service account) is seen by the
//! edge, not here: files come and go while the daemon runs.

use std::path::PathBuf;

use super::fields::optional_path;
use super::read::Reader;

/// How the API server is reached, and what is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The Node that this is (`MY_NODE_NAME`); `None`: the API server is not talked to.
    pub node_name: Option<String>,
    /// The file that says how (`KUBECONFIG`); `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Host or URL in place of the Service's (`CLUSTER_ENDPOINT`).
    pub endpoint: Option<String>,
    /// Port of the Service (`KUBERNETES_SERVICE_PORT`); its host is [`super::Config::service_host`].
    pub service_port: Option<u16>,
    /// Whether pods are annotated with their address (`ANNOTATE_POD_IP`).
    pub annotates_pods: bool,
    /// Where the Node names its ENIConfig.
    pub eni_config_keys: EniConfigKeys,
    /// The taint that the node was started with (`ENID_STARTUP_TAINT`).
    pub startup_taint: Option<Taint>,
    /// The taint of a node that has no address for the next pod (`ENID_FULL_TAINT`).
    pub full_taint: Option<Taint>,
    /// The resource of the Node that counts addresses for pods (`ENID_EXTENDED_RESOURCE`).
    pub extended_resource: Option<String>,
    /// Where the daemon's own objects are (`MY_POD_NAMESPACE`); `None`: in kube-system.
    pub namespace: Option<String>,
}

/// Keys of the Node whose value is the name of its ENIConfig; the annotation goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniConfigKeys {
    /// `ENI_CONFIG_ANNOTATION_DEF`.
    pub annotation: String,
    /// `ENI_CONFIG_LABEL_DEF`.
    pub label: String,
}

impl Default for EniConfigKeys {
    fn default() -> Self {
        let key = "k8s.amazonaws.com/eniConfig".to_owned();
        Self { annotation: key.clone(), label: key }
    }
}

/// A taint of a node, whatever its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Such as `enid.dev/starting`.
    pub key: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Effects that Kubernetes knows (documentation, "Taints and Tolerations").
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Without the one that ends pods: a full node is not an ill one.
const FULL_EFFECTS: [&str; 2] = ["NoSchedule", "PreferNoSchedule"];

pub(super) fn read(reader: &mut Reader<'_>) -> KubernetesConfig {
    let port = reader.number("KUBERNETES_SERVICE_PORT", 1, 65_535);
    let startup_taint = taint(reader, "ENID_STARTUP_TAINT", &EFFECTS);
    let full_taint = full_taint(reader, startup_taint.as_ref());
    KubernetesConfig {
        node_name: reader.text("MY_NODE_NAME"),
        kubeconfig: optional_path(reader, "KUBECONFIG"),
        endpoint: reader.text("CLUSTER_ENDPOINT"),
        service_port: port.and_then(|port| u16::try_from(port).ok()),
        annotates_pods: reader.boolean("ANNOTATE_POD_IP", false),
        eni_config_keys: eni_config_keys(reader),
        startup_taint,
        full_taint,
        extended_resource: extended_resource(reader),
        namespace: reader.text("MY_POD_NAMESPACE"),
    }
}

fn eni_config_keys(reader: &mut Reader<'_>) -> EniConfigKeys {
    let usual = EniConfigKeys::default();
    let mut key = |name: &str, usual: String| match reader.text(name) {
        Some(text) if !is_key(&text) => {
            reader.error(name, &text, "the key of a label or annotation, as in a.b/c, is allowed");
            usual
        }
        text => text.unwrap_or(usual),
    };
    EniConfigKeys {
        annotation: key("ENI_CONFIG_ANNOTATION_DEF", usual.annotation),
        label: key("ENI_CONFIG_LABEL_DEF", usual.label),
    }
}

/// Two of one name would be put on and taken off by turns.
fn full_taint(reader: &mut Reader<'_>, startup: Option<&Taint>) -> Option<Taint> {
    const NAME: &str = "ENID_FULL_TAINT";
    let full = taint(reader, NAME, &FULL_EFFECTS)?;
    if startup == Some(&full) {
        reader.error(NAME, &format!("{}:{}", full.key, full.effect), "is ENID_STARTUP_TAINT too: it must be another");
        return None;
    }
    Some(full)
}

fn taint(reader: &mut Reader<'_>, name: &'static str, effects: &[&str]) -> Option<Taint> {
    let text = reader.text(name)?;
    let taint = text.split_once(':').filter(|(key, effect)| is_key(key) && effects.contains(effect));
    if taint.is_none() {
        reader.error(
            name,
            &text,
            format!("a key and one of {}, as in a.b/c:NoSchedule, are allowed", effects.join(", ")),
        );
    }
    taint.map(|(key, effect)| Taint { key: key.to_owned(), effect: effect.to_owned() })
}

/// As Kubernetes asks of extended resources (documentation, "Advertise Extended Resources for a Node").
fn extended_resource(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "ENID_EXTENDED_RESOURCE";
    let text = reader.text(NAME)?;
    let plain = |part: &str, also: &[u8]| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        part.len() <= 63 && part.bytes().all(inside) && ends(part.as_bytes().first()) && ends(part.as_bytes().last())
    };
    let fits = text.split_once('/').is_some_and(|(domain, name)| {
        let reserved =
            domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || domain.starts_with("requests.");
        !reserved && plain(domain, b"-.") && plain(name, b"-_.")
    });
    if !fits {
        reader.error(NAME, &text, "a domain of one's own and a name, as in enid.dev/address, are allowed");
    }
    Some(text).filter(|_| fits)
}

/// Not all that Kubernetes asks of a key: one that it would refuse is on no node, so nothing is removed.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::parse;
    use super::*;

    fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_edge_is_told_where_and_what() {
        let (config, notes) = parse(&source(&[
            ("MY_NODE_NAME", "ip-10-0-0-1.ec2.internal"),
            ("KUBECONFIG", "/etc/enid/kubeconfig"),
            ("KUBERNETES_SERVICE_PORT", "6443"),
            ("ANNOTATE_POD_IP", "true"),
            ("ENID_STARTUP_TAINT", "enid.dev/starting:NoSchedule"),
            ("ENID_FULL_TAINT", "enid.dev/full:PreferNoSchedule"),
            ("ENID_EXTENDED_RESOURCE", "enid.dev/address"),
            ("MY_POD_NAMESPACE", "network"),
        ]))
        .unwrap();
        assert_eq!(notes, []);
        let taint = |key: &str, effect: &str| Some(Taint { key: key.to_owned(), effect: effect.to_owned() });
        let wanted = KubernetesConfig {
            node_name: Some("ip-10-0-0-1.ec2.internal".to_owned()),
            kubeconfig: Some(PathBuf::from("/etc/enid/kubeconfig")),
            endpoint: None,
            service_port: Some(6443),
            annotates_pods: true,
            eni_config_keys: EniConfigKeys::default(),
            startup_taint: taint("enid.dev/starting", "NoSchedule"),
            full_taint: taint("enid.dev/full", "PreferNoSchedule"),
            extended_resource: Some("enid.dev/address".to_owned()),
            namespace: Some("network".to_owned()),
        };
        assert_eq!(config.kubernetes, wanted);
    }

    #[test]
    fn without_a_node_name_what_would_be_written_is_named() {
        let (_, notes) = parse(&source(&[
            ("ANNOTATE_POD_IP", "true"),
            ("ENID_STARTUP_TAINT", "a/b:NoExecute"),
            ("ENID_FULL_TAINT", "a/b:NoSchedule"),
            ("ENID_EXTENDED_RESOURCE", "a.b/c"),
        ]))
        .unwrap();
        let named: Vec<_> = notes.iter().map(|note| note.variable).collect();
        assert_eq!(named, ["ANNOTATE_POD_IP", "ENID_STARTUP_TAINT", "ENID_FULL_TAINT", "ENID_EXTENDED_RESOURCE"]);
    }

    #[test]
    fn a_taint_is_a_key_and_an_effect_that_there_is() {
        for wrong in ["enid.dev/starting", ":NoSchedule", "a:noschedule", "a=b:NoSchedule", "a b:NoSchedule"] {
            let errors = parse(&source(&[("ENID_STARTUP_TAINT", wrong)])).expect_err(wrong);
            assert_eq!(errors[0].variable, "ENID_STARTUP_TAINT", "{wrong}");
        }
    }

    #[test]
    fn a_full_node_ends_no_pod_and_its_taint_is_not_that_of_the_start() {
        let wrong = |pairs: &[(&str, &str)]| parse(&source(pairs)).expect_err("a mistake").remove(0);
        let error = wrong(&[("ENID_FULL_TAINT", "enid.dev/full:NoExecute")]);
        assert_eq!(error.variable, "ENID_FULL_TAINT");
        assert!(error.problem.contains("NoSchedule, PreferNoSchedule,"), "{error}");
        let both = [("ENID_STARTUP_TAINT", "a/b:NoSchedule"), ("ENID_FULL_TAINT", "a/b:NoSchedule")];
        let error = wrong(&both);
        assert!(error.variable == "ENID_FULL_TAINT" && error.problem.contains("ENID_STARTUP_TAINT"), "{error}");
    }

    #[test]
    fn an_extended_resource_has_a_domain_that_is_not_kubernetes() {
        for right in ["enid.dev/address", "a.b-c.example/pod_IPs.v4"] {
            let (config, _) = parse(&source(&[("ENID_EXTENDED_RESOURCE", right), ("MY_NODE_NAME", "n")])).expect(right);
            assert_eq!(config.kubernetes.extended_resource.as_deref(), Some(right));
        }
        for wrong in
            ["address", "/address", "enid.dev/", "a/b/c", "kubernetes.io/x", "node.kubernetes.io/x", "a b/c", "-a/b"]
        {
            let errors = parse(&source(&[("ENID_EXTENDED_RESOURCE", wrong)])).expect_err(wrong);
            assert_eq!(errors[0].variable, "ENID_EXTENDED_RESOURCE", "{wrong}");
        }
    }
}
