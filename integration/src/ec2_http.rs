// SPDX-License-Identifier: Apache-2.0
//! The EC2 query API over HTTP.
