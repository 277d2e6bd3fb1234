// SPDX-License-Identifier: Apache-2.0
//! What the journal costs with 0 to 735 pods: both files as bytes, the same and written to a folder, and read back at a start.
//!
//! The argument is a folder, `/dev/shm` where none is given; both files are written there as the daemon writes a whole one, by temporary file
//! and rename, and taken away again. What the daemon does at each ADD may be less, when it knows what has changed: `/metrics` of a daemon
//! says. With `json` as second argument one line for `make bench`, else a table.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time, writes files and prints")]
#![expect(clippy::unwrap_used, reason = "constants of this program")]

mod node;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipamd_core::event::KernelView;
use ipamd_core::{BootTime, Checkpoint, Config, Core, Now, Restored};
use node::{Node, PER_ENI, micros};

const PODS: [u32; 4] = [0, 50, 250, 735];
const ROUNDS: usize = 500;

/// One node's journal.
struct Line {
    pods: u32,
    bytes: usize,
    encode: Vec<Duration>,
    write: Vec<Duration>,
    read: Vec<Duration>,
}

/// Both files in a folder.
struct Files {
    reference: PathBuf,
    own: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        let file = |name| folder.join(format!("enid-bench-{}-{name}", std::process::id()));
        Self { reference: file("ipam.json"), own: file("enid.json") }
    }

    fn write(&self, journal: &Checkpoint) -> io::Result<()> {
        for (path, bytes) in [(&self.own, &journal.own_json), (&self.reference, &journal.reference_json)] {
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, bytes)?;
            fs::rename(&temporary, path)?;
        }
        Ok(())
    }

    fn read(&self) -> io::Result<Core> {
        let (own, reference) = (fs::read(&self.own)?, fs::read(&self.reference)?);
        let restored = Restored::read(Some(&reference), Some(&own), KernelView::default(), "boot-1");
        let now = Now { boot: BootTime(Duration::from_secs(200)), unix_nanos: 0 };
        Ok(Core::new(Config::default(), restored, now).0)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.reference, &self.own] {
            // What was not written is not there.
            let _ = fs::remove_file(path);
        }
    }
}

fn measure(pods: u32, folder: &Path) -> io::Result<Line> {
    let enis = u8::try_from(pods.div_ceil(PER_ENI.into()).max(1)).unwrap();
    let mut node = Node::with_enis(enis);
    node.add_all(pods);
    let files = Files::new(folder);
    let timed = |times: &mut Vec<Duration>, started: Instant| times.push(started.elapsed());
    let mut line = Line { pods, bytes: 0, encode: Vec::new(), write: Vec::new(), read: Vec::new() };
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let journal = node.core.checkpoint();
        timed(&mut line.encode, started);
        files.write(&journal)?;
        timed(&mut line.write, started);
        line.bytes = journal.own_json.len() + journal.reference_json.len();
        let started = Instant::now();
        let core = files.read()?;
        timed(&mut line.read, started);
        let allocated = core.snapshot(node.now()).pool.allocated;
        assert_eq!(allocated, pods, "the journal has lost pods");
    }
    Ok(line)
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/dev/shm".to_owned()));
    let is_json = arguments.next().as_deref() == Some("json");
    let mut lines = PODS.into_iter().map(|pods| measure(pods, &folder)).collect::<io::Result<Vec<_>>>()?;
    if is_json {
        let lines = lines.iter_mut().map(|line| {
            let [encode, write, read] = [&mut line.encode, &mut line.write, &mut line.read].map(|times| {
                let [p50, p99] = [50, 99].map(|share| micros(times, share));
                serde_json::json!({ "p50": p50, "p99": p99 })
            });
            serde_json::json!({ "pods": line.pods, "bytes": line.bytes, "encode": encode, "write": write, "read": read })
        });
        println!("{}", lines.collect::<serde_json::Value>());
        return Ok(());
    }
    println!("| pods | bytes | encoded, us p50 / p99 | encoded and written | read and restored |\n|---|---|---|---|---|");
    for line in &mut lines {
        let [encode, write, read] = [&mut line.encode, &mut line.write, &mut line.read].map(|times| {
            let [p50, p99] = [50, 99].map(|share| micros(times, share));
            format!("{p50:.0} / {p99:.0}")
        });
        println!("| {} | {} | {encode} | {write} | {read} |", line.pods, line.bytes);
    }
    Ok(())
}
