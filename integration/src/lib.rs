// SPDX-License-Identifier: Apache-2.0
//! The emulated VPC and what is run in it.
//!
//! The VPC itself (EC2, IMDS, limits, throttles) is the pure machine `vpc-model`; this crate serves it over HTTP, gives it
//! a packet fabric in network namespaces, and drives the real `ipamd` and CNI binaries inside it as a cluster would.

pub mod aws_node;
pub mod bench;
pub mod browser;
pub mod cluster;
pub mod control;
pub mod counters;
pub mod demo;
pub mod ec2_http;
pub mod emulator;
pub mod eventually;
pub mod fabric;
pub mod facts;
pub mod flows;
pub mod forward_proxy;
pub mod go_callers;
pub mod holdings;
pub mod idle;
pub mod imds_http;
mod keys_http;
pub mod kube_http;
pub mod kube_proxy;
pub mod netns;
pub mod node;
pub mod outside;
pub mod pods;
pub mod probe;
pub mod process;
pub mod running_vpc;
pub mod runtimes;
pub mod sandbox;
pub mod standalone;
pub mod strace;
pub mod tools;
pub mod topology;
pub mod world;
