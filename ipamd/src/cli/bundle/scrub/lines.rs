// SPDX-License-Identifier: Apache-2.0
//! What can be seen to be secret wherever it stands: private keys, tokens, `name=value`, `Name: value`, users of URLs. Pure.
//!
//! Where a value ends is not known: it is hidden up to white space or a quote, and of `Authorization` up to a quote or the line's end.

use super::fields::{hide_value, is_quote};
use super::{HIDDEN, is_secret};

/// The text without private keys in PEM, from `BEGIN` to `END`; to the text's end without one, and from where base64 begins without the
/// other.
pub(super) fn without_keys(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some((start, begun)) = mark(rest, "") {
        let (before, behind) = (&rest[..start], &rest[begun..]);
        if rest[start..].starts_with("-----BEGIN") {
            clean.push_str(before);
            rest = mark(behind, "END").map_or("", |(_, end)| &behind[end..]);
        } else {
            let is_of_body = |letter: char| letter.is_ascii_alphanumeric() || "+/=\r\n\\".contains(letter);
            clean.push_str(before.trim_end_matches(is_of_body));
            rest = behind;
        }
        clean.push_str(HIDDEN);
    }
    clean + rest
}

/// Where `-----BEGIN … PRIVATE KEY…-----` (or END) begins and ends.
fn mark(text: &str, word: &str) -> Option<(usize, usize)> {
    const DASHES: &str = "-----";
    let is_key = |start: &usize| {
        let label = &text[start + DASHES.len()..];
        let label = &label[..label.find(DASHES)?];
        let is_mark = label.starts_with(word) && (label.starts_with("BEGIN ") || label.starts_with("END "));
        (is_mark && label.contains("PRIVATE KEY") && !label.contains('\n')).then_some(label.len())
    };
    let mut marks = text.match_indices(DASHES).map(|(start, _)| start);
    marks.find_map(|start| Some((start, start + 2 * DASHES.len() + is_key(&start)?)))
}

/// A line without them.
pub(super) fn clean(line: &str) -> String {
    if is_base64_line(line) {
        return format!("{HIDDEN}\n");
    }
    without_users(&without_value(&clean_words(line)))
}

/// How much behind a word is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Nothing,
    Word,
    Line,
}

fn clean_words(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|letter: char| !letter.is_whitespace() && !is_quote(letter)) {
        clean.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|letter: char| letter.is_whitespace() || is_quote(letter)).unwrap_or(rest.len());
        let (shown, secret) = split(&rest[..end], rest[end..].starts_with(is_quote));
        clean.push_str(&without_tokens(&rest[..shown]));
        rest = &rest[shown..];
        if secret == Behind::Nothing {
            continue;
        }
        let value = rest.trim_start();
        clean.push_str(&rest[..rest.len() - value.len()]);
        if value.is_empty() {
            return clean;
        }
        let (hidden, behind) = if secret == Behind::Line { hide_line(value) } else { hide_value(value) };
        clean.push_str(&hidden);
        rest = behind;
    }
    clean + rest
}

/// How much of a word may be shown, and what is secret behind that.
fn split(word: &str, is_quote_next: bool) -> (usize, Behind) {
    for (at, letter) in word.match_indices(['=', ':']) {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let name = &word[word[..at].trim_end_matches(is_of_name).len()..at];
        if !is_secret(name) {
            continue;
        }
        let has_value = is_quote_next || !word[at + 1..].is_empty();
        let is_prose = ["credential", "credentials"].contains(&name.to_ascii_lowercase().as_str());
        let secret = match (is_authorization(name), has_value) {
            (true, _) => Behind::Line,
            (false, true) => Behind::Word,
            // `the token: abc`; but `AWS credentials: web identity`.
            (false, false) if letter == ":" && !is_prose => Behind::Word,
            (false, false) => Behind::Nothing,
        };
        return (at + 1, secret);
    }
    let is_option = word.starts_with("--") && is_secret(word) && !is_quote_next;
    let is_scheme =
        word.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric()).eq_ignore_ascii_case("bearer");
    (word.len(), if is_option || is_scheme { Behind::Word } else { Behind::Nothing })
}

/// `Authorization: Bearer …`, `Proxy-Authorization: Basic …`: scheme and secret, in several words.
fn is_authorization(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("authorization")
}

/// Up to a quote or the line's end.
fn hide_line(text: &str) -> (String, &str) {
    let inside = text.trim_start_matches('\\');
    if inside.starts_with(is_quote) {
        return hide_value(text);
    }
    let end = text.find(|letter: char| is_quote(letter) || letter == '\n').unwrap_or(text.len());
    (HIDDEN.to_owned(), &text[text[..end].trim_end_matches('\\').len()..])
}

/// Without what looks like a token.
fn without_tokens(word: &str) -> String {
    let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let mut clean = String::new();
    let mut rest = word;
    while let Some(start) = rest.find(is_of_token) {
        let end = rest[start..].find(|letter| !is_of_token(letter)).map_or(rest.len(), |length| start + length);
        clean.push_str(&rest[..start]);
        clean.push_str(if is_token(&rest[start..end]) { HIDDEN } else { &rest[start..end] });
        rest = &rest[end..];
    }
    clean + rest
}

/// A key id of AWS, a JSON web token, or one of EKS.
fn is_token(word: &str) -> bool {
    let is_upper = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let is_key_id = ["AKIA", "ASIA"].iter().any(|start| word.starts_with(start)) && word.len() == 20 && is_upper(word);
    is_key_id || word.starts_with("k8s-aws-v1.") || (word.starts_with("eyJ") && word.matches('.').count() >= 2)
}

/// A line `name: value`, as YAML has it, or `name = value`.
fn without_value(line: &str) -> String {
    let Some((name, sign, value)) = [": ", " = "].iter().find_map(|sign| {
        let (name, value) = line.split_once(sign)?;
        Some((name, sign, value))
    }) else {
        return line.to_owned();
    };
    let bare = name.trim_start().trim_start_matches("- ").trim();
    let is_name = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name || !is_secret(bare) || value.trim().is_empty() {
        return line.to_owned();
    }
    format!("{name}{sign}{HIDDEN}{}", &value[value.trim_end().len()..])
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
        let ends = |letter: char| letter.is_whitespace() || is_quote(letter);
        match after[..after.find(ends).unwrap_or(after.len())].rfind('@') {
            Some(at) => {
                clean.push_str(HIDDEN);
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    clean + rest
}
