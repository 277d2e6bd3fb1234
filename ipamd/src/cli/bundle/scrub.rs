// SPDX-License-Identifier: Apache-2.0
//! Secrets, and texts without them. Pure.
//!
//! Two walls, so that a hole in one is no leak:
//! 1. Of the environment only variables of our own table are shown ([`shown`]), without what a URL has before its `@`.
//! 2. Every text loses what is known to be secret: values of this process's variables whose names say so (`AWS_SECRET_ACCESS_KEY`,
//!    `…TOKEN…`, `…PASSWORD…`), users and passwords of proxies, the user part of any URL, values of JSON fields ([`fields`]), of
//!    `name=value` and of headers whose names say so, key ids of AWS (`AKIA…`, `ASIA…`), JSON web tokens, those of EKS
//!    (`k8s-aws-v1.…`) and private keys in PEM ([`lines`]).
//!
//! Where it is not clear where a secret ends more is hidden.
//!
//! What it cannot know: a secret without a sign, in a file of somebody else's. None such is read but configuration lists.

mod fields;
mod lines;

use ipamd_core::config::{Source, VARIABLES};

/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";

/// Parts of names of what is secret, in upper case.
const SIGNS: [&str; 11] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "TOKEN",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "API_KEY",
    "KEY_DATA",
    "SIGNATURE",
];

/// Signs at the end of names of what is not: paths, and times.
const HARMLESS: [&str; 5] = ["_FILE", "_PATH", "_URI", "_URL", "_TTL"];

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST: usize = 5;

/// Whether a name says that its value is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let squeezed = name.replace('_', "");
    let has_sign = SIGNS.iter().any(|sign| name.contains(sign) || squeezed.contains(&sign.replace('_', "")));
    let has_sign = has_sign || name.ends_with("AUTHORIZATION");
    has_sign && !HARMLESS.iter().any(|end| name.ends_with(end))
}

/// Whether a variable's value is a URL or the like, that may have a user before its `@`.
fn user_part(value: &str) -> Option<&str> {
    let (before, _) = value.rsplit_once('@')?;
    let part = before.split_once("://").map_or(before, |(_, part)| part);
    (!part.is_empty()).then_some(part)
}

/// Variables of our table as they are set, `NAME=value` a line, sorted by the table.
pub(super) fn shown(environment: &dyn Source) -> String {
    let names =
        VARIABLES.iter().map(|variable| variable.name).chain(["http_proxy", "https_proxy", "no_proxy", "MY_NODE_NAME"]);
    let mut lines = Vec::new();
    for name in names {
        let Some(value) = environment.get(name) else { continue };
        let value = if is_secret(name) {
            HIDDEN.to_owned()
        } else {
            user_part(&value).map_or_else(|| value.clone(), |part| value.replace(part, HIDDEN))
        };
        let line = format!("{name}={value}\n");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

/// Takes secrets out of texts.
#[derive(Debug)]
pub(super) struct Scrubber {
    /// The longest first, so that a part of one does not hide the rest of it.
    secrets: Vec<String>,
}

impl Scrubber {
    /// What an environment says is secret.
    pub(super) fn of(environment: &dyn Source) -> Self {
        let mut secrets = Vec::new();
        for name in environment.names() {
            let Some(value) = environment.get(&name) else { continue };
            if is_secret(&name) {
                secrets.push(value.trim().to_owned());
            }
            if let Some(part) = user_part(&value) {
                secrets.push(part.to_owned());
                secrets.extend(part.split_once(':').map(|(_, password)| password.to_owned()));
            }
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without them.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), HIDDEN);
            // As JSON writes it.
            let quoted = serde_json::to_string(secret).unwrap_or_default();
            let inner = quoted.trim_matches('"');
            if inner != secret {
                text = text.replace(inner, HIDDEN);
            }
        }
        let text = fields::clean(&lines::without_keys(&text));
        text.split_inclusive('\n').map(lines::clean).collect()
    }
}

#[cfg(test)]
mod tests;
