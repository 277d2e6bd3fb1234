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
    /// The taint that the node was started with (`ENID_STARTUP_TAINT`).
    pub startup_taint: Option<Taint>,
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

pub(super) fn read(reader: &mut Reader<'_>) -> KubernetesConfig {
    let port = reader.number("KUBERNETES_SERVICE_PORT", 1, 65_535);
    KubernetesConfig {
        node_name: reader.text("MY_NODE_NAME"),
        kubeconfig: optional_path(reader, "KUBECONFIG"),
        endpoint: reader.text("CLUSTER_ENDPOINT"),
        service_port: port.and_then(|port| u16::try_from(port).ok()),
        annotates_pods: reader.boolean("ANNOTATE_POD_IP", false),
        startup_taint: startup_taint(reader),
    }
}

fn startup_taint(reader: &mut Reader<'_>) -> Option<Taint> {
    const NAME: &str = "ENID_STARTUP_TAINT";
    let text = reader.text(NAME)?;
    let taint = text.split_once(':').filter(|(key, effect)| is_key(key) && EFFECTS.contains(effect));
    if taint.is_none() {
        reader.error(
            NAME,
            &text,
            format!("a key and one of {}, as in a.b/c:NoSchedule, are allowed", EFFECTS.join(", ")),
        );
    }
    taint.map(|(key, effect)| Taint { key: key.to_owned(), effect: effect.to_owned() })
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
        ]))
        .unwrap();
        assert_eq!(notes, []);
        let taint = Taint { key: "enid.dev/starting".to_owned(), effect: "NoSchedule".to_owned() };
        let wanted = KubernetesConfig {
            node_name: Some("ip-10-0-0-1.ec2.internal".to_owned()),
            kubeconfig: Some(PathBuf::from("/etc/enid/kubeconfig")),
            endpoint: None,
            service_port: Some(6443),
            annotates_pods: true,
            startup_taint: Some(taint),
        };
        assert_eq!(config.kubernetes, wanted);
    }

    #[test]
    fn without_a_node_name_what_would_be_written_is_named() {
        let (_, notes) =
            parse(&source(&[("ANNOTATE_POD_IP", "true"), ("ENID_STARTUP_TAINT", "a/b:NoExecute")])).unwrap();
        let named: Vec<_> = notes.iter().map(|note| note.variable).collect();
        assert_eq!(named, ["ANNOTATE_POD_IP", "ENID_STARTUP_TAINT"]);
    }

    #[test]
    fn a_taint_is_a_key_and_an_effect_that_there_is() {
        for wrong in ["enid.dev/starting", ":NoSchedule", "a:noschedule", "a=b:NoSchedule", "a b:NoSchedule"] {
            let errors = parse(&source(&[("ENID_STARTUP_TAINT", wrong)])).expect_err(wrong);
            assert_eq!(errors[0].variable, "ENID_STARTUP_TAINT", "{wrong}");
        }
    }
}
