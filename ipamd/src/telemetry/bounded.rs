// SPDX-License-Identifier: Apache-2.0
//! A log file that does not fill the disk: at [`ROTATE_AT`] it becomes `<file>.1`, replacing the one before.
//!
//! One process writes it (the state folder's lock). A file that cannot be set aside is written on; nothing but the log
//! suffers. The reference keeps six files of 100 MB; two of ours hold about a third of that.

#![expect(clippy::disallowed_methods, reason = "this edge renames its own file")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Size in bytes at which the file is set aside.
const ROTATE_AT: u64 = 100 * 1024 * 1024;

/// The file, and how much is in it.
#[derive(Debug)]
pub(super) struct BoundedFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_at: u64,
}

impl BoundedFile {
    /// Opens the file at its end; makes its folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, rotate_at: ROTATE_AT })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&self.path, aside)?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for BoundedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size >= self.rotate_at {
            // Tried again with the next line.
            let _ = self.rotate();
        }
        let written = self.file.write(line)?;
        self.size = self.size.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_only_one_old_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/ipamd.log");
        let mut log = BoundedFile { rotate_at: 10, ..BoundedFile::open(&path).unwrap() };
        for line in ["first line\n", "second line\n", "third\n", "fourth\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\nfourth\n");
        assert_eq!(fs::read_to_string(folder.path().join("logs/ipamd.log.1")).unwrap(), "second line\n");
        assert_eq!(fs::read_dir(folder.path().join("logs")).unwrap().count(), 2);
    }

    #[test]
    fn a_log_goes_on_where_the_daemon_before_left_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipamd.log");
        fs::write(&path, "old\n").unwrap();
        let mut log = BoundedFile::open(&path).unwrap();
        log.write_all(b"new\n").unwrap();
        assert_eq!(log.size, 8);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }
}
