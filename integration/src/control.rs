// SPDX-License-Identifier: Apache-2.0
//! The control API: JSON over HTTP, for tests and people.
