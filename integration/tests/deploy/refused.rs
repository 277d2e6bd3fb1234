// SPDX-License-Identifier: Apache-2.0
//! Wrong values end an install, and the message has the name of what is wrong.

use crate::charts::helm;

fn refusal(values: &str) -> String {
    match helm(&["template", "enid", "--namespace", "kube-system"], values) {
        Err(said) => said,
        Ok(_) => panic!("taken: {values}"),
    }
}

#[test]
fn what_the_schema_does_not_know_is_refused_by_its_name() {
    for (values, named) in [
        ("env: {WARM_IP_TARGETS: 5}", "WARM_IP_TARGETS"),
        ("env: {WARM_IP_TARGET: five}", "WARM_IP_TARGET"),
        ("env: {WARM_IP_TARGET: -1}", "WARM_IP_TARGET"),
        ("env: {ENABLE_PREFIX_DELEGATION: maybe}", "ENABLE_PREFIX_DELEGATION"),
        ("env: {ENABLE_IPv6: true}", "ENABLE_IPv6"),
        ("env: {ENID_LAYOUT: round}", "ENID_LAYOUT"),
        ("env: {MY_NODE_NAME: n}", "MY_NODE_NAME"),
        ("env: {MY_POD_NAMESPACE: n}", "MY_POD_NAMESPACE"),
        ("nodeClasses: {classes: {large: {env: {WARM_IP_TARGETS: 5}}}}", "WARM_IP_TARGETS"),
        ("nodeClasses: {classes: {Large: {}}}", "Large"),
        ("nodeClasses: {classes: {none: {}}}", "none"),
        ("nodeClass: {}", "nodeClass"),
        ("image: {tags: v1}", "tags"),
        ("image: {digest: abc}", "digest"),
        ("image: {pullPolicy: Sometimes}", "pullPolicy"),
        ("features: {kubernets: true}", "kubernets"),
        ("takeover: {mode: both}", "mode"),
        ("podLabels: {enid-class: x}", "enid-class"),
        ("podMonitor: {interval: 30}", "interval"),
        ("nodeAgent: {metricsBindAddr: 99999}", "metricsBindAddr"),
        ("runtimeSocket: containerd.sock", "runtimeSocket"),
        ("livenessProbeTimeoutSeconds: 0", "livenessProbeTimeoutSeconds"),
        ("extraEnv: [{nam: x}]", "nam"),
        ("updateStrategy: {type: Recreate}", "type"),
        ("serviceAccount: {annotations: {a: 1}}", "annotations"),
        ("settings: {classes: [{name: a, settings: {WARM_IP_TARGETS: 5}}]}", "WARM_IP_TARGETS"),
        ("settings: {classes: [{name: a, settings: {ENID_LAYOUT: flat}}]}", "ENID_LAYOUT"),
        ("settings: {classes: [{name: a, settings: {WARM_IP_TARGET: five}}]}", "WARM_IP_TARGET"),
        ("settings: {classes: [{name: a, selector: {zones: []}, settings: {}}]}", "zones"),
        ("settings: {classes: [{name: a, selector: {instanceType: [x]}, settings: {}}]}", "instanceType"),
        ("settings: {classes: [{settings: {}}]}", "name"),
    ] {
        let said = refusal(values);
        assert!(said.contains("values don't meet the specifications of the schema"), "{values}: {said}");
        assert!(said.contains(named), "{values}: {said}");
    }
}

#[test]
fn values_that_need_each_other_are_refused_with_what_to_do() {
    let digest = "0".repeat(64);
    for (values, named) in [
        ("env: {ANNOTATE_POD_IP: true}".to_owned(), "features.annotatePodIP"),
        ("nodeClasses: {classes: {a: {env: {ANNOTATE_POD_IP: 'T'}}}}".to_owned(), "features.annotatePodIP"),
        ("env: {AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: true}".to_owned(), "features.customNetworking"),
        ("features: {kubernetes: false, startupTaint: true}".to_owned(), "features.startupTaint"),
        ("env: {ENID_FULL_TAINT: 'a/b:NoSchedule'}".to_owned(), "features.fullTaint"),
        ("features: {nodeCondition: false}\nenv: {ENID_EXTENDED_RESOURCE: a.b/c}".to_owned(), "features.nodeCondition"),
        ("env: {NETWORK_POLICY_ENFORCING_MODE: strict}".to_owned(), "nodeAgent.enabled"),
        ("nodeClasses: {classes: {a: {env: {NETWORK_POLICY_ENFORCING_MODE: strict}}}}".to_owned(), "nodeAgent.enabled"),
        ("nodeAgent: {enabled: true}".to_owned(), "nodeAgent.image.repository"),
        (format!("image: {{tag: v1, digest: 'sha256:{digest}'}}"), "image.digest"),
    ] {
        let said = refusal(&values);
        assert!(said.contains(named), "{values}: {said}");
    }
}

#[test]
fn what_the_daemon_takes_the_chart_takes() {
    for values in [
        "env: {WARM_IP_TARGET: '5', WARM_ENI_TARGET: 0}",
        "env: {ENABLE_PREFIX_DELEGATION: 'T', ENABLE_IPv6: 'F', ENABLE_IPv4: true}",
        "env: {HTTPS_PROXY: 'http://user:word@10.0.0.5:3128', HTTP_PROXY: '10.0.0.5:3128', NO_PROXY: '.internal,10.0.0.0/8'}",
        "env: {AWS_ENDPOINT_URL_STS: 'https://sts.us-east-1.amazonaws.com', AWS_ROLE_SESSION_NAME: enid}",
        "env: {ENID_LAYOUT: Classic, AWS_VPC_K8S_CNI_LOGLEVEL: DEBUG}",
        "env: {AWS_VPC_K8S_CNI_CONNMARK: '0x80', ADDITIONAL_ENI_TAGS: '{}'}",
        "global: {anything: 1}",
    ] {
        helm(&["template", "enid"], values).unwrap_or_else(|said| panic!("{values}: {said}"));
    }
}
