// SPDX-License-Identifier: Apache-2.0
//! `ipamd support-bundle`: one .tar of all that is needed to find out what a node does, for somebody who cannot log in to it.
//!
//! Works with what there is: without a daemon, with a configuration that has mistakes, without EC2. What could not be had stands in
//! `MANIFEST` with the reason. Changes nothing on the node but the file that it writes, which only its owner may read.
//!
//! | module | does |
//! |---|---|
//! | `parts` | what goes in |
//! | `scrub` | what does not: secrets |
//!
//! Invariant: every byte of every part but the archive's own headers has gone through the [`scrub::Scrubber`].

mod parts;
mod scrub;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipamd_core::Config;
use ipamd_core::config::{self, Bind, Source};
use ipamd_core::tags::rfc3339;

use super::{Environment, print};
use crate::clock;
use parts::Part;
use scrub::Scrubber;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Where the daemon answers; `None`: where it does by default.
    pub address: Option<Bind>,
    /// Where it goes, `-` for standard output; `None`: a name of its own in the working folder.
    pub file: Option<PathBuf>,
}

/// Packs, and says where.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn run(question: &Question, out: &mut dyn Write) -> Result<(), String> {
    let unix_nanos = clock::now().unix_nanos;
    let time: String = rfc3339(unix_nanos).chars().filter(|letter| !['-', ':'].contains(letter)).collect();
    let node = Environment.get("MY_NODE_NAME").filter(|name| !name.is_empty()).or_else(parts::host_name);
    let node: String = node
        .unwrap_or_default()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(*letter))
        .collect();
    let name = format!("enid-support-{node}-{time}");
    let file = question.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
    // First: who may not write here is not made to wait.
    let to_file = if file == Path::new("-") { None } else { Some(create(&file)?) };
    let (config, mistakes) = settings(&Environment);
    let scrubber = Scrubber::of(&Environment);
    let parts = parts::collect(&config, question.address.as_ref(), mistakes);
    let packed = pack(&name, &parts, &scrubber, unix_nanos / 1_000_000_000)?;
    match to_file {
        None => print(out, &packed),
        Some(mut target) => {
            target.write_all(&packed).map_err(|error| format!("writing {}: {error}", file.display()))?;
            let missing = parts.iter().filter(|part| part.content.is_err()).count();
            let text = format!(
                "{}: {} parts, {} bytes; {missing} could not be had (MANIFEST in it says why). Secrets are left out, names and addresses \
                 of the cluster are not.\n",
                file.display(),
                parts.len() - missing,
                packed.len()
            );
            print(out, &text)
        }
    }
}

/// Never over another file, nor through a link that somebody has laid there.
fn create(path: &Path) -> Result<std::fs::File, String> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "name another with --output",
            _ => "name a place that can be written with --output, or - for standard output",
        };
        format!("making {}: {error}; {hint}", path.display())
    })
}

/// The settings as far as they can be understood, and what cannot.
fn settings(environment: &dyn Source) -> (Config, Vec<String>) {
    match config::parse(environment) {
        Ok((config, _)) => (config, Vec::new()),
        Err(mistakes) => {
            let path = |name: &str| environment.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
            let default = Config::default();
            let socket = path("ENID_SOCKET").unwrap_or_else(|| default.socket.clone());
            let journal = path("AWS_VPC_K8S_CNI_BACKING_STORE").unwrap_or_else(|| default.journal.clone());
            (Config { socket, journal, ..default }, mistakes.iter().map(ToString::to_string).collect())
        }
    }
}

/// The archive: a folder with a file for each part, and MANIFEST.
fn pack(folder: &str, parts: &[Part], scrubber: &Scrubber, unix_seconds: i64) -> Result<Vec<u8>, String> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut manifest = String::from("What is in this bundle, and what could not be had.\n\n");
    let mut add = |name: &str, bytes: &[u8]| -> Result<(), String> {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(unix_seconds).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        let added = archive.append_data(&mut header, format!("{folder}/{name}"), bytes);
        added.map_err(|error| format!("packing {name}: {error}"))
    };
    for Part { name, content } in parts {
        match content {
            Ok(text) => {
                let text = scrubber.clean(text);
                manifest.push_str(&format!("{name}: {} bytes\n", text.len()));
                add(name, text.as_bytes())?;
            }
            Err(why) => manifest.push_str(&format!("{name}: not had: {}\n", scrubber.clean(why.trim()))),
        }
    }
    add("MANIFEST", manifest.as_bytes())?;
    archive.into_inner().map_err(|error| format!("packing: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn parts_are_files_and_what_is_missing_is_named() {
        let environment: BTreeMap<String, String> =
            [("AWS_SECRET_ACCESS_KEY".to_owned(), "planted-secret".to_owned())].into();
        let parts = [
            Part { name: "daemon/status.json".to_owned(), content: Ok("{\"a\":\"planted-secret\"}".to_owned()) },
            Part { name: "doctor.json".to_owned(), content: Err("refused with planted-secret".to_owned()) },
        ];
        let packed = pack("bundle", &parts, &Scrubber::of(&environment), 0).unwrap();
        assert!(!packed.windows(14).any(|window| window == b"planted-secret"));
        let mut archive = tar::Archive::new(packed.as_slice());
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (mut text, name) = (String::new(), entry.path().unwrap().display().to_string());
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["bundle/MANIFEST", "bundle/daemon/status.json"]);
        let manifest = &files["bundle/MANIFEST"];
        assert!(
            manifest.contains("daemon/status.json: ") && manifest.contains("doctor.json: not had: refused"),
            "{manifest}"
        );
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        create(&path).unwrap();
        assert!(create(&path).unwrap_err().contains("--output"));
        assert!(create(&folder.path().join("no/x.tar")).unwrap_err().contains("standard output"));
    }

    #[test]
    fn settings_with_mistakes_still_say_where_the_daemon_is() {
        let environment: BTreeMap<String, String> = [("ENID_SOCKET", "/run/x/ipamd.sock"), ("MAX_ENI", "none")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into();
        let (config, mistakes) = settings(&environment);
        assert_eq!(config.socket, Path::new("/run/x/ipamd.sock"));
        assert!(mistakes[0].contains("MAX_ENI"), "{mistakes:?}");
    }
}
