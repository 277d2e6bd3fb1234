// SPDX-License-Identifier: Apache-2.0
//! The journal's files: exchanged whole, so that a reader (or a kill -9) never meets half of one, though only what has changed is written
//! ([`file`]). What is in them is the core's.
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

mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipamd_core::Drafts;
use ipamd_core::checkpoint::{Changed, Draft};

use file::JournalFile;

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
        let own = JournalFile::new(reference.with_file_name(OWN_NAME));
        Self { own, reference: JournalFile::new(reference.to_owned()) }
    }

    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let out_of_date = self.reference_is_later();
        let own = if out_of_date.is_some() { None } else { self.own.read()? };
        Ok(Loaded { own, reference: self.reference.read()?, out_of_date })
    }

    /// Makes a state durable.
    pub(crate) fn write(&mut self, drafts: &Drafts<'_>) -> Result<(), StoreError> {
        let written = self.write_both(drafts);
        if written.is_err() {
            // What of these drafts was not written nobody says again.
            [&mut self.own, &mut self.reference].into_iter().for_each(JournalFile::distrust);
        }
        written
    }

    fn write_both(&mut self, Drafts { own, reference }: &Drafts<'_>) -> Result<(), StoreError> {
        // Of one age always, whatever becomes of the clock.
        match (self.own.holds(own), self.reference.holds(reference)) {
            (true, false) => self.own.touch()?,
            (false, true) => self.reference.touch()?,
            (true, true) | (false, false) => {}
        }
        self.own.write(own)?;
        self.reference.write(reference)
    }

    /// Takes the second copies away: nothing is written any more.
    pub(crate) fn close(&mut self) {
        self.own.close();
        self.reference.close();
    }

    /// Makes the reference's file durable alone: the node goes back to it.
    pub(crate) fn write_reference(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        // Should what follows fail, our file is as good as it was.
        self.own.touch()?;
        self.reference.write(&Draft { text: bytes, changed: Changed::Whole })
    }

    /// Takes our file away under a name of its own, in the place of an earlier one: it is out of date, or will be. `None`: there is
    /// none.
    pub(crate) fn retire_own(&self) -> Result<Option<PathBuf>, StoreError> {
        let aside = self.own.path().with_extension("json.out-of-date");
        match fs::rename(self.own.path(), &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.own.error("setting aside")(error)),
        }
    }

    /// How much later than ours the reference's file was written, when that was somebody else's doing: where we write that file ours
    /// is written, or touched, right before.
    fn reference_is_later(&self) -> Option<Duration> {
        let [own, reference] = [&self.own, &self.reference].map(|file| fs::metadata(file.path())?.modified());
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

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::time::SystemTime;

    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

    use super::*;

    fn whole<'a>(own: &'a str, reference: &'a str) -> Drafts<'a> {
        Drafts { own: draft(own, Changed::Whole), reference: draft(reference, Changed::Whole) }
    }

    fn draft(text: &str, changed: Changed) -> Draft<'_> {
        Draft { text: text.as_bytes(), changed }
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
        store.write(&whole("own", "reference")).unwrap();
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
        store.write(&whole("own", "one pod")).unwrap();
        [&path, &own].into_iter().for_each(|path| age(path));
        // An hour later an ADD changes nothing in our file.
        let unchanged = draft("own", Changed::At(Vec::new()));
        store.write(&Drafts { own: unchanged.clone(), reference: draft("two pods", Changed::Whole) }).unwrap();
        assert_eq!(store.reference_is_later(), None);
        age(&own);
        fs::write(&path, "the reference's").unwrap();
        assert!(store.reference_is_later() > Some(Duration::from_secs(3_500)));
        fs::remove_file(&own).unwrap();
        store.write(&Drafts { own: unchanged, reference: draft("three pods", Changed::Whole) }).unwrap();
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
        store.write(&whole("own", "old")).unwrap();
        // A folder in the temporary file's place: the write fails for root too.
        fs::create_dir(folder.path().join("ipam.json.tmp")).unwrap();
        let error = store.write(&whole("own", "new")).unwrap_err();
        assert!(error.to_string().contains("ipam.json"), "{error}");
        assert_eq!(store.load().unwrap().reference.unwrap(), b"old");
        fs::remove_dir(folder.path().join("ipam.json.tmp")).unwrap();
        store.write(&whole("own", "new")).unwrap();
        assert_eq!(store.load().unwrap().reference.unwrap(), b"new");
    }

    /// Runs it in a mount namespace that nobody else sees.
    #[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
    fn with_mounts_of_its_own(work: impl FnOnce() + Send) {
        let enter = || {
            let flags = rustix::thread::UnshareFlags::FS | rustix::thread::UnshareFlags::NEWNS;
            // SAFETY: descriptors stay shared.
            unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            work();
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        with_mounts_of_its_own(|| {
            mount("enid", folder.path(), "tmpfs", MountFlags::empty(), c"size=16k").unwrap();
            let mut store = Store::new(&folder.path().join("ipam.json"));
            let filler = folder.path().join("filler");
            fs::write(&filler, vec![0_u8; 16 << 10]).unwrap();
            let error = store.write(&whole("own", "reference")).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
            assert_eq!(names(folder.path()), ["filler"]);
            fs::remove_file(filler).unwrap();
            store.write(&whole("own", "reference")).unwrap();
            assert_eq!(names(folder.path()), ["enid.json", "ipam.json"]);
        });
    }

    #[test]
    fn a_reference_file_that_somebody_else_wrote_later_is_told_and_ours_goes_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(&folder.path().join("ipam.json"));
        assert_eq!(store.reference_is_later(), None, "there is nothing");
        store.write(&whole("own", "reference")).unwrap();
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
        store.write(&whole("{", "[")).unwrap();
        store.set_own_aside(17).unwrap();
        store.set_reference_aside(17).unwrap();
        assert_eq!(
            store.load().unwrap().own.unwrap(),
            b"{",
            "a start that ends here is made again from the same files"
        );
        store.write(&whole("new", "newer")).unwrap();
        let kept = ["enid.json", "enid.json.corrupt-17", "ipam.json", "ipam.json.corrupt-17"];
        assert_eq!(names(folder.path()), kept);
        assert_eq!(fs::read(folder.path().join("enid.json.corrupt-17")).unwrap(), b"{");
    }
}
