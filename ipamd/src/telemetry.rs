// SPDX-License-Identifier: Apache-2.0
//! The log, and the end of the process at a panic.
//!
//! Text for people at a terminal, one JSON object a line otherwise. Our own crates log at the configured level, libraries
//! at `warn`: the SDK's debug lines would drown ours. The level can be changed while it runs. A file is bounded (`bounded`). What
//! edges warn of with a code is told to others, too (`coded`).

use std::error::Error;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock};

use ipamd_core::config::{LogConfig, LogLevel, LogTarget};
use ipamd_core::reason::ReasonCode;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

mod bounded;
mod coded;

use bounded::BoundedFile;
pub(crate) use coded::listen;

/// Starts the log. Called once, before anything else is started.
pub(crate) fn start(config: &LogConfig) -> io::Result<()> {
    match &config.target {
        LogTarget::Stdout => install(config.level, io::stdout().is_terminal(), io::stdout),
        LogTarget::Stderr => install(config.level, io::stderr().is_terminal(), io::stderr),
        LogTarget::File(path) => {
            install(config.level, false, Mutex::new(BoundedFile::open(path)?));
        }
    }
    Ok(())
}

fn install<W>(level: LogLevel, terminal: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(writer);
    let lines = if terminal { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    let coded = coded::Coded.with_filter(LevelFilter::WARN);
    // An installed subscriber (a test's) stays.
    let _ =
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(coded).try_init().map(|()| keep(handle));
}

/// Gives the log another level.
type Reload = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Of the subscriber that is installed, of which there is one in a process; its type depends on where it writes to.
static RELOAD: OnceLock<Reload> = OnceLock::new();

fn keep<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    let reload = move |level| {
        if let Err(error) = handle.reload(filter(level)) {
            tracing::warn!(code = %ReasonCode::LogLevelUnchanged, %error, "the level of the log cannot be changed");
        }
    };
    let _ = RELOAD.set(Box::new(reload));
}

/// From now on at least this is logged.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(reload) = RELOAD.get() {
        reload(level);
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    EnvFilter::new(format!("warn,ipamd={level},ipamd_aws={level},ipam_api={level},datapath={level}"))
}

/// From now on a panic in any thread or task is logged and ends the process: a daemon that lost a part of itself would go
/// on answering from a state that nobody keeps. It is started again and reads its journal.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        tracing::error!(
            target: coded::PANIC, code = %ReasonCode::DaemonAborted, thread = name, panic = %info,
            "bug: ending the process"
        );
        std::process::abort();
    }));
}

/// An error with its causes: `a: b: c`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
