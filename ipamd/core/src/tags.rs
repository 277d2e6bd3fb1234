// SPDX-License-Identifier: Apache-2.0
//! Tags and description of ENIs: what ours carry, and whose an ENI is by its tags.
//!
//! Keys are the reference's (amazon-vpc-cni-k8s, `pkg/awsutils`), so that either daemon knows the other's ENIs, plus the
//! client token of the create call and the name of the ENIConfig. The verdict on an attached ENI, first match wins:
//!
//! | sign | verdict |
//! |---|---|
//! | the instance's primary ENI | ours |
//! | network card above 0, type other than `interface` and `efa`, no IPv4 address | left alone |
//! | managed by an AWS service, of another account, of another VPC | left alone |
//! | `node.k8s.amazonaws.com/no_manage` = `true` | left alone |
//! | our instance id in `node.k8s.amazonaws.com/instance_id`, and a creation time or client token | ours, made for us |
//! | the same, but of type `efa`, or without either (adopted by the reference) | used but never detached |
//! | another instance's id there | left alone |
//! | none of these | used but never detached, or left alone (MANAGE_UNTAGGED_ENI) |

use std::collections::BTreeMap;

use crate::action::CLIENT_TOKEN_TAG;
use crate::config::{Config, UntaggedEnis};
use crate::event::{EniView, InstanceFacts};

/// Tag with the id of the instance that an ENI was made for.
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag with the time of creation (RFC 3339); only on ENIs that a daemon made.
pub(crate) const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";
/// Tag that says `true` on ENIs to be left alone.
pub(crate) const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";
/// Tag with the name of the ENIConfig that an ENI was made for: its security groups follow that one.
pub const ENI_CONFIG_TAG: &str = "enid.dev/eni-config";
/// Tag with the name of the cluster that an ENI belongs to.
pub const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
const OWNER_TAG: &str = "eks:eni:owner";
const OWNER: &str = "amazon-vpc-cni";
/// Why a trunk ENI is left alone.
pub(crate) const A_TRUNK: &str = "a trunk of branch ENIs";

/// Interface type of an ENI with an Elastic Fabric Adapter beside its IP: used like others, never given back.
const EFA: &str = "efa";

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
    match view.interface_type.as_str() {
        "interface" | EFA => {}
        "efa-only" => return Ownership::LeftAlone("an EFA without IP"),
        "trunk" => return Ownership::LeftAlone(A_TRUNK),
        _ => return Ownership::LeftAlone("of another interface type"),
    }
    if view.primary_address.is_unspecified() {
        return Ownership::LeftAlone("without an IPv4 address");
    }
    if view.foreign {
        return Ownership::LeftAlone("managed by an AWS service, or of another account");
    }
    if view.vpc_id.as_ref().is_some_and(|vpc| *vpc != facts.vpc_id) {
        return Ownership::LeftAlone("of another VPC");
    }
    let tag = |key: &str| view.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let made_by_a_daemon = tag(CREATED_AT_TAG).is_some() || tag(CLIENT_TOKEN_TAG).is_some();
    let made = match tag(INSTANCE_TAG) {
        Some(instance) if instance == facts.instance_id.as_str() => Some(true),
        Some(_) => Some(false),
        None => None,
    };
    match (tag(NO_MANAGE_TAG), made) {
        (Some("true"), _) => Ownership::LeftAlone("tagged no_manage"),
        (_, Some(true)) if view.interface_type != EFA && made_by_a_daemon => Ownership::Made,
        (_, Some(true)) => Ownership::Used,
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

/// The ENIConfig that an ENI was made for.
pub(crate) fn eni_config(view: &EniView) -> Option<&str> {
    view.tags.iter().find(|(name, _)| name == ENI_CONFIG_TAG).map(|(_, value)| value.as_str())
}

/// Tags of a new ENI, sorted by key. `made`: when, in RFC 3339, and for which ENIConfig.
pub fn of_new_eni(
    config: &Config,
    facts: &InstanceFacts,
    token: &str,
    made: (&str, Option<&str>),
) -> Vec<(String, String)> {
    let (created_at, eni_config) = made;
    let mut tags = BTreeMap::from([
        (INSTANCE_TAG.to_owned(), facts.instance_id.to_string()),
        (CREATED_AT_TAG.to_owned(), created_at.to_owned()),
    ]);
    tags.extend(of_the_cluster(config));
    tags.insert(CLIENT_TOKEN_TAG.to_owned(), token.to_owned());
    tags.extend(eni_config.map(|name| (ENI_CONFIG_TAG.to_owned(), name.to_owned())));
    tags.into_iter().collect()
}

/// What the configuration says of every ENI that serves. ADDITIONAL_ENI_TAGS go last, and so over the others.
fn of_the_cluster(config: &Config) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    if let Some(cluster) = &config.cluster_name {
        tags.insert(CLUSTER_TAG.to_owned(), cluster.clone());
        tags.insert(OWNER_TAG.to_owned(), OWNER.to_owned());
    }
    tags.extend(config.additional_eni_tags.clone());
    tags
}

/// Tags that an ENI in service must have, sorted by key. One that somebody else attached does not get the instance tag: it
/// says that the ENI is the daemon's, and both daemons' sweeps delete what bears it once it is unattached.
pub(crate) fn wanted(config: &Config, facts: &InstanceFacts, primary: bool, made: bool) -> Vec<(String, String)> {
    let mut tags = of_the_cluster(config);
    if primary || made {
        tags.entry(INSTANCE_TAG.to_owned()).or_insert_with(|| facts.instance_id.to_string());
    }
    tags.into_iter().collect()
}

/// Those that are not there, or have another value.
pub(crate) fn missing(wanted: &[(String, String)], there: &[(String, String)]) -> Vec<(String, String)> {
    wanted.iter().filter(|tag| !there.contains(tag)).cloned().collect()
}

/// The description that the reference's sweep of leaked ENIs looks for.
pub(crate) fn description(facts: &InstanceFacts) -> String {
    format!("aws-K8S-{}", facts.instance_id)
}

/// RFC 3339 in UTC, whole seconds, of nanoseconds since the Unix epoch. Days to date by the proleptic Gregorian calendar,
/// counted in eras of 400 years that begin on 1 March.
#[must_use]
pub fn rfc3339(unix_nanos: i64) -> String {
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

/// Nanoseconds since the Unix epoch of an RFC 3339 time; fractions of a second are dropped. `None`: it is no such time.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    // `parse` alone takes a sign, too.
    let plain =
        |digits: &str| Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(plain);
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    let shaped = marks.iter().all(|(at, mark)| text.get(*at..at + 1) == Some(mark));
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !(shaped && in_range) {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign @ ("+" | "-"), rest) => {
            let (hours, minutes) =
                rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
            let (hours, minutes): (i64, i64) = (plain(hours)?, plain(minutes).filter(|minutes| *minutes < 60)?);
            let seconds = hours * 3_600 + minutes * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => return None,
    };
    // The inverse of the above: years begin on 1 March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)
}

#[cfg(test)]
pub(crate) mod tests;
