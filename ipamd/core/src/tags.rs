// SPDX-License-Identifier: Apache-2.0
//! Tags and description of ENIs: what ours carry, and whose an ENI is by its tags.
//!
//! Keys are the reference's (amazon-vpc-cni-k8s, `pkg/awsutils`), so that either daemon knows the other's ENIs, plus the
//! client token of the create call. The verdict on an attached ENI, first match wins:
//!
//! | sign | verdict |
//! |---|---|
//! | the instance's primary ENI | ours |
//! | network card above 0, type other than `interface`, no IPv4 address, managed by an AWS service | left alone |
//! | `node.k8s.amazonaws.com/no_manage` = `true` | left alone |
//! | our instance id in `node.k8s.amazonaws.com/instance_id` | ours, made for us |
//! | another instance's id there | left alone |
//! | none of these | used but never detached, or left alone (MANAGE_UNTAGGED_ENI) |

use std::collections::BTreeMap;

use crate::action::CLIENT_TOKEN_TAG;
use crate::config::{Config, UntaggedEnis};
use crate::event::{EniView, InstanceFacts};

/// Tag with the id of the instance that an ENI was made for.
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";
const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";
/// Tag with the name of the cluster that an ENI belongs to.
pub const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
const OWNER_TAG: &str = "eks:eni:owner";
const OWNER: &str = "amazon-vpc-cni";

/// Whose an attached ENI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Serves pods and may be detached and deleted.
    Made,
    /// Serves pods, is never detached.
    Used,
    /// Not touched; the text says why.
    LeftAlone(&'static str),
}

pub(crate) fn ownership(view: &EniView, facts: &InstanceFacts, config: &Config) -> Ownership {
    if view.eni_id == facts.primary_eni_id {
        return Ownership::Used;
    }
    if view.attachment.as_ref().is_some_and(|attachment| attachment.network_card > 0) {
        return Ownership::LeftAlone("on another network card");
    }
    if view.interface_type != "interface" {
        return Ownership::LeftAlone("of another interface type");
    }
    if view.primary_address.is_unspecified() {
        return Ownership::LeftAlone("without an IPv4 address");
    }
    if view.foreign {
        return Ownership::LeftAlone("managed by an AWS service");
    }
    let tag = |key: &str| view.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let made = match tag(INSTANCE_TAG) {
        Some(instance) if instance == facts.instance_id.as_str() => Some(true),
        Some(_) => Some(false),
        None => None,
    };
    match (tag(NO_MANAGE_TAG), made) {
        (Some("true"), _) => Ownership::LeftAlone("tagged no_manage"),
        (_, Some(true)) => Ownership::Made,
        (_, Some(false)) => Ownership::LeftAlone("tagged for another instance"),
        (Some(_), None) => Ownership::Used,
        (None, None) => match config.untagged_enis {
            UntaggedEnis::Used => Ownership::Used,
            UntaggedEnis::LeftAlone => Ownership::LeftAlone("without our tag"),
        },
    }
}

/// The token of the create call that made an ENI.
pub(crate) fn client_token(view: &EniView) -> Option<&str> {
    view.tags.iter().find(|(name, _)| name == CLIENT_TOKEN_TAG).map(|(_, value)| value.as_str())
}

/// Tags of a new ENI, sorted by key. `created_at`: RFC 3339.
pub(crate) fn of_new_eni(
    config: &Config,
    facts: &InstanceFacts,
    token: &str,
    created_at: &str,
) -> Vec<(String, String)> {
    let mut tags = BTreeMap::from([
        (INSTANCE_TAG.to_owned(), facts.instance_id.to_string()),
        (CREATED_AT_TAG.to_owned(), created_at.to_owned()),
    ]);
    if let Some(cluster) = &config.cluster_name {
        tags.insert(CLUSTER_TAG.to_owned(), cluster.clone());
        tags.insert(OWNER_TAG.to_owned(), OWNER.to_owned());
    }
    tags.extend(config.additional_eni_tags.clone());
    tags.insert(CLIENT_TOKEN_TAG.to_owned(), token.to_owned());
    tags.into_iter().collect()
}

/// The description that the reference's sweep of leaked ENIs looks for.
pub(crate) fn description(facts: &InstanceFacts) -> String {
    format!("aws-K8S-{}", facts.instance_id)
}

/// RFC 3339 in UTC, whole seconds, of nanoseconds since the Unix epoch. Days to date by the proleptic Gregorian calendar,
/// counted in eras of 400 years that begin on 1 March.
pub(crate) fn rfc3339(unix_nanos: i64) -> String {
    let seconds = unix_nanos.div_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day % 3_600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests;
