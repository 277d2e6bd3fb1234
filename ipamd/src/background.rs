// SPDX-License-Identifier: Apache-2.0
//! Threads that listen and tell: what they do is behind the call that it is about.
//!
//! They are of the scheduling class SCHED_BATCH (sched(7)): one that wakes does not take the processor from whatever runs, which is
//! a plugin at work or the loop that answers it, and gets its share all the same. Where processors are idle nothing is different.

use std::io;

/// Starts such a thread.
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        give_way();
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(|_| ())
}

/// Makes the calling thread one. Where that is refused it is as any other.
#[expect(unsafe_code, reason = "no crate of ours has sched_setscheduler(2), and musl's does nothing")]
fn give_way() {
    /// The kernel's `struct sched_param` is this one number.
    static PRIORITY: libc::c_int = 0;
    // SAFETY: the kernel reads the number, which lives for ever; 0 is the calling thread.
    if unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const PRIORITY) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the scheduling class of a thread is not changed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "asks the kernel")]
    fn a_thread_in_the_background_is_a_batch_and_the_others_are_not() {
        // SAFETY: takes no memory; 0 is the calling thread.
        let class = || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let (sender, receiver) = channel();
        start("background", move || sender.send(class()).unwrap()).unwrap();
        let [batch, other] = [libc::SCHED_BATCH, libc::SCHED_OTHER].map(libc::c_long::from);
        assert_eq!((receiver.recv().unwrap(), class()), (batch, other));
    }
}
