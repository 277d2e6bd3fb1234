// SPDX-License-Identifier: Apache-2.0
//! `ipamd`: the command line. Exit codes: 64 the command line or the configuration is wrong (every mistake is listed),
//! 1 something could not be done, 0 done.

use std::io::Write;
use std::process::ExitCode;

use ipamd::cli::terminal::Screen;
use ipamd::cli::{self, Command, Environment, Mistake};
use ipamd_core::config::{self, Config, Note};
use ipamd_core::reason::ReasonCode;

/// EX_USAGE (sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let command = cli::parse(arguments);
    if command.as_ref().is_ok_and(reads_file) && !settings_of_the_node(&command) {
        return ExitCode::from(USAGE);
    }
    match command {
        Ok(Command::Help(of)) => print(&help(of)),
        Ok(Command::Man) => print(&cli::usage::man::page()),
        Ok(Command::Completions(shell)) => print(&cli::usage::completions::script(shell)),
        Ok(Command::Reasons(question)) => ended(cli::reasons::run(&question, &screen(), &mut std::io::stdout().lock())),
        Ok(Command::Limits(question)) if question.is_of_no_node() => {
            ended(cli::limits::run(&Config::default(), &question, &screen(), &mut std::io::stdout().lock()))
        }
        Ok(Command::SupportBundle(question)) => ended(cli::bundle::run(&question, &mut std::io::stdout().lock())),
        // An uninstall must not fail for a mistake in the environment.
        Ok(Command::CleanupHost) => ended(cleanup_host()),
        Ok(Command::Uninstall) => ended(cli::uninstall::run(&Environment, &mut std::io::stdout().lock())),
        Ok(Command::Simulate(simulation)) => simulate(&simulation),
        Ok(Command::MaxPods(question)) => max_pods(&question),
        Ok(Command::Version) => print(concat!("ipamd ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(command) => configured(command),
        Err(error) => {
            complain(&format!("ipamd: {error}"));
            ExitCode::from(USAGE)
        }
    }
}

/// Whether a command is about the daemon of this node, and not the daemon itself, nor what can be asked anywhere.
fn reads_file(command: &Command) -> bool {
    match command {
        Command::Run
        | Command::Help(_)
        | Command::Version
        | Command::Simulate(_)
        | Command::Man
        | Command::Completions(_)
        | Command::Reasons(_) => false,
        Command::Limits(question) => !question.is_of_no_node(),
        Command::MaxPods(question) => question.instance_type.is_none(),
        Command::Config(question) => question.file.is_none(),
        _ => true,
    }
}

/// Takes the daemon's settings for those that the environment lacks; whether all of them can be read, or need not be.
#[expect(unsafe_code, reason = "the environment of a process that has one thread")]
fn settings_of_the_node(command: &Result<Command, Mistake>) -> bool {
    let found = cli::env_file::look();
    found.told.iter().for_each(|told| complain(&format!("ipamd: {told}")));
    found.mistakes.iter().for_each(|mistake| complain(&format!("ipamd: {mistake}")));
    // SAFETY: nothing has started a thread yet.
    unsafe { cli::env_file::fill(&found.variables) };
    let goes_on = matches!(command, Ok(Command::CleanupHost | Command::Uninstall | Command::SupportBundle(_)));
    found.mistakes.is_empty() || goes_on
}

#[expect(clippy::disallowed_methods, reason = "the one variable that an uninstall needs")]
fn cleanup_host() -> Result<(), String> {
    cli::cleanup_host::run(&mut std::io::stdout().lock(), std::env::var_os("AWS_VPC_K8S_CNI_BACKING_STORE"))
}

fn configured(command: Command) -> ExitCode {
    let (config, notes) = match config::parse(&Environment) {
        Ok(parsed) => parsed,
        Err(errors) => {
            errors.iter().for_each(|error| complain(&format!("ipamd: {error}")));
            complain(&format!("ipamd: {}: see `ipamd config`", ReasonCode::EnvironmentInvalid));
            return ExitCode::from(USAGE);
        }
    };
    ended(perform(command, config, &notes))
}

/// Of a type it is told anywhere, whatever the environment says; of this node by its daemon, at the address that is configured.
fn max_pods(question: &cli::max_pods::Question) -> ExitCode {
    match &question.instance_type {
        Some(name) => ended(cli::max_pods::of_type(question, name, &screen(), &mut std::io::stdout().lock())),
        None => configured(Command::MaxPods(question.clone())),
    }
}

fn simulate(simulation: &cli::simulate::Simulation) -> ExitCode {
    match simulation.columns() {
        Ok(columns) => ended(cli::simulate::run(simulation, &columns, &mut std::io::stdout().lock())),
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| complain(&format!("ipamd: {mistake}")));
            ExitCode::from(USAGE)
        }
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has had enough (`| head`): nobody wants to be told.
        Err(error) if error == cli::CLOSED => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("ipamd: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What standard output can show.
fn screen() -> Screen {
    Screen::of(std::io::stdout(), &Environment)
}

fn help(of: Option<&str>) -> String {
    match of.and_then(cli::usage::row) {
        Some(row) => cli::usage::help::of(row, &screen()),
        None => cli::usage::help::whole(&screen()),
    }
}

fn perform(command: Command, config: Config, notes: &[Note]) -> Result<(), String> {
    if command == Command::Run {
        return ipamd::run(config, notes).map_err(|error| {
            tracing::error!(code = %ReasonCode::StartFailed, error = error.chain(), "the daemon cannot start");
            error.chain()
        });
    }
    // Not above: threads of the daemon may log there.
    let out = &mut std::io::stdout().lock();
    match command {
        Command::Status(asked) => cli::status::run(&config, &asked, &screen(), out),
        Command::Pods(question) => cli::pods::run(&config, &question, &screen(), out),
        Command::Enis(asked) => cli::enis::run(&config, &asked, &screen(), out),
        Command::Why(question) => cli::why::run(&config, &question, &screen(), out),
        Command::Check(question) => cli::check::run(&config, &question, &screen(), out),
        Command::Events(question) => cli::events::run(&config, &question, &screen(), out),
        Command::Limits(question) => cli::limits::run(&config, &question, &screen(), out),
        Command::Config(question) => cli::config::run(&config, &Environment, &question, (&screen(), out)),
        Command::Takeover { json } => cli::takeover::run(&config, json, out),
        Command::HandBack(step) => cli::hand_back::run(&config, step, out),
        Command::PlanHost => cli::plan_host::run(&config, out),
        Command::Install(options) => cli::install::run(&config, &options, out),
        Command::Doctor { json } => cli::doctor::run(&config, json, out),
        Command::Probe(question) => cli::probe::run(&config, question),
        Command::MaxPods(question) => cli::max_pods::of_node(&question, &config, &screen(), out),
        // Done above, or before the configuration is read.
        Command::Run
        | Command::CleanupHost
        | Command::Uninstall
        | Command::Simulate(_)
        | Command::SupportBundle(_)
        | Command::Reasons(_)
        | Command::Completions(_)
        | Command::Man
        | Command::Help(_)
        | Command::Version => Ok(()),
    }
}

fn print(text: &str) -> ExitCode {
    ended(cli::print(&mut std::io::stdout().lock(), text))
}

fn complain(text: &str) {
    // Nobody to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
