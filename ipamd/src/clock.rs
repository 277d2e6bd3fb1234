// SPDX-License-Identifier: Apache-2.0
//! The clock edge: the only place of the daemon that reads the time.
//!
//! CLOCK_BOOTTIME decides: it is monotonic, counts suspension, and means the same across restarts within one boot.

use std::time::Duration;

use ipamd_core::{BootTime, Now};
use rustix::time::{ClockId, Timespec, clock_gettime};

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// Time since boot.
pub(crate) fn boot() -> BootTime {
    BootTime(duration(clock_gettime(ClockId::Boottime)))
}

/// Both clocks.
pub(crate) fn now() -> Now {
    let unix = duration(clock_gettime(ClockId::Realtime));
    Now { boot: boot(), unix_nanos: i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX) }
}

/// Whole milliseconds, for logs and figures.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
