// SPDX-License-Identifier: Apache-2.0
//! `ipamd reasons`: the stable codes, what they mean and what to do.

use std::io::Write;

use ipamd_core::reason::ReasonCode;

use super::terminal::Screen;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// `None`: all.
    pub code: Option<String>,
    /// As JSON, not as text.
    pub json: bool,
}

/// The names of all codes.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ["NodeFull", "SubnetExhausted"].into_iter()
}

/// What to do about a code.
pub(super) fn remedy(_code: ReasonCode) -> &'static str {
    ""
}

/// Prints them.
///
/// # Errors
/// There is no such code; or standard output is closed.
pub fn run(_question: &Question, _screen: &Screen, _out: &mut dyn Write) -> Result<(), String> {
    Err("not yet".to_owned())
}
