// SPDX-License-Identifier: Apache-2.0
//! The kernel: its version, and whether it takes what the daemon will write: the whole set-up of the node is made in a network
//! namespace of its own, which goes with the thread that made it.
//!
//! The loopback link stands for the primary ENI there. Where the right to make a namespace is missing (CAP_SYS_ADMIN: any container
//! that is not privileged) nothing is probed.

#![expect(clippy::disallowed_methods, reason = "sets ip_forward in the namespace that is made")]

use std::net::Ipv4Addr;

use datapath::apply::ledger::Ledger;
use datapath::apply::{ApplyError, conntrack, host};
use ipamd_core::Config;
use ipamd_core::action::HostPlan;
use ipamd_core::config::NatBlocks;
use ipamd_core::ids::MacAddr;
use rtnetlink::LinkVeth;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::Finding;
use crate::cli::wait;
use crate::edge::host::host_setup;
use crate::telemetry::chain;

/// The oldest kernel that tests run on.
const OLDEST: (u32, u32) = (6, 1);

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let probing = config.clone();
    let probed = std::thread::spawn(move || probe(&probing)).join();
    let probed = probed.unwrap_or_else(|_| Err(Unfit::NotProbed("the probe failed".to_owned())));
    vec![version(&release), features(probed), settings(config)]
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    match version {
        Some(version) if version >= OLDEST => Finding::ok("kernel", format!("Linux {release}")),
        _ => {
            let found = format!("Linux {release}: tests run on {}.{} and newer", OLDEST.0, OLDEST.1);
            Finding::warn("kernel", found, "a newer kernel; what is missing in this one is told below")
        }
    }
}

/// Why the set-up was not made.
enum Unfit {
    /// Not tried.
    NotProbed(String),
    /// The kernel refused.
    Refused(String),
}

fn features(probed: Result<(), Unfit>) -> Finding {
    const CHECK: &str = "kernel";
    match probed {
        Ok(()) => {
            Finding::ok(CHECK, "takes veth links, policy rules, nftables and connection marks as they will be written")
        }
        Err(Unfit::NotProbed(why)) => {
            Finding::warn(CHECK, format!("what it takes was not tried: {why}"), "run this as root on the node itself")
        }
        Err(Unfit::Refused(why)) => {
            let todo =
                "load or build what is missing: nf_tables with NAT, nf_conntrack with its netlink, veth, policy rules";
            Finding::fail(CHECK, format!("does not take the node's set-up: {why}"), todo)
        }
    }
}

/// On a thread of its own: it is in another namespace from here on.
fn probe(config: &Config) -> Result<(), Unfit> {
    own_namespace().map_err(|errno| Unfit::NotProbed(format!("no network namespace can be made: {errno}")))?;
    let refused = |error: &ApplyError| match error {
        ApplyError::NotWritable { .. } => Unfit::NotProbed(chain(error)),
        _ => Unfit::Refused(chain(error)),
    };
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        .map_err(|error| Unfit::NotProbed(format!("/proc/sys cannot be written here: {error}")))?;
    veth().map_err(Unfit::Refused)?;
    let loopback = HostPlan {
        primary_mac: MacAddr([0; 6]),
        primary_address: Ipv4Addr::LOCALHOST,
        vpc_cidrs: vec![ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16)],
        blocks: NatBlocks::default(),
        notrack: false,
    };
    let plain = Config { disables_early_demux: false, v6_egress: false, ..config.clone() };
    host::setup_with(&host_setup(&plain, &loopback), &mut Ledger::nowhere()).map_err(|error| refused(&error))?;
    conntrack::fill().map(drop).map_err(|error| refused(&error))
}

#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only")]
fn own_namespace() -> rustix::io::Result<()> {
    // SAFETY: no CLONE_FILES, so no descriptor table is split.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

fn veth() -> Result<(), String> {
    wait(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| format!("rtnetlink: {error}"))?;
        tokio::spawn(connection);
        let pair = LinkVeth::new("enid0", "enid1").build();
        handle.link().add(pair).execute().await.map_err(|error| format!("a veth pair: {error}"))
    })?
}

/// What is below /proc/sys, where the daemon may find it read-only.
fn settings(config: &Config) -> Finding {
    match host::missing_settings(config.disables_early_demux, None) {
        Ok(missing) if missing.is_empty() => Finding::ok("settings", "the node's settings are as they must be"),
        Ok(missing) => {
            let missing: Vec<String> = missing.ops.iter().map(ToString::to_string).collect();
            Finding::warn(
                "settings",
                format!("not so yet: {}", missing.join("; ")),
                "run `ipamd install`, which does it",
            )
        }
        Err(error) => Finding::warn("settings", chain(&error), "look whether /proc is mounted"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn an_old_kernel_is_warned_of() {
        for (release, level) in [
            ("6.18.5", Level::Ok),
            ("6.1.0-56-cloud-amd64", Level::Ok),
            ("5.10.236-228.935.amzn2", Level::Warn),
            ("odd", Level::Warn),
        ] {
            assert_eq!(version(release).level, level, "{release}");
        }
    }
}
