// SPDX-License-Identifier: Apache-2.0
//! The image that `scripts/image.sh` builds, without a registry and without Docker: what is in it, what its bill of materials says, and
//! that the daemon in it lives on an emulated node with what the chart gives its container, over TLS. `make test-image` builds it and
//! runs this; `make test` does not, because the image takes a static build of the daemon besides the usual one.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::disallowed_methods, reason = "reads the image and makes folders")]

mod archive;
mod bill;
mod contents;
mod dns;
mod node;
mod tls;
