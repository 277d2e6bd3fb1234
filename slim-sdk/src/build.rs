// SPDX-License-Identifier: Apache-2.0
//! The edges: what cargo says of the workspace, the source that it unpacked, and the folder that the copy goes to.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge of a program that runs at build time: it asks cargo and writes files"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::Error;
use crate::layout::Source;
use crate::lock::{Lock, hex};
use crate::ours::{catalog, wanted};
use crate::reach::{Wanted, reach};
use crate::record::{Record, SDK};
use crate::surface::surface;
use crate::trim::{is_word_for_word, trim};

/// Where a crate has code that cargo compiles with its dependencies.
const CODE: [&str; 4] = ["src", "tests", "examples", "benches"];

/// The workspace as cargo knows it.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    lock: Lock,
    /// The folder of the SDK's crate, unpacked by cargo.
    sdk: PathBuf,
    /// Folders of code of our crates that depend on the SDK.
    users: Vec<PathBuf>,
}

/// A slim copy in its folder.
#[derive(Debug)]
pub struct Derived {
    /// The cargo target folder of builds with this copy. The copy is its `aws-sdk-ec2`, cargo's configuration its `cargo.toml`.
    pub folder: PathBuf,
    /// The actions that it holds, by module name.
    pub actions: Vec<String>,
    /// Lines of the copy and of the full crate.
    pub lines: (usize, usize),
    /// Whether this call made it.
    pub new: bool,
}

impl Workspace {
    /// Asks cargo about the workspace in `root`; cargo downloads what the lock file names.
    ///
    /// # Errors
    /// [`Error::Metadata`], [`Error::Io`] and [`Error::Lock`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--locked", "--format-version", "1"])
            .current_dir(root)
            .output()
            .map_err(|source| Error::Io { path: "cargo".into(), source })?;
        if !output.status.success() {
            return Err(Error::Metadata(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| Error::Metadata(error.to_string()))?;
        let lock = Lock::parse(&read(&root.join("Cargo.lock"))?);
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let folder = |package: &Value| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned());
        let depends = |package: &&Value| {
            let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
            package["source"].is_null() && dependencies.iter().any(|dependency| dependency["name"] == SDK)
        };
        let folders = packages.iter().filter(depends).filter_map(folder);
        let users =
            folders.flat_map(|folder| CODE.map(|code| folder.join(code))).filter(|code| code.is_dir()).collect();
        let version = &lock.only(SDK)?.version;
        let sdk = packages.iter().find(|package| package["name"] == SDK && package["version"] == version.as_str());
        let sdk = sdk.and_then(folder).ok_or_else(|| Error::Metadata(format!("no {SDK} {version}")))?;
        Ok(Self { root: root.to_owned(), lock, sdk, users })
    }

    fn record_file(&self) -> PathBuf {
        self.root.join("slim-sdk/checked")
    }

    fn records(&self) -> Result<(Record, Record), Error> {
        let path = self.record_file();
        let checked = if path.exists() { read(&path)? } else { String::new() };
        Ok((Record::parse(&checked), Record::of(&self.lock)?))
    }

    /// Refuses when the locked SDK is not the one that was compared.
    ///
    /// # Errors
    /// [`Error::NotChecked`], or what reading the record says.
    pub fn may_derive(&self) -> Result<(), Error> {
        let (checked, locked) = self.records()?;
        checked.allows(&locked)
    }

    /// Refuses when the comparison is due again.
    ///
    /// # Errors
    /// [`Error::NotChecked`], [`Error::Stale`], or what reading the record says.
    pub fn is_checked(&self) -> Result<(), Error> {
        let (checked, locked) = self.records()?;
        checked.is_of(&locked)
    }

    /// Records that what is locked now has been compared.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Lock`].
    pub fn record(&self) -> Result<PathBuf, Error> {
        let path = self.record_file();
        write(&path, &Record::of(&self.lock)?.text())?;
        Ok(path)
    }

    /// Derives the slim copy into a folder below `base`, unless it is there already, and shows that it is the full crate to callers
    /// of our actions.
    ///
    /// # Errors
    /// [`Error::Layout`], [`Error::NoAction`], [`Error::Altered`], [`Error::Differs`], [`Error::Io`].
    pub fn derive(&self, base: &Path) -> Result<Derived, Error> {
        let full = sources(&self.sdk.join("src"))?;
        let mut ours = Source::new();
        for folder in &self.users {
            ours.extend(
                sources(folder)?.into_iter().map(|(path, text)| (format!("{}/{path}", folder.display()), text)),
            );
        }
        let all = catalog(&full)?;
        let wanted = wanted(&ours, &all);
        if wanted.actions.is_empty() {
            return Err(Error::NoAction);
        }
        let slim = trim(&full, &reach(&full, &wanted)?)?;
        is_word_for_word(&full, &slim)?;
        compare(&full, &slim, &wanted, &all)?;

        let mut files: Source = slim.into_iter().map(|(path, text)| (format!("src/{path}"), text)).collect();
        for name in ["Cargo.toml", "LICENSE"] {
            files.insert(name.into(), read(&self.sdk.join(name))?);
        }
        let lines = |source: &Source| source.values().map(|text| text.lines().count()).sum();
        let mut digest = Sha1::new();
        for (path, text) in &files {
            digest.update(format!("{path}\0{}\0{text}", text.len()));
        }
        let folder = base.join(format!("slim-{}", &hex(digest)[..12]));
        let new = !folder.join(SDK).exists();
        if new {
            place(&folder, &files)?;
        }
        Ok(Derived { folder, actions: wanted.actions.into_iter().collect(), lines: (lines(&files), lines(&full)), new })
    }
}

/// The proof of the surface, with what differs in words.
pub(crate) fn compare(full: &Source, slim: &Source, wanted: &Wanted, all: &Wanted) -> Result<(), Error> {
    let seen = |source| surface(source, &wanted.actions, &all.actions);
    let (full, slim) = (seen(full)?, seen(slim)?);
    let missing = full.difference(&slim).map(|item| format!("- {item}"));
    let added = slim.difference(&full).map(|item| format!("+ {item}"));
    let differences: Vec<String> = missing.chain(added).collect();
    if differences.is_empty() { Ok(()) } else { Err(Error::Differs(differences.join("\n"))) }
}

/// Writes the copy beside its place and renames it, so that a copy that is there is whole.
fn place(folder: &Path, files: &Source) -> Result<(), Error> {
    let copy = folder.join(SDK);
    let draft = folder.join(format!(".{SDK}-{}", std::process::id()));
    for (path, text) in files {
        write(&draft.join(path), text)?;
    }
    let path = toml_string(&copy);
    let config = format!("# Takes the slim copy in place of the registry's crate.\npaths = [{path}]\n");
    // Renamed, too: another build may be reading it, and half of it would be the full SDK.
    let (written, place) = (draft.join("config"), folder.join("cargo.toml"));
    write(&written, &config)?;
    fs::rename(&written, &place).map_err(|source| Error::Io { path: place, source })?;
    match fs::rename(&draft, &copy) {
        // Another build was quicker with the same copy.
        Err(_) if copy.exists() => fs::remove_dir_all(&draft).map_err(|source| Error::Io { path: draft, source }),
        done => done.map_err(|source| Error::Io { path: copy, source }),
    }
}

fn toml_string(path: &Path) -> String {
    Value::from(path.to_string_lossy()).to_string()
}

/// All `.rs` files below a folder.
fn sources(folder: &Path) -> Result<Source, Error> {
    let mut sources = Source::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(current) = todo.pop() {
        let io = |source| Error::Io { path: current.clone(), source };
        for entry in fs::read_dir(&current).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                sources.insert(name, read(&path)?);
            }
        }
    }
    Ok(sources)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.into(), source };
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io)?;
    fs::write(path, text).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Source {
        Source::from([("src/lib.rs".to_owned(), text.to_owned())])
    }

    #[test]
    fn a_copy_is_placed_whole_with_the_configuration_that_names_it() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a \"build\" folder/slim-1");
        place(&folder, &files("1")).unwrap();
        assert_eq!(read(&folder.join("aws-sdk-ec2/src/lib.rs")).unwrap(), "1");
        let named = toml_string(&folder.join(SDK));
        assert!(named.contains(r#"a \"build\" folder/slim-1/aws-sdk-ec2"#), "{named}");
        assert!(read(&folder.join("cargo.toml")).unwrap().ends_with(&format!("\npaths = [{named}]\n")));
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [SDK, "cargo.toml"]);
    }

    #[test]
    fn whoever_is_second_with_a_copy_leaves_the_first_alone() {
        let base = tempfile::tempdir().unwrap();
        place(base.path(), &files("first")).unwrap();
        place(base.path(), &files("second")).unwrap();
        assert_eq!(read(&base.path().join("aws-sdk-ec2/src/lib.rs")).unwrap(), "first");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2, "no draft is left");
    }
}
