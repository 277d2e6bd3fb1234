// SPDX-License-Identifier: Apache-2.0
//! The wait between rounds: until the kernel has cleared away what the last one left.
//!
//! A namespace that nobody holds any more is ended by the kernel's one worker for that (`cleanup_net`, net/core/net_namespace.c), many in
//! one go: their links first, then each subsystem's state, which costs as much processor time again and shows nowhere. But the worker
//! does one go after the other. So:
//!
//! ```text
//! pods dropped ─► links of the nodes as many as before ─► a canary's namespace is made, and dropped ─► its link is gone
//!                 (the go with the pods is under way)                                     (that go has ended: this was the next one)
//! ```

use std::error::Error;
use std::io;
use std::time::Duration;

use super::callee::Callee;
use crate::eventually::eventually;
use crate::netns::Namespace;
use crate::world::World;

/// How long the kernel may take.
const CLEARED: Duration = Duration::from_secs(60);
/// Of the namespace and of its link's end outside.
const CANARY: &str = "canary";

/// Links of each node.
pub(super) fn of_nodes(callees: &[Callee<'_>]) -> Result<Vec<usize>, Box<dyn Error>> {
    let of_node = |callee: &Callee<'_>| -> Result<usize, Box<dyn Error>> { Ok(callee.netns().run(links)??) };
    callees.iter().map(of_node).collect()
}

/// Waits until the nodes have no more links than before, and all namespaces that were dropped are gone.
///
/// # Errors
/// They are not in time.
pub(super) fn settle(world: &World, callees: &[Callee<'_>], before: &[usize]) -> Result<(), Box<dyn Error>> {
    for (callee, before) in callees.iter().zip(before) {
        let what = format!("the kernel has cleared away the dead pods of {}", callee.name());
        let now = || callee.netns().run(links).map_err(|error| error.to_string());
        eventually(&what, CLEARED, || not_more(now()?, *before))?;
    }
    let before = links()?;
    let canary = Namespace::create(CANARY)?;
    world.tools.ip_here(&format!("link add {CANARY} type veth peer name eth0 netns {CANARY}\n"))?;
    drop(canary);
    eventually("the kernel has cleared away the canary", CLEARED, || not_more(links(), before))?;
    Ok(())
}

/// Links of the calling thread's namespace (proc(5): two lines of headings, a line a link).
#[expect(clippy::disallowed_methods, reason = "reads the kernel's list")]
fn links() -> io::Result<usize> {
    Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?.lines().count().saturating_sub(2))
}

fn not_more(links: io::Result<usize>, before: usize) -> Result<(), String> {
    match links.map_err(|error| error.to_string())? {
        links if links <= before => Ok(()),
        links => Err(format!("{links} links, before there were {before}")),
    }
}
