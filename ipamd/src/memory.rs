// SPDX-License-Identifier: Apache-2.0
//! What the process keeps of memory that it does not need any more.

/// One heap for all threads. glibc gives each thread one of its own, which keeps what was freed in it: here a handful of threads that
/// rarely work at the same time, and a mebibyte of a daemon's twenty. The price: a thread waits for another that is just taking a large
/// block or one of a size that it does not have at hand. Before any thread is started.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate of ours has mallopt(3)")]
pub(crate) fn share_one_heap() {
    // SAFETY: sets a number of the allocator's; nothing of ours is given to it. Where it is refused each thread has its own.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// musl has one.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn share_one_heap() {}
