// SPDX-License-Identifier: Apache-2.0
//! Calls of plugins, cold and at once: each from the start of its process to its end, as a runtime waits for it.
//!
//! ```text
//! a thread a call: enters the node's namespace ─ all are there ─► starts the process ─► it ends      took
//!                                                 └──────────── until the last of them ends ──────┘  whole
//! ```
//!
//! Every callee is called by this and by nothing else, so what the harness costs is in all figures alike.
#![expect(clippy::disallowed_methods, reason = "times processes")]

use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// Why a call did not work; of threads.
pub(super) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A call to be: its program with the environment, and what it is given on standard input.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) input: String,
}

/// What became of calls that were made at once, in their order.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) took: Vec<Duration>,
    /// From the first start to the last end.
    pub(super) whole: Duration,
    /// Standard output of each.
    pub(super) said: Vec<Vec<u8>>,
}

struct Ended {
    start: Instant,
    end: Instant,
    said: Vec<u8>,
}

/// Makes the calls in the node's namespace, all at once, and waits for all.
///
/// # Errors
/// The first that failed, with what its program said.
pub(super) fn burst(node: &Namespace, calls: Vec<Call>) -> Result<Burst, Failed> {
    let line = Barrier::new(calls.len());
    let one = |mut call: Call| -> Result<Ended, Failed> {
        let entered = node.enter();
        // Also when it could not be entered: the others wait for this thread.
        line.wait();
        entered?;
        let start = Instant::now();
        let output = crate::sandbox::run(&mut call.command, &call.input)?;
        let end = Instant::now();
        if output.status.success() {
            return Ok(Ended { start, end, said: output.stdout });
        }
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Err(format!("{} {}: {said}", call.command.get_program().display(), output.status).into())
    };
    let ended = std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = calls.into_iter().map(|call| scope.spawn(move || one(call))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // All are joined before the first error is looked at.
        joined.collect::<Vec<_>>()
    });
    let ended = ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    let first = ended.iter().map(|call| call.start).min();
    let last = ended.iter().map(|call| call.end).max();
    let whole = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    let took = ended.iter().map(|call| call.end - call.start).collect();
    Ok(Burst { took, whole, said: ended.into_iter().map(|call| call.said).collect() })
}
