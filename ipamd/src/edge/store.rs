// SPDX-License-Identifier: Apache-2.0
//! The journal's files: written whole, by temporary file and rename, so that a reader (or a kill -9) never meets half of
//! one. What is in them is the core's.
//!
//! Durable means: survives the end of any process, not a power cut (the folder is a tmpfs and every record carries the
//! boot id), so there is no fsync. `enid.json` is written before `ipam.json`: should the process end between the two, the
//! address of the newest ADD rests instead of being given out twice.
//!
//! Both files are of one age: one that did not change is touched when the other is written, whichever it is, for the clock may go back.
//! So an `ipam.json` that is later than `enid.json` is somebody else's work, the reference's, and what `enid.json` says of ENIs and of
//! what is free is out of date: nobody is given that.
//!
//! Invariants: a failed write leaves the old file; a file that did not change is touched at most; a file that cannot be parsed
//! is set aside under a name of its own, never deleted.

#![expect(clippy::disallowed_methods, reason = "the file edge of the journal")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipamd_core::Checkpoint;

/// Our own file, beside the reference's.
const OWN_NAME: &str = "enid.json";

/// Our two writes are less apart, on a machine however busy.
const TOGETHER: Duration = Duration::from_secs(10);

/// A journal file that could not be read, written or set aside.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub(crate) struct StoreError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Both files.
#[derive(Debug)]
pub(crate) struct Store {
    own: JournalFile,
    reference: JournalFile,
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    /// What it holds now, as far as we know.
    written: Option<Vec<u8>>,
}

/// The files' contents; `None`: no such file.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Also `None` when it is out of date.
    pub(crate) own: Option<Vec<u8>>,
    pub(crate) reference: Option<Vec<u8>>,
    /// How much later the reference has written its file than we ours, which is out of date then.
    pub(crate) out_of_date: Option<Duration>,
}

impl Store {
    /// The files at the reference's path and beside it.
    pub(crate) fn new(reference: &Path) -> Self {
        let file = |path| JournalFile { path, written: None };
        Self { own: file(reference.with_file_name(OWN_NAME)), reference: file(reference.to_owned()) }
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let out_of_date = self.reference_is_later();
        let own = if out_of_date.is_some() { None } else { self.own.read()? };
        Ok(Loaded { own, reference: self.reference.read()?, out_of_date })
    }

    /// Makes a checkpoint durable.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        // Of one age always, whatever becomes of the clock.
        match (self.own.holds(&checkpoint.own_json), self.reference.holds(&checkpoint.reference_json)) {
            (true, false) => self.own.touch()?,
            (false, true) => self.reference.touch()?,
            (true, true) | (false, false) => {}
        }
        self.own.write(&checkpoint.own_json)?;
        self.reference.write(&checkpoint.reference_json)
    }

    /// Makes the reference's file durable alone: the node goes back to it.
    pub(crate) fn write_reference(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        // Should what follows fail, our file is as good as it was.
        self.own.touch()?;
        self.reference.write(bytes)
    }

    /// Takes our file away under a name of its own, in the place of an earlier one: it is out of date, or will be. `None`: there is
    /// none.
    pub(crate) fn retire_own(&self) -> Result<Option<PathBuf>, StoreError> {
        let aside = self.own.path.with_extension("json.out-of-date");
        match fs::rename(&self.own.path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.own.error("setting aside")(error)),
        }
    }

    /// How much later than ours the reference's file was written, when that was somebody else's doing: where we write that file ours
    /// is written, or touched, right before.
    fn reference_is_later(&self) -> Option<Duration> {
        let [own, reference] = [&self.own, &self.reference].map(|file| fs::metadata(&file.path)?.modified());
        let later = reference.ok()?.duration_since(own.ok()?).ok()?;
        (later > TOGETHER).then_some(later)
    }

    /// Gives our file the name `….corrupt-<unix seconds>`, too; under its own it stays until the next write.
    pub(crate) fn set_own_aside(&self, unix_seconds: i64) -> Result<PathBuf, StoreError> {
        self.own.set_aside(unix_seconds)
    }

    /// The same for the reference's.
    pub(crate) fn set_reference_aside(&self, unix_seconds: i64) -> Result<PathBuf, StoreError> {
        self.reference.set_aside(unix_seconds)
    }
}

impl JournalFile {
    fn error(&self, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError { doing, path, source }
    }

    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("reading")(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.holds(bytes) {
            return Ok(());
        }
        let temporary = self.path.with_extension("json.tmp");
        let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            // Frees what a full disk took; a left-over is overwritten next time.
            let _ = fs::remove_file(&temporary);
            return Err(self.error("writing")(error));
        }
        self.written = Some(bytes.to_owned());
        Ok(())
    }

    /// Whether these bytes were the last that were written.
    fn holds(&self, bytes: &[u8]) -> bool {
        self.written.as_deref() == Some(bytes)
    }

    /// Makes it as young as if it were written now. Somebody may have removed it: then there is nothing that could be too old.
    fn touch(&self) -> Result<(), StoreError> {
        let now = || OpenOptions::new().write(true).open(&self.path)?.set_modified(SystemTime::now());
        match now() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("touching")(error)),
            _ => Ok(()),
        }
    }

    fn set_aside(&self, unix_seconds: i64) -> Result<PathBuf, StoreError> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".corrupt-{unix_seconds}"));
        let aside = PathBuf::from(name);
        // A second name, not another: should the process end before the next write replaces the file, the next start finds
        // it again, and not a node on which nothing was ever allocated.
        match fs::hard_link(&self.path, &aside) {
            Ok(()) => Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(aside),
            Err(_) => fs::rename(&self.path, &aside).map(|()| aside).map_err(self.error("setting aside")),
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(own: &str, reference: &str) -> Checkpoint {
        Checkpoint { own_json: own.into(), reference_json: reference.into() }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read_back_and_no_temporary_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        let mut store = Store::new(&path);
        assert!(store.load().unwrap().own.is_none());
        store.write(&checkpoint("own", "reference")).unwrap();
        let loaded = Store::new(&path).load().unwrap();
        assert_eq!((loaded.own.unwrap(), loaded.reference.unwrap()), (b"own".to_vec(), b"reference".to_vec()));
        assert_eq!(names(folder.path()), ["enid.json", "ipam.json"]);
    }

    #[test]
    fn only_another_s_write_makes_the_reference_s_file_later_than_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        let own = folder.path().join("enid.json");
        let age = |path: &Path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
        };
        let mut store = Store::new(&path);
        assert_eq!(store.reference_is_later(), None, "there is none");
        store.write(&checkpoint("own", "one pod")).unwrap();
        [&path, &own].into_iter().for_each(|path| age(path));
        // An hour later an ADD changes nothing in our file.
        store.write(&checkpoint("own", "two pods")).unwrap();
        assert_eq!(store.reference_is_later(), None);
        age(&own);
        fs::write(&path, "the reference's").unwrap();
        assert!(store.reference_is_later() > Some(Duration::from_secs(3_500)));
        fs::remove_file(&own).unwrap();
        store.write(&checkpoint("own", "three pods")).unwrap();
        assert_eq!(
            (store.reference_is_later(), own.exists()),
            (None, false),
            "what somebody removed stays so until it changes"
        );
    }

    #[test]
    fn a_failed_write_names_the_file_and_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        let mut store = Store::new(&path);
        store.write(&checkpoint("own", "old")).unwrap();
        // A folder in the temporary file's place: the write fails for root too.
        fs::create_dir(folder.path().join("ipam.json.tmp")).unwrap();
        let error = store.write(&checkpoint("own", "new")).unwrap_err();
        assert!(error.to_string().contains("ipam.json"), "{error}");
        assert_eq!(store.load().unwrap().reference.unwrap(), b"old");
        fs::remove_dir(folder.path().join("ipam.json.tmp")).unwrap();
        store.write(&checkpoint("own", "new")).unwrap();
        assert_eq!(store.load().unwrap().reference.unwrap(), b"new");
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(&folder.path().join("ipam.json"));
        // /dev/full answers every write with ENOSPC (null(4)).
        std::os::unix::fs::symlink("/dev/full", folder.path().join("enid.json.tmp")).unwrap();
        let error = store.write(&checkpoint("own", "reference")).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
        assert!(names(folder.path()).is_empty());
        store.write(&checkpoint("own", "reference")).unwrap();
    }

    #[test]
    fn a_reference_file_that_somebody_else_wrote_later_is_told_and_ours_goes_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(&folder.path().join("ipam.json"));
        assert_eq!(store.reference_is_later(), None, "there is nothing");
        store.write(&checkpoint("own", "reference")).unwrap();
        assert_eq!(store.reference_is_later(), None, "one of our writes follows the other");
        let own = fs::File::options().write(true).open(folder.path().join("enid.json")).unwrap();
        let written = own.metadata().unwrap().modified().unwrap();
        own.set_modified(written - Duration::from_secs(60)).unwrap();
        assert_eq!(store.reference_is_later().map(|later| later.as_secs()), Some(60));
        let loaded = store.load().unwrap();
        assert!(loaded.own.is_none() && loaded.reference.is_some() && loaded.out_of_date.is_some());
        assert!(store.retire_own().unwrap().unwrap().exists());
        assert_eq!(names(folder.path()), ["enid.json.out-of-date", "ipam.json"]);
        assert_eq!((store.retire_own().unwrap(), store.reference_is_later()), (None, None));
    }

    #[test]
    fn an_unreadable_file_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(&folder.path().join("ipam.json"));
        store.write(&checkpoint("{", "[")).unwrap();
        store.set_own_aside(17).unwrap();
        store.set_reference_aside(17).unwrap();
        assert_eq!(
            store.load().unwrap().own.unwrap(),
            b"{",
            "a start that ends here is made again from the same files"
        );
        store.write(&checkpoint("new", "newer")).unwrap();
        let kept = ["enid.json", "enid.json.corrupt-17", "ipam.json", "ipam.json.corrupt-17"];
        assert_eq!(names(folder.path()), kept);
        assert_eq!(fs::read(folder.path().join("enid.json.corrupt-17")).unwrap(), b"{");
    }
}
