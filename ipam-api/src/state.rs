// SPDX-License-Identifier: Apache-2.0
//! Names in the state folder that plugin and daemon share without a call; by default the folder is `/var/run/aws-node`.
//! Does no IO: each side reads and writes its own way, always a new file renamed into place.
//!
//! | name | written by | content | meaning |
//! |---|---|---|---|
//! | `tombstones/<sha1 of the key>.json` | plugin | `{"network","containerID","ifName","at"}` | a DEL that the daemon has not seen; `at` in Unix nanoseconds. Read and removed by the daemon |
//! | `hostports/<sha1 of the key>` | plugin | its ports of the node, as text (`datapath::plan::hostport::Mapping`) | what must be open while the sandbox lives: opened again by the daemon, and removed when the sandbox is gone without a DEL |
//! | `ready` | daemon | the boot id | an ADD has been possible in this boot: the first address is proven. Never removed, another boot's is worth nothing |
//! | `status.json` | plugin | see its `status` | since when STATUS cannot reach the daemon |
//!
//! The key is `network/containerID/ifName`, hashed as that text.

/// Folder of the DELs that the daemon has not seen.
pub const TOMBSTONES: &str = "tombstones";

/// Folder of the sandboxes' ports of the node.
pub const HOST_PORTS: &str = "hostports";

/// Mark of the first proven address of this boot.
pub const READY: &str = "ready";

/// What STATUS remembers from call to call.
pub const STATUS: &str = "status.json";

/// Where the kernel tells the boot id: a text line, different at each boot (random(4)).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
