// SPDX-License-Identifier: Apache-2.0
//! The network configuration list for the runtime: written when an ADD would succeed, which to kubelet means that the node is ready.
//!
//! Once in the life of a daemon and never withdrawn: what happens later is STATUS' to tell. What the file says, and what becomes of
//! what others wrote into it, is `ipamd_core::conflist`'s. A file that is no list is set aside. While the folder is not there, or
//! reads only, it is tried again; told once. Files that the runtime takes before ours are told as long as they are there.
//!
//! ```text
//!  Waiting ─ serving ─► Trying ─ written, or as it was ─► Written        files before ours: looked for about every minute
//!                        └─ failed: told once, again in 5 s
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipamd_core::Config;
use ipamd_core::conflist::{self, Malformed};
use ipamd_core::reason::ReasonCode;
use tokio::sync::watch;

use super::place::{self, PlaceError, Placed};
use crate::alarm::sleep;
use crate::clock;
use crate::telemetry::chain;

/// Pause before the file is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// As the runtime's user reads it.
const MODE: u32 = 0o644;

/// Why the list could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConflistError {
    #[error("the template {} cannot be used (ENID_CONFLIST_TEMPLATE)", path.display())]
    Template {
        path: PathBuf,
        #[source]
        source: Malformed,
    },
    #[error("there is no template {} (ENID_CONFLIST_TEMPLATE)", .0.display())]
    NoTemplate(PathBuf),
    #[error(transparent)]
    File(#[from] PlaceError),
}

/// What a successful try did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    placed: Placed,
    /// Types of others' plugins in the list.
    others: Vec<String>,
    /// Where a file that was no list is now, and why it was none.
    aside: Option<(PathBuf, String)>,
}

/// The list's edge.
#[derive(Debug)]
pub(crate) struct Conflist {
    folder: PathBuf,
    config: Config,
    notes: watch::Sender<Vec<String>>,
}

impl Conflist {
    /// `None`: no list is to be written. What an operator must know of it is sent to `notes`.
    pub(crate) fn new(config: &Config, notes: watch::Sender<Vec<String>>) -> Option<Self> {
        Some(Self { folder: config.cni.conf_folder.clone()?, config: config.clone(), notes })
    }

    /// Runs for ever: waits until an address is proven, writes, then looks for files before ours at every one of `beats`: somebody may
    /// install another CNI at any time.
    pub(crate) async fn run(self, mut serving: watch::Receiver<bool>, mut beats: watch::Receiver<()>) {
        if serving.wait_for(|is_serving| *is_serving).await.is_err() {
            return;
        }
        let mut is_told = false;
        loop {
            let (folder, config) = (self.folder.clone(), self.config.clone());
            let tried = tokio::task::spawn_blocking(move || write(&folder, &config)).await;
            match tried {
                Ok(Ok(done)) => {
                    self.tell(&done);
                    break;
                }
                Ok(Err(error)) if !is_told => {
                    let error = chain(&error);
                    tracing::error!(
                        code = %ReasonCode::ConflistNotWritten, error,
                        "no network configuration list for the runtime yet, trying again every 5 s"
                    );
                    self.notes.send_replace(vec![format!("{} is not written: {error}", conflist::NAME)]);
                    is_told = true;
                }
                // A panic ends the process, and with it this.
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(PAUSE).await;
        }
        loop {
            let notes: Vec<String> =
                before_ours(&self.folder).iter().map(|name| shadowed(&self.folder, name)).collect();
            if *self.notes.borrow() != notes {
                notes.iter().for_each(|note| tracing::warn!(code = %ReasonCode::ConflistShadowed, "{note}"));
                self.notes.send_replace(notes);
            }
            if beats.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, Done { placed, others, aside }: &Done) {
        let (path, others) = (self.folder.join(conflist::NAME), others.join(", "));
        if let Some((aside, reason)) = aside {
            tracing::error!(
                code = %ReasonCode::ConflistReplaced, reason, aside = %aside.display(),
                "the list that was there cannot be used, it was set aside"
            );
        }
        match placed {
            Placed::Written => tracing::info!(path = %path.display(), others, "wrote the network configuration list"),
            Placed::Same => tracing::info!(path = %path.display(), others, "the network configuration list is right"),
        }
    }
}

/// The list that the settings ask for, by the operator's template where there is one.
pub(crate) fn wanted(config: &Config) -> Result<serde_json::Value, ConflistError> {
    let wanted = match &config.cni.template {
        None => conflist::wanted(config, None),
        Some(path) => {
            let text = place::read(path)?.ok_or_else(|| ConflistError::NoTemplate(path.clone()))?;
            conflist::wanted(config, Some(&String::from_utf8_lossy(&text)))
        }
    };
    let template = || config.cni.template.clone().unwrap_or_default();
    wanted.map_err(|source| ConflistError::Template { path: template(), source })
}

/// Writes the list into `folder`, unless it says the same.
pub(crate) fn write(folder: &Path, config: &Config) -> Result<Done, ConflistError> {
    let wanted = wanted(config)?;
    let path = folder.join(conflist::NAME);
    let found = place::read(&path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (mut list, mut others, mut aside) = (wanted.clone(), Vec::new(), None);
    if let Some(found) = found {
        match conflist::merged(&wanted, &found) {
            Ok(merged) if is_same(&found, &merged.list) => {
                return Ok(Done { placed: Placed::Same, others: merged.others, aside });
            }
            Ok(merged) => (list, others) = (merged.list, merged.others),
            Err(reason) => {
                let seconds = clock::now().unix_nanos / 1_000_000_000;
                aside = Some((place::set_aside(&path, &format!("malformed-{seconds}"))?, reason.to_string()));
            }
        }
    }
    Ok(Done { placed: place::place(&path, conflist::text(&list).as_bytes(), MODE)?, others, aside })
}

/// Whether the text says the same already, however it is set.
fn is_same(found: &str, list: &serde_json::Value) -> bool {
    serde_json::from_str::<serde_json::Value>(found).is_ok_and(|found| found == *list)
}

/// Names in the folder that runtimes take before ours.
pub(crate) fn before_ours(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    conflist::taken_before(names.iter().map(String::as_str)).into_iter().map(str::to_owned).collect()
}

/// What is said of one of them.
pub(crate) fn shadowed(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    format!(
        "runtimes take {} before {}: pods get their network by it, which is right only if it calls {} in turn, as Multus does; \
         else remove it",
        path.display(),
        conflist::NAME,
        conflist::PLUGIN,
    )
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files that others write")]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_no_list_is_set_aside_and_one_that_says_the_same_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(conflist::NAME);
        fs::write(&path, "{ half").unwrap();
        let done = write(folder.path(), &Config::default()).unwrap();
        let (aside, reason) = done.aside.unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "{ half");
        assert!(reason.starts_with("it is not JSON"), "{reason}");
        assert_eq!(names(folder.path()).len(), 2);
        assert!(!["conf", "conflist", "json"].contains(&aside.extension().unwrap().to_str().unwrap()));
        // The same in another setting.
        let list: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        fs::write(&path, list.to_string()).unwrap();
        let done = write(folder.path(), &Config::default()).unwrap();
        assert_eq!(done, Done { placed: Placed::Same, others: Vec::new(), aside: None });
        assert_eq!(fs::read_to_string(&path).unwrap(), list.to_string());
    }

    #[test]
    fn a_folder_or_a_template_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = chain(&write(&folder.path().join("none"), &Config::default()).unwrap_err());
        assert!(error.contains("none/.10-aws.conflist.enid: No such file"), "{error}");
        let mut config = Config::default();
        config.cni.template = Some(folder.path().join("template"));
        let error = chain(&write(folder.path(), &config).unwrap_err());
        assert!(error.starts_with("there is no template"), "{error}");
        fs::write(folder.path().join("template"), "{}").unwrap();
        let error = chain(&write(folder.path(), &config).unwrap_err());
        assert!(error.ends_with("it has no array `plugins`"), "{error}");
    }

    #[test]
    fn files_before_ours_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["05-other.conflist", "99-loopback.conf", "00-note.txt"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        assert_eq!(before_ours(folder.path()), ["05-other.conflist"]);
        assert!(before_ours(Path::new("/nowhere")).is_empty());
    }
}
