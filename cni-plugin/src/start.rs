// SPDX-License-Identifier: Apache-2.0
//! The program begins at C's `main` and not at Rust's. Before that one the standard library reads `/proc/self/maps` to learn where the
//! main thread's stack ends, and makes a second stack, for a line of text when the first overflows: 60 us of a DEL's 1,000. What else it
//! does there is done here, for it is needed: a runtime that has closed its end must not kill an ADD half-way (SIGPIPE), and nothing that
//! is opened later may become standard output.
#![expect(unsafe_code, reason = "C's `main`, its arguments, and what is done before there is anything safe")]

use std::ffi::{CStr, c_char, c_int};

use rustix::fs::{Mode, OFlags, open};

/// C's `main`.
// SAFETY: the name is C's, and nothing else of the program has it; the signature is C's, too.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: before any thread; an ignored signal runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    open_standard_files();
    // SAFETY: C gives `count` texts that end with a zero and live as long as the process.
    let first = (count > 1).then(|| unsafe { CStr::from_ptr(*words.add(1)) });
    c_int::from(super::start(first))
}

/// Those that are closed become `/dev/null`. The lowest descriptor that is free is the next to be given out, so they are in order.
fn open_standard_files() {
    for number in 0..3 {
        // SAFETY: only asked whether it is open, by its number; no memory of ours is meant.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            // Not closed again. Without `/dev` there is nothing that could be done about it.
            let _ = open("/dev/null", OFlags::RDWR, Mode::empty()).map(std::mem::forget);
        }
    }
}
