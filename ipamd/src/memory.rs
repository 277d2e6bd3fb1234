// SPDX-License-Identifier: Apache-2.0
//! What the process keeps of memory that it does not need any more.

/// One heap for all threads. glibc gives each thread one of its own, which keeps what was freed in it: here a handful of threads that
/// rarely work at the same time, and a mebibyte of a daemon's twenty. Before any thread is started.
#[expect(unsafe_code, reason = "no crate of ours has mallopt(3)")]
pub(crate) fn share_one_heap() {
    // musl has one anyway.
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's; nothing of ours is given to it.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        tracing::debug!("each thread has a heap of its own");
    }
}
