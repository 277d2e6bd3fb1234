// SPDX-License-Identifier: Apache-2.0
//! The emulator over real sockets on 127.0.0.1, with requests written byte for byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::disallowed_methods, reason = "tests measure time and start the program under test")]

mod control;
mod ec2;
mod fabric_mode;
mod foreign;
mod imds;
mod program;
mod served;
