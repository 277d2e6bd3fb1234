// SPDX-License-Identifier: Apache-2.0
//! `aws-cni`, the CNI executable: environment and standard input in, one JSON object on standard output, exit code 0 or 1
//! (CNI specification 0.3.0 to 1.1.0). Asks the daemon for an address and plumbs the pod; decides nothing about
//! addresses (`ipamd`) and makes no kernel object that is not in a plan (`datapath`).
//!
//! Invariant: standard output carries the result or the error object and nothing else, whatever happens.
//!
//! | module | does |
//! |---|---|
//! | [`command`] | verbs and their parameters |
//! | [`conf`], [`args`] | the network configuration, CNI_ARGS |
//! | [`add`], [`del`], [`check`], [`gc`], [`status`] | one verb each |
//! | [`intent`], [`result`] | the daemon's reply -> what is plumbed, what is printed |
//! | [`pod_lock`] | a second call for the same sandbox |
//! | [`tombstone`], [`state_file`], [`key`] | a DEL that the daemon has not seen |
//! | [`error`], [`reason`], [`log`], [`call`] | the rest |
//! | `start` | what is done before |
//! | `fuzzing` | what holds whatever comes in: for tests and `fuzz/` only |
#![expect(clippy::disallowed_methods, reason = "the process's edge reads the environment and the clock, once")]
#![cfg_attr(not(any(test, fuzzing)), no_main)]

use std::ffi::CStr;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use args::PodArgs;
use call::{Budget, Call};
use command::{Environment, Parameters, Verb};
use conf::{NetConf, VERSIONS};
use error::{CniError, Code};
use log::Log;
use reason::Reason;

mod add;
mod args;
mod call;
mod check;
mod command;
mod conf;
mod del;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gc;
mod intent;
mod key;
mod log;
mod pod_lock;
mod reason;
mod result;
#[cfg(not(any(test, fuzzing)))]
mod start;
mod state_file;
mod status;
mod tombstone;

/// What `aws-cni --version` prints; `ipamd` knows the program by it, in the file.
const VERSION: &str = concat!("aws-cni of Enid, version ", env!("CARGO_PKG_VERSION"), "\n");

/// More than any configuration: etcd, where Kubernetes keeps its objects, takes 1.5 MiB.
const STDIN_LIMIT: u64 = 4 * 1024 * 1024;

/// Runs the program; its exit code. `word` is its first argument: a runtime gives none.
#[cfg_attr(any(test, fuzzing), expect(dead_code, reason = "tests have a `main` of their own"))]
fn start(word: Option<&CStr>) -> u8 {
    let started = Instant::now();
    print_panics_as_errors();
    if word == Some(c"--version") {
        return u8::from(std::io::stdout().write_all(VERSION.as_bytes()).is_err());
    }
    let environment = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mut version = None;
    let (text, code) = match run(&environment, started, &mut version) {
        Ok(text) => (text, 0),
        Err(error) => (error.to_json(version.as_deref().unwrap_or(conf::LATEST)), 1),
    };
    if print(&text).is_ok() { code } else { 1 }
}

/// Runs the verb; what goes to standard output. `version` becomes the configuration's, once it is known.
fn run(environment: Environment<'_>, started: Instant, version: &mut Option<String>) -> Result<String, CniError> {
    let parameters = Parameters::read(environment);
    // Without a verb nobody has put anything on standard input: do not wait for it.
    let stdin = match &parameters {
        Err(_) if environment("CNI_COMMAND").is_none_or(|command| command.is_empty()) => Vec::new(),
        _ => read_stdin()?,
    };
    let keys = conf::keys(&stdin);
    *version = keys.as_ref().ok().and_then(conf::version_of);
    let parameters = parameters?;
    if parameters.verb == Verb::Version {
        return Ok(supported_versions(version.as_deref()));
    }
    let conf = NetConf::read(&keys?, parameters.verb, environment)?;
    let log = Log::new(conf.log_target.clone(), conf.log_level, common_fields(&parameters));
    let verb = parameters.verb;
    // Only an ADD can say what is wrong with its arguments.
    let pod = if verb == Verb::Add {
        PodArgs::parse(&parameters.args)
    } else {
        Ok(PodArgs::parse_leniently(&parameters.args))
    };
    let total = match verb {
        Verb::Add => add_budget(environment),
        Verb::Del => del::DEL_BUDGET,
        Verb::Check => check::CHECK_BUDGET,
        Verb::Gc => gc::GC_BUDGET,
        Verb::Status | Verb::Version => Duration::ZERO,
    };
    let budget = Budget::new(started, total);
    let outcome = pod.and_then(|pod| {
        let call = Call { parameters, pod, conf, log: log.clone(), budget };
        carry_out(&call, environment)
    });
    let took = started.elapsed().as_micros().to_string();
    match &outcome {
        // containerd asks for the status every 5 s.
        Ok(_) if verb == Verb::Status => log.debug("done", &[("took_us", &took)]),
        Ok(_) => log.info("done", &[("took_us", &took)]),
        Err(error) => {
            log.error("failed", &[("code", &error.reason), ("took_us", &took), ("error", &error.to_string())]);
        }
    }
    outcome
}

/// The verb itself; what it prints.
fn carry_out(call: &Call, environment: Environment<'_>) -> Result<String, CniError> {
    match call.parameters.verb {
        Verb::Add => return add::add(call),
        Verb::Del => del::del(call),
        Verb::Check => check::check(call)?,
        Verb::Gc => gc::gc(call, gc::spare_younger(environment))?,
        Verb::Status | Verb::Version => status::status(&call.conf, &call.log)?,
    }
    Ok(String::new())
}

fn common_fields(parameters: &Parameters) -> Vec<(&'static str, String)> {
    vec![
        ("verb", parameters.verb.name().to_owned()),
        ("container_id", parameters.container_id.clone()),
        ("netns", parameters.netns.clone()),
        ("args", parameters.args.clone()),
    ]
}

/// 20 s; ENID_ADD_BUDGET_MS can make it shorter, not longer.
fn add_budget(environment: Environment<'_>) -> Duration {
    let shorter = environment("ENID_ADD_BUDGET_MS").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    shorter.map_or(ipam_api::ADD_BUDGET, |shorter| shorter.min(ipam_api::ADD_BUDGET))
}

fn read_stdin() -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    match std::io::stdin().lock().take(STDIN_LIMIT + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 <= STDIN_LIMIT => Ok(bytes),
        Ok(_) => {
            let message = format!("the network configuration on standard input is over {STDIN_LIMIT} bytes");
            Err(CniError::new(Code::Io, Reason::StdioFailed, message))
        }
        Err(error) => {
            let message = "the network configuration cannot be read from standard input";
            Err(CniError::new(Code::Io, Reason::StdioFailed, message).because(error.to_string()))
        }
    }
}

/// The answer to VERSION, in the version that was asked in if we speak it.
fn supported_versions(asked: Option<&str>) -> String {
    let version = asked.filter(|version| VERSIONS.contains(version)).unwrap_or(conf::LATEST);
    serde_json::json!({ "cniVersion": version, "supportedVersions": VERSIONS }).to_string()
}

/// One write and a line end; nothing at all for an empty text (DEL and STATUS print nothing).
fn print(text: &str) -> std::io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// A panic is a bug, but the runtime still gets an error object, and the exit code of one.
fn print_panics_as_errors() {
    std::panic::set_hook(Box::new(|panic| {
        let message = "the plugin failed: please report this";
        let error = CniError::new(Code::Internal, Reason::PluginAborted, message).because(panic.to_string());
        let _ = print(&error.to_json(conf::LATEST));
        std::process::exit(1);
    }));
}
