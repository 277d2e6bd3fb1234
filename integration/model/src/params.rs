// SPDX-License-Identifier: Apache-2.0
//! The parameters of one request of the EC2 query protocol, read strictly.
//!
//! Turns `Filter.1.Name=…` pairs into lists, numbers and flags, and refuses a name that the action does not have, as EC2
//! does: a client that spells `PrivateIpAddresses.1` where the wire wants `PrivateIpAddress.1` must not get away with it.
//! What the values mean is decided by the actions.
//!
//! Invariant: lists are in the order of their numbers, whatever the order of the pairs; a parameter given twice is refused.
//!
//! Worked example: `SecurityGroupId.2=b&SecurityGroupId.1=a` is the list `[a, b]`; `SecurityGroupIds.1=a` is
//! `UnknownParameter`.
//!
//! Source: EC2 API reference, "Query requests" and "Error codes"; names on the wire from the service model 2016-11-15.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::error::Ec2Error;

/// Most values a filter request may hold (EC2 API reference, `FilterLimitExceeded`: 200 by default).
const MAX_FILTER_VALUES: usize = 200;

/// The parameters of a request, by name on the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    values: BTreeMap<String, String>,
}

/// One `Filter.N`: a resource passes when one of the values matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

impl Filter {
    /// Whether every value stands for itself.
    pub(crate) fn is_literal(&self) -> bool {
        !self.values.iter().any(|value| value.contains(['*', '?', '\\']))
    }
}

impl Params {
    /// Takes the pairs and holds their names against `known`, in which `N` stands for a list's number.
    pub(crate) fn parse(pairs: &[(String, String)], known: &[&str]) -> Result<Self, Ec2Error> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            if matches!(name.as_str(), "Action" | "Version") {
                continue;
            }
            let pattern = pattern(name);
            if pattern != "DryRun" && !known.contains(&pattern.as_str()) {
                return Err(Ec2Error::new("UnknownParameter", format!("The parameter {name} is not recognized")));
            }
            if values.insert(name.clone(), value.clone()).is_some() {
                return Err(Ec2Error::value(format!("The parameter {name} is given more than once")));
            }
        }
        Ok(Self { values })
    }

    /// A text, `None` when absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Ec2Error> {
        self.text(name).filter(|value| !value.is_empty()).ok_or_else(|| Ec2Error::missing(name))
    }

    /// A value of type `T`, `None` when absent.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Ec2Error> {
        self.text(name).map(|value| parse(name, value)).transpose()
    }

    /// A flag, `false` when absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Ec2Error> {
        Ok(self.parsed(name)?.unwrap_or(false))
    }

    /// Whether any parameter has this name or starts with it and a dot.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.keys().any(|key| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// `{name}.1`, `{name}.2`, …
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.numbers(name).iter().filter_map(|n| self.values.get(&format!("{name}.{n}")).cloned()).collect()
    }

    /// A list of values of type `T`.
    pub(crate) fn parsed_list<T: FromStr>(&self, name: &str) -> Result<Vec<T>, Ec2Error> {
        self.list(name).iter().map(|value| parse(name, value)).collect()
    }

    /// The names `{name}.N` of a list of structures, in order.
    pub(crate) fn structures(&self, name: &str) -> Vec<String> {
        self.numbers(name).iter().map(|n| format!("{name}.{n}")).collect()
    }

    /// `Filter.N.Name` with `Filter.N.Value.M`.
    pub(crate) fn filters(&self) -> Result<Vec<Filter>, Ec2Error> {
        let mut filters = Vec::new();
        for base in self.structures("Filter") {
            let name = self.required(&format!("{base}.Name"))?.to_owned();
            let values = self.list(&format!("{base}.Value"));
            if values.is_empty() {
                return Err(Ec2Error::value(format!("The filter '{name}' has no value")));
            }
            filters.push(Filter { name, values });
        }
        if filters.iter().map(|filter| filter.values.len()).sum::<usize>() > MAX_FILTER_VALUES {
            return Err(Ec2Error::new(
                "FilterLimitExceeded",
                format!("The maximum number of filter values specified on a single call is {MAX_FILTER_VALUES}"),
            ));
        }
        Ok(filters)
    }

    /// `{base}.Tag.N.Key` and `.Value`, or `Tag.N.…` with an empty base. The value is `None` when it was not given.
    pub(crate) fn tags(&self, base: &str) -> Result<Vec<(String, Option<String>)>, Ec2Error> {
        let list = if base.is_empty() { "Tag".to_owned() } else { format!("{base}.Tag") };
        self.structures(&list)
            .iter()
            .map(|tag| {
                let key = self.required(&format!("{tag}.Key"))?.to_owned();
                Ok((key, self.text(&format!("{tag}.Value")).map(str::to_owned)))
            })
            .collect()
    }

    /// What a repetition with the same client token must repeat: every parameter but the token itself.
    pub(crate) fn fingerprint(&self) -> String {
        let parts: Vec<String> = self
            .values
            .iter()
            .filter(|(name, _)| name.as_str() != "ClientToken")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        parts.join("\n")
    }

    fn numbers(&self, name: &str) -> BTreeSet<u32> {
        self.values
            .keys()
            .filter_map(|key| key.strip_prefix(name)?.strip_prefix('.')?.split('.').next()?.parse().ok())
            .collect()
    }
}

/// The name with its list numbers replaced: `Filter.3.Value.1` is `Filter.N.Value.N`.
fn pattern(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').map(|part| if part.parse::<u32>().is_ok() { "N" } else { part }).collect();
    parts.join(".")
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, Ec2Error> {
    value.parse().map_err(|_| Ec2Error::value(format!("Value ({value}) for parameter {name} is invalid.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &[(&str, &str)], known: &[&str]) -> Result<Params, Ec2Error> {
        let pairs: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Params::parse(&pairs, known)
    }

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        let params = params(
            &[("SecurityGroupId.10", "c"), ("SecurityGroupId.2", "b"), ("SecurityGroupId.1", "a")],
            &["SecurityGroupId.N"],
        )
        .unwrap();
        assert_eq!(params.list("SecurityGroupId"), ["a", "b", "c"]);
    }

    #[test]
    fn a_misspelt_parameter_is_refused() {
        let error = params(&[("PrivateIpAddresses.1", "10.0.0.5")], &["PrivateIpAddress.N"]).unwrap_err();
        assert_eq!(error.code, "UnknownParameter");
    }

    #[test]
    fn filters_keep_their_names_and_values_together() {
        let params = params(
            &[("Filter.1.Name", "status"), ("Filter.1.Value.1", "available"), ("Filter.1.Value.2", "in-use")],
            &["Filter.N.Name", "Filter.N.Value.N"],
        )
        .unwrap();
        let filters = params.filters().unwrap();
        assert_eq!(filters[0], Filter { name: "status".into(), values: vec!["available".into(), "in-use".into()] });
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        let params = params(&[("MaxResults", "many")], &["MaxResults"]).unwrap();
        let error = params.parsed::<u32>("MaxResults").unwrap_err();
        assert_eq!(error.code, "InvalidParameterValue");
        assert!(error.message.contains("MaxResults"), "{}", error.message);
    }
}
