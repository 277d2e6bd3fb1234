// SPDX-License-Identifier: Apache-2.0
//! Whether the daemon's memory grows: a million pods come to one node and go again, with the strict model of EC2 and under virtual time,
//! while every byte is counted that the daemon (the core, with what stands around it in the simulation) has allocated and not freed.
//!
//! An allocator in front of the system's marks each piece with who asked for it: the daemon from the moment an input is handed to
//! it until its turn ends, else the simulation, which keeps each pod it ever had and so does grow. Inputs are copied on the daemon's
//! side, so that what it keeps of them is its own. The figure is what is alive, not what is resident: fragments of pages are the
//! allocator's.
//!
//! The pods make waves, one every 2,500 s: ENIs come and go. Read at the same moment of a wave, a bounded daemon holds the same.
//! `growth [PODS]`: a million where none is said. Prints a table, which `make bench` reads.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program: it measures time and prints")]
#![expect(unsafe_code, reason = "a global allocator")]

use std::alloc::{GlobalAlloc, Layout as Piece, System};
use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ipamd_core::config::WarmTargets;
use ipamd_core::ids::Now;
use ipamd_core::{BootTime, Config};
use ipamd_simulate::allocator::{Allocator, File, Found, Holdings, Input, Strategy, Turn};
use ipamd_simulate::client::Manners;
use ipamd_simulate::layout::Layout;
use ipamd_simulate::ours::{Daemon, Ours};
use ipamd_simulate::pace::Pace;
use ipamd_simulate::world::{NodeId, PodPlan, World};

const MOST: usize = 1_000_000;
/// Pods of a wave; figures are read between two.
const WAVE: usize = 10_000;
/// From one pod to the next.
const APART: Duration = Duration::from_millis(250);
/// How long a pod lives: least and most.
const LIVES: (u64, u64) = (4_000, 24_000);
/// The first pod comes when the node has addresses.
const SETTLED: Duration = Duration::from_secs(120);
/// The journal is written out at one input of so many, which is enough to see whether that leaves something.
const JOURNAL_EVERY: u64 = 100;

static DAEMONS_TURN: AtomicBool = AtomicBool::new(false);
/// Live bytes: the simulation's, the daemon's.
static LIVE: [AtomicI64; 2] = [AtomicI64::new(0), AtomicI64::new(0)];

/// The system's allocator, each piece with its owner in the byte before it.
struct Marking;

impl Marking {
    /// The piece with room for the mark, and where in it the caller's begins.
    fn with_mark(piece: Piece) -> Option<(Piece, usize)> {
        Piece::new::<u8>().extend(piece).ok()
    }

    fn count(owner: u8, bytes: usize, sign: i64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        LIVE[usize::from(owner & 1)].fetch_add(sign * bytes, Ordering::Relaxed);
    }
}

// SAFETY: memory is the system allocator's, from a layout that is the caller's with at least one byte put before it (`extend` pads, so the
// alignment holds); the same sum gives the same layout when it is freed. Nothing here allocates or panics.
unsafe impl GlobalAlloc for Marking {
    unsafe fn alloc(&self, piece: Piece) -> *mut u8 {
        let Some((whole, offset)) = Self::with_mark(piece) else { return std::ptr::null_mut() };
        // SAFETY: `whole` has a byte at least.
        let start = unsafe { System.alloc(whole) };
        if start.is_null() {
            return start;
        }
        let owner = u8::from(DAEMONS_TURN.load(Ordering::Relaxed));
        Self::count(owner, piece.size(), 1);
        // SAFETY: `offset` is 1 at least and inside of `whole`.
        unsafe {
            start.add(offset - 1).write(owner);
            start.add(offset)
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, piece: Piece) {
        let Some((whole, offset)) = Self::with_mark(piece) else { return };
        // SAFETY: `at` came from `alloc` with this layout: the mark is before it, and the whole begins `offset` before it.
        unsafe {
            Self::count(at.sub(1).read(), piece.size(), -1);
            System.dealloc(at.sub(offset), whole);
        }
    }
}

#[global_allocator]
static MARKING: Marking = Marking;

/// What is allocated in here is the daemon's.
fn as_daemon<T>(work: impl FnOnce() -> T) -> T {
    DAEMONS_TURN.store(true, Ordering::Relaxed);
    let out = work();
    DAEMONS_TURN.store(false, Ordering::Relaxed);
    out
}

/// Our daemon, its memory counted.
#[derive(Debug)]
struct Counted(Ours);

/// With the inputs that it was given, counted.
#[derive(Debug)]
struct CountedDaemon(Daemon, u64);

impl Strategy for Counted {
    type Allocator = CountedDaemon;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn manners(&self) -> Manners {
        self.0.manners()
    }

    fn cooldown(&self) -> Duration {
        self.0.cooldown()
    }

    fn start(&self, found: Found, turn: &mut Turn) -> CountedDaemon {
        as_daemon(|| CountedDaemon(self.0.start(found.clone(), turn), 0))
    }
}

impl Allocator for CountedDaemon {
    fn handle(&mut self, input: Input, turn: &mut Turn) {
        as_daemon(|| self.0.handle(input.clone(), turn));
        // The simulation asks for the journal only when somebody reads it; the daemon writes it each time, and may keep what it knows of
        // it.
        self.1 += 1;
        if self.1.is_multiple_of(JOURNAL_EVERY) {
            as_daemon(|| self.0.keep_journal());
        }
    }

    fn file(&self, file: File) -> Vec<u8> {
        self.0.file(file)
    }

    fn next_deadline(&self) -> Option<BootTime> {
        self.0.next_deadline()
    }

    fn holdings(&self, now: Now) -> Holdings {
        self.0.holdings(now)
    }
}

/// What was alive after so many pods.
struct Reading {
    pods: usize,
    daemon: i64,
    simulation: i64,
    enis: usize,
    calls: u32,
    took: Duration,
}

/// A wave: lives grow to its middle and shrink again.
fn plan_wave(world: &mut World<Counted>, first: usize) -> BootTime {
    let at = |pod: usize| SETTLED + APART * u32::try_from(pod).unwrap_or(u32::MAX);
    for pod in 0..WAVE {
        let height = pod.min(WAVE - pod) as u64;
        let lives = LIVES.0 + (LIVES.1 - LIVES.0) * height / (WAVE as u64 / 2);
        let starts = BootTime(at(first + pod));
        let ends = Some(starts + Duration::from_millis(lives));
        world.plan_pod(PodPlan { node: NodeId(0), name: format!("pod-{}", first + pod), starts, ends });
    }
    BootTime(at(first + WAVE))
}

fn run(most: usize) -> Result<Vec<Reading>, Box<dyn Error>> {
    let config = Config { warm: WarmTargets::Enis(1), ..Config::default() };
    let vpc = Layout::one("m5.4xlarge", 19).build(1)?;
    let instance = vpc.instances().next().map(|instance| instance.id.clone()).ok_or("no instance")?;
    let mut world = World::for_figures(vpc, Pace::default(), 1);
    world.add_node(Rc::new(Counted(Ours::new("ours", config))), &instance, BootTime::default());
    let (started, mut readings) = (Instant::now(), Vec::new());
    let (mut pods, mut next) = (0, WAVE);
    while pods < most {
        let end = plan_wave(&mut world, pods);
        world.run_until(end);
        pods += WAVE;
        let node = &world.nodes()[0];
        // A pod of the wave's end may wait yet.
        let served = node.stats().waits.count();
        if served + WAVE / 100 < pods {
            return Err(format!("only {served} of {pods} pods have been given an address").into());
        }
        if pods >= next || pods >= most {
            next = (next * 10).min(most);
            let [simulation, daemon] = [0, 1].map(|owner: usize| LIVE[owner].load(Ordering::Relaxed));
            let (enis, calls) = (node.enis().len(), node.stats().all_calls());
            readings.push(Reading { pods, daemon, simulation, enis, calls, took: started.elapsed() });
        }
    }
    Ok(readings)
}

fn main() -> Result<(), Box<dyn Error>> {
    let most = std::env::args().nth(1).map_or(Ok(MOST), |count| count.parse())?;
    println!(
        "| pods come and gone | the daemon's live heap, bytes | the simulation's, bytes | ENIs | EC2 calls so far | s |"
    );
    println!("|---|---|---|---|---|---|");
    for Reading { pods, daemon, simulation, enis, calls, took } in run(most)? {
        println!("| {pods} | {daemon} | {simulation} | {enis} | {calls} | {:.1} |", took.as_secs_f64());
    }
    Ok(())
}
