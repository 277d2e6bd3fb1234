// SPDX-License-Identifier: Apache-2.0
//! Against the kernel, in namespaces of the tests' own.

mod answers;
mod cards;
mod detach;
mod egress;
mod eni;
mod ethtool;
mod families;
mod host;
mod hostport;
mod layouts;
mod ledger;
mod leftovers;
mod links;
mod losses;
mod mss;
mod notrack;
mod packets;
mod pods;
mod recycled;
mod repair;
mod speed;
mod stacks;
mod transactions;
mod undo;
mod uninstall;
