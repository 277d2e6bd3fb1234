// SPDX-License-Identifier: Apache-2.0
//! What the process itself uses, under the names that Prometheus' own clients have. Read from /proc at the scrape; what cannot be
//! read is left out.

#![expect(clippy::disallowed_methods, reason = "reads /proc/self")]

use std::fs;

use ipamd_core::Now;
use ipamd_core::metrics::Page;
use ipamd_core::metrics::families as family;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Puts it on the page.
pub(crate) fn write(started: Now, page: &mut Page) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = |seconds: i64, nanos: i64| seconds as f64 + nanos as f64 / 1e9;
    page.set(&family::PROCESS_CPU, &[], seconds(used.tv_sec, used.tv_nsec));
    page.set(&family::PROCESS_START, &[], seconds(0, started.unix_nanos));
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the reading's own.
        page.count(&family::PROCESS_FDS, &[], u64::try_from(open.count().saturating_sub(1)).unwrap_or(u64::MAX));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.count(&family::PROCESS_MAX_FDS, &[], most);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, family) in [("VmRSS", &family::PROCESS_MEMORY), ("VmSize", &family::PROCESS_VIRTUAL)] {
        if let Some(bytes) = bytes(&status, name) {
            page.count(family, &[], bytes);
        }
    }
}

/// A size of /proc/self/status, which is told in kB of 1024 bytes (proc(5)).
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_their_whole_name() {
        let status = "Name:\tipamd\nVmSize:\t  100 kB\nVmRSSx:\t 1 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(bytes(status, "VmRSS"), Some(12 * 1024));
        assert_eq!(bytes(status, "VmSize"), Some(100 * 1024));
        assert_eq!(bytes(status, "Vm"), None);
    }

    #[test]
    fn this_process_has_memory_files_and_time() {
        let mut page = Page::default();
        write(crate::clock::now(), &mut page);
        assert_eq!(page.names().filter(|name| name.starts_with("process_")).count(), 6);
    }
}
