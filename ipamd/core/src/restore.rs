// SPDX-License-Identifier: Apache-2.0
//! From journal and kernel to a running state, before anything remote is asked.
//!
//! Two files and the kernel testify; whoever says "in use" is believed:
//!
//! | `ipam.json` | `enid.json` | kernel | becomes |
//! |---|---|---|---|
//! | allocated | any | any | Allocated; an orphan after 60 s without host veth |
//! | - | allocated | has it | Allocated under the alias's key |
//! | - | allocated | - | Cooling for one period: the files are one write apart, or `ipam.json` is lost |
//! | - | cooling | any | Cooling until then; Held when the kernel still has it at the end |
//! | - | free or unknown | has it, alias | Allocated under the alias's key |
//! | - | free or unknown | has it, no alias | Held until the kernel lets go |
//! | - | leaving | - | Leaving until EC2 tells whether the unassign call was made |
//! | allocated, with a pod's name, for five minutes or longer | never was | no link, nor any of ours | dropped, the reference's pod has ended; Cooling for one period |
//! | allocated | of another boot | - | dropped, nothing survives a reboot; Cooling for one period |
//! | any | missing or unreadable | - | what is not allocated rests for one period: nobody knows what cools (also after another restart) |
//!
//! ENIs of the journal are set up again at once (the kernel still has everything, so that takes milliseconds); calls that
//! may have been under way are looked up in EC2 before anything is repeated. A file that cannot be read is reported and
//! done without, never fatal.

mod build;

#[cfg(test)]
mod tests;

use crate::checkpoint::{JournalError, OwnJournal, ReferenceJournal, parse_own, parse_reference};
use crate::event::KernelView;

pub(crate) use build::build;

/// What a start finds: both journal files as far as they can be read, the kernel's witness, and which boot this is.
#[derive(Clone, Debug)]
pub struct Restored {
    /// `ipam.json`; `None`: there is no such file.
    pub reference: Option<Result<ReferenceJournal, JournalError>>,
    /// `enid.json`; `None`: there is no such file.
    pub own: Option<Result<OwnJournal, JournalError>>,
    /// What the kernel has now. Links of the dead group (DEL done, sandbox still dying) are left out.
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
