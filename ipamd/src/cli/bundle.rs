// SPDX-License-Identifier: Apache-2.0
//! bundle
use std::io::Write;
use std::path::PathBuf;

use ipamd_core::config::Bind;
/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Where the daemon answers; `None`: where it does by default.
    pub address: Option<Bind>,
    /// Where it goes.
    pub file: Option<PathBuf>,
}
/// x
/// # Errors
/// x
pub fn run(_question: &Question, _out: &mut dyn Write) -> Result<(), String> {
    Ok(())
}
