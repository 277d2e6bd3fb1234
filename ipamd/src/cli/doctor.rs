// SPDX-License-Identifier: Apache-2.0
//! `ipamd doctor`: whether this node is fit for Enid, before or after the install, with the settings of the environment. Changes
//! nothing: EC2 is asked with `DryRun`, the kernel in a network namespace that goes again.
//!
//! Each check is a function that returns [`Finding`]s; this module runs them in order and prints. A check that rests on one that failed
//! says nothing, so that one fault has one finding.
//!
//! | check | module |
//! |---|---|
//! | imds, instance, ec2, permissions, subnet | `aws`; with what the running daemon has met: `met` |
//! | kernel, settings | `kernel` |
//! | state, plugin, conflist, daemon, network managers | `node` |

use std::io::Write;

use ipamd_core::Config;
use serde::Serialize;

use crate::cli::print;

mod aws;
mod kernel;
mod met;
mod node;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Pods work; something else does not, or may not for long.
    Warn,
    /// Pods will not work.
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; none when it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), todo: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), todo: Some(todo.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, found, todo) }
    }
}

/// Runs every check and prints what was found.
///
/// # Errors
/// How many checks failed; or standard output is closed.
pub fn run(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), String> {
    let met = met::ask(config);
    let mut findings = aws::check(config, &met)?;
    findings.extend(kernel::check(config));
    findings.extend(node::check(config));
    findings.extend(met.finding());
    let text = if json { as_json(&findings)? } else { as_text(&findings) };
    print(out, &text)?;
    match findings.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        1 => Err("1 check failed".to_owned()),
        failed => Err(format!("{failed} checks failed")),
    }
}

fn as_json(findings: &[Finding]) -> Result<String, String> {
    let text = serde_json::to_string_pretty(findings).map_err(|error| format!("writing JSON: {error}"))?;
    Ok(text + "\n")
}

fn as_text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        let todo = finding.todo.iter().map(|todo| format!("        do: {todo}\n")).collect::<String>();
        format!("{level}  {}: {}\n{todo}", finding.check, finding.found)
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let findings = [Finding::ok("imds", "a token"), Finding::fail("subnet", "full", "another subnet")];
        assert_eq!(as_text(&findings), "ok    imds: a token\nFAIL  subnet: full\n        do: another subnet\n");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings).unwrap()).unwrap();
        assert_eq!(json[1]["level"], "fail");
        assert_eq!(json[0].get("todo"), None);
    }
}
