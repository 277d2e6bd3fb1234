// SPDX-License-Identifier: Apache-2.0
//! What attaching a pod costs by the family of its address: IPv4, IPv6, both. In namespaces of its own, in turn (A B C A B C …), so
//! that what else the machine does weighs on all alike. `make bench ONLY=families`; needs root.
//!
//! This is the part of an ADD that differs by family; the call to the daemon is the same one, and ours gives IPv4 so far.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program talks to a person, opens namespaces and reads the clock"
)]

use std::error::Error;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use datapath::apply::pod::Site;
use datapath::plan::pod::{PodAttachment, PodLayout};
use datapath::plan::{LinkName, MacAddr, PodAddresses, ids};
use rustix::thread::{UnshareFlags, unshare_unsafe};

const ROUNDS: u16 = 300;

#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn new_namespace() -> rustix::io::Result<()> {
    // SAFETY: no CLONE_FILES, so no descriptor table is split.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

/// A pod's namespace.
fn sandbox() -> Result<File, Box<dyn Error>> {
    let made = std::thread::spawn(|| {
        new_namespace()?;
        File::open("/proc/thread-self/ns/net")
    });
    Ok(made.join().map_err(|_| "the thread that makes a namespace panicked")??)
}

fn pod(number: u16, addresses: PodAddresses) -> Result<PodAttachment, Box<dyn Error>> {
    let owner = format!("aws-cni/sandbox-{number}/eth0");
    Ok(PodAttachment {
        host_veth: LinkName::host_veth("eni", "default", &format!("pod-{number}"), &owner)?,
        pod_link: LinkName::new("eth0")?,
        addresses,
        mtu: 9001,
        eni_table: None,
        layout: PodLayout::Flat { table: ids::POD_TABLE, group: ids::DEFAULT_GROUP },
        host_mac: MacAddr::derived(&format!("{owner} host")),
        pod_mac: MacAddr::derived(&format!("{owner} pod")),
        owner,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    new_namespace().map_err(|error| format!("making a network namespace (needs root): {error}"))?;
    let mut took: [Vec<Duration>; 3] = Default::default();
    for round in 0..ROUNDS {
        let [high, low] = round.to_be_bytes();
        let (v4, v6) = (Ipv4Addr::new(10, 0, high, low), Ipv6Addr::new(0x2600, 0x1f13, 0, 0, 0, 0, 0, round));
        let (other_v4, other_v6) =
            (Ipv4Addr::new(10, 1, high, low), Ipv6Addr::new(0x2600, 0x1f13, 0, 1, 0, 0, 0, round));
        let kinds = [v4.into(), v6.into(), PodAddresses::Both(other_v4, other_v6)];
        for (kind, (times, addresses)) in (0..).zip(took.iter_mut().zip(kinds)) {
            let (space, pod) = (sandbox()?, pod(round * 3 + kind, addresses)?);
            let path = PathBuf::from(format!("/proc/self/fd/{}", space.as_raw_fd()));
            let started = Instant::now();
            Site::open(&path)?.attach(&pod)?;
            times.push(started.elapsed());
        }
    }
    println!("| family | attach p50, ms | p90, ms | to IPv4 |\n|---|---|---|---|");
    let mut of_v4 = None;
    for (name, mut times) in ["IPv4", "IPv6", "both"].into_iter().zip(took) {
        times.sort();
        let [median, slow] = [50, 90].map(|percent| times[times.len() * percent / 100].as_secs_f64() * 1_000.0);
        let ratio = median / *of_v4.get_or_insert(median);
        println!("| {name} | {median:.2} | {slow:.2} | {ratio:.2} |");
    }
    println!();
    Ok(())
}
