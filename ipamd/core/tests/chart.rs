// SPDX-License-Identifier: Apache-2.0
//! The variables that the chart's schema takes, in `env` and in `settings`, are the code's, each with what its value may be. `make bless`
//! rewrites them.
#![expect(clippy::disallowed_methods, reason = "reads, and when asked rewrites, a file of this repository")]

use ipamd_core::config::{Support, VARIABLES, Variable, Verdict};

const BEGIN: &str = "\"$comment\": \"properties: generated from ipamd/core/src/config, held by a test\",\n      \
                     \"type\": \"object\",\n      \"additionalProperties\": false,\n      \"properties\": {\n";
const BEGIN_LIVE: &str = "\"$comment\": \"those that change at run time: generated from ipamd/core/src/config, held by a test\",\n      \
                          \"type\": \"object\",\n      \"additionalProperties\": false,\n      \"properties\": {\n";
const END: &str = "      }\n";

/// What the chart itself sets, and what Kubernetes does.
const NOT_TO_BE_SET: [&str; 9] = [
    "ENID_RUNTIME_ENDPOINT",
    "ENID_SETTINGS_FILE",
    "HOST_CNI_BIN_PATH",
    "HOST_CNI_CONFDIR_PATH",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "MY_NODE_NAME",
    "MY_POD_NAME",
    "MY_POD_NAMESPACE",
];

/// The schema of a variable's value: as strict as the table is about it. What is more than its type is the daemon's to judge.
fn schema(variable: &Variable) -> String {
    let named = |name: &str| format!("{{ \"$ref\": \"#/definitions/{name}\" }}");
    match variable.kind {
        "boolean" => named(match (takes(variable, "true"), takes(variable, "false")) {
            (true, false) => "true",
            (false, true) => "false",
            _ => "boolean",
        }),
        "whole number" => named("number"),
        kind => match words(kind) {
            Some(words) => format!("{{ \"type\": \"string\", \"pattern\": \"^(?i:{})$\" }}", words.join("|")),
            None => named("text"),
        },
    }
}

/// Whether the daemon takes this value.
fn takes(variable: &Variable, value: &str) -> bool {
    let Support::ByValue(cases) = variable.support else { return true };
    let case = cases.iter().find(|(case, _)| *case == "*" || *case == value);
    !matches!(case, Some((_, Verdict::Refused(_))))
}

/// The words of a kind that lists them: `none, standard or strict`.
fn words(kind: &str) -> Option<Vec<&str>> {
    let (first, last) = kind.split_once(" or ")?;
    let words: Vec<&str> = first.split(", ").chain([last]).collect();
    let plain = |word: &str| word.chars().all(|letter| letter.is_ascii_lowercase()) && word != "path";
    words.iter().all(|word| plain(word)).then_some(words)
}

/// Holds the lines between `begin` and [`END`] to those of these rows, or rewrites them.
fn hold(begin: &str, mut rows: Vec<&Variable>, value: impl Fn(&Variable) -> String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart/enid/values.schema.json");
    let file = std::fs::read_to_string(path).expect("the schema");
    let start = file.find(begin).expect("what begins the variables") + begin.len();
    let end = start + file[start..].find(END).expect("what ends them");
    rows.sort_by_key(|row| row.name);
    let lines: Vec<String> = rows.iter().map(|row| format!("        \"{}\": {}", row.name, value(row))).collect();
    let text = format!("{}\n", lines.join(",\n"));
    if std::env::var_os("ENID_BLESS").is_some() {
        std::fs::write(path, format!("{}{text}{}", &file[..start], &file[end..])).expect("writing the schema");
        return;
    }
    assert_eq!(&file[start..end], text, "run `make bless` and read the diff");
}

/// What a class may have: as in `env`, or an empty text, which is as if nobody had set it; maps and lists where they read better.
fn schema_of_a_class(variable: &Variable) -> String {
    let other = match variable.kind {
        kind if kind.starts_with("JSON object") => ", { \"type\": \"object\" }",
        kind if kind.starts_with("comma list") => ", { \"type\": \"array\", \"items\": { \"type\": \"string\" } }",
        _ => "",
    };
    format!("{{ \"anyOf\": [ {}, {{ \"const\": \"\" }}{other} ] }}", schema(variable))
}

// One test for both, since they are lines of one file.
#[test]
fn the_variables_of_the_charts_schema_are_the_codes() {
    hold(BEGIN, VARIABLES.iter().filter(|row| !NOT_TO_BE_SET.contains(&row.name)).collect(), schema);
    hold(BEGIN_LIVE, VARIABLES.iter().filter(|row| row.is_live).collect(), schema_of_a_class);
}

#[test]
fn no_variable_has_two_rows() {
    let mut names: Vec<&str> = VARIABLES.iter().map(|row| row.name).collect();
    names.sort_unstable();
    let twice: Vec<&str> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_kind_that_lists_words_is_told_from_one_that_does_not() {
    assert_eq!(words("prng, hashrandom or none"), Some(vec!["prng", "hashrandom", "none"]));
    assert_eq!(words("flat or classic"), Some(vec!["flat", "classic"]));
    for kind in ["text", "address:port or unix:path", "IPv4 address or name", "stdout, stderr or path"] {
        assert_eq!(words(kind), None, "{kind}");
    }
}
