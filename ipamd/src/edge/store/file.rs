// SPDX-License-Identifier: Apache-2.0
//! One file of the journal, in two copies: the one at its path, which everybody may read and nobody writes, and one under the temporary
//! name, which is one write behind.
//!
//! A write of what has changed costs the same however long the file is:
//!
//! ```text
//!  ipam.json      A ── ── exchanged with ─► B     renameat2(2), RENAME_EXCHANGE: a reader finds all of A or all of B
//!  ipam.json.tmp  B: what changed in A, and what changes now ─► A
//! ```
//!
//! Anything else than was left is a reason to write a new file whole and rename it: the first write, another length, a copy that somebody
//! removed, replaced or changed, one that a reader who opened it under its path before has still open (a lease says so, fcntl(2)), a file
//! system that exchanges nothing.
//!
//! Invariants: a file that is at the path is never written to, whoever opened it there; whatever fails, the file at the path is one that was
//! written to its end.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipamd_core::checkpoint::{Changed, Draft};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::StoreError;

/// A file of the journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// The copy at the path; `None`: it is not known to hold what was told.
    shown: Option<Stamp>,
    /// The copy under the temporary name.
    spare: Option<Spare>,
}

/// A copy that is behind.
#[derive(Debug)]
struct Spare {
    stamp: Stamp,
    /// Where the copy at the path is another.
    behind: Vec<Range<usize>>,
}

/// By what a copy is known to be as we left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    names: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            names: file.nlink(),
            length: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }
}

impl JournalFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, shown: None, spare: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError { doing, path, source }
    }

    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("reading")(error)),
        }
    }

    /// Whether this was the last that was written.
    pub(super) fn holds(&self, draft: &Draft<'_>) -> bool {
        draft.is_unchanged() && self.shown.is_some()
    }

    /// Something that it was told of was not written: the next write is whole.
    pub(super) fn distrust(&mut self) {
        (self.shown, self.spare) = (None, None);
    }

    pub(super) fn write(&mut self, draft: &Draft<'_>) -> Result<(), StoreError> {
        if self.holds(draft) {
            return Ok(());
        }
        // The copy that is exchanged is behind by this, when all else of it is known.
        let changed = match &draft.changed {
            Changed::At(ranges) if self.shown.is_some_and(|shown| shown.length == draft.text.len() as u64) => {
                Some(ranges)
            }
            Changed::At(_) | Changed::Whole => None,
        };
        let spare = self.spare.take();
        if let (Some(spare), Some(ranges)) = (spare, changed)
            && let Ok(Some(stamp)) = self.bring_up(&spare, ranges, draft.text)
            && self.exchange(stamp, ranges).is_ok()
        {
            return Ok(());
        }
        self.write_whole(draft.text, changed).map_err(self.error("writing"))
    }

    /// Brings the second copy up to date. `None`: it is not as it was left, or somebody reads it.
    fn bring_up(&self, spare: &Spare, changed: &[Range<usize>], text: &[u8]) -> io::Result<Option<Stamp>> {
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(no_link).open(self.temporary())?;
        if Stamp::of(&file.metadata()?) != spare.stamp
            || spare.stamp.length != text.len() as u64
            || !is_ours_alone(&file)
        {
            return Ok(None);
        }
        for range in spare.behind.iter().chain(changed) {
            let bytes = text.get(range.clone()).ok_or(io::ErrorKind::InvalidInput)?;
            file.write_all_at(bytes, range.start as u64)?;
        }
        Ok(Some(Stamp::of(&file.metadata()?)))
    }

    fn exchange(&mut self, stamp: Stamp, changed: &[Range<usize>]) -> io::Result<()> {
        renameat_with(CWD, self.temporary(), CWD, &self.path, RenameFlags::EXCHANGE)?;
        self.spare = self.shown.map(|shown| Spare { stamp: shown, behind: changed.to_vec() });
        self.shown = Some(stamp);
        Ok(())
    }

    fn write_whole(&mut self, text: &[u8], changed: Option<&Vec<Range<usize>>>) -> io::Result<()> {
        let temporary = self.temporary();
        // Another file, not this one from its beginning: somebody may have opened it when it was at the path.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = write_new(&temporary, text).and_then(|stamp| {
            if changed.is_some_and(|changed| self.exchange(stamp, changed).is_ok()) {
                return Ok(());
            }
            fs::rename(&temporary, &self.path)?;
            (self.shown, self.spare) = (Some(stamp), None);
            Ok(())
        });
        if written.is_err() {
            // Frees what a full disk took; a left-over is removed next time.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Makes it as young as if it were written now. Somebody may have removed it: then there is nothing that could be too old.
    pub(super) fn touch(&mut self) -> Result<(), StoreError> {
        let now = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            let known = self.shown == Some(Stamp::of(&file.metadata()?));
            file.set_modified(SystemTime::now())?;
            io::Result::Ok((known, Stamp::of(&file.metadata()?)))
        };
        match now() {
            Ok((true, stamp)) => self.shown = Some(stamp),
            Ok((false, _)) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.error("touching")(error)),
            Err(_) => {}
        }
        Ok(())
    }

    /// Takes the second copy away.
    pub(super) fn close(&mut self) {
        if self.spare.take().is_some() {
            // One that stays the next daemon removes.
            let _ = fs::remove_file(self.temporary());
        }
    }

    pub(super) fn set_aside(&self, unix_seconds: i64) -> Result<PathBuf, StoreError> {
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

    fn temporary(&self) -> PathBuf {
        self.path.with_extension("json.tmp")
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<Stamp> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(Stamp::of(&file.metadata()?))
}

/// `include/uapi/asm-generic/fcntl.h`; libc has it for some targets only.
const F_SETSIG: libc::c_int = 10;

/// Whether nobody else has it open: the kernel gives a lease for writing to nobody else (fcntl(2), F_SETLEASE). It ends when the file is
/// closed, and whoever opens it meanwhile waits for that.
#[expect(unsafe_code, reason = "no library has leases")]
fn is_ours_alone(file: &File) -> bool {
    let control = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: neither command has to do with memory of ours; the descriptor is open.
        unsafe { libc::fcntl(file.as_raw_fd(), command, argument) == 0 }
    };
    // Of who waits a signal tells: one that does nothing, not SIGIO, which ends the process.
    control(F_SETSIG, libc::SIGURG) && control(libc::F_SETLEASE, libc::F_WRLCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that holds `aaaaaaaa`, and was written twice, so that it has its two copies.
    fn two_copies(folder: &Path) -> JournalFile {
        let mut file = JournalFile::new(folder.join("ipam.json"));
        file.write(&Draft { text: b"aaaaaaab", changed: Changed::Whole }).unwrap();
        change(&mut file, "aaaaaaaa", 7..8);
        file
    }

    fn change(file: &mut JournalFile, text: &str, range: Range<usize>) {
        file.write(&Draft { text: text.as_bytes(), changed: Changed::At(vec![range]) }).unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), text.as_bytes());
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn what_changes_is_written_into_one_of_two_copies_and_the_other_catches_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = two_copies(folder.path());
        let (shown, spare) = (inode(file.path()), inode(&file.temporary()));
        change(&mut file, "baaaaaaa", 0..1);
        assert_eq!((inode(file.path()), inode(&file.temporary())), (spare, shown));
        change(&mut file, "bacaaaaa", 2..3);
        assert_eq!((inode(file.path()), inode(&file.temporary())), (shown, spare));
        change(&mut file, "bacaaaad", 7..8);
        file.write(&Draft { text: b"longer than it was", changed: Changed::Whole }).unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"longer than it was");
        assert!(!file.temporary().exists());
        change(&mut file, "Longer than it was", 0..1);
        assert!(file.temporary().exists());
        file.close();
        assert!(!file.temporary().exists());
    }

    #[test]
    fn who_reads_it_meets_one_state_however_often_it_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = two_copies(folder.path());
        let mut readers = Vec::new();
        for (place, letter) in ["b", "c", "d", "e", "f"].into_iter().enumerate() {
            readers.push((fs::read_to_string(file.path()).unwrap(), File::open(file.path()).unwrap()));
            let mut text = readers[place].0.clone();
            text.replace_range(place..=place, letter);
            change(&mut file, &text, place..place + 1);
        }
        for (found, reader) in readers {
            assert_eq!(io::read_to_string(reader).unwrap(), found);
        }
    }

    #[test]
    fn a_copy_that_is_not_as_it_was_left_is_not_used() {
        type Harm = fn(&Path, &Path);
        let harms: [Harm; 6] = [
            |_, spare| fs::remove_file(spare).unwrap(),
            |_, spare| fs::write(spare, "zzzzzzzz").unwrap(),
            |shown, _| fs::write(shown, "zzzzzzzz").unwrap(),
            |shown, _| fs::remove_file(shown).unwrap(),
            |shown, spare| {
                fs::write(spare.with_extension("new"), "zzzzzzzz").unwrap();
                fs::rename(spare.with_extension("new"), shown).unwrap();
            },
            |shown, spare| fs::hard_link(shown, spare.with_extension("kept")).unwrap(),
        ];
        for harm in harms {
            let folder = tempfile::tempdir().unwrap();
            let mut file = two_copies(folder.path());
            harm(file.path(), &file.temporary());
            for (text, place) in [("baaaaaaa", 0), ("bbaaaaaa", 1), ("bbbaaaaa", 2), ("bbbbaaaa", 3)] {
                change(&mut file, text, place..place + 1);
            }
            let kept = fs::read(folder.path().join("ipam.json.kept"));
            assert!(kept.is_err() || kept.unwrap() == b"aaaaaaaa", "a second name keeps what it had");
        }
    }
}
