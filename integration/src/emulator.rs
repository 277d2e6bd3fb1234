// SPDX-License-Identifier: Apache-2.0
//! The emulated VPC as a library.
