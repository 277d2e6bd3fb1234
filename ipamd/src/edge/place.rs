// SPDX-License-Identifier: Apache-2.0
//! Files that other programs watch or run: each is whole or not there, whoever is killed, and is written only when it would change.
//!
//! A temporary file in the same folder, on the disk before it is renamed: folders of CNI may be on one that survives a power cut, and
//! half a plugin would too. Its name begins with a dot and ends in `.enid`, which no runtime reads; one that a killed process left
//! is written over.

#![expect(clippy::disallowed_methods, reason = "the file edge of what is installed")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be put in its place, or taken away.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub(crate) struct PlaceError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl PlaceError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

/// Whether anything was done, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It was so.
    Same,
    /// It was written.
    Written,
}

/// Whether the file has these bytes and this mode.
pub(crate) fn is_so(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let has_mode =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == mode);
    has_mode && fs::read(path).is_ok_and(|found| found == bytes)
}

/// The file's bytes; `None`: there is none.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, PlaceError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PlaceError::new("reading", path, error)),
    }
}

/// Puts a file of these bytes in its place. Its folder must be there.
///
/// # Errors
/// The step that failed; what was there before is there still.
pub(crate) fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<Placed, PlaceError> {
    if is_so(path, bytes, mode) {
        return Ok(Placed::Same);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.enid"));
    let placed =
        write(&temporary, bytes, mode).map_err(|error| PlaceError::new("writing", &temporary, error)).and_then(|()| {
            fs::rename(&temporary, path).map_err(|error| PlaceError::new("renaming a new file to", path, error))
        });
    if let Err(error) = placed {
        // What is left of it does no harm, and the next try writes over it.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| PlaceError::new("syncing", folder, error))?;
    Ok(Placed::Written)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
    // The umask, or an old file of that name, may have given it another.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file another name in its folder: what it was is kept.
///
/// # Errors
/// It cannot be renamed.
pub(crate) fn set_aside(path: &Path, suffix: &str) -> Result<PathBuf, PlaceError> {
    let aside = PathBuf::from(format!("{}.{suffix}", path.display()));
    fs::rename(path, &aside).map_err(|error| PlaceError::new("setting aside", path, error))?;
    Ok(aside)
}

/// Takes a file away; `Same`: there was none.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<Placed, PlaceError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Placed::Written),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Placed::Same),
        Err(error) => Err(PlaceError::new("removing", path, error)),
    }
}

/// Makes a folder with all above it.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_folder(path: &Path) -> Result<(), PlaceError> {
    fs::create_dir_all(path).map_err(|error| PlaceError::new("making the folder", path, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_only_when_it_would_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aws-cni");
        fs::write(folder.path().join(".aws-cni.enid"), "half, by one who was killed").unwrap();
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Written);
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, 0o755);
        assert_eq!(place(&path, b"one", 0o755).unwrap(), Placed::Same);
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino());
        // Who runs or reads the old one keeps it.
        let old = fs::read_to_string(&path).unwrap();
        let open = File::open(&path).unwrap();
        assert_eq!(place(&path, b"two", 0o755).unwrap(), Placed::Written);
        assert_eq!((io::read_to_string(open).unwrap(), fs::read_to_string(&path).unwrap()), (old, "two".to_owned()));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(place(&path, b"two", 0o755).unwrap(), Placed::Written);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["aws-cni"]);
    }

    #[test]
    fn what_cannot_be_placed_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = place(&path, b"x", 0o644).unwrap_err();
        assert_eq!(error.to_string(), format!("renaming a new file to {}", path.display()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = place(&folder.path().join("no/where"), b"x", 0o644).unwrap_err();
        assert!(error.to_string().starts_with("writing ") && error.to_string().ends_with("no/.where.enid"), "{error}");
    }
}
