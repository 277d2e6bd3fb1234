// SPDX-License-Identifier: Apache-2.0
//! The plugin's log: one JSON line per event, appended to a bounded file or written to standard error. Standard output is
//! never touched, and a log that cannot be written fails nothing.
//!
//! Bound: a file that has reached [`ROTATE_AT`] becomes `<file>.1`, replacing the one before, so both together stay
//! under twice that. Several plugins write at once: each line is one `write` with O_APPEND, and the one that rotates
//! holds the file's lock (flock(2)) and checks that the name still is that file.
#![expect(clippy::disallowed_methods, reason = "this edge reads the clock and renames its own file")]

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value};

use crate::conf::{LogLevel, LogTarget};

/// Size in bytes at which a file is set aside.
const ROTATE_AT: u64 = 10 * 1024 * 1024;

/// A log with the fields that every line of one call has.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    target: LogTarget,
    level: LogLevel,
    rotate_at: u64,
    common: Vec<(&'static str, String)>,
    /// Opened for the first line, for all lines of the call.
    file: Rc<RefCell<Option<File>>>,
}

/// Fields of one line, in the vocabulary of the project: `address`, `table`, `netns`.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

impl Log {
    /// A log whose lines all carry `common`.
    pub(crate) fn new(target: LogTarget, level: LogLevel, common: Vec<(&'static str, String)>) -> Self {
        Self { target, level, rotate_at: ROTATE_AT, common, file: Rc::default() }
    }

    /// Decisions with their inputs.
    pub(crate) fn debug(&self, message: &str, fields: Fields<'_>) {
        self.write(LogLevel::Debug, message, fields);
    }

    /// One line per call.
    pub(crate) fn info(&self, message: &str, fields: Fields<'_>) {
        self.write(LogLevel::Info, message, fields);
    }

    /// Degraded.
    pub(crate) fn warn(&self, message: &str, fields: Fields<'_>) {
        self.write(LogLevel::Warn, message, fields);
    }

    /// Failed.
    pub(crate) fn error(&self, message: &str, fields: Fields<'_>) {
        self.write(LogLevel::Error, message, fields);
    }

    fn write(&self, level: LogLevel, message: &str, fields: Fields<'_>) {
        if level < self.level {
            return;
        }
        let line = self.line(level, message, fields);
        let written = match &self.target {
            LogTarget::Stderr => io::stderr().write_all(line.as_bytes()),
            LogTarget::File(path) => append(&mut self.file.borrow_mut(), path, line.as_bytes(), self.rotate_at),
        };
        if let (Err(error), LogTarget::File(path)) = (written, &self.target) {
            let _ = writeln!(io::stderr(), "writing the log {}: {error}: {}", path.display(), line.trim_end());
        }
    }

    fn line(&self, level: LogLevel, message: &str, fields: Fields<'_>) -> String {
        let mut object = Map::new();
        let mut set = |key: &str, value: &str| object.insert(key.to_owned(), Value::from(value));
        set("ts", &utc(unix_now()));
        set("level", &format!("{level:?}").to_ascii_lowercase());
        set("msg", message);
        for (key, value) in &self.common {
            set(key, value);
        }
        for (key, value) in fields {
            set(key, value);
        }
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        line
    }
}

/// One that another plugin has set aside is full, so it is not written to any more.
fn append(opened: &mut Option<File>, path: &Path, line: &[u8], rotate_at: u64) -> io::Result<()> {
    let file = match opened {
        Some(file) => file,
        None => opened.insert(open(path)?),
    };
    if file.metadata()?.len() >= rotate_at {
        rotate(path, file)?;
        *file = open(path)?;
    }
    file.write_all(line)
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Sets `file` aside unless another plugin has just done so, or is doing so.
fn rotate(path: &Path, file: &File) -> io::Result<()> {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let is_current = std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
    if is_current { std::fs::rename(path, set_aside(path)) } else { Ok(()) }
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Now, since the Unix epoch: only recorded, never compared.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// `2026-11-22T20:28:05.123Z` (RFC 3339). Days to a date by whole eras of 400 years, 146,097 days each, with years that
/// begin in March, so that the leap day is a year's last.
fn utc(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_epoch.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_to(path: &Path, level: LogLevel) -> Log {
        Log::new(LogTarget::File(path.to_owned()), level, vec![("container_id", "c1".to_owned())])
    }

    #[test]
    fn times_are_rfc_3339() {
        // date -u -d @<seconds> +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(utc(Duration::from_millis(seconds * 1_000 + 7)), text);
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_common_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/plugin.log");
        let log = log_to(&path, LogLevel::Info);
        log.debug("not written", &[]);
        log.info("attached \"it\"", &[("address", "10.0.1.7")]);
        let text = std::fs::read_to_string(&path).unwrap();
        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!((&line["level"], &line["msg"]), (&"info".into(), &"attached \"it\"".into()));
        assert_eq!((&line["container_id"], &line["address"]), (&"c1".into(), &"10.0.1.7".into()));
    }

    #[test]
    fn a_full_file_is_set_aside_and_only_one_old_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.log");
        let log = Log { rotate_at: 500, ..log_to(&path, LogLevel::Debug) };
        for _ in 0..100 {
            log.warn("a line of about a hundred bytes, so that five of them fill a file", &[]);
        }
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["plugin.log", "plugin.log.1"]);
        assert!(std::fs::metadata(&path).unwrap().len() < 700);
        assert!(std::fs::metadata(set_aside(&path)).unwrap().len() < 700);
    }

    #[test]
    fn a_file_that_cannot_be_written_fails_nothing() {
        log_to(Path::new("/proc/nowhere/plugin.log"), LogLevel::Debug).error("lost", &[]);
    }
}
