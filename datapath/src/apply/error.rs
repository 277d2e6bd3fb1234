// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a plan and the kernel. Every error names the object, keeps the kernel's own words (extended
//! ACK), and can be told apart where a decision hangs on it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::plan::settings::MemoryError;
use crate::plan::{AliasError, LinkName, MacAddr, Sysctl};

/// An answer other than success: errno, and the kernel's own words where it gave some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// errno, positive.
    pub errno: i32,
    /// Text of the extended ACK (NLMSGERR_ATTR_MSG).
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno);
        match &self.message {
            Some(message) => write!(f, "{message} ({error})"),
            None => fmt::Display::fmt(&error, f),
        }
    }
}

impl std::error::Error for Refusal {}

/// A write or a read of the kernel's network that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel has no link with this MAC (yet): an ENI that is attached for EC2 may take seconds to appear.
    #[error("no link has the MAC {mac}")]
    LinkMissing {
        /// The ENI's MAC.
        mac: MacAddr,
    },
    /// A name we need is taken by a link that is not ours to delete.
    #[error("link {name} exists and is no host veth of ours ({kind}); remove or rename it")]
    LinkNameTaken {
        /// The name.
        name: LinkName,
        /// Kind of that link and its alias.
        kind: String,
    },
    /// The address is routed to another link: it belongs to that link's pod.
    #[error("{address} is already routed to {link}{}", owner.as_ref().map(|owner| format!(" (pod {owner})")).unwrap_or_default())]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// Where it is routed.
        link: String,
        /// Whose that link is, when its alias says so.
        owner: Option<String>,
    },
    /// The owner key cannot be written as an alias.
    #[error("alias of host veth {link}")]
    Alias {
        /// The host veth.
        link: LinkName,
        /// Why.
        #[source]
        source: AliasError,
    },
    /// The input cannot be applied whatever the kernel says.
    #[error("{reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// The pod's namespace cannot be used.
    #[error("network namespace {path}", path = path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a message.
    #[error("{doing}")]
    Refused {
        /// The operation, in `ip` or `nft` syntax.
        doing: String,
        /// Its answer.
        #[source]
        source: Refusal,
    },
    /// The netlink socket failed.
    #[error("netlink: {doing}")]
    Socket {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel answered something we cannot read.
    #[error("netlink: {doing}: {problem}")]
    Answer {
        /// What was being done.
        doing: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A dump was interrupted by changes again and again.
    #[error("netlink: {doing}: interrupted by changes {attempts} times")]
    Interrupted {
        /// What was being read.
        doing: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A file below /proc/sys.
    #[error("{doing} {path}", path = path.display())]
    Sysctl {
        /// `reading` or `writing 1 to`.
        doing: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting that cannot be written from here, as in a container that has /proc/sys read-only.
    #[error(
        "{} is {found}, must be {}, and cannot be written from here: run `{wanted}` on the node",
        wanted.path.replace('/', "."),
        wanted.value
    )]
    NotWritable {
        /// The setting and what it must be.
        wanted: Sysctl,
        /// What it is.
        found: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller's time was over before all was done; what was done stays done.
    #[error("{doing}: not done in time")]
    OutOfTime {
        /// What was being done.
        doing: String,
    },
    /// A file of the state folder.
    #[error("{doing} {path}", path = path.display())]
    Record {
        /// `writing`, `locking`, ….
        doing: &'static str,
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of the settings that an uninstall puts back.
    #[error(
        "{path} is damaged, so no setting of the node is put back; see to ip_forward, tcp_early_demux and the primary link's \
         rp_filter by hand, then remove the file",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: MemoryError,
    },
    /// Everything was written, and reading back shows that something is still not as it must be.
    #[error("{object} is not as written, still missing: {}", missing.join("; "))]
    NotProven {
        /// `ENI 02:…`, `host`.
        object: String,
        /// The operations that are still missing, in `ip` or `nft` syntax.
        missing: Vec<String>,
    },
}

impl ApplyError {
    /// Whether this is "the ENI's link is not there (yet)".
    #[must_use]
    pub fn is_link_missing(&self) -> bool {
        matches!(self, Self::LinkMissing { .. })
    }

    /// errno of the kernel's refusal, if this is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => Some(source.errno),
            _ => None,
        }
    }
}
