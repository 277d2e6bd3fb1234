// SPDX-License-Identifier: Apache-2.0
//! Lines of what happened, kept only when a run is to be read: a failing seed is run once more with them.

use ipamd_core::BootTime;

use crate::world::NodeId;

/// The lines, oldest first.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<Vec<Line>>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// When.
    pub at: BootTime,
    /// On which node.
    pub node: NodeId,
    /// What.
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10.3} s  n{}  {}", self.at.0.as_secs_f64(), self.node.0, self.text)
    }
}

impl Trace {
    pub(crate) fn keep(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn note(&mut self, at: BootTime, node: NodeId, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, node, text: text() });
        }
    }

    /// The lines, oldest first; none when they were not kept.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        self.lines.as_deref().unwrap_or_default()
    }
}
