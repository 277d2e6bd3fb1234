// SPDX-License-Identifier: Apache-2.0
//! What a run of `make bench` is asked for by its environment.
//!
//! | variable | meaning |
//! |---|---|
//! | `ENID_BENCH_QUICK` | `1`: few rounds, to see that everything works; the report says so |
//! | `ENID_BENCH_DAEMON` | `release` (the default) or `debug`: which build of the daemon is measured (scripts/bench.sh builds it) |
//! | `ENID_BENCH_PLUGIN` | the binary of another CNI plugin, to be measured beside ours; its delegates are looked for in its folder |
//! | `ENID_BENCH_NETCONF` | a file with that plugin's network configuration: one plugin's object, not a list |
//! | `ENID_BENCH_PLUGIN_ENV` | further environment of that plugin, `A=b C=d` |
//! | `ENID_BENCH_STAMP` | what the report says of the time and the source; scripts/bench.sh gives date and commit |
//!
//! All are parsed before anything is measured, and all mistakes are told at once.
#![expect(clippy::disallowed_methods, reason = "reads the file that the environment names")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const QUICK: &str = "ENID_BENCH_QUICK";
const DAEMON: &str = "ENID_BENCH_DAEMON";
const PLUGIN: &str = "ENID_BENCH_PLUGIN";
const NETCONF: &str = "ENID_BENCH_NETCONF";
const PLUGIN_ENV: &str = "ENID_BENCH_PLUGIN_ENV";
const STAMP: &str = "ENID_BENCH_STAMP";

/// Which build of the daemon is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Build {
    #[default]
    Release,
    /// Slow, and large.
    Debug,
}

/// Another plugin, to be measured beside ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OtherPlugin {
    pub(super) program: PathBuf,
    /// An object with `cniVersion`, `name` and `type`.
    pub(super) configuration: Value,
    pub(super) environment: Vec<(String, String)>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) is_quick: bool,
    pub(super) build: Build,
    pub(super) other: Option<OtherPlugin>,
    stamp: Option<String>,
}

impl Settings {
    /// Reads the environment, variable by variable.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each.
    pub(super) fn parse(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut wrong = Vec::new();
        let is_quick = match given(QUICK).as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => {
                wrong.push(format!("{QUICK} is 0 or 1, not {other:?}"));
                false
            }
        };
        let build = match given(DAEMON).as_deref() {
            None | Some("release") => Build::Release,
            Some("debug") => Build::Debug,
            Some(other) => {
                wrong.push(format!("{DAEMON} is release or debug, not {other:?}"));
                Build::Release
            }
        };
        let other = other_plugin(&given, &mut wrong);
        if wrong.is_empty() { Ok(Self { is_quick, build, other, stamp: given(STAMP) }) } else { Err(wrong.join("\n")) }
    }

    /// How often something is to be measured that a whole run measures so often: a twentieth of it in a quick one.
    pub(super) fn rounds(&self, whole: usize) -> usize {
        if self.is_quick { whole.div_ceil(20) } else { whole }
    }

    /// What the report says of the run as a whole.
    pub(super) fn stamp(&self) -> String {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let mut parts = vec![format!("{processors} processors, Linux {}", kernel.trim())];
        parts.extend(self.stamp.clone());
        if let Some(other) = &self.other {
            parts.push(format!("\"other\" is {}", other.name()));
        }
        if self.is_quick {
            parts
                .push("**QUICK: few rounds, only to see that everything works; these figures say nothing**".to_owned());
        }
        if self.build == Build::Debug {
            parts.push("**the daemon is a debug build: its times and memory are not those of a release**".to_owned());
        }
        parts.join("; ") + "."
    }
}

impl OtherPlugin {
    /// The binary's name.
    pub(super) fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Both variables or none; what is wrong with them is added to `wrong`.
fn other_plugin(given: &dyn Fn(&str) -> Option<String>, wrong: &mut Vec<String>) -> Option<OtherPlugin> {
    let environment = match pairs(&given(PLUGIN_ENV).unwrap_or_default()) {
        Ok(environment) => environment,
        Err(error) => {
            wrong.push(error);
            Vec::new()
        }
    };
    match (given(PLUGIN), given(NETCONF)) {
        (None, None) => {
            if !environment.is_empty() {
                wrong.push(format!("{PLUGIN_ENV} is the environment of a plugin, and {PLUGIN} names none"));
            }
            None
        }
        (Some(_), None) => {
            wrong.push(format!("{PLUGIN} is given and {NETCONF}, its network configuration, is not"));
            None
        }
        (None, Some(_)) => {
            wrong.push(format!("{NETCONF} is given and {PLUGIN}, the binary that it is for, is not"));
            None
        }
        (Some(program), Some(netconf)) => {
            let program = executable(Path::new(&program)).map_err(|error| wrong.push(error)).ok();
            let configuration = configuration(Path::new(&netconf)).map_err(|error| wrong.push(error)).ok();
            Some(OtherPlugin { program: program?, configuration: configuration?, environment })
        }
    }
}

/// An absolute path: the plugin is not started from where the variable was set.
fn executable(path: &Path) -> Result<PathBuf, String> {
    let told = |problem: &str| format!("{PLUGIN}: {}: {problem}", path.display());
    let whole = path.canonicalize().map_err(|error| told(&error.to_string()))?;
    if !whole.is_file() || rustix::fs::access(&whole, rustix::fs::Access::EXEC_OK).is_err() {
        return Err(told("no program that can be run"));
    }
    Ok(whole)
}

fn configuration(path: &Path) -> Result<Value, String> {
    let told = |problem: &str| format!("{NETCONF}: {}: {problem}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| told(&format!("not JSON: {error}")))?;
    if value.get("plugins").is_some() {
        return Err(told(
            "a list of plugins; what is wanted is the object of one, with the list's name and cniVersion in it",
        ));
    }
    let lacking: Vec<_> = ["cniVersion", "name", "type"].into_iter().filter(|key| !value[*key].is_string()).collect();
    if lacking.is_empty() { Ok(value) } else { Err(told(&format!("no {}", lacking.join(", no ")))) }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    let told = |word: &str| format!("{PLUGIN_ENV} is NAME=value NAME=value …, and {word:?} is none of these");
    text.split_whitespace().map(|word| pair(word).ok_or_else(|| told(word))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::parse(&find)
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn nothing_given_is_a_whole_run_of_a_release() {
        let settings = parse(&[("ENID_BENCH_PLUGIN", ""), ("ENID_BENCH_QUICK", "0")]).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.rounds(80), 80);
        assert!(!settings.stamp().contains("QUICK") && !settings.stamp().contains("debug"), "{}", settings.stamp());
    }

    #[test]
    fn what_makes_figures_worthless_is_stamped() {
        let given =
            [("ENID_BENCH_QUICK", "1"), ("ENID_BENCH_DAEMON", "debug"), ("ENID_BENCH_STAMP", "2026-11-30, abc")];
        let settings = parse(&given).unwrap();
        assert_eq!([80, 5, 1].map(|whole| settings.rounds(whole)), [4, 1, 1]);
        let stamp = settings.stamp();
        assert!(
            stamp.contains("QUICK") && stamp.contains("debug build") && stamp.contains("2026-11-30, abc"),
            "{stamp}"
        );
    }

    #[test]
    fn another_plugin_has_its_program_its_configuration_and_its_environment() {
        let netconf = file(r#"{"cniVersion":"1.0.0","name":"n","type":"sh"}"#);
        let path = netconf.path().to_str().unwrap();
        let given = [
            ("ENID_BENCH_PLUGIN", "/bin/sh"),
            ("ENID_BENCH_NETCONF", path),
            ("ENID_BENCH_PLUGIN_ENV", "A=b  C=d=e F="),
        ];
        let other = parse(&given).unwrap().other.unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(other.environment, [pair("A", "b"), pair("C", "d=e"), pair("F", "")]);
        assert_eq!(other.configuration["type"], "sh");
        assert!(other.program.is_absolute());
    }

    #[test]
    fn every_mistake_is_told_at_once_with_the_variable_and_the_reason() {
        let list = file(r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#);
        let no_type = file(r#"{"cniVersion":"1.0.0"}"#);
        let no_json = file("{");
        let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
        let (list, no_type, no_json) = (path(&list), path(&no_type), path(&no_json));
        let (program, netconf) = ("ENID_BENCH_PLUGIN", "ENID_BENCH_NETCONF");
        for (given, told) in [
            (vec![(program, "/bin/sh")], vec!["ENID_BENCH_NETCONF, its network configuration, is not"]),
            (vec![(netconf, list.as_str())], vec!["ENID_BENCH_PLUGIN, the binary that it is for, is not"]),
            (vec![(program, "/bin/sh"), (netconf, list.as_str())], vec!["a list of plugins"]),
            (vec![(program, "/bin/sh"), (netconf, no_type.as_str())], vec!["no name, no type"]),
            (vec![(program, "/bin/sh"), (netconf, no_json.as_str())], vec!["not JSON"]),
            (
                vec![(program, "/no/such"), (netconf, "/neither")],
                vec!["ENID_BENCH_PLUGIN: /no/such: No such", "ENID_BENCH_NETCONF: /neither: No such"],
            ),
            (vec![(program, "/etc/passwd"), (netconf, "/neither")], vec!["/etc/passwd: no program"]),
            (vec![("ENID_BENCH_PLUGIN_ENV", "A=b")], vec!["ENID_BENCH_PLUGIN names none"]),
            (
                vec![("ENID_BENCH_QUICK", "yes"), ("ENID_BENCH_DAEMON", "dev"), ("ENID_BENCH_PLUGIN_ENV", "A")],
                vec![
                    "ENID_BENCH_QUICK is 0 or 1, not \"yes\"",
                    "release or debug, not \"dev\"",
                    "\"A\" is none of these",
                ],
            ),
        ] {
            let error = parse(&given).unwrap_err();
            for part in told {
                assert!(error.contains(part), "no {part:?} in {error:?}");
            }
        }
    }
}
