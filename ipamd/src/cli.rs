// SPDX-License-Identifier: Apache-2.0
//! The command line: words to a [`Command`], and the commands that are not the daemon itself.
//!
//! Which commands and options there are is said in one table ([`usage`]); this module makes a [`Command`] of words that are in it.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipamd_core::config::{Bind, NodeTraits, Source};
use ipamd_core::reason::NoticeLevel;

use crate::edge::ready;
use ask::Asked;
use usage::completions::Shell;
use words::{Line, Words};

pub mod ask;
pub mod bundle;
pub mod check;
pub mod cleanup_host;
pub mod config;
pub mod doctor;
pub mod enis;
pub mod env_file;
pub mod events;
pub mod hand_back;
pub mod install;
pub mod limits;
pub mod max_pods;
pub mod plan_host;
mod plugin;
pub mod pods;
pub mod probe;
pub mod reasons;
pub mod simulate;
pub mod status;
mod table;
pub mod takeover;
pub mod terminal;
pub mod uninstall;
pub mod usage;
pub mod why;
mod words;

pub use words::Mistake;

/// Why a command ends when nobody reads any more what it prints.
pub const CLOSED: &str = "standard output is closed";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the daemon.
    Run,
    /// Show the daemon's state.
    Status(Asked),
    /// List pods.
    Pods(pods::Question),
    /// List ENIs.
    Enis(Asked),
    /// Tell why something is as it is.
    Why(why::Question),
    /// Compare the witnesses.
    Check(check::Question),
    /// Tell what happened.
    Events(events::Question),
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
    /// Pack what is needed to find out.
    SupportBundle(bundle::Question),
    /// Print the host's plan.
    PlanHost,
    /// Remove what is ours.
    CleanupHost,
    /// Tell what a takeover would do; the daemon itself takes over when it starts.
    Takeover {
        /// As JSON, not as lines.
        json: bool,
    },
    /// Give the node back to the reference.
    HandBack(hand_back::Step),
    /// Tell what EC2 allows a type.
    Limits(limits::Question),
    /// Tell how many pods a node can hold.
    MaxPods(max_pods::Question),
    /// Explain the stable codes.
    Reasons(reasons::Question),
    /// Simulate settings on a trace of pods.
    Simulate(simulate::Simulation),
    /// Print completions for a shell.
    Completions(Shell),
    /// Print the man page.
    Man,
    /// Print the version.
    Version,
    /// Print the help, of a command or whole.
    Help(Option<&'static str>),
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

/// Writes what was asked for.
///
/// # Errors
/// Standard output takes no more: [`CLOSED`], or why.
pub fn print(out: &mut dyn Write, text: impl AsRef<[u8]>) -> Result<(), String> {
    let printed = out.write_all(text.as_ref()).and_then(|()| out.flush());
    printed.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => format!("writing to standard output: {error}"),
    })
}

/// As JSON that people can read, too.
fn pretty(value: &impl serde::Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| format!("writing JSON: {error}"))?;
    Ok(text + "\n")
}

/// Milliseconds for people: `250ms`, `4.2s`, `12m`, `3h`, `4d`.
fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// A pod's name; `-` where the runtime named none.
fn pod_name(pod: &ipamd_core::ids::PodRef) -> String {
    if pod.name.is_empty() { "-".to_owned() } else { format!("{}/{}", pod.namespace, pod.name) }
}

/// Reads the words after the program's name.
///
/// # Errors
/// A word or option that there is not, with its name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Mistake> {
    match words::read(arguments)? {
        None => Ok(Command::Run),
        Some(Line::Help(command)) => Ok(Command::Help(command)),
        Some(Line::Version) => Ok(Command::Version),
        Some(Line::Command(words)) => command(&words),
    }
}

fn command(words: &Words) -> Result<Command, Mistake> {
    Ok(match words.row.name {
        "status" => Command::Status(asked(words)?),
        "pods" => Command::Pods(pods::Question { asked: asked(words)?, namespace: words.text("namespace")? }),
        "enis" => Command::Enis(asked(words)?),
        "why" => Command::Why(why::Question { asked: asked(words)?, what: words.needed_argument()? }),
        "check" => Command::Check(check::Question {
            asked: asked(words)?,
            is_strict: words.has("strict"),
            is_without_daemon: words.has("without-daemon"),
        }),
        "events" => Command::Events(events(words)?),
        "config" => Command::Config(config(words)?),
        "install" => Command::Install(install::Options {
            plugin: words.raw("plugin").map(PathBuf::from),
            has_unit: words.has("systemd"),
            is_dry_run: words.has("dry-run"),
        }),
        "uninstall" => Command::Uninstall,
        "doctor" => Command::Doctor { json: words.has("output") },
        "probe" => Command::Probe(match words.needed_argument()?.as_str() {
            "live" => probe::Question::Live,
            _ => probe::Question::Ready,
        }),
        "support-bundle" => {
            Command::SupportBundle(bundle::Question { address: address(words)?, file: bundle_file(words)? })
        }
        "plan-host" => Command::PlanHost,
        "cleanup-host" => Command::CleanupHost,
        "takeover" => takeover(words)?,
        "hand-back" if words.has("finish") => Command::HandBack(hand_back::Step::Finish),
        "hand-back" => Command::HandBack(hand_back::Step::Begin),
        "limits" => Command::Limits(limits(words)?),
        "max-pods" => Command::MaxPods(max_pods::question(words)?),
        "reasons" => Command::Reasons(reasons::Question { code: words.argument()?, json: words.has("output") }),
        "simulate" => Command::Simulate(simulation(words)?),
        "completions" => Command::Completions(match words.needed_argument()?.as_str() {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            _ => Shell::Fish,
        }),
        "man" => Command::Man,
        "version" => Command::Version,
        "help" => Command::Help(help(words)?),
        _ => Command::Run,
    })
}

fn asked(words: &Words) -> Result<Asked, Mistake> {
    Ok(Asked { json: words.has("output"), address: address(words)? })
}

fn address(words: &Words) -> Result<Option<Bind>, Mistake> {
    let Some(text) = words.text("address")? else { return Ok(None) };
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Some(Bind::Unix(PathBuf::from(path))));
    }
    let address: Result<SocketAddr, _> = text.parse();
    let address = address.map_err(|_| words.mistake(format!("--address {text}: address:port or unix:/path")))?;
    Ok(Some(Bind::Tcp(address)))
}

fn events(words: &Words) -> Result<events::Question, Mistake> {
    let since = words.text("since")?.map(|text| {
        text.parse()
            .map_err(|_| words.mistake(format!("--since {text}: the number of a record, as `ipamd events` shows it")))
    });
    let level = words.text("level")?.map(|level| match level.as_str() {
        "debug" => NoticeLevel::Debug,
        "warn" => NoticeLevel::Warn,
        "error" => NoticeLevel::Error,
        _ => NoticeLevel::Info,
    });
    Ok(events::Question {
        asked: asked(words)?,
        follow: words.has("follow"),
        since: since.transpose()?,
        level: level.unwrap_or(NoticeLevel::Info),
        pod: words.text("pod")?,
    })
}

fn config(words: &Words) -> Result<config::Question, Mistake> {
    let asked = asked(words)?;
    let mut node =
        NodeTraits { instance_type: words.text("type")?, zone: words.text("zone")?, ..NodeTraits::default() };
    for (_, label) in words.all(&["label"])? {
        let pair =
            label.split_once('=').ok_or_else(|| words.mistake(format!("--label {label}: name=value is needed")))?;
        node.labels.get_or_insert_default().insert(pair.0.to_owned(), pair.1.to_owned());
    }
    let file = words.raw("file").map(PathBuf::from);
    if file.is_none() && node != NodeTraits::default() {
        return Err(words.mistake("--type, --zone and --label need --file: the running daemon knows what its node is"));
    }
    Ok(config::Question { asked, file, node })
}

/// Elsewhere `-o json` asks for another form; here it would be a file of that name.
fn bundle_file(words: &Words) -> Result<Option<PathBuf>, Mistake> {
    let file = words.raw("output").map(PathBuf::from);
    if file.as_ref().is_some_and(|file| file.as_os_str() == "json") {
        let said = "-o names the file of a support bundle, which is a .tar: ./json if it is to be called that";
        return Err(words.mistake(said));
    }
    Ok(file)
}

fn takeover(words: &Words) -> Result<Command, Mistake> {
    let json = words.has("output");
    if !words.has("dry-run") {
        return Err(words.mistake("takeover needs --dry-run: the daemon itself takes over when it starts"));
    }
    Ok(Command::Takeover { json })
}

fn limits(words: &Words) -> Result<limits::Question, Mistake> {
    let question = limits::Question { asked: asked(words)?, instance_type: words.argument()?, all: words.has("all") };
    if question.all && question.instance_type.is_some() {
        return Err(words.mistake("limits takes a type or --all"));
    }
    Ok(question)
}

fn simulation(words: &Words) -> Result<simulate::Simulation, Mistake> {
    let whose = |name: &str| if name == "with" { simulate::Whose::Ours } else { simulate::Whose::Reference };
    let columns = words.all(&["with", "reference"])?;
    let simulation = simulate::Simulation {
        instance_type: words.text("instance-type")?.unwrap_or_default(),
        pods: words.raw("pods").map(PathBuf::from).unwrap_or_default(),
        columns: columns.into_iter().map(|(name, text)| (whose(name), text)).collect(),
        svg: words.raw("svg").map(PathBuf::from),
    };
    if simulation.instance_type.is_empty() || simulation.pods.as_os_str().is_empty() {
        return Err(words.mistake("simulate needs --instance-type and --pods"));
    }
    Ok(simulation)
}

fn help(words: &Words) -> Result<Option<&'static str>, Mistake> {
    let Some(name) = words.argument()? else { return Ok(None) };
    usage::command(&name).map(|row| Some(row.name)).map_err(|text| words.mistake(text))
}

#[cfg(test)]
mod tests;
