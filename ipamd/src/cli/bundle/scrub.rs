// SPDX-License-Identifier: Apache-2.0
//! Secrets, and texts without them. Pure.
//!
//! Two walls, so that a hole in one is no leak:
//! 1. Of the environment only variables of our own table are shown ([`shown`]), without what a URL has before its `@`.
//! 2. Every text loses what is known to be secret: values of this process's variables whose names say so (`AWS_SECRET_ACCESS_KEY`,
//!    `…TOKEN…`, `…PASSWORD…`), users and passwords of proxies, the user part of any URL, values of JSON fields whose names say so,
//!    key ids of AWS (`AKIA…`, `ASIA…`), JSON web tokens and lines of PEM keys.
//!
//! What it cannot know: a secret without a sign, in a file of somebody else's. None such is read but configuration lists.

use ipamd_core::config::{Source, VARIABLES};

/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";

/// Parts of names of what is secret, in upper case.
const SIGNS: [&str; 7] = ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "ACCESS_KEY"];

/// Signs at the end of names of what is not: paths, and times.
const HARMLESS: [&str; 5] = ["_FILE", "_PATH", "_URI", "_URL", "_TTL"];

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST: usize = 5;

/// Whether a name says that its value is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let squeezed = name.replace('_', "");
    let has_sign = SIGNS.iter().any(|sign| name.contains(sign) || squeezed.contains(&sign.replace('_', "")));
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
        text.split_inclusive('\n').map(|line| clean_line(&clean_fields(line))).collect()
    }
}

/// `"…secret…": "value"`, in JSON of any layout.
fn clean_fields(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some((before, name, after)) = next_string(rest) {
        let value = after.trim_start().strip_prefix(':').map(str::trim_start).filter(|value| value.starts_with('"'));
        clean.push_str(before);
        clean.push_str(&format!("\"{name}\""));
        rest = after;
        if let Some(value) = value.filter(|_| is_secret(name))
            && let Some((_, _, behind)) = next_string(value)
        {
            clean.push_str(&format!(": \"{HIDDEN}\""));
            rest = behind;
        }
    }
    clean + rest
}

/// What is before a JSON string, in it, and behind it.
fn next_string(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find('"')?;
    let inside = &text[start + 1..];
    let mut is_escaped = false;
    let end = inside.char_indices().find(|(_, letter)| {
        let ends = *letter == '"' && !is_escaped;
        is_escaped = *letter == '\\' && !is_escaped;
        ends
    })?;
    Some((&text[..start], &inside[..end.0], &inside[end.0 + 1..]))
}

/// What can be seen to be secret wherever it stands.
fn clean_line(line: &str) -> String {
    if line.contains("PRIVATE KEY-----") || is_base64_line(line) {
        return format!("{HIDDEN}\n");
    }
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "-_.+/=".contains(letter);
    let mut clean = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_of_word) {
        let end = rest[start..].find(|letter| !is_of_word(letter)).map_or(rest.len(), |length| start + length);
        clean.push_str(&rest[..start]);
        let word = &rest[start..end];
        match word.split_once('=').filter(|(name, value)| is_secret(name) && !value.is_empty()) {
            Some((name, _)) => clean.push_str(&format!("{name}={HIDDEN}")),
            None => clean.push_str(if is_token(word) { HIDDEN } else { word }),
        }
        rest = &rest[end..];
    }
    without_users(&without_value(&(clean + rest)))
}

/// A line `name: value`, as YAML has it.
fn without_value(line: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.to_owned() };
    let is_name = name.trim_start().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name && is_secret(name) && !value.trim().is_empty() { format!("{name}: {HIDDEN}\n") } else { line.to_owned() }
}

/// A key id of AWS, or a JSON web token.
fn is_token(word: &str) -> bool {
    let is_upper = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let is_key_id = ["AKIA", "ASIA"].iter().any(|start| word.starts_with(start)) && word.len() == 20 && is_upper(word);
    is_key_id || (word.starts_with("eyJ") && word.matches('.').count() == 2)
}

/// A line of a PEM body: 64 letters of base64 and nothing else.
fn is_base64_line(line: &str) -> bool {
    let line = line.trim();
    line.len() == 64
        && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
        && line.bytes().any(|byte| b"+/".contains(&byte))
}

/// `scheme://user:password@host` without its user, as often as there is one.
fn without_users(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end =
            after.find(|letter: char| letter.is_whitespace() || "\"'<>,;`".contains(letter)).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                clean.push_str(HIDDEN);
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PLANTED: [(&str, &str); 6] = [
        ("AWS_SECRET_ACCESS_KEY", "planted/secret+key"),
        ("AWS_SESSION_TOKEN", "planted-session-token"),
        ("HTTPS_PROXY", "http://proxyuser:planted-password@proxy:3128"),
        ("http_proxy", "other:planted-other@10.0.0.5:3128"),
        ("MY_DB_PASSWORD", "planted \"quoted\" password"),
        ("WARM_IP_TARGET", "5"),
    ];

    fn environment() -> BTreeMap<String, String> {
        PLANTED.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn of_the_environment_only_our_own_variables_are_shown_and_no_passwords_of_these() {
        let text = shown(&environment());
        assert!(text.contains("WARM_IP_TARGET=5\n"), "{text}");
        assert!(
            text.contains("HTTPS_PROXY=http://(hidden)@proxy:3128\n")
                && text.contains("http_proxy=(hidden)@10.0.0.5:3128\n"),
            "{text}"
        );
        for gone in ["planted", "proxyuser", "SECRET", "MY_DB"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
    }

    #[test]
    fn what_the_environment_says_is_secret_is_in_no_text() {
        let scrubber = Scrubber::of(&environment());
        for (name, value) in PLANTED.iter().filter(|(name, _)| *name != "WARM_IP_TARGET") {
            let secret = user_part(value).unwrap_or(value);
            for text in [
                format!("error: {value} is wrong\nmore"),
                format!("{{\"a\":{}}}", serde_json::to_string(value).unwrap()),
                secret.to_owned(),
            ] {
                let clean = scrubber.clean(&text);
                assert!(!clean.contains(secret) && !clean.contains("planted"), "{name}: {clean}");
            }
        }
        assert_eq!(scrubber.clean("WARM_IP_TARGET=5\n"), "WARM_IP_TARGET=5\n");
    }

    #[test]
    fn what_looks_secret_is_hidden_wherever_it_is_from_and_the_rest_stays() {
        let scrubber = Scrubber { secrets: Vec::new() };
        for (text, clean) in [
            ("{\"token\": \"abc\", \"x\": 1}", "{\"token\": \"(hidden)\", \"x\": 1}"),
            ("{\"clientSecret\":\"a\\\"b\",\"y\":2}\n", "{\"clientSecret\": \"(hidden)\",\"y\":2}\n"),
            ("{\"SecretAccessKey\" : \"x\"}", "{\"SecretAccessKey\": \"(hidden)\"}"),
            ("key AKIAIOSFODNN7EXAMPLE used", "key (hidden) used"),
            ("at https://u:p@host/path and http://h/", "at https://(hidden)@host/path and http://h/"),
            ("password=geheim x=1", "password=(hidden) x=1"),
            ("  client-secret: abc def\n", "  client-secret: (hidden)\n"),
            ("bearer eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl!", "bearer (hidden)!"),
            ("-----BEGIN RSA PRIVATE KEY-----\n", "(hidden)\n"),
            ("{\"AWS_WEB_IDENTITY_TOKEN_FILE\": \"/var/run/x\"}", "{\"AWS_WEB_IDENTITY_TOKEN_FILE\": \"/var/run/x\"}"),
            (
                "{\"eniId\": \"eni-0123456789abcdef0\", \"key\": \"aws-cni/c/eth0\"}",
                "{\"eniId\": \"eni-0123456789abcdef0\", \"key\": \"aws-cni/c/eth0\"}",
            ),
            ("10.0.0.1 dev eth0 proto 158\n", "10.0.0.1 dev eth0 proto 158\n"),
            ("an odd \"quote", "an odd \"quote"),
        ] {
            assert_eq!(scrubber.clean(text), clean);
        }
    }
}
