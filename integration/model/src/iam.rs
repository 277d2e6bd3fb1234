// SPDX-License-Identifier: Apache-2.0
//! IAM policies, as far as those that we ship use them: what an identity may do to which resource, under which conditions.
//!
//! Decides whether a policy allows an action on a resource; which resources a call concerns is `rights`' table. There are no
//! principals, no boundaries, no variables in values. A document with anything else in it is refused, never half understood.
//!
//! Invariant: nothing is allowed that no statement allows, and a Deny that matches wins.
//!
//! Worked example: `{"StringEquals": {"aws:ResourceTag/a": ["x", "y"]}}` holds for a resource whose tag `a` is `x` or `y`; for one
//! without the tag it does not. `ForAllValues:` asks that every value the request has is listed, and holds when it has none.
//!
//! Source: IAM user guide, "IAM JSON policy elements", "Policy evaluation logic".

use std::collections::BTreeMap;

use serde::Deserialize;

/// A document that is no policy, or has what is not modelled.
#[derive(Debug, thiserror::Error)]
#[error("an IAM policy that is not understood")]
pub struct PolicyError(#[from] serde_json::Error);

/// What an identity may do.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// What a call concerns: a resource, and the condition keys that hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Concern {
    /// The action, without `ec2:`.
    pub(crate) action: &'static str,
    /// Its ARN; `*` for actions that know no resources.
    pub(crate) arn: String,
    /// Condition key -> its values.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "Version")]
    _version: Version,
    statement: Vec<Statement>,
}

/// The one version of the language.
#[derive(Deserialize)]
enum Version {
    #[serde(rename = "2012-10-17")]
    Current,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Statement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: Effect,
    action: OneOrMany,
    resource: OneOrMany,
    #[serde(default)]
    condition: BTreeMap<Operator, BTreeMap<String, OneOrMany>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Operator {
    StringEquals,
    StringLike,
    ArnLike,
    #[serde(rename = "ForAllValues:StringEquals")]
    AllStringEquals,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn any(&self, matches: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(text) => matches(text),
            Self::Many(texts) => texts.iter().any(|text| matches(text)),
        }
    }
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no policy, or has an element or operator that is not modelled.
    pub fn parse(document: &str) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(document)?;
        Ok(Self { statements: document.statement })
    }

    /// Both policies, attached to one identity.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.statements.extend(other.statements);
        self
    }

    /// The actions that a statement allows under some condition, with their service, sorted.
    #[must_use]
    pub fn actions(&self) -> Vec<String> {
        let mut actions = Vec::new();
        for statement in self.statements.iter().filter(|statement| statement.effect == Effect::Allow) {
            match &statement.action {
                OneOrMany::One(action) => actions.push(action.clone()),
                OneOrMany::Many(list) => actions.extend(list.iter().cloned()),
            }
        }
        actions.sort();
        actions.dedup();
        actions
    }

    pub(crate) fn allows(&self, concern: &Concern) -> bool {
        let mut matching = self.statements.iter().filter(|statement| statement.matches(concern)).peekable();
        matching.peek().is_some() && matching.all(|statement| statement.effect == Effect::Allow)
    }
}

impl Statement {
    fn matches(&self, concern: &Concern) -> bool {
        let action = format!("ec2:{}", concern.action);
        self.action.any(|pattern| like(pattern, &action))
            && self.resource.any(|pattern| like(pattern, &concern.arn))
            && self.condition.iter().all(|(operator, keys)| {
                keys.iter()
                    .all(|(key, wanted)| operator.holds(concern.keys.get(key).map_or(&[], Vec::as_slice), wanted))
            })
    }
}

impl Operator {
    fn holds(self, values: &[String], wanted: &OneOrMany) -> bool {
        match self {
            Self::StringEquals => values.iter().any(|value| wanted.any(|wanted| wanted == value)),
            Self::StringLike | Self::ArnLike => values.iter().any(|value| wanted.any(|wanted| like(wanted, value))),
            Self::AllStringEquals => values.iter().all(|value| wanted.any(|wanted| wanted == value)),
        }
    }
}

/// Whether `text` is what `pattern` says, in which `*` is any text and `?` any letter.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_at_checked(pattern.chars().next().map_or(0, char::len_utf8)) {
        None | Some(("", _)) => text.is_empty(),
        Some(("*", rest)) => {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(rest, &text[at..]))
        }
        Some((first, rest)) => {
            let mut letters = text.chars();
            let letter = letters.next();
            letter.is_some_and(|letter| first == "?" || first.starts_with(letter)) && like(rest, letters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(statements: &str) -> Policy {
        Policy::parse(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#)).unwrap()
    }

    fn concern(tag: Option<&str>) -> Concern {
        let keys = tag.map(|tag| ("aws:ResourceTag/a".to_owned(), vec![tag.to_owned()]));
        let arn = "arn:aws:ec2:us-east-1:1:network-interface/eni-1".to_owned();
        Concern { action: "DeleteNetworkInterface", arn, keys: keys.into_iter().collect() }
    }

    #[test]
    fn nothing_is_allowed_that_is_not_said_and_a_denial_wins() {
        let allow = r#"{"Effect": "Allow", "Action": "ec2:Delete*", "Resource": "arn:*:ec2:*:*:network-interface/*"}"#;
        let deny = r#"{"Effect": "Deny", "Action": ["ec2:*"], "Resource": "*"}"#;
        assert!(!Policy::default().allows(&concern(None)));
        assert!(policy(allow).allows(&concern(None)));
        assert!(!policy(&format!("{allow}, {deny}")).allows(&concern(None)));
        assert!(!policy(&allow.replace("network-interface", "instance")).allows(&concern(None)));
    }

    #[test]
    fn a_condition_on_a_tag_does_not_hold_without_the_tag_and_one_for_all_values_does() {
        let with = |operator: &str, key: &str| {
            let condition = format!(r#"{{"{operator}": {{"{key}": ["x", "y"]}}}}"#);
            policy(&format!(r#"{{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}}}"#))
        };
        let equals = with("StringEquals", "aws:ResourceTag/a");
        assert_eq!(
            [Some("x"), Some("y"), Some("z"), None].map(|tag| equals.allows(&concern(tag))),
            [true, true, false, false]
        );
        let all = with("ForAllValues:StringEquals", "aws:ResourceTag/a");
        assert_eq!([Some("x"), Some("z"), None].map(|tag| all.allows(&concern(tag))), [true, false, true]);
    }

    #[test]
    fn what_is_not_modelled_is_refused() {
        for statement in [
            r#"{"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}"#,
            r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"a": "b"}}}"#,
        ] {
            assert!(Policy::parse(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#)).is_err());
        }
        assert!(Policy::parse(r#"{"Version": "2008-10-17", "Statement": []}"#).is_err());
    }

    #[test]
    fn stars_and_question_marks_stand_for_letters() {
        assert!(like("a*c?", "abbcd") && like("*", "") && like("a", "a"));
        assert!(!like("a*c", "abcd") && !like("a?", "a") && !like("", "a"));
    }
}
