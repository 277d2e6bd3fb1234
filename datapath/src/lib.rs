// SPDX-License-Identifier: Apache-2.0
//! The network of a node and of its pods: as data ([`plan`], pure) and as writes to the kernel (`apply`, a feature).
//!
//! `plan` decides which links, addresses, routes, rules, neighbours and nft rules there must be; every value of it prints
//! as the `ip` and `nft` commands that would make it, so it can be reviewed and run by hand. `apply` reads the kernel,
//! writes what differs and reads back. Neither knows pods, ENIs or VPCs as AWS or Kubernetes objects: who gets which
//! address is decided in `ipamd`, when a pod is plumbed in `cni-plugin`.
//!
//! Invariant: nothing is written or removed that does not carry our marks (`plan::ids`), except the settings of an ENI's
//! own link.
//!
//! ```text
//!  pod (own netns)                node                                        VPC
//!  eth0 10.0.1.7/32 ─veth─ eni3f… ─ main: 10.0.1.7 dev eni3f…
//!  default via 169.254.1.1           rule 512  to 10.0.1.7 lookup main
//!                                    rule 1024 fwmark 0x80/0x80 lookup main ── eth0 (primary ENI, SNAT) ── internet
//!                                    rule 1536 from 10.0.1.7 lookup 2 ──────── eth1 (secondary ENI) ────── VPC
//! ```

#[cfg(feature = "apply")]
pub mod apply;
#[cfg(all(feature = "apply", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
pub mod plan;
