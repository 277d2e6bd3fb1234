// SPDX-License-Identifier: Apache-2.0
//! The daemon's settings for a command that is run by hand: `/etc/enid/ipamd.env`, which systemd reads for the daemon, and what the unit
//! itself sets. Without them `ipamd doctor` would look at another daemon than the one that runs.
//!
//! Reads the file as systemd does (names, comments, quotes, a backslash at the end of a line), with one difference: systemd passes
//! over a line that it cannot read, which here is an error with its number.
//!
//! Invariants: a variable of the environment is never changed. The daemon itself (`ipamd run`) reads no file, nor does what systemd starts
//! before it (`ipamd install` of the unit): systemd has done so, and a line that it passed over must not keep a node from starting. No
//! value is printed, and of a line that cannot be read no more than what looks like a variable's name: the rest may be a secret.
//!
//! ```text
//! environment ── wins over ──► /etc/enid/ipamd.env ── wins over ──► Environment= of the unit
//! ```
//!
//! Source: systemd.exec(5), "EnvironmentFile=".
#![expect(clippy::disallowed_methods, reason = "reads two files, and sets what is not set")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::install::{UNIT_PATH, is_unit};
use syntax::read;

mod syntax;

/// The file that the unit names.
pub const FILE: &str = "/etc/enid/ipamd.env";

/// A line of the unit that sets variables.
const UNIT_SETS: &str = "Environment=";

/// What the unit sets for what it starts, and a shell does not have; systemd before 248 has no SYSTEMD_EXEC_PID.
const OF_THE_UNIT: &str = "IPAMD_SET_UP_BY_UNIT";

/// What was found, and what an operator is to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The variables that can be read.
    pub variables: BTreeMap<String, String>,
    /// Where they are from; `None`: neither file is there.
    pub told: Option<String>,
    /// What cannot be read, each with its place.
    pub mistakes: Vec<String>,
}

/// Looks at the file and the unit; at neither in a process that systemd has started, and set up.
#[must_use]
pub fn look() -> Found {
    let is_of_unit = std::env::var_os(OF_THE_UNIT).is_some();
    if is_of_unit || is_of_systemd(std::env::var("SYSTEMD_EXEC_PID").ok().as_deref(), std::process::id()) {
        return Found::default();
    }
    look_at(Path::new(FILE), Path::new(UNIT_PATH))
}

/// Whether systemd has started this process itself: its children inherit the variable, with a number that is not theirs
/// (systemd.exec(5), "$SYSTEMD_EXEC_PID").
fn is_of_systemd(variable: Option<&str>, own: u32) -> bool {
    variable.and_then(|text| text.parse().ok()) == Some(own)
}

fn look_at(file: &Path, unit: &Path) -> Found {
    let mut found = Found::default();
    let mut places = Vec::new();
    if let Some(text) = std::fs::read(unit).ok().filter(|text| is_unit(text)) {
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(UNIT_SETS)).collect();
        // A drop-in of an operator's can hold what this reader does not know; that is not the command's business.
        found.variables.extend(read(&lines.join("\n")).0);
        found.variables.remove(OF_THE_UNIT);
        places.push(unit.display().to_string());
    }
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let (variables, mistakes) = read(&text);
            found.variables.extend(variables);
            found.mistakes.extend(mistakes.iter().map(|mistake| format!("{}, {mistake}", file.display())));
            places.push(file.display().to_string());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // Whoever may not read it is not root, and asks for the status at most.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            places.push(format!("not {}, which this user may not read", file.display()));
        }
        Err(error) => found.mistakes.push(format!("{} cannot be read: {error}", file.display())),
    }
    if !places.is_empty() {
        found.told = Some(format!("settings are read from {}, too; the environment goes first", places.join(" and ")));
    }
    found
}

/// Sets in this process what its environment lacks.
///
/// # Safety
/// No other thread may run: the environment is everybody's.
#[expect(unsafe_code, reason = "the AWS SDK reads the environment of the process")]
pub unsafe fn fill(variables: &BTreeMap<String, String>) {
    for (name, value) in variables.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
        // SAFETY: the caller's promise.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay;

    #[test]
    fn the_corpus_of_the_fuzzers_holds() {
        replay::corpus("env_file", syntax::fuzzed);
    }

    fn variables(text: &str) -> Vec<(String, String)> {
        let (variables, mistakes) = read(text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        variables.into_iter().collect()
    }

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        for (text, value) in [
            ("A=plain", "plain"),
            (" A = two words \t\n", "two words"),
            ("A=", ""),
            ("A=b # no comment", "b # no comment"),
            ("A=\"in double\" ", "in double"),
            ("A='in single \\ $'", "in single \\ $"),
            ("A=\"a\\\"b\\\\c\\$d\\e\"", "a\"b\\c$d\\e"),
            ("A=\"one\"' two'", "one two"),
            ("A=\"one\"two", "onetwo"),
            ("A=one \\\n  two", "one   two"),
            ("A=a\\ b\\\\", "a b\\"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=x=y", "x=y"),
            ("A={\"team\":\"a\"}", "{\"team\":\"a\"}"),
            ("A=it's", "it's"),
            ("# A=no\n; A=no\n\n# goes on \\\nA=no\nA=yes\r\n", "yes"),
            ("A=first\nA=last", "last"),
        ] {
            assert_eq!(variables(text), [("A".to_owned(), value.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_with_its_number_and_the_others_count() {
        let text = "# settings\nWARM_IP_TARGET=5\nMAX_ENI\nexport A=b\n2B=c\n\nD=\"no end\nE=f\n";
        let (variables, mistakes) = read(text);
        assert_eq!(variables.into_keys().collect::<Vec<_>>(), ["WARM_IP_TARGET"]);
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [3, 4, 5, 7]);
        for (mistake, said) in mistakes.iter().zip([
            "no NAME=value (it begins with MAX_ENI)",
            "begins with A)",
            "begins with 2B)",
            "no \" ends",
        ]) {
            assert!(mistake.to_string().contains(said), "{mistake}");
        }
    }

    #[test]
    fn of_a_line_that_cannot_be_read_nothing_is_told_that_may_be_a_secret() {
        for text in [
            "AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7MDENG",
            "AWS_SECRET_ACCESS_KEY wJalrXUtnFEMI=K7MDENG",
            "export AWS_SECRET_ACCESS_KEY wJalrXUtnFEMI",
            "AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI=",
            "AWS_SECRET_ACCESS_KEY:\"wJalrXUtnFEMI",
        ] {
            let said = read(text).1[0].to_string();
            assert!(said.starts_with("line 1: ") && said.contains("begins with AWS_SECRET_ACCESS_KEY)"), "{said}");
            assert!(!said.contains("wJalr") && !said.contains("K7MDENG"), "{said}");
        }
        // The rest of a value that somebody broke in two.
        let said = read("AWS_SECRET_ACCESS_KEY=\nwJalrXUtnFEMI/K7MDENG\n").1[0].to_string();
        assert!(said.starts_with("line 2: ") && !said.contains("wJalr"), "{said}");
    }

    #[test]
    fn the_unit_marks_what_it_starts() {
        let unit = include_str!("../../../deploy/systemd/enid-ipamd.service");
        assert!(unit.lines().any(|line| line == format!("{UNIT_SETS}{OF_THE_UNIT}=yes")));
    }

    #[test]
    fn what_systemd_has_set_up_reads_nothing_again() {
        assert!(is_of_systemd(Some("7"), 7));
        assert!(![Some("8"), Some(""), None].into_iter().any(|variable| is_of_systemd(variable, 7)));
    }

    #[test]
    fn the_file_goes_before_the_unit_and_who_may_not_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (file, unit) = (folder.path().join("ipamd.env"), folder.path().join("unit"));
        assert_eq!(look_at(&file, &unit), Found::default());
        // A line that cannot be read takes none of the others with it.
        let ours = include_str!("../../../deploy/systemd/enid-ipamd.service");
        std::fs::write(&unit, format!("{ours}\n{UNIT_SETS}nonsense\n")).unwrap();
        let found = look_at(&file, &unit);
        assert_eq!(
            found.variables.into_iter().collect::<Vec<_>>(),
            [("HOST_CNI_CONFDIR_PATH".to_owned(), "/etc/cni/net.d".to_owned())]
        );
        std::fs::write(&file, "HOST_CNI_CONFDIR_PATH=/other\nA=b\nC").unwrap();
        let found = look_at(&file, &unit);
        assert_eq!(found.variables.get("HOST_CNI_CONFDIR_PATH").map(String::as_str), Some("/other"));
        let told = found.told.unwrap();
        assert!(told.contains("ipamd.env") && told.contains("unit") && !told.contains('\n'), "{told}");
        assert!(found.mistakes[0].contains("ipamd.env, line 3: "), "{:?}", found.mistakes);
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(look_at(&file, &unit).mistakes[0].contains("cannot be read"));
    }
}
