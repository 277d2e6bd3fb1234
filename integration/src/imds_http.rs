// SPDX-License-Identifier: Apache-2.0
//! IMDSv2 over HTTP.
