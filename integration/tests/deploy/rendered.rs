// SPDX-License-Identifier: Apache-2.0
//! What the chart renders: valid for every Kubernetes, without privilege, and what its values say.

use serde_json::{Value, json};

use crate::charts::{container, helm, object, objects, rendered, variable};

/// Everything on at once, with values of every type.
const EVERYTHING: &str = "
env: {WARM_IP_TARGET: 1000000, ANNOTATE_POD_IP: true, AWS_VPC_K8S_CNI_RANDOMIZESNAT: hashrandom}
extraEnv:
  - {name: AWS_CA_BUNDLE, value: /ca/bundle.pem}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
features: {annotatePodIP: true, startupTaint: true, fullTaint: true, customNetworking: true, podENI: true}
init: {sysctls: true, env: {HTTP_TIMEOUT: 20}, resources: {requests: {cpu: 10m}}}
nodeAgent: {enabled: true, image: {repository: localhost/agent}, resources: {requests: {cpu: 25m}}}
enableNetworkPolicy: true
podMonitor: {create: true, labels: {release: prometheus}, relabelings: [{action: labeldrop, regex: pod}]}
prometheusRule: {create: true, labels: {release: prometheus}, annotations: {a: b}}
takeover: {mode: perNode}
nodeClasses: {classes: {large: {env: {WARM_IP_TARGET: 20}}, small: {}}}
settings:
  classes:
    - {name: big, selector: {instanceTypes: [m5.*], zones: [a], labels: {size: '1'}}, settings: {WARM_IP_TARGET: 20, MAX_ENI: ''}}
    - {name: all, settings: {ADDITIONAL_ENI_TAGS: {a: b}, ENID_SNAT_INCLUDE_CIDRS: [10.0.0.0/8], IP_COOLDOWN_PERIOD: 86400}}
cleanupHost: {nodes: [ip-10-0-1-2.ec2.internal, ip-10-0-1-3.ec2.internal]}
handBack: {nodes: [ip-10-0-1-2.ec2.internal], finish: [ip-10-0-1-3.ec2.internal]}
serviceAccount: {name: aws-node, annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/enid'}}
podLabels: {k8s-app: aws-node}
podAnnotations: {a: b}
podSecurityContext: {fsGroup: 0}
image: {override: 'registry.example/enid:1'}
imagePullSecrets: [{name: s}]
nodeSelector: {a: b}
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /ca}]
";

/// What `objects` is asked: kinds whose schemas are not Kubernetes' own.
const CUSTOM: [&str; 5] = ["validate", "PodMonitor", "PrometheusRule", "ENIConfig", "CNINode"];

fn render(values: &str) -> String {
    helm(&["template", "enid", "--namespace", "kube-system"], values).unwrap_or_else(|said| panic!("{said}"))
}

#[test]
fn helm_has_no_complaint_about_the_chart() {
    for values in ["{}", EVERYTHING] {
        let said = helm(&["lint", "--strict"], values).unwrap_or_else(|said| panic!("{said}"));
        assert!(said.contains("0 chart(s) failed") && !said.contains("[WARNING]"), "{said}");
    }
}

#[test]
fn every_object_is_valid_in_every_kubernetes_from_1_25_on() {
    let sets = ["{}", EVERYTHING, "features: {kubernetes: false}", "serviceAccount: {create: false, name: aws-node}"];
    for values in sets {
        let objects = objects(&render(values), &CUSTOM).unwrap_or_else(|said| panic!("{values}: {said}"));
        assert!(objects.len() >= 4, "{values}: {} objects", objects.len());
    }
}

#[test]
fn the_alert_rules_of_the_chart_are_those_of_the_file() {
    let rules = std::fs::read_to_string(crate::charts::repository().join("deploy/alerts/enid.yaml")).unwrap();
    let named = rules.matches("- alert: ").count();
    let file = objects(&rules, &[]).unwrap().remove(0);
    let rendered = rendered("prometheusRule: {create: true, labels: {release: prometheus}}");
    let rule = object(&rendered, "PrometheusRule", "enid");
    assert_eq!(rule["spec"], file);
    assert_eq!(rule["spec"]["groups"][0]["rules"].as_array().map(Vec::len), Some(named));
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
}

#[test]
fn an_unknown_field_would_be_found() {
    let wrong = render("{}").replace("hostNetwork: true", "hostNetwork: true\n      hostNetworks: true");
    let said = objects(&wrong, &CUSTOM).unwrap_err();
    assert!(
        said.contains("DaemonSet enid: Kubernetes 1.25: spec.template.spec") && said.contains("hostNetworks"),
        "{said}"
    );
}

#[test]
fn values_of_an_older_chart_that_has_no_settings_render_as_none() {
    let config_map = |values| object(&rendered(values), "ConfigMap", "enid-settings").clone();
    assert_eq!(config_map("settings: null"), config_map("{}"));
}

#[test]
fn no_container_is_privileged_and_each_has_no_more_than_it_needs() {
    let objects = rendered("{}");
    let daemon_set = object(&objects, "DaemonSet", "enid");
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"], json!({"seccompProfile": {"type": "RuntimeDefault"}}));
    assert_eq!(pod["hostNetwork"], json!(true));
    for other in ["hostPID", "hostIPC"] {
        assert!(pod.get(other).is_none(), "{other}");
    }
    let expected = |add: Value| {
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": add},
        })
    };
    assert_eq!(container(daemon_set, "install")["securityContext"], expected(json!(["DAC_OVERRIDE"])));
    assert_eq!(container(daemon_set, "ipamd")["securityContext"], expected(json!(["NET_ADMIN", "NET_RAW"])));
    let without = rendered("netRaw: false");
    let other = object(&without, "DaemonSet", "enid");
    assert_eq!(container(other, "ipamd")["securityContext"], expected(json!(["NET_ADMIN"])));
    let containers = pod["containers"].as_array().unwrap().len() + pod["initContainers"].as_array().unwrap().len();
    assert_eq!(containers, 2, "a container that this test does not know");
}

#[test]
fn only_what_is_asked_for_is_privileged() {
    let objects = rendered("init: {sysctls: true}");
    let daemon_set = object(&objects, "DaemonSet", "enid");
    assert_eq!(container(daemon_set, "install")["securityContext"]["privileged"], json!(true));
    assert!(container(daemon_set, "ipamd")["securityContext"].get("privileged").is_none());
    let text = render("{}");
    assert!(!text.contains("privileged"), "the plain chart has something privileged");
}

#[test]
fn host_folders_are_the_references_and_only_those_that_are_written_are_mounted() {
    let objects = rendered("{}");
    let daemon_set = object(&objects, "DaemonSet", "enid");
    let mounts = |name: &str| {
        let list = container(daemon_set, name)["volumeMounts"].as_array().unwrap().clone();
        let volumes = daemon_set["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let path = |mount: &Value| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let host = volume["hostPath"]["path"].as_str()?;
            Some((host.to_owned(), mount["mountPath"].as_str().unwrap().to_owned()))
        };
        list.iter().filter_map(path).collect::<Vec<_>>()
    };
    let pair = |host: &str, inside: &str| (host.to_owned(), inside.to_owned());
    let state = pair("/var/run/aws-node", "/var/run/aws-node");
    assert_eq!(mounts("install"), [pair("/opt/cni/bin", "/host/opt/cni/bin"), state.clone()]);
    assert_eq!(
        mounts("ipamd"),
        [
            pair("/etc/cni/net.d", "/host/etc/cni/net.d"),
            state,
            pair("/var/log/aws-routed-eni", "/host/var/log/aws-routed-eni"),
        ]
    );
    assert_eq!(variable(container(daemon_set, "ipamd"), "HOST_CNI_CONFDIR_PATH"), Some("/host/etc/cni/net.d"));
    assert_eq!(variable(container(daemon_set, "install"), "HOST_CNI_BIN_PATH"), Some("/host/opt/cni/bin"));
}

#[test]
fn a_class_of_nodes_has_its_own_settings_and_no_node_has_two_daemons() {
    let objects = rendered(
        "env: {WARM_IP_TARGET: 5, ENABLE_PREFIX_DELEGATION: true}\n\
         nodeClasses: {label: size, classes: {large: {env: {WARM_IP_TARGET: 0, ENABLE_PREFIX_DELEGATION: false}}}}",
    );
    let (plain, large) = (object(&objects, "DaemonSet", "enid"), object(&objects, "DaemonSet", "enid-large"));
    let settings = |set| {
        let ipamd = container(set, "ipamd");
        (variable(ipamd, "WARM_IP_TARGET"), variable(ipamd, "ENABLE_PREFIX_DELEGATION"))
    };
    assert_eq!(settings(plain), (Some("5"), Some("true")));
    assert_eq!(settings(large), (Some("0"), Some("false")), "nothing of a class is lost because it is 0 or false");
    let expressions = |set: &Value| {
        let node = &set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
        let terms = &node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms.as_array().unwrap().len(), 1, "terms are alternatives: each would need the class");
        terms[0]["matchExpressions"].as_array().unwrap().clone()
    };
    let of = |operator: &str| json!({"key": "size", "operator": operator, "values": ["large"]});
    assert!(expressions(plain).contains(&of("NotIn")) && expressions(large).contains(&of("In")));
    let selector = |set: &Value| set["spec"]["selector"]["matchLabels"].clone();
    assert_ne!(selector(plain), selector(large));
    for set in [plain, large] {
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        let selected = selector(set);
        assert!(selected.as_object().unwrap().iter().all(|(key, value)| &labels[key] == value), "{labels} {selected}");
    }
}

#[test]
fn no_pod_of_ours_goes_where_aws_node_runs() {
    for values in ["{}", "takeover: {mode: perNode}", "takeover: {mode: ignore}", "podLabels: {k8s-app: aws-node}"] {
        let objects = rendered(values);
        let pod = &object(&objects, "DaemonSet", "enid")["spec"]["template"]["spec"];
        let terms = &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let term = &terms[0];
        assert_eq!((&term["topologyKey"], &term["namespaceSelector"]), (&json!("kubernetes.io/hostname"), &json!({})));
        let expressions = term["labelSelector"]["matchExpressions"].as_array().unwrap();
        assert!(expressions.contains(&json!({"key": "k8s-app", "operator": "In", "values": ["aws-node"]})), "{values}");
        assert!(
            expressions.iter().any(|it| it["operator"] == "NotIn" && it["values"] == json!(["enid"])),
            "not against itself"
        );
        let ports = &pod["containers"][0]["ports"];
        assert_eq!(ports, &json!([{"name": "metrics", "containerPort": 61678, "protocol": "TCP"}]), "aws-node's");
        let per_node = json!({"key": "enid-cni", "operator": "In", "values": ["true"]});
        let node = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let chosen = node["nodeSelectorTerms"][0]["matchExpressions"].as_array().unwrap().contains(&per_node);
        assert_eq!(chosen, values.contains("perNode"), "{values}");
    }
}

#[test]
fn jobs_run_what_they_are_for_and_a_service_called_enid_puts_nothing_into_an_environment() {
    let objects = rendered("cleanupHost: {nodes: [a]}\nhandBack: {nodes: [b], finish: [c]}");
    for it in objects.iter().filter(|it| it["kind"] == "DaemonSet" || it["kind"] == "Job") {
        assert_eq!(it["spec"]["template"]["spec"]["enableServiceLinks"], json!(false));
    }
    let jobs = objects.iter().filter(|it| it["kind"] == "Job").map(|it| &it["spec"]["template"]["spec"]);
    let mut jobs: Vec<_> =
        jobs.map(|pod| (pod["nodeName"].as_str().unwrap(), &pod["containers"][0]["command"])).collect();
    jobs.sort_by_key(|(node, _)| *node);
    let words =
        [json!(["/ipamd", "cleanup-host"]), json!(["/ipamd", "hand-back"]), json!(["/ipamd", "hand-back", "--finish"])];
    assert_eq!(jobs, ["a", "b", "c"].into_iter().zip(&words).collect::<Vec<_>>());
}

#[test]
fn the_agent_comes_with_the_question_for_it_and_the_daemon_asks_nothing_without_it() {
    let objects =
        rendered("nodeAgent: {enabled: true, image: {repository: localhost/agent}}\nenableNetworkPolicy: true");
    let daemon_set = object(&objects, "DaemonSet", "enid");
    assert_eq!(variable(container(daemon_set, "ipamd"), "NETWORK_POLICY_ENFORCING_MODE"), Some("standard"));
    let arguments = container(daemon_set, "aws-eks-nodeagent")["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--enable-network-policy=true")), "{arguments:?}");
    assert_eq!(object(&objects, "ConfigMap", "amazon-vpc-cni")["data"]["enable-network-policy-controller"], "true");
    let strict = rendered(
        "nodeAgent: {enabled: true, image: {repository: localhost/agent}}\nenv: {NETWORK_POLICY_ENFORCING_MODE: strict}",
    );
    let ipamd = container(object(&strict, "DaemonSet", "enid"), "ipamd");
    assert_eq!(variable(ipamd, "NETWORK_POLICY_ENFORCING_MODE"), Some("strict"));
    let without = rendered("{}");
    let ipamd = container(object(&without, "DaemonSet", "enid"), "ipamd");
    assert_eq!(variable(ipamd, "NETWORK_POLICY_ENFORCING_MODE"), None);
    assert!(without.iter().all(|it| it["metadata"]["name"] != "amazon-vpc-cni"));
}

#[test]
fn the_runtime_is_asked_where_its_socket_is_named() {
    let objects = rendered("runtimeSocket: /run/containerd/containerd.sock");
    let daemon_set = object(&objects, "DaemonSet", "enid");
    let ipamd = container(daemon_set, "ipamd");
    assert_eq!(variable(ipamd, "ENID_RUNTIME_ENDPOINT"), Some("/run/containerd/containerd.sock"));
    let mount = json!({"name": "runtime-dir", "mountPath": "/run/containerd", "readOnly": true});
    assert!(ipamd["volumeMounts"].as_array().unwrap().contains(&mount));
    let volume = json!({"name": "runtime-dir", "hostPath": {"path": "/run/containerd", "type": "Directory"}});
    assert!(daemon_set["spec"]["template"]["spec"]["volumes"].as_array().unwrap().contains(&volume));
    let without = rendered("{}");
    let text = object(&without, "DaemonSet", "enid").to_string();
    assert!(!text.contains("runtime-dir") && !text.contains("ENID_RUNTIME_ENDPOINT"));
}

#[test]
fn classes_of_settings_are_a_file_in_the_pod_and_a_change_of_them_starts_no_pod_anew() {
    let class =
        "settings: {classes: [{name: large, selector: {labels: {size: large}}, settings: {WARM_IP_TARGET: 20}}]}";
    let (with, without) = (rendered(class), rendered("{}"));
    let set = object(&with, "DaemonSet", "enid");
    assert_eq!(set, object(&without, "DaemonSet", "enid"), "the first class would restart every daemon");
    let file = variable(container(set, "ipamd"), "ENID_SETTINGS_FILE").unwrap();
    let mounts = container(set, "ipamd")["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "settings").unwrap();
    assert_eq!(mount["readOnly"], json!(true));
    assert!(mount.get("subPath").is_none(), "kubelet would not follow the ConfigMap");
    let key = file.strip_prefix(mount["mountPath"].as_str().unwrap()).unwrap().trim_start_matches('/');
    let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "settings").unwrap();
    let map = object(&with, "ConfigMap", volume["configMap"]["name"].as_str().unwrap());
    let settings = objects(map["data"][key].as_str().unwrap(), &[]).unwrap();
    let wanted = json!([{ "name": "large", "selector": { "labels": { "size": "large" } }, "settings": { "WARM_IP_TARGET": 20 } }]);
    assert_eq!(settings, [json!({ "classes": wanted })]);
    let map = object(&without, "ConfigMap", "enid-settings");
    assert_eq!(map["data"][key], json!("classes: []\n"));
}

#[test]
fn what_the_chart_writes_the_daemon_reads() {
    let ipamd = integration::node::daemon_binary().unwrap();
    for (values, fits) in [("{}", ""), (EVERYTHING, "big")] {
        let objects = rendered(values);
        let map =
            objects.iter().find(|it| it["kind"] == "ConfigMap" && it["data"].get("settings.yaml").is_some()).unwrap();
        let mut command = std::process::Command::new(&ipamd);
        // What the tests are built with is none of its variables.
        command.env_clear();
        command.args(["config", "--file", "-", "--type", "m5.large", "--zone", "a", "--label", "size=1", "-o", "json"]);
        let output = integration::process::fed(&mut command, map["data"]["settings.yaml"].as_str().unwrap()).unwrap();
        assert!(output.status.success(), "{}: {}", ipamd.display(), String::from_utf8_lossy(&output.stderr));
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        let classes = shown["classes"].as_array().unwrap();
        let fitting: Vec<_> =
            classes.iter().filter(|class| class["fits"] == "yes").map(|class| &class["name"]).collect();
        assert_eq!(fitting.contains(&&json!("big")), fits == "big", "{shown}");
    }
}

#[test]
fn the_image_is_what_make_image_builds_or_what_is_named() {
    let image = |values: &str| {
        let objects = rendered(values);
        container(object(&objects, "DaemonSet", "enid"), "ipamd")["image"].as_str().unwrap().to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image("{}"), format!("localhost/enid:{version}"));
    assert_eq!(image("image: {repository: r.example/e, tag: v2}"), "r.example/e:v2");
    let digest = format!("sha256:{}", "0a".repeat(32));
    assert_eq!(
        image(&format!("image: {{repository: r.example/e, digest: '{digest}'}}")),
        format!("r.example/e@{digest}")
    );
}
