// SPDX-License-Identifier: Apache-2.0
//! The resolved configuration as operators see it (`/v1/config`, `ipamd config`): every variable, its value, and where that comes from.
//!
//! Decides nothing. No variable of the table is a secret; what a URL has before its `@` is left out all the same.

use serde::{Deserialize, Serialize};

use super::layers::{Layers, Origin, Resolved};
use super::settings_file::Fit;
use super::{VARIABLES, Variable, proxy};

/// Variables whose list may be another one in the file of `ENID_SNAT_FILE`.
const LISTS: [&str; 3] =
    ["AWS_EXTERNAL_SERVICE_CIDRS", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "ENID_SNAT_INCLUDE_CIDRS"];

/// Everything that is set, and what is wrong with what was to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSnapshot {
    /// The file of classes (`ENID_SETTINGS_FILE`); `None`: there is to be none.
    pub file: Option<String>,
    /// What classes select by.
    pub node: NodeSnapshot,
    /// Classes of the file, in its order.
    pub classes: Vec<ClassSnapshot>,
    /// Every variable, in the order of the table.
    pub variables: Vec<VariableSnapshot>,
    /// What is wrong with the file and the annotations as they are now. What holds is what was there before; empty: nothing is wrong.
    pub mistakes: Vec<String>,
}

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSnapshot {
    /// Such as `m5.large`; `None`: not known yet.
    pub instance_type: Option<String>,
    /// Such as `us-east-1a`; `None`: not known yet.
    pub zone: Option<String>,
    /// Whether its labels are known.
    pub labels_known: bool,
}

/// One class of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSnapshot {
    /// Its name.
    pub name: String,
    /// `yes`, `no`, or `unknown` as long as something is not known that decides.
    pub fits: String,
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableSnapshot {
    /// Its name.
    pub variable: String,
    /// Its value as it was written, or the default; `None`: not set, and without a default.
    pub value: Option<String>,
    /// `default`, `environment`, `class` or `node`.
    pub source: String,
    /// The class, where that is the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Whether a class or an annotation may set it, and a change takes effect without a restart.
    pub changes_at_run_time: bool,
    /// How far it is supported, as in the README.
    pub support: String,
    /// What is different from what it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl ConfigSnapshot {
    /// What `layers` have come to; `file` and `mistakes` as they are to be shown.
    #[must_use]
    pub fn of(resolved: &Resolved, layers: &Layers, file: Option<String>, mistakes: Vec<String>) -> Self {
        let fits = |fit| match fit {
            Fit::Yes => "yes",
            Fit::No => "no",
            Fit::Unknown => "unknown",
        };
        let classes = layers.classes.iter().map(|class| ClassSnapshot {
            name: class.name.clone(),
            fits: fits(class.selector.fit(&layers.node)).to_owned(),
        });
        Self {
            file,
            node: NodeSnapshot {
                instance_type: layers.node.instance_type.clone(),
                zone: layers.node.zone.clone(),
                labels_known: layers.node.labels.is_some(),
            },
            classes: classes.collect(),
            variables: VARIABLES.iter().map(|row| variable(row, resolved)).collect(),
            mistakes,
        }
    }
}

fn variable(row: &Variable, resolved: &Resolved) -> VariableSnapshot {
    let (value, origin) = resolved.value(row.name);
    let notes = resolved.notes.iter().filter(|note| note.variable == row.name).map(|note| note.text.clone());
    let file = resolved.config.snat.file.as_ref().filter(|_| LISTS.contains(&row.name));
    let in_place = file.map(|file| format!("a list in {} (ENID_SNAT_FILE) takes its place", file.display()));
    let (source, class) = match origin {
        Origin::Default => ("default", None),
        Origin::Environment => ("environment", None),
        Origin::Class(name) => ("class", Some(name)),
        Origin::Node => ("node", None),
    };
    VariableSnapshot {
        variable: row.name.to_owned(),
        value: value.filter(|value| !value.is_empty()).map(|value| shown(row, value)),
        source: source.to_owned(),
        class,
        changes_at_run_time: row.is_live,
        support: row.support.label().to_owned(),
        notes: notes.chain(in_place).collect(),
    }
}

/// A value that may be printed: of a URL not what it says of a user, which may be a password.
fn shown(row: &Variable, value: &str) -> String {
    if row.kind == "URL" || row.name == "CLUSTER_ENDPOINT" { proxy::without_user(value) } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_variable_is_shown_with_its_source_and_no_url_with_its_user() {
        let environment = BTreeMap::from([
            ("AWS_ENDPOINT_URL".to_owned(), "https://me:secret@ec2.example/a".to_owned()),
            ("WARM_PREFIX_TARGET".to_owned(), "1".to_owned()),
        ]);
        let layers =
            Layers { annotations: BTreeMap::from([("MAX_ENI".to_owned(), "2".to_owned())]), ..Layers::default() };
        let resolved = layers.resolve(&environment).unwrap();
        let shown = ConfigSnapshot::of(&resolved, &layers, None, Vec::new());
        assert_eq!(shown.variables.len(), VARIABLES.len());
        let of = |name: &str| shown.variables.iter().find(|row| row.variable == name).unwrap();
        assert_eq!(of("AWS_ENDPOINT_URL").value.as_deref(), Some("https://ec2.example/a"));
        assert_eq!((of("MAX_ENI").source.as_str(), of("MAX_ENI").changes_at_run_time), ("node", true));
        assert_eq!((of("ENID_LAYOUT").source.as_str(), of("ENID_LAYOUT").changes_at_run_time), ("default", false));
        assert_eq!(of("WARM_PREFIX_TARGET").notes.len(), 1, "it has no effect, which is said");
        let json = serde_json::to_string(&shown).unwrap();
        assert!(!json.contains("secret"), "{json}");
        assert_eq!(serde_json::from_str::<ConfigSnapshot>(&json).unwrap(), shown);
    }

    #[test]
    fn a_password_is_cut_out_of_every_spelling_of_a_url() {
        for (variable, value, expected) in [
            ("HTTPS_PROXY", "user:secret@10.0.0.5:3128", "10.0.0.5:3128"),
            ("HTTPS_PROXY", "http://user:12/secret@proxy:3128", "http://proxy:3128"),
            ("HTTPS_PROXY", "http://user:se@cret@proxy:3128", "http://proxy:3128"),
            ("HTTP_PROXY", "http://proxy:3128", "http://proxy:3128"),
            ("CLUSTER_ENDPOINT", "me:secret@api.example", "api.example"),
        ] {
            let row = VARIABLES.iter().find(|row| row.name == variable).unwrap();
            assert_eq!(shown(row, value), expected, "{value}");
        }
    }

    #[test]
    fn a_proxy_in_small_letters_is_shown_in_its_row_without_its_user() {
        let environment = BTreeMap::from([
            ("HTTPS_PROXY".to_owned(), " ".to_owned()),
            ("https_proxy".to_owned(), "me:secret@10.0.0.5:3128".to_owned()),
            ("no_proxy".to_owned(), "a.example".to_owned()),
            ("NO_PROXY".to_owned(), "b.example".to_owned()),
        ]);
        let layers = Layers::default();
        let shown = ConfigSnapshot::of(&layers.resolve(&environment).unwrap(), &layers, None, Vec::new());
        let of = |name: &str| {
            let row = shown.variables.iter().find(|row| row.variable == name).unwrap();
            (row.value.as_deref(), row.source.as_str())
        };
        assert_eq!(of("HTTPS_PROXY"), (Some("10.0.0.5:3128"), "environment"));
        assert_eq!(of("NO_PROXY"), (Some("b.example"), "environment"));
        assert_eq!(of("HTTP_PROXY"), (None, "default"));
    }

    #[test]
    fn lists_that_a_file_may_replace_say_so() {
        let noted = |environment: &BTreeMap<String, String>| {
            let layers = Layers::default();
            let shown = ConfigSnapshot::of(&layers.resolve(environment).unwrap(), &layers, None, Vec::new());
            let of_file =
                shown.variables.into_iter().filter(|row| row.notes.iter().any(|note| note.contains("snat.json")));
            of_file.map(|row| row.variable).collect::<Vec<_>>()
        };
        assert_eq!(noted(&BTreeMap::new()), Vec::<String>::new());
        let environment = BTreeMap::from([("ENID_SNAT_FILE".to_owned(), "/etc/enid/snat.json".to_owned())]);
        let mut rows = noted(&environment);
        rows.sort();
        assert_eq!(rows, LISTS);
    }
}
