// SPDX-License-Identifier: Apache-2.0
//! What a row of the table of variables says ([`super::variables`]).
//!
//! Rows that are not honoured yet carry their verdict as data: which values ask for what we do anyway, which are harmless
//! without effect, which would mean another network and are refused. First matching case wins; `*` matches any value.
//! Booleans are compared as `true` and `false`, whatever their spelling; other values without regard to case.

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name in the environment.
    pub name: &'static str,
    /// Type of the value.
    pub kind: &'static str,
    /// Value when not set, as text; empty: none.
    pub default: &'static str,
    /// Unit of the value; empty: none.
    pub unit: &'static str,
    /// Meaning.
    pub doc: &'static str,
    /// How far it is supported.
    pub support: Support,
    /// Whether a layer above the environment may set it, and a change takes effect while the daemon runs ([`super::LiveSettings`]).
    pub is_live: bool,
}

impl Variable {
    /// A row whose variable may change while the daemon runs: everybody who reads it looks at what it is then.
    pub(super) const fn live(self) -> Self {
        Self { is_live: true, ..self }
    }
}

/// How far a variable is supported.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// It does what it says.
    Honoured,
    /// The value decides: first matching case.
    ByValue(&'static [(&'static str, Verdict)]),
    /// Read by someone else (plugin, installer, SDK, helper); any value is accepted.
    Elsewhere,
}

/// What a value of a variable that is not honoured yet means for us.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// It asks for what we do anyway.
    Same,
    /// Accepted without effect; the text says what is different.
    Noted(&'static str),
    /// It asks for another network than we would build; the text says what is allowed.
    Refused(&'static str),
}

impl Support {
    /// One word for the README's table.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Elsewhere => "read elsewhere",
            Self::ByValue(cases) => {
                let refuses = |case: &&(&str, Verdict)| matches!(case.1, Verdict::Refused(_));
                if cases.last().is_some_and(|case| refuses(&case)) {
                    "other values are refused"
                } else if cases.iter().any(|case| refuses(&case)) {
                    "some values are refused"
                } else if cases.iter().any(|(_, verdict)| matches!(verdict, Verdict::Noted(_))) {
                    "accepted with a warning"
                } else {
                    "accepted, no effect"
                }
            }
        }
    }
}
