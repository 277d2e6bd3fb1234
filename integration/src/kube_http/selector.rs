// SPDX-License-Identifier: Apache-2.0
//! Which objects of a kind a client wants: `labelSelector` and `fieldSelector`.
//!
//! Of label requirements there are `key`, `!key`, `key=value`, `key==value` and `key!=value`; of fields `metadata.name`,
//! `metadata.namespace` and, of pods, `spec.nodeName`. What it does not know it refuses: a selector that is overlooked would show a client too much.
//!
//! Source: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".

use serde_json::Value;

/// Requirements that an object must all meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    place: Place,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Label(String),
    /// A part of the object, and a field of it.
    Field(&'static str, &'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    Equals(String),
    /// True as well of what is absent.
    Differs(String),
}

impl Selector {
    /// Reads both selectors as a request has them; the error is what to tell the client.
    ///
    /// # Errors
    /// A requirement that is not understood.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let labels = parts(labels).map(label);
        labels.chain(parts(fields).map(field)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object meets all requirements.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| requirement.is_met(object))
    }
}

impl Requirement {
    fn is_met(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let text = match &self.place {
            Place::Label(key) => metadata["labels"][key.as_str()].as_str(),
            Place::Field(part, field) => object[*part][*field].as_str(),
        };
        match &self.test {
            Test::Exists => text.is_some(),
            Test::Absent => text.is_none(),
            Test::Equals(value) => text == Some(value),
            Test::Differs(value) => text != Some(value),
        }
    }
}

fn parts(selector: &str) -> impl Iterator<Item = &str> {
    selector.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn label(part: &str) -> Result<Requirement, String> {
    let (key, test) = match (part.strip_prefix('!'), comparison(part)) {
        (Some(key), _) => (key, Test::Absent),
        (None, Some(comparison)) => comparison,
        (None, None) => (part, Test::Exists),
    };
    if key.is_empty() || key.contains([' ', '(', ')', '!', '=']) {
        return Err(format!("unable to parse requirement: {part:?} is none of the kinds that are served"));
    }
    Ok(Requirement { place: Place::Label(key.to_owned()), test })
}

fn field(part: &str) -> Result<Requirement, String> {
    let unknown = || format!("field label not supported: {part}");
    let (key, test) = comparison(part).ok_or_else(unknown)?;
    let known = [("metadata", "name"), ("metadata", "namespace"), ("spec", "nodeName")].into_iter();
    let (part, field) = known.into_iter().find(|(part, field)| key == format!("{part}.{field}")).ok_or_else(unknown)?;
    Ok(Requirement { place: Place::Field(part, field), test })
}

fn comparison(part: &str) -> Option<(&str, Test)> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key.trim(), Test::Differs(value.trim().to_owned())));
    }
    let (key, value) = part.split_once("==").or_else(|| part.split_once('='))?;
    Some((key.trim(), Test::Equals(value.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requirements_are_met_or_not() {
        let object = json!({
            "metadata": { "name": "a", "namespace": "default", "labels": { "app": "web" } }, "spec": { "nodeName": "n1" },
        });
        let cases = [
            ("", "", true),
            ("app", "", true),
            ("!app", "", false),
            ("app=web", "", true),
            ("app==web", "", true),
            ("app!=web", "", false),
            ("tier!=front", "", true),
            ("app,!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name", "", true),
            ("app=web,tier", "", false),
            ("", "metadata.name=a", true),
            ("", "metadata.name=b", false),
            ("", "metadata.namespace!=kube-system", true),
            ("app", "metadata.name=b", false),
            ("", "spec.nodeName=n1,metadata.name=a", true),
            ("", "spec.nodeName=n2", false),
        ];
        for (labels, fields, wanted) in cases {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), wanted, "{labels:?} {fields:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (labels, fields) in [("app in (a, b)", ""), ("app notin (a)", ""), ("=a", ""), ("", "spec.host=n1")] {
            assert!(Selector::parse(labels, fields).is_err(), "{labels:?} {fields:?}");
        }
    }
}
