// SPDX-License-Identifier: Apache-2.0
//! Secrets are planted, and what is around them stays.

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
        ("{\"clientSecret\":\"a\\\"b\",\"y\":2}\n", "{\"clientSecret\":\"(hidden)\",\"y\":2}\n"),
        ("{\"SecretAccessKey\" : \"x\"}", "{\"SecretAccessKey\" : \"(hidden)\"}"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key (hidden) used"),
        ("at https://u:p@host/path and http://h/", "at https://(hidden)@host/path and http://h/"),
        ("password=geheim x=1", "password=(hidden) x=1"),
        ("  client-secret: abc def\n", "  client-secret: (hidden)\n"),
        ("bearer eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl!", "bearer (hidden)"),
        ("-----BEGIN RSA PRIVATE KEY-----\n", "(hidden)"),
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

/// Each with the secret in it, which starts with `planted`; what must stay begins with `stays`.
const WITH_SECRETS: [&str; 27] = [
    "stays password=planted!r%e&s@t$o*f,it) stays2",
    "stays GET https://b.s3.amazonaws.com/k?X-Amz-Signature=planted&X-Amz-Security-Token=planted%2Frest%3D stays2",
    "stays token:planted!rest, stays2",
    "stays PASSWORD='planted rest' stays2",
    "stays PASSWORD=\"planted \\\"rest\" stays2",
    "stays error: the token: planted,rest stays2",
    "stays --db-password planted!rest stays2",
    "stays Authorization: Bearer planted.rest~!rest rest",
    "{\"stays\": \"> authorization: Basic planted=rest rest\", \"stays2\": 1}",
    "stays Authorization: AWS4-HMAC-SHA256 Credential=planted/x, SignedHeaders=rest, Signature=rest",
    "stays bearer planted/rest+rest== stays2",
    "stays (k8s-aws-v1.planted-rest_rest), stays2",
    "stays -----BEGIN EC PRIVATE KEY-----\nplanted\nrest==\n-----END EC PRIVATE KEY-----\nstays2",
    "{\"stays\": \"-----BEGIN PRIVATE KEY-----\\nplanted+rest\\nrest==\\n-----END PRIVATE KEY-----\\n\", \"stays2\": 1}",
    "stays -----BEGIN OPENSSH PRIVATE KEY-----\nplanted\nrest==\n",
    "planted/rest\nrest==\n-----END RSA PRIVATE KEY-----\nstays",
    "{\"stays\": 1, \"password\": 7654321planted, \"stays2\": true}",
    "{\"stays\": 1, \"password\":\n\n  \"planted rest\",\n \"stays2\": true}",
    "{\"stays\": 1, \"secrets\": {\"a\": [\"planted\"], \"b}\": \"rest]}\"}, \"stays2\": {}}",
    "{\"stays\": 1, \"tokens\": [\n\"planted\",\n\"rest\"], \"stays2\": {}}",
    "{\"stays\": \"{\\\"token\\\": \\\"planted\\\\\\\"rest\\\", \\\"x\\\": \\\"stays2\\\"}\"}",
    "{\"stays\": \"{\\n  \\\"token\\\":\\n  \\\"planted\\\",\\n \\\"x\\\": \\\"stays2\\\"}\"}",
    "{\"stays\": \"{\\\"a\\\": \\\"{\\\\\\\"token\\\\\\\": \\\\\\\"planted,rest\\\\\\\"}\\\"}\", \"stays2\": 1}",
    "{'stays': 1, 'api_key': 'planted rest', 'stays2': 2}",
    "stays\n- client-key-data: planted rest\naws_secret_access_key = planted/rest rest\nstays2",
    "stays https://user:planted,rest;rest@host/stays2",
    "stays AWS credentials: stays2 secret_token=planted",
];

#[test]
fn nothing_of_a_secret_is_left_of_whatever_letters_it_is_and_what_is_around_it_stays() {
    let scrubber = Scrubber { secrets: Vec::new() };
    for text in WITH_SECRETS {
        let clean = scrubber.clean(text);
        assert!(clean.contains(HIDDEN) && !clean.contains("planted") && !clean.contains("rest"), "{text}\n{clean}");
        for stays in ["stays", "stays2"] {
            assert!(!text.contains(stays) || clean.contains(stays), "{text}\n{clean}");
        }
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert!(!json(text) || json(&clean), "no JSON any more: {clean}");
        assert_eq!(scrubber.clean(&clean), clean, "twice is as once");
    }
}

#[test]
fn what_only_sounds_secret_stays() {
    let scrubber = Scrubber { secrets: Vec::new() };
    for text in [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "{\"hasToken\": true, \"token\": null, \"secret\": false}",
        "AWS credentials: web identity, of /var/run/secrets/x\n",
        "it's the node's token, isn't it\n",
        "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/token\n",
        "ipamd_ec2_calls_total{action=\"AssignPrivateIpAddresses\",outcome=\"ok\"} 3\n",
        "no end \\\\\\\" of a \\\\\" string \\",
    ] {
        assert_eq!(scrubber.clean(text), text);
    }
}

#[test]
fn no_text_is_too_odd() {
    const PARTS: [&str; 20] = [
        "\"",
        "\\",
        "\\\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ":",
        "=",
        " ",
        "\n",
        "token",
        "ü",
        "-----",
        "BEGIN PRIVATE KEY",
        "END PRIVATE KEY",
        "://",
        "@",
        "Authorization:",
    ];
    let scrubber = Scrubber { secrets: Vec::new() };
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..16 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PARTS[usize::try_from(state >> 33).unwrap() % PARTS.len()]);
        }
        let clean = scrubber.clean(&format!("{text} password=planted"));
        assert!(!clean.contains("planted"), "{text}: {clean}");
    }
}
