// SPDX-License-Identifier: Apache-2.0
//! Reads `Cargo.lock`: which aws-sdk-ec2 is locked, and a digest of all that a build of the EC2 edge is made of.

use std::collections::{BTreeMap, BTreeSet};

use sha1::{Digest, Sha1};

use crate::Error;

/// A package of the lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its version.
    pub version: String,
    /// The registry's checksum of it, SHA-256 in hex; empty for a crate of the workspace.
    pub checksum: String,
    /// What it depends on: `name` or `name version`.
    dependencies: Vec<String>,
}

/// The packages of a lock file by name; several versions of one name are several entries.
#[derive(Debug, Clone, Default)]
pub struct Lock(BTreeMap<String, Vec<Package>>);

impl Lock {
    /// Reads a lock file's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lock = Self::default();
        for block in text.split("[[package]]").skip(1) {
            let mut package = Package::default();
            let mut name = "";
            for line in block.lines() {
                let value = |key: &str| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.trim_end_matches('"'));
                if let Some(text) = value("name") {
                    name = text;
                } else if let Some(text) = value("version") {
                    package.version = text.into();
                } else if let Some(text) = value("checksum") {
                    package.checksum = text.into();
                } else if let Some(text) = line.strip_prefix(" \"").and_then(|line| line.strip_suffix("\",")) {
                    package.dependencies.push(text.into());
                }
            }
            lock.0.entry(name.into()).or_default().push(package);
        }
        lock
    }

    /// The only version of a package.
    ///
    /// # Errors
    /// [`Error::Lock`] when there is none or more than one.
    pub fn only(&self, name: &str) -> Result<&Package, Error> {
        match self.0.get(name).map(Vec::as_slice) {
            Some([package]) => Ok(package),
            found => Err(Error::Lock { name: name.into(), versions: found.map_or(0, <[Package]>::len) }),
        }
    }

    /// A digest of a package and of all that it is built from: names, versions and checksums.
    ///
    /// # Errors
    /// [`Error::Lock`] when the package is not there once.
    pub fn digest(&self, name: &str) -> Result<String, Error> {
        self.only(name)?;
        let mut todo = vec![name.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(dependency) = todo.pop() {
            let (name, version) = dependency.split_once(' ').unwrap_or((&dependency, ""));
            let version = version.split(' ').next().unwrap_or_default();
            for package in self
                .0
                .get(name)
                .into_iter()
                .flatten()
                .filter(|package| version.is_empty() || package.version == version)
            {
                if seen.insert(format!("{name} {} {}", package.version, package.checksum)) {
                    todo.extend(package.dependencies.iter().cloned());
                }
            }
        }
        Ok(hex(Sha1::new().chain_update(seen.into_iter().collect::<Vec<_>>().join("\n"))))
    }
}

/// A digest in hex.
#[must_use]
pub fn hex(digest: Sha1) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version = 4\n\n[[package]]\nname = \"edge\"\nversion = \"0.1.0\"\ndependencies = [\n \"http 1.0.0\",\n \"sdk\",\n]\n\n[[package]]\nname = \"http\"\nversion = \"0.2.0\"\nsource = \"registry\"\nchecksum = \"aa\"\n\n[[package]]\nname = \"http\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"bb\"\n\n[[package]]\nname = \"sdk\"\nversion = \"1.274.0\"\nsource = \"registry\"\nchecksum = \"cc\"\n\n[[package]]\nname = \"other\"\nversion = \"3.0.0\"\nchecksum = \"dd\"\n";

    #[test]
    fn the_locked_version_is_read() {
        let lock = Lock::parse(TEXT);
        let sdk = lock.only("sdk").unwrap();
        assert_eq!((sdk.version.as_str(), sdk.checksum.as_str()), ("1.274.0", "cc"));
        assert!(lock.only("http").unwrap_err().to_string().contains("2 versions"));
        assert!(lock.only("absent").is_err());
    }

    #[test]
    fn the_digest_is_of_what_the_edge_is_built_from_and_of_nothing_else() {
        let digest = |from: &str, to: &str| Lock::parse(&TEXT.replace(from, to)).digest("edge").unwrap();
        let before = digest("", "");
        assert_ne!(digest("\"cc\"", "\"ce\""), before, "the SDK");
        assert_ne!(digest("\"bb\"", "\"be\""), before, "the version it depends on");
        assert_eq!(digest("\"aa\"", "\"ae\""), before, "another version");
        assert_eq!(digest("\"dd\"", "\"de\""), before, "another crate");
    }
}
