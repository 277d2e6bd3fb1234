// SPDX-License-Identifier: Apache-2.0
//! What pages name: files of this repository, variables, metrics, reason codes.
//!
//! Looked at is what stands in code style, in running text and (but for reason codes) in blocks. The changelog is left out: what was is not what is.

use std::collections::BTreeSet;

use crate::markdown::{Page, operators_pages, pages, root};

/// Folders of the repository; what begins with one is a path.
const FOLDERS: [&str; 12] = [
    "cni-plugin/",
    "datapath/",
    "deploy/",
    "docs/",
    "fuzz/",
    "instance-limits/",
    "integration/",
    "ipam-api/",
    "ipamd/",
    "scripts/",
    "slim-sdk/",
    ".config/",
];

/// Variables of the AWS SDK that only it reads: they are no rows of ours, and docs/credentials.md says what they are.
const OF_THE_SDK: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
];

/// Crates, whose names look like metrics.
const CRATES: [&str; 3] = ["ipamd_aws", "ipamd_core", "ipamd_simulate"];

/// Words in capitals and small letters that are no reason codes.
const OTHERS: [&str; 5] = [
    // Kubernetes: kinds, values of fields, events of kubelet's, conditions that are ours.
    "ClusterRole ConfigMap ContainerCreating CustomResourceDefinition DaemonSet ENIConfig CNINode CiliumNode NetworkPolicy NotReady \
     NoExecute NoSchedule PreferNoSchedule PodMonitor PrometheusRule RuntimeDefault ServiceAccount RunPodSandbox StopPodSandbox \
     FailedCreatePodSandBox KillPodSandboxError EnidAddressesAvailable EnidConfigurationValid EnidMaxPodsFits",
    // Others' conditions and features.
    "CustomNetworking SufficientIP",
    // EC2's own words.
    "DryRun InsufficientCidrBlocks InsufficientFreeAddressesInSubnet PrivateIpAddressLimitExceeded AttachmentLimitExceeded \
     NetworkInterfaceLimitExceeded RequestLimitExceeded UnauthorizedOperation",
    // What stands in place of EC2's word where it was not asked for want of keys.
    "CredentialsUnavailable NoCredentials",
    // systemd, NetworkManager, udev.
    "MACAddressPolicy NetworkManager MemoryDenyWriteExecute NoNewPrivileges ProtectSystem RestrictNamespaces EnvironmentFile",
];

/// Words of code style, without what stands round them, each with its place.
fn words(page: &Page, has_blocks: bool) -> Vec<(String, String)> {
    let mut texts: Vec<(usize, String)> = page.spans();
    if has_blocks {
        for block in page.blocks() {
            texts.extend(block.text.lines().enumerate().map(|(n, line)| (block.line + n, line.to_owned())));
        }
    }
    let place = |line: usize| format!("{}:{line}", page.path.display());
    let split = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    texts.iter().flat_map(|(line, text)| split(text).into_iter().map(|word| (place(*line), word))).collect()
}

/// Runs of letters, digits and low lines.
fn identifiers(word: &str) -> impl Iterator<Item = &str> {
    word.split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric()).filter(|it| !it.is_empty())
}

/// `a/{b,c}.rs` as both.
fn expanded(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((middle, after)) = rest.split_once('}') else { return vec![word.to_owned()] };
    middle.split(',').flat_map(|part| expanded(&format!("{before}{part}{after}"))).collect()
}

/// Whether a path is there; its last part may have one `*` for anything.
fn exists(path: &str) -> bool {
    let Some((before, after)) = path.split_once('*') else { return root().join(path).exists() };
    let (folder, begin) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(root().join(folder)) else { return false };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.into_iter().any(|name| name.len() > begin.len() && name.starts_with(begin) && name.ends_with(after))
}

/// What there is to be found fault with, or how many were looked at.
fn judge(what: &str, found: Vec<(String, String)>, least: usize, is_there: impl Fn(&str) -> bool) {
    println!("{what}: {} looked at", found.len());
    assert!(found.len() >= least, "only {} were found: {what}", found.len());
    let faults: Vec<_> = found.iter().filter(|(_, name)| !is_there(name)).collect();
    let lines: BTreeSet<_> = faults.iter().map(|(place, name)| format!("{place}: {name}")).collect();
    assert!(lines.is_empty(), "{what} that there are not:\n{}", lines.into_iter().collect::<Vec<_>>().join("\n"));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is in a file, or in all files below a folder but for these tests, where names stand that there are not.
fn all_of(path: &str) -> String {
    let path = root().join(path);
    if path.ends_with("integration/tests/docs") {
        return String::new();
    }
    if !path.is_dir() {
        return String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    }
    let below = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    below.map(|path| all_of(path.strip_prefix(root()).unwrap().to_str().unwrap()) + "\n").collect()
}

fn of_today() -> Vec<Page> {
    pages().into_iter().filter(|page| !page.path.ends_with("CHANGELOG.md")).collect()
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut found = Vec::new();
    for page in of_today() {
        for (place, word) in words(&page, true) {
            let word = word.trim_matches(|letter: char| "'\"(),;:`".contains(letter));
            let word = word.split("::").next().unwrap();
            let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
            // `ipamd/<version>` and the like stand for something.
            if is_path && !word.contains(['<', '…', '=', '$']) {
                found.extend(expanded(word).into_iter().map(|path| (place.clone(), path)));
            }
        }
    }
    judge("files", found, 100, |path| exists(path.trim_end_matches([':', '.'])));
}

#[test]
fn every_test_that_a_page_names_exists() {
    let mut found = Vec::new();
    for page in of_today() {
        // `ipamd/core/tests/acceptance.rs` looks at docs/acceptance.md itself.
        for (place, word) in words(&page, false) {
            let is_test = |(path, name): &(&str, &str)| path.ends_with(".rs") && !name.is_empty();
            if word.split_once("::").as_ref().is_some_and(is_test) {
                found.push((place, word.trim_end_matches([',', '.']).to_owned()));
            }
        }
    }
    judge("tests", found, 100, |name| {
        let (path, test) = name.split_once("::").unwrap();
        std::fs::read_to_string(root().join(path)).is_ok_and(|text| text.contains(&format!("fn {test}(")))
    });
}

#[test]
fn every_variable_that_a_page_names_is_one() {
    // docs/configuration.md is the code's table, which another test holds it to.
    let table: BTreeSet<String> = read("docs/configuration.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("### `")?.strip_suffix('`')?.to_owned()))
        .collect();
    assert!(table.len() > 80, "only {} rows were found", table.len());
    // Who builds and tests has variables of their own: these are read where they are used.
    let builds = [
        "Makefile",
        "scripts",
        "integration/src",
        "integration/tests",
        "ipamd/aws/src/fuzzing/mutator.rs",
        "ipamd/core/tests",
    ];
    let builds = builds.map(all_of).concat();
    let of_builds: BTreeSet<&str> = identifiers(&builds).collect();
    let mut found = Vec::new();
    for page in of_today() {
        for (place, word) in words(&page, true) {
            for name in identifiers(&word) {
                let is_ours = name.starts_with("ENID_") || name.starts_with("AWS_") || name.starts_with("ENABLE_");
                // `ENID_…` stands for all of them.
                if is_ours && !name.ends_with('_') {
                    found.push((place.clone(), name.to_owned()));
                }
            }
        }
    }
    judge("variables", found, 200, |name| {
        table.contains(name) || OF_THE_SDK.contains(&name) || of_builds.contains(name)
    });
}

#[test]
fn every_metric_that_a_page_names_is_in_docs_metrics() {
    let metrics = read("docs/metrics.md");
    let known: BTreeSet<&str> = identifiers(&metrics).collect();
    let mut found = Vec::new();
    for page in operators_pages() {
        for (place, word) in words(&page, true) {
            let names = identifiers(&word).filter(|name| name.starts_with("ipamd_") || name.starts_with("awscni_"));
            let names = names.filter(|name| !CRATES.contains(name) && !name.ends_with('_'));
            found.extend(names.map(|name| (place.clone(), name.to_owned())));
        }
    }
    judge("metrics", found, 10, |name| {
        // What a histogram is served as.
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        known.contains(name) || known.contains(family)
    });
}

/// Letters and digits with two capitals or more, the first one of them: `SubnetExhausted`.
fn looks_like_a_code(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    let is_mixed = capitals > 1 && word.chars().any(|letter| letter.is_ascii_lowercase());
    is_mixed
        && word.starts_with(|letter: char| letter.is_ascii_uppercase())
        && word.chars().all(|letter| letter.is_ascii_alphanumeric())
}

#[test]
fn every_reason_code_that_a_page_names_is_in_docs_reasons() {
    let reasons = read("docs/reasons.md");
    let known: BTreeSet<&str> = identifiers(&reasons).collect();
    assert!(known.contains("SubnetExhausted"), "docs/reasons.md has no codes");
    // EC2's actions are those that the policies allow, and that the emulated EC2 knows.
    let alerts = alerts();
    let actions = ["deploy/iam/pool.json", "deploy/iam/read-only.json", "deploy/iam/unscoped.json"].map(read).concat();
    let mut found = Vec::new();
    for page in operators_pages() {
        // Tables of simulated calls, of tests and of the reference's words are others' business.
        for (place, word) in words(&page, false) {
            if looks_like_a_code(&word)
                && !alerts.contains(&word)
                && !OTHERS.iter().any(|words| words.split(' ').any(|it| it == word))
                && !actions.contains(&format!(":{word}\""))
            {
                found.push((place, word));
            }
        }
    }
    judge("reason codes", found, 40, |name| known.contains(name));
}

/// The shipped alerts, by name.
fn alerts() -> Vec<String> {
    let name = |line: &str| Some(line.trim().strip_prefix("- alert: ")?.to_owned());
    read("deploy/alerts/enid.yaml").lines().filter_map(name).collect()
}

#[test]
fn the_operations_page_says_what_to_do_at_each_alert_and_at_no_other() {
    let page = read("docs/operations.md");
    let rows = page.lines().filter_map(|line| Some(line.strip_prefix("| `Enid")?.split_once("` |")?.0));
    let rows: BTreeSet<String> = rows.map(|rest| format!("Enid{rest}")).collect();
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    assert_eq!(rows, alerts);
}

#[test]
fn braces_and_stars_in_paths_are_understood() {
    assert_eq!(expanded("a/{b,c}/{d,e}.rs"), ["a/b/d.rs", "a/b/e.rs", "a/c/d.rs", "a/c/e.rs"]);
    assert!(exists("docs/*.md") && exists("ipamd/core/src/lifecycle*") && exists("Makefile"));
    assert!(!exists("docs/*.mdx") && !exists("docs/no-*.md") && !exists("none/*"));
    assert_eq!(identifiers("`ipamd_x{y=\"z\"}`,").collect::<Vec<_>>(), ["ipamd_x", "y", "z"]);
}
