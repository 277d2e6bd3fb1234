// SPDX-License-Identifier: Apache-2.0
//! The bill: facts of `scripts/image.sh`, the lock file's checksums and the programs' trees, as CycloneDX 1.5.
//!
//! Invariant: the same facts give the same text; every crate of a program's tree is a component, with the version and the checksum that
//! `Cargo.lock` has. Source: CycloneDX 1.5 (ECMA-424), "Bill of Materials"; package URLs: package-url/purl-spec, types `cargo`, `deb`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::tree::{self, Package, Tree};

/// Why there is no bill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BillError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: String,
    },
    /// A line that is no fact.
    #[error("`{0}` says nothing that is known")]
    Fact(String),
    /// A line of a tree that cargo does not print.
    #[error("`{line}` of {program}'s tree is no line of cargo tree")]
    Tree {
        /// Of which program.
        program: String,
        /// The line.
        line: String,
    },
    /// A crate of a tree that is not locked in that version.
    #[error("{name} {version} is linked and not in Cargo.lock: which lock file is it?")]
    Unlocked {
        /// The crate.
        name: String,
        /// Its version.
        version: String,
    },
    /// There is no such line.
    #[error("nothing is said of the {0}")]
    Missing(&'static str),
}

/// Something in the image that is no crate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    version: String,
    purl: String,
    licence: String,
    /// Programs it is linked into; of a file none.
    programs: Vec<String>,
}

/// One of the image's programs.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    sha256: String,
    tree: Tree,
}

/// What the image is called.
#[derive(Clone, Debug, Default)]
struct Image {
    name: String,
    version: String,
    arch: String,
    /// When it was made, RFC 3339.
    time: String,
}

/// All that is in the image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bill {
    image: Image,
    /// Checksums by package; empty for a crate of the workspace.
    checksums: BTreeMap<Package, String>,
    programs: Vec<Program>,
    parts: Vec<Part>,
}

impl Bill {
    /// Reads the facts; `read` gives a file's text.
    pub(crate) fn of(facts: &str, read: &dyn Fn(&str) -> Result<String, BillError>) -> Result<Self, BillError> {
        let mut bill = Self::default();
        let mut image = None;
        for line in facts.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split('\t').collect();
            match words[..] {
                ["image", name, version, arch, time] => {
                    let [name, version, arch, time] = [name, version, arch, time].map(str::to_owned);
                    image = Some(Image { name, version, arch, time });
                }
                ["lock", path] => bill.checksums = checksums(&read(path)?),
                ["program", name, sha256, path] => {
                    let wrong = |line| BillError::Tree { program: name.to_owned(), line };
                    let tree = tree::parse(&read(path)?).map_err(wrong)?;
                    bill.programs.push(Program { name: name.to_owned(), sha256: sha256.to_owned(), tree });
                }
                ["library", name, version, purl, licence, programs] => {
                    let programs = programs.split(' ').map(str::to_owned).collect();
                    bill.parts.push(part([name, version, purl, licence], programs));
                }
                ["file", name, version, purl, licence] => {
                    bill.parts.push(part([name, version, purl, licence], Vec::new()));
                }
                _ => return Err(BillError::Fact(line.to_owned())),
            }
        }
        bill.image = image.ok_or(BillError::Missing("image"))?;
        bill.check()?;
        Ok(bill)
    }

    fn check(&self) -> Result<(), BillError> {
        if self.programs.is_empty() {
            return Err(BillError::Missing("programs"));
        }
        match self.packages().keys().find(|package| !self.checksums.contains_key(*package)) {
            Some(Package { name, version }) => {
                Err(BillError::Unlocked { name: name.clone(), version: version.clone() })
            }
            None => Ok(()),
        }
    }

    /// Every crate with its licence.
    fn packages(&self) -> BTreeMap<Package, String> {
        self.programs.iter().flat_map(|program| program.tree.licences.clone()).collect()
    }

    /// CycloneDX.
    pub(crate) fn to_json(&self) -> Value {
        let Image { name, version, arch, time } = &self.image;
        let mut components: Vec<Value> = self.programs.iter().map(|program| program_of(program, version)).collect();
        components.extend(self.packages().iter().map(|(package, licence)| self.crate_of(package, licence)));
        components.extend(self.parts.iter().map(part_of));
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": time,
                "component": {
                    "type": "container", "bom-ref": "image", "name": name, "version": version,
                    "licenses": [{ "expression": "Apache-2.0" }],
                    "properties": [{ "name": "enid:architecture", "value": arch }],
                },
            },
            "components": components,
            "dependencies": self.dependencies(),
        })
    }

    fn crate_of(&self, package: &Package, licence: &str) -> Value {
        let mut component = component("library", &purl(package), &package.name, &package.version);
        let mut set = |key: &str, value: Value| component.insert(key.to_owned(), value);
        set("purl", purl(package).into());
        if !licence.is_empty() {
            // Crates that are older than the syntax write a slash for OR.
            let expression = licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
            set("licenses", json!([{ "expression": expression }]));
        }
        match self.checksums.get(package).filter(|checksum| !checksum.is_empty()) {
            Some(checksum) => set("hashes", json!([{ "alg": "SHA-256", "content": checksum }])),
            None => set("properties", json!([{ "name": "enid:of-this-repository", "value": "true" }])),
        };
        Value::Object(component)
    }

    fn dependencies(&self) -> Vec<Value> {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of_image = edges.entry("image".to_owned()).or_default();
        of_image.extend(self.programs.iter().map(|program| reference(&program.name)));
        of_image.extend(self.parts.iter().filter(|part| part.programs.is_empty()).map(|part| part.purl.clone()));
        for program in &self.programs {
            let own = edges.entry(reference(&program.name)).or_default();
            own.extend(program.tree.root.iter().map(purl));
            let is_linked = |part: &&Part| part.programs.contains(&program.name);
            own.extend(self.parts.iter().filter(is_linked).map(|part| part.purl.clone()));
            for package in program.tree.licences.keys() {
                let below = program.tree.edges.get(package).into_iter().flatten().map(purl);
                edges.entry(purl(package)).or_default().extend(below);
            }
        }
        edges.iter().map(|(from, to)| json!({ "ref": from, "dependsOn": to })).collect()
    }
}

fn part([name, version, purl, licence]: [&str; 4], programs: Vec<String>) -> Part {
    Part {
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl.to_owned(),
        licence: licence.to_owned(),
        programs,
    }
}

fn component(kind: &str, reference: &str, name: &str, version: &str) -> Map<String, Value> {
    let fields = [("type", kind), ("bom-ref", reference), ("name", name), ("version", version)];
    fields.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect()
}

fn program_of(program: &Program, version: &str) -> Value {
    let mut component = component("application", &reference(&program.name), &program.name, version);
    component.insert("hashes".to_owned(), json!([{ "alg": "SHA-256", "content": program.sha256 }]));
    component.insert("licenses".to_owned(), json!([{ "expression": "Apache-2.0" }]));
    Value::Object(component)
}

fn part_of(part: &Part) -> Value {
    let kind = if part.programs.is_empty() { "file" } else { "library" };
    let mut component = component(kind, &part.purl, &part.name, &part.version);
    component.insert("purl".to_owned(), part.purl.as_str().into());
    component.insert("licenses".to_owned(), json!([{ "expression": part.licence }]));
    Value::Object(component)
}

fn reference(program: &str) -> String {
    format!("program:{program}")
}

/// A crate's package URL; `+` of a version's build part is escaped.
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

/// The packages of a lock file.
fn checksums(lock: &str) -> BTreeMap<Package, String> {
    let of = |block: &str| {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
            line.unwrap_or_default().to_owned()
        };
        (Package { name: value("name"), version: value("version") }, value("checksum"))
    };
    lock.split("[[package]]").skip(1).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: &str = "image\tenid\t0.1.0\tamd64\t2026-11-30T12:00:00Z\nlock\tCargo.lock\nprogram\tipamd\taa\ttree\n\
        library\tglibc\t2.36-9\tpkg:deb/debian/glibc@2.36-9\tLGPL-2.1-or-later\tipamd\n\
        file\tca-certificates\t2023\tpkg:deb/debian/ca-certificates@2023\tMPL-2.0\n";
    const LOCK: &str = "[[package]]\nname = \"ipamd\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"serde\"\n\
        version = \"1.0.2\"\nchecksum = \"cc\"\n";
    const TREE: &str = "0ipamd v0.1.0 (/src)|Apache-2.0\n1serde v1.0.2|MIT / Apache-2.0\n";

    fn bill(facts: &str, lock: &str, tree: &str) -> Result<Value, BillError> {
        let read = |path: &str| Ok(if path == "tree" { tree.to_owned() } else { lock.to_owned() });
        Bill::of(facts, &read).map(|bill| bill.to_json())
    }

    #[test]
    fn programs_crates_libraries_and_files_are_named_with_what_they_need() {
        let bill = bill(FACTS, LOCK, TREE).unwrap();
        let components = bill["components"].as_array().unwrap();
        let named = |name: &str, kind: &str| {
            components.iter().find(|component| component["name"] == name && component["type"] == kind).unwrap()
        };
        assert_eq!(named("serde", "library")["purl"], "pkg:cargo/serde@1.0.2");
        assert_eq!(named("serde", "library")["hashes"][0]["content"], "cc");
        assert_eq!(named("serde", "library")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(named("ipamd", "application")["hashes"][0]["content"], "aa");
        assert_eq!(named("ca-certificates", "file")["version"], "2023");
        let needs = |from: &str| {
            let all = bill["dependencies"].as_array().unwrap();
            all.iter().find(|one| one["ref"] == from).unwrap()["dependsOn"].clone()
        };
        assert_eq!(needs("image"), json!(["pkg:deb/debian/ca-certificates@2023", "program:ipamd"]));
        assert_eq!(needs("program:ipamd"), json!(["pkg:cargo/ipamd@0.1.0", "pkg:deb/debian/glibc@2.36-9"]));
        assert_eq!(needs("pkg:cargo/ipamd@0.1.0"), json!(["pkg:cargo/serde@1.0.2"]));
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let unlocked = bill(FACTS, &LOCK.replace("1.0.2", "1.0.1"), TREE).unwrap_err().to_string();
        assert!(unlocked.contains("serde 1.0.2"), "{unlocked}");
        for (facts, said) in [("", "image"), ("image\ta\tb\tc\td\n", "programs"), ("progam\tx\n", "progam")] {
            let error = bill(facts, LOCK, TREE).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(bill(FACTS, LOCK, "serde\n").is_err());
    }
}
