// SPDX-License-Identifier: Apache-2.0
//! What the journal costs with 0 to 735 pods: both files as bytes, the same and written to a folder, and read back at a start.
//!
//! The argument is a folder, `/dev/shm` where none is given; both files are written there as the daemon writes a whole one, by temporary file
//! and rename, and taken away again. What the daemon does at each ADD may be less, when it knows what has changed: `/metrics` of a daemon
//! says. Prints a table, which `make bench` reads.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program: it measures time, writes files and prints"
)]
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
    let mut line = Line { bytes: 0, encode: Vec::new(), write: Vec::new(), read: Vec::new() };
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
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "/dev/shm".to_owned()));
    println!(
        "| pods | bytes | encoded, us p50 | p99 | encoded and written, us p50 | p99 | read and restored, us p50 | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for pods in PODS {
        let Line { bytes, encode, write, read } = measure(pods, &folder)?;
        let [encode, write, read] = [encode, write, read].map(|mut times| {
            let [p50, p99] = [50, 99].map(|share| micros(&mut times, share));
            format!("{p50:.0} | {p99:.0}")
        });
        println!("| {pods} | {bytes} | {encode} | {write} | {read} |");
    }
    Ok(())
}
