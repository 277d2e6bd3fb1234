// SPDX-License-Identifier: Apache-2.0
//! The verbs and the parameters that a runtime gives in the environment (CNI specification, "Parameters"). Says
//! everything that is missing or not valid in one error. Does not read the environment: it is a function passed in.
//!
//! | verb | required |
//! |---|---|
//! | ADD, CHECK | CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME |
//! | DEL | CNI_CONTAINERID, CNI_IFNAME |
//! | GC, STATUS, VERSION | - |
//!
//! CNI_PATH is required by the specification for none of these and not used: we delegate to no other plugin.

use datapath::plan::LinkName;

use crate::error::{CniError, Code};
use crate::reason::Reason;

/// How a variable of the environment is looked up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Is it still attached as it was?
    Check,
    /// Detach all that are not on a list.
    Gc,
    /// Would an ADD succeed?
    Status,
    /// Which versions of the specification?
    Version,
}

/// A check of a variable's value; the text says what is expected.
type Validator = (fn(&str) -> bool, &'static str);

/// One parameter: its name and its check.
type Parameter = (&'static str, Validator);

const CONTAINER_ID: Parameter =
    ("CNI_CONTAINERID", (is_identifier, "a letter or digit, then letters, digits, `_`, `.`, `-`"));
const NETNS: Parameter = ("CNI_NETNS", (|text| text.starts_with('/'), "an absolute path"));
const IFNAME: Parameter = ("CNI_IFNAME", (is_pod_link, "a link name of 1 to 15 characters, not `lo`"));

impl Verb {
    /// Every verb: its name and what it needs.
    const TABLE: [(Self, &'static str, &'static [Parameter]); 6] = [
        (Self::Add, "ADD", &[CONTAINER_ID, NETNS, IFNAME]),
        (Self::Del, "DEL", &[CONTAINER_ID, IFNAME]),
        (Self::Check, "CHECK", &[CONTAINER_ID, NETNS, IFNAME]),
        (Self::Gc, "GC", &[]),
        (Self::Status, "STATUS", &[]),
        (Self::Version, "VERSION", &[]),
    ];

    /// The verb's name in CNI_COMMAND.
    pub(crate) fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(verb, ..)| *verb == self).map_or("", |(_, name, _)| name)
    }
}

/// The parameters of one call; empty where the runtime gave none and the verb does not need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID: the sandbox.
    pub container_id: String,
    /// CNI_NETNS: path of the pod's network namespace; empty when it is gone already.
    pub netns: String,
    /// CNI_IFNAME: name of the link in the pod.
    pub ifname: String,
    /// CNI_ARGS, as given.
    pub args: String,
}

impl Parameters {
    /// Reads and checks; code 4 with every mistake at once.
    pub(crate) fn read(environment: Environment<'_>) -> Result<Self, CniError> {
        let value = |name: &str| environment(name).unwrap_or_default();
        let command = value("CNI_COMMAND");
        let Some((verb, _, required)) = Verb::TABLE.into_iter().find(|(_, name, _)| *name == command) else {
            return Err(unknown_verb(&command));
        };
        let mistakes: Vec<String> = required.iter().filter_map(|parameter| mistake(parameter, environment)).collect();
        if !mistakes.is_empty() {
            let message = format!("the runtime's parameters for {command} are not valid: {}", mistakes.join("; "));
            return Err(CniError::new(Code::Environment, Reason::ParametersInvalid, message));
        }
        Ok(Self {
            verb,
            container_id: value(CONTAINER_ID.0),
            netns: value(NETNS.0),
            ifname: value(IFNAME.0),
            args: value("CNI_ARGS"),
        })
    }
}

fn unknown_verb(command: &str) -> CniError {
    let known = Verb::TABLE.map(|(_, name, _)| name).join(", ");
    let message = if command.is_empty() {
        format!("CNI_COMMAND is not set: this is a CNI plugin, run by a container runtime (it knows {known})")
    } else {
        format!("CNI_COMMAND={command:?} is not known: {known} are")
    };
    CniError::new(Code::Environment, Reason::ParametersInvalid, message)
}

fn mistake((name, (is_valid, expected)): &Parameter, environment: Environment<'_>) -> Option<String> {
    match environment(name).filter(|value| !value.is_empty()) {
        None => Some(format!("{name} is missing")),
        Some(value) if !is_valid(&value) => Some(format!("{name}={value:?} must be {expected}")),
        Some(_) => None,
    }
}

/// The specification's rule for container ids and network names.
pub(crate) fn is_identifier(text: &str) -> bool {
    let more = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && text.bytes().all(more)
}

fn is_pod_link(text: &str) -> bool {
    text != "lo" && LinkName::new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Parameters, CniError> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parameters::read(&|name| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn every_missing_parameter_is_named_in_one_error() {
        for verb in ["ADD", "CHECK"] {
            let error = read(&[("CNI_COMMAND", verb)]).unwrap_err();
            assert_eq!(error.code, Code::Environment);
            for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
                assert!(error.message.contains(&format!("{name} is missing")), "{error}");
            }
        }
    }

    #[test]
    fn a_del_needs_no_namespace() {
        let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        let parameters = read(&del).unwrap();
        assert_eq!((parameters.verb, parameters.netns.as_str()), (Verb::Del, ""));
    }

    #[test]
    fn gc_status_and_version_need_nothing_and_take_dummies() {
        for verb in ["GC", "STATUS", "VERSION"] {
            assert_eq!(read(&[("CNI_COMMAND", verb)]).unwrap().verb.name(), verb);
            // podman asks for VERSION with these.
            let dummies = [("CNI_COMMAND", verb), ("CNI_NETNS", "dummy"), ("CNI_CONTAINERID", "dummy")];
            assert!(read(&dummies).is_ok());
        }
    }

    #[test]
    fn values_that_break_the_specification_s_rules_are_refused_with_their_name() {
        let good = [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/a"), ("CNI_IFNAME", "eth0")];
        let table = [
            ("CNI_CONTAINERID", "../etc"),
            ("CNI_CONTAINERID", "-c"),
            ("CNI_CONTAINERID", "a b"),
            ("CNI_NETNS", "relative"),
            ("CNI_IFNAME", "lo"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "sixteencharacter"),
        ];
        for (name, value) in table {
            let mut variables = vec![("CNI_COMMAND", "ADD"), (name, value)];
            variables.extend(good.iter().filter(|(key, _)| *key != name));
            let error = read(&variables).unwrap_err();
            assert_eq!(error.code, Code::Environment);
            assert!(error.message.contains(name), "{error}");
        }
    }

    #[test]
    fn unknown_verbs_are_refused_by_name() {
        for verb in ["", "add", "NONSENSE"] {
            let error = read(&[("CNI_COMMAND", verb)]).unwrap_err();
            assert!(error.code == Code::Environment && error.message.contains("CNI_COMMAND"), "{error}");
        }
    }
}
