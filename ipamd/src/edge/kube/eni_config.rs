// SPDX-License-Identifier: Apache-2.0
//! Custom networking: which ENIConfig a Node names, and what that one says. Pure.
//!
//! The name, the first that is there: the label `vpc.amazonaws.com/externalEniConfig`, the annotation, the label (whose keys
//! are settings), `default`: amazon-vpc-cni-k8s' order. Of the object, `spec.subnet` and `spec.securityGroups` are that one's
//! too, `spec.subnets` is ours:
//!
//! ```text
//! spec:
//!   securityGroups: [sg-…]          # none: the primary ENI's
//!   subnets:                        # where it is there it counts, and subnet is for amazon-vpc-cni-k8s alone
//!     - {id: subnet-…, order: 0, weight: 3}
//!     - {tags: {team: a}, order: 1} # every subnet of the zone that has all of them; order 0 and weight 1 unless said
//! ```
//!
//! What is wrong with one entry of `subnets` is that entry's; what is wrong with anything else leaves no policy: groups that
//! cannot be read must not become others. Other fields of `spec` are nobody's and ignored, those of an entry are mistakes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ipamd_core::config::EniConfigKeys;
use ipamd_core::ids::{SecurityGroupId, SubnetId};
use ipamd_core::pod_network::{
    EXTERNAL_LABEL, EniConfigName, NameSource, PodNetwork, PodNetworkPolicy, PodSubnet, PodSubnetRef,
};
use kube::api::ApiResource;
use serde_json::{Map, Value};

use super::node::View;

/// The name of the ENIConfig of a Node that names none.
const DEFAULT: &str = "default";
/// The most that an order or a weight may be.
const MOST: u64 = 1_000;
/// What an object may be called (RFC 1123, as Kubernetes has it).
const LONGEST_NAME: usize = 253;

/// Where ENIConfigs are found.
pub(super) fn resource() -> ApiResource {
    ApiResource {
        group: "crd.k8s.amazonaws.com".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "crd.k8s.amazonaws.com/v1alpha1".to_owned(),
        kind: "ENIConfig".to_owned(),
        plural: "eniconfigs".to_owned(),
    }
}

/// The ENIConfig that a Node names. An empty name is none.
pub(super) fn name_of(view: &View, keys: &EniConfigKeys) -> EniConfigName {
    let label = |key: &str| view.labels.get(key).filter(|name| !name.is_empty()).cloned();
    let annotation = view.annotations.get(&keys.annotation).filter(|name| !name.is_empty()).cloned();
    let named = label(EXTERNAL_LABEL)
        .map(|name| (name, NameSource::ExternalLabel))
        .or_else(|| annotation.map(|name| (name, NameSource::Annotation(keys.annotation.clone()))))
        .or_else(|| label(&keys.label).map(|name| (name, NameSource::Label(keys.label.clone()))));
    let (name, source) = named.unwrap_or_else(|| (DEFAULT.to_owned(), NameSource::Default));
    EniConfigName { name, source }
}

/// Whether an object can have that name; one that none can have is not asked for.
pub(super) fn is_name(name: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |text: &str| {
        text.bytes().next().is_some_and(|byte| letter(&byte)) && text.bytes().last().is_some_and(|byte| letter(&byte))
    };
    name.len() <= LONGEST_NAME
        && name.split('.').all(|part| ends(part) && part.bytes().all(|byte| letter(&byte) || byte == b'-'))
}

/// There is none of that name.
pub(super) fn absent(eni_config: EniConfigName) -> PodNetwork {
    let cause = if is_name(&eni_config.name) {
        "is not there: create it, or have the node name another one"
    } else {
        "cannot be: no object can have that name"
    };
    PodNetwork::Missing { eni_config, cause: cause.to_owned() }
}

/// None can be read, by the API server's answer; `None`: it may be an answer of the moment.
pub(super) fn refused(code: u16) -> Option<String> {
    let cause = match code {
        403 => {
            "cannot be read: the API server refuses it (403); give the daemon's account list and watch of eniconfigs \
             (the chart's features.customNetworking)"
        }
        404 => {
            "cannot be there: the API server knows no such kind (404); install the CustomResourceDefinition \
             eniconfigs.crd.k8s.amazonaws.com"
        }
        _ => return None,
    };
    Some(cause.to_owned())
}

/// What an ENIConfig says; `data`: the object without its metadata.
pub(super) fn read(eni_config: EniConfigName, data: &Value) -> PodNetwork {
    let read = || -> Result<_, String> {
        let spec = data.get("spec").and_then(Value::as_object).ok_or("has no spec")?;
        Ok((groups(spec)?, subnets(spec)?))
    };
    match read() {
        Ok((security_group_ids, subnets)) => {
            PodNetwork::Policy(PodNetworkPolicy { eni_config, security_group_ids, subnets })
        }
        Err(cause) => PodNetwork::Missing { eni_config, cause },
    }
}

/// A field that is there; `null` counts as not.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// An id as EC2 spells it: prefix and 8 or 17 hexadecimal digits.
fn is_id(text: &str, prefix: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(prefix).is_some_and(|rest| matches!(rest.len(), 8 | 17) && rest.bytes().all(hex))
}

fn groups(spec: &Map<String, Value>) -> Result<Vec<SecurityGroupId>, String> {
    let Some(value) = field(spec, "securityGroups") else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| format!("has a spec.securityGroups that is no list: {value}"))?;
    let group = |(index, value): (usize, &Value)| match value.as_str().filter(|text| is_id(text, "sg-")) {
        Some(id) => Ok(SecurityGroupId::from(id)),
        None => Err(format!("has a spec.securityGroups[{index}] that is no id such as sg-0123456789abcdef0: {value}")),
    };
    list.iter().enumerate().map(group).collect()
}

fn subnets(spec: &Map<String, Value>) -> Result<Vec<PodSubnet>, String> {
    if let Some(value) = field(spec, "subnets") {
        let list = value.as_array().ok_or_else(|| format!("has a spec.subnets that is no list: {value}"))?;
        if list.is_empty() {
            return Err("has an empty list spec.subnets".to_owned());
        }
        return Ok(list.iter().enumerate().map(|(index, entry)| subnet(index, entry)).collect());
    }
    let value = field(spec, "subnet").ok_or("names no subnet: neither spec.subnet nor spec.subnets is there")?;
    let which = id("spec.subnet", value);
    Ok(vec![PodSubnet { which, order: 0, weight: NonZeroU32::MIN }])
}

fn faulty(field: &str, problem: impl Into<String>) -> PodSubnetRef {
    PodSubnetRef::Faulty { field: field.to_owned(), problem: problem.into() }
}

fn id(field: &str, value: &Value) -> PodSubnetRef {
    match value.as_str().filter(|text| is_id(text, "subnet-")) {
        Some(id) => PodSubnetRef::Id(SubnetId::from(id)),
        None => faulty(field, format!("no id such as subnet-0123456789abcdef0: {value}")),
    }
}

/// One entry of `spec.subnets`.
fn subnet(index: usize, value: &Value) -> PodSubnet {
    let name = format!("spec.subnets[{index}]");
    let whole = |problem: String| PodSubnet { which: faulty(&name, problem), order: 0, weight: NonZeroU32::MIN };
    let Some(entry) = value.as_object() else { return whole(format!("no object: {value}")) };
    if let Some(unknown) = entry.keys().find(|key| !["id", "tags", "order", "weight"].contains(&key.as_str())) {
        return whole(format!("there is no field {unknown}; there are id, tags, order and weight"));
    }
    let number = |key: &str, usual: u64, least: u64| match field(entry, key) {
        None => Ok(usual),
        Some(value) => value
            .as_u64()
            .filter(|number| (least..=MOST).contains(number))
            .ok_or_else(|| format!("{key} is a whole number from {least} to {MOST}, not {value}")),
    };
    let (order, weight) = match (number("order", 0, 0), number("weight", 1, 1)) {
        (Ok(order), Ok(weight)) => (order, weight),
        (Err(problem), _) | (_, Err(problem)) => return whole(problem),
    };
    let which = match (field(entry, "id"), field(entry, "tags")) {
        (Some(value), None) => id(&format!("{name}.id"), value),
        (None, Some(value)) => tags(&format!("{name}.tags"), value),
        (Some(_), Some(_)) => faulty(&name, "both id and tags are there; one of them is allowed"),
        (None, None) => faulty(&name, "neither id nor tags is there"),
    };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    PodSubnet { which, order: small(order), weight: NonZeroU32::new(small(weight)).unwrap_or(NonZeroU32::MIN) }
}

fn tags(field: &str, value: &Value) -> PodSubnetRef {
    let Some(object) = value.as_object().filter(|object| !object.is_empty()) else {
        return faulty(field, format!("no object of at least one tag: {value}"));
    };
    let tag = |(key, value): (&String, &Value)| value.as_str().map(|value| (key.clone(), value.to_owned()));
    let tags: Option<BTreeMap<String, String>> = object.iter().map(tag).collect();
    tags.map_or_else(|| faulty(field, format!("values must be texts: {value}")), PodSubnetRef::Tags)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "subnet-0123456789abcdef0";
    const GROUP: &str = "sg-01234567";

    fn map(pairs: &[(&str, &str)]) -> Value {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect::<Map<_, _>>().into()
    }

    fn view(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> View {
        let metadata = json!({ "name": "n1", "labels": map(labels), "annotations": map(annotations) });
        View::of(serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap())
    }

    fn read_spec(spec: Value) -> PodNetwork {
        let eni_config = EniConfigName { name: "blue".to_owned(), source: NameSource::Default };
        read(eni_config, &json!({ "spec": spec }))
    }

    fn policy(spec: Value) -> PodNetworkPolicy {
        match read_spec(spec) {
            PodNetwork::Policy(policy) => policy,
            PodNetwork::Missing { cause, .. } => panic!("{cause}"),
        }
    }

    fn cause(spec: Value) -> String {
        match read_spec(spec) {
            PodNetwork::Missing { cause, .. } => cause,
            PodNetwork::Policy(policy) => panic!("{policy:?}"),
        }
    }

    #[test]
    fn the_name_is_the_external_label_s_then_the_annotation_s_then_the_label_s_then_default() {
        let usual = EniConfigKeys::default();
        let zone = EniConfigKeys { annotation: "team/net".to_owned(), label: "topology.kubernetes.io/zone".to_owned() };
        const KEY: &str = "k8s.amazonaws.com/eniConfig";
        let external = (EXTERNAL_LABEL, "external");
        for (view, keys, wanted) in [
            (
                view(&[external, (KEY, "label")], &[(KEY, "annotation")]),
                &usual,
                ("external", NameSource::ExternalLabel),
            ),
            (
                view(&[(KEY, "label")], &[(KEY, "annotation")]),
                &usual,
                ("annotation", NameSource::Annotation(KEY.to_owned())),
            ),
            (view(&[(KEY, "label")], &[(KEY, "")]), &usual, ("label", NameSource::Label(KEY.to_owned()))),
            (view(&[], &[]), &usual, ("default", NameSource::Default)),
            (view(&[(KEY, "label")], &[]), &zone, ("default", NameSource::Default)),
            (view(&[(&zone.label, "us-east-1a")], &[]), &zone, ("us-east-1a", NameSource::Label(zone.label.clone()))),
        ] {
            let name = name_of(&view, keys);
            assert_eq!((name.name.as_str(), name.source), wanted);
        }
    }

    #[test]
    fn names_that_no_object_can_have_are_told_from_those_that_one_may() {
        for name in ["default", "us-east-1a", "a.b-c.d0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "A", "a,metadata.name=b", "a b", "-a", "a.", "a=b", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_amazon_vpc_cni_takes_is_taken() {
        let read = policy(json!({ "subnet": ID, "securityGroups": [GROUP], "somethingElse": 1 }));
        assert_eq!(read.security_group_ids, [SecurityGroupId::from(GROUP)]);
        let wanted = PodSubnet { which: PodSubnetRef::Id(ID.into()), order: 0, weight: NonZeroU32::MIN };
        assert_eq!(read.subnets, [wanted]);
        assert!(policy(json!({ "subnet": ID })).security_group_ids.is_empty());
        assert!(policy(json!({ "subnet": ID, "securityGroups": null })).security_group_ids.is_empty());
    }

    #[test]
    fn a_list_of_subnets_has_order_and_weight_and_goes_before_the_one_subnet() {
        let read = policy(json!({ "subnet": "subnet-01234567", "subnets": [
            { "id": ID, "weight": 3 }, { "tags": { "team": "a", "pods": "yes" }, "order": 1 },
        ] }));
        let shown: Vec<_> =
            read.subnets.iter().map(|subnet| (subnet.which.to_string(), subnet.order, subnet.weight.get())).collect();
        assert_eq!(shown, [(ID.to_owned(), 0, 3), ("subnets with pods=yes, team=a".to_owned(), 1, 1)]);
    }

    #[test]
    fn a_mistake_in_an_entry_is_named_and_the_other_entries_stand() {
        for (entry, field, problem) in [
            (json!({ "id": "subnet-xyz" }), "spec.subnets[1].id", "no id such as subnet-"),
            (json!({ "id": 7 }), "spec.subnets[1].id", "no id such as subnet-"),
            (json!({}), "spec.subnets[1]", "neither id nor tags"),
            (json!("subnet-01234567"), "spec.subnets[1]", "no object"),
            (json!({ "id": ID, "tags": { "a": "b" } }), "spec.subnets[1]", "both id and tags"),
            (json!({ "tags": {} }), "spec.subnets[1].tags", "at least one tag"),
            (json!({ "tags": { "a": 1 } }), "spec.subnets[1].tags", "values must be texts"),
            (json!({ "id": ID, "weight": 0 }), "spec.subnets[1]", "weight is a whole number from 1 to 1000, not 0"),
            (json!({ "id": ID, "order": -1 }), "spec.subnets[1]", "order is a whole number from 0 to 1000, not -1"),
            (json!({ "id": ID, "wieght": 3 }), "spec.subnets[1]", "there is no field wieght"),
        ] {
            let read = policy(json!({ "subnets": [{ "id": ID }, entry] }));
            assert_eq!(read.subnets[0].which, PodSubnetRef::Id(ID.into()));
            let PodSubnetRef::Faulty { field: found, problem: told } = &read.subnets[1].which else {
                panic!("{:?}", read.subnets[1])
            };
            assert_eq!(found, field);
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn a_mistake_elsewhere_leaves_no_policy_and_names_the_field() {
        for (spec, part) in [
            (json!(null), "has no spec"),
            (json!("x"), "has no spec"),
            (json!({}), "neither spec.subnet nor spec.subnets"),
            (json!({ "subnets": [] }), "empty list spec.subnets"),
            (json!({ "subnets": {} }), "spec.subnets that is no list"),
            (json!({ "subnet": ID, "securityGroups": "sg-01234567" }), "spec.securityGroups that is no list"),
            (json!({ "subnet": ID, "securityGroups": [GROUP, "default"] }), "spec.securityGroups[1] that is no id"),
        ] {
            assert!(cause(spec.clone()).contains(part), "{spec}");
        }
        let read = policy(json!({ "subnet": "subnet-1" }));
        assert!(matches!(&read.subnets[0].which, PodSubnetRef::Faulty { field, .. } if field == "spec.subnet"));
    }
}
