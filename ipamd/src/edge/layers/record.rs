// SPDX-License-Identifier: Apache-2.0
//! What the layers were resolved from last, beside the journal: so that a restart changes nothing while the API server is away, or while
//! the file has a mistake.
//!
//! The parts and not the outcome: an environment that is another after the restart takes effect. A record that cannot be read is one
//! that is not there. It is of one instance; who reads it compares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipamd_core::reason::ReasonCode;
use serde::{Deserialize, Serialize};

use crate::edge::place;
use crate::telemetry::chain;

/// Beside the journal.
const NAME: &str = "layers.json";
const MODE: u32 = 0o600;

/// The parts, each the last without a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    /// Whose they are; `None`: metadata had not answered.
    pub(super) instance_id: Option<String>,
    /// The file's text; `None`: there was none.
    pub(super) file: Option<String>,
    /// The Node's labels; `None`: never heard of.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Settings of the Node's annotations: variable -> value.
    pub(super) annotations: BTreeMap<String, String>,
}

/// Where they are kept.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    written: Option<Record>,
    is_only_read: bool,
}

impl RecordFile {
    /// The daemon's.
    pub(crate) fn beside(journal: &Path) -> Self {
        Self { path: journal.with_file_name(NAME), written: None, is_only_read: false }
    }

    /// For a command that looks and changes nothing.
    pub(crate) fn only_read(journal: &Path) -> Self {
        Self { is_only_read: true, ..Self::beside(journal) }
    }

    pub(super) fn read(&mut self) -> Record {
        let found = place::read(&self.path).unwrap_or_else(|error| {
            tracing::warn!(
                code = %ReasonCode::StateFileUnreadable, error = chain(&error),
                "the record of settings cannot be read and is done without"
            );
            None
        });
        let Some(bytes) = found else { return Record::default() };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) => {
                self.written = Some(record.clone());
                record
            }
            Err(error) => {
                tracing::warn!(
                    code = %ReasonCode::StateFileUnreadable, path = %self.path.display(), %error,
                    "the record of settings is damaged and is done without"
                );
                Record::default()
            }
        }
    }

    /// Writes it if it is another. A record of nothing is not made.
    pub(super) fn write(&mut self, record: &Record) {
        if self.is_only_read {
            return;
        }
        let nothing = Record { instance_id: record.instance_id.clone(), ..Record::default() };
        if self.written.as_ref() == Some(record) || self.written.is_none() && *record == nothing {
            return;
        }
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        match place::place(&self.path, &bytes, MODE) {
            Ok(_) => self.written = Some(record.clone()),
            Err(error) => tracing::warn!(
                code = %ReasonCode::StateNotDurable,
                error = chain(&error),
                "settings cannot be recorded: after a restart they hold once file and API server have been read again"
            ),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files in a folder of the test's own")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RecordFile::beside(&folder.path().join("ipam.json"));
        assert_eq!(file.read(), Record::default());
        file.write(&Record { instance_id: Some("i-1".to_owned()), ..Record::default() });
        assert!(!folder.path().join(NAME).exists(), "there was nothing to record");
        let record = Record {
            labels: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
            file: Some("classes: []".to_owned()),
            ..Record::default()
        };
        file.write(&record);
        assert_eq!(RecordFile::beside(&folder.path().join("ipam.json")).read(), record);
        std::fs::write(folder.path().join(NAME), "{\"labels\": 7}").unwrap();
        assert_eq!(file.read(), Record::default());
    }
}
