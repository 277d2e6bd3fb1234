// SPDX-License-Identifier: Apache-2.0
//! The bill of materials beside the image: its form, and that it names what cargo links, in the versions that are locked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::archive::Image;

const PROGRAMS: [(&str, &str); 2] = [("ipamd", "ipamd"), ("cni-plugin", "aws-cni")];

fn bill() -> Value {
    let path = Image::find().path.with_extension("cdx.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Name and version of every crate that cargo links into a package's program.
fn linked(package: &str) -> BTreeSet<(String, String)> {
    let words = ["tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}", "-p", package];
    let cargo = Command::new(env!("CARGO")).current_dir(root()).args(words).output().unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let text = String::from_utf8(cargo.stdout).unwrap();
    let entry = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap().trim_start_matches('v').to_owned())
    };
    text.lines().filter(|line| !line.is_empty()).map(entry).collect()
}

/// Checksums of `Cargo.lock` by name and version; empty for crates of the workspace.
fn locked() -> BTreeMap<(String, String), String> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let of = |block: &str| {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
            line.unwrap_or_default().trim_end_matches('"').to_owned()
        };
        ((value("name"), value("version")), value("checksum"))
    };
    text.split("[[package]]").skip(1).map(of).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn the_bill_is_cyclonedx_and_every_reference_in_it_is_of_a_component() {
    let bill = bill();
    assert_eq!((text(&bill, "bomFormat"), text(&bill, "specVersion")), ("CycloneDX", "1.5"));
    assert_eq!(text(&bill["metadata"]["component"], "version"), env!("CARGO_PKG_VERSION"));
    let components = bill["components"].as_array().unwrap();
    let mut references = BTreeSet::from([text(&bill["metadata"]["component"], "bom-ref")]);
    for component in components {
        assert!(references.insert(text(component, "bom-ref")), "twice: {component}");
        assert!(["library", "application", "file"].contains(&text(component, "type")), "{component}");
        assert!(!text(component, "name").is_empty() && !text(component, "version").is_empty(), "{component}");
        assert!(!text(&component["licenses"][0], "expression").is_empty(), "{component}");
        if text(component, "type") != "application" {
            assert!(text(component, "purl").starts_with("pkg:"), "{component}");
        }
    }
    let dependencies = bill["dependencies"].as_array().unwrap();
    let mut reached = BTreeSet::from(["image"]);
    for dependency in dependencies {
        for to in dependency["dependsOn"].as_array().unwrap() {
            reached.insert(to.as_str().unwrap());
        }
        assert!(references.contains(text(dependency, "ref")), "{dependency}");
    }
    assert_eq!(reached, references, "what nothing depends on is not in the image, and the other way round");
}

#[test]
fn the_bill_names_every_crate_that_is_linked_in_the_version_that_is_locked_and_no_other() {
    let bill = bill();
    let locked = locked();
    let mut named = BTreeSet::new();
    for component in bill["components"].as_array().unwrap() {
        let Some(rest) = component["purl"].as_str().and_then(|purl| purl.strip_prefix("pkg:cargo/")) else { continue };
        let key = (text(component, "name").to_owned(), text(component, "version").to_owned());
        assert_eq!(rest, format!("{}@{}", key.0, key.1.replace('+', "%2B")));
        let checksum = locked.get(&key).unwrap_or_else(|| panic!("{key:?} is not in Cargo.lock"));
        let told = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert_eq!(told, checksum, "{key:?}");
        named.insert(key);
    }
    let expected: BTreeSet<_> = PROGRAMS.iter().flat_map(|(package, _)| linked(package)).collect();
    assert!(expected.len() > 100, "{expected:?}");
    assert_eq!(named, expected);
}

#[test]
fn the_bill_is_of_the_programs_in_this_image_and_names_what_else_is_linked_into_them() {
    let bill = bill();
    let folder = tempfile::tempdir().unwrap();
    Image::find().unpack(folder.path());
    let components = bill["components"].as_array().unwrap();
    for (_, program) in PROGRAMS {
        let bytes = std::fs::read(folder.path().join(program)).unwrap();
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let of_it = |one: &&Value| one["type"] == "application" && one["name"] == program;
        assert_eq!(components.iter().find(of_it).unwrap()["hashes"][0]["content"], digest.as_str(), "{program}");
    }
    let has = |names: &[&str]| components.iter().any(|one| names.iter().any(|name| one["name"] == *name));
    assert!(has(&["glibc", "musl"]) && has(&["rust-std"]) && has(&["ca-certificates"]), "{components:?}");
}
