// SPDX-License-Identifier: Apache-2.0
//! placeholder head

use crate::checkpoint::{JournalError, OwnJournal, ReferenceJournal, parse_own, parse_reference};
use crate::event::KernelView;

/// What a start finds: both journal files as far as they can be read, the kernel's witness, and which boot this is.
#[derive(Clone, Debug)]
pub struct Restored {
    /// `ipam.json`; `None`: there is no such file.
    pub reference: Option<Result<ReferenceJournal, JournalError>>,
    /// `enid.json`; `None`: there is no such file.
    pub own: Option<Result<OwnJournal, JournalError>>,
    /// What the kernel has now.
    pub kernel: KernelView,
    /// `/proc/sys/kernel/random/boot_id`, without the newline.
    pub boot_id: String,
}

impl Restored {
    /// Parses the two files' bytes; `None`: there is no such file.
    #[must_use]
    pub fn read(
        reference_json: Option<&[u8]>,
        own_json: Option<&[u8]>,
        kernel: KernelView,
        boot_id: impl Into<String>,
    ) -> Self {
        Self {
            reference: reference_json.map(parse_reference),
            own: own_json.map(parse_own),
            kernel,
            boot_id: boot_id.into(),
        }
    }
}
