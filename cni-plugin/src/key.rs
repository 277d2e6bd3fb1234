// SPDX-License-Identifier: Apache-2.0
//! The allocation key: what an address is bound to (CNI specification, "Lifecycle & Ordering": network name, container
//! id and interface name). Everything that a DEL removes is found by it, never by address.

use std::fmt;

use serde::Serialize;

/// Text form `network/containerID/ifName`: the owner in a host veth's alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Key {
    /// The network's name.
    pub network: String,
    /// The sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Name of the link in the pod.
    #[serde(rename = "ifName")]
    pub ifname: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.ifname)
    }
}
