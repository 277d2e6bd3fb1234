// SPDX-License-Identifier: Apache-2.0
//! The tree of IMDS paths: every item with its text, and the listings that follow from them.
//!
//! Source: EC2 user guide, "Instance metadata categories" and "Dynamic data categories"; `network-card-index` is the user
//! guide's name, `network-card` the one that the reference reads, so both are served.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::MacAddr;
use crate::imds::{ImdsEni, ImdsView};

/// Characters of a MAC address.
const MAC_LENGTH: usize = 17;

/// Items by path, without `/latest/`.
pub(super) type Items = BTreeMap<String, String>;

/// What a path says: an item's text, or the names below it, one a line, those of listings with a `/`.
pub(super) fn read(items: &Items, path: &str) -> Option<String> {
    let path = path.strip_prefix("/latest/")?;
    if let Some(text) = items.get(path) {
        return Some(text.clone());
    }
    let trimmed = path.trim_end_matches('/');
    let base = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
    let below = |key: &String| {
        let rest = key.strip_prefix(base.as_str())?;
        Some(match rest.split_once('/') {
            Some((name, _)) => format!("{name}/"),
            None => rest.to_owned(),
        })
    };
    let names: BTreeSet<String> = items.keys().filter_map(below).collect();
    if names.is_empty() {
        return None;
    }
    Some(names.into_iter().collect::<Vec<_>>().join("\n"))
}

/// The items of an instance that a read of `path` can show: of its ENIs only the one that the path names, if it names one.
pub(super) fn items(view: &ImdsView, path: &str) -> Items {
    let mut items = Items::new();
    let mut put = |path: &str, text: String| {
        if !text.is_empty() {
            items.insert(format!("meta-data/{path}"), text);
        }
    };
    put("ami-id", view.image_id.clone());
    put("instance-id", view.instance_id.clone());
    put("instance-type", view.instance_type.clone());
    put("instance-life-cycle", "on-demand".to_owned());
    put("hostname", view.hostname.clone());
    put("local-hostname", view.hostname.clone());
    put("placement/availability-zone", view.availability_zone.clone());
    put("placement/availability-zone-id", view.availability_zone_id.clone());
    put("placement/region", view.region.clone());
    put("services/domain", "amazonaws.com".to_owned());
    put("services/partition", "aws".to_owned());
    put("events/maintenance/scheduled", "[]".to_owned());
    put("events/maintenance/history", "[]".to_owned());
    if let Some(primary) = view.primary() {
        put("mac", primary.mac.to_string());
        put("local-ipv4", primary.addresses.first().map(ToString::to_string).unwrap_or_default());
        put("public-ipv4", primary.public_address.map(|address| address.to_string()).unwrap_or_default());
        put("security-groups", lines(primary.security_groups.iter().map(|(_, name)| name)));
    }
    let named = path.strip_prefix("/latest/meta-data/network/interfaces/macs/").and_then(|rest| rest.get(..MAC_LENGTH));
    let named = named.and_then(|mac| mac.parse::<MacAddr>().ok());
    for eni in view.enis.iter().filter(|eni| named.is_none_or(|mac| mac == eni.mac)) {
        for (name, text) in eni_items(eni, view) {
            put(&format!("network/interfaces/macs/{}/{name}", eni.mac), text);
        }
    }
    if let Some((info, credentials)) = role_items(view) {
        put("iam/info", info);
        let role = view.role.as_ref().map(|role| role.name.as_str()).unwrap_or_default();
        put(&format!("iam/security-credentials/{role}"), credentials);
    }
    items.insert("dynamic/instance-identity/document".to_owned(), identity_document(view));
    items
}

fn eni_items(eni: &ImdsEni, view: &ImdsView) -> Vec<(String, String)> {
    let primary = eni.addresses.first().map(ToString::to_string).unwrap_or_default();
    let mut items: Vec<(String, String)> = [
        ("device-number", eni.device_index.to_string()),
        ("interface-id", eni.eni_id.clone()),
        ("ipv4-prefix", lines(&eni.prefixes)),
        ("local-hostname", view.hostname.clone()),
        ("local-ipv4s", lines(&eni.addresses)),
        ("mac", eni.mac.to_string()),
        ("network-card", eni.network_card.to_string()),
        ("network-card-index", eni.network_card.to_string()),
        ("owner-id", view.account_id.clone()),
        ("security-group-ids", lines(eni.security_groups.iter().map(|(id, _)| id))),
        ("security-groups", lines(eni.security_groups.iter().map(|(_, name)| name))),
        ("subnet-id", eni.subnet_id.clone()),
        ("subnet-ipv4-cidr-block", eni.subnet_cidr.to_string()),
        ("vpc-id", eni.vpc_id.clone()),
        ("vpc-ipv4-cidr-block", lines(eni.vpc_cidrs.first())),
        ("vpc-ipv4-cidr-blocks", lines(&eni.vpc_cidrs)),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text))
    .collect();
    if let Some(public) = eni.public_address {
        items.push(("public-ipv4s".to_owned(), public.to_string()));
        items.push((format!("ipv4-associations/{public}"), primary));
    }
    items
}

/// `iam/info` and the credentials of the role: made up, good for an EC2 that checks no signatures.
fn role_items(view: &ImdsView) -> Option<(String, String)> {
    let role = view.role.as_ref()?;
    let info = serde_json::json!({
        "Code": "Success",
        "LastUpdated": role.updated,
        "InstanceProfileArn": format!("arn:aws:iam::{}:instance-profile/{}", view.account_id, role.name),
        "InstanceProfileId": "AIPAEXAMPLEEXAMPLEEXA",
    });
    let credentials = serde_json::json!({
        "Code": "Success",
        "LastUpdated": role.updated,
        "Type": "AWS-HMAC",
        "AccessKeyId": role.access_key,
        "SecretAccessKey": "emulated-secret-that-nothing-checks",
        "Token": role.session_token,
        "Expiration": role.expires,
    });
    Some((format!("{info:#}"), format!("{credentials:#}")))
}

fn identity_document(view: &ImdsView) -> String {
    let private_ip = view.primary().and_then(|eni| eni.addresses.first()).map(ToString::to_string);
    let document = serde_json::json!({
        "accountId": view.account_id,
        "architecture": "x86_64",
        "availabilityZone": view.availability_zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": view.image_id,
        "instanceId": view.instance_id,
        "instanceType": view.instance_type,
        "kernelId": null,
        "pendingTime": view.launched,
        "privateIp": private_ip,
        "ramdiskId": null,
        "region": view.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

fn lines<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join("\n")
}
