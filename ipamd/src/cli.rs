// SPDX-License-Identifier: Apache-2.0
//! The command line: words to a [`Command`], and the commands that are not the daemon itself.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipamd_core::config::{Bind, NodeTraits, Source};
use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::edge::ready;

mod ask;
pub mod cleanup_host;
pub mod config;
pub mod doctor;
pub mod env_file;
pub mod hand_back;
pub mod install;
pub mod max_pods;
pub mod plan_host;
mod plugin;
pub mod probe;
pub mod simulate;
pub mod status;
mod table;
pub mod takeover;
pub mod uninstall;

/// What `ipamd --help` prints.
pub const HELP: &str = "\
ipamd: gives pods addresses of the VPC from this node's ENIs

usage: ipamd [run]                     run the daemon (configuration: environment, see the README)
       ipamd status [-o json] [--address ADDRESS]
                                       what the daemon holds and why; ADDRESS (address:port or unix:/path) is where
                                       it answers, INTROSPECTION_BIND_ADDRESS by default
       ipamd config [-o json] [--address ADDRESS]
                                       every variable, its value, and the layer that it comes from: default, environment, a
                                       class of nodes, an annotation of the node
       ipamd config --file FILE [--type TYPE] [--zone ZONE] [--label NAME=VALUE …] [-o json]
                                       the same, off the node, of what FILE (as of ENID_SETTINGS_FILE; - for standard input)
                                       would come to on such a node; every mistake of the file, and exit code 1
       ipamd install [--plugin FILE] [--systemd] [--dry-run]
                                       put the plugin aws-cni (FILE, or from beside this program) into HOST_CNI_BIN_PATH and
                                       set the node's settings that the daemon may not; --systemd: a unit for it, too;
                                       --dry-run: say what would be done
       ipamd uninstall                 the way back, once the daemon is stopped: cleanup-host, configuration list and plugin
                                       (while pods live they stay), unit
       ipamd doctor [-o json]          whether this node is fit: metadata, EC2 and rights, subnet, kernel, files; changes nothing
       ipamd probe live|ready          exit code 0: the daemon answers; it has been able to serve a pod in this boot
       ipamd plan-host                 print what would be written to the kernel, as ip and nft commands; writes nothing
       ipamd cleanup-host              uninstall, once the daemon is stopped: remove what is ours from the kernel;
                                       what living pods need stays and is told, until it is run again
       ipamd takeover --dry-run [-o json]
                                       what a start of the daemon would make of a node that is amazon-vpc-cni-k8s's, and what is in
                                       the way; writes nothing
       ipamd hand-back [--finish]      the way back, once the daemon is stopped: living pods as amazon-vpc-cni-k8s has them, and
                                       ipam.json; --finish, once that is ready: what has translated for them until then goes
       ipamd max-pods [TYPE [--prefixes] [--custom-networking] [--trunk] [--max-eni N]] [-o json]
                                       how many pods a node of an instance type can hold, and why; without TYPE: this node,
                                       by its daemon
       ipamd simulate --instance-type TYPE --pods FILE [--with 'NAME=value …'] [--reference 'NAME=value …'] [--svg FILE]
                                       what settings would cost on a trace of pods: addresses held, waits, EC2 calls; one
                                       column each --with (this daemon) and --reference (amazon-vpc-cni-k8s, as a model), both
                                       as often as wanted, '' for nothing set; FILE: CSV, first line name,starts,ends, times in
                                       seconds since the node joined, a year at most, no end for a pod that stays; watched
                                       for ten minutes after the last
       ipamd version                   print the version
       ipamd --help                    print this

settings: of the environment; commands that are run by hand read /etc/enid/ipamd.env, too, for what is not set there,
but for those that can be run anywhere: config --file, max-pods TYPE, simulate

exit codes: 0 done, 1 could not be done, 64 wrong command line or configuration
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the daemon.
    Run,
    /// Show the daemon's state.
    Status {
        /// As JSON, not as tables.
        json: bool,
        /// Where the daemon answers; `None`: as configured.
        address: Option<Bind>,
    },
    /// Show the configuration, and where it comes from.
    Config(config::Question),
    /// Install the plugin and the node's settings.
    Install(install::Options),
    /// Remove what an install and the daemon laid down.
    Uninstall,
    /// Look whether the node is fit.
    Doctor {
        /// As JSON, not as text.
        json: bool,
    },
    /// Ask the daemon how it is.
    Probe(probe::Question),
    /// Print the host's plan.
    PlanHost,
    /// Remove what is ours.
    CleanupHost,
    /// Tell what a takeover would do.
    Takeover {
        /// Only that; the daemon itself takes over when it starts.
        dry_run: bool,
        /// As JSON, not as lines.
        json: bool,
    },
    /// Give the node back to the reference.
    HandBack(hand_back::Step),
    /// Tell how many pods a node can hold.
    MaxPods(max_pods::Question),
    /// Simulate settings on a trace of pods.
    Simulate(simulate::Simulation),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// The process environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl Source for Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

/// Waits for a command's own calls, on a runtime for them alone.
fn wait<T>(calls: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| format!("starting the runtime: {error}"))?.block_on(calls))
}

fn boot_id() -> Result<String, String> {
    ready::boot_id().map_err(|error| format!("the boot id cannot be read: {error}"))
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), String> {
    out.write_all(text.as_bytes()).map_err(|error| format!("writing to standard output: {error}"))
}

/// Reads the words after the program's name.
///
/// # Errors
/// A word or option that there is not, with its name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Value(word) if command.is_none() => {
                let word = word.string()?;
                command = Some(match word.as_str() {
                    "probe" => Command::Probe(question(&mut parser)?),
                    "max-pods" => Command::MaxPods(max_pods::question(&mut parser)?),
                    _ => named(&word)?,
                });
            }
            Short('o') | Long("output") => as_json(&mut command, &parser.value()?.string()?)?,
            Long("finish") => match &mut command {
                Some(Command::HandBack(step)) => *step = hand_back::Step::Finish,
                _ => return Err("--finish belongs to `hand-back`".into()),
            },
            Long("address") => {
                let text = parser.value()?.string()?;
                match &mut command {
                    Some(Command::Status { address, .. } | Command::Config(config::Question { address, .. })) => {
                        *address = Some(bind(&text)?);
                    }
                    _ => return Err("--address belongs to `status` and `config`".into()),
                }
            }
            Long("dry-run") => match &mut command {
                Some(Command::Takeover { dry_run, .. }) => *dry_run = true,
                Some(Command::Install(options)) => options.is_dry_run = true,
                _ => return Err("--dry-run belongs to `install` and `takeover`".into()),
            },
            Long("plugin") => install_options(&mut command, "plugin")?.plugin = Some(parser.value()?.into()),
            Long("systemd") => install_options(&mut command, "systemd")?.has_unit = true,
            Long(name @ ("file" | "type" | "zone" | "label")) => {
                let name = name.to_owned();
                let Some(Command::Config(question)) = &mut command else {
                    return Err(format!("--{name} belongs to `config`").into());
                };
                question.option(&name, parser.value()?.string()?)?;
            }
            Long(name @ ("instance-type" | "pods" | "with" | "reference" | "svg")) => {
                let name = name.to_owned();
                let value = parser.value()?;
                match &mut command {
                    Some(Command::Simulate(simulation)) => simulate_option(simulation, &name, value)?,
                    _ => return Err(format!("--{name} belongs to `simulate`").into()),
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    complete(command)
}

fn install_options<'a>(
    command: &'a mut Option<Command>,
    name: &str,
) -> Result<&'a mut install::Options, lexopt::Error> {
    match command {
        Some(Command::Install(options)) => Ok(options),
        _ => Err(format!("--{name} belongs to `install`").into()),
    }
}

/// What `-o` asks for.
fn as_json(command: &mut Option<Command>, format: &str) -> Result<(), lexopt::Error> {
    match (command, format) {
        (
            Some(
                Command::Status { json, .. }
                | Command::Takeover { json, .. }
                | Command::Doctor { json }
                | Command::Config(config::Question { json, .. }),
            ),
            "json",
        ) => *json = true,
        _ => return Err(format!("-o {format}: only `status`, `config`, `doctor` and `takeover` have -o json").into()),
    }
    Ok(())
}

/// The command, when it has what it needs.
fn complete(command: Option<Command>) -> Result<Command, lexopt::Error> {
    match &command {
        Some(Command::Takeover { dry_run: false, .. }) => {
            Err("takeover needs --dry-run: the daemon itself takes over when it starts".into())
        }
        Some(Command::Simulate(simulation))
            if simulation.instance_type.is_empty() || simulation.pods.as_os_str().is_empty() =>
        {
            Err("simulate needs --instance-type and --pods".into())
        }
        Some(Command::Config(question)) if question.file.is_none() && question.node != NodeTraits::default() => {
            Err("--type, --zone and --label need --file: the running daemon knows what its node is".into())
        }
        _ => Ok(command.unwrap_or(Command::Run)),
    }
}

fn simulate_option(simulation: &mut simulate::Simulation, name: &str, value: OsString) -> Result<(), lexopt::Error> {
    match name {
        "instance-type" => simulation.instance_type = value.string()?,
        "pods" => simulation.pods = value.into(),
        "svg" => simulation.svg = Some(value.into()),
        "with" => simulation.columns.push((simulate::Whose::Ours, value.string()?)),
        _ => simulation.columns.push((simulate::Whose::Reference, value.string()?)),
    }
    Ok(())
}

fn named(word: &str) -> Result<Command, lexopt::Error> {
    Ok(match word {
        "run" => Command::Run,
        "status" => Command::Status { json: false, address: None },
        "config" => Command::Config(config::Question::default()),
        "plan-host" => Command::PlanHost,
        "cleanup-host" => Command::CleanupHost,
        "takeover" => Command::Takeover { dry_run: false, json: false },
        "hand-back" => Command::HandBack(hand_back::Step::Begin),
        "install" => Command::Install(install::Options::default()),
        "doctor" => Command::Doctor { json: false },
        "uninstall" => Command::Uninstall,
        "simulate" => Command::Simulate(simulate::Simulation::default()),
        "version" => Command::Version,
        "help" => Command::Help,
        _ => return Err(format!("no such command `{word}`").into()),
    })
}

fn question(parser: &mut lexopt::Parser) -> Result<probe::Question, lexopt::Error> {
    match parser.next()? {
        Some(Value(word)) if word == "live" => Ok(probe::Question::Live),
        Some(Value(word)) if word == "ready" => Ok(probe::Question::Ready),
        Some(other) => Err(other.unexpected()),
        None => Err("probe needs `live` or `ready`".into()),
    }
}

fn bind(text: &str) -> Result<Bind, lexopt::Error> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Bind::Unix(PathBuf::from(path)));
    }
    let address: Result<SocketAddr, _> = text.parse();
    address.map(Bind::Tcp).map_err(|_| format!("--address {text}: address:port or unix:/path").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(words.iter().map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_command_is_found_and_run_is_the_default() {
        assert_eq!(parsed(&[]), Ok(Command::Run));
        assert_eq!(parsed(&["run"]), Ok(Command::Run));
        assert_eq!(parsed(&["plan-host"]), Ok(Command::PlanHost));
        assert_eq!(parsed(&["cleanup-host"]), Ok(Command::CleanupHost));
        assert_eq!(parsed(&["version"]), Ok(Command::Version));
        assert_eq!(parsed(&["status", "--help"]), Ok(Command::Help));
        let words =
            ["simulate", "--instance-type", "m5.large", "--pods", "t.csv", "--with", "A=1 B=2", "--reference", ""];
        let simulation = simulate::Simulation {
            instance_type: "m5.large".to_owned(),
            pods: "t.csv".into(),
            columns: vec![(simulate::Whose::Ours, "A=1 B=2".to_owned()), (simulate::Whose::Reference, String::new())],
            svg: None,
        };
        assert_eq!(parsed(&words), Ok(Command::Simulate(simulation)));
        let dry_run = |json| Ok(Command::Takeover { dry_run: true, json });
        assert_eq!(parsed(&["takeover", "--dry-run"]), dry_run(false));
        assert_eq!(parsed(&["takeover", "-o", "json", "--dry-run"]), dry_run(true));
        assert!(parsed(&["takeover"]).unwrap_err().contains("--dry-run"));
        assert_eq!(parsed(&["hand-back"]), Ok(Command::HandBack(hand_back::Step::Begin)));
        assert_eq!(parsed(&["hand-back", "--finish"]), Ok(Command::HandBack(hand_back::Step::Finish)));
        assert!(parsed(&["simulate", "--pods", "x"]).unwrap_err().contains("--instance-type"));
        let unix = Some(Bind::Unix("/run/x".into()));
        assert_eq!(parsed(&["probe", "ready"]), Ok(Command::Probe(probe::Question::Ready)));
        let options = install::Options { plugin: Some("p".into()), is_dry_run: true, has_unit: true };
        assert_eq!(parsed(&["install", "--plugin", "p", "--systemd", "--dry-run"]), Ok(Command::Install(options)));
        let words = ["config", "--file", "f", "--type", "m5.large", "--label", "a=b", "-o", "json"];
        let labels = Some([("a".to_owned(), "b".to_owned())].into());
        let node = NodeTraits { instance_type: Some("m5.large".to_owned()), zone: None, labels };
        let question = config::Question { json: true, address: None, file: Some("f".into()), node };
        assert_eq!(parsed(&words), Ok(Command::Config(question)));
        assert!(parsed(&["config", "--zone", "a"]).unwrap_err().contains("--file"));
        let words = ["status", "-o", "json", "--address", "unix:/run/x"];
        assert_eq!(parsed(&words), Ok(Command::Status { json: true, address: unix }));
    }

    #[test]
    fn a_wrong_word_is_named() {
        for words in [
            &["runn"][..],
            &["run", "-o", "json"],
            &["status", "-o", "yaml"],
            &["--frob"],
            &["run", "twice"],
            &["run", "--finish"],
        ] {
            let error = parsed(words).unwrap_err();
            let named = words.iter().any(|word| error.contains(word.trim_start_matches('-')));
            assert!(named, "{words:?}: {error}");
        }
        assert!(parsed(&["probe", "well"]).unwrap_err().contains("well"));
        assert!(parsed(&["run", "--systemd"]).unwrap_err().contains("--systemd"));
        assert!(parsed(&["status", "--address", "nonsense"]).unwrap_err().contains("nonsense"));
    }
}
