// SPDX-License-Identifier: Apache-2.0
//! The rights at the Kubernetes API: one rule a feature, and nothing for a feature that is off.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::charts::{object, rendered};

/// `group/resource verb`, of all rules of the cluster's role.
fn rights(values: &str) -> BTreeSet<String> {
    rights_of(values, "ClusterRole")
}

/// The same of a role of this kind; of a rule for one object, its name in brackets.
fn rights_of(values: &str, kind: &str) -> BTreeSet<String> {
    let objects = rendered(values);
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in object(&objects, kind, "enid")["rules"].as_array().unwrap() {
        let names: String = list(&rule["resourceNames"]).iter().map(|name| format!("[{name}]")).collect();
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                let resource = format!("{resource}{names}");
                rights.extend(list(&rule["verbs"]).iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    rights
}

fn set(rights: &[&str]) -> BTreeSet<String> {
    rights.iter().map(|right| (*right).to_owned()).collect()
}

const READS: [&str; 4] = ["/nodes list", "/nodes watch", "/pods list", "/pods watch"];

#[test]
fn each_feature_adds_its_own_rights_and_no_others() {
    let none = "features: {events: false, nodeCondition: false";
    let least = rights(&format!("{none}}}"));
    assert_eq!(least, set(&READS));
    for (feature, added) in [
        ("events: true", vec!["events.k8s.io/events create", "events.k8s.io/events patch"]),
        ("nodeCondition: true", vec!["/nodes/status patch"]),
        ("annotatePodIP: true", vec!["/pods patch"]),
        ("startupTaint: true", vec!["/nodes patch"]),
        ("fullTaint: true", vec!["/nodes patch"]),
        (
            "customNetworking: true",
            vec!["crd.k8s.amazonaws.com/eniconfigs list", "crd.k8s.amazonaws.com/eniconfigs watch"],
        ),
        (
            "podENI: true",
            vec![
                "vpcresources.k8s.aws/cninodes get",
                "vpcresources.k8s.aws/cninodes list",
                "vpcresources.k8s.aws/cninodes patch",
                "vpcresources.k8s.aws/cninodes watch",
            ],
        ),
    ] {
        let name = feature.split(':').next().unwrap();
        let values = match name {
            "events" => "features: {nodeCondition: false}".to_owned(),
            "nodeCondition" => "features: {events: false}".to_owned(),
            _ => format!("{none}, {feature}}}"),
        };
        let got: BTreeSet<String> = rights(&values).difference(&least).cloned().collect();
        assert_eq!(got, set(&added), "{feature}");
    }
}

#[test]
fn the_election_has_rights_to_its_own_lease_alone_and_to_make_one_in_the_releases_namespace() {
    let leases = ["leases create", "leases[enid-sweeper] get", "leases[enid-sweeper] patch"];
    let wanted: BTreeSet<String> = leases.iter().map(|right| format!("coordination.k8s.io/{right}")).collect();
    assert_eq!(rights_of("{}", "Role"), wanted);
    let objects = rendered("{}");
    let (role, binding) = (object(&objects, "Role", "enid"), object(&objects, "RoleBinding", "enid"));
    for it in [role, binding, &binding["subjects"][0]] {
        assert_eq!(it["metadata"]["namespace"].as_str().or(it["namespace"].as_str()), Some("kube-system"));
    }
    let daemon_set = object(&objects, "DaemonSet", "enid").to_string();
    assert!(daemon_set.contains("MY_POD_NAMESPACE") && daemon_set.contains("metadata.namespace"));
    let without = rendered("features: {sweeper: false}");
    assert!(without.iter().all(|it| it["kind"] != "Role" && it["kind"] != "RoleBinding"));
}

#[test]
fn without_the_api_there_is_no_role_and_no_token() {
    let objects = rendered("features: {kubernetes: false}");
    let kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    assert!(objects.iter().all(|it| kinds.iter().all(|kind| it["kind"] != *kind)));
    let pod = &object(&objects, "DaemonSet", "enid")["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
}

#[test]
fn the_account_is_the_one_that_is_named_in_pod_and_binding() {
    let role = "arn:aws:iam::111122223333:role/enid";
    for (values, name, made) in [
        ("{}".to_owned(), "enid", true),
        ("serviceAccount: {create: false, name: aws-node}".to_owned(), "aws-node", false),
        (format!("serviceAccount: {{annotations: {{eks.amazonaws.com/role-arn: '{role}'}}}}"), "enid", true),
    ] {
        let objects = rendered(&values);
        let accounts: Vec<&Value> = objects.iter().filter(|it| it["kind"] == "ServiceAccount").collect();
        assert_eq!(accounts.len(), usize::from(made), "{values}");
        if values.contains(role) {
            assert_eq!(accounts[0]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], role);
        }
        let subject = &object(&objects, "ClusterRoleBinding", "enid")["subjects"][0];
        assert_eq!((&subject["name"], &subject["namespace"]), (&Value::from(name), &Value::from("kube-system")));
        assert_eq!(object(&objects, "DaemonSet", "enid")["spec"]["template"]["spec"]["serviceAccountName"], name);
    }
}
