// SPDX-License-Identifier: Apache-2.0
//! A file that is read again and again, for those who want to know when it says something else than before.
//!
//! What it means is theirs. Contents are compared, not times: a mounted ConfigMap changes by a symbolic link further up, which no event
//! on the file itself tells. A file that is not there is an answer, too.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often such a file is read.
const PERIOD: Duration = Duration::from_secs(5);

/// Until the next look; without a file for ever, so that nothing is woken for nothing.
#[expect(clippy::disallowed_methods, reason = "the polling edge: it waits")]
pub(crate) async fn pause(file: Option<&WatchedFile>) {
    match file {
        Some(_) => tokio::time::sleep(PERIOD).await,
        None => std::future::pending().await,
    }
}

/// What a ConfigMap holds at most (Kubernetes documentation, "ConfigMaps"); a larger file is a mistake.
const LARGEST_BYTES: u64 = 1 << 20;

/// What was read. `Ok(None)`: there was no file. `Err`: why it could not be read.
pub(crate) type Found = Result<Option<String>, String>;

/// The file, and what it said last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// `None`: never read.
    last: Option<Found>,
}

impl WatchedFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; `Some` when it is another than at the last look, and at the first one.
    pub(crate) fn look(&mut self) -> Option<&Found> {
        let found = read(&self.path);
        if self.last.as_ref() == Some(&found) {
            return None;
        }
        Some(self.last.insert(found))
    }

    /// What it said at the last look; `None`: there was none.
    pub(crate) fn last(&self) -> Option<&Found> {
        self.last.as_ref()
    }
}

/// The file's text; `Ok(None)`: there is no file.
///
/// # Errors
/// It cannot be read, or is too large.
pub(crate) fn read(path: &Path) -> Found {
    let text = std::fs::File::open(path).and_then(read_all);
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
        Ok(text) if text.len() as u64 > LARGEST_BYTES => Err(format!("it has more than {LARGEST_BYTES} bytes")),
        Ok(text) => Ok(Some(text)),
    }
}

fn read_all(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(LARGEST_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files that a cluster would mount")]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_another_than_before_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = WatchedFile::new(folder.path().join("f"));
        assert_eq!(file.look(), Some(&Ok(None)));
        assert_eq!(file.look(), None);
        std::fs::write(file.path(), "a").unwrap();
        assert_eq!(file.look(), Some(&Ok(Some("a".to_owned()))));
        std::fs::write(file.path(), "a").unwrap();
        assert_eq!(file.look(), None, "it was written, and says the same");
        for (rubbish, named) in [(&b"\xff"[..], "UTF-8"), (&vec![b' '; 2 << 20], "more than 1048576 bytes")] {
            std::fs::write(file.path(), rubbish).unwrap();
            let error = file.look().unwrap().clone().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(file.look(), Some(&Ok(None)));
    }

    #[test]
    fn a_mounted_config_map_is_followed_through_its_links() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1", "2"] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("f"), version).unwrap();
        }
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        link("1", "..data");
        link("..data/f", "f");
        let mut file = WatchedFile::new(folder.path().join("f"));
        assert_eq!(file.look(), Some(&Ok(Some("1".to_owned()))));
        // As kubelet does it: a new link, renamed over the old one.
        link("2", "..data_tmp");
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        assert_eq!(file.look(), Some(&Ok(Some("2".to_owned()))));
    }
}
