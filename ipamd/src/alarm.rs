// SPDX-License-Identifier: Apache-2.0
//! Long waits that wake their thread once.
//!
//! tokio keeps its timers in wheels, each 64 times as coarse as the one before: a sleep of a minute is handed down from wheel to wheel and
//! wakes the thread at every one, three times in all. What an idle node waits for waits for a timer of the kernel's instead, by
//! CLOCK_BOOTTIME, which decides elsewhere too ([`crate::clock`]).
//!
//! Not for limits of calls: these end long before they ring, and tokio's cost no system call.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ipamd_core::BootTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

/// One timer, for one wait after the other.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// When it rings; `None`: it has rung.
    set: Option<BootTime>,
}

impl Alarm {
    /// A timer that is not set. Within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { timer: polled(timer)?, set: None })
    }

    /// Waits until `at`, or less when it was set for an earlier time by a wait that was given up: whoever turns often sets it seldom.
    pub(crate) async fn by(&mut self, at: BootTime) {
        if at <= clock::boot() {
            return;
        }
        let set = if self.set.is_none_or(|set| at < set) { self.set_for(at) } else { Ok(()) };
        let rung = match set {
            Ok(()) => self.rings().await,
            Err(error) => Err(error),
        };
        if rung.is_err() {
            wait_until(at).await;
        }
    }

    fn set_for(&mut self, at: BootTime) -> io::Result<()> {
        let value = Timespec::try_from(at.0).map_err(|_| io::ErrorKind::InvalidInput)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        self.set = Some(at);
        Ok(())
    }

    async fn rings(&mut self) -> io::Result<()> {
        let read = |timer: &OwnedFd| rustix::io::read(timer, &mut [0; 8]).map_err(io::Error::from);
        // Dropped before it has read, it is still set and still rings.
        self.timer.async_io(Interest::READABLE, read).await?;
        self.set = None;
        Ok(())
    }
}

/// What the runtime polls until it can be read. Within a runtime.
#[expect(unsafe_code, reason = "the runtime polls a descriptor")]
pub(crate) fn polled(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the result owns the descriptor, which stays open until it is taken out of the runtime.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)
}

/// Waits so long. Where there is no timer to be had, by tokio's.
pub(crate) async fn sleep(time: Duration) {
    let at = clock::boot() + time;
    match Alarm::new() {
        Ok(mut alarm) => alarm.by(at).await,
        Err(_) => wait_until(at).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "where the process has no more file descriptors")]
async fn wait_until(at: BootTime) {
    tokio::time::sleep(at.since(clock::boot())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);
    /// Not within any test.
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_rings_when_it_is_time_and_not_before_and_again() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let began = clock::boot();
            alarm.by(began + MOMENT).await;
            assert!(clock::boot().since(began) >= MOMENT);
            assert_eq!(alarm.set, None);
        }
        alarm.by(BootTime::default()).await;
        let began = clock::boot();
        sleep(MOMENT).await;
        assert!(clock::boot().since(began) >= MOMENT);
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_keeps_its_time_for_a_later_one_and_yields_to_an_earlier_one() {
        let mut alarm = Alarm::new().unwrap();
        let began = clock::boot();
        // Polled once, and dropped.
        for at in [began + NEVER, began + NEVER + MOMENT] {
            assert!(tokio::time::timeout(Duration::ZERO, alarm.by(at)).await.is_err());
        }
        assert_eq!(alarm.set, Some(began + NEVER));
        alarm.by(began + MOMENT).await;
        assert!(clock::boot().since(began) >= MOMENT);
        assert_eq!(alarm.set, None, "the earlier one took its place");
    }
}
